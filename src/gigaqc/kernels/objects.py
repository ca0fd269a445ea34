"""Objects of a label image: runs of equal labels, and sums over them.

A block is (rows, width): its planes one below the other, `height` rows each. A run is a stretch of
one label within a row. Geometry follows from the ends of the runs, intensities from the pixels
between them, so the background costs one comparison a pixel. Labels may be any integers: a run has
a slot, and slots are given out as labels occur. All sums of a block are exact integers, but those
of floats, which are (n, mean, M2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from gigaqc.kernels.components import find_root

N_SUMS = 9
"""Sums of z, y, x, zz, yy, xx, zy, zx, yx."""

N_VALUES = 5
"""Of one channel: n, mean, M2, min, max."""


def unsigned(block: np.ndarray) -> np.ndarray:
    """A block of labels as native unsigned integers of the same bits."""
    native = np.ascontiguousarray(block, block.dtype.newbyteorder("="))
    return native.view(f"u{native.dtype.itemsize}")


def members(block: np.ndarray, *runs: Any) -> tuple[Any, ...]:
    """What tells kernels which pixels of a block are whose: bounds, first, slots, how many."""
    return runs


@njit(nogil=True, cache=True)
def _count_runs(labels):
    total = np.int64(0)
    for y in range(labels.shape[0]):
        row = labels[y]
        left = row[: row.shape[0] - 1]
        right = row[1:]
        n = np.int32(row[0] != 0)
        for x in range(right.shape[0]):
            n += np.int32((right[x] != left[x]) & (right[x] != 0))
        total += n
    return total


@njit(nogil=True, cache=True)
def find_runs(labels):
    """The runs of a (rows, width) block of unsigned labels, row by row.

    Returns
    -------
    bounds
        int32 (n, 2): first column, and the column after the last.
    ids
        uint64 (n,).
    first
        int64 (rows + 1,): the first run of each row, and how many there are.
    """
    rows, width = labels.shape
    n = _count_runs(labels)
    bounds = np.empty((n, 2), np.int32)
    ids = np.empty(n, np.uint64)
    first = np.empty(rows + 1, np.int64)
    k = 0
    for y in range(rows):
        first[y] = k
        row = labels[y]
        current = row[0]
        start = 0
        for x in range(1, width):
            label = row[x]
            if label != current:
                if current != 0:
                    bounds[k, 0] = start
                    bounds[k, 1] = x
                    ids[k] = current
                    k += 1
                current = label
                start = x
        if current != 0:
            bounds[k, 0] = start
            bounds[k, 1] = width
            ids[k] = current
            k += 1
    first[rows] = k
    return bounds, ids, first


@njit(nogil=True, cache=True)
def _unite(parent, i, j):
    """Join two trees; False where they were one."""
    a = find_root(parent, i)
    b = find_root(parent, j)
    if a < b:
        parent[b] = a
    elif b < a:
        parent[a] = b
    return a != b


@njit(nogil=True, cache=True)
def _slot_of(label, heads, table, distinct, used):
    """The slot of a label, by open addressing; a new one where it has none."""
    mask = np.uint64(heads.shape[0] - 1)
    place = ((label * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & mask
    while heads[place] != 0:
        if heads[place] == label:
            return table[place], used
        place = (place + np.uint64(1)) & mask
    heads[place] = label
    table[place] = used
    distinct[used] = label
    return used, used + 1


@njit(nogil=True, cache=True)
def place_runs(bounds, ids, first, height, reach):
    """Give each run the slot of its label, and join runs that touch into pieces.

    Runs of one label in neighbouring rows of a plane touch where they share a column; with `reach`
    1 also diagonally. Pieces are runs less joins, and holes are the touches that join nothing new:
    by Euler's formula each of them closes a ring.

    Returns
    -------
    slots
        int32 (n,).
    distinct
        uint64: the label of each slot, in order of occurrence.
    pieces
        int64 (slots, 2): pieces and holes of each label.
    parent
        int32 (n,): for each run one of its piece, and itself for one of them.
    """
    n = ids.shape[0]
    size = 16
    while size < 2 * n:
        size *= 2
    heads = np.zeros(size, np.uint64)
    table = np.empty(size, np.int32)
    distinct = np.empty(n, np.uint64)
    slots = np.empty(n, np.int32)
    parent = np.empty(n, np.int32)
    pieces = np.zeros((n, 2), np.int64)
    used = 0
    for y in range(first.shape[0] - 1):
        q = first[y - 1] if y % height != 0 else first[y]
        end = first[y]
        for r in range(first[y], first[y + 1]):
            parent[r] = r
            start = bounds[r, 0]
            stop = bounds[r, 1]
            label = ids[r]
            while q < end and bounds[q, 1] + reach <= start:
                q += 1
            slot = -1
            links = 0
            joins = 0
            k = q
            while k < end and bounds[k, 0] < stop + reach:
                if ids[k] == label:
                    slot = slots[k]
                    links += 1
                    joins += _unite(parent, k, r)
                k += 1
            if slot < 0:
                slot, used = _slot_of(label, heads, table, distinct, used)
            slots[r] = slot
            pieces[slot, 0] += 1 - joins
            pieces[slot, 1] += links - joins
    return slots, distinct[:used].copy(), pieces[:used].copy(), parent


@njit(nogil=True, cache=True)
def edge_pieces(bounds, first, parent, width):
    """The piece of each pixel along top, bottom, left and right of one plane: 0, or 1 + its run."""
    height = first.shape[0] - 1
    top = np.zeros(width, np.int32)
    bottom = np.zeros(width, np.int32)
    left = np.zeros(height, np.int32)
    right = np.zeros(height, np.int32)
    for y in range(height):
        for r in range(first[y], first[y + 1]):
            inside = 0 < y < height - 1 and bounds[r, 0] > 0 and bounds[r, 1] < width
            if inside:
                continue
            piece = find_root(parent, r) + 1
            if y == 0:
                top[bounds[r, 0] : bounds[r, 1]] = piece
            if y == height - 1:
                bottom[bounds[r, 0] : bounds[r, 1]] = piece
            if bounds[r, 0] == 0:
                left[y] = piece
            if bounds[r, 1] == width:
                right[y] = piece
    return top, bottom, left, right


@njit(nogil=True, cache=True)
def _squares_below(k):
    return (k - 1) * k * (2 * k - 1) // 6


@njit(nogil=True, cache=True)
def sum_shapes(bounds, first, slots, height, n):
    """Pixels, bounding box and moments of each slot, about the corner of its box.

    Returns
    -------
    counts
        int64 (n,).
    box
        int64 (n, 6): smallest z, y, x, and one more than the largest.
    sums
        int64 (n, 9), see `N_SUMS`.
    """
    counts = np.zeros(n, np.int64)
    box = np.empty((n, 6), np.int64)
    box[:, :3] = np.iinfo(np.int64).max
    box[:, 3:] = -1
    sums = np.zeros((n, N_SUMS), np.int64)
    for row in range(first.shape[0] - 1):
        z = row // height
        y = row % height
        for r in range(first[row], first[row + 1]):
            s = slots[r]
            a = np.int64(bounds[r, 0])
            b = np.int64(bounds[r, 1])
            m = b - a
            x = m * (a + b - 1) // 2
            counts[s] += m
            own = box[s]
            own[0] = min(own[0], z)
            own[1] = min(own[1], y)
            own[2] = min(own[2], a)
            own[3] = max(own[3], z + 1)
            own[4] = max(own[4], y + 1)
            own[5] = max(own[5], b)
            total = sums[s]
            total[0] += m * z
            total[1] += m * y
            total[2] += x
            total[3] += m * z * z
            total[4] += m * y * y
            total[5] += _squares_below(b) - _squares_below(a)
            total[6] += m * z * y
            total[7] += x * z
            total[8] += x * y
    for s in range(n):
        _move(sums[s], counts[s], -box[s, 0], -box[s, 1], -box[s, 2])
    return counts, box, sums


@njit(nogil=True, cache=True)
def _move(sums, n, z, y, x):
    """Sums about an origin that lies `z`, `y`, `x` before the one that they were taken about."""
    sums[3] += 2 * z * sums[0] + n * z * z
    sums[4] += 2 * y * sums[1] + n * y * y
    sums[5] += 2 * x * sums[2] + n * x * x
    sums[6] += z * sums[1] + y * sums[0] + n * z * y
    sums[7] += z * sums[2] + x * sums[0] + n * z * x
    sums[8] += y * sums[2] + x * sums[1] + n * y * x
    sums[0] += n * z
    sums[1] += n * y
    sums[2] += n * x


@njit(nogil=True, cache=True)
def sum_codes(codes, bounds, first, slots, n):
    """Sum, sum of squares, smallest and largest uint16 of each slot: int64 (n, 4), exact."""
    table = np.zeros((n, 4), np.int64)
    table[:, 2] = 65535
    for y in range(first.shape[0] - 1):
        row = codes[y]
        for r in range(first[y], first[y + 1]):
            total = np.int64(0)
            squares = np.int64(0)
            low = np.int64(65535)
            high = np.int64(0)
            for x in range(bounds[r, 0], bounds[r, 1]):
                v = np.int64(row[x])
                total += v
                squares += v * v
                low = min(low, v)
                high = max(high, v)
            own = table[slots[r]]
            own[0] += total
            own[1] += squares
            own[2] = min(own[2], low)
            own[3] = max(own[3], high)
    return table


@njit(nogil=True, cache=True, error_model="numpy")
def _add_moments(own, n, mean, m2, low, high):
    """Add n values of a mean and a sum of squares about it to (n, mean, M2, min, max)."""
    if n == 0.0:
        return
    total = own[0] + n
    distance = mean - own[1]
    own[2] += m2 + distance * (distance * (own[0] * n / total))
    own[1] += distance * (n / total)
    own[0] = total
    own[3] = min(own[3], low)
    own[4] = max(own[4], high)


@njit(nogil=True, cache=True, error_model="numpy")
def sum_floats(values, bounds, first, slots, n):
    """(n, mean, M2, min, max) of the finite values of each slot: float64 (n, 5)."""
    table = np.zeros((n, N_VALUES), np.float64)
    table[:, 3] = np.inf
    table[:, 4] = -np.inf
    for y in range(first.shape[0] - 1):
        row = values[y]
        for r in range(first[y], first[y + 1]):
            count = 0.0
            total = 0.0
            low = np.inf
            high = -np.inf
            for x in range(bounds[r, 0], bounds[r, 1]):
                v = np.float64(row[x])
                if np.isfinite(v):
                    count += 1.0
                    total += v
                    low = min(low, v)
                    high = max(high, v)
            if count == 0.0:
                continue
            mean = total / count
            m2 = 0.0
            for x in range(bounds[r, 0], bounds[r, 1]):
                v = np.float64(row[x])
                if np.isfinite(v):
                    m2 += (v - mean) * (v - mean)
            _add_moments(table[slots[r]], count, mean, m2, low, high)
    return table


@njit(nogil=True, cache=True)
def merge_shapes(order, group, n, counts, box, sums):
    """Add rows that are of one object, `order` by label and `group` the object of each.

    `sums` are float64, which holds integers below 2^53 exactly; beyond, an object's second moment
    keeps 11 digits or more.
    """
    all_counts = np.zeros(n, np.int64)
    all_box = np.empty((n, 6), np.int64)
    all_box[:, :3] = np.iinfo(np.int64).max
    all_box[:, 3:] = -1
    all_sums = np.zeros((n, N_SUMS), np.float64)
    for i in range(order.shape[0]):
        g = group[i]
        own = all_box[g]
        row = box[order[i]]
        for k in range(3):
            own[k] = min(own[k], row[k])
            own[3 + k] = max(own[3 + k], row[3 + k])
        all_counts[g] += counts[order[i]]
    moved = np.empty(N_SUMS, np.float64)
    for i in range(order.shape[0]):
        g = group[i]
        k = order[i]
        moved[:] = sums[k]
        _move(
            moved, np.float64(counts[k]), np.float64(box[k, 0] - all_box[g, 0]),
            np.float64(box[k, 1] - all_box[g, 1]), np.float64(box[k, 2] - all_box[g, 2]),
        )  # fmt: skip
        all_sums[g] += moved
    return all_counts, all_box, all_sums


@njit(nogil=True, cache=True, error_model="numpy")
def merge_values(order, group, n, values):
    """Add (n, mean, M2, min, max) of rows of one object, (rows, channels, 5), in their order."""
    table = np.zeros((n, values.shape[1], N_VALUES), np.float64)
    table[:, :, 3] = np.inf
    table[:, :, 4] = -np.inf
    for i in range(order.shape[0]):
        own = table[group[i]]
        row = values[order[i]]
        for c in range(values.shape[1]):
            _add_moments(own[c], row[c, 0], row[c, 1], row[c, 2], row[c, 3], row[c, 4])
    return table


@njit(nogil=True, cache=True)
def unite_pairs(parent, first, second):
    """Join pieces pair by pair in a forest; which pairs joined what was apart."""
    joined = np.zeros(first.shape[0], np.bool_)
    for i in range(first.shape[0]):
        joined[i] = _unite(parent, first[i], second[i])
    return joined


@njit(nogil=True, cache=True)
def _grown(labels, out):
    """Give background pixels the largest label among their eight neighbours."""
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label == 0:
                for j in range(max(y - 1, 0), min(y + 2, height)):
                    for i in range(max(x - 1, 0), min(x + 2, width)):
                        label = max(label, labels[j, i])
            out[y, x] = label


@njit(nogil=True, cache=True)
def rings(labels, width):
    """The background within `width` steps (of 8) of an object, by its label; elsewhere 0.

    Of a plane of unsigned labels. Where rings meet, the nearer object has the pixel, of two as near
    the one with the larger label.
    """
    grown = labels.copy()
    other = np.empty_like(labels)
    for _ in range(width):
        _grown(grown, other)
        grown, other = other, grown
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] != 0:
                grown[y, x] = 0
    return grown
