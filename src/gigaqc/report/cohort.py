"""The page of a cohort: which samples to look at, each metric against the others, and drift."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from gigaqc import plot
from gigaqc.formulas.catalogue import chosen, metric_of
from gigaqc.formulas.record import Metric, Scope, Status, status_of
from gigaqc.report import pictures
from gigaqc.report.templating import shell, template, write_text
from gigaqc.report.view import Cell, Choice, Explanation, Link
from gigaqc.report.words import as_number, count_of, format_value, is_missing, name_of, text_of

_MOST_ROWS = 2000
_MOST_CELLS = 26_000  # numbers in the table; more slow the browser down
_MOST_BYTES = 5_000_000
_MOST_OUTLIERS = 100
_MOST_PICTURES = 30
_MOST_DRIFTS = 4  # pictures of
_MOST_ERRORS = 8  # different ones, above the table
_RINGED = 5  # outliers with a name in a picture
_ERROR_LENGTH = 300
_MEDIAN = "median_"
_SHOWN_AT_ONCE = 6  # pictures

_COUNTED = (
    Metric("n_artifacts", "Artifacts", "Flags of channels about clipped, hot or dead pixels, and "
           "stripes.", better="lower", kind="count", primary=True),
    Metric("n_flags", "Flags", "All numbers that missed their limit.", better="lower", kind="count",
           primary=True),
)  # fmt: skip
"""What is counted of flags."""

_NO_METRIC = {
    "sample", "source", "batch", "order", "status", "pass_qc", "error", "page", "element",
    "results", "n_channels",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Column:
    """A number of a sample: its column in the summary, and what it is."""

    key: str
    about: Metric

    @property
    def scale(self) -> float:
        return 100.0 if self.about.kind == "fraction" else 1.0

    @property
    def axis(self) -> str:
        return self.about.label + (" [%]" if self.about.kind == "fraction" else "")


@dataclass(frozen=True, slots=True)
class _SampleLine:
    """A row of the table."""

    link: Link
    status: Status
    batch: str
    order: Cell
    cells: tuple[Cell, ...]
    error: str


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error, and the samples that had it."""

    text: str
    samples: tuple[Link, ...]
    more: int


@dataclass(frozen=True, slots=True)
class _CohortPicture:
    uri: str
    alt: str


def write_cohort_html(cohort: Any, path: str | os.PathLike[str]) -> None:
    """Write the page of a cohort; `path` is complete or as it was before.

    Parameters
    ----------
    cohort
        What `gq.assess_batch` returned.
    path
        The file; one that exists is replaced. Links to the samples' pages are relative to it.

    Raises
    ------
    WriteError
        When it cannot be written; the message names the path and the cure, and no half page is
        left.
    """
    write_text(path, render_cohort(cohort))


def render_cohort(cohort: Any) -> str:
    """The self-contained page of a cohort, as `render` makes that of a sample.

    Parameters
    ----------
    cohort
        With ``summary``, ``outliers()`` and ``drift()``.

    Returns
    -------
    str
        HTML.
    """
    summary: pd.DataFrame = cohort.summary
    columns = _columns(summary)
    statuses = [_status(r) for r in summary[["status", "error"]].to_dict("records")]
    outliers, drift = cohort.outliers(), cohort.drift()
    links = dict(zip(summary["sample"].astype(str), _links(summary), strict=True))
    drawn = _strips(summary, columns, outliers)
    shown = {
        "title": name_of(_title(cohort)),
        "headline": _headline(statuses),
        "tally": [(s, statuses.count(s)) for s in _ORDER if statuses.count(s)],
        "failures": _failures(summary, links),
        "choices": _choices(statuses),
        "total": len(summary),
        "strips": drawn[:_SHOWN_AT_ONCE],
        "more_strips": drawn[_SHOWN_AT_ONCE:],
        "outliers": _outlier_rows(outliers, links),
        "n_outliers": len(outliers),
        "drift": _drift_rows(drift),
        "drifts": _drift_pictures(summary, drift, columns, outliers),
        "explanations": [Explanation(c.about, "", "") for c in columns if c.about.what],
        "shell": shell(("base.css", "cohort.css"), ("tables.js",)),
    }
    most = _MOST_ROWS
    while True:
        page = template("cohort.html.j2").render(
            **shown, **_table(summary, statuses, columns, most)
        )
        if len(page.encode("utf-8", "replace")) <= _MOST_BYTES or most < 2:
            return str(page)
        most = min(most, len(summary)) // 2


def _table(
    summary: pd.DataFrame, statuses: Sequence[Status], columns: Sequence[_Column], most: int
) -> dict[str, Any]:
    """The table of samples: at most so many rows, and not all columns where rows are many."""
    kept = _kept(statuses, most)
    if len(kept) * len(columns) > _MOST_CELLS:
        columns = [c for c in columns if c.about.primary]
    records = summary.iloc[kept].to_dict("records")
    samples = [_sample(r, statuses[i], columns) for r, i in zip(records, kept, strict=True)]
    return {
        "columns": columns,
        "n_primary": sum(c.about.primary for c in columns),
        "samples": samples,
        "left": len(summary) - len(samples),
        "batches": any(s.batch for s in samples),
        "ordered": any(s.order.order for s in samples),
    }


_ORDER = (Status.PASS, Status.WARN, Status.FAIL, Status.ERROR, Status.NONE)


def _title(cohort: Any) -> str:
    out = getattr(cohort, "out", None)
    return (
        "Cohort" if out is None else (PurePosixPath(str(out).replace("\\", "/")).name or "Cohort")
    )


def _status(row: dict[Any, Any]) -> Status:
    return status_of(row["status"]) if is_missing(row["error"]) else Status.ERROR


def _headline(statuses: Sequence[Status]) -> tuple[str, str]:
    """The tally in words."""
    failed = statuses.count(Status.ERROR)
    done = len(statuses) - failed
    of = f"{done} of {count_of(len(statuses), 'sample')} " if failed else (
        count_of(len(statuses), "sample") + " "
    )  # fmt: skip
    head = of + ("was measured" if done == 1 else "were measured")
    passed, warned, bad = (statuses.count(s) for s in (Status.PASS, Status.WARN, Status.FAIL))
    parts = [f"{passed} passed"] if passed else []
    parts += [f"{warned} {'needs' if warned == 1 else 'need'} a look"] if warned else []
    parts += [f"{bad} failed"] if bad else []
    told = " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
    if not told:
        return head, "No sample could be judged."
    return head, f"Of those that were measured, {told}."


def _kept(statuses: Sequence[Status], most: int) -> list[int]:
    """Rows that the table shows, in their order: all, or as many as fit, the worst before."""
    worst = sorted(range(len(statuses)), key=lambda i: -statuses[i].severity)
    return sorted(worst[:most])


def _columns(summary: pd.DataFrame) -> list[_Column]:
    """Numbers that any sample has: those of a sample, then medians over channels, then others."""
    known = {k: _Column(k, m) for k, m in _of_samples().items() if m.primary}
    for m in chosen(scope=Scope.CHANNEL, assessed=True):
        known[_MEDIAN + m.key] = _Column(_MEDIAN + m.key, _of_key(_MEDIAN + m.key))
    there = [
        str(name)
        for name in summary.columns
        if str(name) not in _NO_METRIC and _numbers(summary[name]).size
    ]
    ordered = [k for k in known if k in there] + [n for n in there if n not in known]
    return [known.get(n) or _Column(n, _of_key(n)) for n in ordered]


def _of_samples() -> dict[str, Metric]:
    """The metrics of a sample by their column in the summary, and what is counted of flags."""
    found = {m.column or m.key: m for m in chosen(scope=Scope.SAMPLE, assessed=True)}
    return {**found, **{m.key: m for m in _COUNTED}}


def _numbers(column: Any) -> np.ndarray:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return values[~np.isnan(values)]


def _links(summary: pd.DataFrame) -> list[Link]:
    pages = summary["page"] if "page" in summary else [None] * len(summary)
    return [
        Link(name_of(n), address(p)) for n, p in zip(summary["sample"], pages, strict=True)
    ]  # fmt: skip


def address(page: Any) -> str:
    """A relative link to a file beside the page or below; empty for anything else.

    Parameters
    ----------
    page
        A relative path with forward slashes.
    """
    if is_missing(page) or not str(page):
        return ""
    parts = PurePosixPath(str(page)).parts
    if str(page).startswith(("/", "\\")) or ".." in parts:
        return ""
    return "./" + quote("/".join(parts), safe="/", errors="replace")


def _sample(row: dict[Any, Any], status: Status, columns: Sequence[_Column]) -> _SampleLine:
    failed = status is Status.ERROR
    return _SampleLine(
        link=Link(name_of(row["sample"]), address(row.get("page"))),
        status=status,
        batch="" if is_missing(row.get("batch")) else name_of(row["batch"]).short,
        order=_cell(row.get("order"), metric_of("order"), status),
        cells=() if failed else tuple(_cell(row[c.key], c.about, Status.NONE) for c in columns),
        error=text_of(row["error"])[:_ERROR_LENGTH] if failed else "",
    )


def _cell(value: Any, about: Metric, status: Status) -> Cell:
    number = as_number(value)
    order = "" if np.isnan(number) else f"{number:.7g}"
    return Cell(format_value(value, about.kind), order, status, about.primary)


def _choices(statuses: Sequence[Status]) -> list[Choice]:
    found = [Choice("All", len(statuses), "")]
    for status, label in (
        (Status.FAIL, "Failed"), (Status.WARN, "Need a look"), (Status.PASS, "Passed"),
        (Status.ERROR, "Not measured"),
    ):  # fmt: skip
        if 0 < statuses.count(status) < len(statuses):
            found.append(Choice(label, statuses.count(status), str(status.severity)))
    return found if len(found) > 1 else []


def _failures(summary: pd.DataFrame, links: dict[str, Link]) -> list[_Failure]:
    """The errors, the most frequent first."""
    grouped: dict[str, list[str]] = {}
    for name, error in zip(summary["sample"], summary["error"], strict=True):
        if not is_missing(error):
            grouped.setdefault(text_of(error), []).append(str(name))
    ordered = sorted(grouped.items(), key=lambda pair: -len(pair[1]))
    return [
        _Failure(text, tuple(links[n] for n in names[:8]), max(0, len(names) - 8))
        for text, names in ordered[:_MOST_ERRORS]
    ]


def _own_outliers(outliers: pd.DataFrame, key: str) -> list[str]:
    """Samples whose own number is far from the others, the farthest first."""
    if not len(outliers):
        return []
    of_samples = outliers["channel"].isna() | (outliers["channel"] == "")
    own = outliers[of_samples & (outliers["metric"] == key)]
    return [str(n) for n in own["sample"][:_RINGED]]


def _varies(summary: pd.DataFrame, column: _Column) -> bool:
    numbers = _numbers(summary[column.key])
    return len(np.unique(numbers[np.isfinite(numbers)])) > 1


def _strips(
    summary: pd.DataFrame, columns: Sequence[_Column], outliers: pd.DataFrame
) -> list[_CohortPicture]:
    """Each metric of all samples, those that the table shows first."""
    varying = sorted((c for c in columns if _varies(summary, c)), key=lambda c: not c.about.primary)
    batches = summary["batch"].dropna().nunique() if "batch" in summary else 0
    height = float(np.clip(0.75 + 0.3 * max(batches, 1.5), 1.1, 6.0))
    found = []
    for column in varying[:_MOST_PICTURES]:

        def draw(ax: Any, column: _Column = column) -> None:
            plot.cohort_strip(
                summary, column.key, ax, marked=_own_outliers(outliers, column.key),
                scale=column.scale, label=column.axis,
            )  # fmt: skip
            ax.spines[["top", "right", "left"]].set_visible(False)
            ax.tick_params(axis="y", length=0)

        uri = pictures.themed_svg(draw, 5.6, height)
        numbers = _numbers(summary[column.key])
        ends = [format_value(float(v), column.about.kind) for v in (numbers.min(), numbers.max())]
        alt = f"{column.about.label} of each sample by batch, from {ends[0]} to {ends[1]}"
        found.append(_CohortPicture(uri, alt))
    return found


def _outlier_rows(outliers: pd.DataFrame, links: dict[str, Link]) -> list[dict[str, Any]]:
    found = []
    for row in outliers[:_MOST_OUTLIERS].to_dict("records"):
        about = _of_key(str(row["metric"]))
        found.append(
            {
                "link": links.get(str(row["sample"]), Link(name_of(row["sample"]), "")),
                "channel": "" if is_missing(row["channel"]) else name_of(row["channel"]).short,
                "metric": about.label,
                "value": _cell(row["value"], about, Status.NONE),
                "median": _cell(row["median"], about, Status.NONE),
                "z": _cell(row["z"], metric_of("z"), Status.NONE),
                "batch_z": _cell(row.get("batch_z"), metric_of("z"), Status.NONE),
            }
        )
    return found


def _of_key(key: str) -> Metric:
    own = _of_samples()
    if key in own:
        return own[key]
    base = metric_of(key.removeprefix(_MEDIAN))
    if not key.startswith(_MEDIAN):
        return base
    label = base.label if base.label[:2].isupper() else base.label[0].lower() + base.label[1:]
    what = f"Median over the channels. {base.what}"
    return replace(base, key=key, label=f"Median {label}", what=what, primary=base.headline)


def _drift_rows(drift: pd.DataFrame) -> list[dict[str, Any]]:
    found = []
    for row in drift.to_dict("records"):
        if is_missing(row["p"]):
            continue
        about = _of_key(str(row["metric"]))
        slope = as_number(row["slope"]) * (100.0 if about.kind == "fraction" else 1.0)
        unit = "\u00a0%" if about.kind == "fraction" else ""
        found.append(
            {
                "metric": about.label,
                "slope": Cell(format_value(slope) + unit, repr(slope), Status.NONE, True),
                "rho": _cell(row["rho"], metric_of("rho"), Status.NONE),
                "p": _cell(row["p"], metric_of("p"), Status.NONE),
            }
        )
    return found


def _drift_pictures(
    summary: pd.DataFrame, drift: pd.DataFrame, columns: Sequence[_Column], outliers: pd.DataFrame
) -> list[_CohortPicture]:
    """The metrics that run most surely with the order."""
    by_key = {c.key: c for c in columns}
    wanted = [
        r for r in drift.sort_values("p", kind="stable").to_dict("records")
        if not is_missing(r["p"]) and str(r["metric"]) in by_key
    ]  # fmt: skip
    found = []
    for row in wanted[:_MOST_DRIFTS]:
        column = by_key[str(row["metric"])]

        def draw(ax: Any, column: _Column = column, slope: float = as_number(row["slope"])) -> None:
            plot.cohort_drift(
                summary, column.key, ax, slope=slope, marked=_own_outliers(outliers, column.key),
                scale=column.scale, label=column.axis,
            )  # fmt: skip
            ax.spines[["top", "right"]].set_visible(False)

        uri = pictures.themed_svg(draw, 5.6, 2.5)
        alt = (
            f"{column.about.label} over the order of acquisition, rank correlation "
            f"{format_value(row['rho'])}"
        )
        found.append(_CohortPicture(uri, alt))
    return found
