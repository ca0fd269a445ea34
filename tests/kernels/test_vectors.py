"""Flat channels on a device against the compiled kernels and numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import repeatable
from test_planes import Mover, on_devices
from test_stacks import blocks

from gigaqc.base.backend import to_host
from gigaqc.kernels import vectors
from gigaqc.kernels.pixels import divide_by_sum, most_probable, nearest
from gigaqc.transforms import steps
from gigaqc.transforms.windows import Counter


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
@given(data=st.data(), window=st.sampled_from([(-np.inf, np.inf), (0.0, 40.0), (60.0, 60.0)]))
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


@on_devices
@pytest.mark.parametrize("components", [1, 4])
def test_labels_to_the_bit(move: Mover, components: int) -> None:
    rng = np.random.default_rng(components)
    pixels = rng.integers(0, 4, (5, 3000)) * 1.0  # many that are as near to one as to another
    pixels[:, 0] = 1e200
    centres = rng.integers(0, 4, (components, 5)) * 1.0
    factors = np.triu(rng.integers(-2, 3, (components, 5, 5)) / 3)
    offsets = rng.integers(0, 2, components) * 1.0
    given = [move(channel.copy()) for channel in pixels]
    expected = np.empty(3000, "i8")
    nearest(pixels, centres, expected)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(to_host(vectors.nearest(given, centres)), expected)
        most_probable(pixels, centres, factors, offsets, expected)
        found = vectors.most_probable(given, centres, factors, offsets)
    np.testing.assert_array_equal(to_host(found), expected)


@on_devices
def test_sums_by_label(move: Mover) -> None:
    rng = np.random.default_rng(0)
    labels, values = rng.integers(0, 4, 500), rng.normal(50, 9, (2, 500))
    values[:, labels == 0] = np.nan
    n, sums = vectors.sums_by_label(move(labels), [move(v.copy()) for v in values], 5)
    np.testing.assert_array_equal(n, np.bincount(labels, minlength=5))
    expected = [[v[labels == k].sum() if k else 0.0 for v in values] for k in range(5)]
    np.testing.assert_allclose(sums, expected, rtol=1e-10)


@on_devices
def test_pixels_that_count(move: Mover) -> None:
    values = np.array([[1.0, np.nan, 0.0, -1.0, np.inf, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]])
    given = [move(v.copy()) for v in values]
    for positive, expected in ((False, [1, 0, 1, 1, 0, 1]), (True, [1, 0, 0, 0, 0, 0])):
        assert to_host(vectors.counting(given, positive)).tolist() == [bool(e) for e in expected]
