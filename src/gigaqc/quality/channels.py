"""Pairs of channels, and histograms of one or two of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

import dask.array as da
import dask.base
import numpy as np
import pandas as pd
import xarray as xr
from dask.delayed import Delayed

from gigaqc.errors import ChannelError, ImageTypeError, ParameterError
from gigaqc.formulas import signal
from gigaqc.formulas.tissue import colocalized, correlation_matrix, correlations, unexpected_pairs
from gigaqc.graph.tasks import join
from gigaqc.image.labelled import as_image, as_mask, channel_names
from gigaqc.scanning.labels import as_labels, check_fit, pairs_pass
from gigaqc.scanning.pixels import (
    Extremes,
    extremes_pass,
    histogram_pass,
    joint_histogram_pass,
    manders_pass,
)
from gigaqc.scanning.results import Results, labelled_results, pair_of, pixels_of, scalars, scanned
from gigaqc.scanning.scan import LazyStatistics, StatisticsLike, scan
from gigaqc.scanning.table import label_index
from gigaqc.statistics.distribution import CodeHistogram, layout_of
from gigaqc.statistics.statistics import Part, Statistics
from gigaqc.typing import ChannelLike, ImageLike, LabelsLike, MaskLike


def channel_correlation(
    image: ImageLike | StatisticsLike, *, mask: MaskLike | None = None
) -> xr.DataArray:
    """Pearson correlation of every pair of channels, over pixels that are valid in both.

    Parameters
    ----------
    image
        An image or its path, or a `Statistics`.
    mask
        Bool over ``y x``, or polygons (see `region`): only pixels inside count.

    Returns
    -------
    DataArray
        Dims (``c``, ``c_other``): covariance / (std x std) of the two; no unit, -1..1, 1 on the
        diagonal. NaN for a channel that is constant or empty.

    Raises
    ------
    ImageError, ImageTypeError, MaskError, SourceNotFoundError, ReadError
        What is no image or mask that fits, or a path without one; before a pixel is read.
    ParameterError, StatisticsError
        A `mask` beside a `Statistics`, or one that was scanned without co-moments.

    Notes
    -----
    One read, also of floats. The co-moments are summed about the mean, so an offset of 32768 costs
    no digits. Source: IMC recipe.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.array([[[1, 2, 3]], [[6, 4, 2]]], dtype="u2")
    >>> gq.channel_correlation(image).values.round(6).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    source = scanned(image, Part.COMOMENTS, "channel_correlation", mask=mask, refine=False)
    count = len(source.channels)
    variables = {"r": (("c", "c_other"), (count, count), "f8")}
    coords = {"c": source.channels, "c_other": source.channels}
    found = labelled_results(source, _correlations, variables, coords)["r"]
    return found.rename("correlation")


def _correlations(statistics: Statistics) -> Results:
    return {"r": correlations(statistics)}


def unexpected_correlations(
    correlation: xr.DataArray,
    expected: Iterable[tuple[str, str]] = (),
    threshold: float = 0.7,
) -> pd.DataFrame:
    """Pairs of channels that correlate above a threshold though nobody expects them to.

    Parameters
    ----------
    correlation
        What `channel_correlation` gives.
    expected
        Pairs of names that may correlate, either way round.
    threshold
        Pairs above it are listed.

    Returns
    -------
    DataFrame
        ``channel_1 channel_2 correlation``, strongest first. Runs now.

    Raises
    ------
    ChannelError
        `expected` names a channel that is not there.
    """
    if getattr(correlation, "dims", None) != ("c", "c_other"):
        raise ImageTypeError(
            "correlation: pass what gq.channel_correlation gives, a DataArray with dims "
            f"('c', 'c_other'); got {type(correlation).__name__}."
        )
    names = [str(n) for n in correlation.coords["c"].values]
    pairs = check_pairs(expected, names, "expected")
    return unexpected_pairs(names, np.asarray(correlation.values), pairs, threshold)


def check_pairs(
    pairs: Iterable[Iterable[str]], names: Sequence[str], argument: str
) -> list[tuple[str, str]]:
    """Pairs of names, or an error where one is no pair of channels that are there."""
    checked = []
    for pair in map(tuple, pairs):
        if len(pair) != 2 or any(n not in names for n in pair):
            raise ChannelError(
                f"{argument}: {pair!r} is no pair of channels; there are {list(names[:40])}."
            )
        checked.append((pair[0], pair[1]))
    return checked


def colocalization(
    image: ImageLike,
    x: ChannelLike,
    y: ChannelLike,
    *,
    thresholds: Literal["otsu"] | Sequence[float] = "otsu",
    labels: LabelsLike | None = None,
) -> xr.Dataset | pd.DataFrame:
    """How two channels go together, pixel by pixel, over pixels that are valid in both.

    ``pearson`` r; ``manders_m1`` = sum of x where y exceeds its threshold over the sum of x, and
    ``manders_m2`` the other way round.

    Parameters
    ----------
    image
        An image.
    x, y
        Names or positions of the channels.
    thresholds
        ``"otsu"`` (of the whole channels), or a pair of numbers for x and y.
    labels
        A label image of the same pixels: measure within each of its objects. Runs now.

    Returns
    -------
    Dataset, or pandas.DataFrame with `labels`
        Scalars; or a row an object, indexed by ``label``, ascending, with ``n_pixels`` that are
        valid in both channels besides. M1 and M2 are in 0..1 for values that are not negative, and
        NaN where the sum is 0; r is NaN where a channel is constant.

    Raises
    ------
    ChannelError, ParameterError
        Channels that are not there or the same, thresholds that are no pair of numbers.
    ImageError
        Labels that are no integers, or of other pixels than the image.

    Notes
    -----
    Reads the two channels twice: thresholds first, then the sums, with the
    labels beside them; by label with given thresholds once. By label, r is taken about the mean
    of each object.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.array([[[1, 2, 9, 9]], [[3, 4, 0, 5]]], dtype="u2")
    >>> gq.colocalization(image, 0, 1, thresholds=(8, 4), labels=np.array([[1, 1, 2, 2]])).values
    array([[2. , 1. , 0. , 0. ],
           [2. , nan, 0.5, 1. ]])
    """
    labelled, pair, names = pair_of(image, x, y, "colocalization")
    if pair[0] == pair[1]:
        raise ChannelError(f"y: {names[1]!r} is x too; pass two different channels.")
    two = labelled.isel(c=list(pair))
    limits = _threshold_pair(thresholds)
    if labels is not None:
        return _by_label(two, as_labels(labels), limits)
    statistics = scan(two, parts=Part.COMOMENTS, refine=False)
    used = limits or join("thresholds", _otsu_pair, statistics.delayed)
    sums = manders_pass(two, 0, 1, used)
    whole = join("colocalization", _colocalized, statistics.delayed, sums)
    types = dict.fromkeys(("pearson", "manders_m1", "manders_m2"), "f8")
    return xr.Dataset(scalars(whole, types), attrs={"x": names[0], "y": names[1]})


def _by_label(
    pair: xr.DataArray, labels: xr.DataArray, limits: tuple[float, float] | None
) -> pd.DataFrame:
    pair = check_fit(labels, pair)
    used: Any = limits
    if limits is None:
        statistics = scan(pair, parts=Part.MOMENTS, refine=False)
        used = join("thresholds", _otsu_pair, statistics.delayed)
    (found,) = dask.base.compute(pairs_pass(labels, pair, used))
    measured = colocalized(found.table)
    return pd.DataFrame(measured, index=label_index(found.labels, labels.dtype))


def _threshold_pair(thresholds: Any) -> tuple[float, float] | None:
    if isinstance(thresholds, str) and thresholds == "otsu":
        return None
    try:
        first, second = (float(v) for v in thresholds)
    except (TypeError, ValueError):
        raise ParameterError(
            f"thresholds: got {thresholds!r}; pass 'otsu' or a pair of numbers."
        ) from None
    return first, second


def _otsu_pair(statistics: Statistics) -> tuple[float, float]:
    return statistics.distribution(0).otsu()[0], statistics.distribution(1).otsu()[0]


def _colocalized(statistics: Statistics, sums: Any) -> Results:
    assert statistics.state.comoments is not None
    r = correlation_matrix(statistics.state.comoments)[0, 1]
    return {
        "pearson": np.float64(r),
        "manders_m1": np.float64(signal.ratio(sums.x_where_y, sums.x)),
        "manders_m2": np.float64(signal.ratio(sums.y_where_x, sums.y)),
    }


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
