"""Quantiles and histograms, exact, against numpy on the whole array."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import xarray as xr
from agreement import same
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, NARROW, Case, build, images, repeatable

import gigaqc as gq

LEVELS = [0.0, 0.001, 0.1, 1 / 3, 0.5, 0.99, 0.999, 1.0]


def expected_quantiles(case: Case, levels: list[float], ignore_zeros: bool = False) -> np.ndarray:
    each = [oracle.quantile(c, levels, ignore_zeros) for c in oracle.channels(case.whole)]
    return np.stack(each, axis=1)


@repeatable
@given(images())
def test_quantiles_are_exact(case: Case) -> None:
    found = gq.quantile(case.image, LEVELS).compute().transpose("quantile", "c")
    same(found, expected_quantiles(case, LEVELS))
    same(found.coords["quantile"], LEVELS)


@pytest.mark.parametrize("dtype", DTYPES)
def test_quantiles_of_every_dtype(dtype: str) -> None:
    kinds = ("noise", "sparse", "signed", "uniform")
    case = build(dtype, "cyx", (4, 45, 61), kinds, ("nan", "none", "inf", "none"), (2, 16, 61), 11)
    found = gq.quantile(case.image, LEVELS).compute().transpose("quantile", "c")
    same(found, expected_quantiles(case, LEVELS))


@repeatable
@given(images(kinds=("sparse", "signed", "zeros", "two_levels")))
def test_zeros_can_be_left_out(case: Case) -> None:
    found = gq.quantile(case.image, [0.25, 0.99], ignore_zeros=True).compute()
    same(found.transpose("quantile", "c"), expected_quantiles(case, [0.25, 0.99], True))


@repeatable
@given(images(), st.integers(0, 99))
def test_a_mask_leaves_pixels_out(case: Case, seed: int) -> None:
    sides = tuple(case.whole.sizes[d] for d in "yx")
    mask = np.random.default_rng(seed).random(sides) < 0.6
    found = gq.quantile(case.image, [0.2, 0.5], mask=mask).compute().transpose("quantile", "c")
    expected = [oracle.quantile(c, [0.2, 0.5]) for c in oracle.channels(case.whole, mask)]
    same(found, np.stack(expected, axis=1))


def test_one_level() -> None:
    found = gq.quantile(np.arange(12, dtype="u1").reshape(3, 4), 0.5).compute()
    assert found.coords["quantile"] == 0.5
    assert found.item() == 5.5


@pytest.mark.parametrize("dtype", ["u8", "i8"])
def test_order_statistics_of_64_bits_are_exact(dtype: str) -> None:
    small = np.arange(35, dtype=dtype).reshape(5, 7) * 3
    same(gq.quantile(small, [0, 0.5, 1]).compute().values[:, 0], [0, 51, 102])


def test_bool_is_counted_as_zero_and_one() -> None:
    stripes = np.zeros((6, 10), bool)
    stripes[:2] = True
    same(gq.quantile(stripes, [0.5, 0.9]).compute().values[:, 0], [0, 1])


@repeatable
@given(images(), st.integers(1, 40), st.sampled_from([(0.0, 100.0), (-31.5, 77.25), (5, 6)]))
def test_histogram_is_that_of_numpy(case: Case, bins: int, limits: tuple[float, float]) -> None:
    found = gq.histogram(case.image, bins=bins, range=limits).compute()
    assert found["counts"].dims == ("c", "bin")
    assert found["edges"].dims == ("c", "edge")
    for i, channel in enumerate(oracle.channels(case.whole)):
        counts, edges = oracle.histogram(channel, bins, limits)
        same(found["counts"][i], counts)
        np.testing.assert_allclose(found["edges"][i], edges, rtol=1e-15)


@repeatable
@given(images(dtypes=NARROW))
def test_the_default_histogram_counts_every_pixel(case: Case) -> None:
    found = gq.histogram(case.image).compute()
    for i, channel in enumerate(oracle.channels(case.whole)):
        counts, edges = found["counts"][i].values, found["edges"][i].values
        expected = np.histogram(channel.values, bins=edges)[0]
        same(counts, expected)
        assert counts.sum() == channel.values.size


@repeatable
@given(images(dims=("cyx", "tczyx"), channels=(2, 4)), st.integers(1, 20))
def test_joint_histogram_is_that_of_numpy(case: Case, bins: int) -> None:
    parts = oracle.channels(case.whole)
    x, y = oracle.joint(parts[0], parts[1])
    if x.size == 0:
        return
    found = gq.joint_histogram(case.image, "ch0", "ch1", bins=bins).compute()
    assert found["counts"].dims == ("bin_x", "bin_y")
    edges = [found["edges_x"].values, found["edges_y"].values]
    assert edges[0][0] <= x.min() and x.max() <= edges[0][-1]
    assert edges[1][0] <= y.min() and y.max() <= edges[1][-1]
    same(found["counts"], np.histogram2d(x, y, bins=edges)[0])
    assert found["counts"].sum() == x.size


def test_joint_histogram_by_hand() -> None:
    pair = np.array([[[0, 0, 4, 4]], [[0, 2, 2, 2]]], "u2")
    image = xr.DataArray(pair, dims=("c", "y", "x"), coords={"c": ["a", "b"]})
    found = gq.joint_histogram(image, "a", "b", bins=2).compute()
    same(found["counts"], [[1, 1], [0, 2]])


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_statistics_answer_like_the_image(dtype: str) -> None:
    case = build(dtype, "cyx", (2, 50, 40), ("noise", "sparse"), ("none", "nan"), (1, 17, 40), 5)
    statistics = gq.scan(case.image, quantiles=(0.37,)).compute()
    for q in (0.01, 0.1, 0.37, 0.5, 0.99, 0.999):
        same(gq.quantile(statistics, q).compute(), gq.quantile(case.image, q).compute())
