"""Focus."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from gigaqc.errors import StatisticsError
from gigaqc.metrics import focus as focus_metrics
from gigaqc.quality.labelled import Results, labelled_results, scanned, tile_map, tile_variables
from gigaqc.statistics import Part, Statistics

_FOCUS_TILES = ("variance_of_laplacian", "tenengrad")


_SLOPE = ("power_log_log_slope",)


def focus(image: Any, tile: int | None = None, spectrum: bool = False) -> xr.Dataset:
    """Sharpness of each tile and of the whole channel.

    ``variance_of_laplacian`` (kernel 0 1 0, 1 -4 1, 0 1 0; population variance) and ``tenengrad``
    (mean of gx^2 + gy^2, Sobel 1 2 1) over the pixels whose 3x3 neighbourhood lies in the image and
    is valid, each counted in the tile of its centre; the same over the whole plane as
    ``whole_variance_of_laplacian`` and ``whole_tenengrad``. With `spectrum`,
    ``power_log_log_slope``: slope of log mean power over log radial frequency from 1/tile to 0.5
    cycles a pixel, full tiles only.

    Parameters
    ----------
    image
        An image, or a `Statistics`.
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

    Notes
    -----
    One read: edge strips are kept until the neighbouring chunks are there, so chunk borders count
    like any other pixel. Sources: CellProfiler MeasureImageQuality; squidpy.
    """
    parts = Part.FOCUS | (Part.SPECTRUM if spectrum else Part(0))
    source = scanned(image, parts, "focus", tile=512 if tile is None else tile, refine=False)
    if tile is not None and source.meta.tile != tile:
        raise StatisticsError(
            f"tile: got {tile}, but the Statistics were scanned with tiles of {source.meta.tile}; "
            "leave tile out, or scan the image again."
        )
    variables, coords = tile_variables(source, _FOCUS_TILES + (_SLOPE if spectrum else ()))
    count = len(source.channels)
    for name in _FOCUS_TILES:
        variables[f"whole_{name}"] = (("c",), (count,), "f8")
    attrs = {"tile": source.meta.tile}
    return labelled_results(source, _focus, variables, coords, attrs)


def _focus(statistics: Statistics) -> Results:
    state = statistics.state
    assert state.focus is not None
    sums = state.focus.box.values
    whole = focus_metrics.whole(state.focus)
    found = {
        "whole_variance_of_laplacian": focus_metrics.variance_of_laplacian(whole),
        "whole_tenengrad": focus_metrics.tenengrad(whole),
    }
    if statistics.meta.sizes:
        found["variance_of_laplacian"] = tile_map(
            focus_metrics.variance_of_laplacian(sums), statistics
        )
        found["tenengrad"] = tile_map(focus_metrics.tenengrad(sums), statistics)
    if state.spectrum is not None:
        slopes = np.full(sums.shape[1:], np.nan)
        slopes[state.spectrum.box.window((0, 0, 0, 0))] = state.spectrum.box.values[0]
        found["power_log_log_slope"] = tile_map(slopes, statistics)
    return found
