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
def product(left, right):
    """Sum of products of two rows of codes."""
    total = np.int64(0)
    for i in range(left.shape[0]):
        total += np.int64(np.uint32(left[i]) * np.uint32(right[i]))
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
