"""Robust z and drift against their definitions and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gigaqc.formulas.cohort import drift_of, robust_z, robust_z_within, summary_columns


def test_robust_z_is_its_definition():
    x = np.random.default_rng(0).normal(10, 2, 51)
    found = robust_z(x)
    mad = stats.median_abs_deviation(x)
    np.testing.assert_allclose(found.z, (x - np.median(x)) / (1.4826 * mad), rtol=1e-12)
    assert (found.median == np.median(x)).all()


def test_what_is_not_finite_is_left_out():
    found = robust_z([1.0, np.nan, 2.0, np.inf, 3.0])
    assert np.isnan(found.z).tolist() == [False, True, False, True, False]
    assert found.median.tolist() == [2.0] * 5


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 9.0], [1.0, np.nan, 9.0]])
def test_fewer_than_three_are_not_compared(values):
    found = robust_z(values)
    assert np.isnan(found.z).all() and np.isnan(found.median).all()


def test_without_spread_nothing_is_far():
    found = robust_z([0.0, 0.0, 0.0, 0.0, 7.0])
    assert np.isnan(found.z).all() and (found.median == 0).all()


def test_z_within_groups_knows_nothing_of_the_others():
    a, b = np.arange(5.0), np.arange(5.0) * 100 + 1e6
    groups = ["a", "b"] * 5 + [None]
    mixed = np.append(np.stack([a, b], 1).ravel(), 3.0)
    found = robust_z_within(mixed, groups)
    np.testing.assert_array_equal(found.z[:10:2], robust_z(a).z)
    np.testing.assert_array_equal(found.z[1:10:2], robust_z(b).z)
    assert np.isnan(found.z[10]) and np.isnan(found.median[10])


@pytest.mark.parametrize("n", [9, 30])
def test_drift_is_what_scipy_finds(n):
    rng = np.random.default_rng(n)
    order = rng.permutation(n) * 3.0 + 5
    y = 0.2 * order + rng.normal(size=n)
    found = drift_of(y, order)
    ranks = stats.rankdata(order) - 1
    slope, _, low, high = stats.theilslopes(y, ranks)
    rho, p = stats.spearmanr(order, y)
    assert (found.n, found.slope, found.slope_low, found.slope_high) == (n, slope, low, high)
    assert found.rho == pytest.approx(rho, abs=1e-12) and found.p == pytest.approx(p, rel=1e-9)


def test_p_of_few_samples_is_exact():
    # scipy gives 0 here: three in order are no proof, one of three pairs of orders is as extreme
    assert drift_of([1, 2, 3], [1, 2, 3]).p == pytest.approx(2 / 6)
    y = [3.0, 1.0, 2.0, 5.0, 4.0, 9.0]

    def rho(a):
        return stats.spearmanr(np.arange(6), a).statistic

    exact = stats.permutation_test(
        (y,), rho, permutation_type="pairings", n_resamples=np.inf, vectorized=False
    )
    assert drift_of(y, range(6)).p == pytest.approx(exact.pvalue)


def test_drift_without_support_is_nan():
    assert np.isnan(drift_of([1.0, 2.0], [0, 1]).slope)
    constant = drift_of([5.0] * 4, range(4))
    assert constant.slope == 0 and np.isnan(constant.rho) and np.isnan(constant.p)
    assert np.isnan(drift_of([1.0, 2.0, 3.0], [4, 4, 4]).slope)
    holes = drift_of([1.0, np.nan, 3.0, 4.0], [0, 1, 2, np.nan])
    assert holes.n == 2 and np.isnan(holes.slope)


def test_the_recipes_columns_are_there():
    recipe = [
        "sample",
        "mean_snr",
        "min_snr",
        "tissue_coverage",
        "n_cells",
        "n_artifacts",
        "pass_qc",
        "error",
    ]
    assert set(recipe) <= set(summary_columns())
    assert len(set(summary_columns())) == len(summary_columns())
