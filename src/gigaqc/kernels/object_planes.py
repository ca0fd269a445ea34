"""What `objects` and `by_label` compute, written for the array API: for labels on a device.

`find_runs`, `sum_codes`, `sum_floats`, `sum_stained` and `sum_pairs` give what their compiled
namesakes give. Runs go to the host, where their geometry is arithmetic on their ends; pixels stay.
`Members` says in which order the pixels of one object lie side by side, so it takes the place of
runs and slots. Sums of integers are exact. Sums of floats are made in pairs within each object,
not as differences of one running sum, which would lose the digits of small objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigaqc.base.backend import beside, namespace_of, to_host
from gigaqc.kernels.by_label import (
    HIGH_X,
    HIGH_Y,
    LOW_X,
    LOW_Y,
    MEAN_X,
    MEAN_Y,
    N_PAIR,
    SUM_X,
    SUM_Y,
    X_WHERE_Y,
    XX,
    XY,
    Y_WHERE_X,
    YY,
    N,
)
from gigaqc.kernels.objects import N_VALUES


def find_runs(labels: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of a (rows, width) block of integers, as `objects.find_runs` of the same bits."""
    xp = namespace_of(labels)
    rows, width = labels.shape
    edge = xp.ones((rows, 1), dtype=xp.bool, device=labels.device)
    change = labels[:, 1:] != labels[:, :-1]
    there = labels != 0
    opens = there & xp.concat([edge, change], axis=1)
    closes = there & xp.concat([change, edge], axis=1)
    starts, ends = (xp.nonzero(xp.reshape(f, (-1,)))[0] for f in (opens, closes))
    ids = to_host(xp.take(xp.reshape(labels, (-1,)), starts))
    start, end = to_host(starts), to_host(ends)
    bounds = np.stack([start % width, end % width + 1], axis=1).astype("i4")
    first = np.searchsorted(start, np.arange(rows + 1) * width).astype("i8")
    return bounds, ids.view(f"u{ids.itemsize}").astype("u8"), first


def unsigned(labels: Any) -> Any:
    """The labels themselves: `find_runs` asks only whether they are equal, and 0."""
    return labels


def members(block: Any, *runs: Any) -> tuple[Members]:
    """What tells kernels which pixels of a block are whose, as `objects.members`."""
    return (Members.of(block, *runs),)


@dataclass(frozen=True)
class Members:
    """The pixels of each of `n` objects, side by side."""

    n: int
    longest: int  # pixels of the largest object
    pixels: Any  # place of each pixel in the block
    owner: Any  # its object
    nth: Any  # how many pixels of its object come before it
    starts: Any  # (n + 1,): where an object begins, and where the last one ends

    @classmethod
    def of(
        cls, block: Any, bounds: np.ndarray, first: np.ndarray, slots: np.ndarray, n: int
    ) -> Members:
        """Those of runs, where the block is."""
        xp = namespace_of(block)
        order = np.argsort(slots, kind="stable")
        row = np.repeat(np.arange(first.size - 1), np.diff(first))
        begin = (row * block.shape[-1] + bounds[:, 0])[order].astype("i8")
        before = np.concatenate([[0], np.cumsum((bounds[:, 1] - bounds[:, 0])[order])]).astype("i8")
        slot = slots[order].astype("i8")
        start = before[np.searchsorted(slot, np.arange(n + 1))]
        longest = int(np.diff(start).max(initial=0))
        if not n:
            return cls(0, longest, None, None, None, None)
        nth = xp.arange(int(before[-1]), dtype=xp.int64, device=block.device)
        run = xp.searchsorted(beside(before, block), nth, side="right") - 1
        owner = xp.take(beside(slot, block), run)
        starts = beside(start, block)
        pixels = nth + xp.take(beside(begin - before[:-1], block), run)
        return cls(n, longest, pixels, owner, nth - xp.take(starts, owner), starts)

    def values(self, block: Any, dtype: Any) -> Any:
        """Values of the pixels, of a type of the block's namespace."""
        xp = namespace_of(block)
        return xp.astype(xp.take(xp.reshape(block, (-1,)), self.pixels), dtype)

    def count(self, whole: Any) -> np.ndarray:
        """Sums of integers or flags over each object, exact."""
        xp = namespace_of(whole)
        running = xp.cumulative_sum(xp.astype(whole, xp.int64), include_initial=True)
        ends = xp.take(running, self.starts)
        return to_host(ends[1:] - ends[:-1])

    def reduce(self, function: Callable[[Any, Any], Any], values: Any) -> np.ndarray:
        """An associative function over the values of each object, by doubling steps."""
        xp = namespace_of(values)
        step = 1
        while step < self.longest:
            later = values[step:]
            both = xp.where(self.nth[step:] >= step, function(values[:-step], later), later)
            values = xp.concat([values[:step], both])
            step *= 2
        return to_host(xp.take(values, self.starts[1:] - 1))

    def sum(self, values: Any) -> np.ndarray:
        """Sums of floats over each object."""
        return self.reduce(lambda a, b: a + b, values)

    def extremes(self, values: Any, where: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value of each object; infinite, the wrong way round, without any."""
        xp = namespace_of(values)
        low = values if where is None else xp.where(where, values, math.inf)
        high = values if where is None else xp.where(where, values, -math.inf)
        return (
            self.reduce(lambda a, b: xp.where(b < a, b, a), low),
            self.reduce(lambda a, b: xp.where(b > a, b, a), high),
        )

    def about_mean(self, values: Any, where: Any, sums: np.ndarray, n: np.ndarray) -> tuple:
        """Means, and distances from them; 0 for both where nothing counts."""
        xp = namespace_of(values)
        mean = np.divide(sums, n, out=np.zeros(self.n), where=n > 0)
        of_pixel = xp.take(beside(mean, values), self.owner)
        return mean, xp.where(where, values - of_pixel, 0.0)


def sum_codes(codes: Any, members: Members) -> np.ndarray:
    """As `objects.sum_codes`: sum, sum of squares, smallest and largest; int64 (n, 4), exact."""
    if not members.n:
        return np.zeros((0, 4), "i8")
    values = members.values(codes, namespace_of(codes).int64)
    total, squares = members.count(values), members.count(values * values)
    return np.stack([total, squares, *members.extremes(values)], axis=1)


def sum_floats(values: Any, members: Members) -> np.ndarray:
    """As `objects.sum_floats`: (n, mean, M2, min, max) of the finite values; float64 (n, 5)."""
    if not members.n:
        return np.zeros((0, N_VALUES))
    xp = namespace_of(values)
    own = members.values(values, xp.float64)
    finite = xp.isfinite(own)
    n = members.count(finite)
    sums = members.sum(xp.where(finite, own, 0.0))
    mean, off = members.about_mean(own, finite, sums, n)
    m2 = members.sum(off * off)
    return np.stack([n, mean, m2, *members.extremes(own, finite)], axis=1).astype("f8")


def sum_stained(values: Any, members: Members, threshold: float) -> np.ndarray:
    """As `by_label.sum_stained`: finite pixels, those above a threshold, their sum; (n, 3)."""
    if not members.n:
        return np.zeros((0, 3))
    xp = namespace_of(values)
    own = members.values(values, xp.float64)
    finite = xp.isfinite(own)
    above = finite & (own > threshold)
    counts = members.count(finite), members.count(above)
    return np.stack([*counts, members.sum(xp.where(above, own, 0.0))], axis=1).astype("f8")


def sum_pairs(
    first_values: Any, second_values: Any, members: Members, limit_x: float, limit_y: float
) -> np.ndarray:
    """As `by_label.sum_pairs`, over pixels that are finite in both channels: float64 (n, 14)."""
    table = np.zeros((members.n, N_PAIR))
    if not members.n:
        return table
    xp = namespace_of(first_values)
    x, y = (members.values(v, xp.float64) for v in (first_values, second_values))
    both = xp.isfinite(x) & xp.isfinite(y)
    table[:, N] = n = members.count(both)
    for column, values, where in (
        (SUM_X, x, both),
        (SUM_Y, y, both),
        (X_WHERE_Y, x, both & (y > limit_y)),
        (Y_WHERE_X, y, both & (x > limit_x)),
    ):
        table[:, column] = members.sum(xp.where(where, values, 0.0))
    table[:, MEAN_X], a = members.about_mean(x, both, table[:, SUM_X], n)
    table[:, MEAN_Y], b = members.about_mean(y, both, table[:, SUM_Y], n)
    for column, products in ((XX, a * a), (YY, b * b), (XY, a * b)):
        table[:, column] = members.sum(products)
    table[:, LOW_X], table[:, HIGH_X] = members.extremes(x, both)
    table[:, LOW_Y], table[:, HIGH_Y] = members.extremes(y, both)
    return table
