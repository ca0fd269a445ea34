"""The picture of a photon-transfer curve."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from gigaqc.errors import ParameterError
from gigaqc.plot.results import new_axes, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
