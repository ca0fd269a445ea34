"""Order statistics and moments of each pixel along time: frames in, maps out.

Pixels lie side by side in a tile that fits the cache, so that one comparison of a whole row of
pixels is a few vector instructions. A median is found by bisection: count how many frames lie at
or below a guess, for all pixels of the tile at once. The median absolute deviation of integers is
found without deviations: count how many frames lie within a distance.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

_TILE_BYTES = 1 << 18  # of the second-level cache
_NARROWEST, _WIDEST = 64, 4096  # pixels of a tile
_COUNTED = (1 << 16) - 1  # frames that a 16-bit counter counts; more are looked at as floats
_BISECTIONS = 12  # of floats beyond log2 of the frames; what is left then is sorted

Maps = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int32]]


def median_and_mad(frames: npt.NDArray[Any]) -> Maps:
    """Median and median absolute deviation along the first axis.

    As `numpy.median` of the finite values as float64, and of their distances from it, to the bit;
    with an even number of frames the mean of the two in the middle.

    Parameters
    ----------
    frames
        Dims time, pixel: any type of image.

    Returns
    -------
    median, mad
        By pixel, NaN where no frame is finite.
    n
        Finite frames of each pixel.
    """
    if not frames.shape[0]:
        raise ValueError("frames: of no frame there is no median; pass at least one.")
    if _is_code(frames.dtype, len(frames)):
        return _of_codes(frames, _codes_median_mad)
    return _of_floats(frames, _floats_median_mad)


def mean_and_variance(frames: npt.NDArray[Any]) -> Maps:
    """Mean and variance (n - 1 in the denominator) along the first axis, of the finite values.

    Of integers to 16 bits from exact sums, else in two passes of float64. Parameters and results
    are those of `median_and_mad`; the variance of a single value is NaN.
    """
    if _is_code(frames.dtype, len(frames)):
        return _of_codes(frames, _codes_mean_variance)
    return _of_floats(frames, _floats_mean_variance)


def extremes(frames: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Smallest and largest finite value along the first axis, and how many frames have them.

    Parameters are those of `median_and_mad`. Returns float64 values, infinite (the smallest up, the
    largest down) where no frame is finite, and int32 counts.
    """
    length, pixels = frames.shape
    code = _is_code(frames.dtype, length)
    signed = code and frames.dtype.kind == "i"
    dtype = np.dtype(("i2" if signed else "u2") if code else "f8")
    tile = np.zeros((length, _width(length, dtype.itemsize)), dtype)
    ends = np.empty(pixels), np.empty(pixels), np.empty(pixels, "i4"), np.empty(pixels, "i4")
    for start in range(0, pixels, tile.shape[1]):
        cut = slice(start, min(start + tile.shape[1], pixels))
        inside = tile[:, : cut.stop - start]
        np.copyto(inside, frames[:, cut], casting="unsafe")
        low, high = tile[0].copy(), tile[0].copy()
        if frames.dtype.kind == "f":
            inside[~np.isfinite(inside)] = math.nan  # neither less nor more than anything
            low[:], high[:] = math.inf, -math.inf
        _ends(tile, low, high, *(values[cut] for values in ends))
    return ends


def _is_code(dtype: np.dtype, length: int) -> bool:
    return dtype.kind in "bui" and dtype.itemsize <= 2 and length <= _COUNTED


def _width(frames: int, itemsize: int) -> int:
    """Pixels of a tile, a multiple of 64."""
    fitting = _TILE_BYTES // (frames * itemsize) // _NARROWEST * _NARROWEST
    return min(max(fitting, _NARROWEST), _WIDEST)


def _of_codes(frames: npt.NDArray[Any], kernel: Any) -> Maps:
    """Integers to 16 bits, as codes that count from the smallest value of their type."""
    length, pixels = frames.shape
    signed = frames.dtype.kind == "i"
    zero = 1 << 15 if signed else 0
    width = _width(length, 2)
    tile = np.zeros((length, width), "u2")
    first, second = np.empty(pixels), np.empty(pixels)
    for start in range(0, pixels, width):
        cut = slice(start, min(start + width, pixels))
        inside = tile[:, : cut.stop - start]
        np.copyto(inside.view("i2") if signed else inside, frames[:, cut])
        if signed:
            inside ^= np.uint16(zero)
        kernel(tile, zero, first[cut], second[cut])
    return first, second, np.full(pixels, length, "i4")


def _of_floats(frames: npt.NDArray[Any], kernel: Any) -> Maps:
    """All other types, as float64; what is not finite becomes infinity and counts as last."""
    length, pixels = frames.shape
    width = _width(length, 8)
    tile = np.zeros((length, width))
    first, second = np.empty(pixels), np.empty(pixels)
    n = np.empty(pixels, "i4")
    finite = frames.dtype.kind != "f"
    for start in range(0, pixels, width):
        cut = slice(start, min(start + width, pixels))
        inside = tile[:, : cut.stop - start]
        np.copyto(inside, frames[:, cut], casting="unsafe")
        if not finite:
            inside[~np.isfinite(inside)] = math.inf
        kernel(tile, first[cut], second[cut], n[cut])
    return first, second, n


@njit(nogil=True, cache=True, error_model="numpy")
def _count_at_most(tile, limit, count):
    """How many frames of each pixel are at or below a limit; four rows at a time."""
    count[:] = 0
    length = tile.shape[0]
    whole = length - length % 4
    for t in range(0, whole, 4):
        a, b, c, d = tile[t], tile[t + 1], tile[t + 2], tile[t + 3]
        for i in range(count.shape[0]):
            m = limit[i]
            count[i] += (a[i] <= m) + (b[i] <= m) + (c[i] <= m) + (d[i] <= m)
    for t in range(whole, length):
        a = tile[t]
        for i in range(count.shape[0]):
            count[i] += a[i] <= limit[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _count_within(tile, low, span, count):
    """How many codes of each pixel lie in ``low .. low + span``: one subtraction that wraps."""
    count[:] = 0
    length = tile.shape[0]
    whole = length - length % 4
    for t in range(0, whole, 4):
        a, b, c, d = tile[t], tile[t + 1], tile[t + 2], tile[t + 3]
        for i in range(count.shape[0]):
            m, s = low[i], span[i]
            count[i] += (
                np.uint16(np.uint16(a[i] - m) <= s)
                + np.uint16(np.uint16(b[i] - m) <= s)
                + np.uint16(np.uint16(c[i] - m) <= s)
                + np.uint16(np.uint16(d[i] - m) <= s)
            )
    for t in range(whole, length):
        a = tile[t]
        for i in range(count.shape[0]):
            count[i] += np.uint16(np.uint16(a[i] - low[i]) <= span[i])


@njit(nogil=True, cache=True, error_model="numpy")
def _extremes(tile, smallest, largest):
    smallest[:] = tile[0]
    largest[:] = tile[0]
    for t in range(1, tile.shape[0]):
        row = tile[t]
        for i in range(smallest.shape[0]):
            smallest[i] = min(smallest[i], row[i])
            largest[i] = max(largest[i], row[i])


@njit(nogil=True, cache=True, error_model="numpy")
def _least_above(tile, limit, least):
    """The smallest frame of each pixel above a limit; what `least` holds where there is none."""
    for t in range(tile.shape[0]):
        row = tile[t]
        for i in range(least.shape[0]):
            x = row[i]
            least[i] = min(least[i], x) if x > limit[i] else least[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _least_distance_above(tile, centre, odd, limit, least):
    """The same of the distances from ``centre .. centre + odd``."""
    for t in range(tile.shape[0]):
        row = tile[t]
        for i in range(least.shape[0]):
            c, x = centre[i], row[i]
            beyond = np.uint16(x - c - odd[i])
            distance = beyond if x > c else np.uint16(c - x)
            least[i] = min(least[i], distance) if distance > limit[i] else least[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _codes_median_mad(tile, zero, median, mad):
    """Of a tile of codes (time, pixel); `median` and `mad` may be shorter than the tile."""
    length, width = tile.shape
    rank = (length + 1) // 2  # so many lie at or below the lower of the two in the middle
    even = length % 2 == 0
    smallest, largest = np.empty(width, np.uint16), np.empty(width, np.uint16)
    _extremes(tile, smallest, largest)
    low, high = smallest.copy(), largest.copy()
    guess, count = np.empty(width, np.uint16), np.empty(width, np.uint16)
    reached = np.full(width, length, np.uint16)  # how many lie at or below `high`
    while _halve(low, high, guess):
        _count_at_most(tile, guess, count)
        _narrow(low, high, guess, count, rank, reached)
    lower, upper = high, high.copy()
    if even and _passed(reached, rank, upper, largest):
        _least_above(tile, lower, upper)

    # Deviations from the middle of both are all whole, or all half: half + a distance from the
    # codes centre and centre + odd.
    centre, odd = np.empty(width, np.uint16), np.empty(width, np.uint16)
    far = np.empty(width, np.uint16)
    for i in range(width):
        both = np.int64(lower[i]) + np.int64(upper[i])
        odd[i] = both % 2
        centre[i] = both // 2
        far[i] = max(
            int(centre[i]) - int(smallest[i]), int(largest[i]) - int(centre[i] + odd[i]), 0
        )
    low, high = np.zeros(width, np.uint16), far.copy()
    start, span = np.empty(width, np.uint16), np.empty(width, np.uint16)
    reached[:] = length
    while _halve(low, high, guess):
        for i in range(width):
            start[i] = max(int(centre[i]) - int(guess[i]), int(smallest[i]))
            stop = min(int(centre[i]) + int(odd[i]) + int(guess[i]), int(largest[i]))
            span[i] = stop - start[i]
        _count_within(tile, start, span, count)
        _narrow(low, high, guess, count, rank, reached)
    near, next_near = high, high.copy()
    if even and _passed(reached, rank, next_near, far):
        _least_distance_above(tile, centre, odd, near, next_near)
    for i in range(median.shape[0]):
        median[i] = np.float64(np.int64(lower[i]) + np.int64(upper[i]) - 2 * zero) / 2
        mad[i] = (np.float64(near[i]) + np.float64(next_near[i]) + np.float64(odd[i])) / 2


@njit(nogil=True, cache=True, error_model="numpy")
def _halve(low, high, guess):
    """Guess the middle of each range; whether any range is left."""
    left = np.uint16(0)
    for i in range(low.shape[0]):
        width = np.uint16(high[i] - low[i])
        guess[i] = low[i] + np.uint16(width >> np.uint16(1))
        left |= width
    return left != 0


@njit(nogil=True, cache=True, error_model="numpy")
def _narrow(low, high, guess, count, rank, reached):
    """Keep the half in which the order statistic lies."""
    for i in range(low.shape[0]):
        if low[i] < high[i]:
            if count[i] >= rank:
                high[i] = guess[i]
                reached[i] = count[i]
            else:
                low[i] = guess[i] + 1


@njit(nogil=True, cache=True, error_model="numpy")
def _passed(reached, rank, upper, largest):
    """Where the next order statistic lies above, start from the largest; whether any does."""
    found = False
    for i in range(upper.shape[0]):
        if reached[i] == rank:
            upper[i] = largest[i]
            found = True
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def _codes_mean_variance(tile, zero, mean, variance):
    """Of a tile of codes: exact sums about the first frame."""
    length, width = tile.shape
    total, squares = np.zeros(width, np.int64), np.zeros(width, np.int64)
    first = tile[0]
    for t in range(length):
        row = tile[t]
        for i in range(width):
            x = np.int64(np.int32(row[i]) - np.int32(first[i]))
            total[i] += x
            squares[i] += x * x
    n = np.uint64(length)
    for i in range(mean.shape[0]):
        mean[i] = np.float64((np.int64(first[i]) - zero) * length + total[i]) / length
        # Both below 2^64, and their difference exact.
        size = np.uint64(abs(total[i]))
        spread = np.float64(n * np.uint64(squares[i]) - size * size)
        variance[i] = spread / length / (length - 1) if length > 1 else np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def _floats_mean_variance(tile, mean, variance, n):
    """Of a tile of floats, infinity where there is no value; two passes."""
    length, width = tile.shape
    total, squares, count = np.zeros(width), np.zeros(width), np.zeros(width)
    for t in range(length):
        row = tile[t]
        for i in range(width):
            there = row[i] < np.inf
            count[i] += 1.0 if there else 0.0
            total[i] += row[i] if there else 0.0
    for i in range(width):
        total[i] /= count[i]
    rest = np.zeros(width)  # what rounding left in the mean
    for t in range(length):
        row = tile[t]
        for i in range(width):
            off = row[i] - total[i] if row[i] < np.inf else 0.0
            rest[i] += off
            squares[i] += off * off
    for i in range(mean.shape[0]):
        n[i] = np.int32(count[i])
        mean[i] = total[i]
        spread = squares[i]
        if spread < np.inf:
            spread -= rest[i] * rest[i] / count[i]
        variance[i] = max(spread, 0.0) / (count[i] - 1) if count[i] > 1 else np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def _floats_median_mad(tile, median, mad, n):
    """Of a tile of floats, infinity where there is no value; the tile becomes the deviations."""
    length, width = tile.shape
    count = np.zeros(width, np.int64)
    for t in range(length):
        row = tile[t]
        for i in range(width):
            count[i] += row[i] < np.inf
    middle, deviation = np.empty(width), np.empty(width)
    _floats_middle(tile, count, middle)
    for t in range(length):
        row = tile[t]
        for i in range(width):
            row[i] = abs(row[i] - middle[i]) if row[i] < np.inf else np.inf
    _floats_middle(tile, count, deviation)
    for i in range(median.shape[0]):
        n[i] = count[i]
        median[i] = middle[i]
        mad[i] = deviation[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _floats_middle(tile, n, middle):
    """Median of the first `n` values of each pixel in ascending order.

    The order statistic lies in (low, high], of which `below` and `reached` tell how many values are
    at or below them. Guesses halve the range of values until it holds one value, which the next
    look finds; where values crowd together it is sorted.
    """
    length, width = tile.shape
    low, high = np.full(width, -np.inf), np.full(width, -np.inf)
    smallest = np.full(width, np.inf)
    for t in range(length):
        row = tile[t]
        for i in range(width):
            smallest[i] = min(smallest[i], row[i])
            high[i] = max(high[i], row[i]) if row[i] < np.inf else high[i]
    rank = (n + 1) // 2
    below, reached = np.zeros(width, np.int64), n.copy()
    guess, count = np.empty(width), np.empty(width, np.int64)
    for _ in range(_BISECTIONS + int(np.log2(length)) + 1):
        left = False
        for i in range(width):
            start = max(low[i], smallest[i])
            guess[i] = start + (high[i] - start) / 2
            left |= reached[i] - below[i] > 1 and low[i] < guess[i] < high[i]
        if not left:
            break
        _count_at_most(tile, guess, count)
        for i in range(width):
            if reached[i] - below[i] > 1 and low[i] < guess[i] < high[i]:
                if count[i] >= rank[i]:
                    high[i], reached[i] = guess[i], count[i]
                else:
                    low[i], below[i] = guess[i], count[i]
    least, most = np.full(width, np.inf), np.full(width, -np.inf)
    for t in range(length):
        row = tile[t]
        for i in range(width):
            x = row[i]
            least[i] = min(least[i], x) if x > low[i] else least[i]
            most[i] = max(most[i], x) if x <= high[i] else most[i]
    for i in range(width):
        if n[i] and least[i] < most[i]:
            crowd = np.sort(tile[:, i])
            least[i] = crowd[rank[i] - 1]
    count[:] = 0
    most[:] = np.inf
    for t in range(length):
        row = tile[t]
        for i in range(width):
            x = row[i]
            count[i] += x <= least[i]
            most[i] = min(most[i], x) if x > least[i] else most[i]
    for i in range(width):
        upper = most[i] if n[i] % 2 == 0 and count[i] == rank[i] else least[i]
        middle[i] = (least[i] + upper) / 2 if n[i] else np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def _ends(tile, low, high, smallest, largest, at_smallest, at_largest):
    """Extremes of each pixel, from `low` and `high` on, and how many frames have them."""
    width = tile.shape[1]
    for t in range(tile.shape[0]):
        row = tile[t]
        for i in range(width):
            low[i] = row[i] if row[i] < low[i] else low[i]
            high[i] = row[i] if row[i] > high[i] else high[i]
    first, last = np.zeros(width, np.int32), np.zeros(width, np.int32)
    for t in range(tile.shape[0]):
        row = tile[t]
        for i in range(width):
            first[i] += row[i] == low[i]
            last[i] += row[i] == high[i]
    for i in range(smallest.shape[0]):
        smallest[i], largest[i] = low[i], high[i]
        at_smallest[i], at_largest[i] = first[i], last[i]
