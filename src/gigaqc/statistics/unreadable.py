"""What is known of an image of which some chunks cannot be read (`on_error="mask"`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from gigaqc.errors import ParameterError
from gigaqc.statistics import states
from gigaqc.statistics.blocks import Channels, Edges, Partial, Place, Request, Strips
from gigaqc.statistics.distribution import bias_of
from gigaqc.statistics.reads import Again, Second, join_partials, observe, observe_again
from gigaqc.stores.chunks import BadChunk

OnError = Literal["raise", "mask"]
"""What becomes of a chunk that cannot be read."""


def check_on_error(on_error: str) -> None:
    """Refuse what is neither."""
    if on_error not in ("raise", "mask"):
        raise ParameterError(f"on_error: got {on_error!r}; pass one of raise, mask.")


@dataclass(frozen=True)
class Unreadable:
    """Pixels (C,) of each channel that could not be read, and the chunks they lie in."""

    pixels: np.ndarray
    chunks: tuple[BadChunk, ...] = ()

    def merge(self, other: Unreadable) -> Unreadable:
        """Of both parts."""
        if not other.chunks:
            return replace(self, pixels=self.pixels + other.pixels)
        chunks = tuple(sorted({*self.chunks, *other.chunks}))
        return Unreadable(self.pixels + other.pixels, chunks)


def unread(channel: np.ndarray) -> np.ndarray | None:
    """Which pixels of a block could not be read; None where all could."""
    return np.ma.getmaskarray(channel) if isinstance(channel, np.ma.MaskedArray) else None


def with_nan(channel: np.ndarray) -> np.ndarray:
    """A block with NaN where it could not be read, as float64 unless it is of floats."""
    missing = unread(channel)
    if missing is None:
        return channel
    pixels = np.ma.getdata(channel)
    filled = pixels.astype(pixels.dtype if pixels.dtype.kind == "f" else "f8")
    filled[missing] = np.nan
    return filled


def listed(unreadable: Unreadable) -> list[dict[str, Any]]:
    """The chunks as plain values: store, place in its grid, and what went wrong."""
    return [
        {"store": c.store, "chunk": dict(zip(c.dims, c.index, strict=True)), "error": c.error}
        for c in unreadable.chunks
    ]


def summary(unreadable: Unreadable, most: int = 3) -> str:
    """How many chunks and which first, in words."""
    chunks = unreadable.chunks
    first = ", ".join(f"{c} of {c.store}" for c in chunks[:most])
    more = f" and {len(chunks) - most:,} more" if len(chunks) > most else ""
    noun = "chunk" if len(chunks) == 1 else "chunks"
    return f"{len(chunks):,} {noun} could not be read: {first}{more}"


@dataclass(frozen=True)
class WithNan:
    """A function of blocks that takes what could not be read for NaN."""

    observe: Callable

    def __call__(
        self, channels: Iterable[np.ndarray], masks: Any, place: Any, *arguments: Any
    ) -> Any:
        """Of one block."""
        return self.observe(map(with_nan, channels), masks, place, *arguments)


class _SomeUnreadThere(Exception):
    """Not all pixels of a channel could be read."""


def observe_readable(
    channels: Iterable[np.ndarray], masks: Channels | None, place: Place, request: Request
) -> Partial:
    """As `observe`; channels are masked arrays where pixels could not be read."""
    whole, blocks, readable = _tried(observe, channels, masks, place, request)
    if whole is not None:
        return whole
    within = readable if masks is None else [m & r for m, r in zip(masks, readable, strict=True)]
    partial = observe(blocks, within, place, request)
    # What could not be read is not what lies outside of the caller's mask.
    outside = None if masks is None else _outside(blocks, masks, readable, partial.state.shift)
    return replace(partial, state=replace(partial.state, outside=outside))


def observe_readable_again(
    channels: Iterable[np.ndarray],
    masks: Channels | None,
    place: Place,
    request: Request,
    second: Second,
) -> Again:
    """As `observe_again`, of such channels."""
    whole, blocks, readable = _tried(observe_again, channels, masks, place, request, second)
    if whole is not None:
        return whole
    within = readable if masks is None else [m & r for m, r in zip(masks, readable, strict=True)]
    return observe_again(blocks, within, place, request, second)


def join_readable(first: Partial, second: Partial, axis: int, request: Request) -> Partial:
    """As `join_partials`; edges are codes, or values where not all could be read."""
    kinds = {_kind(first.edges), _kind(second.edges)}
    if len(kinds) > 1:
        first, second = (replace(p, edges=_as_values(p.edges, request)) for p in (first, second))
    return join_partials(first, second, axis, request)


def _tried(
    function: Callable, channels: Iterable[np.ndarray], *arguments: Any
) -> tuple[Any, list[np.ndarray], list[np.ndarray]]:
    """What a function makes of channels that are whole; else all blocks, and what was read of each.

    Channels are handed on one by one, so that each is looked at while it is in the cache.
    """
    seen: list[np.ndarray] = []
    waiting = iter(channels)

    def whole() -> Iterator[np.ndarray]:
        for channel in waiting:
            seen.append(channel)
            if unread(channel) is not None:
                raise _SomeUnreadThere
            yield channel

    try:
        return function(whole(), *arguments), [], []
    except _SomeUnreadThere:
        blocks = [*seen, *waiting]
    missing = [unread(b) for b in blocks]
    readable = [
        np.ones(b.shape, bool) if m is None else ~m for b, m in zip(blocks, missing, strict=True)
    ]
    return None, [np.ma.getdata(b) for b in blocks], readable


def _outside(
    blocks: list[np.ndarray], masks: Channels, readable: list[np.ndarray], shift: np.ndarray
) -> states.Outside:
    """Sums over the pixels outside of a mask that could be read."""
    table = []
    for block, mask, read, about in zip(blocks, masks, readable, shift, strict=True):
        values = block[~mask & read].astype("f8")
        values = values[np.isfinite(values)] - about
        table.append((float(values.size), float(values.sum()), float((values * values).sum())))
    return states.Outside(np.array(table).T)


def _kind(edges: Edges) -> str:
    return "" if edges.values is None else edges.values.top.dtype.kind


def _as_values(edges: Edges, request: Request) -> Edges:
    """Edges of codes as values."""
    if edges.values is None or edges.values.top.dtype.kind == "f":
        return edges
    bias = bias_of(request.dtype)
    strips = (getattr(edges.values, f.name).astype("f8") + bias for f in fields(edges.values))
    return replace(edges, values=Strips(*strips))
