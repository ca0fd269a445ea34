"""One sweep over a plane of one channel: everything that the scan needs of it.

`integer_plane` takes codes: uint16 numbers whose value is ``code + bias`` (every integer type to
16 bits maps to them). `float_plane` takes float64 with NaN for what is excluded; it serves floats,
wider integers and masked integers. Both fill the same `PlaneTables`, so a state is made from
either.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from gigaqc.kernels import rows

MOMENTS, COLUMNS, PAIRS, FOCUS, HOT, DEAD = 1, 2, 4, 8, 16, 32
"""What a sweep is to compute, as bits."""

DEAD_WINDOW = 8
OFFSET = 32768  # that some 12-bit cameras add
FEW_RESPONSES = 32768 - 128  # the first of 256 responses about 0, in 16 bits
RESPONSE_ZERO = 65536  # the bin of response 0 in tables of integer responses


Extent = tuple[int, int, int, int]
"""y0, y1, x0, x1."""


class PlaneTables(NamedTuple):
    """Where a plane lies among tiles and cells, and the tables that a sweep adds to.

    Shapes are those of `integer_plane`; where those of `float_plane` differ they come second.
    """

    bounds: Extent
    """Centres whose 3x3 neighbourhood is looked at."""
    dead_bounds: Extent
    """Pixels that are judged for dead windows."""
    tile_row: np.ndarray
    """Of each line the row of its tiles, among those that the plane touches."""
    tile_edges: np.ndarray
    """Columns where a tile starts, 0 first and the width last."""
    cell_row: np.ndarray
    """The same for the cells of the thumbnail."""
    cell_edges: np.ndarray
    histogram: np.ndarray
    """(2, 65536), which add; floats have none."""
    rows: np.ndarray
    """(2, height) sum and squares; (3, height) count, sum and squares."""
    columns: np.ndarray
    """(width,) sums; (3, width) count, sum and squares."""
    tiles: np.ndarray
    """(6, ty, tx) count, sum, squares, zeros, pixels at the largest value, and that value."""
    cells: np.ndarray
    """(2, cy, cx) count and sum."""
    pairs: np.ndarray
    """(2,) products right and down; (2, 6) count, both sums, both squares, products."""
    focus: np.ndarray
    """(4, ty, tx) count, Laplacian, its square, gradient."""
    response: np.ndarray
    """(2, 131072), which add, pixel minus local median; (1, 131072), or (1, 65536) of floats."""
    excess: np.ndarray
    """(2, 65536) responses beyond 8 counting sigmas, the second with an offset of 32768."""
    dead: np.ndarray
    """(1,) pixels in dead windows."""


@njit(nogil=True, cache=True, error_model="numpy")
def integer_plane(codes, bias, zero, parts, tables):
    """Sweep a plane of codes without exclusions; returns whether the excess was touched."""
    bounds, tile_row, tile_edges = tables.bounds, tables.tile_row, tables.tile_edges
    cell_row, cell_edges = tables.cell_row, tables.cell_edges
    histogram, row_table, tile_table = tables.histogram, tables.rows, tables.tiles
    pair_table, response_table = tables.pairs, tables.response
    height, width = codes.shape
    band = np.zeros(width, np.uint32)
    # Each an array of its own: loops over rows of one array would not be vectorised.
    scratch = (
        np.empty(width, np.uint16), np.empty(width, np.uint16), np.empty(width, np.uint16),
        np.empty(width, np.uint16), np.empty(width, np.uint16), np.empty(width, np.uint16),
    )  # fmt: skip
    run, last, corners = _no_zeros(width)
    short = np.empty(width, np.int16), np.empty(width, np.int16), np.empty(width, np.int16)
    few, few_responses = np.zeros((4, 256), np.int32), np.zeros((4, 256), np.int32)
    any_excess = False
    largest = np.uint16(0)
    bounded = parts & (MOMENTS | PAIRS)  # what is faster where codes are small
    following = rows.largest(codes[0]) if bounded else largest
    for y in range(height):
        row, largest = codes[y], following
        if bounded and y + 1 < height:
            following = rows.largest(codes[y + 1])
        if parts & MOMENTS:
            if largest < 256:
                rows.count_few(row, np.uint16(0), few)
            else:
                rows.count_codes(row, histogram[0], histogram[1])
            _tile_moments(row, y, zero, tile_row[y], tile_edges, row_table, tile_table)
        if parts & COLUMNS:
            rows.add_columns(row, band)
            if y + 1 == height or cell_row[y + 1] != cell_row[y]:
                _flush_band(band, tables.columns, tables.cells[:, cell_row[y]], cell_edges)
        if parts & PAIRS:
            pair_table[0] += rows.product(row[: width - 1], row[1:], largest)
            if y + 1 < height:
                pair_table[1] += rows.product(row, codes[y + 1], max(largest, following))
        if parts & DEAD:
            tables.dead[0] += dead_row(row, y, zero, run, last, corners, tables.dead_bounds)
        if y < bounds[0] or y >= bounds[1] or bounds[2] >= bounds[3]:
            continue
        above, below = codes[y - 1], codes[y + 1]
        if parts & FOCUS:
            _tile_sharpness(above, row, below, bounds, tile_row[y], tile_edges, tables.focus, short)
        if parts & HOT:
            first, stop = bounds[2] - 1, bounds[3] + 1
            any_excess |= _count_responses(
                above[first:stop], row[first:stop], below[first:stop], bias, scratch,
                few_responses, response_table, tables.excess,
            )  # fmt: skip
    if parts & MOMENTS:
        _add_few(few, histogram[0])
    if parts & HOT:
        _add_few(few_responses, response_table[0, FEW_RESPONSES + 32768 :])
    return any_excess


@njit(nogil=True, cache=True, error_model="numpy")
def _add_few(few, table):
    for k in range(few.shape[1]):
        table[k] += few[0, k] + few[1, k] + few[2, k] + few[3, k]


@njit(nogil=True, cache=True, inline="always", error_model="numpy")
def _count_responses(above, row, below, bias, scratch, few, response_table, excess_table):
    """Count what the inner pixels of a row are above their medians; whether any exceeds."""
    low, middle, high, median, response, exceeding = scratch
    n = row.shape[0] - 2
    rows.sort_columns(above, row, below, low, middle, high)
    up, down, least, most = rows.median_response(row, low, middle, high, median, response)
    if up < 128 and down <= 128:
        rows.count_few(response[:n], np.uint16(FEW_RESPONSES), few)
    elif up < 32768 and down <= 32768:
        rows.count_codes(response[:n], response_table[0, 32768:], response_table[1, 32768:])
    else:
        _count_far_responses(row, median, n, response_table[0])
    if not _may_exceed(np.int64(up), np.int64(least) + bias, np.int64(most) + bias):
        return False
    _count_excess(row, median, n, bias, 0, exceeding, excess_table[0])
    if np.int64(most) + bias >= OFFSET:
        _count_excess(row, median, n, bias, OFFSET, exceeding, excess_table[1])
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def _tile_moments(row, y, zero, ty, edges, row_table, tile_table):
    for tx in range(edges.shape[0] - 1):
        segment = row[edges[tx] : edges[tx + 1]]
        total, squares, largest, zeros = rows.row_moments(segment, zero)
        row_table[0, y] += total
        row_table[1, y] += squares
        tile_table[0, ty, tx] += segment.shape[0]
        tile_table[1, ty, tx] += total
        tile_table[2, ty, tx] += squares
        tile_table[3, ty, tx] += zeros
        if largest > tile_table[5, ty, tx]:
            tile_table[5, ty, tx] = largest
            tile_table[4, ty, tx] = 0
        if largest == tile_table[5, ty, tx]:
            at_largest = np.int32(0)
            for i in range(segment.shape[0]):
                at_largest += np.int32(segment[i] == largest)
            tile_table[4, ty, tx] += at_largest


@njit(nogil=True, cache=True, error_model="numpy")
def _flush_band(band, totals, cells, edges):
    for k in range(edges.shape[0] - 1):
        total = np.int64(0)
        for x in range(edges[k], edges[k + 1]):
            total += band[x]
        cells[1, k] += total
    for x in range(band.shape[0]):
        totals[x] += band[x]
        band[x] = 0


@njit(nogil=True, cache=True, error_model="numpy")
def _tile_sharpness(above, row, below, bounds, ty, edges, table, short):
    curvature, across, down = short
    left, right = bounds[2] - 1, bounds[3] + 1
    a, r, b = above[left:right], row[left:right], below[left:right]
    run = 0  # pixels whose sums fit 32 bits
    if rows.spread(a, r, b) < 8192:
        magnitude = rows.short_sharpness(a, r, b, curvature, across, down)
        run = int((2**31 - 1) // max(2 * magnitude * magnitude, 1))
    for tx in range(edges.shape[0] - 1):
        first, stop = max(edges[tx], bounds[2]), min(edges[tx + 1], bounds[3])
        if stop <= first:
            continue
        laplacian, squares, gradient = 0.0, 0.0, 0.0
        if run < 32:
            laplacian, squares, gradient = rows.sharpness(
                above[first - 1 : stop + 1], row[first - 1 : stop + 1], below[first - 1 : stop + 1]
            )
        else:
            for k in range(first - bounds[2], stop - bounds[2], run):
                end = min(k + run, stop - bounds[2])
                sums = rows.short_squares(curvature[k:end], across[k:end], down[k:end])
                laplacian += sums[0]
                squares += sums[1]
                gradient += sums[2]
        table[0, ty, tx] += stop - first
        table[1, ty, tx] += laplacian
        table[2, ty, tx] += squares
        table[3, ty, tx] += gradient


@njit(nogil=True, cache=True, error_model="numpy")
def _count_far_responses(centre, median, n, table):
    for i in range(n):
        table[np.int64(centre[i + 1]) - np.int64(median[i]) + RESPONSE_ZERO] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _may_exceed(largest, least, most):
    """Whether a row may hold a response beyond 8 counting sigmas: most rows are told at once."""
    if most >= OFFSET:
        least = least - OFFSET if least >= OFFSET else 0
    return largest * largest > 64 * max(least, 1)


@njit(nogil=True, cache=True, error_model="numpy")
def _count_excess(centre, median, n, bias, offset, exceeding, table):
    """Count responses above 8 counting sigmas where the median is at least `offset`.

    They are gathered first, without a branch that a processor could guess wrong in noise.
    """
    found = np.int64(0)
    for i in range(n):
        d = np.int64(centre[i + 1]) - np.int64(median[i])
        level = np.int64(median[i]) + bias - offset
        exceeding[found] = np.uint16(d)
        beyond = (d > 0) & (d * d > 64 * max(level, 1))
        found += np.int64(beyond & ((level >= 0) | (offset == 0)))
    for k in range(found):
        table[exceeding[k]] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _no_zeros(width):
    """Where `dead_row` keeps what it knows of a plane: nothing yet."""
    return (
        np.zeros(width, np.uint8),
        np.full(width, -1, np.int32),
        np.zeros(width + 2 * DEAD_WINDOW, np.uint8),
    )


@njit(nogil=True, cache=True, error_model="numpy")
def dead_row(row, y, zero, run, last, corners, bounds):
    """Pixels newly known to lie in an all-zero 8x8 window that ends in this row.

    `run` counts zeros upwards in each column, to 8; `last` is the last dead line of it; `corners`
    has room for windows by their last column, 8 further right. Only pixels inside `bounds` (y0,
    y1, x0, x1) are counted.
    """
    width = row.shape[0]
    some = np.uint8(0)
    for x in range(width):
        some |= np.uint8(row[x] == zero)
    if not some:
        run[:] = 0
        return 0
    longest, most = np.uint8(0), np.uint8(DEAD_WINDOW)
    for x in range(width):
        zeros = min(np.uint8(run[x] + np.uint8(1)), most) if row[x] == zero else np.uint8(0)
        run[x] = zeros
        longest = max(longest, zeros)
    if longest < DEAD_WINDOW or width < DEAD_WINDOW:
        return 0
    some = np.uint8(0)
    for x in range(width - DEAD_WINDOW + 1):
        least = np.uint8(DEAD_WINDOW)
        for k in range(DEAD_WINDOW):
            least = min(least, run[x + k])
        corner = np.uint8(least == DEAD_WINDOW)
        corners[x + DEAD_WINDOW] = corner
        some |= corner
    if not some:
        return 0
    found = np.int32(0)
    first, stop = np.int32(max(y - DEAD_WINDOW + 1, bounds[0])), np.int32(min(y + 1, bounds[1]))
    for x in range(width):
        dead = np.uint8(0)
        for k in range(1, DEAD_WINDOW + 1):
            dead |= corners[x + k]
        if dead:
            if bounds[2] <= x < bounds[3]:
                found += max(stop - max(first, last[x] + np.int32(1)), np.int32(0))
            last[x] = np.int32(y)
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def dead_plane(zeros, bounds):
    """Pixels inside `bounds` that lie in an all-zero 8x8 window; `zeros` is 1 where zero."""
    run, last, corners = _no_zeros(zeros.shape[1])
    found = 0
    for y in range(zeros.shape[0]):
        found += dead_row(zeros[y], y, np.uint8(1), run, last, corners, bounds)
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def float_plane(values, shift, parts, tables):
    """Sweep a plane of float64 where NaN is excluded; second-order sums are about `shift`.

    With an `excess` of length 0 the image is no integer image to 16 bits: `response[0]` then counts
    responses by `response_bin`, and the excess needs a scale that is not known yet.
    """
    bounds, tile_row, tile_edges = tables.bounds, tables.tile_row, tables.tile_edges
    pair_table, response_table, excess_table = tables.pairs, tables.response, tables.excess
    integers = excess_table.shape[1] > 0
    height, width = values.shape
    run, last, corners = _no_zeros(width)
    for y in range(height):
        row = values[y]
        if parts & MOMENTS:
            _float_moments(
                row, y, shift, tile_row[y], tile_edges, tables.cell_row[y], tables.cell_edges,
                tables.rows, tables.columns, tables.tiles, tables.cells,
            )  # fmt: skip
        if parts & PAIRS:
            _add_pairs(row[: width - 1], row[1:], shift, pair_table[0])
            if y + 1 < height:
                _add_pairs(row, values[y + 1], shift, pair_table[1])
        if parts & DEAD:
            tables.dead[0] += dead_row(row, y, 0.0, run, last, corners, tables.dead_bounds)
        if y < bounds[0] or y >= bounds[1] or bounds[2] >= bounds[3]:
            continue
        above, below = values[y - 1], values[y + 1]
        if parts & FOCUS:
            _float_sharpness(above, row, below, bounds, tile_row[y], tile_edges, tables.focus)
        if parts & HOT:
            for x in range(bounds[2], bounds[3]):
                median = _median9(above, row, below, x)
                if not np.isnan(median):
                    d = row[x] - median
                    if not integers:
                        response_table[0, response_bin(d)] += 1
                        continue
                    response_table[0, np.int64(d) + RESPONSE_ZERO] += 1
                    if d > 0 and d * d > 64 * max(median, 1.0):
                        excess_table[0, np.int64(d)] += 1
                    if d > 0 and median >= OFFSET and d * d > 64 * max(median - OFFSET, 1.0):
                        excess_table[1, np.int64(d)] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def hot_plane(values, bounds, limit, unit):
    """Pixels in `bounds` above their local median by more than `limit` and 8 counting sigmas."""
    found = 0
    for y in range(bounds[0], bounds[1]):
        above, row, below = values[y - 1], values[y], values[y + 1]
        for x in range(bounds[2], bounds[3]):
            # A median that low needs five of the nine below it, so one of these four.
            if row[x] - limit > min(min(row[x - 1], row[x + 1]), min(above[x], below[x])):
                median = _median9(above, row, below, x)
                d = row[x] - median
                if d > limit and d * d > 64 * unit * max(median, unit):
                    found += 1
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def _float_moments(
    row, y, shift, ty, edges, cy, cell_edges, row_table, column_table, tile_table, cell_table
):
    for tx in range(edges.shape[0] - 1):
        n, zeros = 0, 0
        total, squares = 0.0, 0.0
        largest = -np.inf
        for x in range(edges[tx], edges[tx + 1]):
            v = row[x]
            if not np.isnan(v):
                u = v - shift
                n += 1
                total += u
                squares += u * u
                zeros += v == 0
                largest = max(largest, v)
                column_table[0, x] += 1
                column_table[1, x] += u
                column_table[2, x] += u * u
        row_table[0, y] += n
        row_table[1, y] += total
        row_table[2, y] += squares
        tile_table[0, ty, tx] += n
        tile_table[1, ty, tx] += total
        tile_table[2, ty, tx] += squares
        tile_table[3, ty, tx] += zeros
        if n and largest > tile_table[5, ty, tx]:
            tile_table[5, ty, tx] = largest
            tile_table[4, ty, tx] = 0
        if n and largest == tile_table[5, ty, tx]:
            for x in range(edges[tx], edges[tx + 1]):
                tile_table[4, ty, tx] += row[x] == largest
    for k in range(cell_edges.shape[0] - 1):
        for x in range(cell_edges[k], cell_edges[k + 1]):
            if not np.isnan(row[x]):
                cell_table[0, cy, k] += 1
                cell_table[1, cy, k] += row[x] - shift


@njit(nogil=True, cache=True, error_model="numpy")
def _add_pairs(left, right, shift, table):
    n = 0
    first, second, first2, second2, products = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(left.shape[0]):
        a, b = left[i] - shift, right[i] - shift
        if not np.isnan(a + b):
            n += 1
            first += a
            second += b
            first2 += a * a
            second2 += b * b
            products += a * b
    table[0] += n
    table[1] += first
    table[2] += second
    table[3] += first2
    table[4] += second2
    table[5] += products


@njit(nogil=True, cache=True, error_model="numpy")
def _float_sharpness(above, row, below, bounds, ty, edges, table):
    for tx in range(edges.shape[0] - 1):
        n = 0
        laplacian, squares, gradient = 0.0, 0.0, 0.0
        for x in range(max(edges[tx], bounds[2]), min(edges[tx + 1], bounds[3])):
            nw, north, ne = above[x - 1], above[x], above[x + 1]
            west, centre, east = row[x - 1], row[x], row[x + 1]
            sw, south, se = below[x - 1], below[x], below[x + 1]
            curvature = (north - centre) + (south - centre) + (west - centre) + (east - centre)
            across = (ne - nw) + 2.0 * (east - west) + (se - sw)
            down = (sw - nw) + 2.0 * (south - north) + (se - ne)
            if not np.isnan(curvature + across + down):
                n += 1
                laplacian += curvature
                squares += curvature * curvature
                gradient += across * across + down * down
        table[0, ty, tx] += n
        table[1, ty, tx] += laplacian
        table[2, ty, tx] += squares
        table[3, ty, tx] += gradient


@njit(nogil=True, cache=True, inline="always", error_model="numpy")
def _sorted3(a, b, c):
    small, large = min(a, b), max(a, b)
    return min(small, c), max(small, min(large, c)), max(large, c)


@njit(nogil=True, cache=True, error_model="numpy")
def _median9(above, row, below, x):
    """Median of the 3x3 neighbourhood of x, NaN where one of the nine is NaN."""
    total = 0.0
    for k in range(x - 1, x + 2):
        total += above[k] + row[k] + below[k]
    if np.isnan(total):
        return np.nan
    l0, m0, h0 = _sorted3(above[x - 1], row[x - 1], below[x - 1])
    l1, m1, h1 = _sorted3(above[x], row[x], below[x])
    l2, m2, h2 = _sorted3(above[x + 1], row[x + 1], below[x + 1])
    return _sorted3(max(max(l0, l1), l2), _sorted3(m0, m1, m2)[1], min(min(h0, h1), h2))[1]


@njit(nogil=True, cache=True, error_model="numpy")
def response_bin(d):
    """Bin 0..65535 of a response: sign, exponent and 7 bits of the mantissa, in ascending order."""
    if d == 0:
        return np.int64(32768)
    mantissa, exponent = math.frexp(abs(d))
    step = int((mantissa * 2.0 - 1.0) * 128.0)
    k = (exponent + 127) * 128 + step + 1
    if k < 1:
        k = 1
    if k > 32767:
        k = 32767
    return 32768 + k if d > 0 else 32768 - k


def response_values() -> np.ndarray:
    """The response in the middle of each bin of `response_bin`."""
    exponent, step = np.divmod(np.arange(32767), 128)
    positive = (1 + (step + 0.5) / 128) * np.exp2(exponent - 128.0)
    return np.concatenate([[-np.inf], -positive[::-1], [0.0], positive])


@njit(nogil=True, cache=True, error_model="numpy")
def _any(even, odd):
    some = np.int32(0)
    for i in range(even.shape[0]):
        some |= even[i] | odd[i]
    return some != 0


@njit(nogil=True, cache=True, error_model="numpy")
def take_occupied(even, odd):
    """First occupied bin of two tables and the counts from there; both tables are cleared.

    Blocks of 256 bins are looked at at once: most of a table is empty.
    """
    n = even.shape[0]
    first, stop = n, 0
    for block in range(0, n, 256):
        if _any(even[block : block + 256], odd[block : block + 256]):
            first = min(first, block)
            stop = min(block + 256, n)
    if stop == 0:
        return 0, np.zeros(0, np.int64)
    while even[first] == 0 and odd[first] == 0:
        first += 1
    while even[stop - 1] == 0 and odd[stop - 1] == 0:
        stop -= 1
    counts = np.empty(stop - first, np.int64)
    for i in range(first, stop):
        counts[i - first] = np.int64(even[i]) + np.int64(odd[i])
        even[i] = 0
        odd[i] = 0
    return first, counts
