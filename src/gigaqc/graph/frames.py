"""What the frames of a series are read to: states of places, and the maps that are made of them.

A place is one or more neighbouring chunks of the dims beside t.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import GraphNode
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.typing import Key

from gigaqc.base.backend import to_host
from gigaqc.base.geometry import Run
from gigaqc.base.naming import named
from gigaqc.graph.source import OwnReads, Source
from gigaqc.graph.tasks import Promise, Tasks, persisted


@dataclass(frozen=True)
class TimeStates:
    """The lazy states of all places of a series, from which maps are made.

    `map` as often as one likes: maps that are computed together share the read.
    """

    image: xr.DataArray  # the series without its axis t, chunks as those of the maps
    name: str
    graph: HighLevelGraph  # with a layer of this name
    refs: np.ndarray  # to the states of each place

    @classmethod
    def of(
        cls, image: xr.DataArray, name: str, tasks: Tasks, refs: np.ndarray,
        chunks: tuple[tuple[int, ...], ...],
    ) -> TimeStates:  # fmt: skip
        """States of a series that tasks read; `chunks` are those of the maps."""
        held: Any = persisted(image)
        graph = HighLevelGraph.from_collections(name, tasks, held)
        return cls(_without_time(image, chunks), name, graph, refs)

    def map(
        self, function: Callable, *arguments: Any, name: str, dtype: str = "f8"
    ) -> xr.DataArray:
        """The lazy map whose pixels are ``function(state, *arguments)``, an array (pixels,)."""
        name = named(name, self.name, function, arguments, dtype)
        tasks = Tasks()
        for index, ref in np.ndenumerate(self.refs):
            tasks.add((name, *index), _mapped, function, ref, *arguments)
        graph = self._leading_to(name, tasks)
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
        refs = self.refs[tuple(blocks)]
        about = (function, arguments, tuple(inside), refs.shape)
        task = Promise(root, _gathered, *about, *refs.flat)
        return Delayed(root, self._leading_to(root, {root: task}), layer=root)

    def _leading_to(self, name: str, nodes: Mapping[Key, GraphNode]) -> HighLevelGraph:
        return HighLevelGraph(
            {**self.graph.layers, name: nodes}, {**self.graph.dependencies, name: {self.name}}
        )


@dataclass(frozen=True)
class FramesReading:
    """Chunks in time that a task reads, of one or more places."""

    reads: OwnReads
    shape: tuple[int, ...]  # of the places, in chunks

    @property
    def given(self) -> tuple[Any, ...]:
        """As arguments of a task that ends with them: what it reads, and what others read for it.

        What is read stands by itself, so that stores are told of it before the task runs.
        """
        return (self.shape, self.reads, *self.reads.refs)


class FramesReads:
    """Makes the readings of one graph; a piece is chunks in time, then in the other dims."""

    def __init__(self, image: xr.DataArray, name: str, pieces: Sequence[tuple[range, ...]]) -> None:
        self._source = Source.of(image.data, name)
        wanted = [self._keys(piece) for piece in pieces]
        self._readings = {
            piece: FramesReading(reads, tuple(map(len, piece[1:])))
            for piece, reads in zip(pieces, self._source.reads(wanted), strict=True)
        }

    def _keys(self, piece: tuple[range, ...]) -> list[list[Key]]:
        times, *others = piece
        table = self._source.table
        return [[table[t, *at] for t in times] for at in itertools.product(*others)]

    def __getitem__(self, piece: tuple[range, ...]) -> FramesReading:
        return self._readings[piece]

    def complete(self, tasks: Tasks) -> None:
        """Add what is read by tasks of its own, because several need it."""
        tasks.add_needed(self._source.tasks)
        self._source.prefetch_in(tasks)


def chunk_range(run: Run) -> range:
    """The chunks of a run."""
    return range(run.first, run.last)


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


def _without_time(image: xr.DataArray, chunks: tuple[tuple[int, ...], ...]) -> xr.DataArray:
    """Dims, coordinates and attributes of a map of the series, in these chunks; no pixels."""
    frame = image.isel(t=0, drop=True)
    frame = frame.drop_vars([n for n, c in image.coords.items() if "t" in c.dims], errors="ignore")
    return frame.copy(data=da.empty(frame.shape, chunks=chunks, dtype="f8"))


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
