"""How much of its range a channel uses, and which bins a second read refines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gigaqc.formulas.artifacts import response_sigma
from gigaqc.formulas.record import Metric, Pick, below
from gigaqc.formulas.signal import utilized_range
from gigaqc.formulas.views import Channel
from gigaqc.statistics.distribution import Distribution, KeyHistogram
from gigaqc.statistics.states import Counts
from gigaqc.statistics.statistics import Part

RECIPE_QUANTILES = (0.01, 0.1, 0.5, 0.99, 0.999)
"""Asked by the recipe's metrics and by tissue."""

_SATURATION = 0.99  # of the maximum
_HOT = 2.0  # times the 99.9th percentile

_COUNTS_HAVE_ZEROS = 0.05  # of Poisson counts below a mean of 3,
_ONE_COUNT = 0.1  # where at least this part of the positive values is a single count


def wanted_bins(
    histogram: KeyHistogram,
    channel: int,
    zeros: int,
    quantiles: Sequence[float],
    nonzero_quantiles: Sequence[float],
    thresholds: Sequence[float],
) -> np.ndarray:
    """Bins of a channel whose values decide the quantiles, the extremes and the thresholds."""
    keys = histogram.channels[channel]
    if not keys.bins.size:
        return keys.bins
    cumulative = np.cumsum(keys.counts)
    n = int(cumulative[-1])
    low, step = histogram.layout.edges(keys.bins)
    high = low + step * float(1 << histogram.layout.tail)
    picked = {0, keys.bins.size - 1}
    for q in quantiles:
        picked.update(_rank_bins(cumulative, n, q))
    if nonzero_quantiles and n > zeros:
        others = np.cumsum(keys.counts - np.where(low == 0, zeros, 0))
        for q in nonzero_quantiles:
            picked.update(_rank_bins(others, n - zeros, q))
    ranges = [(low[-1] * _SATURATION, high[-1] * _SATURATION)]
    below, above = _rank_bins(cumulative, n, 0.999)
    weight = 0.999 * (n - 1) % 1
    ranges.append(
        (
            _HOT * (low[below] + weight * (low[above] - low[below])),
            _HOT * (high[below] + weight * (high[above] - high[below])),
        )
    )
    ranges += [(t, t) for t in thresholds if math.isfinite(t)]
    for start, stop in ranges:
        start, stop = min(start, stop), max(start, stop)
        slack = 1e-12 * max(abs(start), abs(stop))
        picked.update(np.flatnonzero((high >= start - slack) & (low <= stop + slack)).tolist())
    chosen = np.array(sorted(picked))
    return keys.bins[chosen[~histogram.single_valued(channel)[chosen]]]


def _rank_bins(cumulative: np.ndarray, n: int, q: float) -> tuple[int, int]:
    rank = min(math.floor(q * (n - 1)), n - 1)
    ranks = [rank, min(rank + 1, n - 1)]
    below, above = np.searchsorted(cumulative, ranks, side="right")
    return int(below), int(above)


def hot_scale(
    histogram: KeyHistogram, channel: int, response: Counts, *, counts: bool
) -> tuple[float, float]:
    """Sigma of the median response and the unit of counting noise of a channel.

    Integers count in units of 1, floats that are all multiples of the smallest in units of that
    one. For other floats the unit is the one that makes the counting noise at the median equal to
    sigma. Where 5 % of the channel is exactly zero it is counting data, and the unit is at least
    one count: the 10th percentile of the positive values (the MAD of sparse counts is 0, or follows
    the scatter of single counts). Where sigma is 0 without such zeros the unit is the median of the
    positive values; 0 where that cannot be had.
    """
    sigma = response_sigma(response, channel, integers=False)
    if counts:
        return sigma, 1.0
    values = histogram.channel(channel)
    if not values.n:
        return math.nan, 0.0
    step = _count_step(values)
    if step:
        return sigma, step
    return sigma, _counting_unit(values, sigma, zeros=int(values.counts[values.low == 0].sum()))


def _count_step(values: Distribution) -> float:
    """The step of counts that are stored as floats, perhaps scaled; 0 for anything else."""
    known = values.low == values.high
    steps, n = values.low[known], values.counts[known].sum()
    positive = steps[steps > 0]
    # Bins above 256 steps hold several counts; a bin with one pixel of a continuum is known too.
    if not positive.size or 2 * n < values.n:
        return 0.0
    multiples = steps / positive[0]
    away = np.abs(multiples - np.rint(multiples))
    return float(positive[0]) if np.all(away < 1e-6 * np.maximum(multiples, 1.0)) else 0.0


def _counting_unit(values: Distribution, sigma: float, *, zeros: int) -> float:
    median = values.quantile(0.5)[0]
    unit = sigma * sigma / median if sigma > 0 and median > 0 else 0.0
    positive = values.low > 0
    n = np.cumsum(values.counts[positive])
    if not n.size or values.minimum < 0:
        return unit
    if zeros >= _COUNTS_HAVE_ZEROS * values.n:
        one = float(values.low[positive][np.searchsorted(n, _ONE_COUNT * n[-1])])
        return max(unit, one)
    return unit if sigma > 0 else float(values.low[positive][np.searchsorted(n, n[-1] / 2)])


ADEQUATE = 0.1  # of the maximum, that the range should exceed


def range_of(channel: Channel) -> dict[str, Any]:
    """Two quantiles of a channel, and what share of the maximum lies between them."""
    asked = channel.settings
    bottom, top, utilized, _ = utilized_range(channel.values, asked.low, asked.high)
    return {"low": bottom, "high": top, "utilized": utilized, "adequate": bool(utilized > ADEQUATE)}


def stained_of(channel: Channel) -> dict[str, float]:
    """What of a channel lies above a threshold, Otsu's unless one is given."""
    values, asked = channel.values, channel.settings.thresholds
    threshold = values.otsu()[0] if asked is None else asked[channel.index]
    if not values.n or math.isnan(threshold):
        return {**dict.fromkeys(("fraction", "area", "mean"), math.nan), "threshold": threshold}
    _, high = values.split(threshold)
    size = channel.statistics.meta.pixel_size
    pixel = size["y"] * size["x"] if {"y", "x"} <= set(size) else 1.0
    return {
        "fraction": high.n / values.n,
        "area": high.n * pixel,
        "mean": high.mean,
        "threshold": threshold,
    }


METRICS = (
    Metric(
        "range_utilized",
        "Range used",
        "Distance from the 1st to the 99th percentile, as a share of the maximum.",
        formula="(p99 - p1) / max; 0 where max <= 0",
        nan="no valid pixel",
        compute=Pick(range_of, "utilized"),
        function="dynamic_range",
        needs=Part.MOMENTS,
        range="0..1",
        better="higher",
        kind="fraction",
        origin="IMC recipe",
        meaning="nearly all pixels use a small part of the range up to the maximum: the channel "
        "is sparse, or a few pixels are very bright",
        cure="Look for those pixels; expose or count longer next time.",
        limits={"robust": below(0.01, None)},
        primary=True,
        compared=True,
    ),
    Metric(
        "range_low",
        "1st percentile",
        "1 % of the pixels lie below this value.",
        formula="p1",
        nan="no valid pixel",
        compute=Pick(range_of, "low"),
        function="dynamic_range",
        needs=Part.MOMENTS,
        unit="DN",
        origin="IMC recipe",
    ),
    Metric(
        "range_high",
        "99th percentile",
        "1 % of the pixels lie above this value.",
        formula="p99",
        nan="no valid pixel",
        compute=Pick(range_of, "high"),
        function="dynamic_range",
        needs=Part.MOMENTS,
        unit="DN",
        origin="IMC recipe",
    ),
    Metric(
        "adequate",
        "Range adequate",
        "Whether the range used exceeds 10 %.",
        formula="range_utilized > 0.1",
        compute=Pick(range_of, "adequate"),
        function="dynamic_range",
        needs=Part.MOMENTS,
        kind="flag",
        dtype="?",
        origin="IMC recipe",
    ),
)

STAINED = (
    Metric(
        "positive_fraction",
        "Stained",
        "Valid pixels above the threshold.",
        formula="number of x > threshold / n",
        nan="no valid pixel; Otsu of a constant",
        compute=Pick(stained_of, "fraction"),
        function="stained_area",
        needs=Part.MOMENTS,
        range="0..1",
        kind="fraction",
        assessed=False,
    ),
    Metric(
        "positive_area",
        "Stained area",
        "Area of the pixels above the threshold, in the squared unit of the pixel size.",
        formula="number of x > threshold, times the area of a pixel",
        nan="no valid pixel; Otsu of a constant",
        compute=Pick(stained_of, "area"),
        function="stained_area",
        needs=Part.MOMENTS,
        unit="um^2 or px",
        range="0..",
        assessed=False,
    ),
    Metric(
        "positive_mean",
        "Stained mean",
        "Mean of the pixels above the threshold.",
        formula="mean of x > threshold",
        nan="nothing is positive",
        compute=Pick(stained_of, "mean"),
        function="stained_area",
        needs=Part.MOMENTS,
        unit="DN",
        exact="1e-9",
        assessed=False,
    ),
    Metric(
        "threshold",
        "Threshold",
        "The threshold that was used.",
        formula="Otsu's, or as given",
        nan="Otsu of a constant",
        compute=Pick(stained_of, "threshold"),
        function="stained_area",
        needs=Part.MOMENTS,
        unit="DN",
        assessed=False,
    ),
)
