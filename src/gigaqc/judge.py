"""Rules applied to tables of metrics: the flags."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.rules import OBJECT_METRICS, Limit, Rules, Scope, Status, sentence
from gigaqc.unreadable import Unreadable
from gigaqc.unreadable import summary as summary_of

_NOISE_SIGMAS = 4.0
_ORDINARY_ZEROS = 0.01  # outside dead areas
_COLOURS = {"R", "G", "B"}


@dataclass(frozen=True)
class Flag:
    """One judgement."""

    scope: str
    name: str
    metric: str
    value: float
    limit: float
    status: Status
    reason: str

    def row(self) -> dict[str, Any]:
        """As a row of the table of flags."""
        return {**self.__dict__, "status": str(self.status)}


def _flag(limit: Limit, name: str, value: float) -> list[Flag]:
    verdict = limit.judge(value)
    if verdict is None:
        return []
    status, held = verdict
    reason = sentence(limit, status, value, held)
    return [Flag(str(limit.scope), name, limit.metric, value, held, status, reason)]


def judge_channels(rules: Rules, channels: pd.DataFrame, *, planes: int = 1) -> list[Flag]:
    """Flags of each channel; `planes` is how many each of its lines runs through."""
    flags = []
    for name, row in channels.iterrows():
        for limit in rules.for_scope(Scope.CHANNEL):
            fitted = _fitted(limit, row, planes)
            flags += _flag(fitted, str(name), float(row[limit.metric]))
    return flags


def _fitted(limit: Limit, row: pd.Series, planes: int) -> Limit:
    """The limit for one channel: above what its own noise and structure explain."""
    if limit.metric == "autocorrelation_snr":
        # Of n pixels of pure noise, r scatters by about 1/sqrt(2 n).
        r = min(_NOISE_SIGMAS / math.sqrt(max(2.0 * row["n_valid"], 1.0)), 0.99)
        return limit.raised(at_least=r / (1.0 - r))
    if limit.metric == "hot_pixel_fraction" and row["hot_pixel_structure"] > 0:
        return limit.raised(by=row["hot_pixel_structure"])
    if limit.metric == "dead_area_fraction":
        # Where zeros are ordinary (counting data), two of them meet that often by chance, and an
        # empty part of the specimen looks dead too: no reason to fail.
        elsewhere = row["zero_fraction"] - row["dead_area_fraction"]
        counting = replace(limit, fail=None) if elsewhere > _ORDINARY_ZEROS else limit
        return counting.raised(at_least=elsewhere**2) if elsewhere > 0 else limit
    if limit.metric in ("row_striping", "column_striping"):
        # Over p planes of one scene its structure adds up, and the expected error falls.
        return limit.raised(times=math.sqrt(planes))
    return limit


def judge_sample(
    rules: Rules, summary: pd.Series, name: str, unreadable: Unreadable | None = None
) -> list[Flag]:
    """Flags of the sample; tissue and objects are judged where they were looked for."""
    tissue = summary["tissue_channel"] is not None
    labels = not math.isnan(summary.get("n_cells", math.nan))
    flags = []
    for limit in rules.for_scope(Scope.SAMPLE):
        if limit.metric == "unreadable_fraction":
            found = _flag(limit, name, float(summary[limit.metric])) if unreadable else []
            flags += [_named(flag, unreadable) for flag in found]
            continue
        if not (labels if limit.metric in OBJECT_METRICS else tissue):
            continue
        flags += _flag(limit, name, float(summary[limit.metric]))
    return flags


def _named(flag: Flag, unreadable: Unreadable | None) -> Flag:
    """With the chunks that could not be read in its reason."""
    if flag.status is Status.PASS or unreadable is None:
        return flag
    return replace(flag, reason=f"{summary_of(unreadable)}. {flag.reason}")


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
