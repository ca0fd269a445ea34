"""The graph of a tiled segmentation: tiles once, seams, one numbering, labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gigaqc.errors import MissingDependencyError, SegmentationError, SegmentationWarning, warn
from gigaqc.graph.map import Blocks, Map
from gigaqc.graph.scratch import Scratch
from gigaqc.grid import Halo
from gigaqc.rechunking import rechunked
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
    known = arguments if known_by is None else known_by
    work = _StitchWork(segment, grid)
    tiles = Map(
        "nuclei", tiled, _segmented, (work, *arguments), grid.overlap, known_by=(work, known)
    ).blocks()
    _add_labels(tiles, image.sizes["x"])
    plane = tiled.isel(c=0, drop=True)
    return tiles.tasks.image(plane, tiles.name, tiles.after, DTYPE)


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


def _add_labels(tiles: Blocks, width: int) -> None:
    """Tasks from tiles to labels: seams, the numbers of each plane, then the pixels."""
    tasks, name = tiles.tasks, tiles.name
    start: Any = 0
    for plane in np.ndindex(tiles.refs.shape[:-2]):
        own = tiles.refs[plane]
        numbers = _number_plane(tiles, plane, width)
        for number, (at, tile) in enumerate(np.ndenumerate(own)):
            table = tasks.add((f"{name}-table", *plane, *at), _table, numbers, number)
            tasks.add((name, *plane, *at), numbered, tile, table, start)
        start = tasks.add((f"{name}-offset", *plane), _offset, numbers, start)


def _number_plane(tiles: Blocks, plane: tuple[int, ...], width: int) -> Any:
    """A reference to the numbers of the objects of a plane of tiles."""
    tasks, name, own = tiles.tasks, tiles.name, tiles.refs[plane]
    firsts, seams = [], []
    places: list[tuple[int, tuple[int, ...]]] = []
    number = np.arange(own.size).reshape(own.shape)
    for at, tile in np.ndenumerate(own):
        firsts.append(tasks.add((f"{name}-first", *plane, *at), _firsts, tile, width))
        near = [(at[0] + dy, at[1] + dx) for dy, dx in NEIGHBOURS]
        near = [n for n in near if n[0] < own.shape[0] and 0 <= n[1] < own.shape[1]]
        if near:
            others = (own[n] for n in near)
            seams.append(tasks.add((f"{name}-seam", *plane, *at), match, tile, *others))
            places.append((int(number[at]), tuple(int(number[n]) for n in near)))
    given = (firsts, seams, _Places(tuple(places)))
    return tasks.add((f"{name}-numbers", *plane), _numbers, *given)


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
