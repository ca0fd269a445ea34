"""Counts by order-preserving key, values of chosen bins and products, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import repeatable

from gigaqc.kernels.accumulate import (
    DOUBLE,
    SINGLE,
    KeyLayout,
    add_products,
    count_keys,
    shifted_codes,
    values_in,
)

LAYOUTS = {"single": SINGLE, "double": DOUBLE}


def special(layout: KeyLayout) -> np.ndarray:
    info = np.finfo(layout.float_type)
    edge = [0.0, -0.0, info.tiny, -info.tiny, info.smallest_subnormal, info.max, info.min, 1.0]
    return np.array([*edge, np.nan, np.inf, -np.inf, -1.0, 1.5], layout.float_type)


@st.composite
def values(draw: st.DrawFn, layout: KeyLayout) -> np.ndarray:
    width = layout.float_type.itemsize * 8
    drawn = draw(hnp.arrays(layout.float_type, st.integers(0, 60), elements=st.floats(width=width)))
    few = draw(st.lists(st.sampled_from(special(layout).tolist()), max_size=20))
    return np.concatenate([drawn, np.array(few, layout.float_type)])


@pytest.mark.parametrize("name", LAYOUTS)
def test_bins_are_counted(name: str) -> None:
    layout = LAYOUTS[name]

    @repeatable
    @given(values(layout))
    def check(x: np.ndarray) -> None:
        bins, counts, first, _, (zeros, nans, infinite) = count_keys(x, layout)
        finite = x[np.isfinite(x)]
        wanted, wanted_counts = np.unique(layout.bin_of(finite), return_counts=True)
        np.testing.assert_array_equal(bins, wanted)
        np.testing.assert_array_equal(counts, wanted_counts)
        assert zeros == np.count_nonzero(finite == 0)
        assert nans == np.isnan(x).sum() and infinite == np.isinf(x).sum()
        for b, n, rest in zip(bins, counts, first, strict=True):
            if n == 1:
                low, step = layout.edges(np.array([b]))
                (value,) = finite[layout.bin_of(finite) == b].astype("f8")
                assert low[0] + rest * step[0] == value

    check()


@pytest.mark.parametrize("name", LAYOUTS)
def test_remainders_add_up_to_the_values(name: str) -> None:
    layout = LAYOUTS[name]
    x = np.random.default_rng(0).normal(3, 2, 5000).astype(layout.float_type)
    bins, counts, first, second, _ = count_keys(x, layout)
    low, step = layout.edges(bins)
    where = np.searchsorted(bins, layout.bin_of(x))
    above = x.astype("f8") - low[where]
    np.testing.assert_allclose(first * step, np.bincount(where, above), rtol=1e-12)
    np.testing.assert_allclose(second * step**2, np.bincount(where, above**2), rtol=1e-12)
    np.testing.assert_array_equal(counts, np.bincount(where))
    assert x.astype("f8").mean() == pytest.approx(
        (low * counts + first * step).sum() / x.size, rel=1e-13
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_bins_are_in_the_order_of_the_values(name: str) -> None:
    layout = LAYOUTS[name]
    x = special(layout)
    x = np.sort(x[np.isfinite(x)])
    assert (np.diff(layout.bin_of(x)) >= 0).all()
    low, step = layout.edges(layout.bin_of(x))
    with np.errstate(over="ignore"):
        high = low + step * 2.0**layout.tail
    assert (low <= x).all() and (x < high).all()
    # Narrow: that is what the bounds of unrefined quantiles rest on.
    normal = np.abs(x) >= np.finfo(layout.float_type).tiny
    assert (high - low)[normal & np.isfinite(high)].size
    with np.errstate(over="ignore"):
        relative = (high - low)[normal] / np.abs(x[normal].astype("f8"))
    assert relative[np.isfinite(relative)].max() <= 2.0**-layout.bits * 1.01


@pytest.mark.parametrize("name", LAYOUTS)
def test_values_of_chosen_bins(name: str) -> None:
    layout = LAYOUTS[name]

    @repeatable
    @given(values(layout), st.data())
    def check(x: np.ndarray, data: Any) -> None:
        finite = x[np.isfinite(x)] + 0.0
        there = np.unique(layout.bin_of(finite))
        keep = data.draw(st.lists(st.booleans(), min_size=there.size, max_size=there.size))
        chosen = there[np.array(keep, bool)]
        found, counts = values_in(x, chosen, layout)
        wanted, wanted_counts = np.unique(
            finite[np.isin(layout.bin_of(finite), chosen)], return_counts=True
        )
        assert found.dtype == np.float64 and counts.dtype == np.int64
        np.testing.assert_array_equal(found, wanted.astype("f8"))
        np.testing.assert_array_equal(counts, wanted_counts)
        assert not np.signbit(found[found == 0]).any()

    check()


@repeatable
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 40), st.integers(0, 99))
def test_products(n: int, m: int, pixels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-999, 999, (n, pixels)) * 1.0, rng.integers(-999, 999, (m, pixels)) * 1.0
    out = np.ones((n, m))
    add_products(x, y, False, out)
    np.testing.assert_array_equal(out, x @ y.T + 1)
    out = np.zeros((n, n))
    add_products(x, x, True, out)
    np.testing.assert_array_equal(np.triu(out), np.triu(x @ x.T))


def test_products_of_floats() -> None:
    x = np.random.default_rng(0).normal(0, 1, (5, 16384))
    out = np.zeros((5, 5))
    add_products(x, x, False, out)
    np.testing.assert_allclose(out, x @ x.T, rtol=0, atol=1e-12 * 16384)


@pytest.mark.parametrize("shift", [0, 700, 65535])
def test_shifted_codes(shift: int) -> None:
    codes = np.array([0, 1, 700, 65535], "u2")
    out = np.empty(4)
    shifted_codes(codes, np.int32(shift), out)
    np.testing.assert_array_equal(out, codes.astype("f8") - shift)
