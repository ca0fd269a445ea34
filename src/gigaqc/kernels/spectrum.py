"""The power spectrum of a tile."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import fft


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
