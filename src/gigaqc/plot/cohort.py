"""Pictures of a cohort: one metric of all samples, by batch and in the order of acquisition."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gigaqc.errors import ParameterError
from gigaqc.plot.results import CATEGORIES, label_of, new_axes, printable, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vP*Xph"  # beside colours, for those who do not tell them apart
_MOST_NAMED = 12  # batches with a name of their own
_AS_VECTORS = 300  # points; more become a small picture in SVG and PDF
_LINE = "#D55E00"
_LONGEST = 18  # characters of a name in a picture


def cohort_strip(
    summary: pd.DataFrame,
    metric: str,
    ax: Axes | None = None,
    *,
    marked: Iterable[str] = (),
    scale: float = 1.0,
    label: str | None = None,
) -> Axes:
    """One metric of all samples of a cohort: a dot a sample, a row a batch.

    Parameters
    ----------
    summary
        Of a cohort: a row a sample with ``sample``, ``batch`` (may be missing) and the metric.
    metric
        Its column.
    ax
        Where to draw.
    marked
        Samples that get a ring and their name, such as outliers.
    scale
        Values are multiplied by it: 100 for percent.
    label
        Of the axis; by default the metric's name.

    Returns
    -------
    matplotlib.axes.Axes
        A line in each row marks the median of the batch. Values that are not finite are left out.

    Raises
    ------
    ParameterError
        When there is no such column.
    """
    from matplotlib.ticker import MaxNLocator

    values, batches, names = _columns(summary, metric, scale)
    rows = _batches(summary)
    ax = new_axes(ax, (6.0, 0.9 + 0.34 * max(len(rows), 1)))
    ax.set_xlabel(label_of(metric) if label is None else label)
    if not len(values):
        say(ax, "no finite values")
        return ax
    lift = _spread(values, batches)
    for row, batch in enumerate(rows):
        own = batches == batch
        if not own.any():
            continue
        colour, marker = _style(row)
        ax.scatter(
            values[own], row + lift[own], s=17, color=colour, marker=marker, linewidths=0,
            alpha=0.85, rasterized=len(values) > _AS_VECTORS,
        )  # fmt: skip
        middle = float(np.median(values[own]))
        ax.plot([middle, middle], [row - 0.36, row + 0.36], color="0.45", linewidth=1.4)
    _ring(ax, values, np.array([rows.index(b) for b in batches]) + lift, names, marked)
    named = len(rows) <= _MOST_NAMED and any(rows)
    labels = [label_of(b) if b else "no batch" for b in rows] if named else []
    if (values == np.round(values)).all() and np.ptp(values) < 10:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(rows) - 0.45, -0.55)
    return ax


def cohort_drift(
    summary: pd.DataFrame,
    metric: str,
    ax: Axes | None = None,
    *,
    slope: float | None = None,
    marked: Iterable[str] = (),
    scale: float = 1.0,
    label: str | None = None,
) -> Axes:
    """One metric of all samples over the order of acquisition.

    Parameters
    ----------
    summary
        Of a cohort, with ``sample``, ``order`` and the metric.
    metric, ax, marked, scale, label
        As in `cohort_strip`.
    slope
        Of the line that is drawn through the medians, in units of the metric a step of the order.

    Returns
    -------
    matplotlib.axes.Axes
        Batches have colours and markers of their own.

    Raises
    ------
    ParameterError
        When there is no such column, or no ``order``.
    """
    if "order" not in summary:
        raise ParameterError("summary: has no column 'order'; pass the summary of a cohort.")
    placed = summary[np.isfinite(_floats(summary["order"]))]
    values, batches, names = _columns(placed, metric, scale)
    order = _floats(placed["order"])[np.isfinite(_floats(placed[metric]))]
    ax = new_axes(ax, (5.0, 2.8))
    ax.set_xlabel("order of acquisition")
    ax.set_ylabel(label_of(metric) if label is None else label)
    if not len(values):
        say(ax, "no finite values")
        return ax
    rows = _batches(summary)
    for row, batch in enumerate(rows):
        own = batches == batch
        if not own.any():
            continue
        colour, marker = _style(row)
        ax.scatter(
            order[own], values[own], s=17, color=colour, marker=marker, linewidths=0, alpha=0.85,
            label=label_of(batch) if batch else "no batch", rasterized=len(values) > _AS_VECTORS,
        )  # fmt: skip
    if slope is not None and np.isfinite(slope) and len(values) > 1:
        ends = np.array([order.min(), order.max()])
        line = np.median(values) + scale * slope * (ends - np.median(order))
        ax.plot(ends, line, color=_LINE, linewidth=1.6)
    _ring(ax, order, values, names, marked)
    if 1 < len(rows) <= _MOST_NAMED:
        ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


def _floats(column: Any) -> np.ndarray:
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _columns(
    summary: pd.DataFrame, metric: str, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finite values, their batches as text (empty for none), and names of their samples."""
    if metric not in summary:
        raise ParameterError(f"metric: no column {metric!r} in the summary.")
    values = _floats(summary[metric])
    finite = np.isfinite(values)
    texts = np.array(_texts(summary), dtype=object)
    names = summary["sample"].astype(str).to_numpy(dtype=object)
    return scale * values[finite], texts[finite], names[finite]


def _texts(summary: pd.DataFrame) -> list[str]:
    if "batch" not in summary:
        return [""] * len(summary)
    return ["" if pd.isna(b) else str(b) for b in summary["batch"]]


def _batches(summary: pd.DataFrame) -> list[str]:
    """All batches as they come, so that each has one colour, whatever is drawn."""
    return list(dict.fromkeys(_texts(summary)))


def _spread(values: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """How far each dot is moved off its row, so that equal values do not hide one another.

    Dots of one batch that fall into the same of 60 bins take turns above and below the row.
    """
    low, high = values.min(), values.max()
    bins = np.zeros(len(values), int)
    if high > low:
        bins = np.minimum((values - low) / (high - low) * 60, 59).astype(int)
    lift = np.zeros(len(values))
    for batch in set(batches.tolist()):
        for k in np.unique(bins[batches == batch]):
            members = np.flatnonzero((batches == batch) & (bins == k))
            steps = (
                (np.arange(len(members)) + 1) // 2 * np.where(np.arange(len(members)) % 2, 1, -1)
            )
            lift[members] = steps * min(0.09, 0.32 / max(np.abs(steps).max(), 1))
    return lift


def _ending(name: str) -> str:
    """A sample's name, or its end: names of one cohort often begin alike."""
    label = printable(name)
    if len(label) > _LONGEST:
        label = "\N{HORIZONTAL ELLIPSIS}" + label[-_LONGEST:]
    return label_of(label)


def _style(row: int) -> tuple[str, str]:
    return CATEGORIES[row % len(CATEGORIES)], _MARKERS[row % len(_MARKERS)]


def _ring(ax: Axes, x: np.ndarray, y: np.ndarray, names: np.ndarray, marked: Iterable[str]) -> None:
    """A ring for each marked sample, and its name where that does not cover another."""
    colour = ax.xaxis.label.get_color()
    left, across, up = float(x.min()), float(np.ptp(x)) or 1.0, float(np.ptp(y)) or 1.0
    named: list[tuple[float, float]] = []
    where = {str(name): i for i, name in enumerate(names)}
    for name in marked:  # the farthest first, whose names count most
        if name not in where:
            continue
        at, height = float(x[where[name]]), float(y[where[name]])
        ax.scatter([at], [height], s=70, facecolors="none", edgecolors=colour, linewidths=1.1)
        if any(abs(at - a) < 0.22 * across and abs(height - h) < 0.15 * up for a, h in named):
            continue
        named.append((at, height))
        beyond = at > left + across / 2
        ax.annotate(
            _ending(name), (at, height), xytext=(-7 if beyond else 7, 0), va="center",
            ha="right" if beyond else "left", textcoords="offset points", fontsize=7.5,
            color=colour, annotation_clip=False,
        )  # fmt: skip
