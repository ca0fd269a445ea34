"""Sharpness of tiles and of the whole, from sums of responses."""

from __future__ import annotations

import numpy as np

from gigaqc.states import Focus


def variance_of_laplacian(sums: np.ndarray) -> np.ndarray:
    """Population variance of the Laplacian from (count, sum, squares, ...) on the first axis."""
    n, total, squares = sums[:3]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n > 0, np.maximum(squares / n - (total / n) ** 2, 0.0), np.nan)


def tenengrad(sums: np.ndarray) -> np.ndarray:
    """Mean squared Sobel gradient."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[0] > 0, sums[3] / sums[0], np.nan)


def whole(focus: Focus) -> np.ndarray:
    """Sums over all tiles, (4, C)."""
    return focus.box.values.sum(axis=(2, 3, 4, 5))
