"""The graph of a tiled segmentation: tiles once, seams, one numbering, labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask._task_spec import GraphNode, List, Task, TaskRef
from dask.typing import Key

from gigaqc.errors import MissingDependencyError, SegmentationError, SegmentationWarning, warn
from gigaqc.grid import Halo
from gigaqc.mapping import Blocks, image_of, observe_blocks
from gigaqc.naming import named
from gigaqc.rechunking import rechunked
from gigaqc.scratch import Scratch
from gigaqc.segmentation.models import ModelError
from gigaqc.segmentation.tiles import (
    DTYPE,
    NEIGHBOURS,
    Numbers,
    Tile,
    Where,
    match,
    number_objects,
    numbered,
)


@dataclass(frozen=True)
class Tiling:
    """Tiles of `tile` pixels, each seen with `overlap` pixels more at every side.

    `skip` says that a tile on which `segment` fails has no labels, instead of failing the rest.
    """

    tile: int
    overlap: int
    skip: bool = False
    scratch: Scratch | None = None

    @property
    def folder(self) -> Path | None:
        """Where packed tiles are laid down."""
        return None if self.scratch is None else self.scratch.root


def stitch(
    image: xr.DataArray, segment: Callable, *arguments: Any, grid: Tiling, known_by: Any = None
) -> xr.DataArray:
    """Labels of an image of one channel, from those of its tiles (lazy).

    ``segment(block, *arguments)`` gets a plane of core and overlap, which it may write to, and
    returns integers from 0 of the same shape. Each tile is segmented once and kept packed; labels
    are numbered in the order of their first pixels, plane after plane. Tasks are named by
    `known_by` in the place of `arguments` where these are costly to hash.
    """
    sides = {"y": grid.tile, "x": grid.tile, "t": 1, "z": 1}
    tiled = rechunked(image, {d: sides.get(str(d), -1) for d in image.dims})
    name = named("nuclei", tiled, segment, arguments if known_by is None else known_by, grid)
    blocks = observe_blocks(
        tiled,
        _segmented,
        _StitchWork(segment, grid),
        *arguments,
        name=f"{name}-tile",
        depth=grid.overlap,
    )
    _add_labels(name, blocks, image.sizes["x"])
    plane = tiled.isel(c=0, drop=True)
    return image_of(plane, name, blocks.nodes, blocks.after, DTYPE)


@dataclass(frozen=True)
class _StitchWork:
    """What is done with a tile; a class, so that dask does not look inside."""

    segment: Callable
    grid: Tiling


def _segmented(
    block: Sequence[np.ndarray],
    halo: Halo,
    index: tuple[int, ...],
    work: _StitchWork,
    *arguments: Any,
) -> Tile:
    """What a task does with a tile."""
    (channel,) = block
    # A copy: chunks are shared with the tiles beside.
    pixels = np.array(channel.reshape(channel.shape[-2:]), order="C")
    grid = work.grid
    where = Where.of(index, pixels.shape, halo, grid.tile)
    kept = None if grid.folder is None else Tile.found(where, grid.folder)
    if kept is not None:
        return kept
    finite = np.isfinite(pixels) if pixels.dtype.kind == "f" else None
    try:
        labels = _checked(work.segment(pixels, *arguments), finite, where)
    except (ModelError, MissingDependencyError):
        raise  # it would be the same for every tile
    except Exception as error:
        failure = _failure(error, where)
        if not grid.skip:
            raise SegmentationError(
                f"{failure}; no labels were made. on_error='skip' leaves such tiles empty."
            ) from error
        return Tile(where, 0, np.full(1, -1, "i8"), b"", failure)
    return Tile.of(labels, where, grid.folder)


def _failure(error: Exception, where: Where) -> str:
    said = str(error) if isinstance(error, _NoLabels) else f"{type(error).__name__}: {error}"
    return f"method: failed on {where}: {said}"


class _NoLabels(SegmentationError):
    """What a model returned are no labels."""


def _checked(labels: Any, finite: np.ndarray | None, where: Where) -> np.ndarray:
    """Labels as they must be, 0 where the image is not finite."""
    y0, y1, x0, x1 = where.block
    found = np.asarray(labels)
    if found.shape != (y1 - y0, x1 - x0):
        raise _NoLabels(
            f"got an array of shape {found.shape} for a block of {(y1 - y0, x1 - x0)}; return one "
            "label a pixel"
        )
    if found.dtype.kind not in "iu":
        raise _NoLabels(
            f"got dtype {found.dtype}; return integers, 0 for background and an id for each object"
        )
    if found.size and found.min() < 0:
        raise _NoLabels(f"got the label {found.min()}; return integers from 0")
    return found if finite is None or finite.all() else np.where(finite, found, 0)


def _add_labels(name: str, blocks: Blocks, width: int) -> None:
    """Tasks from tiles to labels: seams, the numbers of each plane, then the pixels.

    Keys of planes are tuples, as those of chunks are: what writes images computes tasks with single
    names first and by themselves, and would segment twice.
    """
    nodes, offset = blocks.nodes, None
    planes = blocks.keys.shape[:-2]
    for plane in np.ndindex(planes):
        keys = blocks.keys[plane]
        numbers = _number_plane(name, plane, keys, nodes, width)
        for number, (at, tile) in enumerate(np.ndenumerate(keys)):
            table: Key = (f"{name}-table", *plane, *at)
            nodes[table] = Task(table, _table, TaskRef(numbers), number)
            labels: Key = (name, *plane, *at)
            start = 0 if offset is None else TaskRef(offset)
            nodes[labels] = Task(labels, numbered, TaskRef(tile), TaskRef(table), start)
        before, offset = offset, (f"{name}-offset", *plane)
        start = 0 if before is None else TaskRef(before)
        nodes[offset] = Task(offset, _offset, TaskRef(numbers), start)


def _number_plane(
    name: str, plane: tuple[int, ...], keys: np.ndarray, nodes: dict[Key, GraphNode], width: int
) -> Key:
    """The task that numbers the objects of a plane of tiles."""
    firsts: list[TaskRef] = []
    seams: list[TaskRef] = []
    places: list[tuple[int, tuple[int, ...]]] = []
    number = np.arange(keys.size).reshape(keys.shape)
    for at, tile in np.ndenumerate(keys):
        first: Key = (f"{name}-first", *plane, *at)
        nodes[first] = Task(first, _firsts, TaskRef(tile), width)
        firsts.append(TaskRef(first))
        near = [(at[0] + dy, at[1] + dx) for dy, dx in NEIGHBOURS]
        near = [n for n in near if n[0] < keys.shape[0] and 0 <= n[1] < keys.shape[1]]
        if near:
            seam: Key = (f"{name}-seam", *plane, *at)
            others = (TaskRef(keys[n]) for n in near)
            nodes[seam] = Task(seam, match, TaskRef(tile), *others)
            seams.append(TaskRef(seam))
            places.append((int(number[at]), tuple(int(number[n]) for n in near)))
    numbers: Key = (f"{name}-numbers", *plane)
    nodes[numbers] = Task(numbers, _numbers, List(*firsts), List(*seams), _Places(tuple(places)))
    return numbers


@dataclass(frozen=True)
class _Places:
    """Numbers of tiles, and of the neighbours that each was compared with."""

    tiles: tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True)
class _FirstPixels:
    positions: np.ndarray
    failure: str | None


def _firsts(tile: Tile, width: int) -> _FirstPixels:
    """What of a tile is needed to number objects; not its pixels."""
    return _FirstPixels(tile.firsts(width), tile.failure)


def _numbers(
    firsts: Sequence[_FirstPixels], seams: Sequence[Sequence[np.ndarray]], places: _Places
) -> Numbers:
    failures = [f.failure for f in firsts if f.failure is not None]
    if failures:
        warn(
            f"{len(failures)} of {len(firsts)} tiles have no labels. {failures[0]}",
            SegmentationWarning,
        )
    pairs = itertools.chain.from_iterable(
        ((tile, other, p) for other, p in zip(others, seam, strict=True))
        for (tile, others), seam in zip(places.tiles, seams, strict=True)
    )
    return number_objects([f.positions for f in firsts], list(pairs))


def _table(numbers: Numbers, tile: int) -> np.ndarray:
    return numbers.tables[tile]


def _offset(numbers: Numbers, before: int) -> int:
    return before + numbers.n
