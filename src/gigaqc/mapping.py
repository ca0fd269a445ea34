"""Graphs from image to image: each block of the result is a function of a block and its halo."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import GraphNode, List, Task, TaskRef
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.typing import Key

from gigaqc.backend import to_host
from gigaqc.passes import owned

Halo = tuple[int, int, int, int]
"""Pixels beyond the core of a block at its top, bottom, left and right."""


def map_image(
    image: xr.DataArray, function: Callable, *arguments: Any, name: str, depth: int = 0
) -> xr.DataArray:
    """The lazy image whose blocks `function` gives.

    ``function(block, halo, channels, *arguments)`` gets an array (c, ..., y, x) with up to `depth`
    pixels more at each side, `halo` says how many (fewer only where the image ends), and `channels`
    the slice of channels that it holds; it returns the core. Chunks, coordinates and attributes are
    the image's. `arguments` are values or what other graphs give; with the latter no chunk is read
    before they are done, so that none is held while an earlier pass reads the image.

    A chunk is read by a task of its own, which the neighbours share: a halo reads nothing twice.
    """
    after = tuple(a for a in arguments if isinstance(a, Delayed))
    given = [a.key if isinstance(a, Delayed) else a for a in arguments]
    name = f"{name}-{tokenize(image.data.name, function, given, depth)}"
    table, source = owned(image.data, name, after)
    nodes: dict[Key, GraphNode] = dict(source)
    refs = [TaskRef(a.key) if isinstance(a, Delayed) else a for a in arguments]
    y, x, c = (image.dims.index(d) for d in "yxc")
    rows, columns = (_reaches(image.chunksizes[d], depth) for d in "yx")
    starts = np.cumsum([0, *image.chunksizes["c"]])
    for index in np.ndindex(*table.shape):
        row, column = rows[index[y]], columns[index[x]]
        where: list[int | slice] = list(index)
        where[y] = slice(row.chunks.start, row.chunks.stop)
        where[x] = slice(column.chunks.start, column.chunks.stop)
        near = List(*(List(*map(TaskRef, line)) for line in table[tuple(where)]))
        channels = slice(int(starts[index[c]]), int(starts[index[c] + 1]))
        block = _Block(c, row, column, channels)
        nodes[name, *index] = Task((name, *index), _mapped, function, block, near, *refs)
    # A Delayed is a collection, but dask gives some of its methods no types.
    graph = HighLevelGraph.from_collections(name, nodes, after)  # type: ignore[arg-type]
    dtype = result_dtype(image.dtype)
    meta = np.empty((0,) * image.ndim, dtype)
    return image.copy(data=da.Array(graph, name, image.chunks, dtype=dtype, meta=meta))


def result_dtype(dtype: np.dtype) -> np.dtype:
    """Type of a transformed image: float64 from float64, else float32."""
    return np.dtype("f8" if dtype.kind == "f" and dtype.itemsize == 8 else "f4")


@dataclass(frozen=True)
class _Reach:
    """What the halo of one chunk of an axis needs: chunks, their part, and the pixels beyond."""

    chunks: range
    part: slice
    halo: tuple[int, int]


@dataclass(frozen=True)
class _Block:
    """Where a block of the result comes from; a class, so that dask does not look inside."""

    c: int
    row: _Reach
    column: _Reach
    channels: slice


def _reaches(sizes: Sequence[int], depth: int) -> list[_Reach]:
    edges = np.cumsum([0, *sizes])
    found = []
    for start, stop in itertools.pairwise(edges):
        low, high = max(start - depth, 0), min(stop + depth, edges[-1])
        first = int(np.searchsorted(edges, low, "right")) - 1
        last = int(np.searchsorted(edges, high, "left"))
        part = slice(int(low - edges[first]), int(high - edges[first]))
        found.append(_Reach(range(first, last), part, (int(start - low), int(high - stop))))
    return found


def _mapped(function: Callable, block: _Block, pieces: list[list[Any]], *arguments: Any) -> Any:
    """What a task does: put a block and its halo together, and give its core."""
    rows = [_joined([to_host(p) for p in row], -1) for row in pieces]
    pixels = _joined(rows, -2)[..., block.row.part, block.column.part]
    core = function(
        np.moveaxis(pixels, block.c, 0),
        (*block.row.halo, *block.column.halo),
        block.channels,
        *arguments,
    )
    return np.moveaxis(core, 0, block.c)


def _joined(parts: list[np.ndarray], axis: int) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)
