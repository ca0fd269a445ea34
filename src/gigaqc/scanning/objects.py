"""Sums over the objects of a label image: of blocks, as a state, and at seams."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gigaqc.base.backend import contiguous, of_place, to_host
from gigaqc.errors import ImageError
from gigaqc.kernels import object_planes
from gigaqc.kernels import objects as kernels
from gigaqc.statistics.blocks import Channels, Place, to_codes
from gigaqc.statistics.distribution import bias_of, layout_of
from gigaqc.statistics.object_sums import Rows, merged


@dataclass(frozen=True)
class BlockRuns:
    """The runs of a block (rows, width) and the slot of each; see `kernels.objects`.

    `where` tells kernels which pixels are whose: runs and slots, or `Members` on a device.
    """

    bounds: np.ndarray
    first: np.ndarray
    slots: np.ndarray
    distinct: np.ndarray
    pieces: np.ndarray
    parent: np.ndarray
    height: int
    width: int
    where: tuple[Any, ...]

    @classmethod
    def of(cls, block: np.ndarray, place: Place, reach: int) -> BlockRuns:
        """Those of a (t, z, y, x) block; `reach` 1 joins pieces diagonally too."""
        height, width = block.shape[-2:]
        own = of_place(block, kernels, object_planes)
        bounds, ids, first = own.find_runs(own.unsigned(block).reshape(-1, width))
        if block.dtype.kind == "i":
            _refuse_negative(block, ids, place)
        placed = kernels.place_runs(bounds, ids, first, height, reach)
        slots, distinct, pieces, parent = placed
        where = own.members(block, bounds, first, slots, len(distinct))
        return cls(bounds, first, slots, distinct, pieces, parent, height, width, where)

    def rows(self, channels: Iterable[np.ndarray], count: int, place: Place) -> Rows:
        """Sums over the objects, with intensities of `count` channels."""
        n = len(self.distinct)
        counts, box, sums = kernels.sum_shapes(self.bounds, self.first, self.slots, self.height, n)
        box += np.array([place.z, place.y, place.x] * 2)
        values = np.empty((n, count, kernels.N_VALUES))
        for c, channel in enumerate(channels):
            values[:, c] = self._values(channel.reshape(-1, self.width), counts)
        order = np.argsort(self.distinct)
        return Rows(
            self.distinct[order], counts[order], box[order], sums[order].astype("f8"),
            values[order], self.pieces[order],
        )  # fmt: skip

    def _values(self, pixels: np.ndarray, counts: np.ndarray) -> np.ndarray:
        sums = of_place(pixels, kernels, object_planes)
        layout = layout_of(pixels.dtype)
        if layout is not None:
            return sums.sum_floats(contiguous(pixels, layout.float_type), *self.where)
        total, squares, low, high = sums.sum_codes(to_codes(pixels), *self.where).T
        # About the nearest integer to the mean all terms are exact, whatever wraps around between.
        middle = (2 * total + counts) // (2 * counts)
        rest = total - counts * middle
        m2 = squares - 2 * middle * total + counts * middle * middle - rest * (rest / counts)
        mean = middle + rest / counts
        bias = bias_of(pixels.dtype)
        return np.stack([counts, mean + bias, m2, low + bias, high + bias], axis=1)


def _refuse_negative(block: np.ndarray, ids: np.ndarray, place: Place) -> None:
    bits = 8 * block.dtype.itemsize
    negative = ids >= np.uint64(1 << (bits - 1))
    if not negative.any():
        return
    found = int(ids[negative][0]) - (1 << bits)
    _, z, y, x = np.argwhere(to_host(block) == found)[0]
    raise ImageError(
        f"labels: negative id {found} at z {place.z + z}, y {place.y + y}, x {place.x + x}; ids "
        "are positive and 0 is background: pass labels.clip(min=0), or renumber them."
    )


_PARTS = 1024  # that wait to be added at once: adding two by two would copy rows again and again
SPILLED_ROWS = 1 << 16  # rows that go to a file together


@dataclass(frozen=True)
class ObjectRequest:
    """What to observe of each block.

    `channels` intensities; pieces joined diagonally too where `reach` is 1; rows beyond
    `SPILLED_ROWS` kept in files below `folder` unless it is None. Pieces are counted in one plane.
    """

    channels: int
    reach: int
    planar: bool
    folder: str | None

    @classmethod
    def of(
        cls,
        labels: xr.DataArray,
        image: xr.DataArray | None,
        connectivity: int = 8,
        folder: Path | None = None,
    ) -> ObjectRequest:
        """That for labels and the image they lie on."""
        return cls(
            channels=0 if image is None else image.sizes["c"],
            reach=int(connectivity == 8),
            planar=labels.sizes.get("z", 1) == 1,
            folder=None if folder is None else str(folder),
        )


@dataclass(frozen=True)
class Objects:
    """Objects of a part of an image."""

    request: ObjectRequest
    parts: tuple[Rows, ...]
    edges: tuple[BlockEdges, ...] = ()
    runs: tuple[str, ...] = ()

    def merge(self, other: Objects) -> Objects:
        """Of both parts; rows are added once many wait."""
        both = replace(
            self,
            parts=self.parts + other.parts,
            edges=self.edges + other.edges,
            runs=self.runs + other.runs,
        )
        if self.request.folder is not None:
            return both.spilled() if both.waiting > SPILLED_ROWS else both
        return replace(both, parts=(merged(both.parts),)) if len(both.parts) > _PARTS else both

    @property
    def waiting(self) -> int:
        """Rows in memory."""
        return sum(map(len, self.parts))

    def spilled(self) -> Objects:
        """The same with its rows in a file."""
        if not self.waiting or self.request.folder is None:
            return self
        run = Path(self.request.folder) / uuid.uuid4().hex
        run.mkdir()
        for name, column in merged(self.parts).columns().items():
            np.save(run / f"{name}.npy", column)
        return replace(
            self, parts=(Rows.empty(self.request.channels),), runs=(*self.runs, str(run))
        )

    def rows(self) -> Rows:
        """One row an object, of the whole image."""
        rows = merged(self.parts)
        return with_seams(rows, self.edges, self.request.reach) if self.request.planar else rows


def observe(
    channels: Iterable[np.ndarray], masks: Channels | None, place: Place, request: ObjectRequest
) -> Objects:
    """What a task does: labels come as the mask of an image, or as the only channel."""
    images: Iterable[np.ndarray] = ()
    if masks is None:
        (block,) = channels
    else:
        block, images = masks[0], channels
    runs = BlockRuns.of(block, place, request.reach)
    rows = runs.rows(images, request.channels, place)
    edges = (BlockEdges.of(block, runs, place),) if request.planar else ()
    return Objects(request, (rows,), edges)


def read_run(run: str) -> Rows:
    """The rows of a file, which are read where they are touched."""
    names = Rows.empty(0).columns()
    columns: dict[str, Any] = {n: np.load(Path(run) / f"{n}.npy", mmap_mode="r") for n in names}
    return Rows(**columns)


_SIDES = ("top", "bottom", "left", "right")


@dataclass(frozen=True)
class BlockEdges:
    """Labels and pieces along the sides of a block that have a neighbour, by the side's name.

    Pieces are 1..`n_pieces`, of those only that reach such a side; 0 is background.
    """

    y: int
    x: int
    labels: dict[str, np.ndarray]
    pieces: dict[str, np.ndarray]
    n_pieces: int

    @classmethod
    def of(cls, block: np.ndarray, runs: BlockRuns, place: Place) -> BlockEdges:
        """Those of a (1, 1, y, x) block."""
        plane = block[0, 0]
        sides = (plane[0], plane[-1], plane[:, 0], plane[:, -1])
        lines = {s: kernels.unsigned(to_host(line)) for s, line in zip(_SIDES, sides, strict=True)}
        found = kernels.edge_pieces(runs.bounds, runs.first, runs.parent, runs.width)
        roots = dict(zip(_SIDES, found, strict=True))
        open_sides = [side for side in _SIDES if getattr(place, side)]
        used = np.unique(np.concatenate([[0], *(roots[s] for s in open_sides)]))
        return cls(
            place.y,
            place.x,
            {s: lines[s].astype("u8") for s in open_sides},
            {s: np.searchsorted(used, roots[s]).astype("i4") for s in open_sides},
            len(used) - 1,
        )


@dataclass(frozen=True)
class _Line:
    """Both sides of a seam from end to end: labels and pieces, (2, pixels)."""

    labels: np.ndarray
    pieces: np.ndarray
    corners: np.ndarray  # windows of two pixels along the seam that another seam counts

    @classmethod
    def of(
        cls, first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
    ) -> _Line:
        """Labels and pieces of one side, and of the other."""
        labels, pieces = (np.stack(pair) for pair in zip(first, second, strict=True))
        return cls(labels, pieces.astype("i4"), np.zeros(labels.shape[1] - 1, bool))


@dataclass(frozen=True)
class _Touches:
    """Labels that meet across a seam, the pieces on both sides, and the rings that each closes."""

    labels: np.ndarray
    pieces: tuple[np.ndarray, np.ndarray] | None
    rings: int


def with_seams(rows: Rows, edges: Sequence[BlockEdges], reach: int) -> Rows:
    """Rows whose pieces and holes are those of whole objects."""
    labels, change = seam_changes(edges, reach)
    at = np.searchsorted(rows.labels, labels)
    pieces = rows.pieces.copy()
    pieces[at] += change
    return Rows(**{**rows.columns(), "pieces": pieces})


def seam_changes(edges: Sequence[BlockEdges], reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels that seams cut, ascending, and what seams add to their pieces and holes, (n, 2)."""
    lines, n_pieces = _lines(edges)
    parent = np.arange(n_pieces + 1, dtype="i4")
    keys, changes = [np.zeros(0, "u8")], [np.zeros((0, 2), "i8")]
    for line in lines:
        for touch in _touches(line, reach):
            joins = np.zeros(len(touch.labels), "i8")
            if touch.pieces is not None:
                joins += kernels.unite_pairs(parent, *touch.pieces)
            keys.append(touch.labels)
            changes.append(np.stack([-joins, touch.rings - joins], axis=1))
    found, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.zeros((len(found), 2), "i8")
    np.add.at(total, inverse, np.concatenate(changes))
    return found, total


def _touches(line: _Line, reach: int) -> Iterator[_Touches]:
    """Where labels meet across a seam."""
    (a, b), (p, q) = line.labels, line.pieces
    pair = (a == b) & (a != 0)
    yield _Touches(a[pair], (p[pair], q[pair]), 1)
    windows = ~line.corners
    square = pair[1:] & pair[:-1] & (a[1:] == a[:-1]) & windows
    yield _Touches(a[1:][square], None, -1)
    if reach:
        for near, far, own, other in ((a, b, p, q), (b, a, q, p)):
            # a diagonal counts where neither of the other two pixels is of the label
            label = near[:-1]
            diagonal = (label == far[1:]) & (label != 0) & (near[1:] != label)
            diagonal &= (far[:-1] != label) & windows
            yield _Touches(label[diagonal], (own[:-1][diagonal], other[1:][diagonal]), 1)


def _lines(edges: Sequence[BlockEdges]) -> tuple[list[_Line], int]:
    """All seams, and how many pieces the blocks have along them."""
    ys, xs = sorted({e.y for e in edges}), sorted({e.x for e in edges})
    starts = np.cumsum([0, *(e.n_pieces for e in edges)])
    at = {(e.y, e.x): (e, start) for e, start in zip(edges, starts[:-1].tolist(), strict=True)}

    def side(places: Iterable[tuple[int, int]], name: str) -> tuple[np.ndarray, np.ndarray]:
        blocks = [at[place] for place in places]
        pieces = [np.where(e.pieces[name], e.pieces[name] + start, 0) for e, start in blocks]
        return np.concatenate([e.labels[name] for e, _ in blocks]), np.concatenate(pieces)

    lines = []
    for left, right in itertools.pairwise(xs):
        first = side(((y, left) for y in ys), "right")
        lines.append(_Line.of(first, side(((y, right) for y in ys), "left")))
        lines[-1].corners[[y - ys[0] - 1 for y in ys[1:]]] = True
    for top, bottom in itertools.pairwise(ys):
        first = side(((top, x) for x in xs), "bottom")
        lines.append(_Line.of(first, side(((bottom, x) for x in xs), "top")))
    return lines, int(starts[-1])
