"""Acquisition artifacts of each channel."""

from __future__ import annotations

import math

import xarray as xr

from gigaqc.errors import ParameterError
from gigaqc.formulas.catalogue import chosen, parts_of
from gigaqc.formulas.views import Settings
from gigaqc.quality.labelled import by_channel, scanned
from gigaqc.scanning import LazyStatistics, StatisticsLike
from gigaqc.statistics import Part, Statistics
from gigaqc.typing import ImageLike


def acquisition_artifacts(
    image: ImageLike | StatisticsLike, *, full_scale: float | None = None
) -> xr.Dataset:
    """Saturation, hot pixels, dead areas and stripes of each channel.

    Parameters
    ----------
    image
        An image or its path, or a `Statistics`.
    full_scale
        Where the detector clips; needed for floats.

    Returns
    -------
    Dataset
        Over ``c``; lower is better. Fractions are of the valid pixels, without unit, in 0..1. NaN
        without support.

        The recipe's:

        - ``recipe_saturation``: fraction of ``x >= 0.99 max``
        - ``recipe_hot_pixels``: fraction of ``x > 2 p99.9``
        - ``recipe_dead_regions``: fraction of ``x == 0``
        - ``recipe_striping``: std / mean of the row means; no unit

        Sturdier ones:

        - ``clipped_fraction``: fraction of pixels that pile up at the dtype's maximum or at a power
          of two less one, also after an offset of 32768, or at `full_scale`
        - ``clipping_level``: where they do; units of the image
        - ``hot_pixel_fraction``: fraction of pixels whose response, x minus the median of their 3x3
          neighbourhood, exceeds 8 sigma: the larger of 1.4826 MAD of the response and the counting
          noise at the local median
        - ``hot_pixel_structure``: the part of those that rises no more above its neighbourhood than
          structure and noise fall below theirs, within 8/3.719 of the 10^-4 quantile of the
          response; 0..1
        - ``dead_area_fraction``: fraction of zeros in all-zero 8x8 windows; NaN where more than
          half of the channel is zero
        - ``row_striping``: robust spread of the row means about their running median of 15, over
          the standard error expected from the pixels; no unit, about 1 without stripes
        - ``column_striping``: the same of the columns

    Raises
    ------
    ParameterError
        A `full_scale` that is not finite.
    StatisticsError
        A `Statistics` that was scanned without what this needs.
    ImageError, ImageTypeError, SourceNotFoundError, ReadError
        What is no image, or a path without one; before a pixel is read.

    Notes
    -----
    One read (two for floats). Counting noise is sqrt(max(median, 1)) for integers (less 32768 when
    the whole channel lies above it). For floats its unit is the smallest positive value where all
    are multiples of it, else the one that makes it equal to sigma at the median of the channel, and
    at least one count (the 10th percentile of the positive values) where 5 % of the channel is 0.
    Pixels at the image border have no 3x3 neighbourhood and are not judged.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.random.default_rng(0).poisson(50, (100, 100)).astype("u1")
    >>> image[40, 60], image[:5] = 250, 255
    >>> found = gq.acquisition_artifacts(image).compute()
    >>> found.clipped_fraction.item(), found.clipping_level.item(), found.hot_pixel_fraction.item()
    (0.05, 255.0, 0.0001)
    """
    if full_scale is not None and not math.isfinite(full_scale):
        raise ParameterError(f"full_scale: got {full_scale!r}; pass a finite number.")
    metrics = chosen(function="acquisition_artifacts")
    parts = parts_of(metrics)
    if isinstance(image, (Statistics, LazyStatistics)):
        parts &= ~Part.COLUMNS  # which pools do without
    thresholds = () if full_scale is None else (float(full_scale),)
    source = scanned(image, parts, "acquisition_artifacts", thresholds=thresholds)
    return by_channel(source, metrics, Settings(full_scale=full_scale))
