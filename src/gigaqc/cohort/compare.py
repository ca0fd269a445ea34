"""Tables that compare the samples of a cohort: outliers, and drift over acquisition order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict

import numpy as np
import pandas as pd

from gigaqc.formulas.cohort import (
    RobustZ,
    compared_of_channels,
    compared_of_samples,
    drift_of,
    robust_z,
    robust_z_within,
)

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
