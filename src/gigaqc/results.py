"""Tables and maps of a whole `Statistics`: what an assessment and its pictures are made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.distribution import Distribution
from gigaqc.formulas.catalogue import chosen
from gigaqc.formulas.record import Metric, Scope, Source
from gigaqc.formulas.views import Channel, Sample, Settings
from gigaqc.quality.channels import channel_correlation
from gigaqc.quality.histograms import even_edges
from gigaqc.quality.labelled import channel_results, tile_dims, tile_results
from gigaqc.statistics import Part, Statistics

DISPLAY_BINS = 128
_DRAWABLE = 1e300  # beyond, an axis cannot be drawn


def channel_table(statistics: Statistics, settings: Settings) -> pd.DataFrame:
    """One row a channel: every metric that is assessed."""
    statistics.require(Part.ALL & ~Part.COLUMNS, "assess")
    metrics = chosen(scope=Scope.CHANNEL, assessed=True)
    index = pd.Index(statistics.channels, name="channel")
    return pd.DataFrame(channel_results(statistics, metrics, settings), index=index)


def error_table(sample: Sample, name: str) -> dict[tuple[str, str], float]:
    """Standard errors of the metrics that know theirs, by name of what is judged, and key."""
    statistics, settings = sample.statistics, sample.settings
    assert statistics is not None
    found = {}
    for m in chosen(assessed=True):
        if m.error is None or not _is_there(m, sample):
            continue
        if m.scope is Scope.SAMPLE:
            found[name, m.key] = float(m.error(sample))
        elif m.scope is Scope.CHANNEL:
            for c, channel in enumerate(statistics.channels):
                found[channel, m.key] = float(m.error(Channel(statistics, c, settings)))
    return found


def sample_numbers(sample: Sample) -> dict[str, Any]:
    """Every assessed metric of a sample, of what there is; without tissue or labels NaN or none."""
    found: dict[str, Any] = {}
    for m in chosen(scope=Scope.SAMPLE, assessed=True):
        if m.source is Source.LABELS and sample.objects is None and m.key != "n_cells":
            continue
        if not _is_there(m, sample):
            found[m.key] = None if m.kind == "flag" else math.nan
            continue
        found[m.key] = m.number_of(sample)
    return found


def _is_there(metric: Metric, sample: Sample) -> bool:
    """Whether a sample has what a metric is made from."""
    missing = {Source.LABELS: sample.objects is None, Source.TISSUE: sample.tissue is None}
    return not missing.get(metric.source, False)


def correlation_table(statistics: Statistics) -> xr.DataArray:
    """Correlation of the channels."""
    return channel_correlation(statistics)


def tile_maps(statistics: Statistics, channels: pd.DataFrame) -> xr.Dataset:
    """Maps of the tiles; empty for a pool of images, which has none."""
    meta, state = statistics.meta, statistics.state
    if state.tiles is None or not meta.sizes:
        return xr.Dataset(coords={"c": statistics.channels})
    dims = tile_dims(meta)
    maps = tile_results(statistics, chosen(scope=Scope.TILE, assessed=True), channels)
    data = {name: (dims, values) for name, values in maps.items()}
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
