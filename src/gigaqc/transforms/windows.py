"""Quantiles of derived values in one read: a sample says where to count, and the count decides.

A sample of the pixels gives a window of values that a quantile lies in, eight standard errors to
each side. The read counts what lies below it, and keeps what lies in it by bins of 2^-18 relative
width: few values, however large the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from gigaqc.base.backend import of_place
from gigaqc.errors import StatisticsError
from gigaqc.kernels import vectors
from gigaqc.kernels.pixels import keys_of, values_in_window

_STANDARD_ERRORS = 8
_WAITING = 1 << 20  # values that wait to be counted by bin
Window = tuple[float, float]


def predicted_window(sample: np.ndarray, q: float) -> Window:
    """Values between which the quantile `q` of what the sample was drawn from lies.

    Only finite values other than 0 count. A side of the window is open where the sample is too
    small for it.
    """
    values = sample[np.isfinite(sample) & (sample != 0)]
    n = values.size
    rank = q * (n - 1)
    spread = _STANDARD_ERRORS * math.sqrt(q * (1 - q) * n) + _STANDARD_ERRORS
    first, last = math.floor(rank - spread), math.ceil(rank + spread)
    values.sort()
    low = float(values[first]) if first >= 0 else -math.inf
    high = float(values[last]) if last < n else math.inf
    # The sample may be of float32.
    return low - 1e-6 * abs(low), high + 1e-6 * abs(high)


@dataclass(frozen=True)
class Counted:
    """Values other than 0: how many, how many below a window, and in it counts by bin.

    A bin knows its smallest and its largest value.
    """

    n: int
    below: int
    keys: np.ndarray
    counts: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def merge(self, other: Counted) -> Counted:
        """Both, of other pixels."""
        keys = np.concatenate([self.keys, other.keys])
        order = np.argsort(keys, kind="stable")
        parts = (
            np.concatenate([getattr(self, name), getattr(other, name)])[order]
            for name in ("counts", "low", "high")
        )
        return Counted(self.n + other.n, self.below + other.below, *_joined(keys[order], *parts))

    def quantile(self, q: float) -> float:
        """Linear quantile, to 2^-18 of its value or better; NaN of no values.

        Raises
        ------
        StatisticsError
            When it does not lie in the window, which happens once in 10^13 times.
        """
        if not self.n:
            return math.nan
        position = q * (self.n - 1)
        rank = min(math.floor(position), self.n - 1)
        below, weight = self._order_statistic(rank), position - rank
        if weight == 0:
            return below
        return below + weight * (self._order_statistic(rank + 1) - below)

    def _order_statistic(self, rank: int) -> float:
        inside = rank - self.below
        ends = np.cumsum(self.counts)
        if inside < 0 or not ends.size or inside >= ends[-1]:
            raise StatisticsError(
                "q_sum, q_post: a percentile does not lie where a sample of the pixels has it; "
                "leave it out with None, and use gq.normalize_percentiles on the result."
            )
        k = int(np.searchsorted(ends, inside, side="right"))
        low, high, n = float(self.low[k]), float(self.high[k]), int(self.counts[k])
        if low == high or n == 1:
            return low
        return low + (high - low) * (inside - (int(ends[k]) - n)) / (n - 1)


class Counter:
    """Counts flat arrays of float64, one after another; those on a device are counted there."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._n = 0
        self._below = 0
        self._waiting: list[np.ndarray] = []
        self._bins: list[Counted] = []

    def add(self, values: np.ndarray) -> None:
        """Count what lies below the window, and keep what lies in it."""
        of_place(values, self._keep, self._bin)(values)

    def _bin(self, values: np.ndarray) -> None:
        n, below, bins = vectors.bins_in_window(values, *self._window)
        self._bins.append(Counted(n, below, *bins))

    def _keep(self, values: np.ndarray) -> None:
        found = np.empty(values.size)
        inside, n, below = values_in_window(values, *self._window, found)
        self._n += n
        self._below += below
        self._waiting.append(found[:inside].copy())
        if sum(values.size for values in self._waiting) > _WAITING:
            self._bins.append(self._binned())

    def counted(self) -> Counted:
        """All that was added."""
        return reduce(Counted.merge, self._bins, self._binned())

    def _binned(self) -> Counted:
        """What waits, by bin; nothing waits then."""
        kept = np.sort(np.concatenate([*self._waiting, np.empty(0)]))
        bins = _joined(keys_of(kept), np.ones(kept.size, "i8"), kept, kept)
        counted = Counted(self._n, self._below, *bins)
        self._n, self._below, self._waiting = 0, 0, []
        return counted


def _joined(
    keys: np.ndarray, counts: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bins of ascending keys, those that are equal as one."""
    if not keys.size:
        return keys, counts, low, high
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return (
        keys[starts],
        np.add.reduceat(counts, starts),
        np.minimum.reduceat(low, starts),
        np.maximum.reduceat(high, starts),
    )


@dataclass(frozen=True)
class CountedChannels:
    """`Counted` of several variables."""

    each: tuple[Counted, ...]

    def merge(self, other: CountedChannels) -> CountedChannels:
        """Both, of other pixels."""
        return CountedChannels(
            tuple(a.merge(b) for a, b in zip(self.each, other.each, strict=True))
        )

    def quantiles(self, q: float) -> np.ndarray:
        """Quantile of each variable."""
        return np.array([counted.quantile(q) for counted in self.each])


def merged(states: Sequence[CountedChannels]) -> CountedChannels:
    """Of several images together."""
    total = states[0]
    for state in states[1:]:
        total = total.merge(state)
    return total
