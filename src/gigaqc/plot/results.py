"""Pictures of what `gq.assess` and its parts give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gigaqc.errors import ChannelError, ParameterError
from gigaqc.image.labelled import channel_index
from gigaqc.plot.density import checked_shares, draw_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEQUENTIAL = "viridis"
"""Colour map of quantities without a centre; it reads in greyscale and with colour blindness."""

DIVERGING = "RdBu_r"
"""Colour map of correlations, white at 0."""

CATEGORIES = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
"""Colours of things without an order, chosen for any colour vision (Petroff, arXiv:2107.02270)."""

_LABEL_LENGTH = 24
_COLUMNS = 6  # pictures side by side before a new row starts
_LEGEND_ENTRIES = 12


def contrast_limits(values: Any, low: float = 1.0, high: float = 99.8) -> tuple[float, float]:
    """Display limits that a few bright pixels do not decide.

    The `low` and `high` percentiles of the finite values; where those coincide (sparse counts),
    the smallest and largest finite value. A constant or empty picture gives limits one apart.

    Parameters
    ----------
    values
        The picture, any shape.
    low, high
        Percentiles in 0..100.

    Returns
    -------
    tuple of float
        The values to show as black and as white, the first below the second.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return 0.0, 1.0
    bottom, top = (float(v) for v in np.percentile(finite, [low, high]))
    if not top > bottom:
        bottom, top = float(finite.min()), float(finite.max())
    return (bottom, top) if top > bottom else (bottom, bottom + 1.0)


def printable(text: object, length: int | None = None) -> str:
    """`text` on one line, without control or direction characters, cut with an ellipsis.

    Parameters
    ----------
    text
        Usually a channel name, which may come from any file.
    length
        The most characters to keep, or None for all.
    """
    clean = "".join(
        ch if ch.isprintable() else " " if ch.isspace() else "\N{REPLACEMENT CHARACTER}"
        for ch in str(text)
    )
    if length is None or len(clean) <= length:
        return clean
    return clean[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def summary(assessment: Any) -> Figure:
    """Each channel's thumbnail over its log histogram, in one figure.

    Parameters
    ----------
    assessment
        What `gq.assess` returned.

    Returns
    -------
    matplotlib.figure.Figure
        Shown once by a notebook; write it with ``.savefig(path)``.
    """
    names = _names(assessment.thumbnails)
    columns, rows = _grid(len(names))
    figure = figure_of((2.1 * columns, 3.3 * rows))
    axes = figure.subplots(
        2 * rows, columns, squeeze=False, gridspec_kw={"height_ratios": [3, 2] * rows}
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for i, name in enumerate(names):
        row, column = divmod(i, columns)
        _draw_thumbnail(axes[2 * row, column], assessment.thumbnails.values[i], name)
        below = axes[2 * row + 1, column]
        below.set_axis_on()
        histograms(assessment, channel=i, ax=below)
        below.set_title("")
        below.set_xlabel("")
        if column:
            below.set_ylabel("")
    import matplotlib.pyplot as plt

    plt.close(figure)  # a notebook shows what a cell returns, and would show what is open again
    return figure


def channels(results: Any) -> np.ndarray:
    """The thumbnails of all channels side by side, each with its own contrast limits.

    Parameters
    ----------
    results
        An assessment, or its thumbnails: a DataArray (c, y, x).

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One a channel, in order.
    """
    thumbnails = results if isinstance(results, xr.DataArray) else results.thumbnails
    names = _names(thumbnails)
    columns, rows = _grid(len(names))
    figure = figure_of((2.1 * columns, 2.3 * rows))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, name, values in zip(axes, names, thumbnails.values, strict=False):
        _draw_thumbnail(ax, values, name)
    return axes[: len(names)]


def histograms(results: Any, channel: str | int | None = None, ax: Axes | None = None) -> Axes:
    """Histogram with a logarithmic count axis, of one channel or of all in one axes.

    Of an assessment and one channel, Otsu's threshold is marked by a dashed line and, where pixels
    are clipped, the clipping level by a dotted one.

    Parameters
    ----------
    results
        An assessment, or a Dataset with `counts` (c, bin) and `edges` (c, edge).
    channel
        A name or a position; None overlays all channels.
    ax
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    dataset = results if isinstance(results, xr.Dataset) else results.histograms
    names = _names(dataset.counts)
    chosen = range(len(names)) if channel is None else [channel_index(names, channel)]
    ax = new_axes(ax, (4.5, 3.0))
    drawn = [
        (names[i], patch) for i in chosen if (patch := _stairs(ax, dataset, i, len(chosen) == 1))
    ]
    if not drawn:
        say(ax, "no finite values")
        return ax
    log_counts(ax)
    ax.margins(x=0.01)
    ax.set_xlabel("value")
    ax.set_ylabel("pixels")
    if channel is not None:
        ax.set_title(label_of(names[chosen[0]]))
        _mark_levels(ax, results, names[chosen[0]])
    elif len(drawn) <= _LEGEND_ENTRIES:
        # matplotlib leaves out labels that start with an underscore; a space keeps them
        labels = [" " + label_of(n) if n.startswith("_") else label_of(n) for n, _ in drawn]
        ax.legend([patch for _, patch in drawn], labels, fontsize="small", frameon=False)
    return ax


def correlation(
    results: Any,
    ax: Axes | None = None,
    threshold: float = 0.7,
    *,
    expected: Iterable[tuple[str, str]] = (),
    bar: bool = True,
) -> Axes:
    """Matrix of Pearson correlations between channels, unexpected pairs outlined.

    Parameters
    ----------
    results
        An assessment, or a DataArray (c, c_other); NaN is left blank.
    ax
        Where to draw.
    threshold
        Pairs above it are outlined.
    expected
        Pairs of channel names, either way round, that are not outlined.
    bar
        Draw the scale of colours beside it.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib.patches import Rectangle

    matrix = results if isinstance(results, xr.DataArray) else results.correlation
    names = _names(matrix)
    values = np.asarray(matrix.values, dtype=np.float64)
    side = float(np.clip(1.8 + 0.22 * len(names), 3.0, 14.0))
    ax = new_axes(ax, (side + 0.8, side))
    image = ax.imshow(values, cmap=DIVERGING, vmin=-1, vmax=1, interpolation="none")
    labels = [label_of(n) for n in names]
    size = float(np.clip(300 / max(len(names), 1), 5, 10))
    ax.set_xticks(range(len(names)), labels, rotation=90, fontsize=size)
    ax.set_yticks(range(len(names)), labels, fontsize=size)
    ax.tick_params(length=0)
    known = {frozenset(pair) for pair in expected}
    for i, j in np.argwhere(values > threshold):
        if i != j and frozenset((names[i], names[j])) not in known:
            ax.add_patch(
                Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.2)
            )
    if bar:
        colour_bar(ax, image, "Pearson correlation")
    return ax


def tiles(
    results: Any,
    variable: str = "mean",
    channel: str | int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Map of one quantity by tile, for one channel.

    Dims besides ``tile_y`` and ``tile_x`` (``t``, ``z``) are averaged.

    Parameters
    ----------
    results
        An assessment, or its `tiles`: a Dataset with dims (c, tile_y, tile_x).
    variable
        A variable of it, such as ``"mean"``, ``"local_snr"`` or ``"variance_of_laplacian"``.
    channel
        A name or a position; None takes the first.
    ax
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib.ticker import MaxNLocator

    dataset = results if isinstance(results, xr.Dataset) else results.tiles
    name, values = tile_map(dataset, variable, channel)
    ax = new_axes(ax, (4.2, 3.4))
    image = ax.imshow(values, cmap=SEQUENTIAL, interpolation="none")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_title(label_of(name))
    ax.set_xlabel("tile x")
    ax.set_ylabel("tile y")
    if np.isfinite(values).any():
        colour_bar(ax, image, variable.replace("_", " "))
    else:
        say(ax, "not measurable")
    return ax


def tile_map(
    dataset: xr.Dataset, variable: str, channel: str | int | None = None
) -> tuple[str, np.ndarray]:
    """Name of a channel and its map (tile_y, tile_x) of one variable, other dims averaged.

    Parameters
    ----------
    dataset
        The tiles of an assessment.
    variable, channel
        As for `tiles`.

    Raises
    ------
    ParameterError
        When there is no such variable; the message lists those there are.
    """
    if variable not in dataset.data_vars:
        known = ", ".join(map(str, dataset.data_vars))
        raise ParameterError(f"variable: no {variable!r} by tile; pass one of {known}.")
    names = _names(dataset)
    index = 0 if channel is None else channel_index(names, channel)
    array = dataset[variable].isel(c=index).transpose(..., "tile_y", "tile_x")
    values = np.asarray(array.values, dtype=np.float64)
    planes = values.reshape(-1, *values.shape[-2:])
    finite = np.isfinite(planes)
    counted = finite.sum(axis=0)
    total = np.where(finite, planes, 0.0).sum(axis=0)
    return names[index], np.where(counted > 0, total / np.maximum(counted, 1), np.nan)


def joint_histogram(
    dataset: xr.Dataset,
    ax: Axes | None = None,
    *,
    contours: float | Sequence[float] | None = None,
    smooth: float = 1.0,
) -> Axes:
    """How often two channels take each pair of values, colours on a logarithmic scale.

    Parameters
    ----------
    dataset
        From `gq.joint_histogram`: `counts` (bin_x, bin_y), `edges_x` and `edges_y`.
    ax
        Where to draw.
    contours
        Shares of the pixels above 0 and below 1, such as ``(0.5, 0.8, 0.95)``: each gets a line of
        equal density around the smallest set of bins that holds it.
    smooth
        Standard deviation in bins of the Gaussian that blurs the density for the lines only; 0 for
        none. The pixels that a line holds are counted without it.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        When `contours` are no shares, or `smooth` is below 0.
    """
    from matplotlib.colors import LogNorm

    shares = [] if contours is None else checked_shares(contours)
    if not (isinstance(smooth, (int, float, np.number)) and 0 <= smooth < math.inf):
        raise ParameterError(f"smooth: got {smooth!r}; pass a number of bins from 0.")
    ax = new_axes(ax, (4.4, 3.6))
    counts = np.asarray(dataset["counts"].transpose("bin_x", "bin_y").values, dtype=np.float64)
    ax.set_xlabel(label_of(dataset.attrs.get("x", "x")))
    ax.set_ylabel(label_of(dataset.attrs.get("y", "y")))
    if not (counts > 0).any():
        say(ax, "no pixels")
        return ax
    edges_x, edges_y = (np.asarray(dataset[f"edges_{d}"].values, "f8") for d in "xy")
    image = ax.pcolormesh(
        edges_x,
        edges_y,
        np.ma.masked_less_equal(counts.T, 0),
        norm=LogNorm(vmin=1, vmax=max(float(counts.max()), 2.0)),
        cmap=SEQUENTIAL,
        rasterized=True,
    )
    colour_bar(ax, image, "pixels")
    if shares:
        draw_lines(ax, counts, edges_x, edges_y, shares, float(smooth))
    return ax


def _names(labelled: Any) -> list[str]:
    if "c" not in labelled.dims:
        raise ChannelError(
            f"results: dims {tuple(labelled.dims)} lack c; pass what gq.assess returned."
        )
    if "c" in labelled.coords:
        return [str(n) for n in labelled.coords["c"].values]
    return [str(n) for n in range(labelled.sizes["c"])]


def label_of(text: object) -> str:
    """A name that matplotlib shows as it is: no mathematics, nothing unprintable, not too long."""
    return printable(text, _LABEL_LENGTH).replace("$", r"\$")


def _grid(count: int) -> tuple[int, int]:
    columns = max(1, min(count, _COLUMNS))
    return columns, max(1, math.ceil(count / columns))


def figure_of(size: tuple[float, float]) -> Figure:
    """A figure of pyplot's, which a notebook shows when the cell ends."""
    import matplotlib.pyplot as plt

    return plt.figure(figsize=size, layout="constrained")


def new_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """`ax`, or one of a figure of its own."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def _draw_thumbnail(ax: Axes, values: np.ndarray, name: str) -> None:
    low, high = contrast_limits(values)
    ax.imshow(values, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    ax.set_title(label_of(name), fontsize="small")


def _stairs(ax: Axes, dataset: xr.Dataset, index: int, fill: bool) -> Any:
    """Draw one channel's histogram; None where it has no counts or no finite range."""
    counts = np.asarray(dataset["counts"].values[index], dtype=np.float64)
    edges = np.asarray(dataset["edges"].values[index], dtype=np.float64)
    if not np.isfinite(edges).all() or not np.nansum(counts) > 0:
        return None
    if edges[-1] <= edges[0]:  # one value only: give its bin a width that can be seen
        counts, edges = np.array([np.nansum(counts)]), edges[0] + np.array([-0.5, 0.5])
    # on a logarithmic axis a filled shape needs a positive base, below the lowest count
    patch = ax.stairs(np.maximum(np.nan_to_num(counts), 0.1), edges, fill=fill, baseline=0.1)
    if fill:  # an outline keeps bars that are narrower than a pixel
        patch.set_edgecolor(patch.get_facecolor())
        patch.set_linewidth(0.8)
    return patch


def log_counts(ax: Axes, bottom: float = 0.7) -> None:
    """A logarithmic count axis; its labels are plain text, since mathematics takes 10 ms each."""
    ax.set_yscale("log", nonpositive="clip")
    ax.set_ylim(bottom=bottom)
    ax.yaxis.set_major_formatter(lambda value, _: _power_of_ten(value))
    ax.yaxis.set_minor_formatter("")


def _power_of_ten(value: float) -> str:
    exponent = round(math.log10(value)) if value > 0 else 0
    if abs(exponent) < 3:
        return f"{value:g}"
    sign = "⁻" if exponent < 0 else ""
    return "10" + sign + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(abs(exponent)))


def _mark_levels(ax: Axes, results: Any, name: str) -> None:
    table = getattr(results, "channels", None)
    if table is None or isinstance(results, xr.Dataset) or name not in table.index:
        return
    row = table.loc[name]
    for key, style in (("otsu_threshold", "--"), ("clipping_level", ":")):
        level = row.get(key, np.nan)
        unclipped = key == "clipping_level" and not row.get("clipped_fraction", 0.0) > 0
        if level is not None and np.isfinite(level) and not unclipped:
            ax.axvline(level, linestyle=style, color="0.5", linewidth=1.2)


def colour_bar(
    ax: Axes, image: Any, label: str, *, extend: str = "neither", beside: Any = None
) -> None:
    """A scale beside an axes, or `beside` several; `extend` says at which ends values go on."""
    bar = ax.figure.colorbar(
        image, ax=ax if beside is None else list(beside), shrink=0.85, extend=extend
    )
    bar.set_label(label)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)  # one small picture, not 256 polygons, in SVG and PDF


def say(ax: Axes, text: str) -> None:
    """Words in an axes where there is nothing to draw."""
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
    ax.set_xticks([])
    ax.set_yticks([])
