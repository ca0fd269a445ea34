"""The states that are sums: each is observed on a block, adds to another, and has an empty one.

Sums of second order are taken about a `shift` a channel, close to the mean of what was observed;
adding two states moves the second to the shift of the first, so nothing cancels when a large
offset carries a small signal. Arrays of places (tiles, cells, lines) know their `origin` and grow
to the box that holds both when they are added.

All states share the meaning of four names. ``merge(other)`` is the state of both parts of an image:
associative, and exact where the sums are; it changes neither. ``moved(by)``, where sums depend on
the shift, gives the same sums about ``shift - by``, with one number a channel. ``empty(channels)``,
where a state can stand alone, observed nothing, and any state merges with it to itself. ``nbytes``
is what the arrays take. What a scan keeps is `Additive`, and has a record in `observe.kinds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Self

import numpy as np

from gigaqc.statistics.distribution import add_ranges


class Additive(ABC):
    """A state of part of an image: it adds to that of another part."""

    @abstractmethod
    def merge(self, other: Self) -> Self: ...

    def moved(self, by: np.ndarray) -> Self:
        return self  # what depends on no shift


@dataclass(frozen=True)
class Box:
    """An array that covers a range of places: `origin` of its leading-to-trailing place axes.

    The first axis holds the quantities; the place axes are the last ``len(origin)``.
    """

    origin: tuple[int, ...]
    values: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    def _bounds(self, other: Box) -> tuple[tuple[int, ...], tuple[int, ...]]:
        places = len(self.origin)
        mine, theirs = self.values.shape[-places:], other.values.shape[-places:]
        origin = tuple(min(a, b) for a, b in zip(self.origin, other.origin, strict=True))
        stop = tuple(
            max(a + n, b + m)
            for a, n, b, m in zip(self.origin, mine, other.origin, theirs, strict=True)
        )
        return origin, tuple(e - o for e, o in zip(stop, origin, strict=True))

    def window(self, origin: Sequence[int]) -> tuple[slice | EllipsisType, ...]:
        """Where this box lies in one that starts at `origin`."""
        places = len(self.origin)
        starts = [a - o for a, o in zip(self.origin, origin, strict=True)]
        shape = self.values.shape[-places:]
        return (..., *(slice(s, s + n) for s, n in zip(starts, shape, strict=True)))

    def merge(self, other: Box) -> Box:
        """Sum over the box that holds both."""
        if not self.values.size:
            return other
        if not other.values.size:
            return self
        origin, shape = self._bounds(other)
        places = len(origin)
        lead = np.broadcast_shapes(self.values.shape[:-places], other.values.shape[:-places])
        if self.origin == origin and self.values.shape == lead + shape:
            total = self.values.copy()
        else:
            total = np.zeros(lead + shape, np.result_type(self.values, other.values))
            total[self.window(origin)] += self.values
        total[other.window(origin)] += other.values
        return Box(origin, total)


def counts_of(n: np.ndarray) -> np.ndarray:
    """Counts (C, ...) of places, once and not by channel where all channels agree."""
    return n[:1].copy() if len(n) > 1 and (n == n[:1]).all() else n


def merge_counts(mine: Box, other: Box) -> Box:
    """Sum of counts, as `counts_of` keeps them."""
    total = mine.merge(other)
    return replace(total, values=counts_of(total.values))


def move(
    n: np.ndarray, total: np.ndarray, squares: np.ndarray, by: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sum and sum of squares of ``x + by`` from those of x."""
    return total + n * by, squares + 2.0 * by * total + n * by * by


@dataclass(frozen=True)
class CoMoments(Additive):
    """Pairwise sums over pixels that are valid in both channels, about a shift a channel.

    All are (C, C): `n`, `total` [i over pairs with j], `squares` [likewise], `products`. The
    diagonal holds the channel's own sums.
    """

    n: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    products: np.ndarray

    def moved(self, by: np.ndarray) -> CoMoments:
        rows = by[:, None]
        total, squares = move(self.n, self.total, self.squares, rows)
        products = self.products + rows * self.total.T + by * self.total + self.n * rows * by
        return CoMoments(self.n, total, squares, products)

    def merge(self, other: CoMoments) -> CoMoments:
        return CoMoments(
            self.n + other.n,
            self.total + other.total,
            self.squares + other.squares,
            self.products + other.products,
        )


@dataclass(frozen=True)
class Neighbours(Additive):
    """Sums over pairs of neighbours: (C, 2, 6) right and down; count, sums, squares, products."""

    table: np.ndarray

    def moved(self, by: np.ndarray) -> Neighbours:
        n, first, second, first2, second2, products = np.moveaxis(self.table, -1, 0)
        rows = by[:, None]
        moved = [n, first + n * rows, second + n * rows]
        moved += [first2 + 2 * rows * first + n * rows * rows]
        moved += [second2 + 2 * rows * second + n * rows * rows]
        moved += [products + rows * (first + second) + n * rows * rows]
        return Neighbours(np.stack(moved, axis=-1))

    def merge(self, other: Neighbours) -> Neighbours:
        return Neighbours(self.table + other.table)


@dataclass(frozen=True)
class Profile(Additive):
    """Sums by line of one axis: boxes of (C, lines), of `n` as `counts_of` keeps it.

    `squares` is None where no pixel can be excluded: lines are then equally long, and what is asked
    of their squares follows from those of all.
    """

    n: Box
    total: Box
    squares: Box | None = None

    def moved(self, by: np.ndarray) -> Profile:
        rows = by[:, None]
        total = replace(self.total, values=self.total.values + self.n.values * rows)
        if self.squares is None:
            return Profile(self.n, total)
        squares = move(self.n.values, self.total.values, self.squares.values, rows)[1]
        return Profile(self.n, total, replace(self.squares, values=squares))

    def merge(self, other: Profile) -> Profile:
        mine, theirs = self.squares, other.squares
        return Profile(
            merge_counts(self.n, other.n),
            self.total.merge(other.total),
            None if mine is None or theirs is None else mine.merge(theirs),
        )


@dataclass(frozen=True)
class TileMoments(Additive):
    """By tile: a box of (4, C, t, z, ty, tx) count, sum, squares, zeros; and the largest value.

    `largest` is (2, C, t, z, ty, tx): the largest value and how many pixels hold it.
    """

    box: Box
    largest: Box

    def moved(self, by: np.ndarray) -> TileMoments:
        n, total, squares, zeros = self.box.values
        total, squares = move(n, total, squares, by.reshape(-1, 1, 1, 1, 1))
        return replace(self, box=replace(self.box, values=np.stack([n, total, squares, zeros])))

    def merge(self, other: TileMoments) -> TileMoments:
        return TileMoments(self.box.merge(other.box), _merge_largest(self.largest, other.largest))


def _merge_largest(mine: Box, other: Box) -> Box:
    if not mine.values.size:
        return other
    if not other.values.size:
        return mine
    origin, shape = mine._bounds(other)
    total = np.zeros(mine.values.shape[: -len(origin)] + shape)
    total[0] = -np.inf
    total[mine.window(origin)] = mine.values
    value, count = total[other.window(origin)]
    value_there, count_there = other.values
    keep = np.where(value > value_there, count, 0.0) + np.where(value == value_there, count, 0.0)
    add = np.where(value_there >= value, count_there, 0.0)
    total[other.window(origin)] = np.stack([np.maximum(value, value_there), keep + add])
    return Box(origin, total)


@dataclass(frozen=True)
class Focus(Additive):
    """By tile of the centre: a box of (4, C, t, z, ty, tx) count, Laplacian, square, gradient."""

    box: Box

    def merge(self, other: Focus) -> Focus:
        return Focus(self.box.merge(other.box))

    def placeless(self) -> Focus:
        """Sums over all tiles."""
        total = self.box.values.sum(axis=(2, 3, 4, 5), keepdims=True)
        return Focus(Box((0, 0, 0, 0), total))


@dataclass(frozen=True)
class Spectrum(Additive):
    """By full tile: a box of (1, C, t, z, ty, tx), the slope; each tile is observed once."""

    box: Box

    def merge(self, other: Spectrum) -> Spectrum:
        return Spectrum(self.box.merge(other.box))


@dataclass(frozen=True)
class Thumbnail(Additive):
    """By cell of `side` pixels: boxes of (C, cy, cx), of `n` as `counts_of` keeps it."""

    side: int
    n: Box
    total: Box

    def moved(self, by: np.ndarray) -> Thumbnail:
        moved = self.total.values + self.n.values * by.reshape(-1, 1, 1)
        return replace(self, total=replace(self.total, values=moved))

    def merge(self, other: Thumbnail) -> Thumbnail:
        return Thumbnail(self.side, merge_counts(self.n, other.n), self.total.merge(other.total))


@dataclass(frozen=True)
class Counts:
    """Ragged counts a channel: of a range of bins only what is occupied is kept."""

    starts: tuple[int, ...]
    counts: tuple[np.ndarray, ...]

    @classmethod
    def empty(cls, channels: int) -> Counts:
        return cls((0,) * channels, (np.zeros(0, "i8"),) * channels)

    def merge(self, other: Counts) -> Counts:
        pairs = [
            add_ranges(*p)
            for p in zip(self.starts, self.counts, other.starts, other.counts, strict=True)
        ]
        return Counts(tuple(s for s, _ in pairs), tuple(c for _, c in pairs))

    @property
    def nbytes(self) -> int:
        return sum(c.nbytes for c in self.counts)


@dataclass(frozen=True)
class Artifacts(Additive):
    """What hot pixels and dead areas are judged by.

    `response` counts pixel minus local median (bins of the kernel); `excess` and `excess_offset`
    count the responses of integer images beyond 8 counting sigmas, for an offset of 0 and of
    32768; `hot` (C,) is the number of hot pixels of images that need a second read, NaN before it;
    `dead` (C,) counts zeros in all-zero windows.
    """

    response: Counts
    excess: Counts
    excess_offset: Counts
    dead: np.ndarray
    hot: np.ndarray

    def merge(self, other: Artifacts) -> Artifacts:
        return Artifacts(
            self.response.merge(other.response),
            self.excess.merge(other.excess),
            self.excess_offset.merge(other.excess_offset),
            self.dead + other.dead,
            self.hot + other.hot,
        )

    @property
    def nbytes(self) -> int:
        return self.response.nbytes + self.excess.nbytes + self.excess_offset.nbytes


@dataclass(frozen=True)
class Outside(Additive):
    """Pixels outside the mask: (3, C) count, sum, squares about the shift."""

    table: np.ndarray

    def moved(self, by: np.ndarray) -> Outside:
        n, total, squares = self.table
        return Outside(np.stack([n, *move(n, total, squares, by)]))

    def merge(self, other: Outside) -> Outside:
        return Outside(self.table + other.table)


@dataclass(frozen=True)
class Tally(Additive):
    """Pixels by fate: (5, C) all, NaN, infinite, outside the mask, zeros among the valid."""

    table: np.ndarray

    def merge(self, other: Tally) -> Tally:
        return Tally(self.table + other.table)
