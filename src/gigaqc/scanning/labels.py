"""Label images beside an image: as they are handed in, rings, sums of pairs of channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from dask.delayed import Delayed

from gigaqc.base.backend import contiguous, of_place
from gigaqc.base.formatting import in_unit
from gigaqc.base.geometry import Halo, rechunked
from gigaqc.errors import ImageError
from gigaqc.graph.map import Map
from gigaqc.graph.reduce import Reduce
from gigaqc.image.labelled import as_image, opened
from gigaqc.kernels import by_label, object_planes
from gigaqc.kernels import objects as kernels
from gigaqc.scanning.objects import BlockRuns
from gigaqc.statistics.blocks import Channels, Place
from gigaqc.statistics.object_sums import pixel_size

_SAME_SIZE = 1e-3  # relative: pixel sizes are written with few digits

_DIMS = {2: "yx", 3: "zyx"}


def as_labels(source: Any, argument: str = "labels") -> xr.DataArray:
    """The lazy label image, dims ``y x`` or ``z y x``; no pixel is read.

    A path or URL is opened as `gigaqc.open_labels` does. An array without labels of its axes is
    ``y x`` or ``z y x``. A single time or channel falls.

    Raises
    ------
    ImageError, ImageTypeError
        When the values are no integers, or there are several times or channels.
    SourceNotFoundError, ReadError
        A path or URL without a label image that can be read.
    """
    source = opened(source, argument, labels=True)
    labelled = isinstance(source, (xr.DataArray, xr.Dataset, xr.DataTree))
    dims = None if labelled else _DIMS.get(getattr(source, "ndim", 0))
    image = as_image(source, dims=dims, argument=argument)
    if image.dtype.kind not in "iu":
        cure = (
            "number its pieces first, for example skimage.measure.label(mask)"
            if image.dtype.kind == "b"
            else "convert them where they are whole numbers, labels.astype('int32')"
        )
        raise ImageError(
            f"{argument}: dtype {image.dtype}; ids are integers, 0 is background: {cure}."
        )
    for dim in ("t", "c"):
        if image.sizes.get(dim, 1) > 1:
            raise ImageError(
                f"{argument}: dims {dict(image.sizes)}; a label image has one {dim}, pass "
                f"labels.isel({dim}=0), or each in turn."
            )
    return image.squeeze([d for d in ("t", "c") if d in image.dims], drop=True)


def check_fit(labels: xr.DataArray, image: xr.DataArray) -> xr.DataArray:
    """The image without a time of length 1, refused unless the labels lie on it.

    Raises
    ------
    ImageError
        When shapes or pixel sizes differ, or there are several times.
    """
    if image.sizes.get("t", 1) > 1:
        raise ImageError(
            f"image: dims {dict(image.sizes)} have several times; pass image.isel(t=0), or each in "
            "turn."
        )
    absent = [d for d in "tz" if d in image.dims and d not in labels.dims and image.sizes[d] == 1]
    image = image.squeeze(absent, drop=True)
    if "t" in image.dims:
        image = image.squeeze("t", drop=True)
    own = {d: n for d, n in image.sizes.items() if d != "c"}
    if own != dict(labels.sizes):
        raise ImageError(
            f"labels: {dict(labels.sizes)} do not lie on the image's {own}; pass labels of the "
            "same pixels (the same level of a pyramid, the same region)."
        )
    _check_pixel_size(labels, image)
    return image


def _check_pixel_size(labels: xr.DataArray, image: xr.DataArray) -> None:
    mine, theirs = (pixel_size(a) for a in (labels, image))
    if mine is None or theirs is None:
        return
    (sizes, unit), (others, other) = mine, theirs
    for dim in (d for d in sizes if d in others):
        wanted = in_unit(others[dim], other, unit)
        if not math.isclose(sizes[dim], wanted, rel_tol=_SAME_SIZE):
            raise ImageError(
                f"labels: a pixel is {sizes[dim]:.6g} {unit} along {dim}, the image's "
                f"{others[dim]:.6g} {other}; pass labels of the same level, or correct "
                "attrs['pixel_size']."
            )


def aligned(labels: xr.DataArray, image: xr.DataArray) -> xr.DataArray:
    """Labels in the chunks of an image; each chunk is read once all the same."""
    labels = labels.drop_vars(list(labels.coords))
    return rechunked(labels, image.chunksizes)


def ring_labels(labels: xr.DataArray, width: int) -> xr.DataArray:
    """The background within `width` pixels of an object, by its label, plane by plane (lazy).

    Pixels are reached in steps of 8 neighbours; where rings meet, the nearer object has the pixel,
    of two as near the one with the larger label.
    """
    image = labels.expand_dims("c")
    found = Map("rings", image, _ring_block, (width,), halo=width, dtype=labels.dtype).build()
    return found.isel(c=0, drop=True)


def _ring_block(block: np.ndarray, halo: Halo, channels: slice, width: int) -> np.ndarray:
    top, bottom, left, right = halo
    height, length = block.shape[-2:]
    ids = kernels.unsigned(block)
    core = (..., slice(top, height - bottom), slice(left, length - right))
    out = np.empty_like(ids[core])
    for index in np.ndindex(*block.shape[:-2]):
        out[index] = kernels.rings(ids[index], width)[core]
    return out.view(block.dtype.newbyteorder("="))


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
