"""What tasks do with chunks and halos: keep edges for the neighbours, put blocks together.

Blocks stay where their chunks are, in the memory of the host or on a device.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigaqc.base.backend import local, to_host


@dataclass(frozen=True)
class Reach:
    """What the halo of one chunk of an axis needs: chunks, a part of each, the pixels beyond."""

    chunks: range
    parts: tuple[slice, ...]
    halo: tuple[int, int]


@dataclass(frozen=True)
class Block:
    """Where a block of the result comes from; a class, so that dask does not look inside."""

    c: int
    planes: int  # chunks of channels
    row: Reach
    column: Reach
    channels: slice
    apart: bool
    on_device: bool


def reaches(sizes: Sequence[int], depth: int) -> list[Reach]:
    """Of each chunk of an axis."""
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
        found.append(Reach(chunks, parts, (int(start - low), int(high - stop))))
    return found


@dataclass(frozen=True)
class ChunkEdges:
    """What the neighbours of a chunk need of it, so that the whole is not kept for them."""

    top: np.ndarray
    bottom: np.ndarray
    left: np.ndarray
    right: np.ndarray
    height: int
    width: int


def edges_of(chunk: Any, depth: int, kept: ChunkEdges | None = None) -> Any:
    """The edges of a chunk, `depth` pixels deep; the chunk itself where that is no less.

    The right one may be `kept` already, for the strip to the right.
    """
    pixels = local(chunk)
    height, width = pixels.shape[-2:]
    if min(height, width) <= 4 * depth:
        return pixels
    return ChunkEdges(
        pixels[..., :depth, :].copy(),
        pixels[..., height - depth :, :].copy(),
        pixels[..., :depth].copy(),
        pixels[..., width - depth :].copy() if kept is None else kept.right,
        height,
        width,
    )


def right_edge(chunk: Any, depth: int) -> Any:
    """Of the edges only the right one, which is kept for long."""
    pixels = local(chunk)
    height, width = pixels.shape[-2:]
    # Copies also of nothing: a view of a chunk would keep it.
    none, left = pixels[..., :0, :].copy(), pixels[..., :0].copy()
    right = pixels[..., max(width - depth, 0) :].copy()
    return ChunkEdges(none, none, left, right, height, width)


def _cut(piece: Any, rows: slice, columns: slice) -> np.ndarray:
    """A rectangle of a chunk, or of its edges, in which it then lies."""
    if not isinstance(piece, ChunkEdges):
        return local(piece)[..., rows, columns]
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


def mapped(function: Callable, block: Block, *values: Any) -> Any:
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
        plane = _joined(rows, -2)
        planes.append(np.moveaxis(plane if block.on_device else to_host(plane), block.c, 0))
    arguments = tuple(pieces)
    pixels = planes[0] if block.apart else [channel for plane in planes for channel in plane]
    core = function(pixels, (*block.row.halo, *block.column.halo), block.channels, *arguments)
    same = getattr(core, "ndim", None) == planes[0].ndim
    return np.moveaxis(core, 0, block.c) if same else core


def channels_of(block: np.ndarray, axis: int, part: slice) -> np.ndarray:
    """A copy, so that the other channels of a block are not kept for the sake of one."""
    return block[(slice(None),) * axis + (part,)].copy()


def _joined(parts: list[np.ndarray], axis: int) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)
