"""What the transforms compute, written for the array API: for blocks on a device.

Blocks have dims (c, ..., y, x), are arrays of any namespace of the Python array API standard, and
so are the results. Each is calculated in float64, in the same order as on the host, and becomes
float32, or float64 from float64, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gigaqc.backend import beside, namespace_of
from gigaqc.grid import Halo
from gigaqc.kernels.transform import gaussian_weights, mirrored

Curve = tuple[np.ndarray, np.ndarray]
"""Values, ascending, and the fraction of the channel up to each."""


def result_type(xp: Any, dtype: Any) -> Any:
    """Type of a transformed block: float64 from float64, else float32."""
    return xp.float64 if dtype == xp.float64 else xp.float32


def core(block: Any, halo: Halo) -> Any:
    """The block without its halo."""
    top, bottom, left, right = halo
    height, width = block.shape[-2:]
    return block[..., top : height - bottom, left : width - right]


def gaussian_blur(block: Any, sigma: float | None, halo: Halo) -> Any:
    """The blurred core of a block (..., y, x), as `transform.gaussian_blur` of each plane.

    The same bits, because the neighbours of a pixel are added in the same order.
    """
    xp = namespace_of(block)
    dtype = result_type(xp, block.dtype)
    pixels = xp.astype(block, dtype)
    if not sigma:
        return core(pixels, halo)
    weights = gaussian_weights(sigma)
    for axis, before, after in ((-2, *halo[:2]), (-1, *halo[2:])):
        size = block.shape[axis]
        near = mirrored(before, size - before - after, size, len(weights) - 1)
        padded = xp.take(pixels, beside(near, block), axis=axis)
        pixels = _summed(xp.astype(padded, xp.float64), weights, axis)
    return xp.astype(pixels, dtype)


def _summed(padded: Any, weights: np.ndarray, axis: int) -> Any:
    """Weighted sum over the neighbours at both sides along one of the last two axes."""
    reach = len(weights) - 1
    length = padded.shape[axis] - 2 * reach

    def shifted(by: int) -> Any:
        part = slice(reach + by, reach + by + length)
        return padded[..., part, :] if axis == -2 else padded[..., part]

    total = shifted(0) * float(weights[0])
    for k in range(1, reach + 1):
        total = total + (shifted(-k) + shifted(k)) * float(weights[k])
    return total


def blurred(block: Any, halo: Halo, sigmas: Sequence[float | None]) -> Any:
    """Each channel with its own blur."""
    parts = [gaussian_blur(block[c, ...], s, halo) for c, s in enumerate(sigmas)]
    return namespace_of(block).stack(parts)


def scaled(block: Any, limits: np.ndarray, clip: bool) -> Any:
    """``(x - first) / span`` with the two `limits` of each channel."""
    xp = namespace_of(block)
    dtype = result_type(xp, block.dtype)
    out = []
    for c, (first, span) in enumerate(limits.tolist()):
        values = (xp.astype(block[c, ...], xp.float64) - first) / span
        out.append(xp.astype(_clipped(xp, values, 0.0, 1.0) if clip else values, dtype))
    return xp.stack(out)


def _clipped(xp: Any, values: Any, low: float, high: float) -> Any:
    """NaN stays; limits that are NaN make all NaN, as in numpy."""
    if math.isnan(low) or math.isnan(high):
        return values * math.nan
    return xp.where(values < low, low, xp.where(values > high, high, values))


def arcsinh(block: Any, cofactor: float) -> Any:
    """``arcsinh(x / cofactor)``."""
    xp = namespace_of(block)
    values = xp.asinh(xp.astype(block, xp.float64) / cofactor)
    return xp.astype(values, result_type(xp, block.dtype))


def windowed(block: Any, low: float, high: float, smallest: float, largest: float) -> Any:
    """Clipped to a window, and smallest to largest scaled to 0..255."""
    xp = namespace_of(block)
    values = xp.astype(block, xp.float64)
    values = _clipped(xp, xp.where(xp.isfinite(values), values, xp.nan), low, high) - smallest
    if largest != smallest:
        values = values * (255 / (largest - smallest))
    return xp.astype(values, result_type(xp, block.dtype))


def equalized(block: Any, curves: Sequence[Curve]) -> Any:
    """Each value replaced by what its channel's curve has for it, linear in between.

    Of integers to 16 bits the curve holds every value that occurs.
    """
    xp = namespace_of(block)
    dtype = result_type(xp, block.dtype)
    integers = xp.isdtype(block.dtype, ("integral", "bool"))
    whole = integers and (block.dtype == xp.bool or xp.iinfo(block.dtype).bits <= 16)
    out = []
    for c, (values, fractions) in enumerate(curves):
        own = block[c, ...]
        if whole:
            at = xp.reshape(xp.astype(own, xp.int64) - int(values[0]), (-1,))
            found = xp.reshape(xp.take(beside(fractions, own), at), own.shape)
        else:
            found = _interpolated(xp, xp.astype(own, xp.float64), values, fractions)
        out.append(xp.astype(found, dtype))
    return xp.stack(out)


def _interpolated(xp: Any, x: Any, values: np.ndarray, fractions: np.ndarray) -> Any:
    """As `numpy.interp`."""
    if values.size == 1:
        return xp.where(xp.isnan(x), x, float(fractions[0]))
    known, heights = beside(values, x), beside(fractions, x)
    flat = xp.reshape(x, (-1,))
    first = xp.searchsorted(known, flat, side="right") - 1
    first = xp.clip(first, 0, values.size - 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.diff(fractions) / np.diff(values)  # edges that agree are never between
    start = xp.take(known, first)
    found = xp.take(beside(slopes, x), first) * (flat - start) + xp.take(heights, first)
    found = xp.where(flat <= float(values[0]), float(fractions[0]), found)
    found = xp.where(flat >= float(values[-1]), float(fractions[-1]), found)
    return xp.reshape(xp.where(xp.isnan(flat), xp.nan, found), x.shape)


def without_hot(block: Any, halo: Halo, threshold: float) -> Any:
    """The core, in which pixels far above all their neighbours become the largest of them."""
    xp = namespace_of(block)
    if xp.isdtype(block.dtype, "real floating"):
        values = xp.astype(block, xp.float64)
        known = xp.where(xp.isnan(values), -xp.inf, values)
        largest = _largest_neighbour(xp, known, -math.inf)
        hot = (values - largest > threshold) & (largest > -xp.inf)
    else:
        values = block if block.dtype == xp.uint64 else xp.astype(block, xp.int64)
        largest = _largest_neighbour(xp, values, xp.iinfo(values.dtype).min)
        # Differences of any 64 bits are exact without a sign.
        over = xp.astype(values, xp.uint64) - xp.astype(largest, xp.uint64)
        exact = min(math.floor(threshold), 2**64 - 1)
        limit = xp.asarray(exact, dtype=xp.uint64, device=block.device)
        alone = block.shape[-2] == block.shape[-1] == 1
        hot = (values > largest) & (over > limit) & (not alone)
    found = core(xp.where(hot, largest, values), halo)
    return xp.astype(found, result_type(xp, block.dtype))


def _largest_neighbour(xp: Any, values: Any, nothing: float) -> Any:
    """Maximum of the 8 neighbours in the plane; `nothing` where there is none."""
    beside_row = _both_sides(xp, values, nothing, -1)
    with_centre = xp.maximum(beside_row, values)
    return xp.maximum(_both_sides(xp, with_centre, nothing, -2), beside_row)


def _both_sides(xp: Any, values: Any, nothing: float, axis: int) -> Any:
    """The larger of the two neighbours along one of the last two axes."""
    shape = list(values.shape)
    shape[axis] = 1
    end = xp.full(tuple(shape), nothing, dtype=values.dtype, device=values.device)
    padded = xp.concat([end, values, end], axis=axis)
    if axis == -2:
        return xp.maximum(padded[..., :-2, :], padded[..., 2:, :])
    return xp.maximum(padded[..., :-2], padded[..., 2:])
