"""Transforms for devices against those of the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import repeatable
from test_planes import Mover, on_devices

from gigaqc.base.backend import to_host
from gigaqc.kernels import transform, vectors
from gigaqc.transforms import intensity, neighbours

TYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


@st.composite
def blocks(draw: st.DrawFn, dtype: str) -> np.ndarray:
    """Dims c, z, y, x."""
    shape = draw(st.tuples(st.integers(1, 3), st.just(2), st.integers(1, 12), st.integers(1, 12)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = np.dtype(dtype).kind
    if kind == "b":
        return rng.random(shape) < 0.5
    if kind == "f":
        values = rng.normal(50, 40, shape).astype(dtype)
        odd = draw(st.sampled_from([0, 0.1, 1]))
        values[rng.random(shape) < odd] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
        return values
    limits = np.iinfo(dtype)
    far = draw(st.booleans())
    low, high = (limits.min, limits.max) if far else (max(limits.min, -9), 90)
    return rng.integers(low, high, shape, dtype, endpoint=True)


@st.composite
def with_halo(draw: st.DrawFn, dtype: str) -> tuple[np.ndarray, tuple]:
    block = draw(blocks(dtype))
    top, left = (draw(st.integers(0, n - 1)) for n in block.shape[-2:])
    bottom = draw(st.integers(0, block.shape[-2] - 1 - top))
    right = draw(st.integers(0, block.shape[-1] - 1 - left))
    return block, (top, bottom, left, right)


def agree(found: Any, expected: np.ndarray) -> None:
    host = to_host(found)
    assert host.dtype == expected.dtype
    np.testing.assert_array_equal(host, expected)


@on_devices
@pytest.mark.parametrize("dtype", TYPES)
@given(data=st.data(), sigma=st.sampled_from([None, 0, 0.1, 0.4, 1.0, 2.3]))
@repeatable
def test_blur(move: Mover, dtype: str, data: st.DataObject, sigma: float | None) -> None:
    block, halo = data.draw(with_halo(dtype))
    with np.errstate(all="ignore"):
        found = vectors.gaussian_blur(move(block[0]), sigma, halo)
        expected = [transform.gaussian_blur(plane, sigma, halo) for plane in block[0]]
    agree(found, np.stack(expected))


@on_devices
@pytest.mark.parametrize("dtype", TYPES)
@given(data=st.data(), threshold=st.sampled_from([0.0, 0.5, 20.0, 2.0**63, 1e300]))
@repeatable
def test_without_hot(move: Mover, dtype: str, data: st.DataObject, threshold: float) -> None:
    block, halo = data.draw(with_halo(dtype))
    with np.errstate(all="ignore"):
        found = vectors.without_hot(move(block), halo, threshold)
        expected = neighbours._without_hot(block, halo, slice(None), threshold)
    agree(found, expected)


@on_devices
@pytest.mark.parametrize("dtype", TYPES)
@given(data=st.data())
@repeatable
def test_by_pixel(move: Mover, dtype: str, data: st.DataObject) -> None:
    block = data.draw(blocks(dtype))
    halo, every = (0, 0, 0, 0), slice(None)
    limits = np.array([[0.0, 7.0], [3.5, -2.0], [np.nan, np.nan]])[: len(block)]
    windows = [(3.0, 40.0, 3.0, 30.0), (5.0, 5.0, 5.0, 5.0), (np.nan,) * 4]
    with np.errstate(all="ignore"):
        for clip in (False, True):
            expected = intensity._scaled(block, halo, every, limits, clip)
            agree(vectors.scaled(move(block), limits, clip), expected)
        for window in windows:
            expected = intensity._windowed(block, halo, every, window)
            agree(vectors.windowed(move(block), *window), expected)
        found = to_host(vectors.arcsinh(move(block), 5.0))
        expected = intensity._arcsinh(block, halo, every, 5.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6 if found.itemsize == 4 else 1e-12)


@on_devices
@pytest.mark.parametrize("dtype", TYPES)
@given(data=st.data())
@repeatable
def test_equalized(move: Mover, dtype: str, data: st.DataObject) -> None:
    block = data.draw(blocks(dtype))
    kind = block.dtype
    if kind.kind in "biu" and kind.itemsize <= 2:
        first = int(block.min())
        values = np.arange(first, int(block.max()) + 1, dtype="f8")
        curves = [(values, np.linspace(0, 1, values.size))] * len(block)
    else:
        curves = [
            (np.array([-5.0, 1.0, 8.0, 60.0]), np.array([0.0, 0.3, 0.3, 1.0])),
            (np.array([4.0]), np.array([1.0])),
            (np.array([1.0, 1.0, 2.0]), np.array([np.nan] * 3)),
        ][: len(block)]
    with np.errstate(all="ignore"):
        found = vectors.equalized(move(block), curves)
        expected = intensity._equalized(block, (0, 0, 0, 0), slice(None), curves)
    agree(found, expected)
