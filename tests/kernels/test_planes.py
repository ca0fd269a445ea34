"""Kernels for devices against the compiled ones: the same tables from the same planes.

They run on numpy, on a device of array-api-strict that refuses what the standard does not have and
every hidden copy to the host, and, marked ``gpu``, on cupy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import repeatable

from gigaqc.base.backend import to_host
from gigaqc.base.geometry import touched
from gigaqc.kernels import accumulate, fused, planes
from gigaqc.kernels.accumulate import DOUBLE, SINGLE, KeyLayout

Mover = Callable[[np.ndarray], Any]


def strict(array: np.ndarray) -> Any:
    return array_api_strict.asarray(array, device=array_api_strict.Device("device1"))


def cupy(array: np.ndarray) -> Any:
    return pytest.importorskip("cupy").asarray(array)


DEVICES = [np.asarray, strict, pytest.param(cupy, marks=pytest.mark.gpu)]
on_devices = pytest.mark.parametrize("move", DEVICES)


def geometry(shape: tuple[int, int], y: int, x: int, tile: int, cell: int) -> list[np.ndarray]:
    _, tile_row, _ = touched(y, y + shape[0], tile)
    _, _, tile_edges = touched(x, x + shape[1], tile)
    _, cell_row, _ = touched(y, y + shape[0], cell)
    _, _, cell_edges = touched(x, x + shape[1], cell)
    return [tile_row, tile_edges, cell_row, cell_edges]


def integer_tables(kernel: Callable, codes: Any, bias: int, parts: int) -> list[np.ndarray]:
    height, width = codes.shape
    lines = geometry(codes.shape, 3, 5, 16, 7)
    tiles = (lines[0][-1] + 1, lines[1].size - 1)
    histogram, excess = np.zeros((2, 65536), "i4"), np.zeros((2, 65536), "i4")
    tile_table = np.zeros((6, *tiles), "i8")
    tile_table[5] = -1
    tables = [
        histogram, np.zeros((2, height), "i8"), np.zeros(width, "i8"), tile_table,
        np.zeros((2, lines[2][-1] + 1, lines[3].size - 1), "i8"), np.zeros(2, "i8"),
        np.zeros((4, *tiles)), np.zeros((2, 131072), "i4"), excess,
    ]  # fmt: skip
    dead = np.zeros(1, "i8")
    found = kernel(
        codes, np.int32(bias), np.uint16(-bias), parts,
        fused.PlaneTables(
            (1, height - 1, 1, width - 1), (0, height - 2, 1, width), *lines, *tables, dead
        ),
    )  # fmt: skip
    assert bool(found) or not excess.any()
    tables[0], tables[7] = histogram.sum(axis=0), tables[7].sum(axis=0)
    return [*tables, dead]


def float_tables(
    kernel: Callable, values: Any, shift: float, parts: int, integers: bool
) -> list[np.ndarray]:
    height, width = values.shape
    lines = geometry(values.shape, 3, 5, 16, 7)
    tiles = (lines[0][-1] + 1, lines[1].size - 1)
    tile_table = np.zeros((6, *tiles))
    tile_table[5] = -np.inf
    tables = [
        np.zeros((3, height)), np.zeros((3, width)), tile_table,
        np.zeros((2, lines[2][-1] + 1, lines[3].size - 1)), np.zeros((2, 6)),
        np.zeros((4, *tiles)), np.zeros((1, 131072 if integers else 65536), "i8"),
        np.zeros((2, 65536 if integers else 0), "i8"),
    ]  # fmt: skip
    dead = np.zeros(1, "i8")
    kernel(
        values, shift, parts,
        fused.PlaneTables(
            (1, height - 1, 1, width - 1), (0, height - 2, 1, width), *lines,
            np.zeros((2, 0), "i4"), *tables, dead,
        ),
    )  # fmt: skip
    return [*tables, dead]


@st.composite
def code_planes(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    largest = draw(st.sampled_from([1, 2, 300, 65535]))
    codes = rng.integers(0, largest, shape, "u2", endpoint=True)
    codes[: shape[0] * draw(st.integers(0, 3)) // 3] = 0
    return codes


@on_devices
@pytest.mark.parametrize("parts", [63, fused.MOMENTS, fused.FOCUS | fused.HOT])
@given(codes=code_planes(), bias=st.sampled_from([0, -128, -32768]))
@repeatable
def test_codes(move: Mover, parts: int, codes: np.ndarray, bias: int) -> None:
    expected = integer_tables(fused.integer_plane, codes, bias, parts)
    found = integer_tables(planes.integer_plane, move(codes), bias, parts)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@st.composite
def value_planes(draw: st.DrawFn, integers: bool) -> np.ndarray:
    values = draw(code_planes()).astype("f8")
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if not integers:
        values = rng.normal(draw(st.sampled_from([0, 1e6])), 3, values.shape) * (values > 0)
    values[rng.random(values.shape) < draw(st.sampled_from([0, 0.02, 1]))] = np.nan
    return values


@on_devices
@pytest.mark.parametrize("integers", [True, False])
@given(data=st.data())
@repeatable
def test_values(move: Mover, integers: bool, data: st.DataObject) -> None:
    values = data.draw(value_planes(integers))
    shift = data.draw(st.sampled_from([0.0, 100.0, 1e6]))
    expected = float_tables(fused.float_plane, values, shift, 63, integers)
    found = float_tables(planes.float_plane, move(values), shift, 63, integers)
    scale = np.nanmax(np.abs(np.where(np.isnan(values), 0, values - shift))) ** 2 + 1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12 * scale * values.size)


@on_devices
@given(values=value_planes(integers=False), limit=st.sampled_from([0.0, 4.0]))
@repeatable
def test_hot_pixels(move: Mover, values: np.ndarray, limit: float) -> None:
    bounds = (1, values.shape[0] - 1, 1, values.shape[1] - 1)
    for unit in (1e-3, 1.0):
        expected = fused.hot_plane(values, bounds, limit, unit)
        assert planes.hot_plane(move(values), bounds, limit, unit) == expected


FLOATS = [
    np.array([], "f4"),
    np.array([0.0, -0.0, 1.5, -1.5, np.nan, np.inf, -np.inf, 1.5, 3e-45, 3e38, -3e38], "f4"),
    np.random.default_rng(0).normal(100, 30, 5000).astype("f4"),
]


@on_devices
@pytest.mark.parametrize("layout", [SINGLE, DOUBLE])
@pytest.mark.parametrize("values", FLOATS, ids=["none", "odd", "normal"])
def test_keys(move: Mover, layout: KeyLayout, values: np.ndarray) -> None:
    values = values.astype(layout.float_type)
    expected, found = accumulate.count_keys(values, layout), planes.count_keys(move(values), layout)
    for one, other in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(found[2:4], expected[2:4], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13 * other.sum())
    assert found[4] == expected[4]
    for bins in (expected[0][::2], np.array([0, 7]), expected[0][:0]):
        again = planes.values_in(move(values), bins, layout)
        for one, other in zip(again, accumulate.values_in(values, bins, layout), strict=True):
            np.testing.assert_array_equal(one, other)


@on_devices
def test_products(move: Mover) -> None:
    x = np.random.default_rng(0).integers(-99, 99, (3, 50)).astype("f8")
    np.testing.assert_array_equal(planes.products(move(x), move(x[:2])), x @ x[:2].T)


def test_a_strict_device_refuses_hidden_copies() -> None:
    """Or else these tests would not see one."""
    block = strict(np.arange(3))
    with pytest.raises((RuntimeError, BufferError)):
        np.asarray(block)
    np.testing.assert_array_equal(to_host(block), [0, 1, 2])
