"""Counts by order-preserving key, values of chosen bins, and co-moments of channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass(frozen=True)
class KeyLayout:
    """How the order-preserving key of a float is cut: sign and exponent, sub-bin, remainder."""

    head: int  # bits of sign and exponent
    bits: int  # upper bits of the mantissa: 2**bits bins an exponent
    tail: int  # lower bits of the mantissa

    @property
    def float_type(self) -> np.dtype:
        """The float that such a key is of."""
        return np.dtype("f4" if self.head == 9 else "f8")

    @property
    def integer_type(self) -> np.dtype:
        """The unsigned integer that holds its bits."""
        return np.dtype("u4" if self.head == 9 else "u8")

    def edges(self, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest value of each bin and the step between neighbouring floats in it."""
        keys = bins.astype("u8") << np.uint64(self.tail)
        low = self._value(keys)
        high = self._value(keys + np.uint64(1))
        with np.errstate(invalid="ignore", over="ignore"):
            return low, high - low

    def bin_of(self, values: np.ndarray | float) -> np.ndarray:
        """Bin of each value (finite, as this float type)."""
        raw = (np.atleast_1d(np.asarray(values, self.float_type)) + 0.0).view(self.integer_type)
        raw = raw.astype("u8")
        width = np.uint64(self.integer_type.itemsize * 8)
        sign = np.uint64(1) << (width - np.uint64(1))
        full = (sign - np.uint64(1)) | sign
        key = np.where(raw & sign, raw ^ full, raw ^ sign)
        return (key >> np.uint64(self.tail)).astype("i8")

    def _value(self, keys: np.ndarray) -> np.ndarray:
        width = self.integer_type.itemsize * 8
        sign = np.uint64(1 << (width - 1))
        full = np.uint64((1 << width) - 1)
        raw = np.where(keys & sign, keys ^ sign, keys ^ full) & full
        return raw.astype(self.integer_type).view(self.float_type).astype("f8")


SINGLE = KeyLayout(head=9, bits=9, tail=14)
"""float16 and float32: bins of 2^-9 relative width."""

DOUBLE = KeyLayout(head=12, bits=14, tail=38)
"""float64 and wider integers (as float64): bins of 2^-14 relative width."""


@njit(nogil=True, cache=True, error_model="numpy")
def _key(raw, sign):
    """Order-preserving key of a float's bits; -0.0 counts as 0.0."""
    if raw == sign:
        raw = raw ^ sign
    # ~raw would set bits above the width: integers are widened to 64 bits here.
    return raw ^ (sign | (sign - np.uint64(1))) if raw & sign else raw ^ sign


@njit(nogil=True, cache=True, error_model="numpy")
def _count_keys(values, raw, sign, head_shift, tail, sub_mask, tail_mask, slots, n_slots):
    counts = np.zeros((n_slots, sub_mask + 1), np.int64)
    first = np.zeros((n_slots, sub_mask + 1), np.float64)
    second = np.zeros((n_slots, sub_mask + 1), np.float64)
    for i in range(raw.shape[0]):
        if np.isfinite(values[i]):
            key = _key(raw[i], sign)
            slot = slots[np.int64(key >> head_shift)]
            sub = np.int64((key >> tail) & sub_mask)
            rest = np.float64(key & tail_mask)
            counts[slot, sub] += 1
            first[slot, sub] += rest
            second[slot, sub] += rest * rest
    return counts, first, second


@njit(nogil=True, cache=True, error_model="numpy")
def _heads(values, raw, sign, head_shift, seen):
    zeros, nans, infinities = 0, 0, 0
    for i in range(raw.shape[0]):
        v = values[i]
        if np.isfinite(v):
            seen[np.int64(_key(raw[i], sign) >> head_shift)] = 1
            zeros += v == 0
        elif np.isnan(v):
            nans += 1
        else:
            infinities += 1
    return zeros, nans, infinities


def count_keys(values: np.ndarray, layout: KeyLayout):
    """Occupied bins of a flat array of floats, with count, sum and sum of squares of the remainder.

    The remainder counts floats above the lowest of the bin, so that ``low + step * remainder`` is
    the value. Also the number of zeros, NaN and infinities.
    """
    raw = values.view(layout.integer_type)
    kind = layout.integer_type.type
    width = layout.integer_type.itemsize * 8
    sign = kind(1 << (width - 1))
    head_shift, tail = kind(layout.bits + layout.tail), kind(layout.tail)
    seen = np.zeros(1 << layout.head, np.uint8)
    special = _heads(values, raw, sign, head_shift, seen)
    heads = np.flatnonzero(seen)
    slots = np.zeros(seen.size, np.int32)
    slots[heads] = np.arange(heads.size)
    sub_mask, tail_mask = kind((1 << layout.bits) - 1), kind((1 << layout.tail) - 1)
    counts, first, second = _count_keys(
        values, raw, sign, head_shift, tail, sub_mask, tail_mask, slots, heads.size
    )
    slot, sub = np.nonzero(counts)
    bins = (heads[slot].astype("i8") << layout.bits) + sub
    return bins, counts[slot, sub], first[slot, sub], second[slot, sub], special


@njit(nogil=True, cache=True, error_model="numpy")
def _values_in(values, raw, sign, head_shift, tail, sub_mask, slots, wanted, out):
    n = 0
    for i in range(raw.shape[0]):
        if np.isfinite(values[i]):
            key = _key(raw[i], sign)
            slot = slots[np.int64(key >> head_shift)]
            if slot >= 0 and wanted[slot, np.int64((key >> tail) & sub_mask)]:
                if out.shape[0]:
                    out[n] = values[i]
                n += 1
    return n


def values_in(values: np.ndarray, bins: np.ndarray, layout: KeyLayout):
    """Distinct values of a flat array of floats that lie in `bins`, and their counts."""
    raw = values.view(layout.integer_type)
    kind = layout.integer_type.type
    width = layout.integer_type.itemsize * 8
    heads, slot = np.unique(bins >> layout.bits, return_inverse=True)
    slots = np.full(1 << layout.head, -1, np.int32)
    slots[heads] = np.arange(heads.size)
    wanted = np.zeros((heads.size, 1 << layout.bits), np.uint8)
    wanted[slot, bins & ((1 << layout.bits) - 1)] = 1
    arguments = (
        values, raw, kind(1 << (width - 1)), kind(layout.bits + layout.tail), kind(layout.tail),
        kind((1 << layout.bits) - 1), slots, wanted,
    )  # fmt: skip
    found = np.empty(_values_in(*arguments, values[:0].copy()), values.dtype)
    if found.size:
        _values_in(*arguments, found)
    distinct, counts = np.unique(found + 0.0, return_counts=True)
    return distinct.astype("f8"), counts.astype("i8")


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
def _dot(a, b):
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")
def _dot22(a, b, c, d):
    ac, ad, bc, bd = 0.0, 0.0, 0.0, 0.0
    for i in range(a.shape[0]):
        ac += a[i] * c[i]
        ad += a[i] * d[i]
        bc += b[i] * c[i]
        bd += b[i] * d[i]
    return ac, ad, bc, bd


@njit(nogil=True, cache=True, error_model="numpy")
def add_products(x, y, symmetric, out):
    """Add ``x @ y.T`` to `out`; of a symmetric product only the upper triangle is made sure of."""
    n = x.shape[0]
    m = y.shape[0]
    for i in range(0, n - n % 2, 2):
        for j in range(i if symmetric else 0, m - m % 2, 2):
            ac, ad, bc, bd = _dot22(x[i], x[i + 1], y[j], y[j + 1])
            out[i, j] += ac
            out[i, j + 1] += ad
            out[i + 1, j] += bc
            out[i + 1, j + 1] += bd
    if m % 2:
        for i in range(n):
            out[i, m - 1] += _dot(x[i], y[m - 1])
    if n % 2:
        for j in range(0 if not symmetric else n - 1, m - m % 2):
            out[n - 1, j] += _dot(x[n - 1], y[j])


@njit(nogil=True, cache=True, error_model="numpy")
def shifted_codes(codes, shift, out):
    """Codes minus an integer shift, as float64."""
    for i in range(codes.shape[0]):
        out[i] = np.float64(np.int32(codes[i]) - shift)


@njit(nogil=True, cache=True, error_model="numpy")
def short_codes(codes, shift, out):
    """Codes minus a shift in 16 bits, and the distance from the shift that none exceeds."""
    low, high = np.uint16(65535), np.uint16(0)
    for i in range(codes.shape[0]):
        out[i] = np.int16(np.uint16(codes[i] - np.uint16(shift)))
        low = min(low, codes[i])
        high = max(high, codes[i])
    return max(shift - np.int64(low), np.int64(high) - shift)


@njit(nogil=True, cache=True, error_model="numpy")
def _short_dot22(a, b, c, d):
    # Each cast keeps the sum in 32 bits, for which there is an instruction that multiplies and adds
    # sixteen numbers at once; numba's integers would be of 64.
    ac, ad, bc, bd = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for i in range(a.shape[0]):
        ac = np.int32(ac + np.int32(np.int32(a[i]) * np.int32(c[i])))
        ad = np.int32(ad + np.int32(np.int32(a[i]) * np.int32(d[i])))
        bc = np.int32(bc + np.int32(np.int32(b[i]) * np.int32(c[i])))
        bd = np.int32(bd + np.int32(np.int32(b[i]) * np.int32(d[i])))
    return ac, ad, bc, bd


@njit(nogil=True, cache=True, error_model="numpy")
def add_short_products(x, largest, out):
    """Add the upper triangle of ``x @ x.T`` of int16 to int64 `out`; exact.

    `x` has an even number of rows. None of its values exceeds `largest`, so that many products fit
    32 bits before they are moved on.
    """
    run = min(max(np.int64(2**31 - 1) // max(largest * largest, 1), 1), 4096)
    for start in range(0, x.shape[1], run):
        stop = min(start + run, x.shape[1])
        for i in range(0, x.shape[0], 2):
            for j in range(i, x.shape[0], 2):
                ac, ad, bc, bd = _short_dot22(
                    x[i, start:stop], x[i + 1, start:stop], x[j, start:stop], x[j + 1, start:stop]
                )
                out[i, j] += ac
                out[i, j + 1] += ad
                out[i + 1, j] += bc
                out[i + 1, j + 1] += bd


@njit(nogil=True, cache=True)
def square_sums(codes, rows, columns):
    """Add the squares of (planes, height, width) codes to int64 sums by row and by column."""
    for plane in codes:
        for y in range(plane.shape[0]):
            line = plane[y]
            total = np.int64(0)
            for x in range(line.size):
                square = np.int64(line[x]) * np.int64(line[x])
                total += square
                columns[x] += square
            rows[y] += total
