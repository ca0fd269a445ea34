"""The pictures of the page as data URIs: thumbnails, heat maps, figures that follow the theme."""

from __future__ import annotations

import base64
import io
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigaqc import plot

_THUMBNAIL_SIDE, _LEAST_SIDE = 256, 48
_PAPER_DPI = 130
_RASTER_DPI = 120  # of what is drawn as points in an SVG

# Matplotlib's settings and the filters of warnings are those of the process: one thread at a time.
_settings = threading.RLock()

# Colours that a figure is drawn in and that its SVG then replaces by a variable, which follows the
# reader's light or dark theme.
_INK, _MARK = "#010203", "#040506"
_THEME = (
    "<style>:root{--ink:#3a424b;--mark:#2f6f9f}"
    "@media screen and (prefers-color-scheme:dark){:root{--ink:#c3ccd5;--mark:#6fb1e0}}</style>"
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a data URI, and how much of a square's width it fills, in percent."""

    uri: str
    width: float


def shrink(
    values: Any, side: int, reduce: Callable[..., Any] = np.nanmean
) -> tuple[np.ndarray, int]:
    """Reduce squares of values until neither side is longer than `side`; NaN is left out.

    Returns the smaller array and how many values a square had along each axis.
    """
    array = np.asarray(values, dtype=np.float64)
    array = np.where(np.isfinite(array), array, np.nan)
    step = max(1, math.ceil(max(array.shape) / side))
    if step == 1:
        return array, 1
    height, width = (math.ceil(n / step) for n in array.shape)
    padded = np.full((height * step, width * step), np.nan)
    padded[: array.shape[0], : array.shape[1]] = array
    blocks = padded.reshape(height, step, width, step).swapaxes(1, 2).reshape(height, width, -1)
    with _settings, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # squares without a value stay NaN
        return reduce(blocks, axis=-1), step


def thumbnails(stack: Sequence[Any], most: int) -> list[Picture]:
    """Thumbnails of all channels, as large as a number of bytes allows.

    Parameters
    ----------
    stack
        A picture (y, x) for each channel.
    most
        Bytes that the data URIs may take together.
    """
    side = _THUMBNAIL_SIDE
    while True:
        made = [grey_png(values, side) for values in stack]
        total = sum(len(picture.uri) for picture in made)
        if total <= most or side <= _LEAST_SIDE:
            return made
        side = max(_LEAST_SIDE, int(0.95 * side * math.sqrt(most / total)))


def grey_png(values: Any, side: int) -> Picture:
    """A thumbnail as an 8-bit PNG with robust contrast limits; NaN is transparent."""
    from PIL import Image

    small, _ = shrink(values, side)
    low, high = plot.contrast_limits(small)
    missing = np.isnan(small)
    span = float(high) - float(low)
    shown = np.where(missing, low, small)
    scaled = np.clip((shown - low) / span, 0, 1) if 0 < span < np.inf else np.zeros(small.shape)
    grey = Image.fromarray(np.round(255 * scaled).astype(np.uint8))
    if missing.any():
        grey.putalpha(Image.fromarray(np.where(missing, 0, 255).astype(np.uint8)))
    return _png(grey)


def heat_png(values: np.ndarray, low: float, high: float) -> Picture:
    """A map as a small palette PNG, one pixel a tile; NaN is transparent."""
    from matplotlib import colormaps
    from PIL import Image

    span = high - low if high > low else 1.0
    missing = np.isnan(values)
    scaled = np.clip((np.where(missing, low, values) - low) / span, 0, 1)
    # entry 255 of the palette is kept for what is missing
    picture = Image.fromarray(np.where(missing, 255, np.round(254 * scaled)).astype(np.uint8), "L")
    colours = (colormaps[plot.SEQUENTIAL](np.linspace(0, 1, 255))[:, :3] * 255).round()
    picture.putpalette([*colours.astype(int).ravel().tolist(), 0, 0, 0])
    return _png(picture, **({"transparency": 255} if missing.any() else {}))


def colour_scale(stops: int = 9) -> str:
    """The colour map as a CSS gradient, low on the left."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colours = (to_hex(c) for c in colormaps[plot.SEQUENTIAL](np.linspace(0, 1, stops)))
    return f"linear-gradient(to right, {', '.join(colours)})"


def histogram_svg(assessment: Any, position: int) -> str:
    """The log histogram of one channel."""
    with _figure(3.6, 2.1) as figure:
        # fixed margins: finding them by layout would draw each of the many figures twice
        axes = figure.add_axes((0.16, 0.21, 0.81, 0.75))
        ax = plot.histograms(assessment, channel=position, ax=axes)
        ax.set_title("")
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
        ax.locator_params(axis="x", nbins=5)
        return _svg_uri(_svg_text(figure))


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure as a data URI, its width in CSS pixels, and where its axes lie, in percent of it."""

    uri: str
    width: int
    left: float
    top: float
    across: float
    down: float


def correlation_svg(assessment: Any, expected: Iterable[tuple[str, str]]) -> Plot:
    """The correlation matrix; squares are as large as names that can be read need."""
    count = assessment.correlation.sizes["c"]
    side = float(np.clip(0.17 * count, 2.6, 12.0))
    longest = max(len(plot.printable(n, 24)) for n in assessment.correlation.coords["c"].values)
    size = float(np.clip(300 / count, 7.0, 9.5))
    names = 0.14 + 0.68 * size / 72 * max(longest, 3)
    width, height = names + side + 1.15, side + names + 0.1
    with _figure(width, height) as figure:
        # A fixed place for the axes: the page lays its pointer over it.
        axes = figure.add_axes((names / width, names / height, side / width, side / height))
        ax = plot.correlation(assessment, ax=axes, expected=expected, bar=False)
        ax.tick_params(labelsize=size)
        ax.spines[:].set_visible(False)
        bar = figure.add_axes(
            ((names + side + 0.2) / width, (names + 0.1 * side) / height, 0.13 / width,
             0.8 * side / height)
        )  # fmt: skip
        scale = figure.colorbar(ax.images[0], cax=bar, label="Pearson correlation")
        scale.solids.set_rasterized(True)
        scale.outline.set_visible(False)
        place = ax.get_position()
        return Plot(
            _svg_uri(_svg_text(figure)),
            round(96 * width),
            *(round(100 * v, 3) for v in (place.x0, 1 - place.y1, place.width, place.height)),
        )


@contextmanager
def _figure(width: float, height: float) -> Iterator[Any]:
    from cycler import cycler

    colours: dict[Any, Any] = {
        key: _INK
        for key in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    }
    style: dict[Any, Any] = {
        "axes.facecolor": "none",
        "axes.prop_cycle": cycler(color=[_MARK]),
        "svg.fonttype": "none",
        "svg.hashsalt": "gigaqc",
    }
    with _styled(colours | style, figsize=(width, height), facecolor="none") as figure:
        yield figure


@contextmanager
def paper(width: float, height: float) -> Iterator[Any]:
    """A figure on white, which is the same in any theme; of the size given in inches."""
    size = (width, height)
    with _styled({}, figsize=size, facecolor="white", layout="constrained") as figure:
        yield figure


@contextmanager
def _styled(style: dict[Any, Any], **options: Any) -> Iterator[Any]:
    """A figure, and for as long as it is drawn the settings of the page."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    letters: dict[Any, Any] = {"font.size": 9, "axes.titlesize": 9}
    with _settings, warnings.catch_warnings(), rc_context(letters | style):
        # text stays text in the SVG, so the browser has the letters that matplotlib's font lacks
        warnings.filterwarnings("ignore", message=".*missing from .*font", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*Matplotlib currently does not support.*")
        yield Figure(**options)


def paper_uri(figure: Any, *, photograph: bool = False) -> str:
    """A figure from `paper` as a PNG, or, of what is no drawing, as a WebP of good quality."""
    from PIL import Image

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_PAPER_DPI)
    drawn = Image.open(stream).convert("RGB")
    if photograph:
        stream = io.BytesIO()
        drawn.save(stream, "WEBP", quality=82, method=6)
        return _uri("image/webp", stream.getvalue())
    return _png(drawn.quantize(256, dither=Image.Dither.NONE)).uri


def themed_svg(draw: Callable[[Any], Any], width: float, height: float) -> str:
    """A figure whose text follows the reader's theme; `draw` gets its axes."""
    with _figure(width, height) as figure:
        figure.set_layout_engine("constrained")
        draw(figure.add_subplot())
        return _svg_uri(_svg_text(figure))


def _svg_text(figure: Any, **options: Any) -> str:
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=nothing, dpi=_RASTER_DPI, **options)
    return stream.getvalue()


def _svg_uri(text: str) -> str:
    themed = text.replace(_INK, "var(--ink)").replace(_MARK, "var(--mark)")
    head, tag, rest = themed.partition("<defs>")
    return _uri("image/svg+xml", (head + _THEME + tag + rest).encode("utf-8", "replace"))


def _png(picture: Any, **options: Any) -> Picture:
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True, **options)
    share = round(100 * min(1.0, picture.width / picture.height), 1)
    return Picture(_uri("image/png", stream.getvalue()), share)


def _uri(media: str, content: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"
