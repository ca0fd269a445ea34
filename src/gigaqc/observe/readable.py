"""Blocks of which some pixels could not be read: they are excluded, as outside of a mask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np

from gigaqc import states
from gigaqc.distribution import bias_of
from gigaqc.observe.blocks import Channels, Edges, Partial, Place, Request, Strips
from gigaqc.observe.first import observe
from gigaqc.observe.seams import join_partials
from gigaqc.observe.second import Again, Second, observe_again
from gigaqc.unreadable import unread


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
