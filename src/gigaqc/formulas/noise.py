"""Image and temporal signal to noise: formulas and records."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from gigaqc.formulas.mixture import Cells, Mixture, fit
from gigaqc.formulas.record import Basis, Metric, Scope
from gigaqc.formulas.signal import ratio
from gigaqc.statistics.distribution import Distribution

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


_isnr = partial(Metric, function="isnr", source=Basis.SERIES, assessed=False, origin="ukat")
_tsnr = partial(
    Metric, function="temporal_statistics", scope=Scope.PIXEL, source=Basis.SERIES,
    assessed=False, origin="ukat",
)  # fmt: skip
_gain = partial(
    Metric, function="gain_map", source=Basis.SERIES, assessed=False, exact="1e-9",
    origin="smlmlp, EMVA 1288",
)  # fmt: skip

METRICS = (
    _isnr(
        "isnr",
        "Image SNR",
        "Signal against noise of a whole image, noise being its darkest class of intensities.",
        formula="mean of what is not noise / std of the noise, times sqrt(2 - pi/2)",
        nan="the channel is empty or constant; infinite where the noise is 0",
        range="0..",
        better="higher",
        exact="1e-9, given the mixture",
    ),
    _isnr(
        "signal",
        "Signal",
        "Mean of the intensities that are not noise.",
        formula="mean of x above the threshold",
        unit="DN",
    ),
    _isnr(
        "noise",
        "Noise",
        "Standard deviation of the intensities that are noise.",
        formula="std of x up to the threshold",
        unit="DN",
        range="0..",
    ),
    _isnr(
        "threshold",
        "Threshold",
        "Upper edge of the class that is noise.",
        formula="upper edge of the component with the lowest mean",
        unit="DN",
    ),
    _tsnr(
        "tsnr",
        "Temporal SNR",
        "Mean of a pixel over time, over the spread of what is left after its drift.",
        formula="mean / std of the residuals of a polynomial of t",
        nan="the residuals are 0, or fewer frames than the drift takes",
        range="0..",
        better="higher",
        exact="1e-9",
    ),
    _tsnr("mean", "Mean", "Mean over time.", formula="mean over t", unit="DN"),
    _tsnr(
        "std",
        "Std",
        "Standard deviation of the residuals from the drift.",
        formula="sqrt(sum of squared residuals / (n - ddof))",
        unit="DN",
        range="0..",
    ),
    _tsnr(
        "n_frames",
        "Frames",
        "Valid frames of a pixel.",
        formula="number of finite x over t",
        range="0..",
        kind="count",
        dtype="i8",
    ),
    _gain(
        "gain",
        "Gain",
        "Electrons that a grey level stands for, by the photon-transfer curve.",
        formula="1 / slope of variance over mean",
        nan="not measurable; the reason says why",
        unit="e-/DN",
        range="0..",
    ),
    _gain(
        "system_gain",
        "System gain",
        "Grey levels that an electron gives.",
        formula="slope of variance over mean",
        nan="a fit is impossible",
        unit="DN/e-",
    ),
    _gain(
        "read_noise",
        "Read noise",
        "Noise without light; known where the offset is.",
        formula="sqrt(variance of the line at the offset) x gain",
        nan="the offset is not known",
        unit="e-",
        range="0..",
        better="lower",
    ),
    _gain(
        "rvalue",
        "Correlation of the line",
        "How well variance follows the mean over the bins.",
        formula="Pearson's r over the bins of the fit",
        range="-1..1",
        better="higher",
    ),
)
