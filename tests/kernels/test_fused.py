"""One sweep over a plane against numpy and scipy, table by table; both kernels, all parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given
from hypothesis import strategies as st
from strategies import repeatable

from gigaqc.base.geometry import touched
from gigaqc.kernels import fused

ALL = 63


@dataclass
class Swept:
    """The tables that a kernel filled."""

    histogram: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    tiles: np.ndarray
    cells: np.ndarray
    pairs: np.ndarray
    focus: np.ndarray
    response: np.ndarray
    excess: np.ndarray
    dead: int


def by_tile(values: np.ndarray, tile: int, reduce: object = np.sum) -> np.ndarray:
    rows, columns = (range(0, n, tile) for n in values.shape)
    return np.array([[reduce(values[y : y + tile, x : x + tile]) for x in columns] for y in rows])


def sweep_codes(codes: np.ndarray, bias: int, tile: int, cell: int) -> Swept:
    height, width = codes.shape
    _, tile_row, _ = touched(0, height, tile)
    _, _, tile_edges = touched(0, width, tile)
    _, cell_row, _ = touched(0, height, cell)
    _, _, cell_edges = touched(0, width, cell)
    shape = (tile_row[-1] + 1, tile_edges.size - 1)
    histogram, excess = np.zeros((2, 65536), "i4"), np.zeros((2, 65536), "i4")
    rows, columns = np.zeros((2, height), "i8"), np.zeros(width, "i8")
    tiles, focus = np.zeros((6, *shape), "i8"), np.zeros((4, *shape))
    tiles[5] = -1
    cells = np.zeros((2, cell_row[-1] + 1, cell_edges.size - 1), "i8")
    pairs, response = np.zeros(2, "i8"), np.zeros((2, 131072), "i4")
    dead = np.zeros(1, "i8")
    found = fused.integer_plane(
        codes, np.int32(bias), np.uint16(-bias), ALL,
        fused.PlaneTables(
            (1, height - 1, 1, width - 1), (0, height, 0, width), tile_row, tile_edges, cell_row,
            cell_edges, histogram, rows, columns, tiles, cells, pairs, focus, response, excess,
            dead,
        ),
    )  # fmt: skip
    assert bool(found) or not excess.any()
    return Swept(
        histogram.sum(axis=0), rows, columns, tiles, cells, pairs, focus, response.sum(axis=0),
        excess, int(dead[0]),
    )  # fmt: skip


def sweep_values(
    values: np.ndarray, shift: float, tile: int, cell: int, *, integers: bool
) -> Swept:
    height, width = values.shape
    _, tile_row, _ = touched(0, height, tile)
    _, _, tile_edges = touched(0, width, tile)
    _, cell_row, _ = touched(0, height, cell)
    _, _, cell_edges = touched(0, width, cell)
    shape = (tile_row[-1] + 1, tile_edges.size - 1)
    rows, columns = np.zeros((3, height)), np.zeros((3, width))
    tiles, focus = np.zeros((6, *shape)), np.zeros((4, *shape))
    tiles[5] = -np.inf
    cells = np.zeros((2, cell_row[-1] + 1, cell_edges.size - 1))
    response = np.zeros((1, 131072 if integers else 65536), "i8")
    excess = np.zeros((2, 65536 if integers else 0), "i8")
    pairs, dead = np.zeros((2, 6)), np.zeros(1, "i8")
    fused.float_plane(
        values, shift, ALL,
        fused.PlaneTables(
            (1, height - 1, 1, width - 1), (0, height, 0, width), tile_row, tile_edges, cell_row,
            cell_edges, np.zeros((2, 0), "i4"), rows, columns, tiles, cells, pairs, focus,
            response, excess, dead,
        ),
    )  # fmt: skip
    nothing = np.zeros(0)
    return Swept(
        nothing, rows, columns, tiles, cells, pairs, focus, response[0], excess, int(dead[0])
    )


def responses(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Laplacian, squared gradient, pixel minus median, median: NaN where the 3x3 is incomplete."""
    nan = np.full(x.shape, np.nan)
    if min(x.shape) < 3:
        return nan, nan.copy(), nan.copy(), nan.copy()
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3))
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    whole = ~np.isnan(windows).any(axis=(2, 3))
    laplacian = (windows * kernel).sum(axis=(2, 3))
    gradient = (windows * across).sum(axis=(2, 3)) ** 2
    gradient += (windows * across.T).sum(axis=(2, 3)) ** 2
    median = np.median(windows, axis=(2, 3))
    out = []
    for inner in (laplacian, gradient, windows[..., 1, 1] - median, median):
        full = nan.copy()
        full[1:-1, 1:-1] = np.where(whole, inner, np.nan)
        out.append(full)
    return out[0], out[1], out[2], out[3]


def dead_pixels(zero: np.ndarray) -> int:
    padded = np.pad(zero, 8)
    return int(ndi.binary_opening(padded, np.ones((8, 8)))[8:-8, 8:-8].sum())


def check_neighbourhoods(swept: Swept, x: np.ndarray, tile: int, *, integers: bool) -> None:
    laplacian, gradient, response, median = responses(x)
    for k, values in enumerate((~np.isnan(laplacian), laplacian, laplacian**2, gradient)):
        wanted = by_tile(values, tile, np.nansum)
        np.testing.assert_allclose(swept.focus[k], wanted, rtol=1e-12, atol=1e-9)
    here = ~np.isnan(response)
    d, level = response[here], median[here]
    if not integers:
        assert swept.response.sum() == d.size
        return
    counted = np.bincount(d.astype("i8") + fused.RESPONSE_ZERO, minlength=131072)
    np.testing.assert_array_equal(swept.response, counted)
    for table, offset in zip(swept.excess, (0, 32768), strict=True):
        above = (
            ((level >= offset) | (offset == 0))
            & (d > 0)
            & (d * d > 64 * np.maximum(level - offset, 1))
        )
        np.testing.assert_array_equal(
            table, np.bincount(d[above].astype("i8"), minlength=65536), err_msg=str(offset)
        )


@st.composite
def planes(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Codes and the bias that makes them values."""
    height, width = draw(st.integers(1, 45)), draw(st.integers(1, 45))
    bias = draw(st.sampled_from([0, -128, -32768]))
    base = draw(st.sampled_from([0, -bias, 32760, 32768, 60000]))
    spread = draw(st.sampled_from([0.05, 1, 30, 3000]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    codes = base + rng.poisson(spread, (height, width))
    hot = rng.random(codes.shape) < 0.02
    codes[hot] += rng.integers(1, 60000, int(hot.sum()))
    if draw(st.booleans()):
        codes[3:17, 2:15] = -bias
    return np.clip(codes, 0, 65535).astype("u2"), bias


TILES = st.sampled_from([8, 13, 64])


@repeatable
@given(planes(), TILES, st.sampled_from([1, 3, 7]))
def test_a_plane_of_codes(case: tuple[np.ndarray, int], tile: int, cell: int) -> None:
    codes, bias = case
    swept = sweep_codes(codes, bias, tile, cell)
    c = codes.astype("i8")
    np.testing.assert_array_equal(swept.histogram, np.bincount(c.ravel(), minlength=65536))
    np.testing.assert_array_equal(swept.rows, [c.sum(axis=1), (c * c).sum(axis=1)])
    np.testing.assert_array_equal(swept.columns, c.sum(axis=0))
    largest = by_tile(c, tile, np.max)
    wanted = [
        by_tile(np.ones_like(c), tile), by_tile(c, tile), by_tile(c * c, tile),
        by_tile(c == -bias, tile), by_tile(c, tile, lambda v: (v == v.max()).sum()), largest,
    ]  # fmt: skip
    np.testing.assert_array_equal(swept.tiles, wanted)
    np.testing.assert_array_equal(swept.cells[1], by_tile(c, cell))
    assert swept.pairs.tolist() == [(c[:, 1:] * c[:, :-1]).sum(), (c[1:] * c[:-1]).sum()]
    assert swept.dead == dead_pixels(c == -bias)
    check_neighbourhoods(swept, c.astype("f8") + bias, tile, integers=True)


@repeatable
@given(planes(), TILES, st.sampled_from([1, 3, 7]), st.booleans(), st.sampled_from([0, 0.1, 1]))
def test_a_plane_of_values(
    case: tuple[np.ndarray, int], tile: int, cell: int, integers: bool, hidden: float
) -> None:
    codes, bias = case
    x = codes.astype("f8") + bias
    if not integers:
        x *= 0.37
    x[np.random.default_rng(codes.size).random(x.shape) < hidden] = np.nan
    shift = 3.0
    swept = sweep_values(x, shift, tile, cell, integers=integers)
    valid = ~np.isnan(x)
    u = np.where(valid, x - shift, 0.0)
    for table, axis in ((swept.rows, 1), (swept.columns, 0)):
        wanted = [valid.sum(axis=axis), u.sum(axis=axis), (u * u).sum(axis=axis)]
        np.testing.assert_allclose(table, wanted, rtol=1e-12, atol=1e-9)
    parts = [valid, u, u * u, x == 0]
    for k, values in enumerate(parts):
        np.testing.assert_allclose(swept.tiles[k], by_tile(values, tile), rtol=1e-12, atol=1e-9)
    top = np.where(valid, x, -np.inf)
    np.testing.assert_array_equal(swept.tiles[5], by_tile(top, tile, np.max))
    at_top = by_tile(top, tile, lambda v: (np.isfinite(v) & (v == v.max())).sum())
    np.testing.assert_array_equal(swept.tiles[4], at_top)
    np.testing.assert_array_equal(swept.cells[0], by_tile(valid, cell))
    for table, (a, b) in zip(swept.pairs, ((u[:, :-1], u[:, 1:]), (u[:-1], u[1:])), strict=True):
        both = np.isfinite(x[:, :-1] + x[:, 1:] if a.shape[0] == x.shape[0] else x[:-1] + x[1:])
        a, b = a[both], b[both]
        wanted = [a.size, a.sum(), b.sum(), (a * a).sum(), (b * b).sum(), (a * b).sum()]
        np.testing.assert_allclose(table, wanted, rtol=1e-12, atol=1e-9)
    assert swept.dead == dead_pixels(x == 0)
    check_neighbourhoods(swept, x, tile, integers=integers)


@repeatable
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.05), st.integers(0, 999))
def test_dead_windows(height: int, width: int, alive: float, seed: int) -> None:
    zero = np.random.default_rng(seed).random((height, width)) >= alive
    bounds = (0, height, 0, width)
    assert fused.dead_plane(zero.astype("u1"), bounds) == dead_pixels(zero)
    inner = (min(2, height), max(height - 3, 0), min(5, width), max(width - 1, 0))
    padded = np.pad(zero, 8)
    dead = ndi.binary_opening(padded, np.ones((8, 8)))[8:-8, 8:-8]
    wanted = dead[inner[0] : inner[1], inner[2] : inner[3]].sum()
    assert fused.dead_plane(zero.astype("u1"), inner) == wanted


@pytest.mark.parametrize("at", [[], [0], [65535], [255, 256], [511, 40000], list(range(700))])
def test_take_occupied(at: list[int]) -> None:
    even, odd = np.zeros(65536, "i4"), np.zeros(65536, "i4")
    even[at[::2]] = 3
    odd[at] = 2
    total = even.astype("i8") + odd
    first, counts = fused.take_occupied(even, odd)
    assert not even.any() and not odd.any()
    if not at:
        assert counts.size == 0
        return
    assert first == min(at) and first + counts.size - 1 == max(at)
    np.testing.assert_array_equal(counts, total[first : first + counts.size])


def test_responses_are_binned_in_order() -> None:
    values = np.concatenate([-np.logspace(-30, 30, 4000)[::-1], [0.0], np.logspace(-30, 30, 4000)])
    bins = np.array([fused.response_bin(v) for v in values])
    assert (np.diff(bins) >= 0).all() and fused.response_bin(0.0) == 32768
    middle = fused.response_values()[bins]
    np.testing.assert_allclose(middle[values != 0], values[values != 0], rtol=2.0**-8)
