"""Passes over pixels that no statistic holds: histograms of given edges, sums above thresholds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from dask.delayed import Delayed

from gigaqc.base.backend import twin
from gigaqc.graph.reduce import Reduce
from gigaqc.graph.tasks import join
from gigaqc.kernels import vectors
from gigaqc.kernels.accumulate import KeyLayout, count_keys
from gigaqc.kernels.fused import take_occupied
from gigaqc.kernels.rows import count_codes
from gigaqc.statistics.blocks import Channels, Place, to_codes
from gigaqc.statistics.distribution import (
    CodeHistogram,
    Histogram,
    KeyBins,
    KeyHistogram,
    Refined,
    bias_of,
    layout_of,
)

_SLAB = 1 << 16  # pixels that are counted at once: their float64 copies stay in the cache


@dataclass(frozen=True)
class _PairCounts:
    counts: np.ndarray

    def merge(self, other: _PairCounts) -> _PairCounts:
        return _PairCounts(self.counts + other.counts)


@dataclass(frozen=True)
class MandersSums:
    """Sums over the pixels that are valid in both channels of a pair.

    `x_where_y` is the sum of x where y exceeds its threshold, `y_where_x` the reverse; Manders'
    coefficients are these over `x` and `y`.
    """

    x_where_y: float
    x: float
    y_where_x: float
    y: float
    n: int

    def merge(self, other: MandersSums) -> MandersSums:
        """Both, of other pixels."""
        return MandersSums(
            self.x_where_y + other.x_where_y,
            self.x + other.x,
            self.y_where_x + other.y_where_x,
            self.y + other.y,
            self.n + other.n,
        )


@dataclass(frozen=True)
class Extremes:
    """Smallest and largest finite value of each channel; low > high where there is none."""

    low: np.ndarray
    high: np.ndarray

    def merge(self, other: Extremes) -> Extremes:
        """Of two parts of an image."""
        return Extremes(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


def extremes_pass(image: xr.DataArray, mask: xr.DataArray | None = None) -> Delayed:
    """Smallest and largest finite value of each channel, as `Extremes`, in one read (lazy)."""
    return Reduce("extremes", image, mask, _extremes, on_device=True).build()


def _extremes(channels: Iterable[np.ndarray], masks: Channels | None, place: Place) -> Extremes:
    found = [
        _extremes_of(channel, None if masks is None else masks[c])
        for c, channel in enumerate(channels)
    ]
    low, high = zip(*found, strict=True)
    return Extremes(np.array(low), np.array(high))


@twin(lambda channel, within: vectors.extremes(vectors.finite(channel, within)))
def _extremes_of(channel: np.ndarray, within: np.ndarray | None) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for (values,) in _finite_slabs(channel, within=within):
        if values.size:
            low, high = min(low, values.min()), max(high, values.max())
    return low, high


@dataclass(frozen=True)
class Sides:
    """Histograms of the values inside of a mask and outside; without a mask all are inside."""

    inside: Histogram
    outside: Histogram | None = None

    def merge(self, other: Sides) -> Sides:
        """Of two parts of an image."""
        if self.outside is None or other.outside is None:
            return Sides(_added(self.inside, other.inside))
        return Sides(_added(self.inside, other.inside), _added(self.outside, other.outside))


def _added(mine: Histogram, other: Histogram) -> Histogram:
    return mine.merge(other)  # type: ignore[arg-type]  # both are of the image's type


def sides_pass(image: xr.DataArray, mask: xr.DataArray | None = None) -> Delayed:
    """Histograms of the finite values of each channel, as `Sides`, in one read (lazy).

    The same that a scan makes in its first read, without what else that looks at.
    """
    arguments = (np.dtype(image.dtype),)
    return Reduce("sides", image, mask, _sides, arguments).build()


def _sides(
    channels: Iterable[np.ndarray], masks: Channels | None, place: Place, dtype: np.dtype
) -> Sides:
    layout = layout_of(dtype)
    parts: list[list[Any]] = []
    for c, channel in enumerate(channels):
        block = (
            to_codes(channel) if layout is None else channel.astype(layout.float_type, copy=False)
        )
        sides = (block,) if masks is None else (block[masks[c]], block[~masks[c]])
        parts.append([_counted(np.ascontiguousarray(s).ravel(), layout) for s in sides])
    return Sides(*(_histogram(side, layout, dtype) for side in zip(*parts, strict=True)))


def _counted(values: np.ndarray, layout: KeyLayout | None) -> Any:
    """First code and counts of codes, or the bins of floats."""
    if layout is not None:
        *bins, _ = count_keys(values, layout)
        return KeyBins(*bins)
    even, odd = np.zeros((2, 65536), "i4")
    count_codes(values, even, odd)
    return take_occupied(even, odd)


def _histogram(counted: Sequence[Any], layout: KeyLayout | None, dtype: np.dtype) -> Histogram:
    if layout is not None:
        return KeyHistogram(layout, tuple(counted), (Refined.empty(),) * len(counted))
    starts, counts = zip(*counted, strict=True)
    return CodeHistogram(bias_of(dtype), starts, counts)


def histogram_pass(
    image: xr.DataArray, edges: Delayed | np.ndarray, mask: xr.DataArray | None = None
) -> Delayed:
    """Counts of each channel between its edges, in one read (lazy).

    Parameters
    ----------
    image
        From `as_image`.
    edges
        Ascending, (C, bins + 1), or a promise of them, which is kept before anything is read. The
        counts of a channel with a NaN among its edges are 0.
    mask
        From `as_mask`; pixels outside are not counted.

    Returns
    -------
    dask.delayed.Delayed
        int64 (C, bins): as `numpy.histogram` of the finite values as float64, the last edge
        inclusive.
    """
    counted = Reduce("histogram", image, mask, _count, (edges,), on_device=True).build()
    return join("counts", _counts_of, counted)


def joint_histogram_pass(
    image: xr.DataArray,
    ix: int,
    iy: int,
    edges_x: Delayed | np.ndarray,
    edges_y: Delayed | np.ndarray,
) -> Delayed:
    """Counts of the pairs of values of channels `ix` and `iy`, in one read of these (lazy).

    Returns
    -------
    dask.delayed.Delayed
        int64 (bins_x, bins_y): as `numpy.histogram2d` of the pixels that are finite in both.
    """
    pair = image.isel(c=[ix, iy])
    edges = (edges_x, edges_y)
    counted = Reduce("joint-histogram", pair, None, _count_pairs, edges, on_device=True).build()
    return join("counts", _counts_of, counted)


def manders_pass(
    image: xr.DataArray, ix: int, iy: int, thresholds: Delayed | tuple[float, float]
) -> Delayed:
    """Sums of channels `ix` and `iy` where the other is above its threshold (lazy).

    Returns
    -------
    dask.delayed.Delayed
        `MandersSums`, in float64, over the pixels that are finite in both.
    """
    pair = image.isel(c=[ix, iy])
    return Reduce("manders", pair, None, _sum_pairs, (thresholds,), on_device=True).build()


def _counts_of(counted: _PairCounts) -> np.ndarray:
    return counted.counts


def _count(
    channels: Iterable[np.ndarray], masks: Channels | None, place: Place, edges: np.ndarray
) -> _PairCounts:
    """Histogram of each channel of a block."""
    counts = np.zeros((len(edges), len(edges[0]) - 1), "i8")
    for c, (channel, own) in enumerate(zip(channels, edges, strict=True)):
        bins = _EvenBins(own)
        if bins.undefined:
            continue
        counts[c] = _counts_between(channel, None if masks is None else masks[c], bins)
    return _PairCounts(counts)


@twin(lambda channel, within, bins: vectors.histogram(vectors.finite(channel, within), bins.edges))
def _counts_between(channel: np.ndarray, within: np.ndarray | None, bins: _EvenBins) -> np.ndarray:
    counts = np.zeros(bins.n, "i8")
    for (values,) in _finite_slabs(channel, within=within):
        (held,) = _only(bins.hold(values), values)
        counts += np.bincount(bins.of(held), minlength=bins.n)
    return counts


def _count_pairs(
    channels: Iterable[np.ndarray], masks: Channels | None, place: Place, edges_x: np.ndarray,
    edges_y: np.ndarray,
) -> _PairCounts:  # fmt: skip
    """Joint histogram of the two channels of a block."""
    bins_x, bins_y = _EvenBins(edges_x), _EvenBins(edges_y)
    first, second = channels
    if bins_x.undefined or bins_y.undefined:
        return _PairCounts(np.zeros((bins_x.n, bins_y.n), "i8"))
    return _PairCounts(_pair_counts(first, second, bins_x, bins_y).astype("i8"))


@twin(lambda x, y, bins_x, bins_y: vectors.pair_counts(x, y, bins_x.edges, bins_y.edges))
def _pair_counts(
    first: np.ndarray, second: np.ndarray, bins_x: _EvenBins, bins_y: _EvenBins
) -> np.ndarray:
    counts = np.zeros(bins_x.n * bins_y.n, "i8")
    for x, y in _finite_slabs(first, second):
        x, y = _only(bins_x.hold(x) & bins_y.hold(y), x, y)
        pairs = bins_x.of(x) * bins_y.n + bins_y.of(y)
        counts += np.bincount(pairs, minlength=counts.size)
    return counts.reshape(bins_x.n, bins_y.n)


def _sum_pairs(
    channels: Iterable[np.ndarray],
    masks: Channels | None,
    place: Place,
    thresholds: tuple[float, float],
) -> MandersSums:
    """Sums over the two channels of a block."""
    threshold_x, threshold_y = thresholds
    first, second = channels
    return _manders_sums(first, second, float(threshold_x), float(threshold_y))


@twin(lambda *given: MandersSums(*vectors.manders_sums(*given)))
def _manders_sums(
    first: np.ndarray, second: np.ndarray, threshold_x: float, threshold_y: float
) -> MandersSums:
    total = MandersSums(0.0, 0.0, 0.0, 0.0, 0)
    for x, y in _finite_slabs(first, second):
        total = total.merge(
            MandersSums(
                x_where_y=float(x[y > threshold_y].sum()),
                x=float(x.sum()),
                y_where_x=float(y[x > threshold_x].sum()),
                y=float(y.sum()),
                n=x.size,
            )
        )
    return total


def _finite_slabs(
    *channels: np.ndarray, within: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, ...]]:
    """A few pixels of all channels at a time, as float64, where all are finite."""
    flat = [channel.reshape(-1) for channel in channels]
    keep = None if within is None else within.reshape(-1)
    for start in range(0, flat[0].size, _SLAB):
        cut = slice(start, start + _SLAB)
        values = tuple(channel[cut].astype("f8") for channel in flat)
        if keep is not None:
            yield _only(keep[cut] & _finite(values), *values)
        elif flat[0].dtype.kind == "f":
            yield _only(_finite(values), *values)
        else:
            yield values


def _finite(values: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.all([np.isfinite(v) for v in values], axis=0)


def _only(where: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    """The values there; no copy where that is all of them."""
    return values if where.all() else tuple(v[where] for v in values)


class _EvenBins:
    """Ascending edges; each bin holds its lower edge, and the last its upper one too."""

    def __init__(self, edges: np.ndarray) -> None:
        self.edges = np.asarray(edges, "f8")
        self.n = self.edges.size - 1
        self.undefined = bool(np.isnan(self.edges).any())
        self.step = self._even_step()

    def _even_step(self) -> float:
        """Width of the bins where all are as wide, far above rounding; else NaN."""
        first, last = float(self.edges[0]), float(self.edges[-1])
        step = last / self.n - first / self.n
        if not (
            math.isfinite(last - first) and step > max(1e-12 * max(abs(first), abs(last)), 1e-300)
        ):
            return math.nan
        even = first + step * np.arange(self.n + 1)
        return step if np.abs(self.edges - even).max() < 1e-3 * step else math.nan

    def hold(self, values: np.ndarray) -> np.ndarray:
        """Which values lie between the first and the last edge."""
        return (values >= self.edges[0]) & (values <= self.edges[-1])

    def of(self, values: np.ndarray) -> np.ndarray:
        """The bin of each value that the edges hold."""
        if math.isnan(self.step):
            return np.minimum(np.searchsorted(self.edges, values, side="right") - 1, self.n - 1)
        # This is off by one bin at most, and only the edges know.
        bins = ((values - self.edges[0]) * (1.0 / self.step)).astype("i8")
        np.clip(bins, 0, self.n - 1, out=bins)
        bins -= values < self.edges[bins]
        bins += (values >= self.edges[bins + 1]) & (bins < self.n - 1)
        return bins
