"""Lines of equal density over a joint histogram, by the share of pixels that they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gigaqc.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = "#bd1f01"
"""Colour of the lines; seen on all of the scale of counts and on white."""


STYLES = ("solid", "dashed", "dotted", "dashdot")
"""Of lines, from the innermost on."""


def checked_shares(contours: Any) -> list[float]:
    """Shares of the pixels in ascending order, or an error that says what to pass."""
    given = contours if isinstance(contours, (Sequence, np.ndarray)) else [contours]
    numbers = all(isinstance(s, (int, float, np.number)) and not isinstance(s, bool) for s in given)
    if not len(given) or not numbers or not all(0 < s < 1 for s in given):
        raise ParameterError(
            f"contours: got {contours!r}; pass shares of the pixels above 0 and below 1, such as "
            "(0.5, 0.8, 0.95), or None."
        )
    return sorted({float(s) for s in given})


def density_of(
    counts: np.ndarray, edges_x: np.ndarray, edges_y: np.ndarray, smooth: float
) -> np.ndarray:
    """Pixels per area of a bin (x, y), blurred by a Gaussian of so many bins."""
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(counts, smooth, mode="constant") if smooth else counts
    return blurred / (np.diff(edges_x)[:, None] * np.diff(edges_y))


def levels_of(density: np.ndarray, counts: np.ndarray, shares: Sequence[float]) -> list[float]:
    """The densities above which bins hold these shares of the pixels, to one bin.

    Midway to the next lower density, so that a line does not run through bins of its own density.
    """
    found, where = np.unique(-density.ravel(), return_inverse=True)
    held = np.cumsum(np.bincount(where.ravel(), weights=counts.ravel()))
    descending = np.append(-found, 0.0)
    last = [int(np.searchsorted(held, share * held[-1] * (1 - 1e-12))) for share in shares]
    return [float(descending[k] + descending[k + 1]) / 2 for k in last]


def draw_lines(
    ax: Axes, counts: np.ndarray, edges_x: np.ndarray, edges_y: np.ndarray,
    shares: Sequence[float], smooth: float,
) -> None:  # fmt: skip
    """Lines through the centres of bins, closed at the border of the histogram, with their shares.

    Shares that one bin tells no apart get one line.
    """
    density = density_of(counts, edges_x, edges_y, smooth)
    names: dict[float, list[str]] = {}
    for share, level in zip(shares, levels_of(density, counts, shares), strict=True):
        names.setdefault(level, []).append(f"{100 * share:.3g} %")
    levels = sorted(names)
    styles = [STYLES[k % len(STYLES)] for k in range(len(levels))][::-1]
    ax.contour(
        *(_centres(edges) for edges in (edges_x, edges_y)), np.pad(density, 1).T, levels,
        colors=LINE, linewidths=1.3, linestyles=styles,
    )  # fmt: skip
    for level, style in zip(levels[::-1], styles[::-1], strict=True):
        label = f"{', '.join(names[level])} of pixels"
        ax.plot([], [], color=LINE, linewidth=1.3, linestyle=style, label=label)
    ax.legend(fontsize="x-small", loc="upper right")
    ax.set_xlim(edges_x[0], edges_x[-1])
    ax.set_ylim(edges_y[0], edges_y[-1])


def _centres(edges: np.ndarray) -> np.ndarray:
    """Of bins, and of one more at each end."""
    inner = (edges[:-1] + edges[1:]) / 2
    first, last = edges[1] - edges[0], edges[-1] - edges[-2]
    return np.concatenate([[inner[0] - first], inner, [inner[-1] + last]])
