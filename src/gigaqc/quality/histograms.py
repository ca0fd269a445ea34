"""Histograms of one channel and of two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from gigaqc.distribution import CodeHistogram, layout_of
from gigaqc.errors import ParameterError
from gigaqc.graph.tasks import join
from gigaqc.image import as_image, as_mask, channel_names
from gigaqc.pixels import Extremes, extremes_pass, histogram_pass, joint_histogram_pass
from gigaqc.quality.labelled import Results, labelled_results, pair_of, pixels_of, scanned
from gigaqc.scanning import LazyStatistics, StatisticsLike
from gigaqc.statistics import Part, Statistics
from gigaqc.typing import ChannelLike, ImageLike, MaskLike


def histogram(
    image: ImageLike | StatisticsLike,
    bins: int | Sequence[float] | None = None,
    range: tuple[float, float] | None = None,
    *,
    mask: MaskLike | None = None,
) -> xr.Dataset:
    """Counts of each channel's values, as `numpy.histogram` of the whole channel.

    Parameters
    ----------
    image
        An image, or a `Statistics` of integers to 16 bits.
    bins
        A number of bins, or edges. None: one bin a value of the dtype for integers to 16 bits (the
        bin of v goes from v to v + 1), else 256.
    range
        Lowest and highest edge; each channel's smallest and largest value unless said.
    mask
        Bool over ``y x``, or polygons (see `region`): only pixels inside count.

    Returns
    -------
    Dataset
        ``counts`` (``c``, ``bin``) and ``edges`` (``c``, ``edge``).

    Notes
    -----
    Integers to 16 bits: one read, from the exact histogram. Other types: one read to know the range
    where it is not given, and one to count.
    """
    edges = _fixed_edges(bins, range)
    if isinstance(image, (Statistics, LazyStatistics)):
        source = scanned(image, Part.MOMENTS, "histogram", mask=mask)
        dtype, names = np.dtype(source.meta.dtype), source.channels
    else:
        labelled = as_image(image)
        dtype, names = np.dtype(labelled.dtype), channel_names(labelled)
    exact = layout_of(dtype) is None
    if bins is None and range is None and exact:
        lowest, highest = (
            (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        )
        edges = np.arange(lowest, highest + 2, dtype="f8")
    n_bins = _bin_count(bins) if edges is None else edges.size - 1
    variables = {
        "counts": (("c", "bin"), (len(names), n_bins), "i8"),
        "edges": (("c", "edge"), (len(names), n_bins + 1), "f8"),
    }
    if exact:
        source = scanned(image, Part.MOMENTS, "histogram", mask=mask)
        evaluate = partial(_code_counts, edges=edges, n_bins=n_bins)
        return labelled_results(source, evaluate, variables, {"c": names})
    labelled = pixels_of(image, f"a histogram of {dtype}")
    counts, lazy_edges = _direct(labelled, mask, edges, n_bins)
    data = {"counts": (("c", "bin"), counts), "edges": (("c", "edge"), lazy_edges)}
    return xr.Dataset(data, coords={"c": names})


def _direct(
    image: xr.DataArray, mask: Any, edges: np.ndarray | None, n_bins: int
) -> tuple[Any, Any]:
    """Counts and edges of an image that no code histogram holds: from the pixels, lazily."""
    within = None if mask is None else as_mask(mask, image)
    count = image.sizes["c"]
    if edges is not None:
        repeated = np.repeat(edges[None], count, axis=0)
        counts = histogram_pass(image, repeated, within)
        return da.from_delayed(counts, (count, n_bins), "i8"), repeated
    extremes = extremes_pass(image, within)
    delayed = join("edges", _all_edges, extremes, n_bins)
    counts = histogram_pass(image, delayed, within)
    lazy = da.from_delayed(delayed, (count, n_bins + 1), "f8")
    return da.from_delayed(counts, (count, n_bins), "i8"), lazy


def _fixed_edges(
    bins: int | Sequence[float] | None, range: tuple[float, float] | None
) -> np.ndarray | None:
    """Edges that do not depend on the data, or None."""
    if bins is not None and np.ndim(bins) == 1:
        edges = np.asarray(bins, dtype="f8")
        if edges.size < 2 or not (np.diff(edges) > 0).all():
            raise ParameterError(f"bins: edges must ascend and be two or more; got {bins!r}.")
        return edges
    if bins is not None and (np.ndim(bins) != 0 or _bin_count(bins) < 1):
        raise ParameterError(f"bins: got {bins!r}; pass a positive number of bins, or edges.")
    if range is None:
        return None
    low, high = (float(v) for v in range)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ParameterError(f"range: got {range!r}; pass (low, high) with low < high.")
    return np.linspace(low, high, _bin_count(bins) + 1)


def _bin_count(bins: Any) -> int:
    """Number of bins where they are not given by their edges."""
    return 256 if bins is None else int(bins)


def even_edges(low: float, high: float, n_bins: int) -> np.ndarray:
    """As numpy: from the smallest to the largest value, or half a unit around a constant."""
    if not low <= high:  # nothing was found
        low, high = 0.0, 1.0
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, n_bins + 1)


def _all_edges(extremes: Extremes, n_bins: int) -> np.ndarray:
    pairs = zip(extremes.low, extremes.high, strict=True)
    return np.stack([even_edges(low, high, n_bins) for low, high in pairs])


def _code_counts(statistics: Statistics, edges: np.ndarray | None, n_bins: int) -> Results:
    assert isinstance(statistics.state.histogram, CodeHistogram)
    counts, all_edges = [], []
    for c in range(len(statistics.channels)):
        held = statistics.distribution(c)
        own = even_edges(held.minimum, held.maximum, n_bins) if edges is None else edges
        # Not weights=: numpy sums those as floats, and 2^53 pixels are not the limit to have.
        where = np.clip(np.searchsorted(own, held.low, side="right") - 1, -1, n_bins)
        where[held.low == own[-1]] = n_bins - 1
        inside = (where >= 0) & (where < n_bins)
        total = np.zeros(n_bins, "i8")
        np.add.at(total, where[inside], held.counts[inside])
        counts.append(total)
        all_edges.append(own)
    return {"counts": np.stack(counts), "edges": np.stack(all_edges)}


def joint_histogram(
    image: ImageLike,
    x: ChannelLike,
    y: ChannelLike,
    bins: int = 256,
    *,
    range: Sequence[tuple[float, float] | None] | None = None,
) -> xr.Dataset:
    """Counts of pairs of values of two channels, as `numpy.histogram2d` of the whole channels.

    Parameters
    ----------
    image
        An image.
    x, y
        Names or positions of the channels.
    bins
        Number of bins along each.
    range
        ``((x low, x high), (y low, y high))``; smallest and largest values unless said.

    Returns
    -------
    Dataset
        ``counts`` (``bin_x``, ``bin_y``), ``edges_x``, ``edges_y``; pixels valid in both channels.

    Notes
    -----
    Reads the two channels once to know their range where it is not given, and once to count.
    """
    labelled, pair, names = pair_of(image, x, y, "joint_histogram")
    fixed = [_fixed_edges(bins, r) for r in (range or (None, None))]
    two = labelled.isel(c=sorted(set(pair)))
    at = [sorted(set(pair)).index(p) for p in pair]
    edges: list[Any] = list(fixed)
    if fixed[0] is None or fixed[1] is None:
        extremes = extremes_pass(two)
        for k, c in enumerate(at):
            if fixed[k] is None:
                edges[k] = join("edges", _one_channel_edges, extremes, c, bins)
    counts = joint_histogram_pass(two, at[0], at[1], edges[0], edges[1])
    size = int(bins)
    lazy = [da.from_delayed(e, (size + 1,), "f8") if isinstance(e, Delayed) else e for e in edges]
    return xr.Dataset(
        {
            "counts": (("bin_x", "bin_y"), da.from_delayed(counts, (size, size), "i8")),
            "edges_x": (("edge_x",), lazy[0]),
            "edges_y": (("edge_y",), lazy[1]),
        },
        attrs={"x": names[0], "y": names[1]},
    )


def _one_channel_edges(extremes: Extremes, channel: int, n_bins: int) -> np.ndarray:
    return even_edges(extremes.low[channel], extremes.high[channel], n_bins)
