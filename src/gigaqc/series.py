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
from dask.highlevelgraph import HighLevelGraph
from dask.typing import Key

from gigaqc.backend import to_host
from gigaqc.grid import Run, group_chunks
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


def states_in_time(image: xr.DataArray, empty: Callable, *arguments: Any, name: str) -> TimeStates:
    """What the frames of each place add up to (lazy).

    ``empty(pixels, start, *arguments)`` makes a state for so many pixels, whose ``add(frames)``
    takes the frames from `start` on, (frames, pixels) arrays in the order of time, and whose
    ``merge(other)`` gives the state of both where the other's frames follow.
    """
    name = f"{name}-{tokenize(image.data.name, empty, arguments)}"
    table, source = owned(image.data, name, ())
    places, times = plan_places(image)
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
    keys = np.empty([max(i) + 1 for i in zip(*places, strict=True)], dtype=object)
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
    return TimeStates(_without_time(image, places), name, nodes, keys)


def plan_places(
    image: xr.DataArray,
) -> tuple[dict[tuple[int, ...], tuple[Run, ...]], list[Run]]:
    """Runs of chunks in the dims beside t of each place, and runs in time that tasks read."""
    chunks = dict(image.chunksizes)
    times = chunks.pop("t")
    room = max(GROUP_VALUES // sum(times), 1)  # pixels of a place
    sides = {d: max(c) for d, c in chunks.items()}
    runs: dict[Any, list[Run]] = {}
    for d in reversed(chunks):
        others = math.prod(n for other, n in sides.items() if other != d)
        runs[d] = group_chunks(chunks[d], max(room // others, 1))
        sides[d] = max(run.size for run in runs[d])
    frames = max(GROUP_VALUES // math.prod(sides.values()), FRAMES)
    numbers = itertools.product(*(range(len(runs[d])) for d in chunks))
    places = {i: tuple(runs[d][n] for d, n in zip(chunks, i, strict=True)) for i in numbers}
    return places, group_chunks(times, frames, min(FRAMES, sum(times)))


def _ranges(place: Sequence[Run]) -> list[range]:
    return [range(run.first, run.last) for run in place]


def _in_time(table: np.ndarray, time: Run, where: tuple[int, ...]) -> Iterator[Key]:
    """Keys of the chunks of one chunk of the other dims."""
    for t in range(time.first, time.last):
        yield table[t, *where]


def _without_time(
    image: xr.DataArray, places: Mapping[tuple[int, ...], Sequence[Run]]
) -> xr.DataArray:
    """Dims, coordinates and attributes of a map of the series, its chunks the places."""
    frame = image.isel(t=0, drop=True)
    frame = frame.drop_vars([n for n, c in image.coords.items() if "t" in c.dims], errors="ignore")
    sizes: list[dict[int, int]] = [{} for _ in frame.dims]
    for index, place in places.items():
        for size, number, run in zip(sizes, index, place, strict=True):
            size[number] = run.size
    chunks = tuple(tuple(size.values()) for size in sizes)
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
class _States:
    """The states of a place, one a chunk, and the shapes of these."""

    states: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]  # of the place, in chunks


def _read(reading: _Reading, *given: Any) -> _States:
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
    return _States(tuple(states), tuple(shapes), reading.shape)


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


def _merged(first: _States, second: _States) -> _States:
    pairs = zip(first.states, second.states, strict=True)
    return _States(tuple(a.merge(b) for a, b in pairs), first.shapes, first.shape)


def _mapped(function: Callable, place: _States, *arguments: Any) -> np.ndarray:
    """The pixels of a place."""
    blocks = np.empty(len(place.states), dtype=object)
    for i, (state, shape) in enumerate(zip(place.states, place.shapes, strict=True)):
        blocks[i] = function(state, *arguments).reshape(shape)
    return blocks[0] if len(blocks) == 1 else np.block(blocks.reshape(place.shape).tolist())
