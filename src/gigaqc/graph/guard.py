"""Tasks that know of chunks that cannot be read, and what a reduction found without them.

With ``on_error="mask"`` each task of the graph that gives the image is `guarded`. One that fails
for a chunk is computed twice, with two values in the chunk's place (`stores.chunks`), and gives
both results; so do all that need it. Pixels in which the two differ depend on what could not be
read, however the image was sliced, rechunked or computed. A reduction takes them as a masked array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from dask._task_spec import GraphNode, Task, TaskRef
from dask.typing import Key

from gigaqc.base.backend import to_host
from gigaqc.errors import ReadError
from gigaqc.statistics.unreadable import Unreadable
from gigaqc.stores.chunks import BadChunk, Filling, FillSide


@dataclass(frozen=True)
class Checked:
    """What a pass found, and what it could not read."""

    value: Any
    unreadable: Unreadable

    def merge(self, other: Checked) -> Checked:
        """Of both parts."""
        return Checked(self.value.merge(other.value), self.unreadable.merge(other.unreadable))


@dataclass(frozen=True)
class CheckedSeam:
    """A function that joins two rectangles, of what was checked."""

    seam: Callable

    def __call__(self, first: Checked, second: Checked, axis: int, *arguments: Any) -> Checked:
        """Of both rectangles."""
        value = self.seam(first.value, second.value, axis, *arguments)
        return Checked(value, first.unreadable.merge(second.unreadable))


@dataclass(frozen=True)
class CheckedFinish:
    """A function of the last result, of what was checked."""

    finish: Callable

    def __call__(self, checked: Checked) -> Checked:
        """Of all."""
        return replace(checked, value=self.finish(checked.value))


def value_of(checked: Checked) -> Any:
    """What was found."""
    return checked.value


def unreadable_of(checked: Checked) -> Unreadable:
    """What could not be read."""
    return checked.unreadable


def agreed(checked: Checked, unreadable: Unreadable) -> Any:
    """What was found, if no more was unreadable than in an earlier read of the same image."""
    new = [c for c in checked.unreadable.chunks if c not in set(unreadable.chunks)]
    if new:
        raise ReadError(
            f"{new[0].store}: chunk {new[0]} was read once and could not be read again "
            f"({new[0].error}); the store changes or fails now and then: run again."
        )
    return checked.value


@dataclass(frozen=True)
class _Doubtful:
    """A value that depends on chunks that cannot be read: what it is with either side's value."""

    low: Any
    high: Any
    chunks: tuple[BadChunk, ...]

    def of(self, side: FillSide) -> Any:
        return self.low if side is FillSide.LOW else self.high


def guarded(node: GraphNode) -> GraphNode:
    """The same task, which gives something `_Doubtful` where a chunk cannot be read."""
    if not isinstance(node, Task):
        return node
    names = tuple(node.dependencies)
    return Task(node.key, Guarded(node, names), *map(TaskRef, names))


@dataclass(frozen=True)
class Guarded:
    """What a guarded task does; a class, so that dask does not look inside."""

    node: GraphNode
    names: tuple[Key, ...]

    def __call__(self, *values: Any) -> Any:
        """The task's value, or both of what it may be."""
        if not any(isinstance(v, _Doubtful) for v in values):
            try:
                return self._made(values)
            except ReadError:
                pass  # to see which chunks, and what depends on them
        filling = Filling()
        for value in values:
            if isinstance(value, _Doubtful):
                for chunk in value.chunks:
                    filling.add(chunk)
        known = -1
        while known < len(filling.chunks):  # a chunk may fail when the second side is read
            low = self._side(values, filling, FillSide.LOW)
            known = len(filling.chunks)
            high = self._side(values, filling, FillSide.HIGH)
        return _Doubtful(low, high, tuple(filling.chunks)) if filling.chunks else low

    def _side(self, values: Iterable[Any], filling: Filling, side: FillSide) -> Any:
        with filling.of(side):
            return self._made([v.of(side) if isinstance(v, _Doubtful) else v for v in values])

    def _made(self, values: Iterable[Any]) -> Any:
        return self.node(dict(zip(self.names, values, strict=True)))


class Watch:
    """Turns what guarded tasks give into arrays, and notes what could not be read."""

    def __init__(self) -> None:
        self._chunks: dict[BadChunk, BadChunk] = {}
        self._pixels: list[int] = []

    def array(self, value: Any) -> np.ndarray:
        """The pixels; a masked array where some could not be read."""
        if not isinstance(value, _Doubtful):
            return to_host(value)
        low, high = to_host(value.low), to_host(value.high)
        unread = low != high
        if low.dtype.kind == "f":
            unread &= ~(np.isnan(low) & np.isnan(high))
        if not unread.any():
            return low
        for chunk in value.chunks:
            self._chunks.setdefault(chunk, chunk)
        return np.ma.MaskedArray(low, unread)

    def counted(self, channels: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The same channels, their unreadable pixels counted."""
        for channel in channels:
            masked = isinstance(channel, np.ma.MaskedArray)
            self._pixels.append(int(np.ma.count_masked(channel)) if masked else 0)
            yield channel

    def found(self) -> Unreadable:
        """What could not be read."""
        return Unreadable(np.array(self._pixels, "i8"), tuple(sorted(self._chunks)))
