"""The tissue pass: one channel, read once more, becomes a mask and areas of its pieces.

Each task thresholds its group of chunks and labels the pieces of each plane; pieces meet at the
seams. A blur reaches beyond a group: what lies far from the neighbours is decided when the group is
read and kept as bits, the rest waits, as strips of pixels, until the neighbours are read. So no
chunk is read twice, and what waits is an eighth of a byte a pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from dask._task_spec import GraphNode, List, Task, TaskRef
from dask.base import tokenize
from dask.delayed import Delayed
from dask.typing import Key

from gigaqc.errors import ParameterError
from gigaqc.image import DIMS
from gigaqc.kernels import components
from gigaqc.kernels.components import BlockComponents
from gigaqc.kernels.transform import gaussian_blur, gaussian_radius
from gigaqc.observe import Place, Strips
from gigaqc.passes import Group, Pass, join, plan_groups, promise, tree
from gigaqc.scanning import LazyStatistics
from gigaqc.statistics import Statistics

Method = Literal["median", "otsu"]
SIGMA = 2.0  # pixels
MIN_SIZE = 64  # pixels of a piece that counts, after the blur
REACH = gaussian_radius(SIGMA)
_BAND = 128  # rows that are blurred at once: float64 that stays in the cache
_DIRECTIONS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)


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
    token = tokenize(image.data.name, None if mask is None else mask.data.name, method, threshold)
    return _TissuePass(f"tissue-{token}", image, mask, threshold, method).build()


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
        tissue = whole.transpose(*(d for d in DIMS if d in whole.dims)).chunk(mask.chunksizes)
    token = tokenize(tissue.data.name, None if mask is None else mask.data.name)
    return _TissuePass(f"tissue-{token}", tissue, mask, 0.5, "median").build()


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
    promised = statistics.delayed if isinstance(statistics, LazyStatistics) else statistics
    name = f"threshold-{tokenize(promised.key, channel, method)}"
    return join(name, threshold_of, promised, channel, method)


@dataclass(frozen=True)
class _TissuePass:
    """The graph: read (and blur), label, merge along x, along y, and over planes."""

    name: str
    image: xr.DataArray
    mask: xr.DataArray | None
    threshold: Delayed | float
    method: Method

    @property
    def after(self) -> tuple[Delayed, ...]:
        return (self.threshold,) if isinstance(self.threshold, Delayed) else ()

    def build(self) -> Delayed:
        groups = plan_groups(self.image)
        observe = _label_above if self.method == "median" else _begin_blur
        reading = Pass(
            self.name, self.image, self.mask, observe, (self.threshold,), after=self.after
        )
        nodes, keys = reading.observe_tasks(groups)
        if self.method == "otsu":
            keys = self._blur_tasks(groups, nodes)
        table = np.empty([n + 1 for n in groups[-1].index], dtype=object)
        for group, key in zip(groups, keys, strict=True):
            table[group.index] = key
        planes = []
        for t, z in np.ndindex(*table.shape[:2]):
            rows = [
                tree(f"{self.name}-row", row, nodes, _beside, (t, z, y))
                for y, row in enumerate(table[t, z])
            ]
            planes.append(tree(f"{self.name}-plane", rows, nodes, _below, (t, z)))
        root = f"{self.name}-areas"
        nodes[root] = Task(root, _areas, List(*(TaskRef(key) for key in planes)))
        return promise(root, nodes, self.after)

    def _blur_tasks(self, groups: Sequence[Group], nodes: dict[Key, GraphNode]) -> list[Key]:
        read = {g.index: TaskRef((f"{self.name}-observe", *g.index)) for g in groups}
        threshold = self.threshold
        level = TaskRef(threshold.key) if isinstance(threshold, Delayed) else threshold
        keys: list[Key] = []
        for t, z, y, x in read:
            key = (f"{self.name}-blurred", t, z, y, x)
            near = [read.get((t, z, y + dy, x + dx)) for dy, dx in _DIRECTIONS]
            nodes[key] = Task(key, _finish_blur, read[t, z, y, x], List(*near), level)
            keys.append(key)
        return keys


@dataclass(frozen=True)
class _Pieces:
    """Valid pixels of a rectangle, and the pieces of tissue in each of its planes."""

    valid: int
    planes: tuple[BlockComponents, ...]


def _beside(pieces: list[_Pieces]) -> _Pieces:
    return _merge_line(pieces, axis=1)


def _below(pieces: list[_Pieces]) -> _Pieces:
    return _merge_line(pieces, axis=0)


def _merge_line(pieces: Sequence[_Pieces], axis: int) -> _Pieces:
    planes = zip(*(p.planes for p in pieces), strict=True)
    return _Pieces(
        sum(p.valid for p in pieces), tuple(components.merge_line(line, axis) for line in planes)
    )


def _areas(pieces: Sequence[_Pieces]) -> TissueMask:
    total = TissueMask(0, 0, 0, 0, 0)
    for piece in pieces:
        total = total.merge(TissueMask(piece.valid, 0, 0, 0, 0))
        for plane in map(components.finish, piece.planes):
            total = total.merge(
                TissueMask(
                    0, plane.area_total, plane.n_components, plane.area_counted, plane.largest
                )
            )
    return total


def _label(positive: np.ndarray, place: Place, valid: int, min_size: int) -> _Pieces:
    """Pieces of each plane of a (t, z, y, x) mask."""
    sides = (place.top, place.bottom, place.left, place.right)
    planes = positive.reshape(-1, *positive.shape[-2:])
    return _Pieces(valid, tuple(components.label_block(p, min_size, sides) for p in planes))


def _counting(block: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
    """Which pixels of a (t, z, y, x) block count; None where all do."""
    finite = np.isfinite(block) if block.dtype.kind == "f" else None
    if finite is not None and finite.all():
        finite = None
    if mask is None:
        return finite
    inside = mask
    return inside if finite is None else inside & finite


def _label_above(
    channels: Iterable[np.ndarray], masks: list[np.ndarray] | None, place: Place, threshold: float
) -> _Pieces:
    """What a task does for the median: no pixel needs its neighbours."""
    (block,) = channels
    mask = None if masks is None else masks[0]
    counting = _counting(block, mask)
    positive = _exceeds(block, threshold)
    if counting is None:
        return _label(positive, place, block.size, min_size=1)
    positive &= counting
    return _label(positive, place, int(np.count_nonzero(counting)), min_size=1)


def _exceeds(block: np.ndarray, threshold: float) -> np.ndarray:
    """``x > threshold`` as float64; without a conversion for integers that float64 holds."""
    if np.isnan(threshold):
        return np.zeros(block.shape, bool)
    if block.dtype.kind in "iu" and block.dtype.itemsize < 8:
        return block > int(np.floor(threshold))
    # Not a Python float, which numpy would round to the type of the block.
    return block > np.float64(threshold)


@dataclass(frozen=True)
class _Begun:
    """A group of which only the rim is still to be blurred.

    `positive` and `counting` are packed bits of (t, z, y, x); `strips` are the pixels near the
    neighbours, as wide as blurring the rim asks for.
    """

    place: Place
    shape: tuple[int, ...]
    valid: int
    positive: np.ndarray
    counting: np.ndarray | None
    strips: Strips


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

    def meet(self, other: _Rectangle) -> _Rectangle | None:
        """What both cover."""
        both = self.grown(0, other)
        return both if min(both.shape) > 0 else None

    def within(self, frame: _Rectangle) -> tuple[Any, ...]:
        """Its place in an array that covers `frame`."""
        return (
            ...,
            slice(self.top - frame.top, self.bottom - frame.top),
            slice(self.left - frame.left, self.right - frame.left),
        )


def _begin_blur(
    channels: Iterable[np.ndarray], masks: list[np.ndarray] | None, place: Place, threshold: float
) -> _Begun:
    """What a task that reads does: all that needs no neighbour."""
    (block,) = channels
    mask = None if masks is None else masks[0]
    if block.dtype.kind == "f" and np.isinf(block).any():
        block = np.where(np.isinf(block), block.dtype.type(np.nan), block)
    counting = _counting(block, mask)
    height, width = block.shape[-2:]
    whole = _Rectangle(0, height, 0, width)
    inner = _Rectangle(
        REACH * place.top, height - REACH * place.bottom,
        REACH * place.left, width - REACH * place.right,
    )  # fmt: skip
    positive = np.zeros(block.shape, bool)
    if not np.isnan(threshold) and min(inner.shape) > 0:
        for top in range(inner.top, inner.bottom, _BAND):
            band = _Rectangle(top, min(top + _BAND, inner.bottom), inner.left, inner.right)
            around = band.grown(REACH, whole)
            pixels = block[around.within(whole)]
            positive[band.within(whole)] = _blurred_above(pixels, band, around, threshold)
    return _Begun(
        place,
        block.shape,
        block.size if counting is None else int(np.count_nonzero(counting)),
        np.packbits(positive, axis=-1),
        None if counting is None else np.packbits(counting, axis=-1),
        Strips.cut([block], place, 2 * REACH),
    )


def _blurred_above(
    pixels: np.ndarray, core: _Rectangle, around: _Rectangle, threshold: float
) -> np.ndarray:
    """Whether the blur of `core` exceeds the threshold, from the pixels of `around`."""
    halo = (
        core.top - around.top, around.bottom - core.bottom,
        core.left - around.left, around.right - core.right,
    )  # fmt: skip
    above = np.empty(pixels.shape[:-2] + core.shape, bool)
    for index in np.ndindex(*pixels.shape[:-2]):
        # In float64 whatever came: a float32 blur would decide pixels at the threshold.
        above[index] = gaussian_blur(pixels[index].astype("f8"), SIGMA, halo) > threshold
    return above


def _finish_blur(own: _Begun, near: Sequence[_Begun | None], threshold: float) -> _Pieces:
    """Blur the rim of a group from the strips of its neighbours, and label its pieces."""
    height, width = own.shape[-2:]
    positive = np.unpackbits(own.positive, axis=-1, count=width).view(bool)
    if not np.isnan(threshold):
        strips = list(_strips_around(own, dict(zip(_DIRECTIONS, near, strict=True))))
        whole, place = _Rectangle(0, height, 0, width), own.place
        limits = _Rectangle(
            -REACH * place.top, height + REACH * place.bottom,
            -REACH * place.left, width + REACH * place.right,
        )  # fmt: skip
        for band in _rim(place, height, width):
            around = band.grown(REACH, limits)
            pixels = _assembled(around, strips)
            positive[band.within(whole)] = _blurred_above(pixels, band, around, threshold)
    if own.counting is not None:
        positive &= np.unpackbits(own.counting, axis=-1, count=width).view(bool)
    return _label(positive, own.place, own.valid, MIN_SIZE)


def _rim(place: Place, height: int, width: int) -> Iterator[_Rectangle]:
    """Pixels of a group whose blur reaches into a neighbour; corners come twice, to no harm."""
    if place.top:
        yield _Rectangle(0, REACH, 0, width)
    if place.bottom:
        yield _Rectangle(height - REACH, height, 0, width)
    if place.left:
        yield _Rectangle(0, height, 0, REACH)
    if place.right:
        yield _Rectangle(0, height, width - REACH, width)


def _strips_around(
    own: _Begun, near: Mapping[tuple[int, int], _Begun | None]
) -> Iterator[tuple[_Rectangle, np.ndarray]]:
    """The strips of a group and its neighbours, and where they lie."""
    for (dy, dx), begun in {(0, 0): own, **near}.items():
        if begun is None:
            continue
        height, width = begun.shape[-2:]
        top = (0, own.shape[-2], -height)[dy]
        left = (0, own.shape[-1], -width)[dx]
        bottom, right = top + height, left + width
        strips = begun.strips
        for strip, y, x in (
            (strips.top, top, left),
            (strips.bottom, bottom - strips.bottom.shape[-2], left),
            (strips.left, top, left),
            (strips.right, top, right - strips.right.shape[-1]),
        ):
            if strip.size:
                rows, columns = strip.shape[-2:]
                yield _Rectangle(y, y + rows, x, x + columns), strip[0]


def _assembled(wanted: _Rectangle, strips: Sequence[tuple[_Rectangle, np.ndarray]]) -> np.ndarray:
    """The pixels of a rectangle that strips cover."""
    first = strips[0][1]
    out = np.empty(first.shape[:-2] + wanted.shape, first.dtype)
    for covers, strip in strips:
        shared = wanted.meet(covers)
        if shared is not None:
            out[shared.within(wanted)] = strip[shared.within(covers)]
    return out
