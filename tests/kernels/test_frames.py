"""Maps along time of frames on a device against the compiled kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import repeatable
from test_planes import Mover, on_devices

from gigaqc.kernels import frames, temporal

TYPES = ["u1", "i1", "u2", "i2", "i4", "f4", "f8"]


@st.composite
def series(draw: st.DrawFn, dtype: str) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 20)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.normal(20, draw(st.sampled_from([0.6, 40])), shape)
    if np.dtype(dtype).kind == "f":
        values[rng.random(shape) < draw(st.sampled_from([0, 0.3, 1]))] = np.nan
        values[rng.random(shape) < draw(st.sampled_from([0, 0.1]))] = np.inf
        return values.astype(dtype)
    info = np.iinfo(dtype)
    return np.clip(values, info.min, info.max).astype(dtype)


@on_devices
@pytest.mark.parametrize("dtype", TYPES)
@given(data=st.data())
@repeatable
def test_as_the_compiled_kernels(move: Mover, dtype: str, data: st.DataObject) -> None:
    block = data.draw(series(dtype))
    for name in ("median_and_mad", "extremes"):
        expected, found = getattr(temporal, name)(block), getattr(frames, name)(move(block))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    expected, found = temporal.mean_and_variance(block), frames.mean_and_variance(move(block))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)
