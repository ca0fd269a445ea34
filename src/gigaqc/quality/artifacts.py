"""Acquisition artifacts of each channel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from gigaqc.distribution import layout_of
from gigaqc.errors import ParameterError
from gigaqc.metrics import artifacts as artifact_metrics
from gigaqc.quality.labelled import by_channel, scanned
from gigaqc.scanning import LazyStatistics
from gigaqc.statistics import Part, Statistics


def acquisition_artifacts(image: Any, *, full_scale: float | None = None) -> xr.Dataset:
    """Saturation, hot pixels, dead areas and stripes of each channel.

    The recipe's: ``recipe_saturation`` (fraction of ``x >= 0.99 max``), ``recipe_hot_pixels``
    (``x > 2 p99.9``), ``recipe_dead_regions`` (``x == 0``), ``recipe_striping`` (std over mean of
    the row means). Sturdier ones: ``clipped_fraction`` and ``clipping_level`` (pixels that pile up
    at the dtype's maximum or at a power of two less one, also after an offset of 32768, or at
    `full_scale`); ``hot_pixel_fraction`` (pixel minus the median of its 3x3 neighbourhood exceeds 8
    sigma, sigma being the larger of 1.4826 MAD of that response and the counting noise at the local
    median); ``hot_pixel_structure`` (the part of those that rises no more above its neighbourhood
    than structure and noise fall below theirs: within 8/3.719 of the 10^-4 quantile of that
    response); ``dead_area_fraction`` (zeros in all-zero 8x8 windows; NaN where more than half of
    the channel is zero); ``row_striping`` and ``column_striping`` (robust spread of the line means
    about their running median of 15, over the standard error expected from the pixels; about 1
    without stripes).

    Parameters
    ----------
    image
        An image, or a `Statistics`.
    full_scale
        Where the detector clips; needed for floats.

    Returns
    -------
    Dataset
        Over ``c``; lower is better. Fractions are of the valid pixels. NaN without support.

    Notes
    -----
    One read (two for floats). Counting noise is sqrt(max(median, 1)) for integers (less 32768 when
    the whole channel lies above it). For floats its unit is the smallest positive value where all
    are multiples of it, else the one that makes it equal to sigma at the median of the channel, and
    at least one count (the 10th percentile of the positive values) where 5 % of the channel is 0.
    Pixels at the image border have no 3x3 neighbourhood and are not judged.
    """
    parts = Part.MOMENTS | Part.RESPONSE | Part.DEAD
    if not isinstance(image, (Statistics, LazyStatistics)):
        parts |= Part.COLUMNS  # which pooled Statistics do without
    if full_scale is not None and not math.isfinite(full_scale):
        raise ParameterError(f"full_scale: got {full_scale!r}; pass a finite number.")
    thresholds = () if full_scale is None else (float(full_scale),)
    source = scanned(image, parts, "acquisition_artifacts", thresholds=thresholds)
    names = (
        "recipe_saturation", "recipe_hot_pixels", "recipe_dead_regions", "recipe_striping",
        "clipped_fraction", "clipping_level", "hot_pixel_fraction", "hot_pixel_structure",
        "dead_area_fraction", "row_striping", "column_striping",
    )  # fmt: skip
    return by_channel(source, channel_artifacts, names, full_scale=full_scale)


def channel_artifacts(
    statistics: Statistics, channel: int, full_scale: float | None = None
) -> dict[str, float]:
    """The variables of `acquisition_artifacts` for one channel."""
    values, state = statistics.distribution(channel), statistics.state
    dtype = np.dtype(statistics.meta.dtype)
    zeros, n = int(state.tally.table[4, channel]), values.n
    clipped, level = artifact_metrics.clipping(values, dtype, full_scale)
    found = {
        "recipe_saturation": artifact_metrics.saturation(values)[0],
        "recipe_hot_pixels": artifact_metrics.above_twice_p999(values)[0],
        "recipe_dead_regions": zeros / n if n else math.nan,
        "recipe_striping": math.nan,
        "clipped_fraction": clipped,
        "clipping_level": level,
        "row_striping": math.nan,
        "column_striping": math.nan,
    }
    assert state.artifacts is not None
    integers = layout_of(dtype) is None
    found["hot_pixel_fraction"] = artifact_metrics.hot_pixels(
        state.artifacts, channel, values, integers=integers
    )
    found["hot_pixel_structure"] = artifact_metrics.structure_hot_pixels(
        state.artifacts, channel, values, integers=integers
    )
    found["dead_area_fraction"] = artifact_metrics.dead_area(state.artifacts, channel, n, zeros)
    squares = 0.0 if state.tiles is None else float(state.tiles.box.values[2, channel].sum())
    if state.rows is not None:
        means = artifact_metrics.line_means(state.rows, channel, float(state.shift[channel]))
        found["recipe_striping"] = artifact_metrics.relative_spread(means)
        found["row_striping"] = artifact_metrics.striping(state.rows, channel, squares)
    if state.columns is not None:
        found["column_striping"] = artifact_metrics.striping(state.columns, channel, squares)
    return found
