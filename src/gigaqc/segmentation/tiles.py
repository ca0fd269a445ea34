"""What is kept of a segmented tile, and how the objects of many tiles become one numbering.

A tile is a core and an overlap around it. Each pixel has the label that the tile gives it in whose
core it lies. Two labels of neighbouring tiles are one object if they share more than half of the
smaller one's pixels where both tiles look; so an object that crosses a seam is one, and what one
tile sees of the core of another makes nothing of its own.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gigaqc.errors import SegmentationError
from gigaqc.graph.scratch import explained
from gigaqc.grid import Halo
from gigaqc.kernels.stitching import first_pixels, number_labels, same_objects

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
