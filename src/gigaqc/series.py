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
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.typing import Key

from gigaqc import config
from gigaqc.backend import empty_beside, local, to_host
from gigaqc.grid import Run, group_chunks, group_places
from gigaqc.machine import check_room, in_words
from gigaqc.naming import named
from gigaqc.passes import owned, persisted
from gigaqc.taking import GroupSource, add_needed, count_users, own_reads

FRAMES = 32  # that a task reads at least: its states are as large as about 20 frames of uint16
BATCH_VALUES = 1 << 25  # of short chunks put together, so that states are gone through less often


@dataclass(frozen=True)
class TimeStates:
    """The lazy states of all places of a series, from which maps are made.

    `map` as often as one likes: maps that are computed together share the read.
    """

    image: xr.DataArray  # the series without its axis t, chunks as those of the maps
    name: str
    graph: HighLevelGraph  # with a layer of this name
    keys: np.ndarray  # of the states of each place

    @classmethod
    def of(
        cls, image: xr.DataArray, name: str, nodes: dict[Key, GraphNode], keys: np.ndarray,
        chunks: tuple[tuple[int, ...], ...],
    ) -> TimeStates:  # fmt: skip
        """States of a series that tasks read; `chunks` are those of the maps."""
        held: Any = persisted(image)
        graph = HighLevelGraph.from_collections(name, nodes, held)
        return cls(without_time(image, chunks), name, graph, keys)

    def map(
        self, function: Callable, *arguments: Any, name: str, dtype: str = "f8"
    ) -> xr.DataArray:
        """The lazy map whose pixels are ``function(state, *arguments)``, an array (pixels,)."""
        name = named(name, self.name, function, arguments, dtype)
        nodes: dict[Key, GraphNode] = {
            (name, *index): Task((name, *index), _mapped, function, TaskRef(key), *arguments)
            for index, key in np.ndenumerate(self.keys)
        }
        graph = self._leading_to(name, nodes)
        meta = np.empty((0,) * self.image.ndim, dtype)
        data = da.Array(graph, name, self.image.chunks, dtype=dtype, meta=meta)
        return self.image.copy(data=data)

    def gather(self, function: Callable, plane: tuple[int, ...], *arguments: Any) -> Delayed:
        """``function(states, *arguments)`` of the `PlaneStates` of one plane, in one task (lazy).

        `plane` numbers it in the dims before y and x.
        """
        root = named("gathered", self.name, function, plane, arguments)
        blocks, inside = [], []
        for number, sizes in zip(plane, self.image.chunks or (), strict=False):
            starts = np.cumsum([0, *sizes])
            block = int(np.searchsorted(starts, number, side="right")) - 1
            blocks.append(block)
            inside.append(int(number - starts[block]))
        keys = self.keys[tuple(blocks)]
        refs = [TaskRef(key) for key in keys.flat]
        task = Task(root, _gathered, function, arguments, tuple(inside), keys.shape, *refs)
        return Delayed(root, self._leading_to(root, {root: task}), layer=root)

    def _leading_to(self, name: str, nodes: Mapping[Key, GraphNode]) -> HighLevelGraph:
        return HighLevelGraph(
            {**self.graph.layers, name: nodes}, {**self.graph.dependencies, name: {self.name}}
        )


def states_in_time(image: xr.DataArray, empty: Callable, *arguments: Any, name: str) -> TimeStates:
    """What the frames of each place add up to (lazy).

    ``empty(pixels, start, *arguments)`` makes a state for so many pixels, whose ``add(frames)``
    takes the frames from `start` on, (frames, pixels) arrays in the order of time, and whose
    ``merge(other)`` gives the state of both where the other's frames follow. Frames on a device are
    given there; maps are in the memory of the host.
    """
    runs, times = plan_places(image)
    # Frames are added run by run: another plan rounds otherwise.
    name = named(name, image, empty, arguments, runs, times)
    reads = FramesReads(image, name)
    pieces = {
        (k, *index): (
            chunk_range(time),
            *(chunk_range(each[n]) for each, n in zip(runs.values(), index, strict=True)),
        )
        for index in np.ndindex(*map(len, runs.values()))
        for k, time in enumerate(times)
    }
    reads.count(list(pieces.values()))
    nodes: dict[Key, GraphNode] = {}
    keys: Any = np.empty(tuple(map(len, runs.values())), dtype=object)
    for (k, *at), piece in pieces.items():
        index = tuple(at)
        reading = reads.reading(piece)
        lengths = image.chunksizes["t"][times[k].first : times[k].last]
        adding = _Adding(empty, arguments, times[k].start, lengths)
        key: Key = (f"{name}-frames", k, *index)
        nodes[key] = Task(key, _read, adding, reading, *map(TaskRef, reading.outside))
        if k:
            both: Key = (f"{name}-both", k, *index)
            nodes[both] = Task(both, _merged, TaskRef(keys[index]), TaskRef(key))
            key = both
        keys[index] = key
    reads.add_needed(nodes)
    chunks = tuple(tuple(run.size for run in each) for each in runs.values())
    return TimeStates.of(image, name, nodes, keys, chunks)


def plan_places(image: xr.DataArray) -> tuple[dict[str, list[Run]], list[Run]]:
    """Runs of chunks in the dims beside t that places take, and runs in time that tasks read."""
    chunks = {str(d): c for d, c in image.chunksizes.items()}
    times = chunks.pop("t")
    values = config.group_values()
    runs = group_places(chunks, values // sum(times))
    pixels = math.prod(max(run.size for run in each) for each in runs.values())
    frames = max(values // pixels, FRAMES)
    sides = {"t": max(times), **{d: max(r.size for r in each) for d, each in runs.items()}}
    held = math.prod(sides.values()) * image.dtype.itemsize
    check_room(in_words("whole chunks", sides), held, math.prod(map(len, runs.values())))
    return runs, group_chunks(times, frames, min(FRAMES, sum(times)))


def chunk_range(run: Run) -> range:
    """The chunks of a run."""
    return range(run.first, run.last)


def without_time(image: xr.DataArray, chunks: tuple[tuple[int, ...], ...]) -> xr.DataArray:
    """Dims, coordinates and attributes of a map of the series, in these chunks; no pixels."""
    frame = image.isel(t=0, drop=True)
    frame = frame.drop_vars([n for n, c in image.coords.items() if "t" in c.dims], errors="ignore")
    return frame.copy(data=da.empty(frame.shape, chunks=chunks, dtype="f8"))


@dataclass(frozen=True)
class FramesReading:
    """Chunks in time that a task reads, of one or more places.

    A class, so that dask does not look inside.
    """

    places: list[list[Key]]
    shape: tuple[int, ...]  # of the places, in chunks
    inside: Mapping[Key, GraphNode]
    outside: tuple[Key, ...]

    def source(self, given: Sequence[Any]) -> GroupSource:
        """From which the chunks are taken; `given` are those that other tasks read."""
        values = dict(zip(self.outside, given, strict=True))
        return GroupSource(self.inside, values, itertools.chain.from_iterable(self.places))


class FramesReads:
    """Makes the readings of one graph; a piece is chunks in time, then in the other dims."""

    def __init__(self, image: xr.DataArray, name: str) -> None:
        self._table, self._source = owned(image.data, name, ())
        self._users: dict[Key, int] = {}

    def count(self, pieces: Sequence[tuple[range, ...]]) -> None:
        """All that will be read: what only one of them needs is read within its task."""
        wanted = [self._keys(piece) for piece in pieces]
        self._users = count_users(([k for p in w for k in p] for w in wanted), self._source)

    def _keys(self, piece: tuple[range, ...]) -> list[list[Key]]:
        times, *others = piece
        return [[self._table[t, *at] for t in times] for at in itertools.product(*others)]

    def reading(self, piece: tuple[range, ...]) -> FramesReading:
        """Of one of them: chunks in time and in the other dims."""
        places = self._keys(piece)
        wanted = [key for keys in places for key in keys]
        inside, outside = own_reads(wanted, self._source, self._users)
        return FramesReading(places, tuple(map(len, piece[1:])), inside, outside)

    def add_needed(self, nodes: dict[Key, GraphNode]) -> None:
        """Add what is read by tasks of its own, because several need it."""
        add_needed(nodes, self._source)
        self._source.expected_in(nodes)


@dataclass(frozen=True)
class _Adding:
    """Which states a task makes, and of which frames; a class as above."""

    empty: Callable
    arguments: tuple[Any, ...]
    start: int
    lengths: tuple[int, ...]  # of the chunks in time


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
            blocks[i] = to_host(function(state, *arguments)).reshape(shape)
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


def _read(adding: _Adding, reading: FramesReading, *given: Any) -> PlaceStates:
    """What a task does: read, add up, drop, chunk after chunk."""
    source = reading.source(given)
    states, shapes = [], []
    for keys in reading.places:
        state, shape = None, ()
        for frames in _batches(source, keys, adding.lengths):
            shape = frames.shape[1:]
            if state is None:
                state = adding.empty(math.prod(shape), adding.start, *adding.arguments)
            state.add(frames.reshape(len(frames), -1))
        states.append(state)
        shapes.append(shape)
    return PlaceStates(tuple(states), tuple(shapes), reading.shape)


def _batches(
    source: GroupSource, keys: Sequence[Key], lengths: Sequence[int]
) -> Iterator[np.ndarray]:
    """Consecutive frames; those of short chunks put together, each read when it is its turn.

    In one buffer, which the next batch overwrites: fetching new memory takes longer than copying.
    """
    buffer: Any = None
    filled, left, together = 0, sum(lengths), 0
    for key, length in zip(keys, lengths, strict=True):
        chunk = local(source.take(key))
        if not together:
            frame = math.prod(chunk.shape[1:])
            together = min(FRAMES, max(BATCH_VALUES // frame, 1), left)
        left -= length
        if not filled and (length >= together or not left):
            yield chunk
            continue
        if buffer is None:
            buffer = empty_beside(chunk, (together + max(lengths), *chunk.shape[1:]))
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
