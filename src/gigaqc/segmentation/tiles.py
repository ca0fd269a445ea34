"""A tiled segmentation: tiles once, seams, one numbering, labels."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gigaqc.base.geometry import Halo, rechunked
from gigaqc.errors import MissingDependencyError, SegmentationError, SegmentationWarning, warn
from gigaqc.graph.map import Blocks, Map
from gigaqc.graph.scratch import Scratch, explained
from gigaqc.kernels.places import first_pixels, number_labels, same_objects
from gigaqc.segmentation.methods import ModelError

NEIGHBOURS = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Right, and the three below: each pair of neighbours once."""

DTYPE = np.dtype("i4")


@dataclass(frozen=True)
class Where:
    """Place of a tile in its plane: its number, its core in pixels, and the overlap around it."""

    plane: tuple[int, ...]
    row: int
    column: int
    top: int
    left: int
    height: int
    width: int
    halo: Halo

    @classmethod
    def of(cls, index: tuple[int, ...], shape: tuple[int, int], halo: Halo, tile: int) -> Where:
        """That of a block of this shape, of which `halo` pixels are overlap."""
        *plane, row, column = index
        height, width = shape[0] - halo[0] - halo[1], shape[1] - halo[2] - halo[3]
        return cls(tuple(plane), row, column, row * tile, column * tile, height, width, halo)

    @property
    def block(self) -> tuple[int, int, int, int]:
        """First row, last, first column, last (exclusive) of core and overlap."""
        above, below, before, behind = self.halo
        return (
            self.top - above, self.top + self.height + below,
            self.left - before, self.left + self.width + behind,
        )  # fmt: skip

    def __str__(self) -> str:
        y0, y1, x0, x1 = self.block
        plane = f", plane {self.plane}" if self.plane else ""
        return (
            f"tile row {self.row}, column {self.column}{plane}: y {self.top}:"
            f"{self.top + self.height}, x {self.left}:{self.left + self.width} (seen with overlap: "
            f"y {y0}:{y1}, x {x0}:{x1})"
        )


@dataclass(frozen=True)
class Tile:
    """Labels 1..n of a block, packed.

    `first` holds the position in the core, row by row, of the first pixel of labels 0..n, -1 where
    the core has none. `failure` says why there are no labels.
    """

    where: Where
    n: int
    first: np.ndarray
    packed: bytes | Path
    failure: str | None = None

    @classmethod
    def of(cls, labels: np.ndarray, where: Where, folder: Path | None = None) -> Tile:
        """Pack the labels of a block; into a file of `folder` if there is one."""
        numbered, n = number_labels(labels)
        first = first_pixels(_core(numbered, where), n)
        packed = _pack(numbered, n) if n else b""
        if folder is None:
            return cls(where, n, first, packed)
        return cls(where, n, first, _laid_down(folder, where, first, packed))

    @classmethod
    def found(cls, where: Where, folder: Path) -> Tile | None:
        """What an earlier run left of the tile."""
        path = _path(folder, where)
        if not path.is_file():
            return None
        with np.load(path) as kept:
            first = kept["first"]
        return cls(where, len(first) - 1, first, path)

    def labels(self) -> np.ndarray:
        """Labels of the whole block."""
        y0, y1, x0, x1 = self.where.block
        if not self.n:
            return np.zeros((y1 - y0, x1 - x0), "u2")
        return _unpacked(self.packed, self.n, (y1 - y0, x1 - x0))

    def seen(self, rows: slice, columns: slice) -> np.ndarray:
        """Labels of a rectangle, given in pixels of the plane."""
        y0, _, x0, _ = self.where.block
        labels = self.labels()
        return labels[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]

    def firsts(self, width: int) -> np.ndarray:
        """Positions of first pixels in a plane of this width."""
        rows, columns = np.divmod(self.first, self.where.width)
        place = (rows + self.where.top) * width + columns + self.where.left
        return np.where(self.first < 0, -1, place)


def _core(block: np.ndarray, where: Where) -> np.ndarray:
    above, _, before, _ = where.halo
    return block[above : above + where.height, before : before + where.width]


def _type_of(n: int) -> np.dtype:
    return np.dtype("u2" if n < 1 << 16 else "i4")


def _pack(labels: np.ndarray, n: int) -> bytes:
    import imagecodecs

    encode: Any = imagecodecs.blosc_encode  # takes arrays, which its types do not say
    pixels = np.ascontiguousarray(labels, _type_of(n))
    return bytes(encode(pixels, level=1, compressor="zstd", shuffle="noshuffle", numthreads=1))


def _unpacked(packed: bytes | Path, n: int, shape: tuple[int, int]) -> np.ndarray:
    import imagecodecs

    if isinstance(packed, Path):
        with np.load(packed) as kept:
            coded = kept["labels"].tobytes()
    else:
        coded = packed
    pixels = imagecodecs.blosc_decode(coded, numthreads=1)
    return np.frombuffer(pixels, _type_of(n)).reshape(shape)


def _path(folder: Path, where: Where) -> Path:
    return folder / f"{'-'.join(map(str, (*where.plane, where.row, where.column)))}.npz"


def _laid_down(folder: Path, where: Where, first: np.ndarray, packed: bytes) -> Path:
    """A file that is complete or absent."""
    path = _path(folder, where)
    partial = path.with_name(f".{uuid.uuid4().hex}.npz")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(partial, first=first, labels=np.frombuffer(packed, "u1"))
        os.replace(partial, path)
    except OSError as error:
        raise explained(error, folder.parent) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def match(tile: Tile, *neighbours: Tile) -> list[np.ndarray]:
    """For each neighbour the pairs of labels, of objects that have pixels in the own core."""
    return [_matched(tile, other) for other in neighbours]


def _matched(tile: Tile, other: Tile) -> np.ndarray:
    if not (tile.n and other.n):
        return np.empty((0, 2), "i8")
    (a0, a1, b0, b1), (c0, c1, d0, d1) = tile.where.block, other.where.block
    rows, columns = slice(max(a0, c0), min(a1, c1)), slice(max(b0, d0), min(b1, d1))
    pairs = same_objects(tile.seen(rows, columns), other.seen(rows, columns), tile.n, other.n)
    return pairs[(tile.first[pairs[:, 0]] >= 0) & (other.first[pairs[:, 1]] >= 0)]


@dataclass(frozen=True)
class Numbers:
    """How many objects a plane has, and of each tile the number of each label, 0 for none."""

    n: int
    tables: tuple[np.ndarray, ...]


def number_objects(
    firsts: Sequence[np.ndarray], pairs: Sequence[tuple[int, int, np.ndarray]]
) -> Numbers:
    """Objects of a plane, numbered by their first pixels.

    Parameters
    ----------
    firsts
        Of each tile, positions in the plane (`Tile.firsts`).
    pairs
        Numbers of two tiles, and which of their labels are one object.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([0, *map(len, firsts)])
    first = np.concatenate([np.empty(0, "i8"), *firsts])
    edges = [np.empty((0, 2), "i8")]
    edges += [p + np.array([starts[one], starts[other]]) for one, other, p in pairs]
    one, other = np.concatenate(edges).T
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(first),) * 2)
    n, group = connected_components(graph, directed=False)
    held = first >= 0
    begins = np.full(n, np.iinfo("i8").max)
    np.minimum.at(begins, group[held], first[held])
    order = np.argsort(begins, kind="stable")
    count = int(np.count_nonzero(begins < np.iinfo("i8").max))
    rank = np.zeros(n, "i8")
    rank[order[:count]] = np.arange(1, count + 1)
    numbers = np.where(held, rank[group], 0)
    return Numbers(count, tuple(numbers[a:b] for a, b in itertools.pairwise(starts)))


def numbered(tile: Tile, table: np.ndarray, offset: int) -> np.ndarray:
    """Labels of the core of a tile, numbered from `offset` + 1 on."""
    if len(table) and offset + int(table.max()) > np.iinfo(DTYPE).max:
        raise SegmentationError(
            f"labels: more than {np.iinfo(DTYPE).max:,} objects, which {DTYPE} does not hold; "
            "segment parts of the image."
        )
    final = np.where(table > 0, table + offset, 0).astype(DTYPE)
    core = final[_core(tile.labels(), tile.where)]
    return core.reshape((1,) * len(tile.where.plane) + core.shape)


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
