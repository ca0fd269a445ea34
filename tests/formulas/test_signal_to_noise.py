"""Signal to noise: the recipe's, that of Otsu's classes, and that of neighbours."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
import xarray as xr
from agreement import close, over_c, same
from hypothesis import given
from hypothesis import strategies as st
from strategies import FLOATS, NARROW, WIDE, Case, build, images, repeatable

import gigaqc as gq

OTSU = ("otsu_threshold", "separability", "signal_to_background", "contrast_to_noise")
NAMES = ("signal", "noise", "snr", *OTSU, "autocorrelation", "autocorrelation_snr")


def check_recipe(found: dict[str, np.ndarray], i: int, wanted: tuple[float, float, float]) -> None:
    signal, noise, snr = wanted
    close(found["signal"][i], signal, "signal")
    if not math.isnan(signal):
        close(found["noise"][i], noise, "noise")
    if not (noise == 0 and signal <= 0):  # the recipe says inf, arithmetic -inf or NaN
        close(found["snr"][i], snr, "snr")


def check_autocorrelation(found: dict[str, np.ndarray], i: int, channel: oracle.Channel) -> None:
    right, lower = oracle.neighbour_correlations(channel)
    if math.isnan(right) != math.isnan(lower):  # a single row or column: one direction is left
        return
    r = found["autocorrelation"][i]
    np.testing.assert_allclose(r, (right + lower) / 2, rtol=1e-9, atol=1e-9)
    if math.isnan(r) or r < 1 - 1e-9:
        close(found["autocorrelation_snr"][i], oracle.ratio(r, 1 - r), "autocorrelation_snr")


@repeatable
@given(images(dtypes=NARROW))
def test_narrow_integers_are_exact(case: Case) -> None:
    found = over_c(gq.signal_to_noise(case.image), NAMES)
    for i, channel in enumerate(oracle.channels(case.whole)):
        check_recipe(found, i, oracle.recipe_snr(channel))
        check_autocorrelation(found, i, channel)
        threshold = found["otsu_threshold"][i]
        classes = oracle.Classes.at(channel, threshold)
        if not math.isnan(oracle.otsu(channel)):
            assert oracle.is_otsu(channel, threshold)
        close(found["separability"][i], classes.separability, "separability")
        close(found["signal_to_background"][i], classes.signal_to_background, "background")
        close(found["contrast_to_noise"][i], classes.contrast_to_noise, "contrast")


@repeatable
@given(images(dtypes=WIDE))
def test_wide_types_are_exact_given_the_threshold(case: Case) -> None:
    found = over_c(gq.signal_to_noise(case.image), NAMES)
    for i, channel in enumerate(oracle.channels(case.whole)):
        check_recipe(found, i, oracle.recipe_snr(channel))
        check_autocorrelation(found, i, channel)
        check_classes(found, i, channel)


def check_classes(found: dict[str, np.ndarray], i: int, channel: oracle.Channel) -> None:
    """Class means follow from the threshold; the threshold is nearly the best there is."""
    reached = oracle.separabilities(channel)[1]
    if not reached.size:
        assert math.isnan(found["separability"][i])
        return
    x = channel.values
    if oracle.std(x) < np.abs(x).max() / 64:  # narrower than a few bins of the key
        return
    classes = oracle.Classes.at(channel, found["otsu_threshold"][i])
    close(found["separability"][i], classes.separability, "separability")
    close(found["signal_to_background"][i], classes.signal_to_background, "background")
    close(found["contrast_to_noise"][i], classes.contrast_to_noise, "contrast")
    assert found["separability"][i] >= reached.max() - 1e-2
    assert found["separability"][i] <= reached.max() * (1 + 1e-9)


@repeatable
@given(images(), st.integers(0, 99))
def test_a_mask_tells_signal_from_noise(case: Case, seed: int) -> None:
    sides = tuple(case.whole.sizes[d] for d in "yx")
    mask = np.random.default_rng(seed).random(sides) < 0.4
    found = over_c(gq.signal_to_noise(case.image, mask=mask), ("signal", "noise", "snr"))
    for i, channel in enumerate(oracle.channels(case.whole)):
        signal, noise, snr = oracle.masked_snr(channel, mask)
        close(found["signal"][i], signal, "signal", scale=1e9)
        if not math.isnan(signal):
            close(found["noise"][i], noise, "noise")
        if not math.isnan(snr) and noise > 0:
            close(found["snr"][i], found["signal"][i] / found["noise"][i], "snr")


@pytest.mark.parametrize("percentile", [0, 25, 50, 90, 99.5])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_another_percentile(percentile: float, dtype: str) -> None:
    case = build(dtype, "cyx", (2, 41, 33), ("blobs", "noise"), ("none", "nan"), (1, 20, 33), 3)
    found = over_c(gq.signal_to_noise(case.image, percentile=percentile), NAMES)
    for i, channel in enumerate(oracle.channels(case.whole)):
        check_recipe(found, i, oracle.recipe_snr(channel, percentile))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("kind", ["zeros", "constant"])
def test_without_contrast_there_is_no_ratio(dtype: str, kind: str) -> None:
    case = build(dtype, "cyx", (1, 23, 20), (kind,), ("none",), (1, 7, 20), 1)
    found = over_c(gq.signal_to_noise(case.image), NAMES)
    for name in ("signal", "snr", *OTSU[1:], "autocorrelation", "autocorrelation_snr"):
        assert math.isnan(found[name][0]), name


def test_a_constant_that_no_binary_fraction_holds() -> None:
    found = over_c(gq.signal_to_noise(np.full((31, 37), 0.1)), NAMES)
    for name in ("signal", "snr", "separability", "autocorrelation"):
        assert math.isnan(found[name][0]), name


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_channel_of_nan_is_nan(dtype: str) -> None:
    case = build(dtype, "cyx", (2, 20, 20), ("noise", "noise"), ("all_nan", "none"), (1, 9, 20), 1)
    found = over_c(gq.signal_to_noise(case.image), NAMES)
    for name in NAMES:
        assert math.isnan(found[name][0]), name
        assert np.isfinite(found[name][1]), name


def test_one_pixel() -> None:
    found = over_c(gq.signal_to_noise(np.array([[7]], "u2")), NAMES)
    assert all(math.isnan(found[name][0]) for name in ("signal", "snr", "separability"))


def test_noiseless_background_gives_infinity() -> None:
    step = np.zeros((20, 20), "u1")
    step[10:] = 4
    found = over_c(gq.signal_to_noise(step), NAMES)
    assert found["signal"][0] == 4
    assert found["noise"][0] == 0
    assert found["snr"][0] == math.inf
    assert found["otsu_threshold"][0] == 0
    assert found["separability"][0] == 1


@pytest.mark.parametrize(
    ("dtype", "level"), [("u2", 100), ("u2", 3000), ("u1", 60), ("f4", 100), ("f4", 0.5)]
)
def test_structureless_noise_is_no_signal(dtype: str, level: float) -> None:
    rng = np.random.default_rng(8)
    noise = rng.normal(level, level / 10, (500, 500))
    found = over_c(
        gq.signal_to_noise(noise.round().astype(dtype) if dtype[0] == "u" else noise.astype(dtype)),
        NAMES,
    )
    assert abs(found["autocorrelation_snr"][0]) < 0.01
    assert found["separability"][0] == pytest.approx(2 / math.pi, abs=0.02)
    assert found["snr"][0] > 10  # what the recipe makes of it


def test_otsu_is_that_of_skimage() -> None:
    from skimage.filters import threshold_otsu

    rng = np.random.default_rng(4)
    nuclei = rng.poisson(np.where(rng.random((80, 80)) < 0.3, 60, 12)).astype("u2")
    found = over_c(gq.signal_to_noise(nuclei), NAMES)
    values = np.arange(nuclei.min(), nuclei.max() + 1)
    counts = np.bincount(nuclei.ravel())[nuclei.min() :]
    assert found["otsu_threshold"][0] == threshold_otsu(hist=(counts, values))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4"])
def test_fields_of_view_add_up(dtype: str) -> None:
    """Statistics of two fields, added, are those of both fields as planes of one stack."""
    recipe = (dtype, "cyx", (2, 40, 40), ("blobs", "noise"), ("none", "none"), (1, 16, 40))
    fields = [build(*recipe, seed=seed) for seed in (1, 2)]
    scans = [gq.scan(field.image).compute() for field in fields]
    found = over_c(gq.signal_to_noise(scans[0] + scans[1]), NAMES)
    stack = xr.concat([field.whole for field in fields], dim="z")
    for i, channel in enumerate(oracle.channels(stack)):
        close(found["autocorrelation"][i], oracle.autocorrelation(channel), "autocorrelation")
        if channel.narrow:
            check_recipe(found, i, oracle.recipe_snr(channel))
            same(found["otsu_threshold"][i], oracle.otsu(channel))
