"""Pictures of noise: signal-to-noise maps and photon transfer curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from gigaqc.errors import ParameterError
from gigaqc.image.labelled import channel_index
from gigaqc.plot.results import label_of, new_axes, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes


from textwrap import fill
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_NOISE = "#D55E00"
_SIGNAL = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, which the colour-blind tell apart."""

_STYLES = ("--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
_POINTS = 1200  # of a curve
_LINEAR = 4.0  # standard deviations of the noise that the axis shows linearly


def mixture(result: xr.Dataset, channel: str | int | None = None, ax: Axes | None = None) -> Axes:
    """Histogram of a channel, with the components of its mixture over it and the noise marked.

    The intensity axis is linear about the noise and logarithmic beyond, so that a narrow peak of
    noise and a wide signal can both be seen; the density axis is logarithmic.

    Parameters
    ----------
    result
        What `gq.isnr` gives.
    channel
        A name or a position; None takes the first.
    ax
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        When `result` is something else.
    """
    needed = {"counts", "edges", "component_mean", "threshold"}
    if not isinstance(result, xr.Dataset) or not needed <= set(map(str, result.data_vars)):
        raise ParameterError(
            f"result: got {type(result).__name__} without components; pass what gq.isnr gives."
        )
    names = [str(n) for n in result["c"].values]
    own = result.isel(c=0 if channel is None else channel_index(names, channel)).compute()
    ax = new_axes(ax, (7.2, 3.4))
    if names != ["0"]:  # which is what no name comes as
        ax.set_title(label_of(own["c"].item()))
    ax.set_xlabel("intensity")
    ax.set_ylabel("density")
    counts, edges = (np.asarray(own[n].values, np.float64) for n in ("counts", "edges"))
    if not counts.sum() > 0:
        say(ax, "no finite values")
        return ax
    edges, density = _density(counts, edges)
    ax.stairs(density, edges, fill=True, color="0.82", label="all values", baseline=_base(density))
    ax.set_yscale("log")
    ax.set_ylim(_base(density), 2 * density.max())
    if np.isnan(own["component_mean"].values).all():
        _legend(ax, float(own["isnr"]))
        return ax
    _stretch(ax, own, edges)
    _draw_components(ax, own)
    threshold = float(own["threshold"])
    if np.isfinite(threshold):
        ax.axvline(threshold, color="0.25", linewidth=1.0, label=f"noise up to {threshold:.4g}")
    _legend(ax, float(own["isnr"]))
    return ax


def _density(counts: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges and density of the bins that have a width."""
    width = np.diff(edges)
    wide = width > 0
    kept = np.append(edges[:-1][wide], edges[-1])
    return kept, counts[wide] / width[wide] / counts.sum()


def _base(density: np.ndarray) -> float:
    """The bottom of the axis: below all but single outliers, which would take half of it."""
    return float(np.quantile(density[density > 0], 0.05)) / 3


def _stretch(ax: Axes, own: xr.Dataset, edges: np.ndarray) -> None:
    """Linear about the noise, logarithmic beyond, where that is much of the range."""
    # A peak of one value has no spread, but its component has.
    noise = max(float(own["noise"]), float(own["component_variance"][0]) ** 0.5)
    if edges[-1] - edges[0] > 10 * _LINEAR * noise:
        ax.set_xscale("asinh", linear_width=_LINEAR * noise)
    ax.set_xlim(edges[0], edges[-1])
    if ax.get_xscale() == "asinh":
        ax.set_xticks(_ticks(ax), minor=False)
        ax.set_xticks([], minor=True)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _ticks(ax: Axes) -> list[float]:
    """0, powers of ten, their double and fivefold, as far as labels do not meet."""
    low, high = ax.get_xlim()
    largest = max(abs(low), abs(high))
    powers = 10.0 ** np.arange(np.floor(np.log10(largest)), -7, -1)
    wanted = [0.0, *(sign * k * p for k in (1, 5, 2) for p in powers for sign in (1, -1))]
    to_axes = ax.transScale.transform
    ends = to_axes([(low, 1.0), (high, 1.0)])[:, 0]
    kept: dict[float, float] = {}
    for value in wanted:
        place = (to_axes((value, 1.0))[0] - ends[0]) / (ends[1] - ends[0])
        if low <= value <= high and all(abs(place - other) > 0.07 for other in kept.values()):
            kept[value] = place
    return sorted(kept)


def _draw_components(ax: Axes, own: xr.Dataset) -> None:
    """Each component and their sum, on points that are even on the axis."""
    forward = ax.transData.transform
    left, right = ax.get_xlim()
    first, last = forward([(left, 1.0), (right, 1.0)])
    points = np.linspace(first, last, _POINTS)
    x = ax.transData.inverted().transform(points)[:, 0]
    total = np.zeros(_POINTS)
    parts = ("component_weight", "component_mean", "component_variance")
    for k, (weight, mean, variance) in enumerate(zip(*(own[n].values for n in parts), strict=True)):
        if not np.isfinite(mean):
            continue
        away = (x - mean) ** 2 / (2 * variance)
        curve = weight * np.exp(-away) / np.sqrt(2 * np.pi * variance)
        total += curve
        name = "noise" if k == 0 else "signal"
        colour, style = (_NOISE, "-") if k == 0 else (_SIGNAL[k - 1], _STYLES[k - 1])
        ax.plot(x, curve, color=colour, linestyle=style, linewidth=1.6,
                label=f"{name}: {mean:.4g} ± {variance**0.5:.3g}, {weight:.0%}")  # fmt: skip
    ax.plot(x, total, color="black", linewidth=0.8, label="sum")


def _legend(ax: Axes, isnr: float) -> None:
    ax.legend(frameon=False, fontsize="small", title=f"iSNR {isnr:.3g}", alignment="left",
              loc="upper left", bbox_to_anchor=(1.01, 1))  # fmt: skip


_FITTED, _OTHER, _LINE = "#0072B2", "0.55", "#D55E00"  # told apart by the colour-blind too
_LINE_LENGTH = 46  # of a title


def photon_transfer(found: Any, ax: Axes | None = None) -> Axes:
    """Variance over mean in bins of pixels, and the line whose slope is the gain.

    Parameters
    ----------
    found
        From `gq.gain_map`, of one plane: of several channels ``found.sel(c="DAPI")``.
    ax
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
        Bins of the fit are filled, the others hollow; the line is drawn over the range of the fit
        and dashed beyond. The title tells the gain, or why there is none.

    Raises
    ------
    ParameterError
        When it is no such result, or one of several planes.
    """
    names = ("mean_bins", "variance_bins", "in_fit", "slope", "intercept", "gain", "reason")
    if not all(name in getattr(found, "data_vars", ()) for name in names):
        raise ParameterError("found: no result of gq.gain_map; pass what that gives.")
    found = found.squeeze([d for d in found["gain"].dims if found.sizes[d] == 1], drop=True)
    if found["gain"].ndim:
        dims = ", ".join(map(str, found["gain"].dims))
        raise ParameterError(
            f"found: several planes over {dims}; choose one, for example found.isel(c=0)."
        )
    numbers = found[[n for n in found.data_vars if "y" not in found[n].dims]].compute()
    ax = new_axes(ax, (5.2, 3.6))
    x, y = numbers["mean_bins"].to_numpy(), numbers["variance_bins"].to_numpy()
    drawn, fitted = np.isfinite(x) & np.isfinite(y), numbers["in_fit"].to_numpy()
    ax.set_xlabel("mean of the pixels (ADU)")
    ax.set_ylabel("variance in time (ADU²)")
    if not drawn.any():
        say(ax, "no bin has enough pixels")
        return ax
    styles: tuple[tuple[np.ndarray, str, dict[str, Any]], ...] = (
        (drawn & ~fitted, "left out", {"facecolors": "none", "edgecolors": _OTHER}),
        (drawn & fitted, "in the fit", {"color": _FITTED}),
    )
    for inside, label, style in styles:
        if inside.any():
            ax.scatter(x[inside], y[inside], s=22, label=f"{inside.sum()} bins {label}", **style)
    _draw_line(ax, numbers, x[drawn], x[drawn & fitted])
    # The bins decide what is seen, and not where a line meets the edge.
    room = 0.06 * max(y[drawn].max() - min(y[drawn].min(), 0), 1e-300)
    ax.set_ylim(min(y[drawn].min(), 0) - room, y[drawn].max() + room)
    ax.set_title(_said(numbers), fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _draw_line(ax: Axes, numbers: Any, x: np.ndarray, fitted: np.ndarray) -> None:
    slope, intercept = float(numbers["slope"]), float(numbers["intercept"])
    if not np.isfinite(slope) or not fitted.size:
        return
    for ends, style in (((x.min(), x.max()), "--"), ((fitted.min(), fitted.max()), "-")):
        at = np.array(ends)
        label = "line" if style == "-" else None
        ax.plot(at, slope * at + intercept, style, color=_LINE, linewidth=1.4, label=label)


def _said(numbers: Any) -> str:
    """What the curve comes to, in a line or two."""
    if not bool(numbers["measurable"]):
        return fill(f"gain not measurable: {numbers['reason'].item()}", _LINE_LENGTH)
    gain, slope = float(numbers["gain"]), float(numbers["slope"])
    error = float(numbers["stderr"]) / slope * gain
    said = f"gain {gain:.4g} ± {error:.1g} e⁻/ADU, offset {float(numbers['fitted_offset']):.4g} ADU"
    if np.isfinite(float(numbers["read_noise"])):
        said += f"\nread noise {float(numbers['read_noise']):.3g} e⁻"
    if bool(numbers["quantised"]):
        said += "\nMAD is coarse here: take estimator='variance'"
    return said
