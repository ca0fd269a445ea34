"""What `temporal` and `detrend` compute, written for the array API: for frames on a device.

Results of `temporal` are numpy arrays: maps are all that leaves the device. A polynomial of pixels
that have all frames is fitted to many of them at once by products of matrices.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from gigaqc.base.backend import beside, namespace_of, to_host
from gigaqc.kernels.detrend import Floats, TimeSteps, gram_norms, place
from gigaqc.kernels.temporal import Maps
from gigaqc.kernels.vectors import doubles


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


@lru_cache(maxsize=64)
def _gram(frames: int, degree: int) -> tuple[Floats, Floats]:
    """Gram's polynomials over all frames (frames, degree + 1), and over their sums of squares.

    The latter is 0 where the frames leave a degree open.
    """
    t = np.arange(frames) - (frames - 1) / 2
    values = np.zeros((frames, degree + 1))
    norms = gram_norms(frames, degree)
    values[:, 0] = 1.0
    for k in range(1, min(degree + 1, frames)):
        column, before = t * values[:, k - 1], values[:, :k]
        for _ in range(2):  # once is not orthogonal to rounding
            column = column - before @ ((before.T @ column) / norms[:k])
        values[:, k] = column
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(norms > 0, values / norms, 0.0)
    return values, shares


def fitted(rows: Any, degree: int) -> tuple[Any, Any]:
    """Coefficients (degree + 1, pixels) of rows along Gram's polynomials, and squares of the rest.

    `rows` are float64 (rows, pixels). They are fitted twice, the second time what the first one
    left, so that the rest is as exact as the rows.
    """
    xp = namespace_of(rows)
    values, shares = _gram(rows.shape[0], degree)
    along, down = beside(values, rows), beside(np.ascontiguousarray(shares.T), rows)
    fit = down @ rows
    rest = rows - along @ fit
    missed = down @ rest
    rest = rest - along @ missed
    return fit + missed, xp.sum(rest * rest, axis=0)


def compiled_type(block: Any) -> Any:
    """The block: what a device compiles, it compiles for any type."""
    return block


def all_finite(block: Any) -> bool:
    """Whether no value is NaN or infinite."""
    xp = namespace_of(block)
    return not xp.isdtype(block.dtype, "real floating") or bool(xp.all(xp.isfinite(block)))


def add_frames(block: Any, reference: Any, steps: TimeSteps, fit: Any, squares: Any) -> None:
    """Add rows one by one, as `detrend.add_frames`."""
    for t, weight in enumerate(steps.weights.tolist()):
        rest = doubles(block[t, :]) - reference
        for k in range(fit.shape[0]):
            rest = rest - fit[k, :] * float(steps.values[t, k])
            fit[k, :] += rest * float(steps.gains[t, k])
        squares += rest * rest * weight


def add_frames_with_gaps(
    block: Any, polynomials: Floats, reference: Any, norms: Any, mixes: Any, fit: Any, squares: Any
) -> None:
    """Add rows one by one, without what is not finite, as `detrend.add_frames_with_gaps`."""
    xp = namespace_of(block)
    for t in range(block.shape[0]):
        values = doubles(block[t, :])
        known = xp.isfinite(values)
        reference[...] = xp.where(known & xp.isnan(reference), values, reference)
        rest = xp.where(known, values - reference, 0.0)
        x = [xp.full_like(rest, float(value)) for value in polynomials[t]]
        _add_row(x, rest, xp.astype(known, xp.float64), norms, mixes, fit, squares)


def add_fits(
    norms_2: Any, mixes_2: Any, fit_2: Any, norms: Any, mixes: Any, fit: Any, squares: Any
) -> None:
    """Add the sums of other frames about the same reference, as `detrend.add_fits`."""
    xp = namespace_of(fit)
    degrees = fit.shape[0]
    for r in range(degrees):
        x = [xp.full_like(squares, float(j == r)) for j in range(r + 1)]
        x += [mixes_2[place(r, j), :] for j in range(r + 1, degrees)]
        _add_row(x, fit_2[r, :], norms_2[r, :], norms, mixes, fit, squares)


def _add_row(
    x: list[Any], rest: Any, weight: Any, norms: Any, mixes: Any, fit: Any, squares: Any
) -> None:
    """Add one row: its polynomials `x`, values and weights."""
    xp = namespace_of(fit)
    for k in range(fit.shape[0]):
        before = norms[k, :] + 0.0  # a copy, because it changes
        moved = weight * x[k]
        after = before + moved * x[k]
        some = after > 0
        inverse = xp.where(some, 1.0 / xp.where(some, after, 1.0), 0.0)
        gain = moved * inverse
        weight = xp.where(some, weight * (before * inverse), weight)
        norms[k, :] = after
        rest = rest - x[k] * fit[k, :]
        fit[k, :] += gain * rest
        for j in range(k + 1, fit.shape[0]):
            x[j] = x[j] - x[k] * mixes[place(k, j), :]
            mixes[place(k, j), :] += gain * x[j]
    squares += weight * rest * rest
