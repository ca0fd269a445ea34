"""Filters of a plane, and the slope of its power spectrum."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import fft

from gigaqc.errors import ParameterError

_TRUNCATE = 4.0  # standard deviations, as scipy


def gaussian_radius(sigma: float | None) -> int:
    """Pixels that a Gaussian blur needs on each side: ``int(4 sigma + 0.5)``; 0 without blur."""
    if sigma is None:
        return 0
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ParameterError(f"sigma: {sigma}; pass a number of pixels from 0 up, or None.")
    return int(_TRUNCATE * sigma + 0.5)


def gaussian_weights(sigma: float | None) -> npt.NDArray[np.float64]:
    """Weights of a Gaussian at offsets 0 to the radius; over both sides they add up to 1."""
    radius = gaussian_radius(sigma)
    if sigma is None or radius == 0:
        return np.ones(1)
    half = np.exp(-0.5 / (sigma * sigma) * np.arange(radius + 1) ** 2)
    return half / (half[0] + 2 * half[1:].sum())


def gaussian_blur(
    block: npt.NDArray[Any],
    sigma: float | tuple[float | None, float | None] | None,
    halo: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> npt.NDArray[Any]:
    """Gaussian blur of the core of a block that carries its halo.

    Separable, cut off at ``int(4 sigma + 0.5)`` pixels. Where the image ends it is continued by
    its mirror image, the edge pixel repeated (scipy's ``reflect``). NaN spreads over the square
    that a pixel reaches.

    Parameters
    ----------
    block
        Dims y x, the core and its halo.
    sigma
        Standard deviation in pixels, one or one for y and one for x; 0 or None leaves a direction
        as it is.
    halo
        Rows and columns beyond the core at top, bottom, left, right. Less than `gaussian_radius`
        says that the image ends at that edge of the block.

    Returns
    -------
    numpy.ndarray
        The blurred core, float64 from float64 and float32 from all else.

    Raises
    ------
    ParameterError
        When `sigma` is negative or not finite, or `halo` does not fit the block.

    Notes
    -----
    A pixel is summed in float64 in an order that does not depend on its place in the block: any
    division into blocks gives the same bits.
    """
    sigma_y, sigma_x = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    weights_y, weights_x = gaussian_weights(sigma_y), gaussian_weights(sigma_x)
    height, width = _core_shape(block.shape, halo)
    dtype = np.float64 if block.dtype.kind == "f" and block.dtype.itemsize == 8 else np.float32
    # Writeable as well: numba would compile once more for an array that is not.
    pixels = np.require(block, dtype, ["C", "W"])
    out = np.empty((height, width), dtype)
    if out.size:
        rows = mirrored(halo[0], height, block.shape[0], len(weights_y) - 1)
        columns = mirrored(halo[2], width, block.shape[1], len(weights_x) - 1)
        _blur(pixels, weights_y, weights_x, rows, columns, out)
    return out


def _core_shape(shape: tuple[int, ...], halo: tuple[int, int, int, int]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ParameterError(f"block: of shape {shape}; pass one plane with dims y x.")
    core = shape[0] - halo[0] - halo[1], shape[1] - halo[2] - halo[3]
    if min(halo) < 0 or min(core) < 0:
        raise ParameterError(
            f"halo: {halo} does not fit a block of shape {shape}; pass the rows and columns beyond "
            "the core at top, bottom, left, right."
        )
    return core


def mirrored(start: int, length: int, size: int, radius: int) -> npt.NDArray[np.int64]:
    """Positions within `size` of the core and `radius` around it, mirrored at the ends."""
    at = np.arange(start - radius, start + length + radius) % (2 * size)
    return np.where(at < size, at, 2 * size - 1 - at)


@njit(nogil=True, cache=True)
def _scale(into, row, weight):
    for x in range(into.shape[0]):
        into[x] = weight * row[x]


@njit(nogil=True, cache=True)
def _add_pair(into, before, after, weight):
    for x in range(into.shape[0]):
        into[x] += weight * (np.float64(before[x]) + np.float64(after[x]))


@njit(nogil=True, cache=True)
def _add_two_pairs(into, before, after, weight, before_2, after_2, weight_2):
    """As `_add_pair` twice, to the bit, with half the traffic."""
    for x in range(into.shape[0]):
        into[x] = (into[x] + weight * (np.float64(before[x]) + np.float64(after[x]))) + weight_2 * (
            np.float64(before_2[x]) + np.float64(after_2[x])
        )


@njit(nogil=True, cache=True)
def _sum_rows(into, block, rows, centre, first, last, weights):
    """Weighted sum over ``rows[centre - k]`` and ``rows[centre + k]``, columns first to last."""
    reach = weights.shape[0] - 1
    _scale(into, block[rows[centre], first:last], weights[0])
    for k in range(1, reach, 2):
        _add_two_pairs(
            into,
            block[rows[centre - k], first:last],
            block[rows[centre + k], first:last],
            weights[k],
            block[rows[centre - k - 1], first:last],
            block[rows[centre + k + 1], first:last],
            weights[k + 1],
        )
    if reach % 2 == 1:
        _add_pair(
            into,
            block[rows[centre - reach], first:last],
            block[rows[centre + reach], first:last],
            weights[reach],
        )


@njit(nogil=True, cache=True)
def _sum_along(into, padded, weights):
    """Weighted sum over the neighbours at both sides in a line padded by the reach."""
    reach = weights.shape[0] - 1
    n = into.shape[0]
    _scale(into, padded[reach : reach + n], weights[0])
    for k in range(1, reach, 2):
        _add_two_pairs(
            into,
            padded[reach - k : reach - k + n],
            padded[reach + k : reach + k + n],
            weights[k],
            padded[reach - k - 1 : reach - k - 1 + n],
            padded[reach + k + 1 : reach + k + 1 + n],
            weights[k + 1],
        )
    if reach % 2 == 1:
        _add_pair(into, padded[:n], padded[2 * reach : 2 * reach + n], weights[reach])


@njit(nogil=True, cache=True)
def _blur(block, weights_y, weights_x, rows, columns, out):
    """Row by row: down the columns into a padded line that stays in the cache, then along it."""
    height, width = out.shape
    first = columns.min()
    last = columns.max() + 1
    line = np.empty(last - first, np.float64)
    padded = np.empty(columns.shape[0], np.float64)
    sums = np.empty(width, np.float64)
    for y in range(height):
        _sum_rows(line, block, rows, y + weights_y.shape[0] - 1, first, last, weights_y)
        for x in range(padded.shape[0]):
            padded[x] = line[columns[x] - first]
        _sum_along(sums, padded, weights_x)
        into = out[y]
        for x in range(width):
            into[x] = sums[x]


@lru_cache(maxsize=8)
def _rings(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ring of each coefficient of a half spectrum, how often it counts, and its log frequency."""
    ky = fft.fftfreq(side, 1 / side)
    kx = fft.rfftfreq(side, 1 / side)
    ring = np.rint(np.hypot(ky[:, None], kx)).astype("i8")
    # The half spectrum lacks the mirror images of all columns but the first (and the last if even).
    weight = np.full(ring.shape, 2.0)
    weight[:, 0] = 1.0
    if side % 2 == 0:
        weight[:, -1] = 1.0
    rings = np.arange(1, side // 2 + 1)
    return ring.ravel(), weight.ravel(), np.log(rings / side)


def power_log_log_slope(tile: np.ndarray) -> float:
    """Slope of log mean power over log radial frequency of a square float64 tile.

    Rings of one frequency step from 1/side to 0.5 cycles a pixel. NaN where a pixel is NaN, where
    the tile is constant, or where fewer than two rings have power.
    """
    side = tile.shape[0]
    centred = tile - tile.mean()
    if not np.isfinite(centred).all() or not centred.any():
        return math.nan
    spectrum = fft.rfft2(centred)
    power = (spectrum.real**2 + spectrum.imag**2).ravel()
    ring, weight, frequency = _rings(side)
    total = np.bincount(ring, power * weight, minlength=side)[1 : side // 2 + 1]
    count = np.bincount(ring, weight, minlength=side)[1 : side // 2 + 1]
    some = total > 0
    if some.sum() < 2:
        return math.nan
    x, y = frequency[some], np.log(total[some] / count[some])
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())
