"""Pixels by their place: drawn by a hash, inside of polygons, shared by two tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from gigaqc.base.backend import twin
from gigaqc.kernels import vectors


@twin(vectors.gathered)
def gathered(block: Any, at: tuple[np.ndarray, ...]) -> np.ndarray:
    """Values of a block at indices t, z, y, x."""
    return block[at]


@njit(nogil=True, cache=True, error_model="numpy")
def _mixed(x):
    """Splitmix64: each bit of the result depends on all bits of `x`."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True, error_model="numpy")
def _drawn(start, shape, salt, limit, out):
    n = 0
    step = np.uint64(0x9E3779B97F4A7C15)
    for t in range(shape[0]):
        at_t = _mixed(salt + step * np.uint64(start[0] + t + 1))
        for z in range(shape[1]):
            at_z = _mixed(at_t + step * np.uint64(start[1] + z + 1))
            for y in range(shape[2]):
                row = _mixed(at_z + step * np.uint64(start[2] + y + 1))
                for x in range(shape[3]):
                    if _mixed(row + step * np.uint64(start[3] + x + 1)) < limit:
                        if n < out.shape[1]:
                            out[0, n], out[1, n], out[2, n], out[3, n] = t, z, y, x
                        n += 1
    return n


def drawn_positions(
    start: tuple[int, int, int, int], shape: tuple[int, ...], fraction: float, salt: int = 0
) -> tuple[np.ndarray, ...]:
    """Indices t, z, y, x within a block of the pixels that are drawn.

    Each pixel of an image is drawn with probability `fraction`, by a hash of its place in the image
    and `salt`.

    Parameters
    ----------
    start
        Place in the image of the block's first pixel: t, z, y, x.
    shape
        Of the block: t, z, y, x.
    fraction
        0 to 1; 1 draws all.
    salt
        Other numbers draw other pixels.
    """
    if fraction >= 1:
        return tuple(index.reshape(-1) for index in np.indices(shape))
    limit = np.uint64(min(int(fraction * 2.0**64), 2**64 - 1))
    expected = fraction * float(np.prod(shape))
    room = int(expected + 8 * np.sqrt(expected) + 16)
    first, sizes = np.array(start, "i8"), np.array(shape, "i8")
    found = np.empty((4, room), "i8")
    n = _drawn(first, sizes, np.uint64(salt), limit, found)
    if n > room:
        found = np.empty((4, n), "i8")
        _drawn(first, sizes, np.uint64(salt), limit, found)
    return tuple(found[:, :n])


@njit(nogil=True, cache=True)
def fill_polygons(edges, starts, boxes, top, left, height, width):
    """Which pixels of a block have their centre in one of the polygons at least.

    Parameters
    ----------
    edges
        Float64 (n, 4): x1, y1, x2, y2 of each edge, y1 < y2, of all rings of all polygons; the
        centre of the pixel in row i, column j of the whole image is at x = j, y = i. Edges along a
        row are left out.
    starts
        Int64 (polygons + 1,): the edges of polygon p are ``starts[p]:starts[p + 1]``.
    boxes
        Float64 (polygons, 4): smallest x and y, largest x and y of each.
    top, left, height, width
        The block.

    Returns
    -------
    bool (height, width)
        Even-odd within a polygon, so that holes are holes; a centre on an edge belongs to the
        polygon to its right or below, so that polygons that touch share no pixel and lose none.
    """
    found = np.zeros((height, width), np.bool_)
    bottom, right = top + height, left + width
    for p in range(len(boxes)):
        first, last = _within(boxes[p, 1], boxes[p, 3], top, bottom)
        begin, end = _within(boxes[p, 0], boxes[p, 2], left, right)
        if first >= last or begin >= end:
            continue
        crossed = np.zeros((last - first, end - begin), np.uint8)
        for e in range(starts[p], starts[p + 1]):
            _cross(edges[e], first, last, begin, end, crossed)
        for i in range(last - first):
            inside = np.uint8(0)
            row, target = crossed[i], found[first - top + i]
            for j in range(end - begin):
                inside ^= row[j]
                if inside:
                    target[begin - left + j] = True
    return found


@njit(nogil=True, cache=True)
def _within(low, high, start, stop):
    """Whole numbers of start:stop from `low` up to, but not, `high`."""
    # As floats first: a coordinate may be larger than any integer.
    first = min(max(np.ceil(low), start), stop)
    last = min(max(np.ceil(high), start), stop)
    return int(first), int(last)


@njit(nogil=True, cache=True)
def _cross(edge, first, last, begin, end, crossed):
    """Note in each row the first column whose centre lies at an edge or to its right."""
    x1, y1, x2, y2 = edge[0], edge[1], edge[2], edge[3]
    low, high = min(x1, x2), max(x1, x2)
    slope = (x2 - x1) / (y2 - y1)
    above, below = _within(y1, y2, first, last)
    for i in range(above, below):
        # Rounding must not carry a crossing beyond the ends of its edge.
        at = min(max(x1 + (i - y1) * slope, low), high)
        if at <= end - 1:
            j = max(np.ceil(at), begin)
            crossed[i - first, int(j) - begin] ^= np.uint8(1)


_DENSE = 4  # ids per pixel up to which a table of all ids is cheaper than sorting them


def number_labels(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int32], int]:
    """The same objects as 1..n, in the order of their first pixels; and n.

    Parameters
    ----------
    labels
        Integers from 0, dims y x; 0 is background. Ids may be sparse.
    """
    if labels.size == 0 or int(labels.max()) == 0:
        return np.zeros(labels.shape, np.int32), 0
    if int(labels.max()) > _DENSE * labels.size:
        ids, places = np.unique(labels, return_inverse=True)
        labels = places.reshape(labels.shape) + (0 if ids[0] == 0 else 1)
    numbers = np.zeros(int(labels.max()) + 1, np.int32)
    # Writeable as well: numba would compile once more for an array that is not.
    given = np.require(labels, np.int64, ["C", "W"])
    numbered = np.empty(labels.shape, np.int32)
    return numbered, int(_number(given, numbers, numbered))


def first_pixels(labels: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.int64]:
    """Position of the first pixel of labels 0..n in row-major order; -1 where there is none."""
    first = np.full(n + 1, -1, np.int64)
    _find_first(np.require(labels, np.int32, ["C", "W"]), first)
    return first


def same_objects(
    one: npt.NDArray[Any], other: npt.NDArray[Any], n_one: int, n_other: int
) -> npt.NDArray[np.int64]:
    """Pairs of labels that show the same object, of two label images of the same pixels.

    They do where they share more than half of the pixels of the smaller of the two.

    Returns
    -------
    numpy.ndarray
        (pairs, 2), ascending.
    """
    both = (one > 0) & (other > 0)
    keys = one[both].astype(np.int64) * (n_other + 1) + other[both]
    pairs, shared = np.unique(keys, return_counts=True)
    first, second = np.divmod(pairs, n_other + 1)
    size_one = np.bincount(one.ravel(), minlength=n_one + 1)
    size_other = np.bincount(other.ravel(), minlength=n_other + 1)
    same = 2 * shared > np.minimum(size_one[first], size_other[second])
    return np.stack([first[same], second[same]], axis=1)


@njit(nogil=True, cache=True)
def _number(labels, numbers, numbered):
    n = 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label > 0 and numbers[label] == 0:
                n += 1
                numbers[label] = n
            numbered[y, x] = numbers[label]
    return n


@njit(nogil=True, cache=True)
def _find_first(labels, first):
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label > 0 and first[label] < 0:
                first[label] = y * labels.shape[1] + x
