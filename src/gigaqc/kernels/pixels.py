"""The pixels of a block, for clustering: divided by their sum, classified."""

from __future__ import annotations

import numpy as np
from numba import njit

_RUN = 256  # pixels that are looked at together: their sums stay in the cache


@njit(nogil=True, cache=True, error_model="numpy")
def most_probable(pixels, means, factors, offsets, out):
    """Component k with the largest ``offsets[k] - |(x - means[k]) @ factors[k]|^2 / 2``.

    `pixels` (C, n) float64, finite; `factors` (K, C, C) upper triangular: Cholesky factors of the
    precisions; `offsets` log weight and log determinant. The first of equal ones, and where
    squares are beyond float64.
    """
    channels, n = pixels.shape
    best = np.empty(_RUN)
    squares = np.empty(_RUN)
    line = np.empty(_RUN)
    for start in range(0, n, _RUN):
        m = min(_RUN, n - start)
        best[:] = -np.inf
        out[start : start + m] = 0
        for k in range(means.shape[0]):
            squares[:] = 0.0
            for j in range(channels):
                line[:] = 0.0
                for i in range(j + 1):
                    f = factors[k, i, j]
                    mean = means[k, i]
                    row = pixels[i, start : start + m]
                    for p in range(m):
                        line[p] += (row[p] - mean) * f
                for p in range(m):
                    squares[p] += line[p] * line[p]
            offset = offsets[k]
            for p in range(m):
                score = offset - 0.5 * squares[p]
                if score > best[p]:
                    best[p] = score
                    out[start + p] = k


@njit(nogil=True, cache=True, error_model="numpy")
def nearest(pixels, centres, out):
    """Centre with the smallest Euclidean distance; the first of equal ones.

    `pixels` (C, n) float64, finite; `centres` (K, C). Where squares are beyond float64, the first.
    """
    channels, n = pixels.shape
    best = np.empty(_RUN)
    squares = np.empty(_RUN)
    for start in range(0, n, _RUN):
        m = min(_RUN, n - start)
        best[:] = np.inf
        out[start : start + m] = 0
        for k in range(centres.shape[0]):
            squares[:] = 0.0
            for i in range(channels):
                centre = centres[k, i]
                row = pixels[i, start : start + m]
                for p in range(m):
                    d = row[p] - centre
                    squares[p] += d * d
            for p in range(m):
                if squares[p] < best[p]:
                    best[p] = squares[p]
                    out[start + p] = k


KEY_SHIFT = 34  # of the 52 bits of a float64 mantissa, 18 are kept


@njit(nogil=True, cache=True, error_model="numpy")
def add_scaled(values, factor, total):
    """Add ``values * factor`` to a flat array of sums."""
    for i in range(values.shape[0]):
        total[i] += np.float64(values[i]) * factor


@njit(nogil=True, cache=True, error_model="numpy")
def values_in_window(values, low, high, found):
    """Copy the values of a flat array that lie in a window.

    Only finite values other than 0 count. Returns how many were copied, how many there are, and how
    many of them lie below the window.
    """
    n, below, inside = 0, 0, 0
    for i in range(values.shape[0]):
        v = values[i]
        if np.isfinite(v) and v != 0:
            n += 1
            if v < low:
                below += 1
            elif v <= high:
                found[inside] = v
                inside += 1
    return inside, n, below


@njit(nogil=True, cache=True, error_model="numpy")
def divide_by_sum(blurred, factors, threshold, norm_sum, post, cap, out):
    """What the pixels become; `blurred` and `out` have dims channel, pixel.

    A pixel with NaN in a channel, or whose scaled sum is not above `threshold` (NaN: no limit), is
    NaN in all. With `norm_sum` channels are divided by that sum, then multiplied by `post` and
    limited to `cap` (infinite: not).
    """
    channels = blurred.shape[0]
    limited = not np.isnan(threshold)
    run = 1024  # pixels whose sums stay in the cache
    sums = np.empty(run, np.float64)
    for start in range(0, blurred.shape[1], run):
        n = min(run, blurred.shape[1] - start)
        sums[:n] = 0
        for c in range(channels):
            f = factors[c]
            row = blurred[c, start : start + n]
            for i in range(n):
                sums[i] += np.float64(row[i]) * f
        for i in range(n):
            s = sums[i]
            kept = np.isfinite(s) and not (limited and not s > threshold)
            # A weight of the pixel, NaN where the pixel is lost.
            if norm_sum:
                sums[i] = 1.0 / s if kept and s != 0 else np.nan
            else:
                sums[i] = 1.0 if kept else np.nan
        for c in range(channels):
            f = factors[c]
            g = post[c]
            row = blurred[c, start : start + n]
            into = out[c, start : start + n]
            for i in range(n):
                v = np.float64(row[i]) * f * sums[i] * g
                into[i] = cap if v > cap else v


def keys_of(values: np.ndarray) -> np.ndarray:
    """Order-preserving key of float64 values, the same for what lies within 2^-18 of another."""
    bits = np.abs(values).view("i8") >> KEY_SHIFT
    return np.where(values < 0, -bits, bits)
