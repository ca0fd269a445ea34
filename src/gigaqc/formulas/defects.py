"""Traces of detector and scan, of a channel and its tiles: clipped, hot, dead, striped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gigaqc.formulas import artifacts
from gigaqc.formulas.record import Limit, Metric, Pick, Scope, above
from gigaqc.formulas.views import Channel, Tiles
from gigaqc.statistics.states import Profile
from gigaqc.statistics.statistics import Part


def clipping_of(channel: Channel) -> dict[str, float]:
    """The clipped fraction of a channel, and the level at which it is clipped."""
    asked = channel.settings.full_scale
    fraction, level = artifacts.clipping(channel.values, channel.dtype, asked)
    return {"fraction": fraction, "level": level}


def recipe_saturation(channel: Channel) -> float:
    """Fraction of values at or above 0.99 of the largest."""
    return artifacts.saturation(channel.values)[0]


def recipe_hot_pixels(channel: Channel) -> float:
    """Fraction of values above twice the 99.9th percentile."""
    return artifacts.above_twice_p999(channel.values)[0]


def recipe_dead_regions(channel: Channel) -> float:
    """Fraction of zeros."""
    n = channel.values.n
    return int(channel.tally[4]) / n if n else math.nan


def recipe_striping(channel: Channel) -> float:
    """Std over mean of the means of the rows."""
    rows = channel.state.rows
    if rows is None:
        return math.nan
    means = artifacts.line_means(rows, channel.index, float(channel.state.shift[channel.index]))
    return artifacts.relative_spread(means)


def hot_pixel_fraction(channel: Channel) -> float:
    """Fraction of pixels that stand out of their neighbourhood."""
    assert channel.state.artifacts is not None
    return artifacts.hot_pixels(
        channel.state.artifacts, channel.index, channel.values, integers=channel.integers
    )


def hot_pixel_structure(channel: Channel) -> float:
    """The part of the hot pixels that structure explains."""
    assert channel.state.artifacts is not None
    return artifacts.structure_hot_pixels(
        channel.state.artifacts, channel.index, channel.values, integers=channel.integers
    )


def dead_area_fraction(channel: Channel) -> float:
    """Fraction of pixels in all-zero windows."""
    assert channel.state.artifacts is not None
    zeros = int(channel.tally[4])
    return artifacts.dead_area(channel.state.artifacts, channel.index, channel.values.n, zeros)


def row_striping(channel: Channel) -> float:
    """Spread of the row means over what noise explains."""
    return _striping(channel, channel.state.rows)


def column_striping(channel: Channel) -> float:
    """The same of columns."""
    return _striping(channel, channel.state.columns)


def _striping(channel: Channel, profile: Profile | None) -> float:
    if profile is None:  # of a pool, which has no lines
        return math.nan
    tiles = channel.state.tiles
    squares = 0.0 if tiles is None else float(tiles.box.values[2, channel.index].sum())
    return artifacts.striping(profile, channel.index, squares)


def tile_clipping(tiles: Tiles) -> np.ndarray:
    """Share of each tile's pixels at the level at which its channel is clipped."""
    assert tiles.state.tiles is not None
    n = tiles.state.tiles.box.values[0]
    largest, at_largest = tiles.state.tiles.largest.values
    with np.errstate(divide="ignore", invalid="ignore"):
        clipped = np.where(largest >= tiles.of_channel("clipping_level"), at_largest, 0.0) / n
    return np.where(np.isnan(tiles.of_channel("clipped_fraction")), np.nan, clipped)


# ---- what noise and structure explain ------------------------------------------------------------


def beyond_structure(limit: Limit, row: Mapping[Any, Any], planes: int) -> Limit:
    """Above what the structure of the channel explains."""
    explained = row["hot_pixel_structure"]
    return limit.raised(by=explained) if explained > 0 else limit


def beyond_chance(limit: Limit, row: Mapping[Any, Any], planes: int) -> Limit:
    """Where zeros are ordinary (counting data), two of them meet that often by chance.

    An empty part of the specimen then looks dead too: no reason to fail.
    """
    elsewhere = row["zero_fraction"] - row["dead_area_fraction"]
    counting = replace(limit, fail=None) if elsewhere > _ORDINARY_ZEROS else limit
    return counting.raised(at_least=elsewhere**2) if elsewhere > 0 else limit


def over_planes(limit: Limit, row: Mapping[Any, Any], planes: int) -> Limit:
    """Over p planes of one scene its structure adds up, and the expected error falls."""
    return limit.raised(times=math.sqrt(planes))


_ORDINARY_ZEROS = 0.01  # outside dead areas
_RECIPE = "IMC recipe"

METRICS = (
    Metric(
        "clipped_fraction",
        "Clipped",
        "Pixels at the detector's ceiling, whose true brightness is lost.",
        formula="number of x at clipping_level / n; 0 where nothing piles up",
        nan="floats without full_scale; no valid pixel",
        compute=Pick(clipping_of, "fraction"),
        function="acquisition_artifacts",
        needs=Part.MOMENTS,
        range="0..1",
        better="lower",
        kind="fraction",
        meaning="pixels sit at the largest value that the detector can give",
        cure="Do not compare intensities there; expose shorter or lower the gain next time.",
        limits={"robust": above(1e-4, 1e-2)},
        primary=True,
        compared=True,
        headline=True,
        artifact=True,
        map="clipped_fraction",
    ),
    Metric(
        "hot_pixel_fraction",
        "Hot pixels",
        "Single pixels far brighter than the median of their 3 x 3 neighbourhood (8 sigma).",
        formula="number of x - median3x3 > 8 sigma / n, sigma the larger of 1.4826 MAD of that "
        "response and the counting noise at the median",
        nan="no pixel has a whole valid neighbourhood",
        compute=hot_pixel_fraction,
        function="acquisition_artifacts",
        needs=Part.MOMENTS | Part.RESPONSE,
        range="0..1",
        better="lower",
        kind="fraction",
        exact="to the bit; sigma of floats to 2^-8",
        meaning="single pixels are far brighter than their neighbours",
        cure="Remove them (a hot-pixel filter) before measuring intensities.",
        limits={"robust": above(2e-5, 1e-2)},
        floor=beyond_structure,
        primary=True,
        compared=True,
        headline=True,
        artifact=True,
    ),
    Metric(
        "dead_area_fraction",
        "Dead area",
        "Zeros that lie in all-zero windows of 8 x 8 pixels. Not measured where more than half of "
        "the channel is zero anyway.",
        formula="number of x in 8x8 windows of zeros / n; NaN where more than half of x are 0",
        nan="more than half of the valid pixels are 0",
        compute=dead_area_fraction,
        function="acquisition_artifacts",
        needs=Part.MOMENTS | Part.DEAD,
        range="0..1",
        better="lower",
        kind="fraction",
        meaning="whole patches are exactly zero",
        cure="Look for missing tiles or a failed acquisition, and mask the patches out.",
        limits={"robust": above(1e-3, 5e-2)},
        floor=beyond_chance,
        primary=True,
        compared=True,
        artifact=True,
        map="zero_fraction",
    ),
    Metric(
        "row_striping",
        "Row stripes",
        "How much row means jump from row to row, over what noise alone explains.",
        formula="(p95 - p5)/3.29 of row means about their running median of 15, over the standard "
        "error expected from the pixels",
        nan="fewer than 15 lines; nothing varies; pooled statistics",
        compute=row_striping,
        function="acquisition_artifacts",
        needs=Part.MOMENTS,
        range="0..inf",
        better="near 1",
        exact="1e-9",
        meaning="rows differ from the rows next to them by more than their pixels explain",
        cure="Look for scan lines; destripe, or acquire again.",
        limits={"robust": above(2.5, 10.0)},
        floor=over_planes,
        primary=True,
        compared=True,
        artifact=True,
    ),
    Metric(
        "column_striping",
        "Column stripes",
        "The same for columns.",
        formula="as row_striping, of columns",
        nan="fewer than 15 lines; nothing varies; pooled statistics",
        compute=column_striping,
        function="acquisition_artifacts",
        needs=Part.MOMENTS | Part.COLUMNS,
        range="0..inf",
        better="near 1",
        exact="1e-9",
        meaning="columns differ from the columns next to them by more than their pixels explain",
        cure="Look for scan lines or camera columns; destripe, or acquire again.",
        limits={"robust": above(2.5, 10.0)},
        floor=over_planes,
        primary=True,
        compared=True,
        artifact=True,
    ),
    Metric(
        "clipping_level",
        "Clipping level",
        "The value at which pixels pile up.",
        formula="full_scale, or the largest value where it is the dtype's or a power of two less "
        "one (also after an offset of 32768) and pixels pile up there",
        nan="nothing piles up",
        compute=Pick(clipping_of, "level"),
        function="acquisition_artifacts",
        needs=Part.MOMENTS,
        unit="DN",
    ),
    Metric(
        "hot_pixel_structure",
        "Hot pixels from structure",
        "The part of the hot pixels that is no farther above its neighbours than structure and "
        "noise of this channel reach below them; it raises their limit.",
        formula="hot pixels within 8/3.719 of the 10^-4 quantile of the response / n",
        nan="no pixel has a whole valid neighbourhood",
        compute=hot_pixel_structure,
        function="acquisition_artifacts",
        needs=Part.MOMENTS | Part.RESPONSE,
        range="0..1",
        kind="fraction",
        exact="to the bit; a lower bound of floats",
    ),
    Metric(
        "recipe_saturation",
        "Saturation (recipe)",
        "Pixels of at least 0.99 times the maximum.",
        formula="number of x >= 0.99 max / n",
        nan="no valid pixel",
        compute=recipe_saturation,
        function="acquisition_artifacts",
        needs=Part.MOMENTS,
        range="0..1",
        better="lower",
        kind="fraction",
        origin=_RECIPE,
        meaning="too many pixels lie within 1 % of the maximum",
        cure="Do not compare intensities there; expose shorter next time.",
        limits={"recipe": above(None, 0.01)},
        artifact=True,
        map="clipped_fraction",
    ),
    Metric(
        "recipe_hot_pixels",
        "Hot pixels (recipe)",
        "Pixels above twice the 99.9th percentile. It can never exceed 0.1 %.",
        formula="number of x > 2 p99.9 / n",
        nan="no valid pixel",
        compute=recipe_hot_pixels,
        function="acquisition_artifacts",
        needs=Part.MOMENTS,
        range="0..0.001",
        better="lower",
        kind="fraction",
        origin=_RECIPE,
        meaning="too many pixels exceed twice the 99.9th percentile",
        cure="Remove hot pixels before measuring intensities.",
        limits={"recipe": above(None, 0.001)},
        artifact=True,
    ),
    Metric(
        "recipe_dead_regions",
        "Zeros (recipe)",
        "Pixels equal to 0, wherever they lie; sparse counting data is mostly zero.",
        formula="number of x == 0 / n",
        nan="no valid pixel",
        compute=recipe_dead_regions,
        function="acquisition_artifacts",
        needs=Part.MOMENTS,
        range="0..1",
        better="lower",
        kind="fraction",
        origin=_RECIPE,
        meaning="too many pixels are exactly zero",
        cure="Look for missing tiles; counting data is expected to be sparse.",
        limits={"recipe": above(None, 0.05)},
        artifact=True,
        map="zero_fraction",
    ),
    Metric(
        "recipe_striping",
        "Striping (recipe)",
        "Standard deviation of the row means over their mean; tissue itself raises it.",
        formula="std of row means / mean of row means",
        nan="no valid pixel; pooled statistics",
        compute=recipe_striping,
        function="acquisition_artifacts",
        needs=Part.MOMENTS,
        range="0..inf",
        better="lower",
        exact="1e-9",
        origin=_RECIPE,
        meaning="the means of the rows vary too much",
        cure="Look for stripes; tissue that covers part of the image causes this too.",
        limits={"recipe": above(None, 0.3)},
        artifact=True,
    ),
)

TILES = (
    Metric(
        "clipped_fraction",
        "Clipped",
        "Pixels at the channel's clipping level.",
        formula="number of x at clipping_level / n, in the tile",
        nan="floats without full_scale; no valid pixel",
        compute=tile_clipping,
        needs=Part.MOMENTS,
        range="0..1",
        better="lower",
        kind="fraction",
        scope=Scope.TILE,
        primary=True,
    ),
)
