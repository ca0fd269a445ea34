"""Flat channels on a device against the compiled kernels and numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import repeatable
from test_planes import Mover, on_devices
from test_stacks import blocks

from gigaqc.backend import to_host
from gigaqc.kernels import vectors
from gigaqc.kernels.preprocess import divide_by_sum
from gigaqc.preprocess import steps
from gigaqc.preprocess.windows import EVERYTHING, Counter


@on_devices
@pytest.mark.parametrize("dtype", ["i4", "u8", "f8"])
@given(data=st.data())
@repeatable
def test_histogram(move: Mover, dtype: str, data: st.DataObject) -> None:
    block = data.draw(blocks(dtype))
    within = block[..., ::-1] > 20
    values = block.astype("f8")
    for mask in (None, within):
        known = values[np.isfinite(values) & (True if mask is None else mask)]
        found = vectors.finite(move(block), None if mask is None else move(mask))
        np.testing.assert_array_equal(to_host(found), known)
        extremes = (known.min(), known.max()) if known.size else (np.inf, -np.inf)
        assert vectors.extremes(found) == extremes
        edges = np.array([-30.0, 0.0, 2.5, 50.0, 90.0])
        np.testing.assert_array_equal(
            vectors.histogram(found, edges), np.histogram(known, edges)[0]
        )


@on_devices
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
@given(data=st.data(), norm_sum=st.booleans(), threshold=st.sampled_from([np.nan, 0.0, 60.0]))
@repeatable
def test_divided_by_sum(
    move: Mover, dtype: str, data: st.DataObject, norm_sum: bool, threshold: float
) -> None:
    block = data.draw(blocks(dtype))
    pixels = block.reshape(len(block), -1)
    factors, post = np.array([[1.0, 0.3, -2.0], [1.5, 1.0, 0.1]])[:, : len(pixels)]
    expected = np.empty(pixels.shape)
    for cap in (np.inf, 0.5):
        divide_by_sum(pixels, factors, threshold, norm_sum, post, cap, expected)
        given = [move(channel.copy()) for channel in pixels]
        with np.errstate(all="ignore"):
            found = list(vectors.divided_by_sum(given, factors, threshold, norm_sum, post, cap))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(to_host(one), other)


@on_devices
@given(data=st.data(), window=st.sampled_from([EVERYTHING, (0.0, 40.0), (60.0, 60.0)]))
@repeatable
def test_counted_in_a_window(move: Mover, data: st.DataObject, window: tuple) -> None:
    values = data.draw(blocks("f8")).reshape(-1)
    values = np.concatenate([values, values[::2] * (1 + 1e-7), [0.0, 60.0, 60.0]])
    found, expected = Counter(window), Counter(window)
    for part in np.array_split(values, 2):
        found.add(move(part))
        expected.add(part)
    one, other = found.counted(), expected.counted()
    assert (one.n, one.below) == (other.n, other.below)
    for name in ("keys", "counts", "low", "high"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@on_devices
@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize("sigma", [None, 1.0])
def test_few_pixels(move: Mover, dtype: str, sigma: float | None) -> None:
    rng = np.random.default_rng(0)
    block = rng.integers(0, 1000, (2, 3, 11, 13)).astype(dtype)
    at = tuple(rng.integers(0, n, 40) for n in block.shape)
    np.testing.assert_array_equal(vectors.gathered(move(block), at), block[at])
    found = steps._blurred_at(move(block), at, sigma)
    np.testing.assert_allclose(found, steps._blurred_at(block, at, sigma), rtol=1e-6)
