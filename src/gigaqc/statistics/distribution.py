"""Histograms that are exact: of codes (integers to 16 bits) and of order-preserving keys.

`CodeHistogram` and `KeyHistogram` are states: they add. `Distribution` is what one channel of
either says, in ascending bins that are single values or narrow ranges; metrics are functions of it.

As in `states`, ``merge(other)`` is the state of both parts of an image and changes neither,
``empty(...)`` observed nothing and merges to the other, ``nbytes`` is what the arrays take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gigaqc.kernels.accumulate import DOUBLE, SINGLE, KeyLayout


@dataclass(frozen=True)
class SplitSide:
    """The pixels on one side of a threshold."""

    n: int
    mean: float
    std: float
    exact: bool


@dataclass(frozen=True)
class Distribution:
    """Values of one channel in ascending bins; ``low == high`` where a bin is one value.

    `first` and `second` are the sums of ``x - low`` and of its square over the bin.
    """

    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @property
    def n(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    def without_zeros(self, zeros: int) -> Distribution:
        """The same without the values that are 0, of which there are `zeros`."""
        # A bin that starts at 0 may hold subnormals too; zeros add nothing to its sums.
        counts = self.counts - np.where(self.low == 0, zeros, 0)
        keep = counts > 0
        parts = (self.low, self.high, counts, self.first, self.second)
        return Distribution(*(p[keep] for p in parts))

    @property
    def minimum(self) -> float:
        """Smallest value; exact, because a scan refines its bin."""
        return self.order_statistic(0)[0] if self.n else math.nan

    @property
    def maximum(self) -> float:
        """Largest value; exact, because a scan refines its bin."""
        return self.order_statistic(self.n - 1)[0] if self.n else math.nan

    def order_statistic(self, rank: int) -> tuple[float, float]:
        """The value of `rank` (0-based) and the width of the bin that it is known by."""
        k = int(np.searchsorted(np.cumsum(self.counts), rank, side="right"))
        low, high, n = self.low[k], self.high[k], self.counts[k]
        if low == high:
            return float(low), 0.0
        if n == 1:
            return float(low + self.first[k]), 0.0
        inside = rank - int(self.counts[:k].sum())
        return float(low + (high - low) * (inside + 0.5) / n), float(high - low)

    def quantile(self, q: float) -> tuple[float, float]:
        """Linear quantile as `numpy.quantile`, and its bound (0 where it is exact)."""
        if not self.n:
            return math.nan, 0.0
        position = q * (self.n - 1)
        rank = min(math.floor(position), self.n - 1)
        below, width = self.order_statistic(rank)
        weight = position - rank
        if weight == 0 or rank + 1 >= self.n:
            return below, width
        above, width_above = self.order_statistic(rank + 1)
        return _interpolate(below, above, weight), max(width, width_above)

    def moments(self, where: np.ndarray | slice = slice(None)) -> tuple[int, float, float]:
        """Count, mean and sum of squared deviations of the bins in `where`."""
        n = self.counts[where].astype("f8")
        total = float(n.sum())
        if total == 0:
            return 0, math.nan, math.nan
        low, first, second = self.low[where], self.first[where], self.second[where]
        # About a value of the data: sums of large offsets would lose what varies.
        base = low[int(np.argmax(n))]
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(base + float(_sum((low - base) * n + first)) / total)
            away = low - mean
            squares = second + 2.0 * away * first + n * away * away
        return int(total), mean, max(_sum(squares), 0.0)

    @property
    def mean(self) -> float:
        """Mean; exact up to rounding, whatever the bins. NaN of no values."""
        return self.moments()[1]

    @property
    def std(self) -> float:
        """Population standard deviation, as exact as the mean. NaN of no values."""
        n, _, squares = self.moments()
        return math.sqrt(squares / n) if n else math.nan

    def count_above(self, threshold: float, *, inclusive: bool = False) -> tuple[int, bool]:
        """Number of values above `threshold` (or at it), and whether that is exact."""
        if math.isnan(threshold):
            return 0, True
        above = self.low >= threshold if inclusive else self.low > threshold
        cut = self._cut(threshold, inclusive=inclusive)
        n = int(self.counts[above].sum())
        if cut is None:
            return n, True
        part = (self.high[cut] - threshold) / (self.high[cut] - self.low[cut])
        return n + round(float(self.counts[cut]) * part), False

    def _cut(self, threshold: float, *, inclusive: bool = False) -> int | None:
        """The bin that the threshold divides, or None."""
        inside = (self.low <= threshold) & (threshold < self.high) & (self.low != self.high)
        if inclusive:
            inside &= self.low != threshold
        hit = np.flatnonzero(inside)
        return int(hit[0]) if hit.size else None

    def split(self, threshold: float) -> tuple[SplitSide, SplitSide]:
        """Below (x <= threshold) and above; a bin that the threshold divides goes below, marked."""
        above = self.low > threshold
        exact = self._cut(threshold) is None
        return self._side(~above, exact), self._side(above, exact)

    def _side(self, where: np.ndarray, exact: bool) -> SplitSide:
        n, mean, squares = self.moments(where)
        return SplitSide(n, mean, math.sqrt(squares / n) if n else math.nan, exact)

    def otsu(self) -> tuple[float, float]:
        """Otsu's threshold, and its between-class variance over the total variance.

        One candidate an occupied bin: foreground is ``x > threshold``. NaN for a constant.
        """
        n = self.counts.astype("f8")
        if n.size < 2:
            return math.nan, math.nan
        total = n.sum()
        base = self.low[int(np.argmax(n))]
        sums = (self.low - base) * n + self.first
        below, below_sum = np.cumsum(n)[:-1], np.cumsum(sums)[:-1]
        above, above_sum = total - below, sums.sum() - below_sum
        with np.errstate(over="ignore", invalid="ignore"):
            distance = below_sum / below - above_sum / above
            between = below * above * distance * distance
        k = int(np.argmax(between))
        _, _, squares = self.moments()
        threshold = self.high[k]
        if self.low[k] != self.high[k]:
            # `high` is the first value of the next bin, and the foreground is x > threshold.
            threshold = np.nextafter(self.high[k], -np.inf)
        if squares <= 0:
            return math.nan, math.nan
        return float(threshold), float(between[k] / total / squares)


def _sum(terms: np.ndarray) -> float:
    """Exactly rounded sum; infinite or NaN where a term is."""
    try:
        return math.fsum(terms)
    except (OverflowError, ValueError):
        return float(np.sum(terms))


def _interpolate(below: float, above: float, weight: float) -> float:
    """As numpy: from the nearer end, so that the result is monotone."""
    difference = above - below
    if weight >= 0.5:
        return above - difference * (1 - weight)
    return below + difference * weight


@dataclass(frozen=True)
class CodeHistogram:
    """Exact histogram a channel of integers to 16 bits: ``value = code + bias``.

    `starts[c]` is the code of the first count of `counts[c]`; only the occupied range is kept.
    """

    bias: int
    starts: tuple[int, ...]
    counts: tuple[np.ndarray, ...]

    @classmethod
    def empty(cls, channels: int, bias: int) -> CodeHistogram:
        return cls(bias, (0,) * channels, (np.zeros(0, "i8"),) * channels)

    def merge(self, other: CodeHistogram) -> CodeHistogram:
        merged = [
            add_ranges(*pair)
            for pair in zip(self.starts, self.counts, other.starts, other.counts, strict=True)
        ]
        return replace(self, starts=tuple(s for s, _ in merged), counts=tuple(c for _, c in merged))

    @property
    def nbytes(self) -> int:
        return sum(c.nbytes for c in self.counts)

    def channel(self, index: int) -> Distribution:
        """Values of a channel; every bin is one value."""
        counts = self.counts[index]
        occupied = np.flatnonzero(counts)
        values = (occupied + self.starts[index] + self.bias).astype("f8")
        nothing = np.zeros(values.size)
        return Distribution(values, values, counts[occupied].astype("i8"), nothing, nothing)


def trim(table: np.ndarray) -> tuple[int, np.ndarray]:
    """First occupied bin, and the counts from there to the last occupied one."""
    occupied = np.flatnonzero(table)
    if not occupied.size:
        return 0, np.zeros(0, "i8")
    first, last = int(occupied[0]), int(occupied[-1]) + 1
    return first, table[first:last].astype("i8")


def add_ranges(
    start: int, counts: np.ndarray, other_start: int, other: np.ndarray
) -> tuple[int, np.ndarray]:
    """Sum of two ranges of counts, over the range that holds both."""
    if not counts.size:
        return other_start, other
    if not other.size:
        return start, counts
    first = min(start, other_start)
    stop = max(start + counts.size, other_start + other.size)
    total = np.zeros(stop - first, "i8")
    total[start - first : start - first + counts.size] += counts
    total[other_start - first : other_start - first + other.size] += other
    return first, total


@dataclass(frozen=True)
class KeyBins:
    """Occupied key bins of a channel: number, count, sum and sum of squares of the remainders."""

    bins: np.ndarray
    counts: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def empty(cls) -> KeyBins:
        nothing = np.zeros(0)
        return cls(np.zeros(0, "i8"), np.zeros(0, "i8"), nothing, nothing)

    def merge(self, other: KeyBins) -> KeyBins:
        if not self.bins.size:
            return other
        if not other.bins.size:
            return self
        bins = np.union1d(self.bins, other.bins)
        parts = []
        for name in ("counts", "first", "second"):
            total = np.zeros(bins.size, getattr(self, name).dtype)
            total[np.searchsorted(bins, self.bins)] = getattr(self, name)
            total[np.searchsorted(bins, other.bins)] += getattr(other, name)
            parts.append(total)
        return KeyBins(bins, *parts)


@dataclass(frozen=True)
class Refined:
    """All values of some bins of a channel, one by one: distinct values and their counts."""

    bins: np.ndarray
    values: np.ndarray
    counts: np.ndarray

    @classmethod
    def empty(cls) -> Refined:
        return cls(np.zeros(0, "i8"), np.zeros(0), np.zeros(0, "i8"))

    def merge(self, other: Refined) -> Refined:
        """Add the counts of two parts of an image that refined the same bins."""
        if not other.values.size:
            return replace(self, bins=np.union1d(self.bins, other.bins))
        values = np.union1d(self.values, other.values)
        counts = np.zeros(values.size, "i8")
        counts[np.searchsorted(values, self.values)] = self.counts
        counts[np.searchsorted(values, other.values)] += other.counts
        return Refined(np.union1d(self.bins, other.bins), values, counts)


@dataclass(frozen=True)
class KeyHistogram:
    """Histogram a channel of floats and of integers beyond 16 bits (taken as float64).

    Bins are the upper bits of the order-preserving key; within a bin the remainders are summed, so
    means and variances are exact whatever the bin; bins that were asked for are refined to values.
    """

    layout: KeyLayout
    channels: tuple[KeyBins, ...]
    refined: tuple[Refined, ...]

    @classmethod
    def empty(cls, channels: int, layout: KeyLayout) -> KeyHistogram:
        return cls(layout, (KeyBins.empty(),) * channels, (Refined.empty(),) * channels)

    def merge(self, other: KeyHistogram) -> KeyHistogram:
        """Add; what only one side has refined is known by its bins again."""
        channels = tuple(a.merge(b) for a, b in zip(self.channels, other.channels, strict=True))
        refined = tuple(
            _merge_refined(*pair, self.layout)
            for pair in zip(self.channels, self.refined, other.channels, other.refined, strict=True)
        )
        return replace(self, channels=channels, refined=refined)

    def with_refined(self, refined: tuple[Refined, ...]) -> KeyHistogram:
        """The same with what a second read saw, a channel each."""
        return replace(self, refined=refined)

    @property
    def nbytes(self) -> int:
        return sum(32 * c.bins.size for c in self.channels) + sum(
            16 * r.values.size for r in self.refined
        )

    def channel(self, index: int) -> Distribution:
        """Values of a channel; refined bins are single values, the others ranges."""
        keys, refined = self.channels[index], self.refined[index]
        low, ulp = self.layout.edges(keys.bins)
        high, n = low + ulp * float(1 << self.layout.tail), keys.counts
        with np.errstate(over="ignore"):  # squares near the largest float are infinite
            first, second = keys.first * ulp, keys.second * ulp * ulp
        single = self.single_valued(index)
        value = low + first / np.maximum(n, 1)
        low, high = np.where(single, value, low), np.where(single, value, high)
        first, second = np.where(single, 0.0, first), np.where(single, 0.0, second)
        keep = ~np.isin(keys.bins, refined.bins) | single
        extra = ~np.isin(self.layout.bin_of(refined.values), keys.bins[single])
        values, nothing = refined.values[extra], np.zeros(int(extra.sum()))
        parts = [
            (low[keep], values), (high[keep], values), (n[keep], refined.counts[extra]),
            (first[keep], nothing), (second[keep], nothing),
        ]  # fmt: skip
        order = np.argsort(np.concatenate(parts[0]), kind="stable")
        return Distribution(*(np.concatenate(p)[order] for p in parts))

    def single_valued(self, index: int) -> np.ndarray:
        """Which of the channel's bins are known to hold one value only."""
        keys = self.channels[index]
        rest = keys.first / np.maximum(keys.counts, 1)
        # Below 2^53 all of these are exact integers, so equality proves that nothing varies.
        return (keys.second < 2.0**53) & (keys.second == keys.first * rest) & (rest % 1 == 0)


def _merge_refined(
    keys: KeyBins, mine: Refined, other_keys: KeyBins, other: Refined, layout: KeyLayout
) -> Refined:
    # A bin that one side never saw is as good as refined there.
    known = np.union1d(mine.bins, other.bins)
    lost = [
        b
        for b in known
        if (b not in mine.bins and b in keys.bins) or (b not in other.bins and b in other_keys.bins)
    ]
    total = mine.merge(other)
    if not lost:
        return total
    keep = ~np.isin(layout.bin_of(total.values), lost)
    return Refined(np.setdiff1d(known, lost), total.values[keep], total.counts[keep])


Histogram = CodeHistogram | KeyHistogram


def layout_of(dtype: np.dtype) -> KeyLayout | None:
    """Key layout for a dtype, or None where a code histogram is exact in one read."""
    if dtype.kind == "f":
        return SINGLE if dtype.itemsize <= 4 else DOUBLE
    return None if dtype.itemsize <= 2 else DOUBLE


def bias_of(dtype: np.dtype) -> int:
    """Value of code 0 for an integer dtype to 16 bits."""
    return int(np.iinfo(dtype).min) if dtype.kind == "i" else 0
