"""Pictures of pixel clusters, and of what a transform does to a histogram."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gigaqc.devices import in_memory
from gigaqc.errors import ParameterError
from gigaqc.image import channel_index
from gigaqc.plot.results import (
    CATEGORIES,
    DIVERGING,
    SEQUENTIAL,
    colour_bar,
    figure_of,
    histograms,
    label_of,
    new_axes,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_SIDE = 1024  # pixels of a map at most
_MOST_POINTS = 20_000
_MOST_NAMED = 20  # clusters with a colour and a name of their own


def clusters(
    labels: xr.DataArray | np.ndarray,
    ax: Axes | None = None,
    *,
    n_clusters: int | None = None,
    legend: bool = True,
) -> Axes:
    """Map of a label image: one colour a cluster, what has none in white.

    Parameters
    ----------
    labels
        From `gq.cluster_pixels`: dims y x (of more the first plane); of a large one every so many
        pixels are taken, to 1024 along its longer side.
    ax
        Where to draw.
    n_clusters
        How many there are in all, so that fields of view of one model get the same colours and
        names; by default the largest label that is drawn.
    legend
        Name the colours beside the map, up to 20 of them.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        When a label is larger than `n_clusters`.
    """
    from matplotlib.patches import Patch

    ax = new_axes(ax, (5.2, 4.2))
    plane = labels[(0,) * (np.ndim(labels) - 2)]
    step = max(1, math.ceil(max(plane.shape) / _SIDE))
    shown = in_memory(plane[::step, ::step])
    height, width = plane.shape
    largest = int(shown.max(initial=1))
    if n_clusters is not None and n_clusters < largest:
        raise ParameterError(
            f"n_clusters: got {n_clusters!r}, but there is a label {largest}; pass the number of "
            "clusters of the model."
        )
    palette = _palette(n_clusters or largest)
    colours = np.vstack([[1.0, 1.0, 1.0, 1.0], palette])
    ax.imshow(colours[shown], interpolation="nearest", extent=(0, width, height, 0))
    ax.set_xlabel("x [px]")
    ax.set_ylabel("y [px]")
    if legend and len(palette) <= _MOST_NAMED:
        patches = [Patch(color=c, label=str(k)) for k, c in enumerate(palette, start=1)]
        ax.legend(handles=patches, title="cluster", loc="upper left", bbox_to_anchor=(1.01, 1),
                  frameon=False, fontsize="small")  # fmt: skip
    return ax


def _palette(n: int) -> np.ndarray:
    """Colours (n, 4) that are told apart; from 21 on, along a scale."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba_array

    if n <= len(CATEGORIES):
        return to_rgba_array(CATEGORIES[:n])
    if n <= _MOST_NAMED:
        return colormaps["tab20"](np.arange(n))
    return colormaps["turbo"](np.linspace(0, 1, n))


def cluster_profile(
    profile: pd.DataFrame, ax: Axes | None = None, *, standardize: bool = True
) -> Axes:
    """Heat map of what clusters are like: a row a cluster, a column a channel.

    Parameters
    ----------
    profile
        From `gq.cluster_pixels`: cluster by channel, means.
    ax
        Where to draw.
    standardize
        Show standard scores of each channel over the clusters, which channels of any brightness
        have in common; False shows the means.

    Returns
    -------
    matplotlib.axes.Axes
    """
    values = profile.to_numpy(dtype=np.float64)
    rows, columns = values.shape
    ax = new_axes(ax, (1.8 + 0.42 * columns, 1.4 + 0.32 * rows))
    limits: dict[str, Any] = {"cmap": SEQUENTIAL}
    if standardize:
        spread = np.nanstd(values, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.where(spread > 0, (values - np.nanmean(values, axis=0)) / spread, 0.0)
        largest = max(float(np.nanmax(np.abs(values), initial=0.0)), 1e-12)
        limits = {"cmap": DIVERGING, "vmin": -largest, "vmax": largest}
    image = ax.imshow(values, aspect="auto", interpolation="none", **limits)
    ax.set_xticks(range(columns), [label_of(n) for n in profile.columns], rotation=90)
    ax.set_yticks(range(rows), [str(n) for n in profile.index])
    ax.set_ylabel("cluster")
    ax.tick_params(length=0, labelsize=8)
    colour_bar(ax, image, "standard score" if standardize else "mean")
    return ax


def cluster_scatter(found: Any, x: str | int = 0, y: str | int = 1, ax: Axes | None = None) -> Axes:
    """Sampled pixels in two channels, coloured by cluster.

    Parameters
    ----------
    found
        What `gq.cluster_pixels` returned.
    x, y
        Names or positions of the channels.
    ax
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    names = list(found.model.channels)
    first, second = (channel_index(names, c, a) for c, a in ((x, "x"), (y, "y")))
    ax = new_axes(ax, (4.6, 3.8))
    sample = found.sample[:: max(1, math.ceil(len(found.sample) / _MOST_POINTS))]
    labels = found.model.rule.apply(list(np.ascontiguousarray(sample.T)))
    palette = _palette(found.model.n_clusters)
    # In the order of the sample, which is that of places: no cluster hides the others.
    ax.scatter(sample[:, first], sample[:, second], s=3, c=palette[labels.astype("i8") - 1],
               linewidths=0, alpha=0.6, rasterized=True)  # fmt: skip
    ax.set_xlabel(label_of(names[first]))
    ax.set_ylabel(label_of(names[second]))
    if len(palette) <= _MOST_NAMED:
        for k, colour in enumerate(palette, start=1):
            ax.scatter([], [], s=18, color=[colour], label=str(k))
        ax.legend(title="cluster", fontsize="small", frameon=False, loc="upper left",
                  bbox_to_anchor=(1.01, 1))  # fmt: skip
    return ax


def cluster_choice(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """How well numbers of clusters fit; the smallest BIC is marked.

    Parameters
    ----------
    table
        From `gq.choose_n_clusters`.
    ax
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib.ticker import MaxNLocator

    ax = new_axes(ax, (4.4, 3.0))
    (name,) = table.columns
    values = table[name].to_numpy(dtype=np.float64)
    ax.plot(table.index, values, marker="o")
    if name == "bic":
        best = int(np.argmin(values))
        ax.plot(table.index[best], values[best], marker="o", markersize=12, fillstyle="none",
                color="0.2", label=f"best: {table.index[best]}")  # fmt: skip
        ax.legend(frameon=False)
    ax.set_xlabel("number of clusters")
    ax.set_ylabel("BIC" if name == "bic" else "inertia")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def before_after(before: Any, after: Any, channel: str | int | None = None) -> np.ndarray:
    """Histograms before and after a transform, side by side.

    Parameters
    ----------
    before, after
        What `gq.histogram` gives of the image and of the transformed one, or assessments.
    channel
        A name or a position; None overlays all channels.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        Two: before, and after.
    """
    figure = figure_of((8.6, 3.0))
    axes = figure.subplots(1, 2)
    for ax, results, title in zip(axes, (before, after), ("before", "after"), strict=True):
        histograms(results, channel, ax)
        if isinstance(results, xr.Dataset):
            ax.set_xlim(*_occupied(results, channel))
        ax.set_title(title)
    return axes


def _occupied(dataset: xr.Dataset, channel: str | int | None) -> tuple[float | None, float | None]:
    """From the first bin that holds something to the last; an 8-bit histogram has 256 bins."""
    names = [str(n) for n in dataset["c"].values] if "c" in dataset.coords else []
    counts, edges = dataset["counts"].values, dataset["edges"].values
    at = slice(None) if channel is None else channel_index(names, channel)
    counts, edges = np.atleast_2d(counts[at]), np.atleast_2d(edges[at])
    rows, bins = np.nonzero(counts)
    if not rows.size:
        return None, None
    return float(edges[rows, bins].min()), float(edges[rows, bins + 1].max())
