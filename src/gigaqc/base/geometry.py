"""Integer geometry: how chunks group into tasks, which tiles a range touches, other chunks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

Halo = tuple[int, int, int, int]
"""Pixels beyond the core of a block at its top, bottom, left and right."""

STRIP = 4  # chunks side by side that share their halos, and are walked together
STRIP_PIXELS = 4096  # or so many pixels, if the chunks are small


def strip_width(chunk: int) -> int:
    """Columns of chunks in a strip of a graph whose blocks have halos."""
    return max(STRIP, STRIP_PIXELS // max(chunk, 1))


@dataclass(frozen=True)
class Run:
    """Consecutive chunks of one axis, ``first:last``, that span ``start:stop`` pixels."""

    first: int
    last: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Pixels that it spans."""
        return self.stop - self.start


def group_chunks(chunks: Sequence[int], target: int, minimum: int = 1) -> list[Run]:
    """Group chunks of one axis until each run spans `target` pixels, and never below `minimum`.

    A chunk is never cut. A last run shorter than `minimum` joins the one before it, so that only
    an axis shorter than `minimum` gives a shorter run.
    """
    runs: list[Run] = []
    first, start, stop = 0, 0, 0
    for k, size in enumerate(chunks):
        if stop > start and stop - start + size > max(target, minimum) and stop - start >= minimum:
            runs.append(Run(first, k, start, stop))
            first, start = k, stop
        stop += size
    if runs and stop - start < minimum:
        last = runs.pop()
        first, start = last.first, last.start
    runs.append(Run(first, len(chunks), start, stop))
    return runs


def group_places(chunks: Mapping[str, Sequence[int]], pixels: int) -> dict[str, list[Run]]:
    """Group chunks of several axes until a place has so many pixels, along the last axes first."""
    runs: dict[str, list[Run]] = {}
    sides = {d: max(c) for d, c in chunks.items()}
    for d in reversed(list(chunks)):
        others = math.prod(n for other, n in sides.items() if other != d)
        runs[d] = group_chunks(chunks[d], max(pixels // others, 1))
        sides[d] = max(run.size for run in runs[d])
    return {d: runs[d] for d in chunks}


@lru_cache(maxsize=32)
def touched(start: int, stop: int, side: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Tiles of `side` pixels that ``start:stop`` touches.

    Returns the number of the first tile, the tile of each pixel counted from that one, and the
    local edges (0 first, the length last). The arrays are shared: every channel of a block asks for
    the same ones.
    """
    origin = start // side
    tile = np.arange(start, stop) // side - origin
    edges = np.concatenate([[0], np.flatnonzero(np.diff(tile)) + 1, [stop - start]])
    return origin, tile.astype("i8"), edges.astype("i8")


def count_tiles(size: int, side: int) -> int:
    """Tiles of `side` pixels that cover `size` pixels."""
    return -(-size // side)


def rechunked(image: xr.DataArray, chunks: Mapping[Any, Any]) -> xr.DataArray:
    """An image over dask in other chunks, as `DataArray.chunk` takes them."""
    axes = {axis: chunks[dim] for axis, dim in enumerate(image.dims) if dim in chunks}
    return image.copy(data=rechunked_array(image.data, axes))


def rechunked_array(array: da.Array, chunks: Any) -> da.Array:
    """A dask array in other chunks, as its own `rechunk` takes them."""
    return array.rechunk(chunks, method="tasks")
