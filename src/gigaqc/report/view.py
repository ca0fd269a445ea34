"""What the page shows, as plain records: made from an assessment, read by the templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gigaqc.formulas.catalogue import chosen, metric_of
from gigaqc.formulas.record import Basis, Metric, Scope, Status, status_of
from gigaqc.formulas.rules import Flag
from gigaqc.plot import printable
from gigaqc.report.words import (
    MISSING,
    Name,
    as_number,
    count_of,
    format_value,
    is_missing,
    name_of,
    text_of,
)

_REASONS_SHOWN = 6
_NAMES_SHOWN = 8
_FACT_LENGTH = 20
_WHOLE = ("image", "sample")  # scopes of flags that are about all of it
_UNEXPECTED = 0.7  # as in gq.unexpected_correlations and gq.pl.correlation


@dataclass(frozen=True, slots=True)
class Link:
    """A channel's name with the anchor of its card; no anchor where there is no card."""

    name: Name
    anchor: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Flags of one metric and status, told once."""

    status: Status
    title: str
    text: str
    cure: str
    measured: str
    channels: tuple[Link, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict in words, with the reasons that count most first."""

    status: Status
    headline: str
    advice: str
    reasons: tuple[Reason, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Fact:
    """A labelled value."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of the channel table: its text, what it sorts by, and the verdict on it."""

    text: str
    order: str
    status: Status
    primary: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One channel of the table."""

    link: Link
    status: Status
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class FlagRow:
    """One verdict on one number: what it says (empty where it passed), and what to do."""

    key: str
    status: Status
    scope: str
    link: Link
    metric: str
    value: str
    measured: bool
    limit: str
    text: str
    cure: str


@dataclass(frozen=True, slots=True)
class FlagGroup:
    """Flags that say the same of several channels."""

    status: Status
    metric: str
    text: str
    cure: str
    rows: tuple[FlagRow, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A button above a table: rows of these severities, or all where there are none."""

    label: str
    count: int
    severities: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a number is computed, the limits it was judged by, and what to do beyond them."""

    metric: Metric
    limits: str
    cure: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two channels and how they correlate."""

    first: Link
    second: Link
    text: str
    note: str


def links(assessment: Any) -> dict[str, Link]:
    """Every channel's link by its name as the tables have it."""
    names = [str(n) for n in assessment.channels.index]
    return {n: Link(name_of(n), f"channel-{i}") for i, n in enumerate(names)}


def channel_statuses(assessment: Any) -> dict[str, Status]:
    """Each channel's status: its own column, else the worst of its flags."""
    table = assessment.channels
    found = {str(n): Status.NONE for n in table.index}
    if "status" in table.columns:
        found = {str(n): status_of(s) for n, s in zip(table.index, table["status"], strict=True)}
    for flag in _flags(assessment):
        if found.get(flag.name) is Status.NONE:
            found[flag.name] = flag.status
    return found


def verdict(assessment: Any) -> Verdict:
    """The verdict and its reasons, the worst first, each metric told once."""
    status = status_of(assessment.status)
    if status is Status.NONE:
        status = Status.PASS if assessment.passed else Status.FAIL
    grouped: dict[tuple[Status, str], list[Flag]] = {}
    for flag in _flags(assessment):
        if flag.status.is_bad:
            grouped.setdefault((flag.status, flag.metric), []).append(flag)
    ordered = sorted(grouped, key=lambda k: (-k[0].severity, -len(grouped[k])))
    known = links(assessment)
    reasons = tuple(_reason(k[0], k[1], grouped[k], known) for k in ordered[:_REASONS_SHOWN])
    headline, advice = _headline(assessment, status)
    return Verdict(status, headline, advice, reasons, max(0, len(ordered) - _REASONS_SHOWN))


def _headline(assessment: Any, status: Status) -> tuple[str, str]:
    own = channel_statuses(assessment)
    total = len(own)
    failed = sum(s is Status.FAIL for s in own.values())
    warned = sum(s is Status.WARN for s in own.values())
    touched = [f"{failed} failed"] if failed else []
    if warned:
        touched.append(f"{warned} {'needs' if warned == 1 else 'need'} a look")
    tally = f"Of {count_of(total, 'channel')}, {' and '.join(touched)}. " if touched else ""
    if status is Status.PASS:
        if touched:
            return "This image passed", f"{tally}The reasons are below."
        return "This image passed", f"No check found a problem in {count_of(total, 'channel')}."
    if status is Status.WARN:
        return "Usable, with care", f"{tally}Look at the reasons below before you measure."
    return "Do not use this image as it is", f"{tally}The reasons below say what to do."


def _reason(status: Status, key: str, flags: Sequence[Flag], known: Mapping[str, Link]) -> Reason:
    named = list(dict.fromkeys(f.name for f in flags if f.name))
    named = [n for n in named if n in known or len(flags) > 1 or flags[0].scope not in _WHOLE]
    shown = tuple(known.get(n, Link(name_of(n), "")) for n in named[:_NAMES_SHOWN])
    texts = [t for f in flags if (t := _found(f))]
    text = texts[0] if texts else ""
    if len(set(texts)) > 1:
        text = f"For example: {text}"
    more = max(0, len(named) - _NAMES_SHOWN)
    measured = _measured(key, flags)
    return Reason(status, metric_of(key).label, text, flags[0].cure, measured, shown, more)


def _found(flag: Flag) -> str:
    """What a flag says was found, with what else there is to know."""
    note = f"{flag.note}." if flag.note and flag.found else ""
    return text_of(" ".join(filter(None, (note, flag.found))))


def _measured(key: str, flags: Sequence[Flag]) -> str:
    """The values and the limits that flags were held against, as ranges."""
    kind = metric_of(key).kind
    parts = []
    for word, values in (
        ("measured", [f.value for f in flags]),
        ("limit", [f.limit for f in flags]),
    ):
        numbers = [n for n in values if not np.isnan(n)]
        if not numbers:
            return ""
        ends = dict.fromkeys(format_value(n, kind) for n in (min(numbers), max(numbers)))
        parts.append(f"{word} {' to '.join(ends)}")
    return ", ".join(parts)


def _flags(assessment: Any) -> list[Flag]:
    table = assessment.flags
    if table is None or len(table) == 0:
        return []
    return [Flag.of(row) for row in table.to_dict("records")]


def flag_rows(assessment: Any) -> tuple[list[FlagRow], list[FlagRow]]:
    """All flags, the worst first: those that need attention, and those that passed."""
    known = links(assessment)
    rows = []
    for flag in _flags(assessment):
        entry = metric_of(flag.metric)
        name = Name("", "") if not flag.name else name_of(flag.name)
        rows.append(
            FlagRow(
                key=entry.key,
                status=flag.status,
                scope=text_of(flag.scope),
                link=known.get(flag.name, Link(name, "")),
                metric=entry.label,
                value=format_value(flag.value, entry.kind),
                measured=not is_missing(flag.value),
                limit=format_value(flag.limit, entry.kind),
                text=_found(flag),
                cure=flag.cure,
            )
        )
    rows.sort(key=lambda r: -r.status.severity)
    return [r for r in rows if r.status.is_bad], [r for r in rows if not r.status.is_bad]


def flag_groups(rows: Sequence[FlagRow]) -> list[FlagGroup]:
    """Flags that say the same, together, in the order in which they come."""
    found: dict[tuple[Status, str, str, str], list[FlagRow]] = {}
    for row in rows:
        found.setdefault((row.status, row.metric, row.text, row.cure), []).append(row)
    return [FlagGroup(*key, tuple(members)) for key, members in found.items()]


def choices(statuses: Sequence[Status]) -> list[Choice]:
    """Buttons above the table of channels; those that would show all or nothing are left out."""
    flagged = sum(s.is_bad for s in statuses)
    failed = sum(s is Status.FAIL for s in statuses)
    severe = f"{Status.WARN.severity} {Status.FAIL.severity}"
    found = [Choice("All", len(statuses), "")]
    if 0 < flagged < len(statuses):
        found.append(Choice("Flagged", flagged, severe))
    if 0 < failed < len(statuses) and failed != flagged:
        found.append(Choice("Failed", failed, str(Status.FAIL.severity)))
    return found if len(found) > 1 else []


def columns(assessment: Any) -> list[Metric]:
    """The columns of the channel table: those that are always shown, then the others."""
    found = [metric_of(c) for c in assessment.channels.columns if str(c) != "status"]
    return sorted(found, key=lambda m: not m.primary)


def rows(assessment: Any, shown: Sequence[Metric]) -> list[Row]:
    """The channel table, row by row."""
    judged: dict[tuple[str, str], Status] = {}
    for flag in _flags(assessment):
        key = (flag.name, flag.metric)
        judged[key] = max(flag.status, judged.get(key, Status.NONE), key=lambda s: s.severity)
    own_status = channel_statuses(assessment)
    found: list[Row] = []
    for name, link in links(assessment).items():
        values = assessment.channels.iloc[len(found)]
        cells = tuple(
            Cell(
                text=format_value(values[m.key], m.kind),
                order=_order(values[m.key]),
                status=judged.get((name, m.key), Status.NONE),
                primary=m.primary,
            )
            for m in shown
        )
        found.append(Row(link, own_status[name], cells))
    return found


def _order(value: Any) -> str:
    number = as_number(value)
    return "" if np.isnan(number) else repr(number)


def facts(assessment: Any) -> list[Fact]:
    """The numbers beside the verdict; those that are missing are left out."""
    summary = assessment.summary if assessment.summary is not None else pd.Series(dtype=object)
    found = [Fact("Channels", format_value(len(assessment.channels), "count"))]
    told = [(m.key, m.label, m.kind) for m in chosen(scope=Scope.SAMPLE, assessed=True)
            if m.primary or m.source is Basis.TISSUE]  # fmt: skip
    for key, label, kind in (*told, ("tissue_channel", "Tissue channel", "text")):
        value = summary.get(key)
        text = printable(format_value(value, kind), _FACT_LENGTH)
        if text != MISSING and not np.isinf(as_number(value)):
            found.append(Fact(label, text))
    return found


def explanations(assessment: Any, shown: Sequence[Metric]) -> list[Explanation]:
    """How each shown number is computed, with the limits that the flags name."""
    limits: dict[str, dict[str, None]] = {}
    for flag in _flags(assessment):
        text = format_value(flag.limit, metric_of(flag.metric).kind)
        if text != MISSING:
            limits.setdefault(flag.metric, {})[text] = None
    return [
        Explanation(m, ", ".join(list(limits.get(m.key, {}))[:4]), m.cure) for m in shown if m.what
    ]


def expected_pairs(assessment: Any) -> list[tuple[str, str]]:
    """The pairs that the user said may correlate, from the provenance."""
    parameters = (assessment.provenance or {}).get("parameters") or {}
    pairs = parameters.get("expected_pairs") if isinstance(parameters, Mapping) else None
    return [
        (str(p[0]), str(p[1])) for p in pairs or () if isinstance(p, list | tuple) and len(p) == 2
    ]


def strongest_pairs(assessment: Any, most: int = 10) -> list[Pair]:
    """The pairs of channels that correlate most, of either sign."""
    matrix = assessment.correlation
    values = np.asarray(matrix.values, dtype=np.float64)
    names = [str(n) for n in matrix.coords["c"].values]
    known = links(assessment)
    first, second = np.triu_indices(len(names), 1)
    finite = np.isfinite(values[first, second])
    first, second = first[finite], second[finite]
    expected = {frozenset(p) for p in expected_pairs(assessment)}
    order = np.argsort(-np.abs(values[first, second]), kind="stable")[:most]
    return [
        Pair(
            known.get(names[i], Link(name_of(names[i]), "")),
            known.get(names[j], Link(name_of(names[j]), "")),
            text=f"{values[i, j]:z.2f}".replace("-", "\u2212"),
            note=_pair_note(values[i, j], frozenset((names[i], names[j])) in expected),
        )
        for i, j in zip(first[order], second[order], strict=True)
    ]


def _pair_note(r: float, expected: bool) -> str:
    if expected:
        return "expected"
    return "unexpected" if r > _UNEXPECTED else ""
