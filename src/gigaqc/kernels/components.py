"""Connected components (4-connectivity) across blocks, by union-find on the seams.

A block is labelled on its own. What is kept of it are totals over the components that cannot grow
any more, and for the others their areas and where they meet the block's edges. Two neighbours merge
into what the larger rectangle alone would have given, to the bit, so any tree may join a grid and
memory follows the seams, not the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from gigaqc.errors import ParameterError

_Int32Line = npt.NDArray[np.int32]
_ALL_OPEN = (True, True, True, True)
_NO_LINE = np.zeros(0, np.int32)


@dataclass(frozen=True, eq=False)
class BlockComponents:
    """The components of a rectangle of the mask, as far as the rectangle knows them.

    Attributes
    ----------
    shape
        Rows and columns of the rectangle.
    open_sides
        Top, bottom, left, right: whether the mask goes on there.
    min_size
        Components of fewer pixels are not counted.
    area_total
        Foreground pixels, of components of any size.
    closed_count, closed_area, closed_largest
        Number, pixels and largest area of the counted components that reach no open side.
    open_areas
        int64; pixels, inside the rectangle, of each component that reaches an open side.
    top, bottom, left, right
        int32; along each open side the component of each edge pixel, 0 for background and k for
        ``open_areas[k - 1]``, numbered as they first occur in this order of sides. Of length 0
        where the side is not open.
    """

    shape: tuple[int, int]
    open_sides: tuple[bool, bool, bool, bool]
    min_size: int
    area_total: int
    closed_count: int
    closed_area: int
    closed_largest: int
    open_areas: npt.NDArray[np.int64]
    top: _Int32Line
    bottom: _Int32Line
    left: _Int32Line
    right: _Int32Line

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        lines = (self.open_areas, self.top, self.bottom, self.left, self.right)
        return sum(line.nbytes for line in lines)


@dataclass(frozen=True)
class Components:
    """Totals over the 4-connected components of a whole mask.

    Attributes
    ----------
    area_total
        Foreground pixels, of components of any size.
    n_components, area_counted, largest
        Number, pixels and largest area of the components of at least `min_size` pixels.
    """

    area_total: int
    n_components: int
    area_counted: int
    largest: int


def label_block(
    mask: npt.NDArray[np.uint8] | npt.NDArray[np.bool_],
    min_size: int = 1,
    open_sides: tuple[bool, bool, bool, bool] = _ALL_OPEN,
) -> BlockComponents:
    """Label the 4-connected components of one block and keep what its neighbours need.

    Parameters
    ----------
    mask
        uint8 or bool, dims y x; not 0 is foreground.
    min_size
        Components of fewer pixels are not counted (their pixels are, in `area_total`).
    open_sides
        Top, bottom, left, right: True where a neighbouring block exists. Components that reach
        only the border of the image are complete at once.

    Raises
    ------
    ParameterError
        When `mask` is not 2-D uint8 or bool, or `min_size` is below 1.
    """
    if mask.ndim != 2 or mask.dtype not in (np.uint8, np.bool_):
        raise ParameterError(
            f"mask: dtype {mask.dtype} and shape {mask.shape}; pass bool or uint8 with dims y x."
        )
    if min_size < 1:
        raise ParameterError(f"min_size: {min_size}; pass 1 or more pixels.")
    # Writeable as well: numba would compile once more for an array that is not.
    pixels = np.require(mask, requirements=["C", "W"]).view(np.uint8)
    parent, areas, *edges = _label(pixels)
    top, bottom, left, right = (
        edge if is_open else _NO_LINE for edge, is_open in zip(edges, open_sides, strict=True)
    )
    area_total = int(areas.sum())
    (count, area, largest), open_areas = _resolve(parent, areas, top, bottom, left, right, min_size)
    return BlockComponents(
        shape=(pixels.shape[0], pixels.shape[1]),
        open_sides=open_sides,
        min_size=min_size,
        area_total=area_total,
        closed_count=count,
        closed_area=area,
        closed_largest=largest,
        open_areas=open_areas,
        top=top,
        bottom=bottom,
        left=left,
        right=right,
    )


def merge(first: BlockComponents, second: BlockComponents, axis: int) -> BlockComponents:
    """Join two neighbours: `second` lies below (axis 0) or to the right (axis 1) of `first`.

    Equal to `label_block` of both together, so merging is associative; a rectangle without extent
    along `axis` changes nothing.

    Raises
    ------
    ParameterError
        When the two do not share a whole open edge, or their `min_size` differs.
    """
    _check_neighbours(first, second, axis)
    if first.shape[axis] == 0:
        return second
    if second.shape[axis] == 0:
        return first
    offset = len(first.open_areas)
    parent, areas = _two_forests(first.open_areas, second.open_areas)
    if axis == 0:
        _unite_seam(parent, first.bottom, second.top, offset)
        lines = (
            first.top.copy(),
            _beside(_NO_LINE, second.bottom, offset),
            _beside(first.left, second.left, offset),
            _beside(first.right, second.right, offset),
        )
        open_sides = (first.open_sides[0], second.open_sides[1], *first.open_sides[2:])
        shape = (first.shape[0] + second.shape[0], first.shape[1])
    else:
        _unite_seam(parent, first.right, second.left, offset)
        lines = (
            _beside(first.top, second.top, offset),
            _beside(first.bottom, second.bottom, offset),
            first.left.copy(),
            _beside(_NO_LINE, second.right, offset),
        )
        open_sides = (*first.open_sides[:3], second.open_sides[3])
        shape = (first.shape[0], first.shape[1] + second.shape[1])
    (count, area, largest), open_areas = _resolve(parent, areas, *lines, first.min_size)
    return BlockComponents(
        shape,
        open_sides,
        first.min_size,
        first.area_total + second.area_total,
        first.closed_count + second.closed_count + count,
        first.closed_area + second.closed_area + area,
        max(first.closed_largest, second.closed_largest, largest),
        open_areas,
        *lines,
    )


def merge_line(blocks: Sequence[BlockComponents], axis: int) -> BlockComponents:
    """Join neighbours in order along `axis`, by a balanced tree so that no edge is copied often."""
    level = list(blocks)
    if not level:
        raise ParameterError("blocks: none were given; pass at least one block.")
    while len(level) > 1:
        pairs = [merge(a, b, axis) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]
    return level[0]


def join(blocks: Sequence[Sequence[BlockComponents]]) -> Components:
    """Totals over a whole mask, from its blocks by row and column."""
    return finish(merge_line([merge_line(row, axis=1) for row in blocks], axis=0))


def finish(whole: BlockComponents) -> Components:
    """Totals over a mask that ends at every side of `whole`."""
    counted = whole.open_areas[whole.open_areas >= whole.min_size]
    return Components(
        area_total=whole.area_total,
        n_components=whole.closed_count + len(counted),
        area_counted=whole.closed_area + int(counted.sum()),
        largest=max(whole.closed_largest, int(np.max(counted, initial=0))),
    )


def _check_neighbours(first: BlockComponents, second: BlockComponents, axis: int) -> None:
    if first.min_size != second.min_size:
        raise ParameterError(
            f"min_size: {first.min_size} and {second.min_size} cannot be merged; label every "
            "block with the same."
        )
    across = 1 - axis
    if first.shape[across] != second.shape[across]:
        raise ParameterError(
            f"blocks: shapes {first.shape} and {second.shape} are no neighbours along axis {axis}; "
            "pass blocks of one grid."
        )
    if 0 in (first.shape[axis], second.shape[axis]):
        return
    sides = slice(2, 4) if axis == 0 else slice(0, 2)
    meets = first.open_sides[1 if axis == 0 else 3] and second.open_sides[0 if axis == 0 else 2]
    if not meets or first.open_sides[sides] != second.open_sides[sides]:
        raise ParameterError(
            f"open_sides: {first.open_sides} and {second.open_sides} are no neighbours along axis "
            f"{axis}; a side is open where a neighbouring block exists."
        )


@njit(nogil=True, cache=True)
def find_root(parent, i):
    """Root of the tree of i; the path to it is halved on the way."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(nogil=True, cache=True)
def _unite(parent, a, b):
    """Join two roots; the smaller leads, so that a parent never follows its child."""
    if a < b:
        parent[b] = a
        return a
    parent[a] = b
    return b


@njit(nogil=True, cache=True)
def _mark_changes(row, change):
    """Write where the foreground starts or ends; `change` has room for the end at the border."""
    n = row.shape[0]
    change[0] = row[0] != 0
    left = row[: n - 1]
    right = row[1:]
    inner = change[1:n]
    for x in range(n - 1):
        inner[x] = (left[x] != 0) ^ (right[x] != 0)
    change[n] = row[n - 1] != 0


@njit(nogil=True, cache=True)
def _runs(row, change, words, bounds):
    """Write the starts and ends (exclusive) of the runs of a row in turn; count the runs."""
    _mark_changes(row, change)
    k = 0
    for i in range(words.shape[0]):
        if words[i] != 0:
            # Storing always and moving on only at a change avoids a branch that noise defeats.
            for x in range(8 * i, 8 * i + 8):
                bounds[k] = x
                k += change[x]
    return k // 2


@njit(nogil=True, cache=True)
def _connect_row(bounds, n, labels, above, n_above, labels_above, parent, areas, used):
    """Give each run of a row the component of the runs that it touches above, or a new one."""
    q = 0
    for r in range(n):
        start = bounds[2 * r]
        end = bounds[2 * r + 1]
        while q < n_above and above[2 * q + 1] <= start:
            q += 1
        label = 0
        while q < n_above and above[2 * q] < end:
            root = find_root(parent, labels_above[q])
            if label == 0:
                label = root
            elif root != label:
                label = _unite(parent, root, label)
            if above[2 * q + 1] > end:
                break  # it may touch the next run too
            q += 1
        if label == 0:
            label = used
            parent[label] = label
            areas[label] = 0
            used += 1
        labels[r] = label
        areas[label] += end - start
    return used


@njit(nogil=True, cache=True)
def _paint(line, bounds, n, labels):
    for r in range(n):
        for x in range(bounds[2 * r], bounds[2 * r + 1]):
            line[x] = labels[r]


@njit(nogil=True, cache=True)
def _label(mask):
    """Union-find over row runs: parents and areas by label, and the labels along the four edges."""
    height, width = mask.shape
    top = np.zeros(width, np.int32)
    bottom = np.zeros(width, np.int32)
    left = np.zeros(height, np.int32)
    right = np.zeros(height, np.int32)
    most = (width + 1) // 2
    words = np.zeros(width // 8 + 1, np.uint64)
    change = words.view(np.uint8)
    bounds = np.empty((2, width + 9), np.int32)
    labels = np.empty((2, most + 1), np.int32)
    # Room for a checkerboard; pages that no label reaches are never touched, so cost no memory.
    parent = np.empty(height * most + 1, np.int32)
    areas = np.empty(height * most + 1, np.int64)
    parent[0] = 0  # the background
    areas[0] = 0
    used = 1
    n_above = 0
    n = 0
    for y in range(height if width > 0 else 0):
        here = y % 2
        n = _runs(mask[y], change, words, bounds[here])
        used = _connect_row(
            bounds[here], n, labels[here], bounds[1 - here], n_above, labels[1 - here],
            parent, areas, used,
        )  # fmt: skip
        if n > 0 and bounds[here, 0] == 0:
            left[y] = labels[here, 0]
        if n > 0 and bounds[here, 2 * n - 1] == width:
            right[y] = labels[here, n - 1]
        if y == 0:
            _paint(top, bounds[0], n, labels[0])
        n_above = n
    last = (height - 1) % 2
    _paint(bottom, bounds[last], n, labels[last])
    return parent[:used], areas[:used], top, bottom, left, right


@njit(nogil=True, cache=True)
def _two_forests(first, second):
    """Each component its own root, those of `first` before those of `second`; 0 is background."""
    n = first.shape[0]
    total = n + second.shape[0] + 1
    parent = np.empty(total, np.int32)
    areas = np.zeros(total, np.int64)
    for i in range(total):
        parent[i] = i
    for i in range(n):
        areas[1 + i] = first[i]
    for i in range(second.shape[0]):
        areas[1 + n + i] = second[i]
    return parent, areas


@njit(nogil=True, cache=True)
def _unite_seam(parent, first, second, offset):
    for i in range(first.shape[0]):
        if first[i] != 0 and second[i] != 0:
            a = find_root(parent, first[i])
            b = find_root(parent, second[i] + offset)
            if a != b:
                _unite(parent, a, b)


@njit(nogil=True, cache=True)
def _beside(first, second, offset):
    """Two edge lines in a row, the components of the second renumbered from `offset`."""
    n = first.shape[0]
    line = np.empty(n + second.shape[0], np.int32)
    for i in range(n):
        line[i] = first[i]
    for i in range(second.shape[0]):
        line[n + i] = second[i] + offset if second[i] != 0 else 0
    return line


@njit(nogil=True, cache=True)
def _resolve(parent, areas, top, bottom, left, right, min_size):
    """Number in place what reaches an open side; give totals of the rest and areas of these."""
    n = parent.shape[0]
    for i in range(1, n):
        root = parent[parent[i]]  # a parent comes first, so it already points to its root
        parent[i] = root
        if root != i:
            areas[root] += areas[i]
    ids = np.zeros(n, np.int32)
    most = top.shape[0] + bottom.shape[0] + left.shape[0] + right.shape[0]
    open_areas = np.empty(min(n, most), np.int64)
    k = 0
    for line in (top, bottom, left, right):
        for i in range(line.shape[0]):
            root = parent[line[i]]
            if root != 0:
                if ids[root] == 0:
                    open_areas[k] = areas[root]
                    k += 1
                    ids[root] = k
                line[i] = ids[root]
    count = 0
    area = 0
    largest = 0
    for i in range(1, n):
        if parent[i] == i and ids[i] == 0 and areas[i] >= min_size:
            count += 1
            area += areas[i]
            largest = max(largest, areas[i])
    return (count, area, largest), open_areas[:k].copy()
