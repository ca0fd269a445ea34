"""Pictures of pixel clusters, and of what a transform does to a histogram."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dask.base
import numpy as np
import xarray as xr

from gigaqc.base.backend import to_host
from gigaqc.errors import ParameterError
from gigaqc.image.devices import in_memory
from gigaqc.image.labelled import channel_index
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
    from matplotlib.patches import Patch

_SIDE = 1024  # pixels of a map at most
_COLUMNS = 4  # maps side by side
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
    ax = new_axes(ax, (5.2, 4.2))
    plane = _thinned(labels)
    shown = in_memory(plane)
    largest = int(shown.max(initial=1))
    if n_clusters is not None and n_clusters < largest:
        raise ParameterError(
            f"n_clusters: got {n_clusters!r}, but there is a label {largest}; pass the number of "
            "clusters of the model."
        )
    palette = _palette(n_clusters or largest)
    _draw(ax, shown, labels.shape, palette)
    if legend and len(palette) <= _MOST_NAMED:
        ax.legend(handles=_named(palette), title="cluster", loc="upper left",
                  bbox_to_anchor=(1.01, 1), frameon=False, fontsize="small")  # fmt: skip
    return ax


def clusterings(found: Mapping[str, Any] | Sequence[Any], *, image: int = 0) -> np.ndarray:
    """Maps of several results side by side: of other numbers of clusters, or other methods.

    A cluster of the same number has the same colour in all. Clusters are numbered by brightness,
    so that those of results which agree have like colours.

    Parameters
    ----------
    found
        A list of what `gq.cluster_pixels` gives: a row a method and a column a number of clusters,
        or in the order of the list where two have both in common. Or a dict of such results or of
        label images by title, in its order.
    image
        Of results of several images, the position of the one to draw.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One a result, in their order.

    Raises
    ------
    ParameterError
        When there is no result, what is given is none, or there is no such image.
    """
    results = list(found.values()) if isinstance(found, Mapping) else list(found)
    if not results:
        raise ParameterError("found: got none; pass results of gq.cluster_pixels.")
    maps = [_map_of(result, image) for result in results]
    shown = [to_host(p) for p in dask.base.compute(*(_thinned(m).data for m in maps))]
    if isinstance(found, Mapping):
        titles, places = [label_of(title) for title in found], _in_order(len(results))
    else:
        facts = [(r.model.method, r.model.n_clusters) for r in results]
        titles = [f"{method}, {number} clusters" for method, number in facts]
        places = _by_method(facts)
    largest = [getattr(getattr(r, "model", None), "n_clusters", 1) for r in results]
    palette = _palette(max(*largest, *(int(s.max(initial=1)) for s in shown)))
    rows, columns = (max(along) + 1 for along in zip(*places, strict=True))
    figure = figure_of((0.6 + 2.7 * columns, 2.6 * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in {*axes.flat} - {axes[place] for place in places}:
        ax.set_axis_off()
    for place, plane, labels, title in zip(places, shown, maps, titles, strict=True):
        _draw(axes[place], plane, labels.shape, palette)
        axes[place].set_title(title, fontsize="small")
        axes[place].label_outer()
    if len(palette) <= _MOST_NAMED:
        figure.legend(handles=_named(palette), title="cluster", loc="outside right upper",
                      frameon=False, fontsize="small")  # fmt: skip
    return np.array([axes[place] for place in places])


def _map_of(result: Any, image: int) -> xr.DataArray:
    """The labels of a result, or those that were given."""
    labels = getattr(result, "labels", result)
    if isinstance(labels, list):
        if not 0 <= image < len(labels):
            raise ParameterError(
                f"image: got {image!r}, but the result has {len(labels)} images; pass a position "
                "from 0."
            )
        labels = labels[image]
    if not hasattr(labels, "dtype") or labels.dtype.kind not in "ui" or np.ndim(labels) < 2:
        raise ParameterError(
            f"found: got {type(result).__name__}; pass results of gq.cluster_pixels, or label "
            "images by title."
        )
    return labels if isinstance(labels, xr.DataArray) else xr.DataArray(labels)


def _by_method(facts: Sequence[tuple[str, int]]) -> list[tuple[int, int]]:
    """Row and column of results by method and number, in order where two have both in common."""
    if len(set(facts)) < len(facts):
        return _in_order(len(facts))
    methods = list(dict.fromkeys(method for method, _ in facts))
    numbers = sorted({number for _, number in facts})
    return [(methods.index(method), numbers.index(number)) for method, number in facts]


def _in_order(count: int) -> list[tuple[int, int]]:
    return [divmod(k, _COLUMNS) for k in range(count)]


def _thinned(labels: Any) -> Any:
    """The first plane, of a large one every so many pixels."""
    plane = labels[(0,) * (np.ndim(labels) - 2)]
    step = max(1, math.ceil(max(plane.shape) / _SIDE))
    return plane[::step, ::step]


def _draw(ax: Axes, shown: np.ndarray, shape: Sequence[int], palette: np.ndarray) -> None:
    """Thinned labels over the extent of the whole plane."""
    colours = np.vstack([[1.0, 1.0, 1.0, 1.0], palette])
    height, width = shape[-2:]
    ax.imshow(colours[shown], interpolation="nearest", extent=(0, width, height, 0))
    ax.set_xlabel("x [px]")
    ax.set_ylabel("y [px]")


def _named(palette: np.ndarray) -> list[Patch]:
    """What a legend says: the numbers of clusters in their colours."""
    from matplotlib.patches import Patch

    return [Patch(color=c, label=str(k)) for k, c in enumerate(palette, start=1)]


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
