"""Artifacts, focus and tissue of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import xarray as xr

from gigaqc.errors import ParameterError, StatisticsError
from gigaqc.formulas.catalogue import chosen, parts_of
from gigaqc.formulas.record import Metric, Scope
from gigaqc.formulas.views import Sample, Settings
from gigaqc.graph.tasks import join
from gigaqc.image.labelled import channel_index, channel_names
from gigaqc.scanning.results import (
    Results,
    by_channel,
    channel_results,
    labelled_results,
    pixels_of,
    scalars,
    scanned,
    tile_results,
    tile_variables,
)
from gigaqc.scanning.scan import LazyStatistics, StatisticsLike, scan
from gigaqc.scanning.tissue import Method, TissueMask, check_method, tissue_pass
from gigaqc.statistics.statistics import Part, Statistics
from gigaqc.typing import ChannelLike, ImageLike


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


def focus(
    image: ImageLike | StatisticsLike, tile: int | None = None, spectrum: bool = False
) -> xr.Dataset:
    """Sharpness of each tile and of the whole channel.

    Over the pixels whose 3x3 neighbourhood lies in the image and is valid, each counted in the tile
    of its centre.

    Parameters
    ----------
    image
        An image or its path, or a `Statistics`.
    tile
        Side of the tiles in pixels; 512 unless said, or that of the `Statistics`.
    spectrum
        Compute the slope of the power spectrum too.

    Returns
    -------
    Dataset
        Dims (``c``, ``tile_y``, ``tile_x``), with ``t`` and ``z`` where the image has them; over
        ``c`` for ``whole_...``. Higher is sharper, but only between images of the same kind. NaN
        for a tile without valid neighbourhoods.

        - ``variance_of_laplacian``: population variance of the response to 0 1 0, 1 -4 1, 0 1 0;
          squared units of the image, from 0 up
        - ``tenengrad``: mean of gx^2 + gy^2, of Sobel's 1 2 1; squared units of the image, from 0
          up
        - ``whole_variance_of_laplacian``, ``whole_tenengrad``: the same over whole planes
        - ``power_log_log_slope``, with `spectrum`: slope of log mean power over log radial
          frequency, from 1/tile to 0.5 cycles a pixel; no unit, mostly -3..0, full tiles only

    Raises
    ------
    ParameterError
        A `tile` that is no whole number of at least 8, or pooled `Statistics`, which have no tiles.
    StatisticsError
        `Statistics` of other tiles than `tile`, or scanned without what this needs.
    ImageError, ImageTypeError, SourceNotFoundError, ReadError
        What is no image, or a path without one; before a pixel is read.

    Notes
    -----
    One read: edge strips are kept until the neighbouring chunks are there, so chunk borders count
    like any other pixel. Sources: CellProfiler MeasureImageQuality; squidpy.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> checkers = np.indices((32, 64)).sum(axis=0).astype("u1") % 2 * 10
    >>> found = gq.focus(checkers, tile=32).compute()
    >>> found.variance_of_laplacian.shape, found.whole_variance_of_laplacian.values.tolist()
    ((1, 1, 2), [1600.0])
    """
    maps = [
        m for m in chosen(function="focus", scope=Scope.TILE)
        if spectrum or not m.needs & Part.SPECTRUM
    ]  # fmt: skip
    wholes = chosen(function="focus", scope=Scope.CHANNEL)
    parts = parts_of([*maps, *wholes])
    source = scanned(image, parts, "focus", tile=512 if tile is None else tile, refine=False)
    if tile is not None and source.meta.tile != tile:
        raise StatisticsError(
            f"tile: got {tile}, but the Statistics were scanned with tiles of {source.meta.tile}; "
            "leave tile out, or scan the image again."
        )
    variables, coords = tile_variables(source, [m.key for m in maps])
    count = len(source.channels)
    variables |= {m.key: (("c",), (count,), m.dtype) for m in wholes}
    evaluate = partial(_focus, maps=tuple(maps), wholes=tuple(wholes))
    return labelled_results(source, evaluate, variables, coords, {"tile": source.meta.tile})


def _focus(statistics: Statistics, maps: tuple[Metric, ...], wholes: tuple[Metric, ...]) -> Results:
    whole = channel_results(statistics, wholes, Settings())
    return {**tile_results(statistics, maps), **whole}


def tissue_integrity(
    image: ImageLike, channel: ChannelLike, *, method: Method = "median", min_coverage: float = 0.3
) -> xr.Dataset:
    """How much of the image is tissue, and in how many pieces.

    Pieces are 4-connected within each ``y x`` plane, across chunks.

    Parameters
    ----------
    image
        An image or its path; a `Statistics` holds no pixels and is refused.
    channel
        Name or position of the channel that shows the tissue.
    method
        ``"median"`` (the recipe's): tissue is ``x > p50`` of the channel. ``"otsu"``: the channel
        blurred by 2 px exceeds the channel's Otsu threshold, and pieces below 64 px are not
        counted.
    min_coverage
        Least coverage that counts as intact, in 0..1.

    Returns
    -------
    Dataset
        Four scalars.

        - ``coverage``: pixels of tissue / valid pixels; no unit, 0..1, NaN without valid pixels
        - ``n_fragments``: pieces that count, over all planes; from 0 up
        - ``fragmentation``: 1 - pixels of the largest piece / pixels of all pieces that count; no
          unit, 0..1, 1 without tissue
        - ``intact``: coverage > `min_coverage` and fragmentation < 0.5; bool

    Raises
    ------
    ChannelError
        No such channel.
    ParameterError
        Another `method`, or a `min_coverage` outside of 0..1.
    StatisticsError
        A `Statistics` instead of an image.
    ImageError, ImageTypeError, SourceNotFoundError, ReadError
        What is no image, or a path without one; before a pixel is read.

    Notes
    -----
    Reads the chunks of this channel twice (floats: three times): the threshold, then the mask.
    Memory goes with the seams between chunks and not with the image. With ``median`` the coverage
    is 0.5 by construction. Sources: IMC recipe; ours.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.array([[0, 9, 0, 0], [0, 9, 0, 9]], dtype="u2")
    >>> found = gq.tissue_integrity(image, 0).compute()
    >>> found.coverage.item(), found.n_fragments.item(), round(found.fragmentation.item(), 3)
    (0.375, 2, 0.333)
    """
    check_method(method)
    if not 0 <= min_coverage <= 1:
        raise ParameterError(f"min_coverage: got {min_coverage!r}; pass a fraction in 0..1.")
    labelled = pixels_of(image, "tissue_integrity")
    index = channel_index(channel_names(labelled), channel)
    statistics = scan(labelled.isel(c=[index]), parts=Part.MOMENTS)
    found = tissue_pass(labelled, index, statistics, channel_in_statistics=0, method=method)
    settings = Settings(min_coverage=float(min_coverage))
    metrics = tuple(chosen(function="tissue_integrity"))
    evaluate = partial(tissue_scalars, metrics=metrics, settings=settings)
    whole = join("tissue-metrics", evaluate, found)
    return xr.Dataset(
        scalars(whole, {m.key: m.dtype for m in metrics}),
        attrs={"channel": channel_names(labelled)[index], "method": method},
    )


def tissue_scalars(found: TissueMask, metrics: Sequence[Metric], settings: Settings) -> Results:
    """The variables of `tissue_integrity` from a tissue pass."""
    sample = Sample(tissue=found, settings=settings)
    return {m.key: np.dtype(m.dtype).type(m.of(sample)) for m in metrics}
