"""What `detrend` computes, written for the array API: for frames on a device.

Where a pixel has all frames, a device fits many of them at once by products of matrices: frames one
by one would be a dozen starts of kernels each. What is fitted is then added to the frames before
it, as `detrend` adds series. Where frames are missing they are added one by one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from gigaqc.backend import beside, namespace_of
from gigaqc.kernels.detrend import Floats, TimeSteps, gram_norms, place
from gigaqc.kernels.vectors import doubles


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
