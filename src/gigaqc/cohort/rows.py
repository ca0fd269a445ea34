"""Rows of a cohort's tables, from what the JSON file of a sample holds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any

import numpy as np
import pandas as pd

from gigaqc.cohort.plan import Entry
from gigaqc.formulas.cohort import (
    TEXT_COLUMNS,
    artifacts,
    boolean_columns,
    integer_columns,
    medians,
    of_sample,
    summary_columns,
)
from gigaqc.image import writable_name

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
