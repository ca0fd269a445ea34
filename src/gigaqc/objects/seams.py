"""Where blocks meet: how many pieces and holes an object has over all of them.

A block knows the pieces and holes of its own pixels. Along its sides it keeps, for each pixel, the
label and the piece. Between two blocks only pixels on both sides of the seam matter: a pair of
neighbours of one label joins pieces, and Euler's formula counts holes: each pair and each diagonal
closes a ring unless it joins what was apart, and each square of four pixels fills one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gigaqc.backend import to_host
from gigaqc.kernels import objects as kernels
from gigaqc.objects.blocks import BlockRuns
from gigaqc.objectsums import Rows
from gigaqc.observe.blocks import Place

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
