"""Images whose chunks lie on a device: the same results, and no pixel leaves it.

Without a device its arrays are those of `device_array`; ``gpu`` marks what needs cupy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import device_array
import numpy as np
import pytest
import xarray as xr

import gigaqc as gq


def to_cupy(block: np.ndarray) -> Any:
    return pytest.importorskip("cupy").asarray(block)


@pytest.fixture(params=[device_array.wrapped, pytest.param(to_cupy, marks=pytest.mark.gpu)])
def move(request: pytest.FixtureRequest) -> Any:
    device_array.copied.clear()
    return request.param


def on_device(image: xr.DataArray, move: Any) -> xr.DataArray:
    """The same image; its chunks are moved when they are made."""
    nothing = np.empty((0,) * image.ndim, image.dtype)
    return image.copy(data=image.data.map_blocks(move, dtype=image.dtype, meta=nothing))


def largest_copy() -> int:
    return max(device_array.copied, default=0)


def series(dtype: str, chunks: tuple[int, ...]) -> xr.DataArray:
    light = np.linspace(100, 1000, 32 * 48).reshape(32, 48)
    frames = np.random.default_rng(0).poisson(light, (40, 32, 48)).astype(dtype)
    if np.dtype(dtype).kind == "f":
        frames[3, 5, 7] = np.nan
    return xr.DataArray(da.from_array(frames, chunks=chunks), dims=("t", "y", "x"))


@pytest.mark.parametrize("estimator", ["mad", "variance"])
@pytest.mark.parametrize("dtype", ["i2", "f4"])
@pytest.mark.parametrize(
    ("chunks", "memory"), [((40, 16, 24), None), ((8, 32, 48), None), ((1, 32, 48), None)]
)
def test_gain_map(move: Any, estimator: Any, dtype: str, chunks: tuple, memory: Any) -> None:
    image = series(dtype, chunks)
    expected = gq.gain_map(image, estimator=estimator, memory=memory).compute()
    found = gq.gain_map(on_device(image, move), estimator=estimator, memory=memory).compute()
    xr.testing.assert_allclose(found, expected, rtol=1e-10)
    assert largest_copy() <= 2 * 32 * 48, "more than maps left the device"


def test_a_store_takes_frames_from_a_device(move: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("gigaqc.slabs.MOST_SLABS", 0)
    monkeypatch.setattr("gigaqc.slabs._SMALLEST_LIMIT", 1)
    image = series("u2", (1, 32, 48))
    arguments = {"temporary": tmp_path, "memory": 50_000}
    assert "temporary store" in str(gq.explain(image, metric="gain_map", memory=50_000))
    expected = gq.gain_map(image, **arguments).compute()
    xr.testing.assert_identical(
        gq.gain_map(on_device(image, move), **arguments).compute(), expected
    )
