"""Residual sums of squares of each pixel of a series after a polynomial of time, frame by frame.

Least squares by planar rotations without square roots (Gentleman 1974), which for a constant is
Welford's algorithm: a new frame is compared with what the fit to the frames before it foretells,
and the square of the difference, weighted, is what the residual sum of squares gains. Squares only
add up, so neither an offset nor a drift costs digits, as it does when the squares of the fit are
taken from those of the values.

A fit is kept by its coefficients along polynomials that are orthogonal over the frames so far, of
leading coefficient 1. As long as a pixel has all frames, these are Gram's polynomials, the same for
all pixels, and what each step needs of them has a closed form. Where frames are missing, each pixel
has polynomials of its own: `norms` holds their sums of squares over the frames of the pixel, and
`mixes` how Legendre's polynomials of the whole series divide into them (column j is polynomial j
plus ``mixes[place(k, j)]`` times polynomial k for all k < j).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]

_TILE = 1024  # pixels whose sums stay in the cache while all frames of a block are added

_CONTRACT = {"contract"}  # a product and a sum rounded once


@dataclass(frozen=True)
class TimeSteps:
    """What adding rows to a fit takes: polynomials at the row, gains, and the residual's weight."""

    values: Floats  # (rows, degree + 1)
    gains: Floats  # (rows, degree + 1)
    weights: Floats  # (rows,)


def gram_norms(frames: npt.ArrayLike, degree: int) -> Floats:
    """Sums of squares of Gram's polynomials over a number of frames, on a last axis of degrees.

    Exactly 0 where there are no more frames than the degree.
    """
    n = np.asarray(frames, "f8")[..., None]
    columns = []
    for k in range(degree + 1):
        factor = math.factorial(k) ** 4 / (math.factorial(2 * k) * math.factorial(2 * k + 1))
        columns.append(factor * np.prod(n + np.arange(-k, k + 1), axis=-1))
    return np.stack(columns, axis=-1)


def gram_values(frames: npt.ArrayLike, degree: int) -> Floats:
    """Gram's polynomials of a number of frames at the next one, on a last axis of degrees.

    One step before the first frame they are the same, with the sign of ``(-1) ** degree``.
    """
    n = np.asarray(frames, "f8")[..., None]
    columns = [
        np.prod(n + np.arange(1, k + 1), axis=-1) / math.comb(2 * k, k) for k in range(degree + 1)
    ]
    return np.stack(columns, axis=-1)


@lru_cache(maxsize=1024)
def frame_steps(before: int, frames: int, degree: int) -> TimeSteps:
    """How to add `frames` frames to the `before` ones that precede them without a gap."""
    n = np.arange(before, before + frames, dtype="f8")
    values, norms = gram_values(n, degree), gram_norms(n + 1, degree)
    gains = np.zeros_like(values)
    weights = np.ones(frames)
    for k in range(degree + 1):
        known = n >= k  # else the frames so far leave this degree open
        gains[known, k] = weights[known] * values[known, k] / norms[known, k]
        weights = np.where(known, weights * (n - k) / (n + k + 1), 0.0)
    return TimeSteps(values, gains, weights)


def legendre(times: npt.ArrayLike, total: int, degree: int) -> Floats:
    """Legendre's polynomials of a series of `total` frames, leading coefficient 1 (times, degree).

    Of all polynomials with a closed form these come closest to being orthogonal over whatever
    frames a pixel has.
    """
    t = np.asarray(times, "f8") - (total - 1) / 2
    columns = [np.ones_like(t)]
    for k in range(degree):
        below = columns[k - 1] * _legendre_link(k, total) if k else 0.0
        columns.append(t * columns[k] - below)
    return np.stack(columns, axis=-1)


def _legendre_link(k: int, total: int) -> float:
    half = max(total - 1, 1) / 2
    return half * half * k * k / (4 * k * k - 1)


def gram_mixes(start: int, frames: int, total: int, degree: int) -> Floats:
    """How Legendre's polynomials divide into those of Gram of ``start : start + frames``.

    (degree + 1, degree + 1), upper triangular with ones on its diagonal.
    """
    middle = start + (frames - 1) / 2 - (total - 1) / 2
    mixes = np.zeros((degree + 1, degree + 1))
    mixes[0, 0] = 1.0
    for j in range(degree):
        column = mixes[:, j]
        following = middle * column
        following[1:] += column[:-1]
        for k in range(1, degree + 1):
            following[k - 1] += column[k] * k * k * (frames**2 - k * k) / (4 * (4 * k * k - 1))
        if j:
            following -= mixes[:, j - 1] * _legendre_link(j, total)
        mixes[:, j + 1] = following
    return mixes


@lru_cache(maxsize=1024)
def series_steps(before: int, after: int, degree: int) -> tuple[TimeSteps, TimeSteps]:
    """How to add to the fit of `before` frames that of the `after` ones that follow it.

    Each coefficient of the second fit is a row that is added to the first: here that of the mean,
    from which a difference of references is to be taken, and the others.
    """
    total = before + after
    norms, mixes = gram_norms(before, degree), gram_mixes(0, before, total, degree)
    rows, weights = gram_mixes(before, after, total, degree), gram_norms(after, degree)
    gains = np.zeros_like(rows)
    for row, gain, r in zip(rows, gains, range(degree + 1), strict=True):
        for k in range(degree + 1):
            norm = norms[k] + weights[r] * row[k] * row[k]
            if norm > 0:
                gain[k] = weights[r] * row[k] / norm
                weights[r] *= norms[k] / norm
            norms[k] = norm
            row[k + 1 :] -= row[k] * mixes[k, k + 1 :]
            mixes[k, k + 1 :] += gain[k] * row[k + 1 :]
    return (
        TimeSteps(rows[:1], gains[:1], weights[:1]),
        TimeSteps(rows[1:], gains[1:], weights[1:]),
    )


def place(k: int, j: int) -> int:
    """Where `mixes` holds the part of polynomial k in column j > k."""
    return j * (j - 1) // 2 + k


def compiled_type(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values in one of the four types that the kernels are compiled for."""
    kind, size = block.dtype.kind, block.dtype.itemsize
    if kind == "f":
        target = "f4" if size <= 4 else "f8"
    elif size <= 2:
        target = "u2" if (kind, size) == ("u", 2) else "i2"
    else:
        target = "f8"
    return np.require(block, target, ["C", "W"])


def add_frames(
    block: npt.NDArray[Any], reference: Floats, steps: TimeSteps, fit: Floats, squares: Floats
) -> None:
    """Add the rows of a block to the sums of its pixels, all of which have a value in each.

    Parameters
    ----------
    block
        (rows, pixels), of a type that `compiled_type` gives.
    reference
        What is taken from each pixel before anything else.
    steps
        For each row.
    fit, squares
        (degree + 1, pixels) coefficients and (pixels,) residual sums of squares; changed.
    """
    if len(fit) <= 3:
        values, gains = np.zeros((len(block), 3)), np.zeros((len(block), 3))
        values[:, : len(fit)], gains[:, : len(fit)] = steps.values, steps.gains
        _add_up_to_quadratic(block, reference, values, gains, steps.weights, fit, squares)
    else:
        _add_any(block, reference, steps.values, steps.gains, steps.weights, fit, squares)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_CONTRACT)
def _two_frames(row, row_2, reference, b0, b1, b2, squares, x, s, w, x_2, s_2, w_2):
    """Two frames at a time, so that the sums are fetched and put back once for both."""
    x0, x1, x2, s0, s1, s2 = x[0], x[1], x[2], s[0], s[1], s[2]
    x0_2, x1_2, x2_2 = x_2[0], x_2[1], x_2[2]
    s0_2, s1_2, s2_2 = s_2[0], s_2[1], s_2[2]
    for i in range(row.shape[0]):
        y = np.float64(row[i]) - reference[i]
        y_2 = np.float64(row_2[i]) - reference[i]
        b = b0[i]
        y -= x0 * b
        b += s0 * y
        y_2 -= x0_2 * b
        b0[i] = b + s0_2 * y_2
        b = b1[i]
        y -= x1 * b
        b += s1 * y
        y_2 -= x1_2 * b
        b1[i] = b + s1_2 * y_2
        b = b2[i]
        y -= x2 * b
        b += s2 * y
        y_2 -= x2_2 * b
        b2[i] = b + s2_2 * y_2
        squares[i] += w * y * y + w_2 * y_2 * y_2


@njit(nogil=True, cache=True, error_model="numpy")
def _add_up_to_quadratic(block, reference, values, gains, weights, fit, squares):
    rows, pixels = block.shape
    unused_1, unused_2 = np.zeros(_TILE), np.zeros(_TILE)
    nothing = np.zeros(3)
    for first in range(0, pixels, _TILE):
        last = min(first + _TILE, pixels)
        b1 = fit[1, first:last] if len(fit) > 1 else unused_1[: last - first]
        b2 = fit[2, first:last] if len(fit) > 2 else unused_2[: last - first]
        for t in range(0, rows, 2):
            single = t + 1 == rows
            _two_frames(
                block[t, first:last],
                block[t if single else t + 1, first:last],
                reference[first:last],
                fit[0, first:last],
                b1,
                b2,
                squares[first:last],
                values[t],
                gains[t],
                weights[t],
                nothing if single else values[t + 1],
                nothing if single else gains[t + 1],
                0.0 if single else weights[t + 1],
            )


@njit(nogil=True, cache=True, error_model="numpy")
def _begin(row, reference, rest):
    for i in range(row.shape[0]):
        rest[i] = np.float64(row[i]) - reference[i]


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_CONTRACT)
def _take_away(rest, b, value, gain):
    for i in range(rest.shape[0]):
        y = rest[i] - value * b[i]
        b[i] += gain * y
        rest[i] = y


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_CONTRACT)
def _end(rest, squares, weight):
    for i in range(rest.shape[0]):
        squares[i] += weight * rest[i] * rest[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _add_any(block, reference, values, gains, weights, fit, squares):
    rows, pixels = block.shape
    buffer = np.empty(_TILE)
    for first in range(0, pixels, _TILE):
        last = min(first + _TILE, pixels)
        rest = buffer[: last - first]
        for t in range(rows):
            _begin(block[t, first:last], reference[first:last], rest)
            for k in range(fit.shape[0]):
                _take_away(rest, fit[k, first:last], values[t, k], gains[t, k])
            _end(rest, squares[first:last], weights[t])


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc"})
def _times_zero(row):
    total = 0.0
    for i in range(row.shape[0]):
        total += np.float64(row[i]) * 0.0
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def _all_finite(block):
    total = 0.0
    for t in range(block.shape[0]):
        total += _times_zero(block[t])
    return total == 0.0


def all_finite(block: npt.NDArray[Any]) -> bool:
    """Whether no value of (rows, pixels) is NaN or infinite."""
    return block.dtype.kind != "f" or bool(_all_finite(block))


@njit(nogil=True, cache=True, error_model="numpy")
def _begin_with_gaps(row, reference, rest, weight):
    """What is missing gets weight 0; the first value of a pixel becomes its reference."""
    for i in range(row.shape[0]):
        value = np.float64(row[i])
        known = value - value == 0.0
        base = reference[i]
        base = value if known and base != base else base
        reference[i] = base
        rest[i] = value - base if known else 0.0
        weight[i] = 1.0 if known else 0.0


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_CONTRACT)
def _gain(x, norm, weight, gain):
    """How far the fit of a polynomial follows a row; the weight that is left for the next ones."""
    for i in range(x.shape[0]):
        before = norm[i]
        moved = weight[i] * x[i]
        after = before + moved * x[i]
        inverse = 1.0 / after if after > 0.0 else 0.0
        gain[i] = moved * inverse
        weight[i] = weight[i] * (before * inverse) if after > 0.0 else weight[i]
        norm[i] = after


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_CONTRACT)
def _follow(x, b, rest, gain):
    for i in range(x.shape[0]):
        y = rest[i] - x[i] * b[i]
        b[i] += gain[i] * y
        rest[i] = y


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_CONTRACT)
def _mix(x, x_j, mix, gain):
    for i in range(x.shape[0]):
        v = x_j[i] - x[i] * mix[i]
        mix[i] += gain[i] * v
        x_j[i] = v


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_CONTRACT)
def _end_weighted(rest, weight, squares):
    for i in range(rest.shape[0]):
        squares[i] += weight[i] * rest[i] * rest[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _add_row(x, rest, weight, gain, norms, mixes, fit, squares, first, last):
    """Add one row to a tile: its polynomials `x` (degree + 1, pixels), value and weight."""
    n = last - first
    for k in range(fit.shape[0]):
        # Two loops, because one of so many arrays is not vectorised.
        _gain(x[k, :n], norms[k, first:last], weight, gain)
        _follow(x[k, :n], fit[k, first:last], rest, gain)
        for j in range(k + 1, fit.shape[0]):
            _mix(x[k, :n], x[j, :n], mixes[j * (j - 1) // 2 + k, first:last], gain)
    _end_weighted(rest, weight, squares[first:last])


@njit(nogil=True, cache=True, error_model="numpy")
def add_frames_with_gaps(block, polynomials, reference, norms, mixes, fit, squares):
    """Add the rows of a block to the sums of its pixels; NaN and infinite values are left out.

    `polynomials` are Legendre's at each row (rows, degree + 1); what a pixel has no value for yet
    has a reference of NaN. All but the first two are changed.
    """
    rows, pixels = block.shape
    width = min(_TILE, pixels)
    x = np.empty((fit.shape[0], width))
    rest, weight, gain = np.empty(width), np.empty(width), np.empty(width)
    for first in range(0, pixels, width):
        last = min(first + width, pixels)
        n = last - first
        for t in range(rows):
            _begin_with_gaps(block[t, first:last], reference[first:last], rest[:n], weight[:n])
            for k in range(fit.shape[0]):
                x[k, :n] = polynomials[t, k]
            _add_row(x, rest[:n], weight[:n], gain[:n], norms, mixes, fit, squares, first, last)


@njit(nogil=True, cache=True, error_model="numpy")
def add_fits(norms_2, mixes_2, fit_2, norms, mixes, fit, squares):
    """Add to the sums of each pixel those of other frames, about the same reference.

    Each coefficient of the second fit is a row that is added to the first, which is changed.
    """
    degrees, pixels = fit.shape
    width = min(_TILE, pixels)
    x = np.empty((degrees, width))
    rest, weight, gain = np.empty(width), np.empty(width), np.empty(width)
    for first in range(0, pixels, width):
        last = min(first + width, pixels)
        n = last - first
        for r in range(degrees):
            for j in range(degrees):
                if j > r:
                    x[j, :n] = mixes_2[j * (j - 1) // 2 + r, first:last]
                else:
                    x[j, :n] = 1.0 if j == r else 0.0
            rest[:n] = fit_2[r, first:last]
            weight[:n] = norms_2[r, first:last]
            _add_row(x, rest[:n], weight[:n], gain[:n], norms, mixes, fit, squares, first, last)


def value_at(row: Floats, mixes: Floats, fit: Floats) -> Floats:
    """The fit of each pixel where Legendre's polynomials are `row`."""
    x = [np.full_like(fit[0], value) for value in row]
    total = np.zeros_like(fit[0])
    for k, coefficients in enumerate(fit):
        total += x[k] * coefficients
        for j in range(k + 1, len(fit)):
            x[j] -= x[k] * mixes[place(k, j)]
    return total
