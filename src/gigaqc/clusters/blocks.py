"""What the passes of pixel clustering do with a block: draw pixels, label them, add them up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigaqc.base.backend import beside, namespace_of, of_place, twin
from gigaqc.base.geometry import Halo
from gigaqc.kernels import vectors
from gigaqc.kernels.pixels import most_probable, nearest
from gigaqc.kernels.places import drawn_positions, gathered
from gigaqc.statistics.blocks import Channels, Place

_SLAB = 1 << 14  # pixels whose float64 copies stay in the cache


@dataclass(frozen=True)
class PixelSample:
    """Drawn pixels (n, C), and where they lie in the image."""

    values: np.ndarray
    at: np.ndarray

    def merge(self, other: PixelSample) -> PixelSample:
        """Both, of other pixels."""
        values = np.concatenate([self.values, other.values])
        return PixelSample(values, np.concatenate([self.at, other.at]))


def sorted_values(sample: PixelSample) -> np.ndarray:
    """Pixels in the order of their places, which no chunking changes."""
    return sample.values[np.argsort(sample.at)]


def observe_sample(
    channels: Iterable[np.ndarray],
    masks: Channels | None,
    place: Place,
    fraction: float,
    salt: int,
    sizes: Sequence[int],
    positive: bool,
) -> PixelSample:
    """Pixels of a block that are drawn, finite in all channels and inside the mask."""
    blocks = list(channels)
    start = (place.t, place.z, place.y, place.x)
    at = drawn_positions(start, blocks[0].shape, fraction, salt)
    values = np.stack([gathered(block, at) for block in blocks], axis=-1).astype("f8")
    keep = _counts(values.T, positive)
    for mask in masks or []:
        keep &= gathered(mask, at)
    place_in_image = np.zeros(len(values), "i8")
    for size, index, first in zip(sizes, at, start, strict=True):
        place_in_image = place_in_image * size + index + first
    return PixelSample(values[keep], place_in_image[keep])


def _counts(pixels: Iterable[np.ndarray], positive: bool) -> np.ndarray:
    """Which pixels count: finite in all channels, and above 0 if that is the mask."""
    with np.errstate(invalid="ignore"):
        return np.logical_and.reduce(
            [np.isfinite(p) & (p > 0) if positive else np.isfinite(p) for p in pixels]
        )


@dataclass(frozen=True)
class Rule:
    """How a pixel gets its label: compiled for its kind, and small enough to travel with a task.

    Of a mixture `factors` and `offsets`; of centres neither. `labels` gives the label of each
    component or centre.
    """

    centres: np.ndarray
    factors: np.ndarray | None
    offsets: np.ndarray | None
    labels: np.ndarray
    positive: bool

    def apply(self, channels: Sequence[Any]) -> Any:
        """Labels of pixels, flat; 0 where a pixel does not count."""
        return of_place(channels[0], self._apply_by_slabs, self._apply_to_all)(channels)

    def _apply_by_slabs(self, channels: Sequence[np.ndarray]) -> np.ndarray:
        flat = [channel.reshape(-1) for channel in channels]
        out = np.empty(flat[0].size, self.labels.dtype)
        found = np.empty(_SLAB, "i8")
        slab = np.empty((len(flat), _SLAB))
        for start in range(0, out.size, _SLAB):
            n = min(_SLAB, out.size - start)
            pixels = slab[:, :n]
            for c, channel in enumerate(flat):
                pixels[c] = channel[start : start + n]
            counts = _counts(pixels, self.positive)
            pixels[:, ~counts] = 0
            if self.factors is None:
                nearest(pixels, self.centres, found)
            else:
                most_probable(pixels, self.centres, self.factors, self.offsets, found)
            out[start : start + n] = np.where(counts, self.labels[found[:n]], 0)
        return out

    def _apply_to_all(self, channels: Sequence[Any]) -> Any:
        flat = [vectors.doubles(channel) for channel in channels]
        xp = namespace_of(flat[0])
        counts = vectors.counting(flat, self.positive)
        pixels = [xp.where(counts, channel, 0.0) for channel in flat]
        if self.factors is None or self.offsets is None:
            found = vectors.nearest(pixels, self.centres)
        else:
            found = vectors.most_probable(pixels, self.centres, self.factors, self.offsets)
        return xp.where(counts, xp.take(beside(self.labels, found), found), 0)


def labelled(block: Sequence[Any], halo: Halo, channels: slice, rule: Rule) -> Any:
    """Labels of a block, without a channel axis."""
    return rule.apply(block).reshape(block[0].shape)


@dataclass(frozen=True)
class ClusterSums:
    """Pixels of each label, and the sums of their channels (labels, C)."""

    n: np.ndarray
    sums: np.ndarray

    def merge(self, other: ClusterSums) -> ClusterSums:
        """Both, of other pixels."""
        return ClusterSums(self.n + other.n, self.sums + other.sums)


def observe_sums(
    channels: Iterable[np.ndarray], masks: Channels | None, place: Place, rule: Rule
) -> ClusterSums:
    """Of a block: how many pixels each label has, and what they add up to."""
    blocks = [_doubles(block) for block in channels]  # for the labels and for the sums
    size = int(rule.labels.max()) + 1
    labels = rule.apply(blocks).astype("i8")
    for mask in masks or []:
        labels *= mask.reshape(-1)
    return ClusterSums(*_sums_by_label(labels, blocks, size))


@twin(vectors.doubles)
def _doubles(block: np.ndarray) -> np.ndarray:
    return block  # converted by slabs, which stay in the cache


@twin(vectors.sums_by_label)
def _sums_by_label(
    labels: np.ndarray, blocks: Sequence[np.ndarray], size: int
) -> tuple[np.ndarray, np.ndarray]:
    counted = labels > 0
    sums = []
    for block in blocks:
        values = np.where(counted, block.reshape(-1), 0)
        sums.append(np.bincount(labels, weights=values, minlength=size))
    return np.bincount(labels, minlength=size), np.stack(sums, axis=-1)
