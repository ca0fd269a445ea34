"""The photon-transfer curve: how the variance of pixels grows with their mean, and the gain.

A detector of gain g [e-/ADU] turns photo-electrons, whose number varies as a Poisson count, into
grey values above an offset: ``variance = (mean - offset) / g + read noise^2`` in ADU. So a straight
line through the variance of pixels, in bins of their mean, has the slope 1/g.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

MAD_TO_STD = 1.4826
"""Standard deviation over median absolute deviation, of a Gaussian."""

FEWEST_PIXELS = 11  # of a bin
FEWEST_BINS = {"mad": 3, "variance": 5}
CENTRAL = (33, 66)  # percentiles of the mean between which the recipe fits
CLIPPED = 1e-3  # of the values of a bin at the smallest or largest value of all
_SLICE = 1 << 20  # pixels
CHANCE = 1e-4  # that a pixel of a bin varies more by chance than one that is kept
QUANTISED = 5.0  # grey values: a smaller median absolute deviation is coarse


@dataclass(frozen=True)
class PlaneMaps:
    """The pixels of one plane, flat: what their frames gave; the last four for clipped values."""

    mean: Values
    variance: Values
    n: npt.NDArray[np.int32]
    smallest: Values | None = None
    largest: Values | None = None
    at_smallest: npt.NDArray[np.int32] | None = None
    at_largest: npt.NDArray[np.int32] | None = None


@dataclass(frozen=True)
class PhotonTransfer:
    """What the curve of one plane gives; NaN where something cannot be measured."""

    mean_bins: Values
    variance_bins: Values
    count_bins: npt.NDArray[np.int64]
    in_fit: npt.NDArray[np.bool_]
    slope: float
    intercept: float
    rvalue: float
    stderr: float
    intercept_stderr: float
    gain: float
    system_gain: float
    fitted_offset: float
    read_noise: float
    measurable: bool
    reason: str
    quantised: bool
    n_zero_variance: int
    n_missing: int
    n_outliers: int


@dataclass(frozen=True)
class MeanBins:
    """Pixels in bins of their mean."""

    mean: Values
    variance: Values
    count: npt.NDArray[np.int64]
    fitted: npt.NDArray[np.bool_]
    outliers: int = 0


def photon_transfer(
    maps: PlaneMaps, frames: int, nbins: int, estimator: str, offset: float | None, integers: bool
) -> PhotonTransfer:
    """The curve of a plane, the line through it, and the gain."""
    usable = np.isfinite(maps.mean) & np.isfinite(maps.variance)
    bins = (_even_bins if estimator == "mad" else _equal_bins)(maps, usable, frames, nbins)
    x, y, n = bins.mean[bins.fitted], bins.variance[bins.fitted], bins.count[bins.fitted]
    line = _line(x, y, np.ones(len(x)))
    if estimator == "variance" and not math.isnan(line.slope):
        # The variance of a bin's variance goes with its square over the values in the bin; twice,
        # because that of the fit is less noisy than what was fitted.
        for _ in range(2):
            expected = np.maximum(line.slope * x + line.intercept, y.min())
            weights = n / np.where(expected > 0, expected, 1.0) ** 2
            line = _line(x, y, weights / weights.max())
    reason = _refusal(line, len(x), estimator)
    measurable = not reason
    gain = 1 / line.slope if measurable else math.nan
    return PhotonTransfer(
        mean_bins=bins.mean,
        variance_bins=bins.variance,
        count_bins=bins.count,
        in_fit=bins.fitted,
        slope=line.slope,
        intercept=line.intercept,
        rvalue=line.rvalue,
        stderr=line.stderr,
        intercept_stderr=line.intercept_stderr,
        gain=gain,
        system_gain=line.slope if measurable else math.nan,
        fitted_offset=-line.intercept / line.slope if measurable else math.nan,
        read_noise=_read_noise(line, gain, offset),
        measurable=measurable,
        reason=reason,
        quantised=integers and estimator == "mad" and _is_coarse(maps.variance, usable),
        n_zero_variance=int((maps.variance == 0).sum()),
        n_missing=int(maps.n.size * frames - maps.n.sum(dtype="i8")),
        n_outliers=bins.outliers,
    )


def _is_coarse(variance: Values, usable: npt.NDArray[np.bool_]) -> bool:
    """Whether at least half of the pixels have a small median absolute deviation."""
    fine = (variance >= (MAD_TO_STD * QUANTISED) ** 2) & usable
    return bool(2 * fine.sum() < usable.sum())


def _even_bins(maps: PlaneMaps, usable: npt.NDArray[np.bool_], frames: int, nbins: int) -> MeanBins:
    """Bins of equal width over the range of the mean; those of the central third are fitted.

    As ``np.digitize`` has it, the largest mean lies beyond the last bin.
    """
    mean, variance = _chosen(maps.mean, usable), _chosen(maps.variance, usable)
    if not mean.size:
        return _no_bins(nbins)
    edges = np.linspace(mean.min(), mean.max(), nbins + 1)
    count, x, y = _means(lambda cut: np.digitize(mean[cut], edges) - 1, mean, variance, nbins)
    few = count < FEWEST_PIXELS
    x[few] = y[few] = np.nan
    low, high = np.percentile(mean, CENTRAL)
    with np.errstate(invalid="ignore"):
        fitted = (x > low) & (x < high)
    return MeanBins(x, y, count, fitted)


def _chosen(values: Values, usable: npt.NDArray[np.bool_]) -> Values:
    """Most often all of them, which are not copied."""
    return values if usable.all() else values[usable]


def _equal_bins(
    maps: PlaneMaps, usable: npt.NDArray[np.bool_], frames: int, nbins: int
) -> MeanBins:
    """Bins of equal population; fitted are those with hardly a clipped value.

    A pixel that varies more than chance allows beside the median of its bin (hot, blinking) is
    left out.
    """
    if not usable.any():
        return _no_bins(nbins)
    mean, variance = _chosen(maps.mean, usable), _chosen(maps.variance, usable)
    order = np.argsort(mean, kind="stable")
    edges = np.quantile(mean, np.linspace(0, 1, nbins + 1))
    place = np.clip(np.searchsorted(edges, mean, side="right") - 1, 0, nbins - 1)
    starts = np.searchsorted(place[order], np.arange(nbins + 1))
    values = np.bincount(place, maps.n[usable], nbins)
    with np.errstate(divide="ignore", invalid="ignore"):
        clipped = np.bincount(place, _at_ends(maps)[usable], nbins) / values
    middle, highest = _chi_squared(frames)
    kept = np.ones(mean.size, dtype=bool)
    for start, stop in itertools.pairwise(starts):
        inside = order[start:stop]
        if inside.size >= FEWEST_PIXELS:
            kept[inside] = variance[inside] <= np.median(variance[inside]) / middle * highest
    place[~kept] = nbins
    count, x, y = _means(lambda cut: place[cut], mean, variance, nbins)
    few = count < FEWEST_PIXELS
    x[few] = y[few] = np.nan
    fitted = ~few & ~(clipped > CLIPPED)
    return MeanBins(x, y, count, fitted, int((~kept).sum()))


def _at_ends(maps: PlaneMaps) -> npt.NDArray[np.int64]:
    """How many values of each pixel lie at the smallest or the largest value of the plane.

    Of values that are not clipped hardly one in a bin does.
    """
    assert maps.smallest is not None and maps.at_smallest is not None
    assert maps.largest is not None and maps.at_largest is not None
    low = np.where(maps.smallest == maps.smallest.min(), maps.at_smallest, 0)
    return low + np.where(maps.largest == maps.largest.max(), maps.at_largest, 0)


def _chi_squared(frames: int) -> tuple[float, float]:
    """Median of a sample variance over the true one, and what it hardly ever exceeds."""
    from scipy.special import chdtri

    freedom = max(frames - 1, 1)
    return float(chdtri(freedom, 0.5)) / freedom, float(chdtri(freedom, CHANCE)) / freedom


def _no_bins(nbins: int) -> MeanBins:
    nothing = np.full(nbins, np.nan)
    return MeanBins(nothing, nothing.copy(), np.zeros(nbins, "i8"), np.zeros(nbins, dtype=bool))


def _means(
    place_of: Callable[[slice], npt.NDArray[np.int64]], mean: Values, variance: Values, nbins: int
) -> tuple[npt.NDArray[np.int64], Values, Values]:
    """Pixels of each bin, and the means of both maps; slice by slice, for the memory's sake.

    `place_of` says in which bin the pixels of a slice lie; what lies beyond the last counts not.
    """
    count = np.zeros(nbins, "i8")
    x, y = np.zeros(nbins), np.zeros(nbins)
    # About a value of the map: sums of a large offset lose digits.
    about = mean[0] if mean.size else 0.0
    for start in range(0, mean.size, _SLICE):
        cut = slice(start, start + _SLICE)
        place = place_of(cut)
        count += np.bincount(place, minlength=nbins)[:nbins]
        x += np.bincount(place, mean[cut] - about, nbins)[:nbins]
        y += np.bincount(place, variance[cut], nbins)[:nbins]
    with np.errstate(divide="ignore", invalid="ignore"):
        return count, about + x / count, y / count


@dataclass(frozen=True)
class TransferLine:
    """A straight line by weighted least squares."""

    slope: float
    intercept: float
    rvalue: float
    stderr: float
    intercept_stderr: float


def _line(x: Values, y: Values, weights: Values) -> TransferLine:
    """NaN through fewer than two places; standard errors are NaN through two."""
    total = weights.sum()
    if len(x) < 2 or not total > 0:
        return TransferLine(*(math.nan,) * 5)
    x0, y0 = (weights * x).sum() / total, (weights * y).sum() / total
    dx, dy = x - x0, y - y0
    xx, xy, yy = (weights * dx * dx).sum(), (weights * dx * dy).sum(), (weights * dy * dy).sum()
    if not xx > 0:
        return TransferLine(*(math.nan,) * 5)
    slope = xy / xx
    left = max(yy - slope * xy, 0.0)
    stderr = math.sqrt(left / (len(x) - 2) / xx) if len(x) > 2 else math.nan
    rvalue = float(np.clip(xy / math.sqrt(xx * yy), -1, 1)) if yy > 0 else 0.0
    about = math.sqrt(xx / total + x0 * x0)
    return TransferLine(float(slope), float(y0 - slope * x0), rvalue, stderr, stderr * about)


def _refusal(line: TransferLine, bins: int, estimator: str) -> str:
    """Why there is no gain; empty where there is one."""
    fewest = FEWEST_BINS[estimator]
    if bins < fewest and estimator == "mad":
        return (
            f"{bins} bins in the central third of the means, {fewest} are needed; "
            "try estimator='variance'"
        )
    if bins < fewest:
        return f"{bins} bins without clipped values, {fewest} are needed; means must differ more"
    if math.isnan(line.slope):
        return "the means of the bins do not differ"
    if not line.slope > 0:
        return "the variance does not grow with the mean"
    if not line.slope > 2 * line.stderr:
        return "the growth of the variance is within its error"
    return ""


def _read_noise(line: TransferLine, gain: float, offset: float | None) -> float:
    """In electrons: the variance at the offset, which must be known."""
    if offset is None or math.isnan(gain):
        return math.nan
    variance = line.intercept + line.slope * offset
    return math.sqrt(variance) * gain if variance >= 0 else math.nan


def shapes_and_types(nbins: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of each result of a plane."""
    bins = ("mean_bins", "variance_bins", "count_bins", "in_fit")
    types: dict[str, Any] = {"count_bins": "i8", "in_fit": "?", "measurable": "?", "reason": "U96"}
    types |= {"quantised": "?", "n_zero_variance": "i8", "n_missing": "i8", "n_outliers": "i8"}
    return {
        name: ((nbins,) if name in bins else (), np.dtype(types.get(name, "f8")))
        for name in (f.name for f in fields(PhotonTransfer))
    }
