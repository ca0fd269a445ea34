"""How channels go together, from co-moments, of an image or of each object."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from gigaqc.formulas.record import Metric, Scope, above
from gigaqc.kernels import by_label as columns
from gigaqc.states import CoMoments
from gigaqc.statistics import Part, Statistics


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


def colocalized(table: np.ndarray) -> dict[str, np.ndarray]:
    """Pearson's r and Manders' coefficients of each row of `kernels.by_label.sum_pairs`."""
    n, xx, yy, xy = table[:, [columns.N, columns.XX, columns.YY, columns.XY]].T
    varies = (table[:, columns.LOW_X] < table[:, columns.HIGH_X]) & (
        table[:, columns.LOW_Y] < table[:, columns.HIGH_Y]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.clip(xy / np.sqrt(xx) / np.sqrt(yy), -1.0, 1.0)
        m1 = table[:, columns.X_WHERE_Y] / table[:, columns.SUM_X]
        m2 = table[:, columns.Y_WHERE_X] / table[:, columns.SUM_Y]
    return {
        "n_pixels": n.astype("i8"),
        "pearson": np.where(varies, r, np.nan),
        "manders_m1": m1,
        "manders_m2": m2,
    }


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


def correlations(statistics: Statistics) -> np.ndarray:
    """Pearson's r of each pair of channels."""
    assert statistics.state.comoments is not None
    return correlation_matrix(statistics.state.comoments)


METRICS = (
    Metric(
        "correlation",
        "Correlation",
        "Pearson's correlation of two channels over all pixels. Above 0.7 a pair is outlined in "
        "the matrix; beyond the limit it is flagged.",
        formula="covariance / (std x std), over the pixels that are valid in both",
        nan="a channel is constant or empty",
        compute=correlations,
        function="channel_correlation",
        needs=Part.COMOMENTS,
        range="-1..1",
        scope=Scope.PAIR,
        exact="1e-9",
        origin="IMC recipe",
        meaning="two channels show nearly the same image",
        cure="Check for spillover or bleed-through, or name the pair as expected.",
        limits={"robust": above(0.95, None)},
    ),
)
"""What pairs of channels are judged by."""
