"""How channels go together, from co-moments."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from gigaqc.states import CoMoments


def correlation_matrix(moments: CoMoments) -> np.ndarray:
    """Pearson's r of each pair of channels over the pixels valid in both; NaN for constants."""
    n = moments.n
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = moments.squares - moments.total**2 / n
        covariance = moments.products - moments.total * moments.total.T / n
        # Rounding leaves a constant a variance of about 1e-16 of its squares.
        variance = np.where(variance > 1e-14 * moments.squares, variance, np.nan)
        r = covariance / np.sqrt(variance * variance.T)
    r = np.clip(r, -1.0, 1.0)
    np.fill_diagonal(r, np.where(np.isnan(np.diagonal(variance)), np.nan, 1.0))
    return r


def unexpected_pairs(
    names: list[str], r: np.ndarray, expected: Iterable[tuple[str, str]], threshold: float
) -> pd.DataFrame:
    """Pairs correlated above the threshold that nobody expects, strongest first."""
    allowed = {frozenset(pair) for pair in expected}
    rows = [
        (names[i], names[j], float(r[i, j]))
        for i in range(len(names))
        for j in range(i + 1, len(names))
        if r[i, j] > threshold and frozenset((names[i], names[j])) not in allowed
    ]
    table = pd.DataFrame(rows, columns=["channel_1", "channel_2", "correlation"])
    return table.sort_values("correlation", ascending=False, ignore_index=True, kind="stable")
