"""Order statistics and moments along time against numpy, to the bit where that is claimed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import repeatable

from gigaqc.kernels import temporal

DTYPES = ("?", "u1", "i1", "u2", "i2", ">u2", "u4", "i4", "i8", "u8", "f2", "f4", "f8", ">f4")


def frames_of(dtype: str, length: int, pixels: int, seed: int) -> np.ndarray:
    """Pixels of every kind side by side: crowded, spread, constant, at both ends of the type."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random((length, pixels)) < rng.random(pixels)
    if kind.kind == "f":
        frames = rng.normal(rng.uniform(-100, 100, pixels), 10, (length, pixels))
        frames[:, ::3] = np.round(frames[:, ::3] / 5) * 5
        frames[rng.random(frames.shape) < 0.1] = np.nan
        frames[rng.random(frames.shape) < 0.02] = np.inf
        frames[:, 1::7] = 3.25
        frames[:, 2::11] = np.nan
        frames[0, 3::5] = -6e4
        return frames.astype(dtype)
    low, high = (max(min(int(x), 2**62), -(2**62)) for x in (np.iinfo(kind).min, np.iinfo(kind).max))
    frames = rng.integers(low, high, (length, pixels), endpoint=True)
    near = rng.poisson(20, (length, pixels))
    frames[:, ::2] = near[:, ::2]
    frames[:, 1::7] = high
    frames[:, 3::7] = low
    frames[0, 5::7] = low
    return frames.astype(dtype)


def finite(frames: np.ndarray) -> np.ndarray:
    values = frames.astype("f8")
    return np.where(np.isfinite(values), values, np.nan)


@pytest.fixture(autouse=True)
def nothing_but_nan() -> None:
    warnings.filterwarnings("ignore", category=RuntimeWarning)


@repeatable
@given(st.sampled_from(DTYPES), st.integers(1, 40), st.integers(1, 300), st.integers(0, 99))
def test_median_and_mad_to_the_bit(dtype: str, length: int, pixels: int, seed: int) -> None:
    frames = frames_of(dtype, length, pixels, seed)
    values = finite(frames)
    median, mad, n = temporal.median_and_mad(frames)
    expected = np.nanmedian(values, axis=0)
    assert np.array_equal(median, expected, equal_nan=True)
    assert np.array_equal(mad, np.nanmedian(np.abs(values - expected), axis=0), equal_nan=True)
    assert np.array_equal(n, np.isfinite(values).sum(axis=0))


@repeatable
@given(st.sampled_from(DTYPES), st.integers(1, 40), st.integers(1, 300), st.integers(0, 99))
def test_mean_and_variance(dtype: str, length: int, pixels: int, seed: int) -> None:
    frames = frames_of(dtype, length, pixels, seed)
    values = finite(frames).astype(np.longdouble)
    mean, variance, n = temporal.mean_and_variance(frames)
    scale = np.nanmax(np.abs(values), axis=0, initial=0)
    expected = np.nanmean(values, axis=0)
    found = np.isfinite(expected.astype("f8"))
    assert np.array_equal(np.isfinite(mean), found)
    assert (np.abs(mean - expected)[found] <= 1e-14 * length * (scale[found] + 1)).all()
    spread = np.nanvar(values, axis=0, ddof=1).astype("f8")
    np.testing.assert_allclose(variance, spread, rtol=1e-11, atol=1e-12)
    assert np.array_equal(n, np.isfinite(finite(frames)).sum(axis=0))


@repeatable
@given(st.sampled_from(DTYPES), st.integers(1, 40), st.integers(1, 300), st.integers(0, 99))
def test_extremes(dtype: str, length: int, pixels: int, seed: int) -> None:
    frames = frames_of(dtype, length, pixels, seed)
    values = finite(frames)
    smallest, largest, at_smallest, at_largest = temporal.extremes(frames)
    assert np.array_equal(smallest, np.nanmin(values, axis=0, initial=np.inf))
    assert np.array_equal(largest, np.nanmax(values, axis=0, initial=-np.inf))
    assert np.array_equal(at_smallest, (values == smallest).sum(axis=0))
    assert np.array_equal(at_largest, (values == largest).sum(axis=0))


def test_variance_of_small_noise_on_a_far_first_frame() -> None:
    """Sums about the first frame, which is an outlier, cancel: they must be exact."""
    frames = np.random.default_rng(0).integers(60000, 60002, (1001, 64)).astype("u2")
    frames[0] = 0
    _, variance, _ = temporal.mean_and_variance(frames)
    np.testing.assert_allclose(variance, frames.astype("f8").var(axis=0, ddof=1), rtol=1e-13)


def test_more_frames_than_a_short_counter_counts() -> None:
    frames = np.random.default_rng(0).integers(0, 7, (66000, 3)).astype("u2")
    median, mad, _ = temporal.median_and_mad(frames)
    assert np.array_equal(median, np.median(frames, axis=0))
    assert np.array_equal(mad, np.median(np.abs(frames - np.median(frames, axis=0)), axis=0))
    mean, variance, _ = temporal.mean_and_variance(frames)
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(variance, frames.var(axis=0, ddof=1), rtol=1e-12)


def test_values_that_crowd_at_two_places() -> None:
    """Bisection of floats comes to an end where halving a range would take a thousand steps."""
    frames = np.array([1e-300, 1e-300, 2e-300, 1e300, 1e300])[:, None] * np.ones((1, 70))
    median, mad, _ = temporal.median_and_mad(frames)
    assert (median == 2e-300).all()
    assert (mad == 1e-300).all()


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        temporal.median_and_mad(np.empty((0, 4)))
