"""Samples against one another: robust z and drift; and what a row of a cohort holds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gigaqc.formulas.catalogue import chosen
from gigaqc.formulas.record import Scope

SCALE = 1.4826
"""MAD times this is the standard deviation of a normal distribution."""

LEAST = 3
"""Samples below which nothing is compared."""


def compared_of_channels() -> list[str]:
    """Metrics of a channel that are compared, and whose median over channels is in the summary."""
    return [m.key for m in chosen(scope=Scope.CHANNEL, assessed=True) if m.compared]


def artifacts() -> set[str]:
    """Metrics whose flags are counted in ``n_artifacts``."""
    return {m.key for m in chosen(scope=Scope.CHANNEL, assessed=True) if m.artifact}


def of_sample() -> dict[str, str]:
    """Numbers of a sample: column of the summary, and what `Assessment.summary` calls it."""
    known = chosen(scope=Scope.SAMPLE, assessed=True)
    return {m.column or m.key: m.key for m in known if m.compared or m.column}


def medians() -> dict[str, str]:
    """Medians over the channels of a sample: column of the summary, and the metric."""
    return {f"median_{key}": key for key in compared_of_channels()}


def summary_columns() -> list[str]:
    """Columns of a cohort's summary, in order.

    ``results`` is the name of a sample's files without their suffix, ``page`` that of its page;
    both are empty where a sample failed, ``page`` also where none was asked for.
    """
    first = [
        "sample", "status", "pass_qc", "mean_snr", "min_snr", "tissue_coverage", "n_cells",
        "n_artifacts", "n_flags", "error", "batch", "order", "source", "element", "results", "page",
    ]  # fmt: skip
    return [*first, *(name for name in of_sample() if name not in first), *medians()]


def compared_of_samples() -> list[str]:
    """Columns of the summary that are compared."""
    known = chosen(scope=Scope.SAMPLE, assessed=True)
    return [*(m.column or m.key for m in known if m.compared), *medians()]


TEXT_COLUMNS = (
    "sample", "status", "error", "batch", "source", "element", "results", "page", "channel",
)  # fmt: skip


def integer_columns() -> set[str]:
    """Columns of a cohort's tables that count."""
    counts = {m.column or m.key for m in chosen(assessed=True) if m.kind == "count"}
    return counts | {"n_artifacts", "n_flags"}


def boolean_columns() -> set[str]:
    """Columns of a cohort's tables that say yes or no."""
    return {"pass_qc"} | {m.key for m in chosen(assessed=True) if m.kind == "flag"}


@dataclass(frozen=True)
class RobustZ:
    """Values against their own median: ``(x - median) / (1.4826 MAD)``."""

    z: np.ndarray
    median: np.ndarray

    @classmethod
    def empty(cls, n: int) -> RobustZ:
        """Of values that have nothing to be compared with."""
        return cls(np.full(n, np.nan), np.full(n, np.nan))


def robust_z(values: Iterable[float]) -> RobustZ:
    """Robust z of each value, and the median of all.

    ``z = (x - median) / (1.4826 MAD)``, MAD being the median of ``|x - median|``. Values that are
    not finite are left out. z is NaN where they are, where MAD is 0 (more than half of the values
    are the same: nothing says how much others may differ), and, as the median, for fewer than 3.

    Examples
    --------
    >>> robust_z([1.0, 2.0, 3.0, 4.0, 13.0]).z.round(2).tolist()
    [-1.35, -0.67, 0.0, 0.67, 6.74]
    """
    x = np.asarray(list(values), "f8")
    finite = np.isfinite(x)
    result = RobustZ.empty(len(x))
    if finite.sum() < LEAST:
        return result
    median = np.median(x[finite])
    scale = SCALE * np.median(np.abs(x[finite] - median))
    result.median[:] = median
    if scale > 0:
        result.z[finite] = (x[finite] - median) / scale
    return result


def robust_z_within(values: Iterable[float], groups: Sequence[object]) -> RobustZ:
    """Robust z of each value among those of its own group; NaN where the group is None."""
    x = np.asarray(list(values), "f8")
    result = RobustZ.empty(len(x))
    for group in dict.fromkeys(g for g in groups if g is not None):
        own = np.array([g == group for g in groups])
        part = robust_z(x[own])
        result.z[own], result.median[own] = part.z, part.median
    return result


@dataclass(frozen=True)
class Drift:
    """How a metric runs with the order of acquisition."""

    n: int
    slope: float = np.nan
    slope_low: float = np.nan
    slope_high: float = np.nan
    rho: float = np.nan
    p: float = np.nan


def drift_of(values: Iterable[float], order: Iterable[float]) -> Drift:
    """Theil-Sen slope a sample, its 95 % interval, and Spearman's rho with its p.

    `order` is replaced by its ranks from 0, so the slope is the change from one sample to the next.
    The slope is the median of the slopes of all pairs; the p is that of no monotonic trend,
    two-sided: exact over all permutations to 8 samples, from Student's t beyond. Pairs with a value
    that is not finite are left out; all is NaN for fewer than 3, rho and p of a constant are too.

    Examples
    --------
    >>> d = drift_of([1.0, 3.0, 5.0, 7.0], [10, 20, 30, 40])
    >>> float(d.slope), float(d.rho), round(d.p, 4)  # 2 of 24 orders are as extreme
    (2.0, 1.0, 0.0833)
    """
    from scipy import stats

    y, x = np.asarray(list(values), "f8"), np.asarray(list(order), "f8")
    known = np.isfinite(x)
    x[known] = stats.rankdata(x[known]) - 1
    both = known & np.isfinite(y)
    x, y = x[both], y[both]
    n = len(x)
    if n < LEAST or np.ptp(x) == 0:
        return Drift(n)
    slope, _, low, high = stats.theilslopes(y, x)
    if np.ptp(y) == 0:
        return Drift(n, float(slope), float(low), float(high))
    rho = float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])
    return Drift(n, float(slope), float(low), float(high), rho, _spearman_p(x, y, rho))


_EXACT = 8  # samples up to which all permutations are looked at


def _spearman_p(x: np.ndarray, y: np.ndarray, rho: float) -> float:
    from scipy import stats

    n = len(x)
    if n > _EXACT:
        t = abs(rho) * np.sqrt((n - 2) / max((1 - rho) * (1 + rho), np.finfo("f8").tiny))
        return float(2 * stats.t.sf(t, n - 2))
    a, b = stats.rankdata(x) - (n + 1) / 2, stats.rankdata(y) - (n + 1) / 2
    # Ranks are halves: sums of their products are exact, and so is the comparison.
    others = np.abs(b[_orders(n)] @ a)
    return float(np.mean(others >= abs(b @ a)))


@lru_cache(maxsize=8)
def _orders(n: int) -> np.ndarray:
    return np.array(list(itertools.permutations(range(n))))
