"""The rules find each artifact at a stated size, and are silent on what is clean."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import ndimage

import gigaqc as gq
from gigaqc import testing

MEANS = (0.05, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
ARTIFACT_RULES = {
    "clipped_fraction",
    "hot_pixel_fraction",
    "dead_area_fraction",
    "row_striping",
    "column_striping",
}
RECIPE_ARTIFACTS = {
    "recipe_saturation",
    "recipe_hot_pixels",
    "recipe_dead_regions",
    "recipe_striping",
}


def assessed(images: list[np.ndarray], rules: str = "robust") -> gq.Assessment:
    """Images of one size, each a channel that is judged by itself."""
    names = [str(i) for i in range(len(images))]
    stack = xr.DataArray(np.stack(images), dims=("c", "y", "x"), coords={"c": names})
    return gq.assess(stack, tissue=False, rules=rules, progress=False)


def raised(verdict: gq.Assessment, among: set[str] = ARTIFACT_RULES) -> pd.DataFrame:
    flags = verdict.flags
    found = flags[flags["metric"].isin(among) & (flags["status"] != "PASS")]
    return found[["name", "metric", "value", "limit", "status"]]


def check_silent(verdict: gq.Assessment) -> None:
    found = raised(verdict)
    assert found.empty, found.to_string()


def check_noise(verdict: gq.Assessment) -> None:
    flags = verdict.flags
    signal = flags[flags["metric"] == "autocorrelation_snr"]
    assert len(signal) == len(verdict.channels)
    assert (signal["status"] == "FAIL").all(), signal.to_string()


def check_found(verdict: gq.Assessment, rule: str) -> None:
    """The rule flags every channel, and no other artifact rule flags any."""
    found = raised(verdict)
    assert sorted(found["name"]) == sorted(verdict.channels.index), found.to_string()
    assert set(found["metric"]) == {rule}, found.to_string()


def specimen(size: int, seed: int, **look: float) -> testing.Phantom:
    """Tissue through optics: nothing is sharper than a Gaussian of 1.5 pixels."""
    sharp = testing.tissue((size, size), grain=3, seed=seed, **look)
    return testing.defocused(sharp, 0, 0, size, size, sigma=1.5, seed=seed)


# ---- clean images --------------------------------------------------------------------------------


@pytest.mark.cover(1)
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("mean", MEANS)
def test_counting_noise_is_clean_and_no_signal(mean: float, dtype: str) -> None:
    for size, seeds in ((256, 3), (1024, 1)):
        verdict = assessed(
            [testing.poisson((size, size), mean, dtype=dtype, seed=s).pixels for s in range(seeds)]
        )
        check_silent(verdict)
        check_noise(verdict)
        assert not verdict.passed


@pytest.mark.parametrize("gain", [0.37, 21.0])
@pytest.mark.parametrize("mean", [0.1, 1, 10, 300])
def test_scaled_counts_are_clean(mean: float, gain: float) -> None:
    scale = np.float32(gain)
    verdict = assessed([testing.poisson((300, 300), mean, seed=s).pixels * scale for s in (0, 1)])
    check_silent(verdict)
    check_noise(verdict)


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
@pytest.mark.parametrize(("mean", "std"), [(100, 5), (1000, 50), (0, 1)])
def test_gaussian_noise_is_clean_and_no_signal(mean: float, std: float, dtype: str) -> None:
    if dtype == "uint16" and mean == 0:
        pytest.skip("half of it is below 0")
    verdict = assessed(
        [testing.gaussian((256, 256), mean, std, dtype=dtype, seed=s).pixels for s in range(3)]
    )
    check_silent(verdict)
    check_noise(verdict)


@pytest.mark.cover(1)
@pytest.mark.parametrize("side", [24, 64])
@pytest.mark.parametrize("mean", MEANS)
def test_small_noise_never_passes_as_signal(mean: float, side: int) -> None:
    verdict = assessed([testing.poisson((side, side), mean, seed=s).pixels for s in range(200)])
    flags = verdict.flags
    signal = flags[flags["metric"] == "autocorrelation_snr"]
    assert (signal["status"] != "PASS").all()
    assert (signal["status"] == "FAIL").mean() >= 0.99
    check_silent(verdict)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize(("mean", "background"), [(200, 5), (20, 0.5)])
def test_tissue_is_clean_and_is_signal(mean: float, background: float, dtype: str) -> None:
    verdict = assessed(
        [specimen(512, s, mean=mean, background=background).pixels.astype(dtype) for s in range(2)]
    )
    check_silent(verdict)
    assert verdict.passed


# ---- artifacts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("part", [1e-4, 1e-3])
@pytest.mark.parametrize(("mean", "excess"), [(1, 16), (10, 40), (100, 120), (1000, 400)])
def test_hot_pixels_are_found(mean: float, excess: float, part: float, dtype: str) -> None:
    size = 300
    verdict = assessed(
        [
            testing.hot_pixels(
                testing.poisson((size, size), mean, dtype=dtype, seed=s),
                round(part * size * size),
                excess,
                seed=s,
            ).pixels
            for s in range(2)
        ]
    )
    check_found(verdict, "hot_pixel_fraction")
    assert verdict.channels["hot_pixel_fraction"].to_numpy() == pytest.approx(part, rel=0.25)


def test_hot_pixels_are_found_in_tissue() -> None:
    images = [testing.hot_pixels(specimen(300, s), 9, 200, seed=s).pixels for s in range(3)]
    check_found(assessed(images), "hot_pixel_fraction")


def test_sharp_structure_is_not_hot() -> None:
    """Spots of one pixel and their dark twins: what is below as above is no hot pixel."""
    rng = np.random.default_rng(0)
    signs = np.zeros((400, 400))
    at = rng.choice(signs.size, 1600, replace=False)
    signs.flat[at] = np.where(np.arange(at.size) % 2, 1, -1)
    pixels = rng.poisson(500 + 300 * signs).astype("u2")
    verdict = assessed([pixels])
    assert verdict.channels["hot_pixel_fraction"].item() > 1e-3
    assert verdict.channels["hot_pixel_structure"].item() > 1e-3
    check_silent(verdict)


def stripes(pattern: str, count: int, rng: np.random.Generator) -> np.ndarray:
    if pattern == "normal":
        return rng.standard_normal(count)
    return np.where(np.arange(count) % 2, -1.0, 1.0)


@pytest.mark.parametrize("pattern", ["normal", "every second"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("mean", "amplitude"), [(100, 2), (100, 5), (100, 20), (1000, 10)])
def test_stripes_are_found(mean: float, amplitude: float, axis: int, pattern: str) -> None:
    images = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        lines = np.expand_dims(amplitude * stripes(pattern, 400, rng), 1 - axis)
        images.append(rng.poisson(mean + np.broadcast_to(lines, (400, 400))).astype("u2"))
    check_found(assessed(images), ("row_striping", "column_striping")[axis])


def test_structure_that_repeats_in_every_plane_is_no_stripe() -> None:
    rng = np.random.default_rng(0)
    scene = specimen(64, 1).truth.expected
    bumps = ndimage.gaussian_filter(rng.normal(0, 60, (64, 1)), (1, 0))
    stack = rng.poisson(np.maximum(scene + bumps, 1), (100, 64, 64)).astype("u2")
    image = xr.DataArray(stack, dims=("t", "y", "x"))
    single, whole = (gq.assess(i, tissue=False, progress=False) for i in (image[:1], image))
    assert whole.channels["row_striping"].item() > 3 * single.channels["row_striping"].item()
    statuses = [v.flags.set_index("metric").loc["row_striping", "status"] for v in (single, whole)]
    assert statuses == ["PASS", "PASS"]


@pytest.mark.parametrize("part", [2e-4, 1e-3, 2e-2])
@pytest.mark.parametrize("level", [4095, 65535])
def test_clipping_is_found(level: int, part: float) -> None:
    images = [testing.clipped(specimen(300, s), part, level=level) for s in range(2)]
    verdict = assessed([image.pixels for image in images])
    check_found(verdict, "clipped_fraction")
    truth = [image.truth.clipped_fraction for image in images]
    assert verdict.channels["clipped_fraction"].tolist() == truth
    status = set(raised(verdict)["status"])
    assert status == {"FAIL" if part > 1e-2 else "WARN"}


@pytest.mark.parametrize("mean", [3, 10, 100])
def test_a_dead_block_is_found(mean: float) -> None:
    for size in (256, 1024):
        whole = testing.poisson((size, size), mean)
        verdict = assessed([testing.dead_block(whole, 70, 90, 64, 64).pixels])
        check_found(verdict, "dead_area_fraction")


def test_the_background_of_sparse_counts_is_not_dead() -> None:
    """Where zeros are ordinary, windows without a count are too."""
    sparse, empty = (
        specimen(512, 3, mean=30, background=b, coverage=0.62).truth.expected for b in (0.07, 0.02)
    )
    rng = np.random.default_rng(0)
    verdict = assessed([rng.poisson(sparse).astype("u2")])
    assert verdict.channels["dead_area_fraction"].item() > 1e-3
    check_silent(verdict)
    verdict = assessed([rng.poisson(empty).astype("u2")])
    assert verdict.channels["dead_area_fraction"].item() > 5e-2
    assert raised(verdict)[["metric", "status"]].to_numpy().tolist() == [
        ["dead_area_fraction", "WARN"]
    ]


def test_a_defocused_tile_shows_in_the_map() -> None:
    whole = testing.tissue((512, 512), mean=2000, coverage=1)
    pixels = testing.defocused(whole, 128, 256, 128, 128).pixels
    verdict = gq.assess(pixels, tile=128, tissue=False, progress=False)
    sharpness = verdict.tiles["variance_of_laplacian"].isel(c=0).values
    assert np.unravel_index(sharpness.argmin(), sharpness.shape) == (1, 2)
    assert sharpness.min() < 0.5 * np.median(sharpness)


def test_a_spilled_channel_is_flagged_unless_expected() -> None:
    source, target = (testing.tissue((256, 256), seed=s) for s in (1, 2))
    pair = np.stack([source.pixels, testing.spilled(source, target, 0.97).pixels])
    image = xr.DataArray(pair, dims=("c", "y", "x"), coords={"c": ["A", "B"]})
    options = {"tissue": False, "progress": False}
    flags = gq.assess(image, **options).flags
    (found,) = flags[flags["scope"] == "pair"].itertuples()
    assert (found.name, found.status) == ("A / B", "WARN")
    assert found.value == pytest.approx(0.97, abs=1e-3)
    expected = gq.assess(image, expected_pairs=[("B", "A")], **options).flags
    assert (expected["scope"] != "pair").all()


@pytest.mark.parametrize("value", [0, 7])
def test_a_channel_without_contrast_fails_for_a_stated_reason(value: int) -> None:
    verdict = gq.assess(np.full((64, 64), value, "u2"), progress=False)
    assert not verdict.passed
    (flag,) = verdict.flags[verdict.flags["metric"] == "autocorrelation_snr"].itertuples()
    assert flag.status == "FAIL"
    assert "every pixel has the same value" in flag.reason


# ---- the recipe, as it is ------------------------------------------------------------------------


def test_the_recipe_takes_gaussian_noise_for_signal() -> None:
    verdict = assessed([testing.gaussian((512, 512), 100, 5).pixels], rules="recipe")
    (flag,) = verdict.flags[verdict.flags["metric"] == "snr"].itertuples()
    assert flag.value == pytest.approx(49, abs=1.5)
    assert flag.status == "PASS"


def test_the_recipe_covers_half_by_construction() -> None:
    noise = testing.poisson((256, 256), 1000).pixels
    verdict = gq.assess(noise, rules="recipe", progress=False)
    assert verdict.summary["coverage"] == pytest.approx(0.5, abs=0.02)
    assert (verdict.flags.set_index("metric")["status"].loc["coverage"]) == "PASS"


@pytest.mark.parametrize("part", [1e-4, 1e-3, 1e-2])
def test_the_recipe_never_sees_hot_pixels(part: float) -> None:
    whole = testing.poisson((300, 300), 100)
    pixels = testing.hot_pixels(whole, round(part * 90000), 30000).pixels
    verdict = assessed([pixels], rules="recipe")
    assert verdict.channels["recipe_hot_pixels"].item() <= 1e-3
    assert raised(verdict, {"recipe_hot_pixels"}).empty


def test_the_recipe_takes_sparse_counts_for_dead() -> None:
    verdict = assessed([testing.poisson((256, 256), 1).pixels], rules="recipe")
    found = raised(verdict, RECIPE_ARTIFACTS)
    assert found["metric"].tolist() == ["recipe_dead_regions"]
    assert found["value"].item() == pytest.approx(math.exp(-1), abs=0.01)


def test_the_recipe_takes_tissue_for_stripes() -> None:
    half = np.where(np.arange(300)[:, None] < 150, 10, 200)
    pixels = np.random.default_rng(0).poisson(np.broadcast_to(half, (300, 300))).astype("u2")
    assert raised(assessed([pixels], "recipe"), {"recipe_striping"}).shape[0] == 1
    assert raised(assessed([pixels]), {"row_striping"}).empty


@pytest.mark.parametrize(
    ("metric", "value", "status"),
    [
        ("snr", 3.01, "PASS"),
        ("snr", 3.0, "WARN"),
        ("snr", 1.5, "FAIL"),
        ("snr", math.inf, "PASS"),
        ("recipe_saturation", 0.01, "PASS"),
        ("recipe_saturation", 0.0101, "FAIL"),
        ("recipe_dead_regions", 0.05, "PASS"),
        ("recipe_dead_regions", 0.051, "FAIL"),
        ("recipe_striping", 0.3, "PASS"),
        ("recipe_striping", 0.31, "FAIL"),
        ("coverage", 0.31, "PASS"),
        ("coverage", 0.3, "FAIL"),
    ],
)
def test_the_recipes_limits(metric: str, value: float, status: str) -> None:
    (limit,) = [m for m in gq.Rules.named("recipe").limits if m.metric == metric]
    verdict = limit.judge(value)
    assert verdict is not None
    assert str(verdict[0]) == status
