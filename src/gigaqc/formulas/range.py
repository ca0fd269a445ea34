"""How much of its range a channel uses, and how much of it is stained."""

from __future__ import annotations

import math
from typing import Any

from gigaqc.formulas.intensity import utilized_range
from gigaqc.formulas.record import Metric, Pick, below
from gigaqc.formulas.views import Channel
from gigaqc.statistics import Part

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
