"""Labelled results of statistics, and positions along an axis that are measured apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Literal

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.delayed import Delayed

from gigaqc.base.geometry import count_tiles
from gigaqc.errors import ChannelWarning, ParameterError, StatisticsError, warn
from gigaqc.formulas.record import Metric
from gigaqc.formulas.views import Channel, Settings, Tiles
from gigaqc.graph.tasks import join
from gigaqc.image.labelled import DIMS, as_image, as_mask, channel_index, channel_names
from gigaqc.scanning.scan import LazyStatistics, scan
from gigaqc.statistics.statistics import Meta, Part, Statistics

Results = Mapping[str, Any]
"""Arrays or scalars by the name of a variable."""

TILE_DIMS = ("t", "c", "z", "tile_y", "tile_x")


def scanned(image: Any, parts: Part, metric: str, **options: Any) -> Statistics | LazyStatistics:
    """Statistics of what the caller handed in; those that lack a part are refused."""
    if isinstance(image, (Statistics, LazyStatistics)):
        if options.get("mask") is not None:
            raise ParameterError(
                "mask: Statistics hold no pixels to mask; pass the image, or scan it with mask=."
            )
        image.meta.require(parts, metric)
        return image
    return scan(image, parts=parts, **options)


def pixels_of(image: Any, metric: str) -> xr.DataArray:
    """The image of a metric that must look at pixels; Statistics are refused."""
    if isinstance(image, (Statistics, LazyStatistics)):
        raise StatisticsError(
            f"image: got Statistics, which hold no pixels; {metric} needs the image itself."
        )
    return as_image(image)


def pair_of(
    image: Any, x: str | int, y: str | int, metric: str
) -> tuple[xr.DataArray, tuple[int, int], tuple[str, str]]:
    """The image of a metric of two channels, and their positions and names."""
    labelled = pixels_of(image, metric)
    names = channel_names(labelled)
    first, second = channel_index(names, x, "x"), channel_index(names, y, "y")
    return labelled, (first, second), (names[first], names[second])


def promised(whole: Delayed, name: str, shape: tuple[int, ...], dtype: str) -> da.Array:
    """One of the results that `whole` will give."""
    return da.from_delayed(join("result", itemgetter(name), whole), shape, dtype)


def scalars(whole: Delayed, types: Mapping[str, str]) -> dict[str, tuple[tuple[()], da.Array]]:
    """Variables without dims of what `whole` will give."""
    return {name: ((), promised(whole, name, (), dtype)) for name, dtype in types.items()}


def labelled_results(
    source: Statistics | LazyStatistics,
    function: Callable[[Statistics], Results],
    variables: Mapping[str, tuple[tuple[str, ...], tuple[int, ...], str]],
    coords: Mapping[str, Any],
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """A Dataset of what `function` gives, lazily where `source` is lazy.

    `variables` says dims, shape and dtype of each result.
    """
    if isinstance(source, Statistics):
        values: Mapping[str, Any] = function(source)
    else:
        whole = join("metric", function, source.delayed)
        values = {
            name: promised(whole, name, shape, dtype)
            for name, (_, shape, dtype) in variables.items()
        }
    data = {name: (dims, values[name]) for name, (dims, _, _) in variables.items()}
    used = {d for dims, _, _ in variables.values() for d in dims}
    kept = {k: v for k, v in coords.items() if k in used}
    return xr.Dataset(data, coords=kept, attrs=dict(attrs or {}))


def by_channel(
    source: Statistics | LazyStatistics, metrics: Sequence[Metric], settings: Settings
) -> xr.Dataset:
    """A Dataset over `c` of metrics of a channel."""
    count = len(source.channels)
    variables = {m.key: (("c",), (count,), m.dtype) for m in metrics}
    evaluate = partial(channel_results, metrics=tuple(metrics), settings=settings)
    return labelled_results(source, evaluate, variables, {"c": source.channels})


def channel_results(
    statistics: Statistics, metrics: Sequence[Metric], settings: Settings
) -> Results:
    """An array over the channels of each metric; NaN where the scan left out what it needs."""
    shared: dict[Any, Any] = {}
    there = [m for m in metrics if not m.needs & ~statistics.meta.parts]
    found = {m.key: np.full(len(statistics.channels), np.nan) for m in metrics}
    rows = []
    with np.errstate(over="ignore", invalid="ignore"):  # squares near the largest float
        for c in range(len(statistics.channels)):
            channel = Channel(statistics, c, settings, shared)
            rows.append({m.key: m.number_of(channel) for m in there})
    return {**found, **{m.key: np.array([r[m.key] for r in rows], m.dtype) for m in there}}


def tile_results(
    statistics: Statistics, metrics: Sequence[Metric], channels: pd.DataFrame | None = None
) -> Results:
    """A map of each metric of tiles, in the order of the image's dims."""
    tiles = Tiles(statistics, channels)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return {
            m.key: tile_map(_by_tile(m, tiles), statistics)
            for m in metrics
            if not m.needs & ~statistics.meta.parts
        }


def _by_tile(metric: Metric, tiles: Tiles) -> np.ndarray:
    found, sums = np.asarray(metric.of(tiles)), tiles.state.tiles
    assert sums is not None
    shape = sums.box.values.shape[1:]
    if found.shape != shape or found.dtype.kind not in "biuf":
        raise ParameterError(
            f"metric: compute of {metric.key!r} gave {found.dtype} of shape {found.shape}; return "
            f"numbers (C, t, z, tile_y, tile_x), here {shape}."
        )
    return found


def tile_variables(
    source: Statistics | LazyStatistics, names: Sequence[str]
) -> tuple[dict[str, tuple[tuple[str, ...], tuple[int, ...], str]], dict[str, Any]]:
    """Dims and shapes of tile maps, and their coordinates."""
    meta = source.meta
    if not meta.sizes:
        raise ParameterError(
            "image: pooled Statistics have no tiles; pass the statistics of one image."
        )
    count = {d: count_tiles(meta.sizes[d], meta.tile) for d in ("y", "x")}
    lengths = {
        "t": meta.sizes.get("t", 1), "c": len(meta.channels), "z": meta.sizes.get("z", 1),
        "tile_y": count["y"], "tile_x": count["x"],
    }  # fmt: skip
    dims = tile_dims(meta)
    shape = tuple(lengths[d] for d in dims)
    coords = {"c": list(meta.channels)}
    return {name: (dims, shape, "f8") for name in names}, coords


def tile_dims(meta: Meta) -> tuple[str, ...]:
    """Dims of tile maps: ``t`` and ``z`` only where the image has them."""
    return tuple(d for d in TILE_DIMS if d not in ("t", "z") or d in meta.dims)


def tile_map(values: np.ndarray, statistics: Statistics) -> np.ndarray:
    """A (C, t, z, ty, tx) array in the order of the image's dims, without t or z it lacks."""
    ordered = np.moveaxis(values, 0, 1)
    absent = [i for i, d in ((0, "t"), (2, "z")) if d not in statistics.meta.dims]
    return ordered.squeeze(axis=tuple(absent))


By = Literal["t", "z"] | None
"""The axis whose positions are measured each by itself; None pools them."""


@dataclass(frozen=True)
class Apart:
    """An image whose positions along `by` are channels of `image`, those of one side by side."""

    whole: xr.DataArray
    by: str
    image: xr.DataArray

    @classmethod
    def of(cls, image: Any, by: str) -> Apart:
        """An image and an axis of it; refuses Statistics, which have pooled it."""
        if by not in ("t", "z"):
            raise ParameterError(f"by: got {by!r}; pass 't' or 'z', or None to pool both.")
        if isinstance(image, (Statistics, LazyStatistics)):
            raise ParameterError(
                f"by: Statistics are pooled over {by!r}; pass the image, or scan each position "
                f"of it, image.isel({by}=0)."
            )
        whole = as_image(image)
        if by not in whole.dims:
            raise ParameterError(
                f"by: got {by!r}, but the image has dims {' '.join(map(str, whole.dims))}; leave "
                "it out, or name its axes by dims=."
            )
        names = [f"{c}, {by}={k}" for k in range(whole.sizes[by]) for c in channel_names(whole)]
        return cls(whole, by, _side_by_side(whole, by).assign_coords(c=names))

    @property
    def counts(self) -> tuple[int, int]:
        """Positions, and channels of each."""
        return self.whole.sizes[self.by], self.whole.sizes["c"]

    def mask(self, mask: Any, argument: str) -> xr.DataArray | None:
        """A mask of the whole image as one of `image`."""
        if mask is None:
            return None
        within = as_mask(mask, self.whole, argument)
        if self.by not in within.dims and "c" not in within.dims:
            return within
        lacking = {d: self.whole.sizes[d] for d in (self.by, "c") if d not in within.dims}
        within = within.expand_dims(lacking)
        return _side_by_side(within.transpose(*(d for d in DIMS if d in within.dims)), self.by)

    def restored(self, found: xr.Dataset) -> xr.Dataset:
        """Results over the channels of `image`, as results over `c` and the axis."""
        variables = {}
        for name, variable in found.data_vars.items():
            at, shape = variable.dims.index("c"), variable.shape
            data = variable.data.reshape(*shape[:at], *self.counts, *shape[at + 1 :])
            dims = (*variable.dims[:at], "c", self.by, *variable.dims[at + 1 :])
            variables[name] = (dims, np.moveaxis(data, at, at + 1))
        coords = {k: v for k, v in found.coords.items() if k != "c"}
        coords["c"] = channel_names(self.whole)
        if self.by in self.whole.coords:
            coords[self.by] = self.whole.coords[self.by].variable
        return xr.Dataset(variables, coords=coords, attrs=found.attrs)


def _side_by_side(image: xr.DataArray, by: str) -> xr.DataArray:
    """The channels of the first position, then those of the second, and so on."""
    parts = [image.isel({by: k}, drop=True) for k in range(image.sizes[by])]
    dims = parts[0].dims
    data = da.concatenate([p.data for p in parts], axis=dims.index("c"))
    return xr.DataArray(data, dims=dims, attrs=image.attrs)


def warn_of(channels: list[str], reason: str) -> None:
    """Say which channels come out as NaN, and why."""
    if channels:
        warn(
            f"channels {', '.join(channels)}: {reason}, so they come out as NaN; leave them out.",
            ChannelWarning,
        )
