"""Stained area and colocalization."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
import xarray as xr
from agreement import close, over_c, same
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, NARROW, Case, images, repeatable

import gigaqc as gq

STAINED = ("positive_fraction", "positive_area", "positive_mean", "threshold")
POSITIVE = ("counts", "sparse", "blobs", "uniform", "two_levels", "constant", "zeros", "ramp")


@repeatable
@given(images(), st.sampled_from([0, 7, 25.5, -3]))
def test_stained_area_above_a_number(case: Case, threshold: float) -> None:
    found = over_c(gq.stained_area(case.image, threshold), STAINED)
    for i, channel in enumerate(oracle.channels(case.whole)):
        fraction, count, level = oracle.stained(channel, threshold)
        same(found["positive_fraction"][i], fraction)
        if channel.values.size:
            same(found["positive_area"][i], count)
        close(found["positive_mean"][i], level, "positive_mean", scale=1e9)
        same(found["threshold"][i], threshold)


@repeatable
@given(images(dtypes=NARROW))
def test_stained_area_above_otsu(case: Case) -> None:
    found = over_c(gq.stained_area(case.image), STAINED)
    for i, channel in enumerate(oracle.channels(case.whole)):
        if math.isnan(oracle.otsu(channel)):
            continue
        threshold = found["threshold"][i]
        assert oracle.is_otsu(channel, threshold)
        fraction, _, level = oracle.stained(channel, threshold)
        same(found["positive_fraction"][i], fraction)
        close(found["positive_mean"][i], level, "positive_mean")


@repeatable
@given(images(dims=("cyx",), channels=(2, 2)))
def test_one_threshold_a_channel(case: Case) -> None:
    found = over_c(gq.stained_area(case.image, [3, 50.5]), STAINED)
    for i, (channel, t) in enumerate(zip(oracle.channels(case.whole), (3, 50.5), strict=True)):
        same(found["positive_fraction"][i], oracle.stained(channel, t)[0])
        same(found["threshold"][i], t)


def test_area_in_the_unit_of_the_pixel() -> None:
    image = xr.DataArray(
        np.array([[0, 9, 9], [0, 0, 9]], "u1"),
        dims=("y", "x"),
        attrs={"pixel_size": {"y": 0.5, "x": 0.25}, "unit": "micrometer"},
    )
    found = over_c(gq.stained_area(image, 5), STAINED)
    assert found["positive_area"][0] == 3 * 0.125
    assert found["positive_fraction"][0] == 0.5
    assert found["positive_mean"][0] == 9


def test_nothing_stained() -> None:
    found = over_c(gq.stained_area(np.zeros((8, 9), "u2"), 5), STAINED)
    assert found["positive_fraction"][0] == 0
    assert found["positive_area"][0] == 0
    assert math.isnan(found["positive_mean"][0])


def check(found: xr.Dataset, wanted: tuple[float, float, float]) -> None:
    pearson, m1, m2 = wanted
    np.testing.assert_allclose(found["pearson"], pearson, rtol=1e-9, atol=1e-9)
    close(found["manders_m1"], m1, "manders_m1")
    close(found["manders_m2"], m2, "manders_m2")


@repeatable
@given(images(dtypes=DTYPES, kinds=POSITIVE, dims=("cyx", "tczyx"), channels=(2, 3)))
def test_colocalization_with_given_thresholds(case: Case) -> None:
    parts = oracle.channels(case.whole)
    found = gq.colocalization(case.image, "ch0", "ch1", thresholds=(5, 30)).compute()
    check(found, oracle.colocalization(parts[0], parts[1], (5, 30)))


@repeatable
@given(images(dtypes=NARROW, kinds=POSITIVE, dims=("cyx", "tczyx"), channels=(2, 3)))
def test_colocalization_with_otsus_thresholds(case: Case) -> None:
    parts = oracle.channels(case.whole)[:2]
    thresholds = oracle.otsu(parts[0]), oracle.otsu(parts[1])
    if any(math.isnan(t) for t in thresholds):
        return
    if any(
        np.count_nonzero([oracle.is_otsu(p, t) for t in np.unique(p.values)]) > 1 for p in parts
    ):
        return  # either of two equal maxima may be meant
    found = gq.colocalization(case.image, "ch0", "ch1").compute()
    check(found, oracle.colocalization(*parts, thresholds))


@pytest.mark.parametrize(("x", "y"), [("a", "b"), (0, 1)])
def test_manders_by_hand(x: str | int, y: str | int) -> None:
    pair = np.array([[[1, 2, 3, 4]], [[0, 0, 9, 1]]], "u2")
    image = xr.DataArray(pair, dims=("c", "y", "x"), coords={"c": ["a", "b"]})
    found = gq.colocalization(image, x, y, thresholds=(3, 5)).compute()
    assert found["manders_m1"] == pytest.approx(3 / 10)
    assert found["manders_m2"] == pytest.approx(1 / 10)
