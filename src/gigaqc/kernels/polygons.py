"""Pixels whose centres lie in polygons."""

from __future__ import annotations

import numpy as np
from numba import njit


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
