"""The scan: one read of the chunks (two for floats) for everything that the metrics need."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import dask.array as da
import dask.base
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from gigaqc.base.backend import beside, to_host
from gigaqc.base.geometry import rechunked
from gigaqc.errors import ChannelError, ParameterError
from gigaqc.formulas.artifacts import HOT_SIGMAS
from gigaqc.formulas.range import RECIPE_QUANTILES, hot_scale, wanted_bins
from gigaqc.graph.guard import agreed, unreadable_of, value_of
from gigaqc.graph.reduce import Reduce
from gigaqc.graph.tasks import LazyValue, join, persisted_value
from gigaqc.image.labelled import as_image, as_mask, channel_names
from gigaqc.scanning.labels import aligned, as_labels, check_fit
from gigaqc.scanning.objects import ObjectRequest, Objects
from gigaqc.scanning.objects import observe as observe_objects
from gigaqc.statistics.blocks import Partial, Place, Request
from gigaqc.statistics.distribution import CodeHistogram, KeyHistogram, bias_of, layout_of
from gigaqc.statistics.object_sums import Layout, ObjectSums
from gigaqc.statistics.reads import Again, Second, join_again, join_partials, observe, observe_again
from gigaqc.statistics.statistics import Meta, Part, State, Statistics
from gigaqc.statistics.unreadable import (
    OnError,
    check_on_error,
    join_readable,
    observe_readable,
    observe_readable_again,
    with_nan,
)
from gigaqc.typing import ImageLike, LabelsLike, MaskLike

THUMBNAIL_SIDE = 512  # pixels at most


def scan(
    image: ImageLike,
    *,
    labels: LabelsLike | None = None,
    mask: MaskLike | None = None,
    tile: int = 512,
    quantiles: Sequence[float] = (),
    nonzero_quantiles: Sequence[float] = (),
    thresholds: Sequence[float] = (),
    parts: Part = Part.ALL,
    spectrum: bool = False,
    refine: bool = True,
    on_error: OnError = "raise",
) -> LazyStatistics:
    """Observe everything that the metrics need, in one read of the chunks (lazy).

    Integers to 16 bits are read once. Floats and wider integers are read a second time, to make the
    recipe's percentiles and `quantiles` exact.

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.
    labels
        A label image of the same pixels: sums over its objects too, in the same read. An image
        with labels has one time.
    mask
        Bool, of the image's ``y x`` or more of its dims, or polygons (see `region`); pixels outside
        are excluded and counted.
    tile
        Side of the tiles of the tile maps, in pixels.
    quantiles
        Further quantiles in 0..1 that must be exact for floats and wider integers.
    nonzero_quantiles
        The same, of the values that are not zero.
    thresholds
        Values at which counts and means above must be exact for floats and wider integers.
    parts
        What to observe; everything but the tile spectrum unless said.
    spectrum
        Observe the power spectrum of full tiles too.
    refine
        False leaves out the second read of floats and wider integers: sums stay as they are,
        quantiles are then known to a bound, and hot pixels are not counted.
    on_error
        ``"raise"``: a chunk of the image that cannot be read is an error. ``"mask"``: its pixels
        are excluded, as if they lay outside of a mask, and reported in
        ``Statistics.unreadable``. Chunks of labels and masks are always needed.

    Returns
    -------
    LazyStatistics
        A dask collection; ``.compute()`` gives the `Statistics`.

    Raises
    ------
    ImageError, MaskError, ParameterError
        Before any pixel is read.
    ReadError
        When it is computed, and a chunk cannot be read; names the store, the chunk and the channel.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> s = gq.scan(np.arange(100, dtype="u2").reshape(10, 10)).compute()
    >>> s.distribution(0).maximum
    99.0
    """
    labelled = as_image(image)
    if spectrum:
        parts |= Part.SPECTRUM
    check_tile(tile)
    check_on_error(on_error)
    for q in (*quantiles, *nonzero_quantiles):
        if not 0 <= q <= 1:
            raise ParameterError(f"quantiles: {q} is not in 0..1; a percentile p is p/100.")
    if not refine and layout_of(np.dtype(labelled.dtype)) is not None:
        parts &= ~Part.RESPONSE  # its scale is known after the first read only
    labelled = _aligned(labelled, tile) if parts & Part.SPECTRUM else labelled
    within = None if mask is None else as_mask(mask, labelled)
    ids = None if labels is None else as_labels(labels)
    if ids is not None:
        check_fit(ids, labelled)
    asked = (tuple(quantiles), tuple(nonzero_quantiles), tuple(thresholds))
    guard = on_error == "mask"
    return ScanSpec(
        labelled, within, ids, int(tile), *asked, parts | Part.MOMENTS, refine, guard
    ).build()


def check_tile(tile: int) -> None:
    """Refuse a tile side that is no whole number of at least 8."""
    if not isinstance(tile, (int, np.integer)) or isinstance(tile, bool) or tile < 8:
        raise ParameterError(f"tile: got {tile!r}; pass a whole number of pixels, at least 8.")


def _aligned(image: xr.DataArray, tile: int) -> xr.DataArray:
    """Chunks that end where tiles end: a spectrum needs all pixels of its tile at once."""
    chunks = {}
    for dim in ("y", "x"):
        sizes = image.chunksizes[dim]
        edges = np.cumsum(sizes)
        if (edges[:-1] % tile).any():
            side = tile * max(1, round(max(sizes) / tile))
            chunks[dim] = side
    return rechunked(image, chunks) if chunks else image


class LazyStatistics(LazyValue):
    """The promise of a `Statistics`: a dask collection of one value.

    ``.compute()`` or ``dask.compute(...)`` gives it; every metric function takes it as it is.
    """

    def __init__(self, promise: Delayed, meta: Meta) -> None:
        super().__init__(promise)
        self.meta = meta

    def __dask_postpersist__(self) -> tuple[Callable, tuple]:
        return _persisted, (self.delayed.key, self.meta)

    @property
    def channels(self) -> list[str]:
        """Names of the channels."""
        return list(self.meta.channels)

    def save(self, path: Any, *, overwrite: bool = False) -> None:
        """Compute, and keep at `path`; see `Statistics.save`. Runs now."""
        self.compute().save(path, overwrite=overwrite)

    def __add__(self, other: Any) -> Statistics:
        """Pool two scans; runs now."""
        mine, theirs = dask.base.compute(self, other)
        return mine + theirs

    def __repr__(self) -> str:
        return f"LazyStatistics of {self.meta}; compute() gives the Statistics"


StatisticsLike: TypeAlias = Statistics | LazyStatistics
"""What a scan gives, computed or not: whatever follows from it takes it in an image's place."""


def statistics_of(
    image: xr.DataArray, statistics: Statistics | LazyStatistics | None, **asked: Any
) -> Statistics | Delayed:
    """What is known of the values of an image: what the caller has, or a read of its own."""
    if statistics is None:
        return scan(image, parts=Part.MOMENTS, **asked).delayed
    if not isinstance(statistics, (Statistics, LazyStatistics)):
        raise ParameterError(
            f"statistics: got {type(statistics).__name__}; pass what gq.scan(image) gives, or None."
        )
    if list(statistics.channels) != channel_names(image):
        raise ChannelError(
            f"statistics: of channels {list(statistics.channels)}, and the image has "
            f"{channel_names(image)}; scan this image."
        )
    return statistics.delayed if isinstance(statistics, LazyStatistics) else statistics


def _persisted(graph: Mapping, key: Hashable, meta: Meta, rename: Mapping | None = None) -> Any:
    return LazyStatistics(persisted_value(graph, key, rename), meta)


@dataclass(frozen=True)
class ScanSpec:
    """What a scan is asked for, and the reads that it takes."""

    image: xr.DataArray
    mask: xr.DataArray | None
    labels: xr.DataArray | None
    tile: int
    quantiles: tuple[float, ...]
    nonzero_quantiles: tuple[float, ...]
    thresholds: tuple[float, ...]
    parts: Part
    refine: bool
    guard: bool

    @property
    def request(self) -> Request:
        """What each block is asked for."""
        sides = (self.image.sizes["y"], self.image.sizes["x"])
        cell = max(1, math.ceil(max(sides) / THUMBNAIL_SIDE))
        return Request(
            self.parts, int(self.tile), cell, np.dtype(self.image.dtype), excluding=self.guard
        )

    @property
    def twice(self) -> bool:
        """Whether the image is read a second time."""
        return self.refine and not self.request.integers

    @property
    def asked(self) -> tuple[float, ...]:
        """Quantiles that must be exact."""
        return tuple(sorted({*RECIPE_QUANTILES, *self.quantiles}))

    def meta(self) -> Meta:
        """What the statistics will say of the image."""
        attrs = self.image.attrs
        size = attrs.get("pixel_size") or {}
        return Meta(
            channels=tuple(channel_names(self.image)),
            dims=tuple(str(d) for d in self.image.dims),
            sizes={str(d): int(n) for d, n in self.image.sizes.items()},
            dtype=np.dtype(self.image.dtype).newbyteorder("=").name,
            parts=int(self.parts),
            tile=int(self.tile),
            masked=self.mask is not None,
            reads=2 if self.twice else 1,
            pixel_size={str(k): float(v) for k, v in size.items()},
            unit=attrs.get("unit"),
            source=None if attrs.get("source") is None else str(attrs["source"]),
        )

    @cached_property
    def first(self) -> Reduce:
        """The read that observes everything."""
        if self.labels is None:
            return Reduce(
                "scan", self.image, self.mask, *self._functions(), guard=self.guard, on_device=True
            )
        wanted = ObjectRequest.of(self.labels, self.image)
        return Reduce(
            "scan", self.image, _beside(self.labels, self.mask, self.image),
            _ObserveBoth(self.guard), (self.request, wanted), _join_both, guard=self.guard,
        )  # fmt: skip

    def build(self) -> LazyStatistics:
        """The graph of all passes."""
        meta, labels, sums = self.meta(), self.labels, None
        found, unreadable = self.first.build(), None
        if self.guard:
            unreadable = join("unreadable", unreadable_of, found)
            found = join("found", value_of, found)
        state = found if labels is None else join("state", _first_of, found)
        if labels is not None:
            layout = Layout.of(labels, self.image)
            sums = join("object-sums", _objects_of, found, layout)
        if self.twice:
            state = self._second_pass(state, unreadable)
        whole = join("statistics", Statistics, meta, state, sums, unreadable)
        return LazyStatistics(whole, meta)

    def _functions(self) -> tuple[Callable, tuple[Request], Callable, Callable]:
        """What the first read observes, of which request, how seams are joined, what is kept."""
        if self.guard:
            readable = observe_readable, join_readable
            return readable[0], (self.request,), readable[1], _state_of
        return observe, (self.request,), join_partials, _state_of

    def _second_pass(self, state: Delayed, unreadable: Delayed | None) -> Delayed:
        request = self.request
        asked = (self.asked, self.nonzero_quantiles, self.thresholds)
        planned = join("second", plan_second, state, *asked, request)
        observe = observe_readable_again if self.guard else observe_again
        again = Reduce(
            "again", self.image, self.mask, observe,
            (replace(request, parts=request.parts & Part.RESPONSE), planned),
            join_again, guard=self.guard, on_device=True,
        ).build()  # fmt: skip
        if unreadable is not None:
            again = join("agreed", agreed, again, unreadable)
        return join("refined", with_second, state, again)


def _state_of(partial: Partial) -> State:
    return partial.state


@dataclass(frozen=True)
class _Both:
    """What a read gives of a part of an image with labels."""

    partial: Partial
    objects: Objects

    def merge(self, other: _Both) -> _Both:
        return _Both(self.partial.merge(other.partial), self.objects.merge(other.objects))


def _beside(labels: xr.DataArray, mask: xr.DataArray | None, image: xr.DataArray) -> xr.DataArray:
    """Labels in the chunks of the image; with a mask both as one array, for a pass takes one."""
    ids = aligned(labels, image)
    if mask is None:
        return ids
    wide, ids = xr.broadcast(mask, ids)
    order = [d for d in image.dims if d in wide.dims]
    wide, ids = wide.transpose(*order), ids.transpose(*order)
    dtype = np.dtype([("mask", "?"), ("label", labels.dtype)])
    chunks = {d: image.chunksizes[d] for d in order}
    both = (rechunked(part, chunks).data for part in (wide, ids))
    pair = da.map_blocks(_paired, *both, dtype=dtype)
    return wide.copy(data=pair)


def _paired(mask: np.ndarray, ids: np.ndarray) -> np.ndarray:
    pair = np.empty(mask.shape, [("mask", "?"), ("label", ids.dtype)])
    pair["mask"], pair["label"] = to_host(mask), to_host(ids)
    return pair


@dataclass(frozen=True)
class _ObserveBoth:
    """What a task does where labels come as the mask of a pass; `guard` as in a `Reduce`."""

    guard: bool

    def __call__(
        self,
        channels: Iterable[np.ndarray],
        masks: list[np.ndarray],
        place: Place,
        request: Request,
        wanted: ObjectRequest,
    ) -> _Both:
        blocks, within = list(channels), None
        if masks[0].dtype.names:
            pairs = list(zip(masks, blocks, strict=True))
            within = [beside(np.ascontiguousarray(m["mask"]), c) for m, c in pairs]
            masks = [beside(np.ascontiguousarray(masks[0]["label"]), blocks[0])]
        found = observe_objects(map(with_nan, blocks), masks, place, wanted)
        watch = observe_readable if self.guard else observe
        return _Both(watch(blocks, within, place, request), found)


def _join_both(
    first: _Both, second: _Both, axis: int, request: Request, wanted: ObjectRequest
) -> _Both:
    partial = join_readable(first.partial, second.partial, axis, request)
    return _Both(partial, first.objects.merge(second.objects))


def _first_of(both: _Both) -> State:
    return both.partial.state


def _objects_of(both: _Both, layout: Layout) -> ObjectSums:
    return ObjectSums(both.objects.rows(), layout)


def plan_second(
    state: State,
    quantiles: Sequence[float],
    nonzero_quantiles: Sequence[float],
    thresholds: Sequence[float],
    request: Request,
) -> Second:
    """What the second read of floats is to look at."""
    histogram = state.histogram
    assert isinstance(histogram, KeyHistogram)
    channels = range(len(histogram.channels))
    zeros = state.tally.table[4]
    asked = (quantiles, nonzero_quantiles, thresholds)
    bins = tuple(wanted_bins(histogram, c, int(zeros[c]), *asked) for c in channels)
    if not request.parts & Part.RESPONSE:
        nothing = np.full(len(bins), np.nan)
        return Second(bins, nothing, nothing)
    assert state.artifacts is not None
    counts = request.dtype.kind != "f"
    scales = [hot_scale(histogram, c, state.artifacts.response, counts=counts) for c in channels]
    sigma, unit = np.array(scales).T
    return Second(bins, HOT_SIGMAS * sigma, unit)


def with_second(state: State, again: Again) -> State:
    """The state of the first read with what the second refined."""
    histogram = state.histogram
    assert isinstance(histogram, KeyHistogram)
    state = replace(state, histogram=histogram.with_refined(again.refined))
    if state.artifacts is not None:
        state = replace(state, artifacts=replace(state.artifacts, hot=again.hot))
    return state


def empty_state(channels: int, dtype: np.dtype) -> State:
    """The state of no pixels of an image of `dtype`."""
    layout = layout_of(dtype)
    if layout is None:
        return State.empty(channels, CodeHistogram.empty(channels, bias_of(dtype)))
    return State.empty(channels, KeyHistogram.empty(channels, layout))
