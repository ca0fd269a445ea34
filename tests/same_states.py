"""When two states are the same: to the bit, or to 1e-12 of what was added up."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from gigaqc.statistics.distribution import KeyHistogram
from gigaqc.statistics.statistics import State


def identical(actual: Any, expected: Any, where: str = "state") -> None:
    """Every array and number to the bit, types included."""
    assert type(actual) is type(expected), where
    if is_dataclass(actual):
        for f in fields(actual):
            identical(getattr(actual, f.name), getattr(expected, f.name), f"{where}.{f.name}")
    elif isinstance(actual, np.ndarray):
        assert actual.dtype == expected.dtype and actual.shape == expected.shape, where
        assert actual.tobytes() == expected.tobytes(), where
    elif isinstance(actual, dict):
        assert actual.keys() == expected.keys(), where
        for key in actual:
            identical(actual[key], expected[key], f"{where}[{key!r}]")
    elif isinstance(actual, tuple):
        assert len(actual) == len(expected), where
        for k, (a, b) in enumerate(zip(actual, expected, strict=True)):
            identical(a, b, f"{where}[{k}]")
    else:
        assert actual == expected or (actual != actual and expected != expected), where


def spread_of(pixels: np.ndarray, axis: int | None) -> np.ndarray:
    """The range of the finite values of each channel: no shift of a sum is larger."""
    by_channel = np.moveaxis(pixels, axis, 0) if axis is not None else pixels[None]
    finite = [v[np.isfinite(v)].astype("f8") for v in by_channel]
    return np.array([np.ptp(v) if v.size else 0.0 for v in finite])


def equivalent(actual: State, expected: State, spread: np.ndarray | None = None) -> None:
    """The same about one shift; without a `spread` to the bit, as integers must be.

    With it (by channel) counts are the same to the bit, and sums to 1e-12 of n times the spread.
    """
    moved = actual.moved(expected.shift)
    if spread is None:
        identical(moved, expected)
        return
    if isinstance(moved.histogram, KeyHistogram):
        _keys(moved.histogram, expected.histogram)
    else:
        identical(moved.histogram, expected.histogram, "histogram")
    identical(moved.tally, expected.tally, "tally")
    mine, theirs = moved.held(), expected.held()
    assert mine.keys() == theirs.keys()
    for key, b in theirs.items():
        if key in _SUMS:
            _SUMS[key](mine[key], b, spread, key)
        else:
            identical(mine[key], b, key)


def _near(actual: np.ndarray, expected: np.ndarray, scale: np.ndarray, what: str) -> None:
    assert actual.shape == expected.shape, what
    off = np.abs(actual - expected) > 1e-12 * scale
    assert not off.any(), (what, actual[off][:3], expected[off][:3])


def _table(actual: np.ndarray, expected: np.ndarray, spread: np.ndarray, what: str) -> None:
    """(3, C, ...) count, sum, squares."""
    n = expected[0]
    d = spread.reshape(-1, *[1] * (n.ndim - 1))
    np.testing.assert_array_equal(actual[0], n, err_msg=what)
    _near(actual[1], expected[1], n * d, what)
    _near(actual[2], expected[2], n * d * d, what)


def _comoments(a: Any, b: Any, d: np.ndarray, what: str) -> None:
    np.testing.assert_array_equal(a.n, b.n)
    _near(a.total, b.total, b.n * d[:, None], what)
    _near(a.squares, b.squares, b.n * d[:, None] ** 2, what)
    _near(a.products, b.products, b.n * np.outer(d, d), what)


def _neighbours(a: Any, b: Any, d: np.ndarray, what: str) -> None:
    n = b.table[..., :1]
    np.testing.assert_array_equal(a.table[..., :1], n)
    d = d[:, None, None]
    _near(a.table[..., 1:3], b.table[..., 1:3], n * d, what)
    _near(a.table[..., 3:], b.table[..., 3:], n * d * d, what)


def _box(a: Any, b: Any, scale: np.ndarray, what: str) -> None:
    assert a.origin == b.origin, what
    _near(a.values, b.values, scale, what)


def _profile(a: Any, b: Any, d: np.ndarray, what: str) -> None:
    identical(a.n, b.n, what)
    n, d = b.n.values, d[:, None]
    _box(a.total, b.total, n * d, what)
    assert (a.squares is None) == (b.squares is None), what
    if a.squares is not None:
        _box(a.squares, b.squares, n * d * d, what)


def _tiles(a: Any, b: Any, d: np.ndarray, what: str) -> None:
    assert a.box.origin == b.box.origin, what
    _table(a.box.values, b.box.values, d, what)
    np.testing.assert_array_equal(a.box.values[3], b.box.values[3], err_msg=what)
    identical(a.largest, b.largest, "largest")


def _focus(a: Any, b: Any, d: np.ndarray, what: str) -> None:
    assert a.box.origin == b.box.origin
    n = b.box.values[0]
    d = d.reshape(-1, 1, 1, 1, 1)
    np.testing.assert_array_equal(a.box.values[0], n)
    _near(a.box.values[1], b.box.values[1], n * 8 * d, what)
    _near(a.box.values[2], b.box.values[2], n * 64 * d * d, what)
    _near(a.box.values[3], b.box.values[3], n * 128 * d * d, what)


def _spectrum(a: Any, b: Any, d: np.ndarray, what: str) -> None:
    assert a.box.origin == b.box.origin
    np.testing.assert_allclose(a.box.values, b.box.values, rtol=1e-9, err_msg=what)


def _thumbnail(a: Any, b: Any, d: np.ndarray, what: str) -> None:
    assert a.side == b.side
    identical(a.n, b.n, what)
    _box(a.total, b.total, b.n.values * d.reshape(-1, 1, 1), what)


def _outside(a: Any, b: Any, d: np.ndarray, what: str) -> None:
    _table(a.table, b.table, d, what)


def _keys(a: KeyHistogram, b: KeyHistogram) -> None:
    identical(a.layout, b.layout)
    identical(a.refined, b.refined, "refined")
    for mine, theirs in zip(a.channels, b.channels, strict=True):
        identical((mine.bins, mine.counts), (theirs.bins, theirs.counts), "bins")
        # Remainders and their squares are not negative: relative to the sum is to what was added.
        np.testing.assert_allclose(mine.first, theirs.first, rtol=1e-12)
        np.testing.assert_allclose(mine.second, theirs.second, rtol=1e-12)


_SUMS = {
    "comoments": _comoments,
    "neighbours": _neighbours,
    "rows": _profile,
    "columns": _profile,
    "tiles": _tiles,
    "focus": _focus,
    "spectrum": _spectrum,
    "thumbnail": _thumbnail,
    "outside": _outside,
}
