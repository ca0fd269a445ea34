"""Pictures of objects and of regions: outlines, density, distributions, a region and the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gigaqc.errors import ImageError, ParameterError
from gigaqc.image.devices import in_memory
from gigaqc.image.labelled import as_image, channel_index, channel_names, opened
from gigaqc.plot.maps import chosen_plane
from gigaqc.plot.results import (
    CATEGORIES,
    SEQUENTIAL,
    colour_bar,
    contrast_limits,
    figure_of,
    label_of,
    log_counts,
    new_axes,
    say,
)
from gigaqc.typing import ImageLike, LabelsLike

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

OUTLINE = "#E69F00"
"""Colour of outlines: on grey it stands out with any colour vision."""

_WHOLE, _PART = "0.55", "#0072B2"
_MOST = 1 << 22  # pixels of a picture that are read
_FONT = 6.0  # points, of the numbers
_DISPLAY_BINS = 128


def nuclei(
    image: ImageLike,
    labels: LabelsLike,
    ax: Axes | None = None,
    *,
    channel: str | int | None = None,
    window: tuple[slice, slice] | None = None,
    z: int | None = None,
    count: int | None = None,
    what: str = "nuclei",
    numbers: bool = True,
) -> Axes:
    """Outlines of objects over a channel, numbered, with their count.

    Of an image beyond 4 megapixels the middle 2048 x 2048 pixels are shown, and only these are
    read; `object_density` shows where objects are in all of it.

    Parameters
    ----------
    image
        The image; dims a subset of ``c z y x``.
    labels
        Its label image, 0 is background.
    ax
        Where to draw.
    channel
        Name or position; None takes the first.
    window
        A pair of slices (y, x) in pixels, of up to 4 megapixels: what to show instead.
    z
        The plane; the middle one unless said.
    count
        How many objects there are in all, where it is known; else those in the picture are counted.
    what
        What the objects are called.
    numbers
        Write the label of each object into it, where it has room for it.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImageError
        Labels that do not lie on the image.
    ParameterError
        A window without pixels, or with more than are read.
    """
    picture = as_image(image)
    names = channel_names(picture)
    picture = picture.isel(c=0 if channel is None else channel_index(names, channel))
    name = str(picture["c"].item())
    picture, said = chosen_plane(picture, z, None)
    labels = opened(labels, "labels", labels=True)
    stack = (
        not hasattr(labels, "dims") and getattr(labels, "ndim", 0) == 3
    )  # not channels, of which it has none
    outlined = as_image(labels, dims="zyx" if stack else None, argument="labels").isel(c=0)
    outlined, _ = chosen_plane(outlined, z, None)
    if outlined.shape != picture.shape or outlined.dtype.kind not in "iu":
        raise ImageError(
            f"labels: {outlined.dtype} of y, x {outlined.shape} for an image of {picture.shape}; "
            "pass a label image of integers of the same pixels."
        )
    rows, columns = _window(picture.shape, window)
    values = np.asarray(in_memory(picture[rows, columns]), dtype="f8")
    ids = in_memory(outlined[rows, columns])
    ax = new_axes(ax, (8.0, 8.0 * min(max(values.shape[0] / values.shape[1], 0.4), 1.2) + 0.4))
    low, high = contrast_limits(values)
    extent = (columns.start, columns.stop, rows.stop, rows.start)
    ax.imshow(values, cmap="gray", vmin=low, vmax=high, interpolation="nearest", extent=extent)
    _draw_outlines(ax, ids, rows.start, columns.start)
    seen = int((np.unique(ids) != 0).sum())
    if numbers and seen:
        _draw_numbers(ax, ids, rows.start, columns.start)
    whole = ids.shape == outlined.shape
    head = "" if names == ["0"] else f"{label_of(name)}: "  # which is what no name comes as
    total = f"{seen:,}" if whole or count is None else f"{seen:,} of {count:,}"
    if whole and count is not None:
        total = f"{count:,}"
    sides = " of ".join(f"{a.shape[1]:,} × {a.shape[0]:,}" for a in (ids, outlined))
    place = "" if whole else f", {sides} px"
    ax.set_title(f"{head}{total} {what}{place}" + "".join(f", {s}" for s in said))
    ax.set_xlabel("x [px]")
    ax.set_ylabel("y [px]")
    return ax


def _window(shape: tuple[int, ...], window: Any) -> tuple[slice, slice]:
    if window is None:
        side = math.isqrt(_MOST)
        # A long image keeps all of its shorter side.
        sides = [min(n, _MOST // min(m, side)) for n, m in zip(shape, shape[::-1], strict=True)]
        starts = [(n - s) // 2 for n, s in zip(shape, sides, strict=True)]
        first, second = (slice(a, a + s) for a, s in zip(starts, sides, strict=True))
        return first, second
    try:
        first, second = (slice(*s.indices(n)[:2]) for s, n in zip(window, shape, strict=True))
    except (TypeError, ValueError, AttributeError):
        raise ParameterError(f"window: got {window!r}; pass a pair of slices (y, x).") from None
    pixels = max(first.stop - first.start, 0) * max(second.stop - second.start, 0)
    if not 0 < pixels <= _MOST:
        raise ParameterError(
            f"window: {pixels:,} pixels of an image of {shape}; pass slices (y, x) that hold 1 to "
            f"{_MOST:,}."
        )
    return first, second


def _draw_outlines(ax: Axes, ids: np.ndarray, top: int, left: int) -> None:
    """Lines along the edges of pixels where labels change, as long as they go on."""
    from matplotlib.collections import LineCollection

    across = _borders(ids)  # (row of the line, first column, last)
    down = _borders(ids.T)
    lines = np.concatenate(
        [
            np.stack([across[:, [1, 0]], across[:, [2, 0]]], axis=1),
            np.stack([down[:, [0, 1]], down[:, [0, 2]]], axis=1),
        ]
    )
    width = 1.0 if len(lines) < 20_000 else 0.5
    # A picture of thousands of lines would not open as SVG or PDF.
    ax.add_collection(
        LineCollection(
            list(lines + np.array([left, top])), colors=OUTLINE, linewidths=width, rasterized=True
        ),
        autolim=False,
    )


def _borders(ids: np.ndarray) -> np.ndarray:
    """Runs (n, 3) of pixels whose label is not that of the pixel above: row, start, stop."""
    padded = np.pad(ids, ((1, 1), (0, 0)))
    changes = np.pad(padded[1:] != padded[:-1], ((0, 0), (1, 1))).astype("i1")
    steps = np.diff(changes, axis=1)
    row, start = np.nonzero(steps == 1)
    _, stop = np.nonzero(steps == -1)
    return np.stack([row, start, stop], axis=1)


def _draw_numbers(ax: Axes, ids: np.ndarray, top: int, left: int) -> None:
    """The label of each object at its centre, where it has room for it."""
    from matplotlib.patheffects import withStroke
    from scipy import ndimage

    names, compact = np.unique(ids, return_inverse=True)
    first = int(names[0] == 0)
    compact = compact.reshape(ids.shape) + (1 - first)
    names = names[first:]
    boxes = ndimage.find_objects(compact)
    ax.figure.canvas.figure.draw_without_rendering()  # before that no axes knows its size
    area = ax.get_window_extent().width * ax.get_window_extent().height
    points = math.sqrt(area / ids.size) * 72 / ax.figure.dpi  # of a pixel
    shadow = [withStroke(linewidth=1.2, foreground="black")]
    for name, box, index in zip(names, boxes, range(1, len(names) + 1), strict=True):
        high, wide = (points * (s.stop - s.start) for s in box)
        if wide < 0.62 * _FONT * len(str(name)) or high < _FONT:
            continue
        y, x = np.nonzero(compact[box] == index)
        ax.text(
            left + box[1].start + x.mean() + 0.5, top + box[0].start + y.mean() + 0.5, str(name),
            fontsize=_FONT, color="white", ha="center", va="center", path_effects=shadow,
        )  # fmt: skip


_COUNTED = {
    "nuclei": "nuclei",
    "per_megapixel": "nuclei per 10⁶ pixels",
    "per_mm2": "nuclei per mm²",
    "median_area": "median area of a nucleus [px]",
    "median_area_um2": "median area of a nucleus [µm²]",
}
_MOST_ROWS = 60  # images with a name and a number of their own


def counts(table: pd.DataFrame, ax: Axes | None = None, *, column: str = "nuclei") -> Axes:
    """Bars of how many nuclei images have, and a line at their median.

    Parameters
    ----------
    table
        From `gq.count_nuclei`.
    ax
        Where to draw.
    column
        Of the table: ``"nuclei"``, ``"per_megapixel"``, ``"per_mm2"``, ``"median_area"`` or
        ``"median_area_um2"``. Images of other sizes are compared by the second or the third.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        When the table lacks the column.
    """
    if column not in table:
        known = [name for name in _COUNTED if name in table]
        raise ParameterError(
            f"column: got {column!r}; pass one of {', '.join(known) or 'those of gq.count_nuclei'}."
        )
    values = table[column].to_numpy(dtype="f8")
    named = len(values) <= _MOST_ROWS
    ax = new_axes(ax, (5.4, 1.0 + 0.24 * min(max(len(values), 2), _MOST_ROWS)))
    bars = ax.barh(range(len(values)), np.nan_to_num(values), color=CATEGORIES[0], height=0.75)
    if named:
        ax.set_yticks(range(len(values)), [label_of(name) for name in table.index])
        said = ["–" if np.isnan(v) else f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in values]
        ax.bar_label(bars, said, padding=3, fontsize="small")
        ax.margins(x=0.15)
    else:
        ax.set_ylabel("image")
    if np.isfinite(values).any():
        middle = float(np.nanmedian(values))
        ax.axvline(middle, color="0.35", linewidth=1, linestyle="--", label=f"median {middle:,.4g}")
        ax.legend(fontsize="x-small", loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    ax.set_xlabel(_COUNTED.get(column, label_of(column)))
    ax.invert_yaxis()
    return ax


def object_density(
    table: pd.DataFrame | xr.DataArray,
    ax: Axes | None = None,
    *,
    tile: int = 512,
    shape: tuple[int, int] | None = None,
    what: str = "objects",
) -> Axes:
    """Where objects are: how many centroids each tile holds.

    Parameters
    ----------
    table
        From `gq.object_table` (its columns ``centroid_y`` and ``centroid_x``), or counts by tile: a
        DataArray (tile_y, tile_x).
    ax
        Where to draw.
    tile
        Side of the tiles, in pixels.
    shape
        Height and width of the image; without it the map ends with the last object. Tiles that the
        image's edge cuts are then scaled to a whole one.
    what
        What the objects are called.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = new_axes(ax, (4.6, 3.8))
    if isinstance(table, xr.DataArray):
        counts = np.asarray(table.transpose("tile_y", "tile_x").values, dtype="f8")
        tile = int(table.attrs.get("tile", tile))
        height, width = shape or tuple(n * tile for n in counts.shape)
    else:
        places = _columns(table, ("centroid_y", "centroid_x"))
        if not len(table) and shape is None:
            say(ax, f"no {what}")
            return ax
        height, width = shape or tuple(int(p.max()) + 1 for p in places)
        counts = _counted(places, (height, width), tile)
    filled = [np.diff(np.minimum(np.arange(n + 1) * tile, s))
              for n, s in zip(counts.shape, (height, width), strict=True)]  # fmt: skip
    if shape is not None:
        counts = counts * (tile * tile / np.multiply.outer(*filled))
    rows, columns = (np.concatenate([[0], np.cumsum(f)]) for f in filled)
    drawn = ax.pcolormesh(
        columns, rows, counts, cmap=SEQUENTIAL, vmin=0, vmax=max(np.nanmax(counts, initial=0), 1)
    )
    ax.invert_yaxis()
    ax.set_aspect("equal")
    ax.set_xlabel("x [px]")
    ax.set_ylabel("y [px]")
    colour_bar(ax, drawn, f"{what} per tile ({tile} × {tile} px)")
    return ax


def _counted(places: Sequence[np.ndarray], shape: Sequence[int], tile: int) -> np.ndarray:
    sides = [-(-n // tile) for n in shape]
    index = [
        np.clip((p // tile).astype("i8"), 0, n - 1) for p, n in zip(places, sides, strict=True)
    ]
    flat = np.bincount(index[0] * sides[1] + index[1], minlength=sides[0] * sides[1])
    return flat.reshape(sides).astype("f8")


def _columns(table: pd.DataFrame, names: Sequence[str]) -> list[np.ndarray]:
    missing = [n for n in names if n not in table]
    if missing:
        raise ParameterError(
            f"table: lacks the columns {', '.join(missing)}; pass what gq.object_table gives."
        )
    return [table[n].to_numpy(dtype="f8") for n in names]


def object_distributions(table: pd.DataFrame, *, elongated: float = 0.9) -> np.ndarray:
    """Distributions of the area and of the eccentricity of objects, with their medians.

    Parameters
    ----------
    table
        From `gq.object_table`.
    elongated
        Eccentricity that is marked: objects above it count as elongated.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        Two: area, on a logarithmic axis where it spans more than two decades, and eccentricity.
    """
    area, eccentricity = _columns(table, ("area", "eccentricity"))
    axes = figure_of((8.2, 3.0)).subplots(1, 2)
    area = area[np.isfinite(area) & (area > 0)]
    wide = area.size > 0 and area.max() > 100 * area.min()
    bins = min(max(int(math.sqrt(area.size)), 10), 60)
    if area.size:
        low, high = float(area.min()), float(area.max())
        high = high if high > low else low + 1
        edges = np.geomspace(low, high, bins + 1) if wide else np.linspace(low, high, bins + 1)
        _bars(axes[0], area, edges, f"median {np.median(area):,.4g} px")
        if wide:
            axes[0].set_xscale("log")
            axes[0].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes[0].xaxis.set_minor_formatter("")
    else:
        say(axes[0], "no objects")
    axes[0].set_xlabel("area [px]")
    axes[0].set_ylabel("objects")
    axes[1].set_xlabel("eccentricity")
    known = eccentricity[np.isfinite(eccentricity)]
    if not known.size:
        say(axes[1], "no objects" if not eccentricity.size else "not defined (3-D)")
        return axes
    share = float((known > elongated).mean())
    _bars(axes[1], known, np.linspace(0, 1, 41), f"median {np.median(known):.2f}")
    axes[1].axvline(elongated, linestyle=":", color="0.3", linewidth=1.2,
                    label=f"above {elongated:g}: {share:.1%}")  # fmt: skip
    axes[1].set_xlim(0, 1)
    axes[1].legend(frameon=False, fontsize="small")
    return axes


def _bars(ax: Axes, values: np.ndarray, edges: np.ndarray, said: str) -> None:
    counts, _ = np.histogram(values, edges)
    ax.stairs(counts, edges, fill=True, color=_PART, alpha=0.75)
    ax.axvline(float(np.median(values)), color="0.1", linewidth=1.2, linestyle="--", label=said)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize="small")


def region_histogram(
    whole: xr.Dataset,
    part: xr.Dataset,
    channel: str | int | None = None,
    ax: Axes | None = None,
    *,
    names: tuple[str, str] = ("whole image", "region"),
) -> Axes:
    """A region's histogram against that of the whole image, each as a share of its pixels.

    Parameters
    ----------
    whole, part
        From `gq.histogram`: of the image, and of ``gq.region(image, where)``, or of the image with
        ``mask=where``.
    channel
        Name or position; None takes the first.
    ax
        Where to draw.
    names
        What the two are called.

    Returns
    -------
    matplotlib.axes.Axes
        Share of the pixels per unit of the value (so bins of different widths compare), on a
        logarithmic axis.
    """
    ax = new_axes(ax, (4.8, 3.2))
    held = [_of_channel(d, channel, a) for d, a in ((whole, "whole"), (part, "part"))]
    channels = [str(n) for n in whole["c"].values] if "c" in whole.coords else ["0"]
    edges = _shared_edges([h for h in held if h[0].sum() > 0])
    lowest = math.inf
    styles = ((_WHOLE, True), (_PART, False))
    for (counts, own), name, (colour, fill) in zip(held, names, styles, strict=True):
        total = counts.sum()
        said = f"{label_of(name)}: {int(total):,} px"
        if not total:
            ax.plot([], [], color=colour, label=said)
            continue
        shown, own = (counts, own) if edges is None else (_rebinned(counts, own, edges), edges)
        share = shown / total / np.diff(own)
        lowest = min(lowest, share[share > 0].min())
        ax.stairs(share, own, fill=fill, color=colour, alpha=0.5 if fill else 1.0,
                  linewidth=1.4, baseline=lowest / 2, label=said)  # fmt: skip
    if math.isfinite(lowest):
        log_counts(ax, bottom=lowest / 2)
        ax.margins(x=0.01)
        ax.legend(frameon=False, fontsize="small")
    else:
        say(ax, "no finite values")
    ax.set_xlabel("value")
    ax.set_ylabel("share of pixels per unit")
    ax.set_title(label_of(channels[0 if channel is None else channel_index(channels, channel)]))
    return ax


def _of_channel(
    dataset: Any, channel: str | int | None, argument: str
) -> tuple[np.ndarray, np.ndarray]:
    """Counts and edges of one channel, from its first occupied bin to its last."""
    if not isinstance(dataset, xr.Dataset) or not {"counts", "edges"} <= set(dataset.data_vars):
        raise ParameterError(
            f"{argument}: got {type(dataset).__name__}; pass what gq.histogram gives."
        )
    names = [str(n) for n in dataset["c"].values] if "c" in dataset.coords else ["0"]
    index = 0 if channel is None else channel_index(names, channel)
    counts = np.atleast_2d(dataset["counts"].values)[index].astype("f8")
    edges = np.atleast_2d(dataset["edges"].values)[index].astype("f8")
    occupied = np.flatnonzero(counts)
    if not occupied.size:
        return counts[:1], edges[:2]
    first, last = int(occupied[0]), int(occupied[-1])
    return counts[first : last + 1], edges[first : last + 2]


def _shared_edges(held: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray | None:
    """Edges for both where either has more bins than can be told apart; None keeps their own."""
    if not held or max(counts.size for counts, _ in held) <= 2 * _DISPLAY_BINS:
        return None
    low = min(edges[0] for _, edges in held)
    high = max(edges[-1] for _, edges in held)
    narrow = max(float(np.diff(edges).min()) for _, edges in held)
    # Whole bins each: else some would hold one more of them than their neighbours, and stand out.
    width = narrow * math.ceil((high - low) / narrow / _DISPLAY_BINS)
    return low + width * np.arange(math.ceil((high - low) / width) + 1)


def _rebinned(counts: np.ndarray, edges: np.ndarray, wider: np.ndarray) -> np.ndarray:
    middle = edges[:-1] / 2 + edges[1:] / 2
    return np.histogram(middle, wider, weights=counts)[0]
