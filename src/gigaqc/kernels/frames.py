"""What `temporal` computes, written for the array API: for frames on a device.

Results are numpy arrays: maps are all that leaves the device. A pixel's frames are sorted, which a
device does faster than it starts the many small steps of a bisection.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gigaqc.backend import namespace_of, to_host
from gigaqc.kernels.temporal import Maps


def median_and_mad(frames: Any) -> Maps:
    """Median and median absolute deviation along the first axis, as `temporal.median_and_mad`."""
    xp = namespace_of(frames)
    if xp.isdtype(frames.dtype, "integral") and xp.iinfo(frames.dtype).bits <= 16:
        # Twice the values, so that the middle of two is whole; a quarter of the memory of float64.
        twice = 2 * xp.astype(frames, xp.int32)
        low, high = _middle_two(xp, twice, None)
        middle = (low + high) // 2
        off_low, off_high = _middle_two(xp, xp.abs(twice - middle), None)
        counts = np.full(frames.shape[1], frames.shape[0], "i4")
        return to_host(middle) / 2, (to_host(off_low) + to_host(off_high)) / 4, counts
    values, n = _values(xp, frames)
    low, high = _middle_two(xp, values, n)
    middle = xp.where(n > 0, (low + high) / 2, 0.0)
    distance = xp.where(values < xp.inf, xp.abs(values - middle), xp.inf)
    off_low, off_high = _middle_two(xp, distance, n)
    maps = (xp.where(n > 0, m, math.nan) for m in (middle, (off_low + off_high) / 2))
    median, mad = map(to_host, maps)
    return median, mad, to_host(n).astype("i4")


def mean_and_variance(frames: Any) -> Maps:
    """Mean and variance along the first axis, as `temporal.mean_and_variance`."""
    xp = namespace_of(frames)
    values, n = _values(xp, frames)
    there = values < xp.inf
    count = xp.astype(n, xp.float64)
    some = xp.where(count > 0, count, xp.nan)
    mean = xp.sum(xp.where(there, values, 0.0), axis=0) / some
    off = xp.where(there, values - mean, 0.0)
    spread = xp.sum(off * off, axis=0) - xp.sum(off, axis=0) ** 2 / some
    less_one = xp.where(count > 1, count - 1, xp.nan)
    variance = xp.where(spread > 0, spread, 0.0) / less_one
    return to_host(mean), to_host(variance), to_host(n).astype("i4")


def extremes(frames: Any) -> tuple[np.ndarray, ...]:
    """Smallest and largest finite value along the first axis, as `temporal.extremes`."""
    xp = namespace_of(frames)
    values, _ = _values(xp, frames)
    low = xp.min(values, axis=0)
    values = xp.where(values < xp.inf, values, -xp.inf)
    high = xp.max(values, axis=0)
    inside = values > -xp.inf
    counts = [
        to_host(xp.sum(xp.astype(inside & (values == end), xp.int64), axis=0)).astype("i4")
        for end in (low, high)
    ]
    return to_host(low), to_host(high), *counts


def _values(xp: Any, frames: Any) -> tuple[Any, Any]:
    """Float64 with infinity for what is not finite, and how many frames of a pixel are."""
    values = xp.astype(frames, xp.float64)
    finite = xp.isfinite(values)
    return xp.where(finite, values, xp.inf), xp.sum(xp.astype(finite, xp.int64), axis=0)


def _middle_two(xp: Any, values: Any, n: Any) -> tuple[Any, Any]:
    """The two values in the middle of the first `n` in ascending order; of all without `n`."""
    ordered = xp.sort(values, axis=0)
    if n is None:
        length = values.shape[0]
        return ordered[(length - 1) // 2, :], ordered[length // 2, :]
    n = xp.where(n > 0, n, 1)
    places = xp.stack([(n - 1) // 2, n // 2])
    both = xp.take_along_axis(ordered, places, axis=0)
    return both[0, :], both[1, :]
