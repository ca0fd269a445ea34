"""One block of pixel-clustering preprocessing: division by the sum, values in a window."""

from __future__ import annotations

import numpy as np
from numba import njit

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
