"""What `fused` and `accumulate` compute, written for the array API: for planes on a device.

`integer_plane`, `float_plane`, `hot_plane`, `count_keys`, `values_in` and `add_products` give what
their compiled namesakes give and fill the same tables. Planes are arrays of any namespace of the
Python array API standard and stay on their device; tables are numpy arrays in the memory of the
host, and what is added to them is the only thing that moves. Sums of integers are as exact;
sums of floats differ in their last digits, because they are added in another order.

Sums by tile are products with matrices of zeros and ones, which a device multiplies faster than it
starts a kernel for each tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigaqc.base.backend import bits_of, namespace_of, to_host
from gigaqc.kernels.accumulate import KeyLayout
from gigaqc.kernels.fused import (
    COLUMNS,
    DEAD,
    DEAD_WINDOW,
    FOCUS,
    HOT,
    MOMENTS,
    OFFSET,
    PAIRS,
    RESPONSE_ZERO,
    PlaneTables,
)

_DENSE = 1 << 20  # bins that are counted in a table of all of them, and not by sorting


@dataclass(frozen=True)
class _Sums:
    """Sums over the tiles (or cells) of a plane, whose rows and columns these are."""

    xp: Any
    rows: Any  # (tiles, height) of 0 and 1
    columns: Any  # (width, tiles)
    row_of: Any  # the row of tiles of each line
    column_of: Any

    @classmethod
    def over(cls, plane: Any, row_of: np.ndarray, edges: np.ndarray) -> _Sums:
        """Of tiles as `fused` is told them."""
        xp = namespace_of(plane)
        column_of = np.repeat(np.arange(edges.size - 1), np.diff(edges))
        rows = row_of == np.arange(row_of[-1] + 1)[:, None]
        columns = column_of[:, None] == np.arange(edges.size - 1)
        parts = (rows.astype("f8"), columns.astype("f8"), row_of.astype("i8"), column_of)
        return cls(xp, *(xp.asarray(p, device=plane.device) for p in parts))

    def within(self, bounds: tuple[int, int, int, int]) -> _Sums:
        """Of the part of the plane inside (y0, y1, x0, x1)."""
        y, x = slice(*bounds[:2]), slice(*bounds[2:])
        return _Sums(
            self.xp, self.rows[:, y], self.columns[x, :], self.row_of[y], self.column_of[x]
        )

    def of(self, values: Any) -> np.ndarray:
        """The sum over each tile."""
        xp = self.xp
        return to_host(self.rows @ (xp.astype(values, xp.float64) @ self.columns))

    def largest(self, values: Any, least: float) -> tuple[np.ndarray, np.ndarray]:
        """The largest value of each tile, and how many pixels hold it."""
        xp, (down, across) = self.xp, (self.rows.shape[0], self.columns.shape[1])
        found = xp.full((down, across), least, dtype=values.dtype, device=values.device)
        column_of, row_of = to_host(self.column_of), to_host(self.row_of)
        for j in range(across):
            inside = np.flatnonzero(column_of == j)
            lines = xp.max(values[:, int(inside[0]) : int(inside[-1]) + 1], axis=1)
            for i in range(down):
                held = np.flatnonzero(row_of == i)
                found[i, j] = xp.max(lines[int(held[0]) : int(held[-1]) + 1])
        of_pixel = xp.take(xp.take(found, self.row_of, axis=0), self.column_of, axis=1)
        return to_host(found), self.of(of_pixel == values)


def integer_plane(codes: Any, bias: int, zero: int, parts: int, tables: PlaneTables) -> bool:
    """Sweep a plane of codes without exclusions, as `fused.integer_plane`."""
    xp, bounds = namespace_of(codes), tables.bounds
    tiles = _Sums.over(codes, tables.tile_row, tables.tile_edges)
    cells = _Sums.over(codes, tables.cell_row, tables.cell_edges)
    values = xp.astype(codes, xp.int64)
    squares = values * values
    if parts & MOMENTS:
        tables.histogram[0] += occurrences(values, 65536).astype(tables.histogram.dtype)
        tables.rows[:] += to_host(xp.stack([xp.sum(values, axis=1), xp.sum(squares, axis=1)]))
        largest, at_largest = tiles.largest(values, -1)
        sums = [tiles.of(p) for p in (values >= 0, values, squares, values == int(zero))]
        tables.tiles[:4] += np.stack(sums).astype("i8")
        tables.tiles[4:] = at_largest, largest
    if parts & COLUMNS:
        tables.columns[:] += to_host(xp.sum(values, axis=0))
        tables.cells[1] += cells.of(values).astype("i8")
    if parts & PAIRS:
        for k, (first, second) in enumerate(_neighbours(values)):
            tables.pairs[k] += int(xp.sum(first * second))
    if parts & DEAD:
        tables.dead[0] += _dead(values == int(zero), tables.dead_bounds)
    if bounds[0] >= bounds[1] or bounds[2] >= bounds[3]:
        return False
    nine = _neighbourhood(values, bounds)
    if parts & FOCUS:
        _add_sharpness(nine, tiles.within(bounds), tables.focus)
    if not parts & HOT:
        return False
    median = _median(xp, nine)
    response = nine[4] - median
    tables.response[0] += occurrences(response + RESPONSE_ZERO, 131072).astype(
        tables.response.dtype
    )
    return _add_excess(xp, response, median + int(bias), tables.excess)


def float_plane(values: Any, shift: float, parts: int, tables: PlaneTables) -> None:
    """Sweep a plane of float64 with NaN for what is excluded, as `fused.float_plane`."""
    xp, bounds = namespace_of(values), tables.bounds
    valid = ~xp.isnan(values)
    about = xp.where(valid, values - shift, 0.0)
    if parts & MOMENTS:
        tiles = _Sums.over(values, tables.tile_row, tables.tile_edges)
        cells = _Sums.over(values, tables.cell_row, tables.cell_edges)
        _add_float_moments(values, valid, about, tiles, tables)
        tables.cells[:] += np.stack([cells.of(valid), cells.of(about)])
    if parts & PAIRS:
        for table, (a, b), (m, n) in zip(
            tables.pairs, _neighbours(about), _neighbours(valid), strict=True
        ):
            both = xp.astype(m & n, xp.float64)
            a, b = a * both, b * both
            table += [float(xp.sum(p)) for p in (both, a, b, a * a, b * b, a * b)]
    if parts & DEAD:
        tables.dead[0] += _dead(values == 0, tables.dead_bounds)
    if bounds[0] >= bounds[1] or bounds[2] >= bounds[3]:
        return
    nine = _neighbourhood(values, bounds)
    if parts & FOCUS:
        tiles = _Sums.over(values, tables.tile_row, tables.tile_edges)
        _add_sharpness(nine, tiles.within(bounds), tables.focus)
    if not parts & HOT:
        return
    known = ~xp.isnan(_total(nine))
    median = _median(xp, nine)[known]
    response = nine[4][known] - median
    if not tables.excess.shape[1]:
        tables.response[0] += occurrences(_response_bins(xp, response), 65536)
        return
    whole = xp.astype(response, xp.int64)
    tables.response[0] += occurrences(whole + RESPONSE_ZERO, 131072)
    _add_excess(xp, whole, xp.astype(median, xp.int64), tables.excess)


def hot_plane(values: Any, bounds: tuple[int, int, int, int], limit: float, unit: float) -> int:
    """Pixels in `bounds` above their local median by more than `limit` and 8 counting sigmas."""
    xp = namespace_of(values)
    if bounds[0] >= bounds[1] or bounds[2] >= bounds[3]:
        return 0
    nine = _neighbourhood(values, bounds)
    median = xp.where(xp.isnan(_total(nine)), xp.nan, _median(xp, nine))
    d = nine[4] - median
    level = xp.where(median > unit, median, unit)
    return int(xp.count_nonzero((d > limit) & (d * d > 64 * unit * level)))


def count_keys(
    values: Any, layout: KeyLayout
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[int, int, int]]:
    """Occupied bins of a flat array of floats, as `accumulate.count_keys` gives them."""
    xp = namespace_of(values)
    zeros, nans, infinite = (
        int(xp.count_nonzero(f)) for f in (values == 0, xp.isnan(values), xp.isinf(values))
    )
    keys = _keys(xp, values[xp.isfinite(values)], layout)
    if not keys.shape[0]:
        none: np.ndarray = np.zeros(0)
        return none.astype("i8"), none.astype("i8"), none, none, (zeros, nans, infinite)
    bins, member = _grouped(xp, _bins(xp, keys, layout))
    rest = xp.astype(keys & ((1 << layout.tail) - 1), xp.float64)
    counts = occurrences(member, bins.size)
    sums = [sums_by_group(xp, member, weights, bins.size) for weights in (rest, rest * rest)]
    there = counts > 0
    return bins[there], counts[there], sums[0][there], sums[1][there], (zeros, nans, infinite)


def values_in(values: Any, bins: np.ndarray, layout: KeyLayout) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values of a flat array of floats that lie in `bins`, and their counts."""
    xp = namespace_of(values)
    if not bins.size:
        return np.zeros(0), np.zeros(0, "i8")
    known = xp.asarray(np.unique(bins), device=values.device)
    finite = values[xp.isfinite(values)]
    own = _bins(xp, _keys(xp, finite, layout), layout)
    place = xp.searchsorted(known, own)
    place = xp.where(place < known.shape[0], place, known.shape[0] - 1)
    distinct, counts = xp.unique_counts(finite[xp.take(known, place) == own] + 0.0)
    found = to_host(distinct)
    order = np.argsort(found)  # the standard leaves it open
    return found[order].astype("f8"), to_host(counts)[order].astype("i8")


def products(x: Any, y: Any) -> np.ndarray:
    """``x @ y.T`` of float64 rows of channels."""
    return to_host(x @ namespace_of(x).matrix_transpose(y))


def add_products(x: Any, y: Any, symmetric: bool, out: np.ndarray) -> None:
    """Add them, as `accumulate.add_products`; both triangles, also of what is symmetric."""
    out += products(x, y)


def occurrences(values: Any, size: int) -> np.ndarray:
    """How often each of 0..size-1 occurs."""
    xp = namespace_of(values)
    flat = xp.reshape(values, (-1,))
    if (bincount := getattr(xp, "bincount", None)) is not None:
        return to_host(bincount(flat, minlength=size))
    edges = xp.searchsorted(xp.sort(flat), xp.arange(size + 1, device=flat.device))
    return np.diff(to_host(edges))


def _grouped(xp: Any, bins: Any) -> tuple[np.ndarray, Any]:
    """Bins in ascending order, some of them perhaps empty, and the place of each element there."""
    low, high = int(xp.min(bins)), int(xp.max(bins))
    if high - low < _DENSE:
        return np.arange(low, high + 1), bins - low
    distinct, inverse = xp.unique_inverse(bins)
    order = xp.argsort(distinct)  # the standard leaves it open
    return to_host(xp.take(distinct, order)), xp.take(xp.argsort(order), inverse)


def sums_by_group(xp: Any, member: Any, weights: Any, size: int) -> np.ndarray:
    """Sums of weights by group."""
    if (bincount := getattr(xp, "bincount", None)) is not None:
        return to_host(bincount(member, weights=weights, minlength=size))
    order = xp.argsort(member)
    running = xp.cumulative_sum(xp.take(weights, order), include_initial=True)
    ends = xp.searchsorted(xp.take(member, order), xp.arange(size + 1, device=weights.device))
    return np.diff(to_host(xp.take(running, ends)))


def _keys(xp: Any, values: Any, layout: KeyLayout) -> Any:
    """Order-preserving keys, as `accumulate` makes them."""
    raw = xp.astype(bits_of(values + 0.0), xp.uint64)
    width = 8 * layout.integer_type.itemsize
    sign, full = (
        xp.asarray(n, dtype=xp.uint64, device=values.device)
        for n in (1 << (width - 1), (1 << width) - 1)
    )
    return xp.where((raw & sign) != 0, raw ^ full, raw ^ sign)


def _bins(xp: Any, keys: Any, layout: KeyLayout) -> Any:
    return xp.astype(keys >> layout.tail, xp.int64)


def _response_bins(xp: Any, d: Any) -> Any:
    """Bins of `fused.response_bin`, from the exponent and seven bits of the mantissa."""
    upper = xp.astype((bits_of(xp.abs(d)) >> 45), xp.int64)
    k = xp.clip(upper - (1022 - 127) * 128 + 1, 1, 32767)
    return 32768 + xp.where(d > 0, k, xp.where(d < 0, -k, 0))


def _add_excess(xp: Any, d: Any, level: Any, table: np.ndarray) -> bool:
    """Count responses above 8 counting sigmas, for an offset of 0 and for one of 32768."""
    found = False
    for row, offset in zip(table, (0, OFFSET), strict=True):
        above = (d > 0) & (d * d > 64 * xp.clip(level - offset, 1, None))
        if offset:
            above = above & (level >= offset)
        if found := found or bool(xp.any(above)):
            row += occurrences(d[above], row.size).astype(row.dtype)
    return found


def _add_float_moments(
    values: Any, valid: Any, about: Any, tiles: _Sums, tables: PlaneTables
) -> None:
    xp = tiles.xp
    parts = [xp.astype(valid, xp.float64), about, about * about]
    tables.rows[:] += np.stack([to_host(xp.sum(p, axis=1)) for p in parts])
    tables.columns[:] += np.stack([to_host(xp.sum(p, axis=0)) for p in parts])
    tables.tiles[:4] += np.stack([tiles.of(p) for p in (*parts, values == 0)])
    largest, at_largest = tiles.largest(xp.where(valid, values, -xp.inf), -np.inf)
    tables.tiles[4:6] = np.where(largest > -np.inf, at_largest, 0), largest


def _add_sharpness(nine: list[Any], tiles: _Sums, table: np.ndarray) -> None:
    """Add count, Laplacian, its square and the squared gradient, where all nine are known."""
    xp = tiles.xp
    nw, north, ne, west, centre, east, sw, south, se = (xp.astype(p, xp.float64) for p in nine)
    curvature = (north - centre) + (south - centre) + (west - centre) + (east - centre)
    across = (ne - nw) + 2.0 * (east - west) + (se - sw)
    down = (sw - nw) + 2.0 * (south - north) + (se - ne)
    known = ~xp.isnan(curvature + across + down)
    sums = (known, curvature, curvature * curvature, across * across + down * down)
    table += np.stack([tiles.of(xp.where(known, xp.astype(s, xp.float64), 0.0)) for s in sums])


def _dead(zeros: Any, bounds: tuple[int, int, int, int]) -> int:
    """Pixels inside `bounds` that lie in an all-zero 8 x 8 window."""
    xp = namespace_of(zeros)
    if min(zeros.shape) < DEAD_WINDOW:
        return 0
    windows = _along(_along(zeros, 0, xp.logical_and), 1, xp.logical_and)
    for axis in (0, 1):
        shape = list(windows.shape)
        shape[axis] = DEAD_WINDOW - 1
        none = xp.zeros(tuple(shape), dtype=xp.bool, device=zeros.device)
        windows = _along(xp.concat([none, windows, none], axis=axis), axis, xp.logical_or)
    return int(xp.count_nonzero(windows[slice(*bounds[:2]), slice(*bounds[2:])]))


def _along(flags: Any, axis: int, combine: Callable[[Any, Any], Any]) -> Any:
    """Combine eight neighbours along an axis, in three doublings."""
    for step in (1, 2, 4):
        n = flags.shape[axis] - step
        first, second = (
            (flags[:n, :], flags[step:, :]) if axis == 0 else (flags[:, :n], flags[:, step:])
        )
        flags = combine(first, second)
    return flags


def _neighbours(plane: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Pixels with those to their right, and with those below."""
    return (plane[:, :-1], plane[:, 1:]), (plane[:-1, :], plane[1:, :])


def _neighbourhood(plane: Any, bounds: tuple[int, int, int, int]) -> list[Any]:
    """The nine pixels around each centre inside `bounds`, row by row."""
    y0, y1, x0, x1 = bounds
    steps = (-1, 0, 1)
    return [plane[y0 + j : y1 + j, x0 + i : x1 + i] for j in steps for i in steps]


def _total(parts: list[Any]) -> Any:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _sorted3(xp: Any, a: Any, b: Any, c: Any) -> tuple[Any, Any, Any]:
    small, large = xp.minimum(a, b), xp.maximum(a, b)
    return xp.minimum(small, c), xp.maximum(small, xp.minimum(large, c)), xp.maximum(large, c)


def _median(xp: Any, nine: list[Any]) -> Any:
    lows, middles, highs = zip(*(_sorted3(xp, *nine[k::3]) for k in range(3)), strict=True)
    low = xp.maximum(xp.maximum(lows[0], lows[1]), lows[2])
    high = xp.minimum(xp.minimum(highs[0], highs[1]), highs[2])
    return _sorted3(xp, low, _sorted3(xp, *middles)[1], high)[1]
