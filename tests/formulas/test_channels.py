"""Correlation of channels, and the pairs that should not correlate."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from strategies import Case, build, images, repeatable

import gigaqc as gq


def agrees(found: xr.DataArray, expected: np.ndarray) -> None:
    assert found.dims == ("c", "c_other")
    np.testing.assert_allclose(found.values, expected, rtol=1e-9, atol=1e-9)


@repeatable
@given(images())
def test_correlation_is_pearsons(case: Case) -> None:
    found = gq.channel_correlation(case.image).compute()
    agrees(found, oracle.channel_correlation(oracle.channels(case.whole)))


@repeatable
@given(images(), st.integers(0, 99))
def test_correlation_inside_a_mask(case: Case, seed: int) -> None:
    sides = tuple(case.whole.sizes[d] for d in "yx")
    mask = np.random.default_rng(seed).random(sides) < 0.5
    found = gq.channel_correlation(case.image, mask=mask).compute()
    agrees(found, oracle.channel_correlation(oracle.channels(case.whole, mask)))


def test_names_and_symmetry() -> None:
    kinds = ("blobs", "noise", "counts")
    case = build("u2", "cyx", (3, 40, 40), kinds, ("none",) * 3, (2, 13, 40), 2)
    found = gq.channel_correlation(case.image).compute()
    assert list(found.coords["c"].values) == case.names
    assert list(found.coords["c_other"].values) == case.names
    assert np.array_equal(found, found.T)
    np.testing.assert_allclose(np.diag(found), 1, rtol=1e-12)


def test_correlation_far_from_zero() -> None:
    """Sums of raw products would have no digit left here."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 9, (60, 60))
    pair = np.stack([65000 + base, 65000 + base + rng.integers(0, 3, (60, 60))]).astype("u2")
    found = gq.channel_correlation(pair).compute()
    expected = np.corrcoef(pair.reshape(2, -1).astype("f8") - 65000)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_opposite_channels() -> None:
    ramp = np.arange(60, dtype="f4").reshape(6, 10)
    found = gq.channel_correlation(np.stack([ramp, -ramp, np.ones_like(ramp)])).compute().values
    assert found[0, 1] == pytest.approx(-1, abs=1e-12)
    assert math.isnan(found[0, 2]) and math.isnan(found[2, 2])


def correlation() -> xr.DataArray:
    values = np.array([[1, 0.9, -0.8], [0.9, 1, 0.7], [-0.8, 0.7, 1]])
    names = ["CD3", "CD8", "DNA"]
    return xr.DataArray(values, dims=("c", "c_other"), coords={"c": names, "c_other": names})


@pytest.mark.parametrize("expected", [[("CD3", "CD8")], [("CD8", "CD3")]])
def test_expected_pairs_are_left_out_either_way_round(expected: list[tuple[str, str]]) -> None:
    assert gq.unexpected_correlations(correlation(), expected=expected).empty


def test_pairs_above_the_threshold_are_listed_once() -> None:
    found = gq.unexpected_correlations(correlation())
    assert list(found.columns)[:3] == ["channel_1", "channel_2", "correlation"]
    assert found.iloc[:, :3].to_numpy().tolist() == [["CD3", "CD8", 0.9]]
    assert len(gq.unexpected_correlations(correlation(), threshold=0.69)) == 2
    assert len(gq.unexpected_correlations(correlation(), threshold=-2)) == 3


def test_nan_is_never_unexpected() -> None:
    broken = correlation()
    broken[0, 1] = broken[1, 0] = math.nan
    assert gq.unexpected_correlations(broken).empty
