"""Echoes measured apart: what each alone gives, in the reads of one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ParameterError
from gigaqc.testing.stores import CountingStore, count_reads, reset_reads


def echoes(dtype: str = "i2", decay: float = 0.6) -> np.ndarray:
    """Magnitudes of 3 echoes, 2 coils, 4 planes: a decaying signal in noise."""
    rng = np.random.default_rng(0)
    truth = np.zeros((3, 2, 4, 40, 30))
    truth[..., 8:30, 6:24] = 400
    truth *= decay ** np.arange(3)[:, None, None, None, None]
    truth[:, 1] *= 0.5
    parts = rng.normal(0, [[10]], (2, *truth.shape))
    values = np.hypot(truth + parts[0], parts[1])
    return np.rint(values).astype(dtype) if dtype.startswith("i") else values.astype(dtype)


def image(values: np.ndarray, chunks: Any = (2, 1, 2, 17, 30)) -> xr.DataArray:
    return xr.DataArray(
        da.from_array(values, chunks), dims=tuple("tczyx"),
        coords={"c": ["left", "right"], "t": [4.9, 9.8, 14.7]},
    )  # fmt: skip


def mask() -> np.ndarray:
    found = np.zeros((40, 30), bool)
    found[:6] = True
    return found


def masks(whole: xr.DataArray) -> list[Any]:
    moving = xr.DataArray(np.stack([np.roll(mask(), k, 0) for k in range(3)]), dims=tuple("tyx"))
    coils = xr.DataArray(np.stack([mask(), np.roll(mask(), 2, 0)]), dims=tuple("cyx"))
    return [mask(), moving, coils]


def alone(given: Any, k: int) -> Any:
    return given.isel(t=k) if isinstance(given, xr.DataArray) and "t" in given.dims else given


@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_isnr_of_each_echo_alone(dtype: str) -> None:
    whole = image(echoes(dtype))
    for options in ({}, *({"noise_mask": m} for m in masks(whole))):
        with testing.forbid_compute():
            lazy = gq.isnr(whole, by="t", **options)
        found = lazy.compute()
        assert found.isnr.dims == ("c", "t") and found.counts.dims == ("c", "t", "bin")
        assert found.c.values.tolist() == ["left", "right"]
        assert found.t.values.tolist() == [4.9, 9.8, 14.7]
        for k in range(3):
            own = {name: alone(m, k) for name, m in options.items()}
            expected = gq.isnr(whole.isel(t=k, drop=True), **own).compute()
            xr.testing.assert_identical(found.isel(t=k, drop=True), expected)
    assert (found.isnr.diff("t") < 0).all()  # signals decay, noise does not
    pooled = gq.isnr(whole).isnr.compute()
    assert pooled.dims == ("c",) and not np.isin(pooled, found.isnr).any()


@pytest.mark.parametrize("dtype", ["i2", "f4", "f8"])
def test_maps_of_each_echo_alone(dtype: str) -> None:
    whole = image(echoes(dtype))
    for options in ({}, *({"noise_mask": m} for m in masks(whole))):
        with testing.forbid_compute():
            found = gq.isnr_map(whole, by="t", **options)
        assert found.dims == whole.dims and found.chunksizes == whole.chunksizes
        for k in range(3):
            own = {name: alone(m, k) for name, m in options.items()}
            expected = gq.isnr_map(whole.isel(t=k, drop=True), **own)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found[k], expected)


@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_signal_to_noise_of_each_echo_alone(dtype: str) -> None:
    whole = image(echoes(dtype))
    for options in ({}, {"percentile": 30}, *({"mask": m} for m in masks(whole))):
        with testing.forbid_compute():
            lazy = gq.signal_to_noise(whole, by="t", **options)
        found = lazy.compute()
        for k in range(3):
            own = {name: alone(m, k) for name, m in options.items()}
            expected = gq.signal_to_noise(whole.isel(t=k, drop=True), **own).compute()
            xr.testing.assert_identical(found.isel(t=k, drop=True), expected)


def test_planes_and_images_without_channels() -> None:
    values = echoes()[:, 0]
    plain = xr.DataArray(values, dims=tuple("tzyx"))
    by_plane = gq.isnr(plain, by="z").compute()
    assert by_plane.isnr.dims == ("c", "z") and "z" not in by_plane.coords
    expected = gq.isnr(plain.isel(z=2)).compute()
    np.testing.assert_array_equal(by_plane.isnr[:, 2], expected.isnr)
    found = gq.isnr_map(plain, by="z")
    assert found.dims == tuple("tzyx")
    np.testing.assert_array_equal(found[:, 1], gq.isnr_map(plain.isel(z=1)))


def test_a_read_for_all_echoes(tmp_path: Path) -> None:
    """Chunks that hold several echoes are read as often as without `by`."""
    store = CountingStore(tmp_path / "echoes.zarr")
    array = zarr.create_array(store, shape=(3, 2, 4, 40, 30), chunks=(2, 1, 2, 17, 30), dtype="i2")
    array[:] = echoes()
    whole = image(echoes()).copy(data=da.from_zarr(array))
    for function, times in ((gq.isnr, 1), (gq.signal_to_noise, 1), (gq.isnr_map, 2)):
        reset_reads(store)
        function(whole, by="t").compute()  # type: ignore[operator]
        counts = count_reads(store)
        assert len(counts) == 24 and set(counts.values()) == {times}


def test_no_two_share_a_name() -> None:
    whole = image(echoes())
    together = [gq.isnr(whole).isnr, gq.isnr(whole, by="t").isnr, gq.isnr(whole, by="z").isnr]
    for found, lazy in zip(dask.compute(*together), together, strict=True):
        xr.testing.assert_identical(found, lazy.compute())
    maps = [gq.isnr_map(whole), gq.isnr_map(whole, by="t"), gq.isnr_map(whole, by="z")]
    for found, lazy in zip(dask.compute(*maps), maps, strict=True):
        np.testing.assert_array_equal(found, lazy)


def test_an_empty_echo() -> None:
    values = echoes("f4")
    values[2, 1] = np.nan
    found = gq.isnr(image(values), by="t").compute()
    assert np.isnan(found.isnr).values.tolist() == [[False] * 3, [False, False, True]]


def test_wrong_use() -> None:
    whole = image(echoes())
    for function in (gq.isnr, gq.isnr_map, gq.signal_to_noise):
        with pytest.raises(ParameterError, match="by: got 'echo'; pass 't' or 'z'"):
            function(whole, by="echo")  # type: ignore[operator]
        with pytest.raises(ParameterError, match="by: got 't', but the image has dims c z y x"):
            function(whole.isel(t=0), by="t")  # type: ignore[operator]
    statistics = gq.scan(whole)
    for measure in (gq.isnr, gq.signal_to_noise):
        with pytest.raises(ParameterError, match="by: Statistics are pooled over 't'"):
            measure(statistics, by="t")  # type: ignore[operator]
    with pytest.raises(ParameterError, match="statistics: they are pooled over 't'"):
        gq.isnr_map(whole, by="t", statistics=statistics)


def test_the_kidney_in_two_echoes(data_dir: Path) -> None:
    names = [f"00720__Magnitude_ims__B0_map_dual_echo_e{k}.nii.gz" for k in (1, 2)]
    two = [gq.open_image(data_dir / "mri_kidney_ukat" / name) for name in names]
    found = gq.isnr(xr.concat(two, "t"), by="t").compute()
    expected = [float(gq.isnr(echo).isnr[0].compute()) for echo in two]
    assert found.isnr.values.ravel().tolist() == expected
