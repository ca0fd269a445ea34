"""Images whose chunks lie on a device: the same results, and no pixel leaves it.

Without a device its arrays are those of `device_array`; ``gpu`` marks what needs cupy.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array as da
import device_array
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from same_states import equivalent, spread_of
from settings import configure

import gigaqc as gq
from gigaqc.errors import MissingDependencyError


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


def stack(dtype: str, chunks: tuple[int, ...]) -> xr.DataArray:
    rng = np.random.default_rng(1)
    pixels = rng.poisson(rng.gamma(2, 30, (3, 70, 90)), (3, 70, 90)).astype(dtype)
    pixels[:, 10:30, 40:70] = 0
    pixels[1, 50, 50] = 250
    if np.dtype(dtype).kind == "f":
        pixels[0, 3, 4:9], pixels[2, 40, 40] = np.nan, np.inf
    return xr.DataArray(
        da.from_array(pixels, chunks=chunks), dims=("c", "y", "x"), coords={"c": ["a", "b", "c"]}
    )


@pytest.mark.cover(2)
@pytest.mark.same_process
@pytest.mark.parametrize("chunks", [(3, 70, 90), (1, 32, 40)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_scan(
    move: Any, dtype: str, masked: bool, chunks: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, "group-values", 6000)  # several groups, with seams
    monkeypatch.setattr("gigaqc.scanning.scan.THUMBNAIL_SIDE", 16)  # or it would have all pixels
    image = stack(dtype, chunks)
    mask = np.random.default_rng(2).random((70, 90)) < 0.8 if masked else None
    expected = gq.scan(image, mask=mask).compute()
    found = gq.scan(on_device(image, move), mask=mask).compute()
    pixels = image.values.astype("f8")
    equivalent(found.state, expected.state, spread_of(pixels, 0))
    planes = {70 * 90, 3 * 70 * 90}  # of the chunks that are not cut
    assert device_array.copied and not planes & set(device_array.copied), "pixels left the device"


def test_assess_of_an_image_on_a_device(move: Any) -> None:
    image = stack("u2", (3, 35, 45))
    labels = np.kron(np.arange(1, 64).reshape(7, 9), np.ones((10, 10), "i4"))
    expected = gq.assess(image, labels=labels, progress=False)
    found = gq.assess(on_device(image, move), labels=labels, progress=False)
    pd.testing.assert_frame_equal(found.channels, expected.channels, rtol=1e-9)
    pd.testing.assert_frame_equal(found.objects, expected.objects)


@pytest.mark.cover(2)
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
    configure(monkeypatch, "slab-reads", 0)
    monkeypatch.setattr("gigaqc.graph.slabs._SMALLEST_LIMIT", 1)
    image = series("u2", (1, 32, 48))
    arguments = {"temporary": tmp_path, "memory": 50_000}
    assert "temporary store" in str(gq.explain(image, metric="gain_map", memory=50_000))
    expected = gq.gain_map(image, **arguments).compute()
    xr.testing.assert_identical(
        gq.gain_map(on_device(image, move), **arguments).compute(), expected
    )


@pytest.mark.same_process
def test_to_gpu_moves_chunks_when_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[tuple[int, ...]] = []

    def asarray(block: np.ndarray) -> Any:
        moved.append(block.shape)
        return device_array.wrapped(block)

    def empty(shape: tuple[int, ...], dtype: Any) -> Any:
        return device_array.wrapped(np.empty(shape, dtype))

    cupy = SimpleNamespace(asarray=asarray, empty=empty)
    monkeypatch.setattr("gigaqc.base.backend._cupy", lambda: cupy)
    image = stack("u2", (1, 70, 90))
    found = gq.to_gpu(image.astype(">u2"))
    assert not moved, "chunks were moved before they were asked for"
    xr.testing.assert_identical(
        gq.quantile(found, [0.5]).compute(), gq.quantile(image, [0.5]).compute()
    )
    assert moved == [(1, 70, 90)] * 3 and found.coords.equals(image.coords)


def test_without_cupy_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'gigaqc\[gpu\]'"):
        gq.to_gpu(stack("u2", (3, 70, 90)))
