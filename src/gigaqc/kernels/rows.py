"""Row functions of the integer scan: each takes views of one to three rows and is inlined.

A block is swept once, row by row, so that the rows at hand stay in the first-level cache while
every statistic takes what it needs of them. Loops have one exit, unit stride and no branches where
the compiler is to vectorise them; sums of integers are exact, so their order does not matter and
``reassoc`` is allowed.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_EXACT_SUMS = {"reassoc", "contract", "nsz"}  # every term and every sum is an integer below 2^53


@njit(nogil=True, cache=True, inline="never", error_model="numpy")
def count_codes(row, even, odd):
    """Histogram of one row; two tables so that equal neighbours do not wait for one another."""
    n = row.shape[0]
    for i in range(0, n - 1, 2):
        even[row[i]] += 1
        odd[row[i + 1]] += 1
    if n % 2:
        even[row[n - 1]] += 1


@njit(nogil=True, cache=True, inline="never", error_model="numpy")
def count_few(row, start, tables):
    """Histogram of a row whose codes lie in 256 from `start`; `tables` is (4, 256).

    Where most pixels are alike, as in an empty region, each addition waits for the one before it:
    four tables wait half as long as two, and lie in the first-level cache.
    """
    n = row.shape[0]
    for i in range(0, n - n % 4, 4):
        tables[0, np.uint8(row[i] - start)] += 1
        tables[1, np.uint8(row[i + 1] - start)] += 1
        tables[2, np.uint8(row[i + 2] - start)] += 1
        tables[3, np.uint8(row[i + 3] - start)] += 1
    for i in range(n - n % 4, n):
        tables[0, np.uint8(row[i] - start)] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def largest(row):
    """Largest code of a row."""
    found = np.uint16(0)
    for i in range(row.shape[0]):
        found = max(found, row[i])
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def row_moments(row, zero):
    """Sum, sum of squares, largest code and number of zeros of a row segment."""
    total = np.int64(0)
    squares = np.int64(0)
    zeros = np.int32(0)
    largest = np.uint16(0)
    for i in range(row.shape[0]):
        code = row[i]
        total += code
        squares += np.int64(np.uint32(code) * np.uint32(code))
        zeros += np.int32(code == zero)
        largest = max(largest, code)
    return total, squares, largest, zeros


@njit(nogil=True, cache=True, error_model="numpy")
def add_columns(row, sums):
    """Add a row to the column sums; `sums` is uint32 and holds 65,537 rows."""
    for i in range(row.shape[0]):
        sums[i] += np.uint32(row[i])


@njit(nogil=True, cache=True, error_model="numpy")
def product(left, right, largest):
    """Sum of products of two rows of codes, none of which exceeds `largest`."""
    total, n = np.int64(0), left.shape[0]
    run = (2**31 - 1) // max(int(largest) * int(largest), 1)
    if largest >= 32768 or run < 32:
        for i in range(n):
            total += np.int64(np.uint32(left[i]) * np.uint32(right[i]))
        return total
    for start in range(0, n, run):
        total += _short_product(left[start : start + run], right[start : start + run])
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def _short_product(left, right):
    """The same in 32 bits, for which there is an instruction that multiplies and adds many."""
    total = np.int32(0)
    for i in range(left.shape[0]):
        total = np.int32(
            total + np.int32(np.int32(np.int16(left[i])) * np.int32(np.int16(right[i])))
        )
    return total


@njit(nogil=True, cache=True, fastmath=_EXACT_SUMS, error_model="numpy")
def sharpness(above, row, below):
    """Sums of the Laplacian, its square, and the squared Sobel gradient of the inner pixels."""
    n = row.shape[0] - 2
    a0, a1, a2 = above[:n], above[1 : n + 1], above[2 : n + 2]
    r0, r1, r2 = row[:n], row[1 : n + 1], row[2 : n + 2]
    b0, b1, b2 = below[:n], below[1 : n + 1], below[2 : n + 2]
    laplacian = 0.0
    squares = 0.0
    gradient = 0.0
    for i in range(n):
        nw, north, ne = np.int32(a0[i]), np.int32(a1[i]), np.int32(a2[i])
        west, centre, east = np.int32(r0[i]), np.int32(r1[i]), np.int32(r2[i])
        sw, south, se = np.int32(b0[i]), np.int32(b1[i]), np.int32(b2[i])
        curvature = np.float64(north + south + west + east - np.int32(4) * centre)
        across = np.float64((ne - nw) + np.int32(2) * (east - west) + (se - sw))
        down = np.float64((sw - nw) + np.int32(2) * (south - north) + (se - ne))
        laplacian += curvature
        squares += curvature * curvature
        gradient += across * across + down * down
    return laplacian, squares, gradient


@njit(nogil=True, cache=True, error_model="numpy")
def spread(above, row, below):
    """Largest minus smallest code of three rows."""
    low, high = np.uint16(65535), np.uint16(0)
    for i in range(row.shape[0]):
        low = min(low, min(above[i], min(row[i], below[i])))
        high = max(high, max(above[i], max(row[i], below[i])))
    return np.int64(high) - np.int64(low)


@njit(nogil=True, cache=True, error_model="numpy")
def short_sharpness(above, row, below, curvature, across, down):
    """Laplacian and Sobel gradients of the inner pixels, where 16 bits hold them.

    They do where the codes of the three rows differ by less than 8192. Returns the largest
    magnitude.
    """
    n = row.shape[0] - 2
    a0, a1, a2 = above[:n], above[1 : n + 1], above[2 : n + 2]
    r0, r1, r2 = row[:n], row[1 : n + 1], row[2 : n + 2]
    b0, b1, b2 = below[:n], below[1 : n + 1], below[2 : n + 2]
    most, least = np.int16(0), np.int16(0)
    for i in range(n):
        nw, north, ne = a0[i], a1[i], a2[i]
        west, centre, east = r0[i], r1[i], r2[i]
        sw, south, se = b0[i], b1[i], b2[i]
        curvature[i] = c = np.int16(north + south + west + east - 4 * centre)
        across[i] = a = np.int16(ne - nw + 2 * (east - west) + se - sw)
        down[i] = d = np.int16(sw - nw + 2 * (south - north) + se - ne)
        most = max(most, max(c, max(a, d)))
        least = min(least, min(c, min(a, d)))
    return max(np.int64(most), -np.int64(least))


@njit(nogil=True, cache=True, error_model="numpy")
def short_squares(curvature, across, down):
    """Sums of the Laplacian, its square, and the squared gradient; the caller knows that they fit.

    Each cast keeps a sum in 32 bits, for which there is an instruction that multiplies and adds
    many numbers at once.
    """
    laplacian, squares, gradient = np.int32(0), np.int32(0), np.int32(0)
    for i in range(curvature.shape[0]):
        c, a, d = np.int32(curvature[i]), np.int32(across[i]), np.int32(down[i])
        laplacian = np.int32(laplacian + c)
        squares = np.int32(squares + np.int32(c * c))
        gradient = np.int32(gradient + np.int32(a * a))
        gradient = np.int32(gradient + np.int32(d * d))
    return laplacian, squares, gradient


@njit(nogil=True, cache=True, error_model="numpy")
def sort_columns(above, row, below, low, middle, high):
    """Sort each column of three rows."""
    for i in range(row.shape[0]):
        a, b, c = above[i], row[i], below[i]
        small = min(a, b)
        large = max(a, b)
        low[i] = min(small, c)
        high[i] = max(large, c)
        middle[i] = max(small, min(large, c))


@njit(nogil=True, cache=True, error_model="numpy")
def median_response(row, low, middle, high, median, response):
    """Median of each 3x3 neighbourhood and the pixel minus it, from the sorted columns.

    All of it in 16 bits, where twice as many fit a register: `response` holds the difference plus
    32768, which is right as long as no difference goes beyond 16 bits. Returns the largest
    difference up and down, and the smallest and largest median.
    """
    n = row.shape[0] - 2
    l0, l1, l2 = low[:n], low[1 : n + 1], low[2 : n + 2]
    m0, m1, m2 = middle[:n], middle[1 : n + 1], middle[2 : n + 2]
    h0, h1, h2 = high[:n], high[1 : n + 1], high[2 : n + 2]
    centre = row[1 : n + 1]
    up, down = np.uint16(0), np.uint16(0)
    least, most = np.uint16(65535), np.uint16(0)
    for i in range(n):
        largest_low = max(max(l0[i], l1[i]), l2[i])
        smallest_high = min(min(h0[i], h1[i]), h2[i])
        small, large = min(m0[i], m1[i]), max(m0[i], m1[i])
        middle_middle = max(small, min(large, m2[i]))
        small, large = min(largest_low, middle_middle), max(largest_low, middle_middle)
        value = max(small, min(large, smallest_high))
        median[i] = value
        response[i] = np.uint16(centre[i] - value + np.uint16(32768))
        up = max(up, np.uint16(max(centre[i], value) - value))
        down = max(down, np.uint16(value - min(centre[i], value)))
        least = min(least, value)
        most = max(most, value)
    return up, down, least, most
