"""The part of its range that a channel uses."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
from agreement import close, over_c, same
from hypothesis import given
from strategies import FLOATS, Case, build, images, repeatable

import gigaqc as gq

NAMES = ("range_low", "range_high", "range_utilized", "adequate")


def check(case: Case, percentiles: tuple[float, float]) -> None:
    found = over_c(gq.dynamic_range(case.image, percentiles), NAMES)
    assert found["adequate"].dtype == bool
    for i, channel in enumerate(oracle.channels(case.whole)):
        low, high, utilized = oracle.dynamic_range(channel, percentiles)
        same(found["range_low"][i], low)
        same(found["range_high"][i], high)
        close(found["range_utilized"][i], utilized)
        assert found["adequate"][i] == (utilized > 0.1)


@repeatable
@given(images())
def test_range_is_exact(case: Case) -> None:
    check(case, (1, 99))


@pytest.mark.parametrize("percentiles", [(0, 100), (0.5, 99.9), (10, 90)])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4"])
def test_other_percentiles(dtype: str, percentiles: tuple[float, float]) -> None:
    case = build(dtype, "cyx", (2, 40, 31), ("noise", "signed"), ("none",) * 2, (1, 9, 31), 6)
    check(case, percentiles)


def test_percentiles_one_and_ninety_nine_unless_said() -> None:
    ramp = np.arange(1001, dtype="u2").reshape(7, 143)
    found = over_c(gq.dynamic_range(ramp), NAMES)
    assert found["range_low"][0] == 10
    assert found["range_high"][0] == 990
    assert found["range_utilized"][0] == pytest.approx(0.98)
    assert found["adequate"][0]


@pytest.mark.parametrize("fill", [0, -5])
def test_nothing_positive_uses_nothing(fill: int) -> None:
    found = over_c(gq.dynamic_range(np.full((9, 9), fill, "i2")), NAMES)
    assert found["range_utilized"][0] == 0
    assert not found["adequate"][0]


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_channel_of_nan_is_nan_and_not_adequate(dtype: str) -> None:
    found = over_c(gq.dynamic_range(np.full((9, 9), math.nan, dtype)), NAMES)
    assert math.isnan(found["range_utilized"][0])
    assert not found["adequate"][0]
