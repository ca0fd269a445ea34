"""Noise and signal of a channel's intensities, from its distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gigaqc.distribution import Distribution
from gigaqc.formulas.intensity import ratio
from gigaqc.formulas.mixture import Cells, Mixture, fit

RICIAN = math.sqrt(2 - math.pi / 2)
"""Standard deviation of a Rayleigh distribution over that of the Gaussian noise that makes it."""

_NO_CUTS = np.zeros(0)


@dataclass(frozen=True)
class Classes:
    """Which component a value belongs to: ``labels[k]`` from ``cuts[k - 1]`` on, below ``cuts[k]``.

    Labels are 1.. by ascending mean; 0 where there are no components.
    """

    cuts: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Separation:
    """Mean of the signal, standard deviation of the noise, and what told them apart.

    `threshold` is the largest value of the noise class; `relative_error` bounds what the bins that
    the border of the class lies in make of the ratio, 0 where each is one value.
    """

    signal: float
    noise: float
    threshold: float
    relative_error: float
    classes: Classes
    mixture: Mixture | None


def by_mixture(values: Distribution, n_clusters: int) -> Separation:
    """Noise is what the component with the lowest mean is the most probable for."""
    cells = Cells.of(values)
    mixture = fit(cells, n_clusters)
    if mixture is None:
        none = Classes(_NO_CUTS, np.zeros(1, "u1"))
        return Separation(math.nan, math.nan, math.nan, math.nan, none, None)
    found = mixture.classes(cells)
    noisy = found == 0
    signal, noise = _signal_noise(values, noisy)
    begins = np.flatnonzero(np.diff(found)) + 1
    labels = found[np.append(0, begins)] + 1
    return Separation(
        signal=signal,
        noise=noise,
        threshold=_upper_edge(values, noisy),
        relative_error=_error(values, noisy, _divided(values, mixture)),
        classes=Classes(values.low[begins], labels.astype(np.min_scalar_type(n_clusters))),
        mixture=mixture,
    )


def by_mask(signal: Distribution, noise: Distribution) -> Separation:
    """Noise is what a mask says."""
    none = Classes(_NO_CUTS, np.zeros(1, "u1"))
    return Separation(signal.mean, noise.std, math.nan, 0.0, none, None)


def image_snr(signal: float, noise: float, factor: float) -> float:
    """Signal over noise, corrected; infinite where only the noise is 0."""
    return ratio(signal * factor, noise)


def _signal_noise(values: Distribution, noisy: np.ndarray) -> tuple[float, float]:
    n, _, squares = values.moments(noisy)
    return values.moments(~noisy)[1], math.sqrt(squares / n) if n else math.nan


def _upper_edge(values: Distribution, noisy: np.ndarray) -> float:
    """The largest value of the class, or of its last bin."""
    if not noisy.any():
        return math.nan
    last = int(np.flatnonzero(noisy)[-1])
    high = values.high[last]
    # `high` of a range is the first value of the next bin.
    return float(high if high == values.low[last] else np.nextafter(high, -np.inf))


def _divided(values: Distribution, mixture: Mixture) -> np.ndarray:
    """The bins that the border of the noise goes through."""
    ends = [
        mixture.classes(Cells(values.counts, edge, np.zeros(edge.size))) == 0
        for edge in (values.low, values.high)
    ]
    return np.flatnonzero(ends[0] != ends[1])


def _error(values: Distribution, noisy: np.ndarray, divided: np.ndarray) -> float:
    """How far the ratio moves, at most, when values of divided bins change sides."""
    whole, error = ratio(*_signal_noise(values, noisy)), 0.0
    for k in divided:
        moved = noisy.copy()
        moved[k] = not moved[k]
        error += abs(ratio(*_signal_noise(values, moved)) / whole - 1) if whole else math.nan
    return error


@dataclass(frozen=True)
class Outline:
    """A histogram for a picture: bins of their own width, narrow where there are many values."""

    counts: np.ndarray
    edges: np.ndarray


def outline(values: Distribution, bins: int) -> Outline:
    """Counts between edges that lie midway between values; bins that are not needed have no width.

    NaN edges where there are no values.
    """
    counts, edges = np.zeros(bins, "i8"), np.full(bins + 1, math.nan)
    if not values.counts.size:
        return Outline(counts, edges)
    starts = Cells.of(values).groups(bins)
    counts[: starts.size] = np.add.reduceat(values.counts, starts)
    between = (values.high[:-1] + values.low[1:]) / 2
    first, last = _ends(values, between)
    own = np.concatenate([[first], between[starts[1:] - 1], [last]])
    edges[:] = last
    edges[: own.size] = own
    return Outline(counts, edges)


def _ends(values: Distribution, between: np.ndarray) -> tuple[float, float]:
    """Outer edges: as far from the outermost values as the next edge is, if these are values."""
    low, high = float(values.low[0]), float(values.high[-1])
    if values.low[0] == values.high[0]:
        low -= float(between[0]) - low if between.size else 0.5
    if values.low[-1] == values.high[-1]:
        high += high - float(between[-1]) if between.size else 0.5
    return low, high
