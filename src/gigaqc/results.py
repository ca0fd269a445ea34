"""Tables and maps of a whole `Statistics`: what an assessment and its pictures are made of."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.distribution import Distribution
from gigaqc.metrics import focus as focus_metrics
from gigaqc.metrics.intensity import mean_and_std
from gigaqc.quality.artifacts import channel_artifacts
from gigaqc.quality.channels import channel_correlation
from gigaqc.quality.histograms import even_edges
from gigaqc.quality.intensity import channel_range, channel_snr
from gigaqc.quality.labelled import tile_dims, tile_map
from gigaqc.statistics import Part, Statistics

DISPLAY_BINS = 128
_DRAWABLE = 1e300  # beyond, an axis cannot be drawn


def channel_table(statistics: Statistics, full_scale: float | None) -> pd.DataFrame:
    """One row a channel: every metric, and what it was computed from."""
    statistics.require(Part.ALL & ~Part.COLUMNS, "assess")
    state = statistics.state
    assert state.focus is not None
    whole = focus_metrics.whole(state.focus)
    laplacian = focus_metrics.variance_of_laplacian(whole)
    gradient = focus_metrics.tenengrad(whole)
    rows = []
    for c in range(len(statistics.channels)):
        values, tally = statistics.distribution(c), state.tally.table[:, c]
        n = values.n
        rows.append(
            {
                **channel_snr(statistics, c),
                **channel_artifacts(statistics, c, full_scale),
                **channel_range(statistics, c),
                "whole_variance_of_laplacian": laplacian[c],
                "whole_tenengrad": gradient[c],
                "mean": values.mean,
                "std": values.std,
                "min": values.minimum,
                "max": values.maximum,
                "zero_fraction": tally[4] / n if n else np.nan,
                "n_valid": n,
                "n_excluded": int(tally[0]) - n,
            }
        )
    return pd.DataFrame(rows, index=pd.Index(statistics.channels, name="channel"))


def correlation_table(statistics: Statistics) -> xr.DataArray:
    """Correlation of the channels."""
    return channel_correlation(statistics)


def tile_maps(statistics: Statistics, channels: pd.DataFrame) -> xr.Dataset:
    """Maps of the tiles; empty for a pool of images, which has none."""
    meta, state = statistics.meta, statistics.state
    dims = tile_dims(meta)
    if state.tiles is None or not meta.sizes:
        return xr.Dataset(coords={"c": statistics.channels})
    n, total, squares, zeros = state.tiles.box.values
    largest, at_largest = state.tiles.largest.values

    def wide(values: np.ndarray) -> np.ndarray:
        return np.asarray(values, "f8").reshape(-1, 1, 1, 1, 1)

    mean, std = mean_and_std(n, total, squares, wide(state.shift))
    with np.errstate(divide="ignore", invalid="ignore"):
        level = wide(channels["clipping_level"].to_numpy())
        clipped = np.where(largest >= level, at_largest, 0.0) / n
        unknown = wide(channels["clipped_fraction"].isna().to_numpy()).astype(bool)
        maps = {
            "mean": mean,
            "std": std,
            "zero_fraction": zeros / n,
            "clipped_fraction": np.where(unknown, np.nan, clipped),
            "snr": mean / wide(channels["noise"].to_numpy()),
            "local_snr": mean / std,
        }
    assert state.focus is not None
    sums = state.focus.box.values
    maps["variance_of_laplacian"] = focus_metrics.variance_of_laplacian(sums)
    maps["tenengrad"] = focus_metrics.tenengrad(sums)
    data = {name: (dims, tile_map(values, statistics)) for name, values in maps.items()}
    return xr.Dataset(data, coords={"c": statistics.channels}, attrs={"tile": meta.tile})


def display_edges(values: Distribution, *, integers: bool) -> np.ndarray:
    """Edges of the bins that are drawn; of integers each bin holds as many of them."""
    if not integers or not values.n:
        low, high = np.clip((values.minimum, values.maximum), -_DRAWABLE, _DRAWABLE)
        return even_edges(low, high, DISPLAY_BINS)
    width = math.ceil((values.maximum - values.minimum + 1) / DISPLAY_BINS)
    return values.minimum - 0.5 + width * np.arange(DISPLAY_BINS + 1)


def display_histograms(statistics: Statistics) -> xr.Dataset:
    """Counts of 128 bins from the smallest to the largest value of each channel."""
    counts, edges = [], []
    for c in range(len(statistics.channels)):
        values = statistics.distribution(c)
        bins = display_edges(values, integers=statistics.meta.dtype.startswith(("int", "uint")))
        middle = values.low / 2 + values.high / 2
        counts.append(np.histogram(middle, bins, weights=values.counts)[0].astype("i8"))
        edges.append(bins)
    return xr.Dataset(
        {"counts": (("c", "bin"), np.stack(counts)), "edges": (("c", "edge"), np.stack(edges))},
        coords={"c": statistics.channels},
    )


def thumbnails(statistics: Statistics) -> xr.DataArray:
    """Mean of each small cell, over t and z; NaN where nothing is valid."""
    thumbnail = statistics.state.thumbnail
    if thumbnail is None:
        empty = np.zeros((len(statistics.channels), 0, 0), "f4")
        return xr.DataArray(empty, dims=("c", "y", "x"), coords={"c": statistics.channels})
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = thumbnail.total.values / thumbnail.n.values + statistics.state.shift[:, None, None]
    mean = np.clip(mean, np.finfo("f4").min / 4, np.finfo("f4").max / 4).astype("f4")
    return xr.DataArray(
        mean,
        dims=("c", "y", "x"),
        coords={"c": statistics.channels},
        attrs={"cell": thumbnail.side},
    )
