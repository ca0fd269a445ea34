"""Graphs of blocks with a halo: from image to image, or to what their results merge to."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import Alias, GraphNode, Task, TaskRef
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.typing import Key

from gigaqc.backend import empty_beside
from gigaqc.grid import Halo, strip_width
from gigaqc.halos import Block, Reach, channels_of, edges_of, mapped, reaches, right_edge
from gigaqc.machine import check_room, in_words
from gigaqc.naming import named
from gigaqc.passes import owned, persisted, promise
from gigaqc.settling import hold_back, nothing, refs_to
from gigaqc.taking import count_users, own_reads


class ChannelTasks(Enum):
    """Which channels a block holds, and what becomes of them."""

    APART = auto()
    """Those of one chunk."""
    TOGETHER = auto()
    """All; the result is divided into the chunks of the image again."""
    MERGED = auto()
    """All, of which the function makes one plane: the result has no axis c."""


def map_image(
    image: xr.DataArray,
    function: Callable,
    *arguments: Any,
    name: str,
    depth: int = 0,
    channels: ChannelTasks = ChannelTasks.APART,
    dtype: np.dtype | None = None,
    on_device: bool = False,
) -> xr.DataArray:
    """The lazy image whose blocks `function` gives.

    ``function(block, halo, channels, *arguments)`` gets an array (c, ..., y, x) with up to `depth`
    pixels more at each side, `halo` says how many (fewer only where the image ends), and `channels`
    the slice of channels that it holds. It returns the core, (c, ..., y, x). Unless channels are
    apart, `block` is a list of channels, which are not copied into one array; with
    `ChannelTasks.MERGED` the core is (..., y, x).

    Chunks, coordinates and attributes are the image's, `dtype` by default what `result_dtype` says.
    `arguments` are values or what other graphs give; with the latter no chunk is read before they
    are done, so that none is held while an earlier pass reads the image.

    With `on_device` blocks of an image on a device are given to `function` there, and what it
    returns stays there; else they are copied to the host.

    A chunk is read by a task of its own, which the neighbours share: a halo reads nothing twice.
    But an image that is wider than 4 chunks is divided into strips of that width, so that the
    chunks that wait for a neighbour go with the width of a strip and not of the image. A strip
    shares only the edges of the one to its left: there a halo adds at most a quarter of a read.
    """
    dtype = result_dtype(image.dtype) if dtype is None else np.dtype(dtype)
    after = tuple(a for a in arguments if isinstance(a, Delayed))
    name = named(name, image, function, arguments, depth, channels, dtype, on_device)
    table, source = owned(image.data, name, after)
    source.expected_around(table)
    nodes: dict[Key, GraphNode] = dict(source)
    refs = refs_to(arguments, name, nodes)
    layout = _BlockLayout.of(image, depth, table, nodes, on_device)
    if channels is ChannelTasks.APART:
        for index in np.ndindex(*table.shape):
            block, near = layout.block(index)
            nodes[name, *index] = Task((name, *index), mapped, function, block, *near, *refs)
        return image_of(image, name, nodes, after, dtype, on_device)
    whole = f"{name}-whole" if channels is ChannelTasks.TOGETHER else name
    for index in layout.planes():
        block, near = layout.block_of_all(index)
        nodes[whole, *index] = Task((whole, *index), mapped, function, block, *near, *refs)
    if channels is ChannelTasks.MERGED:
        return image_of(image.isel(c=0, drop=True), name, nodes, after, dtype, on_device)
    parts = [slice(a, b) for a, b in itertools.pairwise(layout.starts)]
    for index in layout.planes():
        for k, part in enumerate(parts):
            key: Key = (name, *index[: layout.c], k, *index[layout.c :])
            nodes[key] = Task(key, channels_of, TaskRef((whole, *index)), layout.c, part)
    return image_of(image, name, nodes, after, dtype, on_device)


def reduce_image(
    image: xr.DataArray,
    function: Callable,
    *arguments: Any,
    name: str,
    depth: int = 0,
    on_device: bool = False,
) -> Delayed:
    """What the blocks of an image and their halos give, merged in a fixed order (lazy).

    ``function(block, halo, channels, *arguments)`` gets what it gets in `map_image` with
    `ChannelTasks.TOGETHER`, with `on_device` also where blocks are, and returns something with
    ``merge``.
    """
    after = tuple(a for a in arguments if isinstance(a, Delayed))
    name = named(name, image, function, arguments, depth, on_device)
    table, source = owned(image.data, name, after)
    source.expected_around(table)
    nodes: dict[Key, GraphNode] = dict(source)
    refs = refs_to(arguments, name, nodes)
    layout = _BlockLayout.of(image, depth, table, nodes, on_device)
    sums: list[Key] = []
    sums_name = f"{name}-sum"
    for index in itertools.chain(*layout.strips()):
        block, near = layout.block_of_all(index)
        part: Key = (name, *index)
        nodes[part] = Task(part, mapped, function, block, *near, *refs)
        # A chain is walked in its order, and a tree is not.
        key: Key = (sums_name, *index)
        nodes[key] = Task(key, _merged, TaskRef(part), *map(TaskRef, sums[-1:]))
        sums.append(key)
    hold_back(nodes, sums)
    root = f"{name}-merged"
    nodes[root] = Alias(root, sums[-1])
    return promise(root, nodes, (*after, *persisted(image)))


@dataclass(frozen=True)
class Blocks:
    """What the blocks of an image gave: a key for each chunk (without c), and what makes them."""

    name: str
    keys: np.ndarray
    nodes: dict[Key, GraphNode]
    after: tuple[Delayed, ...]


def observe_blocks(
    image: xr.DataArray, function: Callable, *arguments: Any, name: str, depth: int = 0
) -> Blocks:
    """What `function` makes of each block of an image and its halo, for a graph to go on with.

    ``function(block, halo, index, *arguments)`` gets what it gets in `reduce_image`, but with the
    index of the chunk (without c) in the place of the channels. Chunks are read in strips, and not
    before all but a few of the blocks before them are done.
    """
    after = tuple(a for a in arguments if isinstance(a, Delayed))
    table, source = owned(image.data, name, after)
    source.expected_around(table)
    nodes: dict[Key, GraphNode] = dict(source)
    refs = refs_to(arguments, name, nodes, once=True)
    layout = _BlockLayout.of(image, depth, table, nodes)
    keys = np.empty([n for i, n in enumerate(table.shape) if i != layout.c], dtype=object)
    chain: list[Key] = []
    for index in itertools.chain(*layout.strips()):
        block, near = layout.block_of_all(index)
        keys[index] = (name, *index)
        task = partial(_indexed, function, index)
        nodes[keys[index]] = Task(keys[index], mapped, task, block, *near, *refs)
        step: Key = (f"{name}-step", *index)
        nodes[step] = Task(step, nothing, TaskRef(keys[index]), *map(TaskRef, chain[-1:]))
        chain.append(step)
    hold_back(nodes, chain)
    return Blocks(name, keys, nodes, after)


def _indexed(
    function: Callable, index: tuple[int, ...], block: Any, halo: Halo, _: slice, *arguments: Any
) -> Any:
    return function(block, halo, index, *arguments)


def _merged(part: Any, before: Any = None) -> Any:
    return part if before is None else before.merge(part)


def image_of(
    image: xr.DataArray,
    name: str,
    nodes: dict[Key, GraphNode],
    after: Sequence[Delayed],
    dtype: np.dtype,
    on_device: bool = False,
) -> xr.DataArray:
    """An image like another with other pixels; `on_device` where those of the other are."""
    needed: Any = (*after, *persisted(image))
    graph = HighLevelGraph.from_collections(name, nodes, needed)
    nothing = image.data._meta if on_device else np.empty(0)
    meta = empty_beside(nothing, (0,) * image.ndim, dtype)
    return image.copy(data=da.Array(graph, name, image.chunks, dtype=dtype, meta=meta))


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
        nodes: dict[Key, GraphNode],
        on_device: bool = False,
    ) -> _BlockLayout:
        """That of an image whose blocks reach `depth` pixels into their neighbours.

        `table` holds the keys of the chunks, and `nodes` makes them; reads of strips are added.
        """
        c, y, x = (image.dims.index(d) for d in "cyx")
        sides = {d: max(sizes) for d, sizes in image.chunksizes.items()}
        # A block as it is and as a float32 at least.
        held = math.prod(sides.values()) * (image.dtype.itemsize + 4)
        check_room(in_words("a chunk and what is made of it", sides), held, table.size)
        rows, columns = (reaches(image.chunksizes[d], depth) for d in "yx")
        starts = np.cumsum([0, *image.chunksizes["c"]]).tolist()
        width = strip_width(max(image.chunksizes["x"]))
        tables = _in_strips(table, x, columns, width, depth, nodes)
        if any(len(reach.chunks) > 1 for reach in (*rows, *columns)):
            for keys in {id(own): own for own in tables}.values():
                for key in keys.ravel():
                    edges = _edges_key(key)
                    if edges not in nodes:
                        nodes[edges] = Task(edges, edges_of, TaskRef(key), depth)
        return cls(c, y, x, rows, columns, starts, tables, on_device)

    def planes(self) -> list[tuple[int, ...]]:
        """Indices of the chunks, all channels of a place as one."""
        shape = self.tables[0].shape
        return list(np.ndindex(*(n for i, n in enumerate(shape) if i != self.c)))

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
    return _named(key, "edges")


def _in_strips(
    table: np.ndarray,
    x: int,
    columns: Sequence[Reach],
    width: int,
    depth: int,
    nodes: dict[Key, GraphNode],
) -> list[np.ndarray]:
    """The keys of the chunks for the blocks of each column; strips have reads of their own.

    Of the strip to its left a strip needs the right edges, which are kept. Of the one to its right
    it reads chunks again, but only what a single chunk needs: where chunks share a source, as after
    a rechunk, so do strips.
    """
    if len(columns) <= width or all(len(c.chunks) == 1 for c in columns):
        return [table] * len(columns)
    users = count_users([table.ravel().tolist()], nodes)
    source: dict[Key, GraphNode] = dict(nodes)
    tables: list[np.ndarray] = []
    for first in range(0, len(columns), width):
        strip = columns[first : first + width]
        last = first + len(strip)
        own = table.copy()
        at = np.moveaxis(own, x, 0)
        for k in range(strip[0].chunks.start, first):
            chunks = np.moveaxis(tables[k], x, 0)[k]
            for index, key in np.ndenumerate(chunks):
                at[k][index] = _named(key, "kept")
                kept, edges = _edges_key(at[k][index]), _edges_key(key)
                nodes[kept] = Task(kept, right_edge, TaskRef(key), depth)
                # At once: until it is made the whole chunk is held.
                nodes[edges] = Task(edges, edges_of, TaskRef(key), depth, TaskRef(kept))
        for k in range(last, strip[-1].chunks.stop):
            again, _ = own_reads(at[k].ravel().tolist(), source, users)
            fresh: dict[Key, Any] = {key: _named(key, f"strip-{first}") for key in again}
            for key, node in again.items():
                nodes[fresh[key]] = node.substitute(fresh, key=fresh[key])
            for index, key in np.ndenumerate(at[k]):
                at[k][index] = fresh.get(key, key)
        tables += [own] * len(strip)
    return tables


def _named(key: Key, name: str) -> Key:
    """A key like another; keys of an array share one string."""
    if isinstance(key, tuple):
        return (sys.intern(f"{name}-{key[0]}"), *key[1:])
    return f"{name}-{key}"
