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
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.typing import Key

from gigaqc.backend import to_host
from gigaqc.grid import strip_width
from gigaqc.machine import check_room, in_words
from gigaqc.passes import count_users, own_reads, owned, promise
from gigaqc.settling import hold_back, nothing, refs_to

Halo = tuple[int, int, int, int]
"""Pixels beyond the core of a block at its top, bottom, left and right."""


class Channels(Enum):
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
    channels: Channels = Channels.APART,
    dtype: np.dtype | None = None,
) -> xr.DataArray:
    """The lazy image whose blocks `function` gives.

    ``function(block, halo, channels, *arguments)`` gets an array (c, ..., y, x) with up to `depth`
    pixels more at each side, `halo` says how many (fewer only where the image ends), and `channels`
    the slice of channels that it holds. It returns the core, (c, ..., y, x). Unless channels are
    apart, `block` is a list of channels, which are not copied into one array; with
    `Channels.MERGED` the core is (..., y, x).

    Chunks, coordinates and attributes are the image's, `dtype` by default what `result_dtype` says.
    `arguments` are values or what other graphs give; with the latter no chunk is read before they
    are done, so that none is held while an earlier pass reads the image.

    A chunk is read by a task of its own, which the neighbours share: a halo reads nothing twice.
    But an image that is wider than 4 chunks is divided into strips of that width, so that the
    chunks that wait for a neighbour go with the width of a strip and not of the image. A strip
    shares only the edges of the one to its left: there a halo adds at most a quarter of a read.
    """
    dtype = result_dtype(image.dtype) if dtype is None else np.dtype(dtype)
    after = tuple(a for a in arguments if isinstance(a, Delayed))
    given = [a.key if isinstance(a, Delayed) else a for a in arguments]
    name = f"{name}-{tokenize(image.data.name, function, given, depth, channels, dtype.str)}"
    table, source = owned(image.data, name, after)
    source.expected_around(table)
    nodes: dict[Key, GraphNode] = dict(source)
    refs = refs_to(arguments, name, nodes)
    layout = _Layout.of(image, depth, table, nodes)
    if channels is Channels.APART:
        for index in np.ndindex(*table.shape):
            block, near = layout.block(index)
            nodes[name, *index] = Task((name, *index), _mapped, function, block, *near, *refs)
        return image_of(image, name, nodes, after, dtype)
    whole = f"{name}-whole" if channels is Channels.TOGETHER else name
    for index in layout.planes():
        block, near = layout.block_of_all(index)
        nodes[whole, *index] = Task((whole, *index), _mapped, function, block, *near, *refs)
    if channels is Channels.MERGED:
        return image_of(image.isel(c=0, drop=True), name, nodes, after, dtype)
    parts = [slice(a, b) for a, b in itertools.pairwise(layout.starts)]
    for index in layout.planes():
        for k, part in enumerate(parts):
            key: Key = (name, *index[: layout.c], k, *index[layout.c :])
            nodes[key] = Task(key, _channels_of, TaskRef((whole, *index)), layout.c, part)
    return image_of(image, name, nodes, after, dtype)


def reduce_image(
    image: xr.DataArray, function: Callable, *arguments: Any, name: str, depth: int = 0
) -> Delayed:
    """What the blocks of an image and their halos give, merged in a fixed order (lazy).

    ``function(block, halo, channels, *arguments)`` gets what it gets in `map_image` with
    `Channels.TOGETHER`, and returns something with ``merge``.
    """
    after = tuple(a for a in arguments if isinstance(a, Delayed))
    given = [a.key if isinstance(a, Delayed) else a for a in arguments]
    name = f"{name}-{tokenize(image.data.name, function, given, depth)}"
    table, source = owned(image.data, name, after)
    source.expected_around(table)
    nodes: dict[Key, GraphNode] = dict(source)
    refs = refs_to(arguments, name, nodes)
    layout = _Layout.of(image, depth, table, nodes)
    sums: list[Key] = []
    sums_name = f"{name}-sum"
    for index in itertools.chain(*layout.strips()):
        block, near = layout.block_of_all(index)
        part: Key = (name, *index)
        nodes[part] = Task(part, _mapped, function, block, *near, *refs)
        # A chain is walked in its order, and a tree is not.
        key: Key = (sums_name, *index)
        nodes[key] = Task(key, _merged, TaskRef(part), *map(TaskRef, sums[-1:]))
        sums.append(key)
    hold_back(nodes, sums)
    root = f"{name}-merged"
    nodes[root] = Alias(root, sums[-1])
    return promise(root, nodes, after)


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
    layout = _Layout.of(image, depth, table, nodes)
    keys = np.empty([n for i, n in enumerate(table.shape) if i != layout.c], dtype=object)
    chain: list[Key] = []
    for index in itertools.chain(*layout.strips()):
        block, near = layout.block_of_all(index)
        keys[index] = (name, *index)
        task = partial(_indexed, function, index)
        nodes[keys[index]] = Task(keys[index], _mapped, task, block, *near, *refs)
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
) -> xr.DataArray:
    """An image like another with other pixels."""
    # A Delayed is a collection, but dask gives some of its methods no types.
    graph = HighLevelGraph.from_collections(name, nodes, after)  # type: ignore[arg-type]
    meta = np.empty((0,) * image.ndim, dtype)
    return image.copy(data=da.Array(graph, name, image.chunks, dtype=dtype, meta=meta))


def result_dtype(dtype: np.dtype) -> np.dtype:
    """Type of a transformed image: float64 from float64, else float32."""
    return np.dtype("f8" if dtype.kind == "f" and dtype.itemsize == 8 else "f4")


@dataclass(frozen=True)
class _Reach:
    """What the halo of one chunk of an axis needs: chunks, a part of each, the pixels beyond."""

    chunks: range
    parts: tuple[slice, ...]
    halo: tuple[int, int]


@dataclass(frozen=True)
class _Block:
    """Where a block of the result comes from; a class, so that dask does not look inside."""

    c: int
    planes: int  # chunks of channels
    row: _Reach
    column: _Reach
    channels: slice
    apart: bool


@dataclass(frozen=True)
class _Layout:
    """Which chunks a block of the result needs."""

    c: int
    y: int
    x: int
    rows: list[_Reach]
    columns: list[_Reach]
    starts: list[int]  # of the channels of each chunk, and where they end
    tables: list[np.ndarray]  # keys of the chunks, for the blocks of each column

    @classmethod
    def of(
        cls, image: xr.DataArray, depth: int, table: np.ndarray, nodes: dict[Key, GraphNode]
    ) -> _Layout:
        """That of an image whose blocks reach `depth` pixels into their neighbours.

        `table` holds the keys of the chunks, and `nodes` makes them; reads of strips are added.
        """
        c, y, x = (image.dims.index(d) for d in "cyx")
        sides = {d: max(sizes) for d, sizes in image.chunksizes.items()}
        # A block as it is and as a float32 at least.
        held = math.prod(sides.values()) * (image.dtype.itemsize + 4)
        check_room(in_words("a chunk and what is made of it", sides), held, table.size)
        rows, columns = (_reaches(image.chunksizes[d], depth) for d in "yx")
        starts = np.cumsum([0, *image.chunksizes["c"]]).tolist()
        width = strip_width(max(image.chunksizes["x"]))
        tables = _in_strips(table, x, columns, width, depth, nodes)
        if any(len(reach.chunks) > 1 for reach in (*rows, *columns)):
            for keys in {id(own): own for own in tables}.values():
                for key in keys.ravel():
                    edges = _edges_key(key)
                    if edges not in nodes:
                        nodes[edges] = Task(edges, _edges, TaskRef(key), depth)
        return cls(c, y, x, rows, columns, starts, tables)

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

    def block(self, index: tuple[int, ...]) -> tuple[_Block, list[TaskRef]]:
        """Of one chunk of the result."""
        channels = slice(self.starts[index[self.c]], self.starts[index[self.c] + 1])
        where: list[Any] = list(index)
        where[self.c] = slice(index[self.c], index[self.c] + 1)
        return self._near(where, channels, apart=True)

    def block_of_all(self, index: tuple[int, ...]) -> tuple[_Block, list[TaskRef]]:
        """Of all channels of one chunk of the result; `index` has no channel."""
        where: list[Any] = [*index[: self.c], slice(None), *index[self.c :]]
        return self._near(where, slice(0, self.starts[-1]), apart=False)

    def _near(
        self, where: list[Any], channels: slice, *, apart: bool
    ) -> tuple[_Block, list[TaskRef]]:
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
        return _Block(self.c, len(planes), row, column, channels, apart), near


@dataclass(frozen=True)
class _Edges:
    """What the neighbours of a chunk need of it, so that the whole is not kept for them."""

    top: np.ndarray
    bottom: np.ndarray
    left: np.ndarray
    right: np.ndarray
    height: int
    width: int


def _edges_key(key: Key) -> Key:
    return _named(key, "edges")


def _edges(chunk: Any, depth: int, kept: _Edges | None = None) -> Any:
    """The edges of a chunk, `depth` pixels deep; the chunk itself where that is no less.

    The right one may be `kept` already, for the strip to the right.
    """
    pixels = to_host(chunk)
    height, width = pixels.shape[-2:]
    if min(height, width) <= 4 * depth:
        return pixels
    return _Edges(
        pixels[..., :depth, :].copy(),
        pixels[..., height - depth :, :].copy(),
        pixels[..., :depth].copy(),
        pixels[..., width - depth :].copy() if kept is None else kept.right,
        height,
        width,
    )


def _right_edge(chunk: Any, depth: int) -> Any:
    """Of the edges only the right one, which is kept for long."""
    pixels = to_host(chunk)
    height, width = pixels.shape[-2:]
    # Copies also of nothing: a view of a chunk would keep it.
    none, left = pixels[..., :0, :].copy(), pixels[..., :0].copy()
    right = pixels[..., max(width - depth, 0) :].copy()
    return _Edges(none, none, left, right, height, width)


def _cut(piece: Any, rows: slice, columns: slice) -> np.ndarray:
    """A rectangle of a chunk, or of its edges, in which it then lies."""
    if not isinstance(piece, _Edges):
        return to_host(piece)[..., rows, columns]
    if rows.stop <= piece.top.shape[-2]:
        return piece.top[..., rows, columns]
    depth = piece.bottom.shape[-2]
    if rows.start >= piece.height - depth:
        shift = piece.height - depth
        return piece.bottom[..., rows.start - shift : rows.stop - shift, columns]
    if columns.stop <= piece.left.shape[-1]:
        return piece.left[..., rows, columns]
    shift = piece.width - piece.right.shape[-1]
    return piece.right[..., rows, columns.start - shift : columns.stop - shift]


def _in_strips(
    table: np.ndarray,
    x: int,
    columns: Sequence[_Reach],
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
                nodes[kept] = Task(kept, _right_edge, TaskRef(key), depth)
                # At once: until it is made the whole chunk is held.
                nodes[edges] = Task(edges, _edges, TaskRef(key), depth, TaskRef(kept))
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


def _reaches(sizes: Sequence[int], depth: int) -> list[_Reach]:
    edges = np.cumsum([0, *sizes])
    found = []
    for start, stop in itertools.pairwise(edges):
        low, high = max(start - depth, 0), min(stop + depth, edges[-1])
        first = int(np.searchsorted(edges, low, "right")) - 1
        last = int(np.searchsorted(edges, high, "left"))
        chunks = range(first, last)
        parts = tuple(
            slice(int(max(low - edges[k], 0)), int(min(high, edges[k + 1]) - edges[k]))
            for k in chunks
        )
        found.append(_Reach(chunks, parts, (int(start - low), int(high - stop))))
    return found


def _mapped(function: Callable, block: _Block, *values: Any) -> Any:
    """What a task does: put a block and its halo together, and give its core.

    Of `values` the first are the chunks, by chunk of channels, row and column.
    """
    pieces = iter(values)
    planes = []
    for _ in range(block.planes):
        rows = []
        for height in block.row.parts:
            cut = [_cut(next(pieces), height, width) for width in block.column.parts]
            rows.append(_joined(cut, -1))
        planes.append(np.moveaxis(_joined(rows, -2), block.c, 0))
    arguments = tuple(pieces)
    pixels = planes[0] if block.apart else [channel for plane in planes for channel in plane]
    core = function(pixels, (*block.row.halo, *block.column.halo), block.channels, *arguments)
    same = isinstance(core, np.ndarray) and core.ndim == planes[0].ndim
    return np.moveaxis(core, 0, block.c) if same else core


def _channels_of(block: np.ndarray, axis: int, part: slice) -> np.ndarray:
    """A copy, so that the other channels of a block are not kept for the sake of one."""
    return block[(slice(None),) * axis + (part,)].copy()


def _joined(parts: list[np.ndarray], axis: int) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)
