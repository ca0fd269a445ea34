"""The rows of a cohort: numbers of each sample, compared and judged."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from sys import intern
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.cohort.plan import Entry, Options
from gigaqc.formulas.cohort import (
    TEXT_COLUMNS,
    RobustZ,
    artifacts,
    boolean_columns,
    compared_of_channels,
    compared_of_samples,
    drift_of,
    integer_columns,
    medians,
    of_sample,
    robust_z,
    robust_z_within,
    summary_columns,
)
from gigaqc.formulas.rules import Rules
from gigaqc.image.labelled import channel_index, channel_names, writable_name
from gigaqc.scanning.tissue import TissueMask, tissue_pass
from gigaqc.verdict import progress as progress_bar
from gigaqc.verdict.assessment import Assessment, assess, judged, kept_at

_LONGEST = 1000  # characters of an error


def about(entry: Entry) -> dict[str, Any]:
    """What a row holds of any sample, also of one that fails."""
    return {
        "sample": entry.name,
        "batch": entry.batch,
        "order": entry.order,
        "source": entry.shown or None,
        "element": entry.element,
    }


def failed_row(entry: Entry, error: BaseException) -> dict[str, Any]:
    """The row of a sample that could not be assessed."""
    return {**about(entry), "error": one_line(error)}


def one_line(error: BaseException) -> str:
    """An error as one line of text."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def summary_row(entry: Entry, report: Mapping[str, Any], *, page: bool) -> dict[str, Any]:
    """The row of a sample, from its report (`Assessment.to_dict`)."""
    channels, flags = report["channels"], report["flags"]
    summary = report["summary"]
    counted = artifacts()
    found = sum(
        f["scope"] == "channel" and f["metric"] in counted and f["status"] != "PASS" for f in flags
    )
    numbers = {column: _number(summary.get(key)) for column, key in of_sample().items()}
    over_channels = {
        column: _median([_number(values.get(metric)) for values in channels.values()])
        for column, metric in medians().items()
    }
    return {
        **about(entry),
        **numbers,
        **over_channels,
        "status": report["status"],
        "pass_qc": bool(report["passed"]),
        "n_artifacts": float(found),
        "n_flags": _number(summary["n_flags"]),
        "results": entry.files.name,
        "page": f"{entry.files.name}.html" if page else None,
    }


@dataclass(frozen=True)
class ChannelRows:
    """The metrics of a sample's channels; a table for each sample would be most of the memory."""

    sample: str
    channels: tuple[str, ...]
    metrics: tuple[str, ...]
    numbers: np.ndarray  # (channel, metric)
    status: tuple[str, ...]


def channel_rows(entry: Entry, report: Mapping[str, Any]) -> ChannelRows:
    """The metrics of a sample's channels."""
    rows = report["channels"]
    metrics = tuple(name for name in next(iter(rows.values())) if name != "status")
    numbers = np.array([[_number(row[name]) for name in metrics] for row in rows.values()], "f8")
    status = tuple(row["status"] for row in rows.values())
    return ChannelRows(entry.name, tuple(map(intern, rows)), tuple(map(intern, metrics)),
                       numbers, tuple(map(intern, status)))  # fmt: skip


def _number(value: Any) -> float:
    """A number as JSON holds it: null is NaN, infinities are text."""
    return math.nan if value is None else float(value)


def _median(values: Sequence[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return float(np.median(finite)) if finite else math.nan


def summary_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The summary of a cohort: one row a sample, always with the same columns and types."""
    columns = summary_columns()
    data = {column: [row.get(column) for row in rows] for column in columns}
    return typed(pd.DataFrame(data, columns=columns))


def channel_table(parts: Sequence[ChannelRows]) -> pd.DataFrame:
    """The long table of all channels of all samples."""
    if not parts:
        return pd.DataFrame({"sample": pd.Series([], dtype=object), "channel": []}).astype(object)
    tables = [_table(list(run)) for _, run in itertools.groupby(parts, key=lambda p: p.metrics)]
    return typed(pd.concat(tables, ignore_index=True))


def _table(parts: Sequence[ChannelRows]) -> pd.DataFrame:
    """Of samples with the same metrics."""
    table = pd.DataFrame(np.concatenate([p.numbers for p in parts]), columns=parts[0].metrics)
    table.insert(0, "sample", [p.sample for p in parts for _ in p.channels])
    table.insert(1, "channel", [channel for p in parts for channel in p.channels])
    table["status"] = [status for p in parts for status in p.status]
    return table


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the types that its columns always have, whatever it holds."""
    columns: dict[str, Any] = {}
    whole, flags = integer_columns(), boolean_columns()
    for name in table.columns:
        values = table[name]
        if name in TEXT_COLUMNS:
            text = [None if pd.isna(v) else writable_name(v) for v in values]
            columns[str(name)] = pd.Series(text, dtype=object)
        elif name in whole:
            numbers = pd.to_numeric(values)
            whole_ones = (numbers.dropna() % 1 == 0).all()
            columns[str(name)] = numbers.astype("Int64" if whole_ones else "f8")
        elif name in flags:
            known = values.map(lambda v: pd.NA if pd.isna(v) else bool(v))
            columns[str(name)] = known.astype("boolean")
        else:
            columns[str(name)] = values.astype("f8")
    return pd.DataFrame(columns)


ExpectedPairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Opened:
    """The lazy images of a sample."""

    image: xr.DataArray
    labels: Any

    @classmethod
    def of(cls, entry: Entry, options: Options) -> Opened:
        """Opened; no pixel is read."""
        return cls(entry.open(options), None if entry.labels is None else entry.labels.open())


def judge(
    entry: Entry,
    opened: Opened,
    options: Options,
    rules: Rules,
    pairs: ExpectedPairs,
    *,
    show: bool,
) -> Assessment:
    """Read a sample and judge it."""
    image = opened.image
    return assess(
        image,
        labels=opened.labels,
        tissue=entry.tissue,
        rules=rules,
        tile=options.tile,
        expected_pairs=known(pairs, channel_names(image)),
        full_scale=options.full_scale,
        on_error=options.on_error,
        name=entry.name,
        progress=show,
    )


def judge_again(
    entry: Entry, options: Options, rules: Rules, pairs: ExpectedPairs, *, show: bool
) -> tuple[Assessment, bool]:
    """Judge what was kept of a sample; whether tissue had to be found anew.

    Rules that find tissue in another way need it anew: the tissue channel is read once, with the
    thresholds from the statistics. Otherwise no pixel is read.
    """
    kept = kept_at(entry.files.path(".zarr"))
    parameters = kept.provenance["parameters"]
    parameters["expected_pairs"] = [list(p) for p in known(pairs, kept.statistics.channels)]
    tissue, anew = kept.tissue, False
    if parameters["tissue_method"] not in (None, rules.tissue_method):
        tissue, anew = _tissue(entry, options, rules, kept, show=show), True
        parameters["tissue_method"] = rules.tissue_method
    return judged(kept.statistics, tissue, rules, entry.name, kept.provenance), anew


def _tissue(entry: Entry, options: Options, rules: Rules, kept: Any, *, show: bool) -> TissueMask:
    image, channels = entry.open(options), kept.statistics.channels
    at = channel_index(channels, kept.provenance["parameters"]["tissue"], "tissue")
    found = tissue_pass(
        image,
        at,
        kept.statistics,
        channel_in_statistics=at,
        method=rules.tissue_method,
        guard=options.on_error == "mask",
    )
    n_bytes = image.isel(c=at).nbytes
    (mask,) = progress_bar.compute("reading the tissue channel", n_bytes, found, show=show)
    return mask


def known(pairs: Iterable[tuple[str, str]], channels: list[str]) -> ExpectedPairs:
    """Pairs of channels that a sample has: panels of a cohort may differ."""
    return [pair for pair in pairs if set(pair) <= set(channels)]


OUTLIER_COLUMNS = (
    "sample", "channel", "metric", "value", "median", "z", "batch", "batch_median", "batch_z",
)  # fmt: skip
DRIFT_COLUMNS = ("channel", "metric", "n", "slope", "slope_low", "slope_high", "rho", "p")


def compared(summary: pd.DataFrame, channels: pd.DataFrame) -> pd.DataFrame:
    """Every value that is compared, in long form: numbers of samples, then of their channels.

    Columns: ``sample channel metric value order batch``; `channel` is None for a sample's own.
    """
    done = summary[summary["error"].isna()]
    about = done[["sample", "order", "batch"]].set_index("sample")
    of_samples = _long(done, filter(done.columns.__contains__, compared_of_samples()))
    of_channels = _long(channels, filter(channels.columns.__contains__, compared_of_channels()))
    table = pd.concat([of_samples, of_channels], ignore_index=True)
    for name in about:
        table[name] = about[name].reindex(table["sample"]).to_numpy()
    return table


def _long(table: pd.DataFrame, metrics: Iterable[str]) -> pd.DataFrame:
    """A row a value, metric by metric; a table without channels has None there."""
    keys, n = list(metrics), len(table)
    named = table["channel"] if "channel" in table else pd.Series([None] * n, dtype=object)
    values = [table[key].to_numpy("f8", na_value=np.nan) for key in keys]
    return pd.DataFrame(
        {
            "sample": np.tile(table["sample"].to_numpy(object), len(keys)),
            "channel": np.tile(named.to_numpy(object), len(keys)),
            "metric": np.repeat(np.array(keys, object), n),
            "value": np.concatenate(values) if keys else np.empty(0),
        }
    )


def outlier_table(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Values with ``|z|`` from the threshold on, over all or within their batch, by that size."""
    found = []
    batches = bool(table["batch"].notna().any())
    for _, group in _groups(table):
        values = group["value"].to_numpy()
        over_all, within = robust_z(values), RobustZ.empty(len(values))
        if batches:
            own = [None if b is None or b != b else b for b in group["batch"]]
            within = robust_z_within(values, own)
        size = np.fmax(np.abs(over_all.z), np.abs(within.z))
        far = size >= threshold  # False for NaN
        if far.any():
            part = group.assign(
                median=over_all.median, z=over_all.z, batch_median=within.median,
                batch_z=within.z, size=size,
            )  # fmt: skip
            found.append(part[far])
    if not found:
        return pd.DataFrame(columns=list(OUTLIER_COLUMNS))
    ranked = pd.concat(found).sort_values("size", ascending=False, kind="stable")
    return ranked[list(OUTLIER_COLUMNS)].reset_index(drop=True)


def drift_table(table: pd.DataFrame, *, channels: bool) -> pd.DataFrame:
    """Slope and rank correlation of each metric over acquisition order, the surest first."""
    if not channels:
        table = table[table["channel"].isna()]
    rows = []
    for (metric, channel), group in _groups(table):
        drift = drift_of(group["value"], group["order"])
        rows.append({"channel": channel, "metric": metric, **asdict(drift)})
    found = pd.DataFrame(rows, columns=list(DRIFT_COLUMNS))
    return found.sort_values("p", kind="stable", na_position="last").reset_index(drop=True)


def _groups(table: pd.DataFrame) -> Iterator[tuple[tuple[str, str | None], pd.DataFrame]]:
    """Values of one metric of one channel, or of the samples themselves."""
    for (metric, channel), group in table.groupby(["metric", "channel"], dropna=False, sort=False):
        yield (str(metric), channel if isinstance(channel, str) else None), group
