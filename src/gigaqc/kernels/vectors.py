"""What is computed of flat channels and by the transforms, in the array API: on a device.

Arrays are of any namespace of the Python array API standard; blocks have dims (c, ..., y, x).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gigaqc.base.backend import beside, bits_of, namespace_of, to_host
from gigaqc.base.geometry import Halo
from gigaqc.kernels.pixels import KEY_SHIFT
from gigaqc.kernels.planes import occurrences, sums_by_group
from gigaqc.kernels.transform import gaussian_weights, mirrored


def doubles(values: Any) -> Any:
    """Flat, as float64; not copied where it is."""
    xp = namespace_of(values)
    return xp.astype(xp.reshape(values, (-1,)), xp.float64, copy=False)


def finite(values: Any, within: Any = None) -> Any:
    """The finite values of an array as flat float64; only those inside a mask, if there is one."""
    xp = namespace_of(values)
    flat = doubles(values)
    keep = xp.isfinite(flat)
    return flat[keep if within is None else keep & xp.reshape(within, (-1,))]


def extremes(values: Any) -> tuple[float, float]:
    """Smallest and largest of flat finite values; low > high without any."""
    if not values.shape[0]:
        return math.inf, -math.inf
    xp = namespace_of(values)
    return float(xp.min(values)), float(xp.max(values))


def histogram(values: Any, edges: np.ndarray) -> np.ndarray:
    """Counts of flat values between ascending edges, the last one inclusive."""
    return occurrences(_bins(values[_between(values, edges)], edges), edges.size - 1)


def pair_counts(x: Any, y: Any, edges_x: np.ndarray, edges_y: np.ndarray) -> np.ndarray:
    """Pixels that are finite in both channels by the bins of both, (bins_x, bins_y)."""
    xp = namespace_of(x)
    x, y = doubles(x), doubles(y)
    held = xp.isfinite(x) & xp.isfinite(y) & _between(x, edges_x) & _between(y, edges_y)
    shape = (edges_x.size - 1, edges_y.size - 1)
    pairs = _bins(x[held], edges_x) * shape[1] + _bins(y[held], edges_y)
    return occurrences(pairs, shape[0] * shape[1]).reshape(shape)


def _between(values: Any, edges: np.ndarray) -> Any:
    return (values >= float(edges[0])) & (values <= float(edges[-1]))


def _bins(values: Any, edges: np.ndarray) -> Any:
    """Bins of values between the edges; the last one holds its upper edge too."""
    xp = namespace_of(values)
    bins = xp.searchsorted(beside(edges, values), values, side="right") - 1
    return xp.clip(bins, 0, edges.size - 2)


def manders_sums(
    x: Any, y: Any, limit_x: float, limit_y: float
) -> tuple[float, float, float, float, int]:
    """Sums over pixels finite in both: x where y is above its limit, x, y where x is, y, and 1."""
    xp = namespace_of(x)
    x, y = doubles(x), doubles(y)
    both = xp.isfinite(x) & xp.isfinite(y)
    parts = ((x, both & (y > limit_y)), (x, both), (y, both & (x > limit_x)), (y, both))
    a, b, c, d = (float(xp.sum(xp.where(where, values, 0.0))) for values, where in parts)
    return a, b, c, d, int(xp.count_nonzero(both))


def gathered(block: Any, at: tuple[np.ndarray, ...]) -> np.ndarray:
    """Values of a block at indices t, z, y, x."""
    xp = namespace_of(block)
    places = np.ravel_multi_index(at, tuple(block.shape))
    return to_host(xp.take(xp.reshape(block, (-1,)), beside(places, block)))


def blurred_at(
    block: Any, planes: np.ndarray, rows: np.ndarray, columns: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Weighted sums of (n, k, k) pixels: of rows and columns (n, k) of the planes (n,) of a block.

    Planes are numbered in the order of the dims before y and x.
    """
    xp = namespace_of(block)
    height, width = block.shape[-2:]
    lines = beside((planes[:, None] * height + rows) * width, block)
    at = xp.reshape(lines[:, :, None] + beside(columns, block)[:, None, :], (-1,))
    near = xp.astype(xp.take(xp.reshape(block, (-1,)), at), xp.float64)
    of_both = beside(weights[:, None] * weights, block)
    return to_host(xp.reshape(near, (rows.shape[0], -1)) @ xp.reshape(of_both, (-1,)))


def add_scaled(values: Any, factor: float, total: Any) -> Any:
    """``total + values * factor``, flat; without a total the latter."""
    scaled = doubles(values) * float(factor)
    return scaled if total is None else total + scaled


def divided_by_sum(
    channels: Sequence[Any], factors: np.ndarray, threshold: float, norm_sum: bool,
    post: np.ndarray, cap: float,
) -> Iterator[Any]:  # fmt: skip
    """What the pixels become, channel by channel and flat, as `preprocess.divide_by_sum`."""
    xp = namespace_of(channels[0])
    total: Any = None
    for channel, factor in zip(channels, factors, strict=True):
        total = add_scaled(channel, factor, total)
    kept = xp.isfinite(total)
    if not math.isnan(threshold):
        kept = kept & (total > threshold)
    if norm_sum:
        kept = kept & (total != 0)
        weight = xp.where(kept, 1.0 / xp.where(kept, total, 1.0), xp.nan)
    else:
        weight = xp.where(kept, xp.ones_like(total), xp.nan)
    for channel, factor, after in zip(channels, factors, post, strict=True):
        values = doubles(channel) * float(factor) * weight * float(after)
        yield xp.where(values > cap, float(cap), values)


BinTables = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def bins_in_window(values: Any, low: float, high: float) -> tuple[int, int, BinTables]:
    """Finite values other than 0: how many, how many below a window, and those in it by bin.

    Bins are keys as of `preprocess.keys_of`, ascending, counts, and the smallest and the largest
    value of each.
    """
    xp = namespace_of(values)
    known = values[xp.isfinite(values) & (values != 0)]
    below = int(xp.count_nonzero(known < low))
    kept = xp.sort(known[(known >= low) & (known <= high)])
    if not kept.shape[0]:
        none: np.ndarray = np.zeros(0)
        return known.shape[0], below, (none.astype("i8"), none.astype("i8"), none, none)
    bits = xp.astype(bits_of(xp.abs(kept)), xp.int64) >> KEY_SHIFT
    keys = xp.where(kept < 0, -bits, bits)
    (changes,) = xp.nonzero(keys[1:] != keys[:-1])
    first = xp.zeros(1, dtype=changes.dtype, device=kept.device)
    starts = xp.concat([first, changes + 1])
    last = xp.concat([changes, first + (kept.shape[0] - 1)])
    parts = (to_host(xp.take(array, at)) for array, at in
             ((keys, starts), (kept, starts), (kept, last)))  # fmt: skip
    found, smallest, largest = parts
    counts = to_host(last) - to_host(starts) + 1
    return known.shape[0], below, (found, counts.astype("i8"), smallest, largest)


def nearest(pixels: Sequence[Any], centres: np.ndarray) -> Any:
    """Number of the nearest centre, as `classify.nearest`; channels are flat float64.

    To the bit, so that a pixel between two centres gets the same one: squares are added channel by
    channel, and not by a product of matrices.
    """
    xp = namespace_of(pixels[0])
    best = xp.full_like(pixels[0], math.inf)
    found = xp.zeros_like(pixels[0], dtype=xp.int64)
    for k, centre in enumerate(centres.tolist()):
        squares: Any = 0.0
        for values, middle in zip(pixels, centre, strict=True):
            d = values - middle
            squares = squares + d * d
        closer = squares < best
        best, found = xp.where(closer, squares, best), xp.where(closer, k, found)
    return found


def most_probable(
    pixels: Sequence[Any], means: np.ndarray, factors: np.ndarray, offsets: np.ndarray
) -> Any:
    """Number of the most probable component, as `classify.most_probable`, to the bit as well."""
    xp = namespace_of(pixels[0])
    best = xp.full_like(pixels[0], -math.inf)
    found = xp.zeros_like(pixels[0], dtype=xp.int64)
    for k, offset in enumerate(offsets.tolist()):
        about = [values - m for values, m in zip(pixels, means[k].tolist(), strict=True)]
        squares: Any = 0.0
        for j in range(len(pixels)):
            line: Any = 0.0
            for i in range(j + 1):
                line = line + about[i] * float(factors[k, i, j])
            squares = squares + line * line
        score = offset - 0.5 * squares
        better = score > best
        best, found = xp.where(better, score, best), xp.where(better, k, found)
    return found


def counting(channels: Sequence[Any], positive: bool) -> Any:
    """Which pixels are finite in all channels, and above 0 if they must."""
    xp = namespace_of(channels[0])
    keep: Any = None
    for channel in channels:
        own = xp.isfinite(channel) & (channel > 0) if positive else xp.isfinite(channel)
        keep = own if keep is None else keep & own
    return keep


def sums_by_label(labels: Any, channels: Sequence[Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    """How many flat pixels each label has, and the sums of their channels (labels, C).

    Label 0 has no sums.
    """
    xp = namespace_of(labels)
    counted = labels > 0
    sums = [
        sums_by_group(xp, labels, xp.where(counted, channel, 0.0), size) for channel in channels
    ]
    return occurrences(labels, size), np.stack(sums, axis=-1)


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
