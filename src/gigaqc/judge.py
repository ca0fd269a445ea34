"""Rules applied to tables of metrics: the flags."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.errors import RulesError
from gigaqc.formulas.catalogue import metric_of
from gigaqc.formulas.record import Limit, Scope, Source
from gigaqc.formulas.status import Status
from gigaqc.rules import Flag, Rules
from gigaqc.unreadable import Unreadable
from gigaqc.unreadable import summary as summary_of

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
        Source.TISSUE: summary["tissue_channel"] is not None,
        Source.LABELS: not math.isnan(summary.get("n_cells", math.nan)),
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
