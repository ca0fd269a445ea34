"""Passes that measure one channel or two within each object of a label image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from dask.delayed import Delayed

from gigaqc.backend import contiguous
from gigaqc.graph.reduce import Reduce
from gigaqc.kernels import by_label, object_planes
from gigaqc.kernels.dispatch import of_place
from gigaqc.objects.blocks import BlockRuns
from gigaqc.objects.labels import aligned
from gigaqc.observe.blocks import Channels, Place


@dataclass(frozen=True)
class Stained:
    """Of each object and channel: finite pixels, those above the threshold, and their sum.

    `labels` uint64 (n,), ascending; `table` float64 (n, channels, 3).
    """

    labels: np.ndarray
    table: np.ndarray

    def merge(self, other: Stained) -> Stained:
        """Of both parts."""
        labels, order, group = _grouped(self.labels, other.labels)
        table = np.zeros((len(labels), *self.table.shape[1:]))
        np.add.at(table, group, np.concatenate([self.table, other.table])[order])
        return Stained(labels, table)


@dataclass(frozen=True)
class Pairs:
    """Of each object the sums of two channels: `table` float64 (n, 14), see `kernels.by_label`."""

    labels: np.ndarray
    table: np.ndarray

    def merge(self, other: Pairs) -> Pairs:
        """Of both parts."""
        labels, order, group = _grouped(self.labels, other.labels)
        rows = np.concatenate([self.table, other.table])
        return Pairs(labels, by_label.merge_pairs(order, group, len(labels), rows))


def _grouped(mine: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of both, the order that sorts them together, and which label each then is."""
    together = np.concatenate([mine, theirs])
    order = np.argsort(together, kind="stable")
    together = together[order]
    first = np.ones(len(together), bool)
    first[1:] = together[1:] != together[:-1]
    return together[first], order, np.cumsum(first) - 1


def stained_pass(
    labels: xr.DataArray, image: xr.DataArray, thresholds: Delayed | Sequence[float]
) -> Delayed:
    """What of each object lies above the threshold of each channel, as `Stained` (lazy).

    Parameters
    ----------
    labels
        From `as_labels`.
    image
        From `check_fit`.
    thresholds
        One a channel, or a promise of them, which is kept before anything is read.
    """
    return _pass("stained", labels, image, _observe_stained, thresholds)


def pairs_pass(
    labels: xr.DataArray, image: xr.DataArray, thresholds: Delayed | Sequence[float]
) -> Delayed:
    """Sums of the two channels of an image over each object, as `Pairs` (lazy)."""
    return _pass("pairs", labels, image, _observe_pairs, thresholds)


def _pass(
    kind: str,
    labels: xr.DataArray,
    image: xr.DataArray,
    observe: Callable,
    thresholds: Delayed | Sequence[float],
) -> Delayed:
    beside = aligned(labels, image)
    return Reduce(kind, image, beside, observe, (thresholds,), on_device=True).build()


def _observe_stained(
    channels: Iterable[np.ndarray], masks: Channels, place: Place, thresholds: Sequence[float]
) -> Stained:
    runs = BlockRuns.of(masks[0], place, 0)
    order = np.argsort(runs.distinct)
    kernels = of_place(masks[0], by_label, object_planes)
    found = [
        kernels.sum_stained(_values(channel, runs), *runs.where, float(threshold))[order]
        for channel, threshold in zip(channels, thresholds, strict=True)
    ]
    return Stained(runs.distinct[order], np.stack(found, axis=1))


def _observe_pairs(
    channels: Iterable[np.ndarray], masks: Channels, place: Place, thresholds: Sequence[float]
) -> Pairs:
    runs = BlockRuns.of(masks[0], place, 0)
    order = np.argsort(runs.distinct)
    x, y = (_values(channel, runs) for channel in channels)
    limits = (float(t) for t in thresholds)
    kernels = of_place(masks[0], by_label, object_planes)
    table = kernels.sum_pairs(x, y, *runs.where, *limits)
    return Pairs(runs.distinct[order], table[order])


def _values(channel: np.ndarray, runs: BlockRuns) -> np.ndarray:
    return contiguous(channel.reshape(-1, runs.width), "f8")
