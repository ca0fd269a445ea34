"""The tissue pass: one channel, read once more, becomes a mask and areas of its pieces.

Each task thresholds its group of chunks and labels the pieces of each plane; pieces meet at the
seams. A blur reaches beyond a group, so with one a group decides only what lies far from its
neighbours, and keeps strips of pixels; where two rectangles meet, the pixels between what they have
decided are blurred, labelled, and joined to the pieces at both sides. So no chunk is read twice,
and what waits goes with the edges of a rectangle and not with its area.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from dask.delayed import Delayed

from gigaqc.base.backend import to_host, twin
from gigaqc.base.geometry import rechunked
from gigaqc.errors import ParameterError
from gigaqc.graph.guard import Checked, agreed
from gigaqc.graph.reduce import Reduce
from gigaqc.graph.tasks import join
from gigaqc.image.labelled import DIMS
from gigaqc.kernels import components
from gigaqc.kernels.components import BlockComponents
from gigaqc.kernels.transform import gaussian_blur, gaussian_radius
from gigaqc.scanning.scan import LazyStatistics
from gigaqc.statistics.blocks import Edges, Place, Strips
from gigaqc.statistics.reads import beside
from gigaqc.statistics.statistics import Statistics
from gigaqc.statistics.unreadable import WithNan

Method = Literal["median", "otsu"]
SIGMA = 2.0  # pixels
MIN_SIZE = 64  # pixels of a piece that counts, after the blur
REACH = gaussian_radius(SIGMA)
_BAND = 128  # rows that are blurred at once: float64 that stays in the cache


@dataclass(frozen=True)
class TissueMask:
    """Areas in pixels: all valid pixels, tissue, its counted pieces, the largest of them."""

    valid: int
    positive: int
    n_fragments: int
    counted: int
    largest: int

    def merge(self, other: TissueMask) -> TissueMask:
        """Both, of other planes."""
        return TissueMask(
            self.valid + other.valid,
            self.positive + other.positive,
            self.n_fragments + other.n_fragments,
            self.counted + other.counted,
            max(self.largest, other.largest),
        )


def tissue_pass(
    image: xr.DataArray,
    channel: int,
    statistics: LazyStatistics | Delayed | Statistics,
    *,
    channel_in_statistics: int,
    method: Method,
    mask: xr.DataArray | None = None,
    guard: bool = False,
) -> Delayed:
    """Areas of the tissue that one channel shows, within each ``y x`` plane (lazy).

    Parameters
    ----------
    image
        From `as_image`. Only chunks of `channel` are read, each once, after the statistics.
    statistics
        Of the same channel, for the threshold.
    channel_in_statistics
        Position of the channel among those of `statistics`.
    method
        ``"median"``: tissue is above the median. ``"otsu"``: the image blurred by 2 pixels is above
        Otsu's threshold of the image, and pieces below 64 pixels are not counted.
    mask
        From `as_mask`. Pixels outside are no tissue and not valid; the blur sees them.
    guard
        Take what cannot be read for NaN; `statistics` then say what that is.

    Returns
    -------
    dask.delayed.Delayed
        A `TissueMask`. NaN and infinite pixels are neither valid nor tissue, and with a blur
        neither is what they reach.

    Raises
    ------
    ParameterError
        When `method` is unknown.
    """
    check_method(method)
    only = slice(channel, channel + 1)
    image = image.isel(c=only)
    if mask is not None and "c" in mask.dims:
        mask = mask.isel(c=only)
    threshold = _threshold(statistics, channel_in_statistics, method)
    found = tissue_read(image, mask, threshold, method, guard=guard).build()
    return join("tissue-agreed", _agreed, found, _promised(statistics)) if guard else found


def _agreed(found: Checked, statistics: Statistics) -> Any:
    assert statistics.unreadable is not None
    return agreed(found, statistics.unreadable)


def check_method(method: str) -> None:
    """Refuse a tissue method that does not exist."""
    if method not in ("median", "otsu"):
        raise ParameterError(f"method: got {method!r}; pass one of median, otsu.")


def mask_pass(tissue: xr.DataArray, mask: xr.DataArray | None = None) -> Delayed:
    """Areas of a tissue mask that the caller has (from `as_mask`), as `tissue_pass` gives them."""
    tissue, mask = _one_channel(tissue), None if mask is None else _one_channel(mask)
    if mask is not None and not set(mask.dims) <= set(tissue.dims):
        # A plane of tissue, of which each frame has pixels of its own that count.
        whole, _ = xr.broadcast(tissue, mask)
        tissue = whole.transpose(*(d for d in DIMS if d in whole.dims))
        tissue = rechunked(tissue, mask.chunksizes)
    return tissue_read(tissue, mask, 0.5, "median").build()


def _one_channel(mask: xr.DataArray) -> xr.DataArray:
    return mask.isel(c=slice(0, 1)) if "c" in mask.dims else mask


def threshold_of(statistics: Statistics, channel: int, method: Method) -> float:
    """Value above which a channel is tissue; NaN for an empty channel and Otsu of a constant."""
    values = statistics.distribution(channel)
    return values.quantile(0.5)[0] if method == "median" else values.otsu()[0]


def _threshold(
    statistics: LazyStatistics | Delayed | Statistics, channel: int, method: Method
) -> Delayed | float:
    if isinstance(statistics, Statistics):
        return threshold_of(statistics, channel, method)
    promised = _promised(statistics)
    return join("threshold", threshold_of, promised, channel, method)


def _promised(statistics: Any) -> Any:
    """Statistics as what a task may wait for."""
    return statistics.delayed if isinstance(statistics, LazyStatistics) else statistics


def tissue_read(
    image: xr.DataArray,
    mask: xr.DataArray | None,
    threshold: Delayed | float,
    method: Method,
    *,
    guard: bool = False,
) -> Reduce:
    """The read that (blurs and) labels tissue, joins rectangles and adds planes."""
    observe = _label_above if method == "median" else _begin_blur
    return Reduce(
        "tissue", image, mask, WithNan(observe) if guard else observe, (threshold,),
        seam=_join, finish=_areas, smallest=2 * REACH + 1,
        guard=guard, on_device=method == "median",
    )  # fmt: skip


@dataclass(frozen=True)
class _TissuePieces:
    """Valid pixels of a rectangle, and the pieces of tissue in each of its planes.

    With a blur the pieces are of what is decided: all but `REACH` pixels at sides with neighbours.
    """

    valid: int
    planes: tuple[BlockComponents, ...]
    edges: Edges

    def merge(self, other: _TissuePieces) -> _TissuePieces:
        """Of other planes too."""
        return _TissuePieces(self.valid + other.valid, self.planes + other.planes, self.edges)


def _join(
    first: _TissuePieces, second: _TissuePieces, axis: int, threshold: float
) -> _TissuePieces:
    """Of two rectangles, of which the second lies to the right (axis -1) or below (axis -2)."""
    parts = [first.planes, second.planes]
    if first.edges.values is not None:
        parts.insert(1, _between(first.edges, second.edges, axis, threshold))
    planes = tuple(components.merge_line(line, axis + 2) for line in zip(*parts, strict=True))
    edges = first.edges.joined(second.edges, axis)
    return _TissuePieces(first.valid + second.valid, planes, edges)


def _between(
    first: Edges, second: Edges, axis: int, threshold: float
) -> tuple[BlockComponents, ...]:
    """Pieces among the pixels that neither of two rectangles could decide alone."""
    place, (height, width) = first.place, first.shape
    if axis == -1:
        pixels = beside(first.values, second.values, "right", "left", axis)
        inside = beside(first.flags, second.flags, "right", "left", axis)
        around = _Rectangle(0, height, 0, 4 * REACH)
        core = replace(_decided(place, height, width), left=REACH, right=3 * REACH)
        place = replace(place, left=True, right=True)
    else:
        pixels = beside(first.values, second.values, "bottom", "top", axis)
        inside = beside(first.flags, second.flags, "bottom", "top", axis)
        around = _Rectangle(0, 4 * REACH, 0, width)
        core = replace(_decided(place, height, width), top=REACH, bottom=3 * REACH)
        place = replace(place, top=True, bottom=True)
    assert pixels is not None
    positive = _blurred_above(pixels[0], core, around, threshold)
    if inside is not None:
        positive &= inside[0][core.within(around)]
    return _label(positive, place, MIN_SIZE)


def _decided(place: Place, height: int, width: int) -> _Rectangle:
    """The pixels of a rectangle whose blur reaches into no neighbour."""
    return _Rectangle(
        REACH * place.top, height - REACH * place.bottom,
        REACH * place.left, width - REACH * place.right,
    )  # fmt: skip


def _areas(pieces: _TissuePieces) -> TissueMask:
    total = TissueMask(pieces.valid, 0, 0, 0, 0)
    for plane in map(components.finish, pieces.planes):
        total = total.merge(
            TissueMask(0, plane.area_total, plane.n_components, plane.area_counted, plane.largest)
        )
    return total


def _label(positive: np.ndarray, place: Place, min_size: int) -> tuple[BlockComponents, ...]:
    """Pieces of each plane of a (t, z, y, x) mask."""
    sides = (place.top, place.bottom, place.left, place.right)
    planes = positive.reshape(-1, *positive.shape[-2:])
    return tuple(components.label_block(p, min_size, sides) for p in planes)


def _counting(block: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
    """Which pixels of a (t, z, y, x) block count; None where all do."""
    finite = np.isfinite(block) if block.dtype.kind == "f" else None
    if finite is not None and bool(finite.all()):
        finite = None
    if mask is None:
        return finite
    inside = mask
    return inside if finite is None else inside & finite


def _label_above(
    channels: Iterable[np.ndarray], masks: list[np.ndarray] | None, place: Place, threshold: float
) -> _TissuePieces:
    """What a task does for the median: no pixel needs its neighbours."""
    (block,) = channels
    mask = None if masks is None else masks[0]
    counting = _counting(block, mask)
    positive = _exceeds(block, threshold)
    valid = block.size
    if counting is not None:
        positive &= counting
        valid = int(np.count_nonzero(counting))
    positive = to_host(positive)  # pieces are found on the host: a byte a pixel
    edges = Edges(place, (block.shape[-2], block.shape[-1]))
    return _TissuePieces(valid, _label(positive, place, min_size=1), edges)


def _exceeds(block: np.ndarray, threshold: float) -> np.ndarray:
    """``x > threshold`` as float64; without a conversion for integers that float64 holds."""
    if np.isnan(threshold):
        return np.zeros_like(block, dtype=bool)
    if block.dtype.kind in "iu" and block.dtype.itemsize < 8:
        return block > int(np.floor(threshold))
    return _above(block, np.float64(threshold))


@twin(lambda block, threshold: block.astype("f8") > threshold)  # no device promotes for a scalar
def _above(block: np.ndarray, threshold: np.float64) -> np.ndarray:
    return block > threshold  # not a Python float, which numpy would round to the block's type


@dataclass(frozen=True)
class _Rectangle:
    """Rows ``top:bottom`` and columns ``left:right``, from the first pixel of a group."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    def grown(self, by: int, limits: _Rectangle) -> _Rectangle:
        """With `by` pixels more on each side, as far as there are pixels."""
        return _Rectangle(
            max(self.top - by, limits.top),
            min(self.bottom + by, limits.bottom),
            max(self.left - by, limits.left),
            min(self.right + by, limits.right),
        )

    def within(self, frame: _Rectangle) -> tuple[Any, ...]:
        """Its place in an array that covers `frame`."""
        return (
            ...,
            slice(self.top - frame.top, self.bottom - frame.top),
            slice(self.left - frame.left, self.right - frame.left),
        )


def _begin_blur(
    channels: Iterable[np.ndarray], masks: list[np.ndarray] | None, place: Place, threshold: float
) -> _TissuePieces:
    """What a task that reads does: all that needs no neighbour."""
    (block,) = channels
    mask = None if masks is None else masks[0]
    if block.dtype.kind == "f" and np.isinf(block).any():
        block = np.where(np.isinf(block), block.dtype.type(np.nan), block)
    counting = _counting(block, mask)
    height, width = block.shape[-2:]
    whole, inner = _Rectangle(0, height, 0, width), _decided(place, height, width)
    positive = np.empty(block.shape[:-2] + inner.shape, bool)
    for top in range(inner.top, inner.bottom, _BAND):
        band = replace(inner, top=top, bottom=min(top + _BAND, inner.bottom))
        around = band.grown(REACH, whole)
        pixels = block[around.within(whole)]
        positive[band.within(inner)] = _blurred_above(pixels, band, around, threshold)
    if mask is not None:
        positive &= mask[inner.within(whole)]
    edges = Edges(
        place,
        (height, width),
        Strips.cut([block], place, 2 * REACH),
        None if mask is None else Strips.cut([mask], place, 2 * REACH),
    )
    valid = block.size if counting is None else int(np.count_nonzero(counting))
    return _TissuePieces(valid, _label(positive, place, MIN_SIZE), edges)


def _blurred_above(
    pixels: np.ndarray, core: _Rectangle, around: _Rectangle, threshold: float
) -> np.ndarray:
    """Whether the blur of `core` exceeds the threshold, from the pixels of `around`."""
    halo = (
        core.top - around.top, around.bottom - core.bottom,
        core.left - around.left, around.right - core.right,
    )  # fmt: skip
    above = np.zeros(pixels.shape[:-2] + core.shape, bool)
    if np.isnan(threshold):
        return above
    for index in np.ndindex(*pixels.shape[:-2]):
        # In float64 whatever came: a float32 blur would decide pixels at the threshold.
        above[index] = gaussian_blur(pixels[index].astype("f8"), SIGMA, halo) > threshold
    return above
