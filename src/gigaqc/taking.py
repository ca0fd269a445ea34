"""What a task reads by itself: the chunks that only it needs, made when they are asked for.

A task that reads a group of chunks takes them channel by channel, so that each is looked at while
it is in the cache, and drops them after their last use.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from dask._task_spec import Alias, GraphNode, Task
from dask.typing import Key

from gigaqc.backend import beside, local
from gigaqc.cutting import Cuts
from gigaqc.grid import Run
from gigaqc.machine import reuse_memory
from gigaqc.observe import Place
from gigaqc.packing import Packed
from gigaqc.reading import begin
from gigaqc.unreadable import Checked, Watch

PLACES = ("t", "z", "y", "x")
"""Axes of the blocks of a channel."""


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive chunks that one task reads, all channels of them."""

    index: tuple[int, int, int, int]
    runs: tuple[Run, Run, Run, Run]
    place: Place


class Pieces(NamedTuple):
    """The chunks of a group: nested keys, by channel, then in the order of the other `dims`."""

    nested: Any
    dims: tuple[str, ...]


def pieces_of(image: xr.DataArray, table: np.ndarray, groups: Iterable[Group]) -> list[Pieces]:
    """Those of each group from `table`, the keys of the chunks of `image`."""
    dims = tuple(map(str, image.dims))
    order = sorted(dims, key=lambda d: d != "c")  # channels first
    table = table.transpose([dims.index(d) for d in order])
    found = []
    for group in groups:
        runs = dict(zip(PLACES, group.runs, strict=True))
        where = tuple(
            slice(runs[d].first, runs[d].last) if d in runs and n > 1 else slice(None)
            for d, n in zip(order, table.shape, strict=True)
        )
        found.append(Pieces(table[where].tolist(), dims))
    return found


def keys_of(*pieces: Pieces | None) -> Iterator[Key]:
    """The keys of all chunks, in order."""
    for part in pieces:
        if part is not None:
            yield from _flat(part.nested)


def _flat(nested: Any) -> Iterator[Key]:
    if not isinstance(nested, list):
        yield nested
        return
    for part in nested:
        yield from _flat(part)


def count_users(needed: Iterable[Iterable[Key]], source: Mapping[Key, GraphNode]) -> dict[Key, int]:
    """By how many tasks each source task is needed."""
    users: dict[Key, int] = {}
    for names in itertools.chain(needed, (n.dependencies for n in source.values())):
        for name in names:
            users[name] = users.get(name, 0) + 1
    return users


def own_reads(
    wanted: Iterable[Key], source: Mapping[Key, GraphNode], users: Mapping[Key, int]
) -> tuple[dict[Key, GraphNode], tuple[Key, ...]]:
    """Source tasks that only one group needs, which reads them itself; and keys of the others.

    Not dask's own fusing: that would decode all channels before the first is looked at, when it is
    no longer in the cache; and it merges slices of slices in place as if each chunk had one reader,
    which gives wrong pixels where several slice one chunk (after a rechunk).
    """
    inside: dict[Key, GraphNode] = {}
    waiting, seen = list(wanted), dict[Key, int]()
    while waiting:
        name = waiting.pop()
        seen[name] = seen.get(name, 0) + 1
        node = source.get(name)
        if isinstance(node, (Alias, Task)) and seen[name] == users[name]:
            inside[name] = node
            waiting.extend(node.dependencies)
    return inside, tuple(name for name in seen if name not in inside)


def add_needed(nodes: dict[Key, GraphNode], source: Mapping[Key, GraphNode]) -> None:
    """Add the source tasks that `nodes` name, and what those need."""
    needed = [d for node in nodes.values() for d in node.dependencies]
    while needed:
        name = needed.pop()
        if name in source and name not in nodes:
            nodes[name] = source[name]
            needed.extend(source[name].dependencies)


@dataclass(frozen=True, slots=True)
class GroupReading:
    """What a task reads and observes; a class, so that dask does not look inside.

    `packed` holds the keys of the pixels' chunks, those of the mask's, and the source tasks.
    """

    observe: Callable
    place: Place
    outside: tuple[Key, ...]
    guard: bool
    on_device: bool
    packed: Packed

    def unpacked(self) -> tuple[Pieces, Pieces | None, dict[Key, GraphNode]]:
        """Chunks of the pixels and of the mask, and the source tasks that are the task's own."""
        pixels, mask, inside = self.packed.unpacked()
        if isinstance(inside, Cuts):
            inside = {key: inside[key] for key in keys_of(pixels, mask)}
        return pixels, mask, inside

    @property
    def inside(self) -> Mapping[Key, GraphNode]:
        """The source tasks that are the task's own."""
        return self.unpacked()[2]


class GroupSource:
    """Chunks that a task reads itself: made when asked for, dropped after their last use.

    `inside` are its own source tasks, `values` what other tasks read, and `wanted` all keys that
    will be asked for.
    """

    def __init__(
        self, inside: Mapping[Key, GraphNode], values: Mapping[Key, Any], wanted: Iterable[Key]
    ) -> None:
        self._nodes, self._values = inside, dict(values)
        self._uses = count_users([wanted], inside)
        begin(inside.values())

    def take(self, key: Key) -> Any:
        """The value of one use of `key`."""
        if key not in self._values:
            node = self._nodes[key]
            self._values[key] = node({k: self.take(k) for k in node.dependencies})
        self._uses[key] -= 1
        return self._values[key] if self._uses[key] else self._values.pop(key)


class _GroupSource(GroupSource):
    """Chunks of a group."""

    def __init__(self, reading: GroupReading, given: Iterable[Any]) -> None:
        self.pixels, self.mask, inside = reading.unpacked()
        values = dict(zip(reading.outside, given, strict=True))
        super().__init__(inside, values, keys_of(self.pixels, self.mask))
        self.watch = Watch()
        self._array = local if reading.on_device else self.watch.array

    def channels(self, pieces: Pieces) -> Iterator[np.ndarray]:
        """Each channel of a block, (t, z, y, x); axes it lacks have length 1.

        Channels come one by one, so that each is looked at while it is in the cache, and are not
        copied into one array, which would cost as much as some of the statistics.
        """
        dims = pieces.dims
        axes = [i for i, d in enumerate(dims) if d != "c"]
        missing = tuple(1 + i for i, d in enumerate(PLACES) if d not in dims)
        for part in pieces.nested if "c" in dims else [pieces.nested]:
            block = self._joined(part, axes)
            block = np.moveaxis(block, dims.index("c"), 0) if "c" in dims else block[None]
            yield from np.expand_dims(block, missing)

    def _joined(self, nested: Any, axes: Sequence[int]) -> Any:
        if not isinstance(nested, list):
            return self._array(self.take(nested))
        parts = [self._joined(part, axes[1:]) for part in nested]
        if len(parts) == 1:
            return parts[0]
        some_masked = any(isinstance(part, np.ma.MaskedArray) for part in parts)
        return (np.ma if some_masked else np).concatenate(parts, axis=axes[0])


def observe_group(reading: GroupReading, n: int, *values: Any) -> Any:
    """What a task does: put its chunks together and observe them.

    Of `values` the first `n` are arguments, the others what was read elsewhere.
    """
    reuse_memory()
    arguments, source = values[:n], _GroupSource(reading, values[n:])
    channels: Iterable[np.ndarray] = source.watch.counted(source.channels(source.pixels))
    masks = None
    if source.mask is not None:
        masks = list(source.channels(source.mask))
        channels = list(channels)
        masks = masks * len(channels) if len(masks) == 1 else masks
        masks = [
            beside(np.broadcast_to(m, c.shape), c) for m, c in zip(masks, channels, strict=True)
        ]
    found = reading.observe(channels, masks, reading.place, *arguments)
    return Checked(found, source.watch.found()) if reading.guard else found
