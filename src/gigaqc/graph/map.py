"""`Map`: what each block of an image and its halo give, as an image or for another graph."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property, partial
from typing import Any

import numpy as np
import xarray as xr
from dask._task_spec import TaskRef
from dask.delayed import Delayed
from dask.typing import Key

from gigaqc.base.geometry import Halo, strip_width
from gigaqc.base.machine import check_room, in_words
from gigaqc.base.naming import named
from gigaqc.graph.halo import Block, Reach, channels_of, edges_of, mapped, reaches, right_edge
from gigaqc.graph.schedule import hold_back
from gigaqc.graph.source import Source, count_users, own_tasks
from gigaqc.graph.tasks import Tasks, nothing, persisted, promises_in


class ChannelTasks(Enum):
    """Which channels a block holds, and what becomes of them."""

    APART = auto()
    """Those of one chunk."""
    TOGETHER = auto()
    """All; the result is divided into the chunks of the image again."""
    MERGED = auto()
    """All, of which the function makes one plane: the result has no axis c."""


@dataclass(frozen=True)
class Map:
    """What `function` makes of each chunk of an image and `halo` pixels around it.

    ``function(block, halo, channels, *arguments)`` gets an array (c, ..., y, x) with up to `halo`
    pixels more at each side; the second argument says how many (fewer only where the image ends),
    and the third is the slice of channels that it holds. It returns the core, (c, ..., y, x).
    Unless channels are apart, `block` is a list of channels, which are not copied into one array.

    `arguments` are values or promises; with the latter no chunk is read before they are kept, so
    that none is held while an earlier pass reads the image. What is costly to hash is named by
    `known_by` in the place of `arguments`.

    With `on_device` blocks of an image on a device are given to `function` there, and what it
    returns stays there; else they are copied to the host.

    A chunk is read by a task of its own, which the neighbours share: a halo reads nothing twice.
    But an image that is wider than 4 chunks is divided into strips of that width, so that the
    chunks that wait for a neighbour go with the width of a strip and not of the image. A strip
    shares only the edges of the one to its left: there a halo adds at most a quarter of a read.
    """

    kind: str
    image: xr.DataArray
    function: Callable
    arguments: tuple[Any, ...] = ()
    halo: int = 0
    channels: ChannelTasks = ChannelTasks.APART
    dtype: np.dtype | None = None
    on_device: bool = False
    known_by: Any = None

    @cached_property
    def name(self) -> str:
        """What its tasks are called: another one for a map that differs in any field."""
        if self.known_by is None:
            return named(self.kind, self)
        about = (self.halo, self.channels, self.dtype, self.on_device)
        return named(self.kind, self.image, self.function, self.known_by, *about)

    @property
    def after(self) -> tuple[Delayed, ...]:
        """The promises that it waits for."""
        return promises_in(self.arguments)

    def build(self) -> xr.DataArray:
        """The lazy image of the cores.

        Chunks, coordinates and attributes are the image's, its type `dtype`, by default what
        `result_dtype` says. With `ChannelTasks.MERGED` cores are (..., y, x).
        """
        image, name = self.image, self.name
        dtype = np.dtype(result_dtype(image.dtype) if self.dtype is None else self.dtype)
        tasks, layout, refs = self._begun(name)
        ends = (name, self.after, dtype, self.on_device)
        if self.channels is ChannelTasks.APART:
            for index in np.ndindex(*layout.shape):
                block, near = layout.block(index)
                tasks.add((name, *index), mapped, self.function, block, *near, *refs)
            return tasks.image(image, *ends)
        whole = f"{name}-whole" if self.channels is ChannelTasks.TOGETHER else name
        parts = [slice(a, b) for a, b in itertools.pairwise(layout.starts)]
        for index in layout.planes():
            block, near = layout.block_of_all(index)
            ref = tasks.add((whole, *index), mapped, self.function, block, *near, *refs)
            if self.channels is ChannelTasks.TOGETHER:
                for k, part in enumerate(parts):
                    key: Key = (name, *index[: layout.c], k, *index[layout.c :])
                    tasks.add(key, channels_of, ref, layout.c, part)
        if self.channels is ChannelTasks.MERGED:
            image = image.isel(c=0, drop=True)
        return tasks.image(image, *ends)

    def merged(self) -> Delayed:
        """What the blocks, of all channels, give, merged in a fixed order (lazy).

        `function` returns something with ``merge``.
        """
        name = f"{self.name}-of-all"
        tasks, layout, refs = self._begun(name)
        sums: list[TaskRef] = []
        for index in itertools.chain(*layout.strips()):
            block, near = layout.block_of_all(index)
            part = tasks.add((name, *index), mapped, self.function, block, *near, *refs)
            # A chain is walked in its order, and a tree is not.
            sums.append(tasks.add((f"{name}-sum", *index), _merged, part, *sums[-1:]))
        hold_back(tasks, [ref.key for ref in sums])
        after = (*self.after, *persisted(self.image))
        return tasks.promise(f"{name}-merged", sums[-1], after)

    def blocks(self) -> Blocks:
        """What the blocks, of all channels, give, for a graph to go on with.

        `function` gets the index of the chunk (without c) in the place of the channels. Chunks are
        read in strips, and not before all but a few of the blocks before them are done.
        """
        name = f"{self.name}-block"
        tasks, layout, refs = self._begun(name, all_once=True)
        found = np.empty([n for i, n in enumerate(layout.shape) if i != layout.c], dtype=object)
        chain: list[TaskRef] = []
        for index in itertools.chain(*layout.strips()):
            block, near = layout.block_of_all(index)
            function = partial(_indexed, self.function, index)
            found[index] = tasks.add((name, *index), mapped, function, block, *near, *refs)
            step: Key = (f"{name}-step", *index)
            chain.append(tasks.add(step, nothing, found[index], *chain[-1:]))
        hold_back(tasks, [ref.key for ref in chain])
        return Blocks(self.name, found, tasks, self.after)

    def _begun(self, name: str, *, all_once: bool = False) -> tuple[Tasks, _BlockLayout, list[Any]]:
        """Tasks that read, which chunks a block needs, and the arguments as tasks take them."""
        source = Source.of(self.image.data, name, self.after)
        source.prefetch_around()
        tasks = Tasks(source.tasks)
        refs = tasks.refer(self.arguments, name, all_once=all_once)
        layout = _BlockLayout.of(self.image, self.halo, source.table, tasks, self.on_device)
        return tasks, layout, refs


@dataclass(frozen=True)
class Blocks:
    """What the blocks of an image gave: a reference for each chunk (without c), and the tasks."""

    name: str
    refs: np.ndarray
    tasks: Tasks
    after: tuple[Delayed, ...]


def _indexed(
    function: Callable, index: tuple[int, ...], block: Any, halo: Halo, _: slice, *arguments: Any
) -> Any:
    return function(block, halo, index, *arguments)


def _merged(part: Any, before: Any = None) -> Any:
    return part if before is None else before.merge(part)


def result_dtype(dtype: np.dtype) -> np.dtype:
    """Type of a transformed image: float64 from float64, else float32."""
    return np.dtype("f8" if dtype.kind == "f" and dtype.itemsize == 8 else "f4")


@dataclass(frozen=True)
class _BlockLayout:
    """Which chunks a block of the result needs."""

    c: int
    y: int
    x: int
    rows: list[Reach]
    columns: list[Reach]
    starts: list[int]  # of the channels of each chunk, and where they end
    tables: list[np.ndarray]  # keys of the chunks, for the blocks of each column
    on_device: bool

    @classmethod
    def of(
        cls,
        image: xr.DataArray,
        depth: int,
        table: np.ndarray,
        tasks: Tasks,
        on_device: bool = False,
    ) -> _BlockLayout:
        """That of an image whose blocks reach `depth` pixels into their neighbours.

        `table` holds the keys of the chunks, and `tasks` make them; reads of strips are added.
        """
        c, y, x = (image.dims.index(d) for d in "cyx")
        sides = {d: max(sizes) for d, sizes in image.chunksizes.items()}
        # A block as it is and as a float32 at least.
        held = math.prod(sides.values()) * (image.dtype.itemsize + 4)
        check_room(in_words("a chunk and what is made of it", sides), held, table.size)
        rows, columns = (reaches(image.chunksizes[d], depth) for d in "yx")
        starts = np.cumsum([0, *image.chunksizes["c"]]).tolist()
        width = strip_width(max(image.chunksizes["x"]))
        tables = _in_strips(table, x, columns, width, depth, tasks)
        if any(len(reach.chunks) > 1 for reach in (*rows, *columns)):
            for keys in {id(own): own for own in tables}.values():
                for key in keys.ravel():
                    edges = _edges_key(key)
                    if edges not in tasks:
                        tasks.add(edges, edges_of, TaskRef(key), depth)
        return cls(c, y, x, rows, columns, starts, tables, on_device)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image, in chunks."""
        return self.tables[0].shape

    def planes(self) -> list[tuple[int, ...]]:
        """Indices of the chunks, all channels of a place as one."""
        return list(np.ndindex(*(n for i, n in enumerate(self.shape) if i != self.c)))

    def strips(self) -> list[list[tuple[int, ...]]]:
        """The same, those of each strip."""
        found: dict[int, list[tuple[int, ...]]] = {}
        for index in self.planes():
            found.setdefault(id(self.tables[index[self.x - (self.c < self.x)]]), []).append(index)
        return list(found.values())

    def block(self, index: tuple[int, ...]) -> tuple[Block, list[TaskRef]]:
        """Of one chunk of the result."""
        channels = slice(self.starts[index[self.c]], self.starts[index[self.c] + 1])
        where: list[Any] = list(index)
        where[self.c] = slice(index[self.c], index[self.c] + 1)
        return self._near(where, channels, apart=True)

    def block_of_all(self, index: tuple[int, ...]) -> tuple[Block, list[TaskRef]]:
        """Of all channels of one chunk of the result; `index` has no channel."""
        where: list[Any] = [*index[: self.c], slice(None), *index[self.c :]]
        return self._near(where, slice(0, self.starts[-1]), apart=False)

    def _near(
        self, where: list[Any], channels: slice, *, apart: bool
    ) -> tuple[Block, list[TaskRef]]:
        table = self.tables[where[self.x]]
        row, column = self.rows[where[self.y]], self.columns[where[self.x]]
        own = (where[self.y] - row.chunks.start, where[self.x] - column.chunks.start)
        where[self.y] = slice(row.chunks.start, row.chunks.stop)
        where[self.x] = slice(column.chunks.start, column.chunks.stop)
        planes = table[tuple(where)].copy()  # dims c, y, x: of others one is chosen
        for index in np.ndindex(planes.shape):
            if index[1:] != own:
                planes[index] = _edges_key(planes[index])
        # Flat: each list of a graph is a node with a set of its own, kilobytes a chunk.
        near = [TaskRef(key) for key in planes.flat]
        return Block(self.c, len(planes), row, column, channels, apart, self.on_device), near


def _edges_key(key: Key) -> Key:
    return _beside(key, "edges")


def _in_strips(
    table: np.ndarray,
    x: int,
    columns: Sequence[Reach],
    width: int,
    depth: int,
    tasks: Tasks,
) -> list[np.ndarray]:
    """The keys of the chunks for the blocks of each column; strips have reads of their own.

    Of the strip to its left a strip needs the right edges, which are kept. Of the one to its right
    it reads chunks again, but only what a single chunk needs: where chunks share a source, as after
    a rechunk, so do strips.
    """
    if len(columns) <= width or all(len(c.chunks) == 1 for c in columns):
        return [table] * len(columns)
    users = count_users([table.ravel().tolist()], tasks)
    source = dict(tasks)
    tables: list[np.ndarray] = []
    for first in range(0, len(columns), width):
        strip = columns[first : first + width]
        last = first + len(strip)
        own = table.copy()
        at = np.moveaxis(own, x, 0)
        for k in range(strip[0].chunks.start, first):
            chunks = np.moveaxis(tables[k], x, 0)[k]
            for index, key in np.ndenumerate(chunks):
                at[k][index] = _beside(key, "kept")
                kept, edges = _edges_key(at[k][index]), _edges_key(key)
                right = tasks.add(kept, right_edge, TaskRef(key), depth)
                # At once: until it is made the whole chunk is held.
                tasks.add(edges, edges_of, TaskRef(key), depth, right)
        for k in range(last, strip[-1].chunks.stop):
            again, _ = own_tasks(at[k].ravel().tolist(), source, users)
            fresh: dict[Key, Any] = {key: _beside(key, f"strip-{first}") for key in again}
            for key, node in again.items():
                tasks[fresh[key]] = node.substitute(fresh, key=fresh[key])
            for index, key in np.ndenumerate(at[k]):
                at[k][index] = fresh.get(key, key)
        tables += [own] * len(strip)
    return tables


def _beside(key: Key, name: str) -> Key:
    """A key like another; keys of an array share one string."""
    if isinstance(key, tuple):
        return (sys.intern(f"{name}-{key[0]}"), *key[1:])
    return f"{name}-{key}"
