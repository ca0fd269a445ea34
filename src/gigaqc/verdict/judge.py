"""Tables of metrics, and the rules applied to them: the flags."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.errors import RulesError
from gigaqc.formulas.catalogue import chosen, metric_of
from gigaqc.formulas.record import Basis, Limit, Metric, Scope, Status
from gigaqc.formulas.rules import Flag, Rules
from gigaqc.formulas.views import Channel, Sample, Settings
from gigaqc.quality.channels import channel_correlation, even_edges
from gigaqc.scanning.results import channel_results, tile_dims, tile_results
from gigaqc.statistics.distribution import Distribution
from gigaqc.statistics.statistics import Part, Statistics
from gigaqc.statistics.unreadable import Unreadable
from gigaqc.statistics.unreadable import summary as summary_of

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
        if m.source is Basis.LABELS and sample.objects is None and m.key != "n_cells":
            continue
        if not _is_there(m, sample):
            found[m.key] = None if m.kind == "flag" else math.nan
            continue
        found[m.key] = m.number_of(sample)
    return found


def _is_there(metric: Metric, sample: Sample) -> bool:
    """Whether a sample has what a metric is made from."""
    missing = {Basis.LABELS: sample.objects is None, Basis.TISSUE: sample.tissue is None}
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


_COLOURS = {"R", "G", "B"}

Errors = Mapping[tuple[str, str], float]
"""One standard error by name of what is judged, and metric."""


def _flag(limit: Limit, name: str, value: float, error: float = math.nan) -> list[Flag]:
    verdict = limit.judge(value)
    if verdict is None:
        return []
    status, held = verdict
    scope, side = str(limit.scope), str(limit.side)
    return [Flag(scope, name, limit.metric, value, error, held, side, status)]


def judge_channels(
    rules: Rules, channels: pd.DataFrame, *, planes: int = 1, errors: Errors | None = None
) -> list[Flag]:
    """Flags of each channel; `planes` is how many each of its lines runs through."""
    limits = rules.for_scope(Scope.CHANNEL)
    _check_known(limits, channels)
    flags = []
    for name, row in channels.to_dict("index").items():
        for limit in limits:
            floor = metric_of(limit.metric).floor
            fitted = limit if floor is None else floor(limit, row, planes)
            error = (errors or {}).get((str(name), limit.metric), math.nan)
            flags += _flag(fitted, str(name), float(row[limit.metric]), error)
    return flags


def _check_known(limits: Iterable[Limit], there: Container[str]) -> None:
    """Refuse rules that name what nobody measured, such as a metric that was removed."""
    for limit in limits:
        if limit.metric not in there:
            raise RulesError(
                f"rules: they judge {limit.metric!r}, which is no metric of this process; add it "
                "with gq.add_metric, or leave the limit out."
            )


def judge_sample(
    rules: Rules,
    summary: Mapping[str, Any] | pd.Series,
    name: str,
    unreadable: Unreadable | None = None,
    errors: Errors | None = None,
) -> list[Flag]:
    """Flags of the sample; tissue and objects are judged where they were looked for."""
    there = {
        Basis.TISSUE: summary["tissue_channel"] is not None,
        Basis.LABELS: not math.isnan(summary.get("n_cells", math.nan)),
    }
    flags = []
    for limit in rules.for_scope(Scope.SAMPLE):
        if not there.get(metric_of(limit.metric).source, True):
            continue
        if limit.metric == "unreadable_fraction" and not unreadable:
            continue
        _check_known([limit], summary)
        error = (errors or {}).get((name, limit.metric), math.nan)
        value = summary[limit.metric]
        flags += _flag(limit, name, math.nan if value is None else float(value), error)
    return [_named(flag, unreadable) for flag in flags]


def _named(flag: Flag, unreadable: Unreadable | None) -> Flag:
    """With the chunks that could not be read, where it is about them."""
    about_chunks = flag.metric == "unreadable_fraction" and flag.status is not Status.PASS
    if not about_chunks or unreadable is None:
        return flag
    return replace(flag, note=summary_of(unreadable))


def judge_pairs(
    rules: Rules, correlation: xr.DataArray, expected: Iterable[tuple[str, ...]]
) -> list[Flag]:
    """Flags of pairs of channels; only those beyond a limit, and not the colours of one camera."""
    names = [str(n) for n in correlation.coords["c"].values]
    allowed = {frozenset(pair) for pair in expected}
    r = np.asarray(correlation.values)
    flags = []
    for limit in rules.for_scope(Scope.PAIR):
        for i, first in enumerate(names):
            for j in range(i + 1, len(names)):
                pair = frozenset((first, names[j]))
                if pair in allowed or pair <= _COLOURS or math.isnan(r[i, j]):
                    continue
                found = _flag(limit, f"{first} / {names[j]}", float(r[i, j]))
                flags += [f for f in found if f.status is not Status.PASS]
    return flags
