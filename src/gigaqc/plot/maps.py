"""Maps of tiles and of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gigaqc.errors import ParameterError
from gigaqc.image.devices import in_memory
from gigaqc.image.labelled import as_image, channel_index, channel_names
from gigaqc.plot.results import (
    SEQUENTIAL,
    colour_bar,
    contrast_limits,
    figure_of,
    label_of,
    new_axes,
)
from gigaqc.typing import ImageLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes


from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_MOST = 1024 * 1024  # values that are drawn, or that a distribution is made of
_NEUTRAL = "0.78"  # of pixels without a value; viridis has no grey
_PAIR = ("#0072B2", "#D55E00")  # told apart with any colour vision, and in greyscale
_LOW, _HIGH = 1.0, 99.0  # percentiles that the colours range over
_WORDS = {
    "tsnr": "temporal SNR",
    "isnr": "SNR",
    "gain_map": "gain [e\u207b/ADU]",
    "mean_map": "temporal mean or median [ADU]",
    "variance_map": "temporal variance [ADU\u00b2]",
    "temporal_mean": "temporal mean",
    "temporal_std": "temporal standard deviation",
}


def map(
    map: ImageLike,
    ax: Axes | None = None,
    *,
    channel: str | int | None = None,
    z: int | None = None,
    t: int | None = None,
    limits: tuple[float, float] | None = None,
    label: str | None = None,
) -> Axes:
    """One plane of a map in colour, with a scale that a few extreme pixels do not decide.

    Parameters
    ----------
    map
        A temporal SNR, a gain, or any image: dims a subset of ``t c z y x``.
    ax
        Where to draw.
    channel
        Name or position; by default the first.
    z, t
        Which plane; by default the middle one, which the title says.
    limits
        The values of the first and the last colour; by default the 1st and 99th percentile of the
        finite values that are drawn. The scale ends in arrows where values lie beyond.
    label
        What the scale is called; by default the name of the map, with its unit where it is known.

    Returns
    -------
    matplotlib.axes.Axes
        Pixels that are NaN are grey, and a legend says how many there are.

    Raises
    ------
    ChannelError, ParameterError
        When there is no such channel or plane, or the limits are no two ascending numbers.

    Notes
    -----
    Only the chunks of the plane are read. Of a plane above a megapixel every so many pixels are
    drawn. NIfTI planes, of which the affine is known, are drawn with the head or the front up.
    """
    shown = _Plane.of(map, channel, z, t)
    ax = new_axes(ax, (5.2, 4.2))
    low, high = _checked_limits(limits) if limits is not None else _limits(shown.values)
    picture = _draw(ax, shown, low, high)
    _scale(ax, picture, shown.values, _name_of(map) if label is None else label)
    return ax


def compare_maps(
    first: ImageLike,
    second: ImageLike,
    names: Sequence[str] = ("first", "second"),
    *,
    channel: str | int | None = None,
    z: int | None = None,
    limits: tuple[float, float] | None = None,
    label: str | None = None,
) -> np.ndarray:
    """Two maps side by side on one scale, and the distributions of their values.

    As two coils, two protocols or two cameras are compared. Sizes of the maps may differ.

    Parameters
    ----------
    first, second
        As in `map`.
    names
        What they are called.
    channel, z, label
        As in `map`, for both.
    limits
        Of the common scale; by default the 1st and 99th percentile of the values of both.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        Three: the maps, and the distributions over all planes of the channel (where there are more
        than a million values, of every so many), each with its median.

    Raises
    ------
    ChannelError, ParameterError
        As `map`; or when there are not two names.
    """
    if isinstance(names, str) or len(names) != 2:
        raise ParameterError(f"names: got {names!r}; pass two, such as ('8 channels', '32').")
    maps = (first, second)
    planes = [_Plane.of(m, channel, z, None) for m in maps]
    everything = [_sample(_of_channel(as_image(m), channel)) for m in maps]
    low, high = (
        _checked_limits(limits) if limits is not None else _limits(np.concatenate(everything))
    )
    text = _name_of(first) if label is None else label
    figure = figure_of((12.4, 3.9))
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.05))
    for ax, plane, name in zip(axes, planes, names, strict=False):
        picture = _draw(ax, plane, low, high)
        ax.set_title("\n".join(filter(None, (label_of(name), ax.get_title()))))
    _scale(axes[1], picture, np.concatenate(everything), text, beside=axes[:2])
    _distributions(axes[2], everything, names, (low, high), text)
    return axes


@dataclass(frozen=True)
class _Plane:
    """What is drawn of a map: a thumbnail of one plane."""

    values: np.ndarray
    size: tuple[int, int]
    title: str
    aspect: float
    upright: bool

    @classmethod
    def of(cls, map: Any, channel: str | int | None, z: int | None, t: int | None) -> _Plane:
        """Choose the plane, and read it."""
        image = as_image(map, argument="map")
        several = image.sizes["c"] > 1
        image = _of_channel(image, channel)
        name = [label_of(str(image["c"].item()))] if several else []
        image, said = chosen_plane(image, z, t)
        sizes = image.attrs.get("pixel_size") or {}
        height, width = image.sizes["y"], image.sizes["x"]
        return cls(
            values=_thinned(image),
            size=(height, width),
            title=", ".join([*name, *said]),
            aspect=float(sizes.get("y", 1.0)) / float(sizes.get("x", 1.0)),
            upright=_points_up(image.attrs.get("affine")),
        )


def _name_of(map: Any) -> str:
    """What a map shows, with its unit where that is known."""
    name = str(getattr(map, "name", None) or "")
    unit = (getattr(map, "attrs", None) or {}).get("units")
    return _WORDS.get(name) or (f"{name} [{unit}]" if name and unit else name or "value")


def _of_channel(image: xr.DataArray, channel: str | int | None) -> xr.DataArray:
    names = channel_names(image)
    return image.isel(c=0 if channel is None else channel_index(names, channel))


def chosen_plane(
    image: xr.DataArray, z: int | None, t: int | None
) -> tuple[xr.DataArray, list[str]]:
    """One plane of an image, the middle one unless said, and which it is in words."""
    said = []
    for dim, given in (("t", t), ("z", z)):
        index = _index(image, dim, given)
        if index is not None:
            if image.sizes[dim] > 1:
                said.append(f"{dim} {index} of 0\u2013{image.sizes[dim] - 1}")
            image = image.isel({dim: index})
    return image, said


def _index(image: xr.DataArray, dim: str, given: int | None) -> int | None:
    if dim not in image.dims:
        if given is not None:
            raise ParameterError(f"{dim}: the map has no {dim} axis; leave it out.")
        return None
    count = image.sizes[dim]
    if given is None:
        return count // 2
    whole = isinstance(given, (int, np.integer)) and not isinstance(given, bool)
    if not whole or not -count <= given < count:
        raise ParameterError(f"{dim}: got {given!r}; pass a whole number from 0 to {count - 1}.")
    return int(given) % count


def _thinned(image: xr.DataArray) -> np.ndarray:
    """The plane, or every so many of its pixels, as float64."""
    step = max(1, math.ceil(math.sqrt(image.size / _MOST)))
    return np.asarray(in_memory(image[..., ::step, ::step]), dtype=np.float64)


def _sample(image: xr.DataArray) -> np.ndarray:
    """Finite values of all planes, or of every so many pixels of each, in one row."""
    values = _thinned(image).ravel()
    return values[np.isfinite(values)]


def _points_up(affine: Any) -> bool:
    """Whether a scanner's y axis of voxels leads to the front or the head."""
    if affine is None:
        return False
    along_y = np.asarray(affine, dtype=np.float64)[:3, 1]
    return bool(along_y[np.abs(along_y).argmax()] > 0)


def _limits(values: np.ndarray) -> tuple[float, float]:
    return contrast_limits(values, _LOW, _HIGH)


def _checked_limits(limits: Any) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in limits)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ParameterError(f"limits: got {limits!r}; pass two ascending numbers, (low, high).")
    return low, high


def _draw(ax: Axes, plane: _Plane, low: float, high: float) -> Any:
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    height, width = plane.size
    span = high - low
    picture = ax.imshow(
        # Infinite values would be drawn as if they were missing.
        np.clip(plane.values, low - span, high + span),
        cmap=colormaps[SEQUENTIAL].with_extremes(bad=_NEUTRAL),
        vmin=low,
        vmax=high,
        interpolation="nearest",
        extent=(0, width, 0, height) if plane.upright else (0, width, height, 0),
        origin="lower" if plane.upright else "upper",
        aspect=plane.aspect,
    )
    ax.set_xlabel("x [px]")
    ax.set_ylabel("y [px]")
    ax.set_title(plane.title)
    missing = float(np.isnan(plane.values).mean())
    if missing:
        words = (
            f"not measurable (NaN): {missing:.2g}"
            if missing < 1e-3
            else (f"not measurable (NaN): {missing:.1%}")
        )
        patch = Patch(facecolor=_NEUTRAL, edgecolor="0.4", linewidth=0.5, label=words)
        ax.legend(handles=[patch], loc="upper left", bbox_to_anchor=(-0.02, -0.16), frameon=False,
                  fontsize="small", borderaxespad=0.0)  # fmt: skip
    return picture


def _scale(
    ax: Axes, picture: Any, values: np.ndarray, text: str, beside: np.ndarray | None = None
) -> None:
    """A colour bar with arrows where values lie beyond its ends."""
    low, high = picture.get_clim()
    with np.errstate(invalid="ignore"):
        below, above = bool((values < low).any()), bool((values > high).any())
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(
        (below, above), "both"
    )
    colour_bar(ax, picture, label_of(text), extend=extend, beside=beside)


def _distributions(
    ax: Axes,
    everything: Sequence[np.ndarray],
    names: Sequence[str],
    limits: tuple[float, float],
    text: str,
) -> None:
    low, high = limits
    margin = 0.08 * (high - low)
    edges = np.linspace(low - margin, high + margin, 101)
    for values, name, colour, style in zip(everything, names, _PAIR, ("-", "--"), strict=True):
        counts, _ = np.histogram(values, edges)
        share = counts / max(values.size, 1) / np.diff(edges)
        middle = float(np.median(values)) if values.size else math.nan
        said = (
            f"{label_of(name)}: median {middle:.3g}" if values.size else f"{label_of(name)}: none"
        )
        ax.stairs(share, edges, color=colour, linestyle=style, linewidth=1.4, label=said)
        if values.size:
            ax.axvline(middle, color=colour, linestyle=style, linewidth=0.9)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(bottom=0)
    ax.set_xlabel(label_of(text))
    ax.set_ylabel("density")
    ax.set_title("distribution")
    ax.legend(frameon=False, fontsize="small")


"""Colour of the lines; seen on all of the scale of counts and on white."""


"""Of lines, from the innermost on."""
