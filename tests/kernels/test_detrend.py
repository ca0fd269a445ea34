"""The closed forms against least squares in long double, and the sums of partial fits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gigaqc.kernels import detrend


def gram(frames: int, degree: int) -> np.ndarray:
    """Gram's polynomials of leading coefficient 1 at -1 to `frames`, by their definition."""
    t = np.arange(-1, frames + 1).astype("g")
    inside = slice(1, frames + 1)
    columns: list[np.ndarray] = []
    for k in range(min(degree + 1, frames)):
        column = (t - (frames - 1) / 2) ** k
        for _ in range(2):
            for other in columns:
                along = (column[inside] @ other[inside]) / (other[inside] @ other[inside])
                column = column - along * other
        columns.append(column)
    return np.array(columns)


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 20, 301])
def test_gram_polynomials(frames: int) -> None:
    degree = min(frames - 1, 4)
    truth = gram(frames, degree)
    norms = (truth[:, 1:-1] ** 2).sum(axis=1).astype("f8")
    np.testing.assert_allclose(detrend.gram_norms(frames, degree), norms, rtol=1e-13)
    values = detrend.gram_values(frames, degree)
    np.testing.assert_allclose(values, truth[:, -1].astype("f8"), rtol=1e-13)
    signs = (-1.0) ** np.arange(degree + 1)
    np.testing.assert_allclose(signs * values, truth[:, 0].astype("f8"), rtol=1e-13)
    assert (detrend.gram_norms(frames, 20)[frames:] == 0).all()


@pytest.mark.parametrize(("start", "frames", "total"), [(0, 9, 9), (4, 7, 30), (22, 8, 30)])
def test_legendre_divides_into_gram(start: int, frames: int, total: int) -> None:
    times = np.arange(start, start + frames)
    mixes = detrend.gram_mixes(start, frames, total, 3)
    polynomials = gram(frames, 3)[:, 1:-1].astype("f8")
    np.testing.assert_allclose(
        polynomials.T @ mixes, detrend.legendre(times, total, 3), rtol=1e-11, atol=1e-9
    )
    np.testing.assert_array_equal(np.diag(mixes), 1)
    np.testing.assert_array_equal(np.tril(mixes, -1), 0)


@pytest.mark.parametrize("degree", range(7))
def test_legendre(degree: int) -> None:
    t = np.linspace(-1, 1, 33)
    leading = np.polynomial.legendre.leg2poly([0] * degree + [1])[-1]
    expected = np.polynomial.legendre.legval(t, [0] * degree + [1]) / leading * 16.0**degree
    found = detrend.legendre(np.arange(33), 33, degree)[:, degree]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * 16.0**degree)


def residual_squares(values: np.ndarray, degree: int) -> np.ndarray:
    basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, len(values)), degree)
    return ((values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]) ** 2).sum(axis=0)


def added(values: np.ndarray, cuts: list[int], degree: int, gaps: bool) -> tuple[np.ndarray, ...]:
    """Fit and squares of rows that are added in pieces."""
    total, pixels = values.shape
    reference, squares = values[0].astype("f8"), np.zeros(pixels)
    fit, norms = np.zeros((2, degree + 1, pixels))
    mixes = np.zeros((degree * (degree + 1) // 2, pixels))
    for first, last in itertools.pairwise([0, *cuts, total]):
        block = detrend.compiled_type(values[first:last])
        if gaps:
            polynomials = detrend.legendre(np.arange(first, last), total, degree)
            detrend.add_frames_with_gaps(block, polynomials, reference, norms, mixes, fit, squares)
        else:
            steps = detrend.frame_steps(first, last - first, degree)
            detrend.add_frames(block, reference, steps, fit, squares)
    return fit, squares


@pytest.mark.cover(2)
@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", ">i2", "u4", "i8", "f2", "f4", ">f8"])
@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("gaps", [False, True])
def test_residuals(dtype: str, degree: int, gaps: bool) -> None:
    """More pixels than a tile, an odd number of frames, any pieces."""
    values = np.random.default_rng(0).poisson(30, (41, 1100)).astype(dtype)
    expected = residual_squares(values.astype("f8"), degree)
    for cuts in ([], [1, 2, 3], [20], [40]):
        fit, squares = added(values, cuts, degree, gaps)
        np.testing.assert_allclose(squares, expected, rtol=1e-11, atol=1e-12)
        means = fit[0] + values[0].astype("f8")
        np.testing.assert_allclose(means, values.astype("f8").mean(axis=0), rtol=1e-13)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("before", [1, 2, 3, 17, 28])
def test_partial_fits_add(degree: int, before: int) -> None:
    values = np.random.default_rng(1).normal(0, 5, (30, 6))
    nothing = np.zeros(6)
    fits, squares = [], []
    for part in (values[:before], values[before:]):
        fit, square = np.zeros((degree + 1, 6)), np.zeros(6)
        detrend.add_frames(part, nothing, detrend.frame_steps(0, len(part), degree), fit, square)
        fits.append(fit)
        squares.append(square)
    first, rest = detrend.series_steps(before, 30 - before, degree)
    detrend.add_frames(fits[1][:1], nothing, first, fits[0], squares[0])
    detrend.add_frames(fits[1][1:], nothing, rest, fits[0], squares[0])
    np.testing.assert_allclose(
        squares[0] + squares[1], residual_squares(values, degree), rtol=1e-12
    )
    whole, square = np.zeros((degree + 1, 6)), np.zeros(6)
    detrend.add_frames(values, nothing, detrend.frame_steps(0, 30, degree), whole, square)
    np.testing.assert_allclose(fits[0], whole, rtol=1e-10)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite(dtype: str, bad: float) -> None:
    block = np.full((3, 2000), 1e30, dtype)
    assert detrend.all_finite(block)
    block[2, 1999] = bad
    assert not detrend.all_finite(block)


def test_integers_are_finite() -> None:
    assert detrend.all_finite(np.zeros((2, 2), "u2"))
