"""Sharpness, whole and by tile, and the slope of the spectrum."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
import oracle
import pytest
import xarray as xr
from agreement import close
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, FLOATS, Case, build, images, repeatable

import gigaqc as gq

MEASURES = ("variance_of_laplacian", "tenengrad")


def tiles(found: xr.Dataset, name: str, channel: int) -> np.ndarray:
    """One measure as (planes, tile_y, tile_x)."""
    maps = found[name].isel(c=channel)
    order = [d for d in ("t", "z") if d in maps.dims]
    values = maps.transpose(*order, "tile_y", "tile_x").values
    return values.reshape(-1, *values.shape[-2:])


def check(found: xr.Dataset, case: Case, tile: int, mask: np.ndarray | None = None) -> None:
    for i, channel in enumerate(oracle.channels(case.whole, mask)):
        x = channel.values
        scale = float(np.abs(x).max()) ** 2 if x.size else 0.0
        whole = oracle.focus_whole(channel)
        wanted = oracle.focus_tiles(channel, tile)
        for k, name in enumerate(MEASURES):
            close(found[f"whole_{name}"][i], getattr(whole, name), f"whole_{name}", scale=scale)
            close(tiles(found, name, i), wanted[..., k], name, scale=scale)


@repeatable
@given(images(), st.sampled_from([9, 16, 32, 512]))
def test_focus_is_exact(case: Case, tile: int) -> None:
    check(gq.focus(case.image, tile=tile).compute(), case, tile)


@pytest.mark.cover(1)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunks", [(1, 64, 64), (1, 16, 16), (1, 13, 64), (1, 64, 1)])
def test_the_halo_belongs_to_the_statistic(dtype: str, chunks: tuple[int, ...]) -> None:
    case = build(dtype, "cyx", (1, 64, 64), ("noise",), ("none",), chunks, 12)
    check(gq.focus(case.image, tile=20).compute(), case, 20)


@repeatable
@given(images(), st.integers(0, 99))
def test_scanned_inside_a_mask(case: Case, seed: int) -> None:
    sides = tuple(case.whole.sizes[d] for d in "yx")
    mask = np.random.default_rng(seed).random(sides) < 0.9
    statistics = gq.scan(case.image, mask=mask, tile=16).compute()
    check(gq.focus(statistics, tile=16).compute(), case, 16, mask)


def test_dims() -> None:
    case = build(
        "u1", "tczyx", (3, 2, 2, 40, 50), ("counts", "noise"), ("none",) * 2, (3, 2, 2, 40, 50), 0
    )
    found = gq.focus(case.image, tile=16).compute()
    for name in MEASURES:
        assert found[name].dims == ("t", "c", "z", "tile_y", "tile_x")
        assert found[name].shape == (3, 2, 2, 3, 4)
        assert found[f"whole_{name}"].dims == ("c",)
    assert gq.focus(case.image.isel(t=0, z=0)).compute()["tenengrad"].dims == (
        "c",
        "tile_y",
        "tile_x",
    )


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4"])
def test_a_plane_that_rises_evenly_is_known(dtype: str) -> None:
    y, x = np.mgrid[:30, :40]
    found = gq.focus((2 * y + x).astype(dtype)).compute()
    assert found["whole_variance_of_laplacian"] == 0
    assert found["whole_tenengrad"] == 8**2 + 16**2


def test_a_single_point_is_known() -> None:
    dot = np.zeros((11, 11), "u2")
    dot[5, 5] = 10
    found = gq.focus(dot).compute()
    response = np.array([-40.0] + [10.0] * 4 + [0.0] * (81 - 5))
    close(found["whole_variance_of_laplacian"], [response.var()])
    close(found["whole_tenengrad"], [(4 * 200 + 4 * 400) / 81])


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (9, 2)])
def test_too_small_for_a_neighbourhood(shape: tuple[int, int]) -> None:
    found = gq.focus(np.ones(shape, "u1")).compute()
    assert math.isnan(found["whole_tenengrad"].item())
    assert math.isnan(found["whole_variance_of_laplacian"].item())


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_channel_of_nan(dtype: str) -> None:
    found = gq.focus(np.full((20, 20), math.nan, dtype), tile=8, spectrum=True).compute()
    for name in (*MEASURES, "power_log_log_slope"):
        assert np.isnan(found[name]).all()


def test_large_integers_do_not_overflow() -> None:
    board = (np.indices((40, 40)).sum(axis=0) % 2 * np.iinfo("u4").max).astype("u4")
    channel = oracle.channels(xr.DataArray(board, dims=("y", "x")))[0]
    found = gq.focus(board).compute()
    whole = oracle.focus_whole(channel)
    close(found["whole_variance_of_laplacian"], [whole.variance_of_laplacian])
    close(found["whole_tenengrad"], [whole.tenengrad])


# ---- spectrum ------------------------------------------------------------------------------------


def coloured(exponent: float, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Noise whose power falls with the frequency to `exponent`."""
    white = np.fft.fft2(np.random.default_rng(seed).normal(size=shape))
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
    frequency[0, 0] = 1
    return np.fft.ifft2(white * frequency ** (exponent / 2)).real


@pytest.mark.cover(2)
@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("chunks", [(100, 140), (32, 32), (33, 50)])
@pytest.mark.parametrize("tile", [32, 25])
def test_slopes_are_exact(dtype: str, chunks: tuple[int, int], tile: int) -> None:
    scene = coloured(-2, (100, 140))
    scene = (100 + 20 * scene / scene.std()).clip(0, 255).astype(dtype)
    found = gq.focus(da.from_array(scene, chunks=chunks), tile=tile, spectrum=True).compute()
    channel = oracle.channels(xr.DataArray(scene, dims=("y", "x")))[0]
    wanted = oracle.spectral_slopes(channel, tile)
    assert np.isfinite(wanted).sum() == (100 // tile) * (140 // tile)
    close(tiles(found, "power_log_log_slope", 0), wanted)


@pytest.mark.parametrize("exponent", [0, -2, -3])
def test_the_slope_is_that_of_the_spectrum(exponent: float) -> None:
    scene = coloured(exponent, (256, 256))
    found = gq.focus(scene, tile=256, spectrum=True).compute()
    assert found["power_log_log_slope"].item() == pytest.approx(exponent, abs=0.2)


def test_every_plane_has_its_slopes() -> None:
    case = build(
        "u2", "tczyx", (2, 2, 2, 40, 40), ("noise", "blobs"), ("none",) * 2, (1, 2, 1, 17, 40), 3
    )
    found = gq.focus(case.image, tile=16, spectrum=True).compute()
    assert found["power_log_log_slope"].dims == ("t", "c", "z", "tile_y", "tile_x")
    for i, channel in enumerate(oracle.channels(case.whole)):
        close(tiles(found, "power_log_log_slope", i), oracle.spectral_slopes(channel, 16))


def test_tiles_that_are_cut_constant_or_pierced_have_none() -> None:
    scene = np.random.default_rng(0).normal(size=(40, 40)).astype("f4")
    scene[:16, :16] = 3
    scene[20, 20] = math.nan
    found = gq.focus(scene, tile=16, spectrum=True).compute()
    slopes = tiles(found, "power_log_log_slope", 0)[0]
    assert np.isfinite(slopes).tolist() == [
        [False, True, False],
        [True, False, False],
        [False, False, False],
    ]


def test_no_spectrum_unless_asked_for() -> None:
    assert "power_log_log_slope" not in gq.focus(np.ones((20, 20), "u1"))
