"""Temporal signal to noise, from the moments of each pixel of a series."""

from __future__ import annotations

import numpy as np

_ROUNDINGS = 16  # relative to the values, that residuals may come to without being any


def residual_std(
    squares: np.ndarray, counts: np.ndarray, scales: np.ndarray, degree: int, ddof: int
) -> np.ndarray:
    """Standard deviation about a polynomial of time, from the residual sums of squares.

    ``sqrt(squares / (counts - ddof))``. NaN where there are no more frames than the polynomial has
    coefficients or than `ddof`; 0 where the residuals do not exceed the rounding of values that
    are as large as `scales`.
    """
    measured = (counts > degree + 1) & (counts > ddof) & np.isfinite(squares)
    with np.errstate(invalid="ignore", divide="ignore"):
        rounding = _ROUNDINGS * np.finfo("f8").eps * scales
        nothing = np.sqrt(squares / counts) <= rounding
        std = np.sqrt(squares / (counts - ddof))
    return np.where(measured, np.where(nothing, 0.0, std), np.nan)


def temporal_snr(baseline: np.ndarray, std: np.ndarray) -> np.ndarray:
    """``baseline / std``; NaN where the std is 0 or not known."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(std > 0, baseline / std, np.nan)
