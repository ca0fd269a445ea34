"""Acquisition artifacts: the recipe's four, and the sturdier ones."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
import oracle
import pytest
import xarray as xr
from agreement import close, over_c, same
from hypothesis import given
from hypothesis import strategies as st
from strategies import FLOATS, NARROW, WIDE, Case, build, images, repeatable

import gigaqc as gq

RECIPE = ("recipe_saturation", "recipe_hot_pixels", "recipe_dead_regions", "recipe_striping")
CLIPPING = ("clipped_fraction", "clipping_level")
STRIPING = ("row_striping", "column_striping")
NAMES = (*RECIPE, *CLIPPING, "hot_pixel_fraction", "dead_area_fraction", *STRIPING)


def artifacts(image: object, **keywords: float) -> dict[str, np.ndarray]:
    return over_c(gq.acquisition_artifacts(image, **keywords), NAMES)


def check_recipe(found: dict[str, np.ndarray], i: int, channel: oracle.Channel) -> None:
    wanted = oracle.recipe_artifacts(channel)
    same(found["recipe_saturation"][i], wanted.saturation, "recipe_saturation")
    same(found["recipe_hot_pixels"][i], wanted.hot_pixels, "recipe_hot_pixels")
    same(found["recipe_dead_regions"][i], wanted.dead_regions, "recipe_dead_regions")
    if not channel.values.size:
        assert math.isnan(found["recipe_striping"][i])
        return
    rows = oracle.line_profile(channel, axis=1).means
    if abs(oracle.mean(rows)) > 1e-3 * oracle.std(rows):  # else a quotient of roundings
        np.testing.assert_allclose(
            found["recipe_striping"][i], wanted.striping, rtol=1e-9, atol=1e-9
        )


def check_striping(found: dict[str, np.ndarray], i: int, channel: oracle.Channel) -> None:
    x = channel.values
    if x.size and x.min() == x.max() and channel.dtype.kind == "f":  # roundings of 0/0
        return
    close(found["row_striping"][i], oracle.striping(channel, 1), "row_striping", scale=1e3)
    close(found["column_striping"][i], oracle.striping(channel, 2), "column_striping", scale=1e3)


@repeatable
@given(images(dtypes=NARROW))
def test_narrow_integers_are_exact(case: Case) -> None:
    found = artifacts(case.image)
    for i, channel in enumerate(oracle.channels(case.whole)):
        check_recipe(found, i, channel)
        check_striping(found, i, channel)
        fraction, level = oracle.clipping(channel)
        same(found["clipped_fraction"][i], fraction, "clipped_fraction")
        same(found["clipping_level"][i], level, "clipping_level")
        same(found["hot_pixel_fraction"][i], oracle.hot_pixels(channel), "hot_pixel_fraction")
        same(found["dead_area_fraction"][i], oracle.dead_area(channel), "dead_area_fraction")


@pytest.mark.same_process
@repeatable
@given(images(dtypes=WIDE))
def test_wide_types_are_exact_but_for_the_response(case: Case) -> None:
    found = artifacts(case.image)
    for i, channel in enumerate(oracle.channels(case.whole)):
        check_recipe(found, i, channel)
        check_striping(found, i, channel)
        same(found["dead_area_fraction"][i], oracle.dead_area(channel), "dead_area_fraction")
        if channel.dtype.kind == "f":
            assert math.isnan(found["clipped_fraction"][i])
            assert math.isnan(found["clipping_level"][i])


@pytest.mark.same_process
@repeatable
@given(images())
def test_clipping_at_a_given_full_scale(case: Case) -> None:
    found = artifacts(case.image, full_scale=60)
    for i, channel in enumerate(oracle.channels(case.whole)):
        same(found["clipped_fraction"][i], oracle.clipping(channel, 60)[0])
        if channel.values.size:
            assert found["clipping_level"][i] == 60


# ---- clipping ------------------------------------------------------------------------------------


def bright(level: float, top: int, dtype: str, offset: int = 0) -> np.ndarray:
    counts = np.random.default_rng(1).poisson(level, (200, 200)) + offset
    return np.minimum(counts, top).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "top", "offset"),
    [
        ("u1", 255, 0),
        ("i1", 127, 0),
        ("u2", 65535, 0),
        ("u2", 4095, 0),
        ("u2", 1023, 0),
        ("i2", 4095, 0),
        ("u2", 32768 + 4095, 32768),
        (">u2", 16383, 0),
    ],
)
def test_where_pixels_pile_up(dtype: str, top: int, offset: int) -> None:
    full = top - offset
    scene = bright(full - math.sqrt(full), top, dtype, offset)
    found = artifacts(scene)
    assert found["clipping_level"][0] == top
    assert found["clipped_fraction"][0] == np.mean(scene == top) > 0


@pytest.mark.parametrize("top", [4000, 3000, 36863 - 1])
def test_another_maximum_is_no_clipping(top: int) -> None:
    found = artifacts(bright(top * 0.99, top, "u2"))
    assert found["clipped_fraction"][0] == 0
    assert math.isnan(found["clipping_level"][0])


def test_one_pixel_at_the_maximum_is_no_pile() -> None:
    scene = bright(100, 4095, "u2")
    scene[3, 3] = 4095
    found = artifacts(scene)
    assert found["clipped_fraction"][0] == 0
    assert math.isnan(found["clipping_level"][0])


# ---- hot pixels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4", "f8", "f2"])
@pytest.mark.parametrize("level", [0.3, 5, 100, 1000])
def test_hot_pixels_are_hit_and_clean_ones_are_not(dtype: str, level: float) -> None:
    rng = np.random.default_rng(2)
    scene = rng.poisson(level, (400, 400))
    clean = artifacts(scene.astype(dtype))["hot_pixel_fraction"][0]
    assert clean <= 1e-5
    hot = rng.choice(396 * 396, 40, replace=False)
    y, x = np.unravel_index(hot, (396, 396))
    scene[y + 2, x + 2] += int(20 * math.sqrt(level) + 25)
    found = artifacts(scene.astype(dtype))["hot_pixel_fraction"][0]
    assert found * scene.size == pytest.approx(40, abs=3)


@pytest.mark.parametrize("unit", [1e-3, 0.37, 50.0])
def test_hot_pixels_of_scaled_counts(unit: float) -> None:
    """Floats that are counts times an unknown gain are judged like the counts."""
    rng = np.random.default_rng(2)
    scene = rng.poisson(0.5, (400, 400)) * unit
    assert artifacts(scene.astype("f4"))["hot_pixel_fraction"][0] <= 1e-5
    scene[100, 5:300:10] += 60 * unit
    found = artifacts(scene.astype("f4"))["hot_pixel_fraction"][0]
    assert found * scene.size == pytest.approx(30, abs=3)


def test_gaussian_noise_has_no_hot_pixels() -> None:
    noise = np.random.default_rng(3).normal(0, 1, (500, 500))
    assert artifacts(noise.astype("f4"))["hot_pixel_fraction"][0] == 0
    assert artifacts(noise)["hot_pixel_fraction"][0] == 0


@pytest.mark.parametrize("at", [(0, 50), (50, 0), (99, 99)])
def test_the_outermost_pixels_have_no_neighbourhood(at: tuple[int, int]) -> None:
    scene = np.random.default_rng(0).poisson(50, (100, 100)).astype("u2")
    scene[at] = 60000
    assert artifacts(scene)["hot_pixel_fraction"][0] == 0


@pytest.mark.parametrize("chunks", [(100, 100), (33, 40), (1, 100), (50, 50)])
def test_a_hot_pixel_at_a_seam(chunks: tuple[int, int]) -> None:
    scene = np.random.default_rng(0).poisson(50, (100, 100)).astype("u2")
    scene[[33, 32, 50, 49], [40, 39, 50, 49]] = 60000
    found = artifacts(da.from_array(scene, chunks=chunks))
    assert found["hot_pixel_fraction"][0] == 4 / 10000


# ---- dead areas ----------------------------------------------------------------------------------


@pytest.mark.cover(1)
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("chunks", [(90, 80), (13, 80), (90, 7), (1, 80), (16, 16), (5, 3)])
def test_dead_windows_across_seams(dtype: str, chunks: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    scene = rng.poisson(3, (90, 80)).astype(dtype) + np.ones((), dtype)
    scene[10:18, 10:18] = 0
    scene[30:49, 20:31] = 0
    scene[60:80, 40:47] = 0  # seven wide: no window fits
    scene[82:, 72:] = 0
    found = artifacts(da.from_array(scene, chunks=chunks))
    assert found["dead_area_fraction"][0] == (64 + 19 * 11 + 64) / scene.size


def test_sparse_counts_are_not_dead() -> None:
    scene = np.random.default_rng(6).poisson(0.1, (100, 100)).astype("u1")
    assert math.isnan(artifacts(scene)["dead_area_fraction"][0])
    assert artifacts(scene)["recipe_dead_regions"][0] > 0.8


def test_pixels_that_do_not_count_are_not_dead() -> None:
    scene = np.ones((40, 40), "f4")
    scene[:16, :16] = 0
    scene[4, :16] = math.nan
    channel = oracle.channels(xr.DataArray(scene, dims=("y", "x")))[0]
    assert artifacts(scene)["dead_area_fraction"][0] == oracle.dead_area(channel)


# ---- stripes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize("level", [0.5, 20, 500])
def test_stripes_stand_out_and_noise_does_not(dtype: str, level: float) -> None:
    rng = np.random.default_rng(7)
    flat = np.full((300, 300), level)
    clean = artifacts(rng.poisson(flat).astype(dtype))
    assert clean["row_striping"][0] == pytest.approx(1, abs=0.35)
    assert clean["column_striping"][0] == pytest.approx(1, abs=0.35)
    gain = np.exp(rng.normal(0, 0.5, (300, 1)))
    striped = artifacts(rng.poisson(flat * gain).astype(dtype))
    assert striped["row_striping"][0] > 3
    assert striped["column_striping"][0] < 1.35  # the stripes widen what columns are held against
    turned = artifacts(rng.poisson(flat * gain.T).astype(dtype))
    assert turned["column_striping"][0] > 3


def test_a_gradient_is_no_stripe() -> None:
    y = np.arange(300)[:, None]
    scene = np.random.default_rng(0).poisson(np.broadcast_to(50 + y, (300, 300))).astype("u2")
    assert artifacts(scene)["row_striping"][0] < 2


def test_fewer_than_fifteen_rows_are_too_few() -> None:
    scene = np.random.default_rng(0).poisson(50, (14, 60)).astype("u2")
    found = artifacts(scene)
    assert math.isnan(found["row_striping"][0])
    assert np.isfinite(found["column_striping"][0])


# ---- edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4"])
def test_a_channel_of_zeros(dtype: str) -> None:
    found = artifacts(np.zeros((40, 40), dtype))
    assert found["recipe_dead_regions"][0] == 1
    assert found["recipe_hot_pixels"][0] == 0
    assert found["hot_pixel_fraction"][0] == 0
    for name in ("recipe_striping", "dead_area_fraction", *STRIPING):
        assert math.isnan(found[name][0]), name


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_channel_of_nan(dtype: str) -> None:
    found = artifacts(np.full((40, 40), math.nan, dtype))
    for name in NAMES:
        assert math.isnan(found[name][0]), name


def test_one_pixel() -> None:
    found = artifacts(np.array([[7]], "u2"))
    assert found["recipe_saturation"][0] == 1
    assert found["recipe_striping"][0] == 0
    assert math.isnan(found["hot_pixel_fraction"][0])
    assert math.isnan(found["row_striping"][0])


def test_planes_of_a_stack_add_up() -> None:
    case = build(
        "u2", "tczyx", (2, 2, 2, 40, 30), ("counts", "blobs"), ("none",) * 2, (1,) * 3 + (17, 30), 4
    )
    found = artifacts(case.image)
    for i, channel in enumerate(oracle.channels(case.whole)):
        check_recipe(found, i, channel)
        check_striping(found, i, channel)
        same(found["hot_pixel_fraction"][i], oracle.hot_pixels(channel))


@repeatable
@given(images(dtypes=NARROW), st.integers(0, 99))
def test_scanned_inside_a_mask(case: Case, seed: int) -> None:
    sides = tuple(case.whole.sizes[d] for d in "yx")
    mask = np.random.default_rng(seed).random(sides) < 0.8
    found = artifacts(gq.scan(case.image, mask=mask).compute())
    for i, channel in enumerate(oracle.channels(case.whole, mask)):
        check_recipe(found, i, channel)
        check_striping(found, i, channel)
        same(found["clipped_fraction"][i], oracle.clipping(channel)[0], "clipped_fraction")
        same(found["hot_pixel_fraction"][i], oracle.hot_pixels(channel), "hot_pixel_fraction")
        same(found["dead_area_fraction"][i], oracle.dead_area(channel), "dead_area_fraction")
