"""Fits along time of frames on a device against the compiled ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_planes import Mover, on_devices

from gigaqc.base.backend import to_host
from gigaqc.kernels import detrend
from gigaqc.kernels import frames as on_device
from gigaqc.kernels.detrend import place

PIXELS = 30


def series(frames: int, offset: float = 100.0) -> np.ndarray:
    rng = np.random.default_rng(frames)
    return offset + rng.normal(0, 3, (frames, PIXELS)) + np.linspace(0, 50, frames)[:, None]


def sums(degree: int) -> list[np.ndarray]:
    return [np.zeros((degree + 1, PIXELS)), np.zeros(PIXELS)]


def same(found: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(to_host(found), expected, rtol=1e-10, atol=1e-11)


@on_devices
@pytest.mark.parametrize("degree", [0, 1, 2, 5, 20])
@pytest.mark.parametrize("frames", [1, 2, 3, 30, 301])
def test_frames_fitted_at_once(move: Mover, degree: int, frames: int) -> None:
    values = series(frames, 1e6)
    fit, squares = sums(degree)
    reference = values[0].copy()
    steps = detrend.frame_steps(0, frames, degree)
    detrend.add_frames(values, reference, steps, fit, squares)
    found, rest = on_device.fitted(move(values - reference), degree)
    norms = np.sqrt(detrend.gram_norms(frames, degree))[:, None]
    same(to_host(found) * norms, fit * norms)
    same(rest, squares)


@on_devices
@pytest.mark.parametrize("degree", [0, 2, 3])
def test_frames_one_by_one(move: Mover, degree: int) -> None:
    values = series(9)
    expected, found = sums(degree), [move(a) for a in sums(degree)]
    reference = values[0].copy()
    steps = detrend.frame_steps(0, 9, degree)
    detrend.add_frames(values, reference, steps, *expected)
    on_device.add_frames(move(values), move(reference), steps, *found)
    for one, other in zip(found, expected, strict=True):
        same(one, other)


def with_gaps(kernels: Any, move: Mover, values: np.ndarray, degree: int, start: int) -> list[Any]:
    """Reference, norms, mixes, fit and squares of frames from `start` on, of 20."""
    norms, mixes = np.zeros((degree + 1, PIXELS)), np.zeros((degree * (degree + 1) // 2, PIXELS))
    whole = detrend.gram_mixes(start, 0, 20, degree)
    for j in range(degree + 1):
        for k in range(j):
            mixes[place(k, j)] = whole[k, j]
    state = [move(a) for a in (np.full(PIXELS, np.nan), norms, mixes, *sums(degree))]
    times = start + np.arange(len(values))
    polynomials = detrend.legendre(times, 20, degree)
    kernels.add_frames_with_gaps(move(values), polynomials, *state)
    return state


@on_devices
@pytest.mark.parametrize("degree", [0, 2, 4])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_frames_with_gaps_and_series(move: Mover, degree: int, dtype: str) -> None:
    values = series(20).astype(dtype)
    rng = np.random.default_rng(0)
    values[rng.random(values.shape) < 0.3] = np.nan
    values[2, 3], values[:, 7], values[:12, 8] = np.inf, np.nan, np.nan
    assert on_device.all_finite(move(values[:, :0])) and not on_device.all_finite(move(values))
    assert on_device.all_finite(move(np.arange(3)))
    states = []
    for kernels, mover in ((detrend, np.asarray), (on_device, move)):
        first = with_gaps(kernels, mover, values[:12], degree, 0)
        second = with_gaps(kernels, mover, values[12:], degree, 12)
        kernels.add_fits(*second[1:4], *first[1:])
        states.append((first, second))
    for expected, found in zip(*states, strict=True):
        for other, one in zip(expected, found, strict=True):
            same(one, other)


def test_an_exact_polynomial_leaves_rounding() -> None:
    t = np.arange(300.0)[:, None]
    values = 1e4 + 30 * t + 0.7 * t**2 + np.zeros(PIXELS)
    _, rest = on_device.fitted(values - values[0], 2)
    assert (np.sqrt(rest / 300) < 4 * np.finfo("f8").eps * values.max()).all()
