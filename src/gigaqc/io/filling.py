"""Chunks that cannot be read, and reading around them.

Within `Filling.of` a block is read without them, with one value or with another in their place:
pixels that come out differently depend on what could not be read, whatever was computed on the way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import numpy as np


@dataclass(frozen=True, order=True)
class BadChunk:
    """A chunk that could not be read: of which store, where in its grid, and why."""

    store: str
    dims: tuple[str, ...]
    index: tuple[int, ...]
    error: str = field(compare=False)

    def __str__(self) -> str:
        shown = ", ".join(f"{d}={i}" for d, i in zip(self.dims, self.index, strict=True))
        return f"({shown})"


class FillSide(Enum):
    """What stands in the place of a bad chunk."""

    LOW = auto()
    HIGH = auto()

    def filler(self, dtype: np.dtype) -> Any:
        """That value: 0, or what the type has furthest from it; of floats NaN."""
        if self is FillSide.LOW:
            return dtype.type(0)
        if dtype.kind == "f":
            return dtype.type(np.nan)
        return dtype.type(True) if dtype.kind == "b" else np.iinfo(dtype).max


class Filling:
    """Chunks found bad so far; they stay so while both sides are read."""

    def __init__(self) -> None:
        self.chunks: dict[BadChunk, BadChunk] = {}
        self.side = FillSide.LOW

    def add(self, chunk: BadChunk) -> None:
        """Take note of a chunk."""
        self.chunks.setdefault(chunk, chunk)

    @contextlib.contextmanager
    def of(self, side: FillSide) -> Iterator[None]:
        """Within this context this thread reads around bad chunks, with one side's value."""
        self.side = side
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)


_CURRENT: ContextVar[Filling | None] = ContextVar("gigaqc_filling", default=None)


def current_filling() -> Filling | None:
    """The filling in whose context this thread reads; None where a bad chunk is an error."""
    return _CURRENT.get()
