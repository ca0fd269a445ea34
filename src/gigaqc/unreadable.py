"""What is known of an image of which some chunks cannot be read (`on_error="mask"`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from gigaqc.errors import ParameterError
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
