"""The most probable component, or the nearest centre, of each pixel."""

from __future__ import annotations

import numpy as np
from numba import njit

_RUN = 256  # pixels that are looked at together: their sums stay in the cache


@njit(nogil=True, cache=True, error_model="numpy")
def most_probable(pixels, means, factors, offsets, out):
    """Component k with the largest ``offsets[k] - |(x - means[k]) @ factors[k]|^2 / 2``.

    `pixels` (C, n) float64, finite; `factors` (K, C, C) upper triangular: Cholesky factors of the
    precisions; `offsets` log weight and log determinant. The first of equal ones, and where
    squares are beyond float64.
    """
    channels, n = pixels.shape
    best = np.empty(_RUN)
    squares = np.empty(_RUN)
    line = np.empty(_RUN)
    for start in range(0, n, _RUN):
        m = min(_RUN, n - start)
        best[:] = -np.inf
        out[start : start + m] = 0
        for k in range(means.shape[0]):
            squares[:] = 0.0
            for j in range(channels):
                line[:] = 0.0
                for i in range(j + 1):
                    f = factors[k, i, j]
                    mean = means[k, i]
                    row = pixels[i, start : start + m]
                    for p in range(m):
                        line[p] += (row[p] - mean) * f
                for p in range(m):
                    squares[p] += line[p] * line[p]
            offset = offsets[k]
            for p in range(m):
                score = offset - 0.5 * squares[p]
                if score > best[p]:
                    best[p] = score
                    out[start + p] = k


@njit(nogil=True, cache=True, error_model="numpy")
def nearest(pixels, centres, out):
    """Centre with the smallest Euclidean distance; the first of equal ones.

    `pixels` (C, n) float64, finite; `centres` (K, C). Where squares are beyond float64, the first.
    """
    channels, n = pixels.shape
    best = np.empty(_RUN)
    squares = np.empty(_RUN)
    for start in range(0, n, _RUN):
        m = min(_RUN, n - start)
        best[:] = np.inf
        out[start : start + m] = 0
        for k in range(centres.shape[0]):
            squares[:] = 0.0
            for i in range(channels):
                centre = centres[k, i]
                row = pixels[i, start : start + m]
                for p in range(m):
                    d = row[p] - centre
                    squares[p] += d * d
            for p in range(m):
                if squares[p] < best[p]:
                    best[p] = squares[p]
                    out[start + p] = k
