"""Focus."""

from __future__ import annotations

from functools import partial

import xarray as xr

from gigaqc.errors import StatisticsError
from gigaqc.formulas.catalogue import chosen, parts_of
from gigaqc.formulas.record import Metric, Scope
from gigaqc.formulas.views import Settings
from gigaqc.quality.labelled import (
    Results,
    channel_results,
    labelled_results,
    scanned,
    tile_results,
    tile_variables,
)
from gigaqc.scanning import StatisticsLike
from gigaqc.statistics import Part, Statistics
from gigaqc.typing import ImageLike


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
