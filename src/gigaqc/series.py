"""Graphs along time: what the frames of each place add up to, in one read.

A place is one or more neighbouring chunks of the other dims. A task reads consecutive chunks in
time of a place one after the other, adds them to states of its own, and drops them; the states of
the tasks of a place merge in a chain. So any chunking in time reads every chunk once, and a few
states of a place are alive at a time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import GraphNode, Task, TaskRef
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.typing import Key

from gigaqc.backend import to_host
from gigaqc.grid import Run, group_chunks, group_places
from gigaqc.passes import GROUP_VALUES, Source, add_needed, count_users, own_reads, owned

FRAMES = 32  # that a task reads at least: its states are as large as about 20 frames of uint16
BATCH_VALUES = 1 << 25  # of short chunks put together, so that states are gone through less often


@dataclass(frozen=True)
class TimeStates:
    """The lazy states of all places of a series, from which maps are made.

    `map` as often as one likes: maps that are computed together share the read.
    """

    image: xr.DataArray  # the series without its axis t, chunks as those of the maps
    name: str
    nodes: Mapping[Key, GraphNode]
    keys: np.ndarray  # of the states of each place

    def map(
        self, function: Callable, *arguments: Any, name: str, dtype: str = "f8"
    ) -> xr.DataArray:
        """The lazy map whose pixels are ``function(state, *arguments)``, an array (pixels,)."""
        name = f"{name}-{tokenize(self.name, function, arguments)}"
        nodes: dict[Key, GraphNode] = {
            (name, *index): Task((name, *index), _mapped, function, TaskRef(key), *arguments)
            for index, key in np.ndenumerate(self.keys)
        }
        graph = HighLevelGraph(
            {self.name: self.nodes, name: nodes}, {self.name: set(), name: {self.name}}
        )
        meta = np.empty((0,) * self.image.ndim, dtype)
        data = da.Array(graph, name, self.image.chunks, dtype=dtype, meta=meta)
        return self.image.copy(data=data)

    def gather(self, function: Callable, plane: tuple[int, ...], *arguments: Any) -> Delayed:
        """``function(states, *arguments)`` of the `PlaneStates` of one plane, in one task (lazy).

        `plane` numbers it in the dims before y and x.
        """
        root = f"gathered-{tokenize(self.name, function, plane, arguments)}"
        blocks, inside = [], []
        for number, sizes in zip(plane, self.image.chunks or (), strict=False):
            starts = np.cumsum([0, *sizes])
            block = int(np.searchsorted(starts, number, side="right")) - 1
            blocks.append(block)
            inside.append(int(number - starts[block]))
        keys = self.keys[tuple(blocks)]
        refs = [TaskRef(key) for key in keys.flat]
        task = Task(root, _gathered, function, arguments, tuple(inside), keys.shape, *refs)
        graph = HighLevelGraph(
            {self.name: self.nodes, root: {root: task}}, {self.name: set(), root: {self.name}}
        )
        return Delayed(root, graph, layer=root)


def states_in_time(image: xr.DataArray, empty: Callable, *arguments: Any, name: str) -> TimeStates:
    """What the frames of each place add up to (lazy).

    ``empty(pixels, start, *arguments)`` makes a state for so many pixels, whose ``add(frames)``
    takes the frames from `start` on, (frames, pixels) arrays in the order of time, and whose
    ``merge(other)`` gives the state of both where the other's frames follow.
    """
    name = f"{name}-{tokenize(image.data.name, empty, arguments)}"
    table, source = owned(image.data, name, ())
    runs, times = plan_places(image)
    places = {
        index: [each[n] for each, n in zip(runs.values(), index, strict=True)]
        for index in np.ndindex(*map(len, runs.values()))
    }
    parts = {
        (k, *index): [
            list(_in_time(table, time, where)) for where in itertools.product(*_ranges(place))
        ]
        for index, place in places.items()
        for k, time in enumerate(times)
    }
    needed = {index: [key for keys in part for key in keys] for index, part in parts.items()}
    users = count_users(needed.values(), source)
    nodes: dict[Key, GraphNode] = {}
    keys: Any = np.empty(tuple(map(len, runs.values())), dtype=object)
    for index, place in places.items():
        shape = tuple(len(r) for r in _ranges(place))
        for k, time in enumerate(times):
            part, wanted = parts[k, *index], needed[k, *index]
            inside, outside = own_reads(wanted, source, users)
            lengths = image.chunksizes["t"][time.first : time.last]
            reading = _Reading(empty, arguments, time.start, lengths, shape, part, inside, outside)
            key: Key = (f"{name}-frames", k, *index)
            nodes[key] = Task(key, _read, reading, *map(TaskRef, outside))
            if k:
                both: Key = (f"{name}-both", k, *index)
                nodes[both] = Task(both, _merged, TaskRef(keys[index]), TaskRef(key))
                key = both
            keys[index] = key
    add_needed(nodes, source)
    chunks = tuple(tuple(run.size for run in each) for each in runs.values())
    return TimeStates(without_time(image, chunks), name, nodes, keys)


def plan_places(image: xr.DataArray) -> tuple[dict[str, list[Run]], list[Run]]:
    """Runs of chunks in the dims beside t that places take, and runs in time that tasks read."""
    chunks = {str(d): c for d, c in image.chunksizes.items()}
    times = chunks.pop("t")
    runs = group_places(chunks, GROUP_VALUES // sum(times))
    pixels = math.prod(max(run.size for run in each) for each in runs.values())
    frames = max(GROUP_VALUES // pixels, FRAMES)
    return runs, group_chunks(times, frames, min(FRAMES, sum(times)))


def _ranges(place: Sequence[Run]) -> list[range]:
    return [range(run.first, run.last) for run in place]


def _in_time(table: np.ndarray, time: Run, where: tuple[int, ...]) -> Iterator[Key]:
    """Keys of the chunks of one chunk of the other dims."""
    for t in range(time.first, time.last):
        yield table[t, *where]


def without_time(image: xr.DataArray, chunks: tuple[tuple[int, ...], ...]) -> xr.DataArray:
    """Dims, coordinates and attributes of a map of the series, in these chunks; no pixels."""
    frame = image.isel(t=0, drop=True)
    frame = frame.drop_vars([n for n, c in image.coords.items() if "t" in c.dims], errors="ignore")
    return frame.copy(data=da.empty(frame.shape, chunks=chunks, dtype="f8"))


@dataclass(frozen=True)
class _Reading:
    """What a task reads and adds up; a class, so that dask does not look inside."""

    empty: Callable
    arguments: tuple[Any, ...]
    start: int
    lengths: tuple[int, ...]  # of the chunks in time
    shape: tuple[int, ...]  # of the place, in chunks
    parts: list[list[Key]]  # chunks in time, of each chunk of the place
    inside: Mapping[Key, GraphNode]
    outside: tuple[Key, ...]


@dataclass(frozen=True)
class PlaceStates:
    """The states of a place, one a chunk, and the shapes of these."""

    states: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]  # of the place, in chunks

    def pixels(self, function: Callable, *arguments: Any) -> np.ndarray:
        """The map of the place whose pixels are ``function(state, *arguments)``."""
        blocks = np.empty(len(self.states), dtype=object)
        for i, (state, shape) in enumerate(zip(self.states, self.shapes, strict=True)):
            blocks[i] = function(state, *arguments).reshape(shape)
        return blocks[0] if len(blocks) == 1 else np.block(blocks.reshape(self.shape).tolist())


@dataclass(frozen=True)
class PlaneStates:
    """The states of all places of one plane."""

    places: Sequence[PlaceStates]
    inside: tuple[int, ...]  # index of the plane in each place
    shape: tuple[int, ...]  # in places

    def pixels(self, function: Callable, *arguments: Any) -> np.ndarray:
        """The map of the plane, y x: the same in any places."""
        blocks = np.empty(len(self.places), dtype=object)
        for i, place in enumerate(self.places):
            blocks[i] = place.pixels(function, *arguments)[self.inside]
        return np.block(blocks.reshape(self.shape).tolist())


def _read(reading: _Reading, *given: Any) -> PlaceStates:
    """What a task does: read, add up, drop, chunk after chunk."""
    wanted = itertools.chain.from_iterable(reading.parts)
    values = dict(zip(reading.outside, given, strict=True))
    source = Source(reading.inside, values, wanted)
    states, shapes = [], []
    for keys in reading.parts:
        state, shape = None, ()
        for frames in _batches(source, keys, reading.lengths):
            shape = frames.shape[1:]
            if state is None:
                state = reading.empty(math.prod(shape), reading.start, *reading.arguments)
            state.add(frames.reshape(len(frames), -1))
        states.append(state)
        shapes.append(shape)
    return PlaceStates(tuple(states), tuple(shapes), reading.shape)


def _batches(source: Source, keys: Sequence[Key], lengths: Sequence[int]) -> Iterator[np.ndarray]:
    """Consecutive frames; those of short chunks put together, each read when it is its turn.

    In one buffer, which the next batch overwrites: fetching new memory takes longer than copying.
    """
    buffer, filled, left, together = np.empty(0), 0, sum(lengths), 0
    for key, length in zip(keys, lengths, strict=True):
        chunk = to_host(source.take(key))
        if not together:
            frame = math.prod(chunk.shape[1:])
            together = min(FRAMES, max(BATCH_VALUES // frame, 1), left)
        left -= length
        if not filled and (length >= together or not left):
            yield chunk
            continue
        if not buffer.size:
            buffer = np.empty((together + max(lengths), *chunk.shape[1:]), chunk.dtype)
        buffer[filled : filled + length] = chunk
        filled += length
        if filled >= together or not left:
            yield buffer[:filled]
            filled = 0


def _merged(first: PlaceStates, second: PlaceStates) -> PlaceStates:
    pairs = zip(first.states, second.states, strict=True)
    return PlaceStates(tuple(a.merge(b) for a, b in pairs), first.shapes, first.shape)


def _mapped(function: Callable, place: PlaceStates, *arguments: Any) -> np.ndarray:
    return place.pixels(function, *arguments)


def _gathered(
    function: Callable,
    arguments: tuple[Any, ...],
    inside: tuple[int, ...],
    shape: tuple[int, ...],
    *places: PlaceStates,
) -> Any:
    return function(PlaneStates(places, inside, shape), *arguments)
