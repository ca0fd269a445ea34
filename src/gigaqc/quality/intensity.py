"""Quantiles, signal to noise, range and stained area of each channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import dask.base
import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.errors import ParameterError
from gigaqc.formulas import signal
from gigaqc.formulas.catalogue import chosen, parts_of
from gigaqc.formulas.views import Settings
from gigaqc.graph.tasks import join
from gigaqc.image.labelled import as_image, channel_names
from gigaqc.scanning.labels import as_labels, check_fit, stained_pass
from gigaqc.scanning.results import (
    Apart,
    By,
    Results,
    by_channel,
    labelled_results,
    pixels_of,
    scanned,
)
from gigaqc.scanning.scan import LazyStatistics, StatisticsLike, scan
from gigaqc.scanning.table import label_index
from gigaqc.statistics.statistics import Part, Statistics
from gigaqc.typing import ImageLike, LabelsLike, MaskLike


def quantile(
    image: ImageLike | StatisticsLike,
    q: float | Sequence[float],
    *,
    mask: MaskLike | None = None,
    ignore_zeros: bool = False,
) -> xr.DataArray:
    """Exact quantiles of each channel, over all dims but ``c``.

    Equal to ``np.quantile(values.astype(float), q, method="linear")`` of the finite values, by
    counting: one read for integers to 16 bits, two for other types; memory does not grow.

    Parameters
    ----------
    image
        An image, or a `Statistics` that holds its histogram.
    q
        In 0..1; one number or several.
    mask
        Bool over ``y x`` (or more of the image's dims), or polygons (see `region`): only pixels
        inside count.
    ignore_zeros
        Leave out values that are exactly 0.

    Returns
    -------
    DataArray
        Dims (``quantile``, ``c``), or (``c``) for a single `q`. NaN for a channel without values.
        From a `Statistics` of floats, a quantile that its scan did not refine is known to a bound:
        ``attrs["exact"]`` is then False and ``attrs["relative_error"]`` says how wide.

    Raises
    ------
    ParameterError
        A `q` outside of 0..1.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> gq.quantile(np.array([[0, 1], [2, 3]], dtype="u2"), 0.5).values.tolist()
    [1.5]
    """
    asked = np.atleast_1d(np.asarray(q, dtype="f8"))
    if asked.ndim != 1 or not asked.size or not ((asked >= 0) & (asked <= 1)).all():
        raise ParameterError(f"q: got {q!r}; quantiles are in 0..1 (a percentile p is p/100).")
    options = {("nonzero_quantiles" if ignore_zeros else "quantiles"): tuple(asked)}
    source = scanned(image, Part.MOMENTS, "quantile", mask=mask, **options)
    count = len(source.channels)
    evaluate = partial(_quantiles, asked=tuple(asked), ignore_zeros=ignore_zeros)
    variables = {"quantile": (("quantile", "c"), (asked.size, count), "f8")}
    coords = {"c": source.channels}
    found = labelled_results(source, evaluate, variables, coords)["quantile"].rename(None)
    found = found.assign_coords(quantile=asked)
    if isinstance(source, Statistics):
        widths = evaluate(source)["relative_error"]
        found.attrs.update({"exact": not widths.any(), "relative_error": float(widths.max())})
    else:
        found.attrs["exact"] = not isinstance(image, LazyStatistics) or image.meta.reads == 1
    return found[0] if np.ndim(q) == 0 else found


def _quantiles(statistics: Statistics, asked: Sequence[float], ignore_zeros: bool) -> Results:
    shape = (len(asked), len(statistics.channels))
    values, widths = np.full(shape, np.nan), np.zeros(shape)
    for c in range(shape[1]):
        held = statistics.distribution(c)
        if ignore_zeros:
            held = held.without_zeros(int(statistics.state.tally.table[4, c]))
        for k, q in enumerate(asked):
            value, width = held.quantile(q)
            values[k, c] = value
            widths[k, c] = width / abs(value) if value else width
    return {"quantile": values, "relative_error": widths}


def signal_to_noise(
    image: ImageLike | StatisticsLike,
    *,
    mask: MaskLike | None = None,
    percentile: float = 10,
    by: By = None,
) -> xr.Dataset:
    """Signal to noise of each channel: the IMC recipe's, Otsu's classes', and that of structure.

    Parameters
    ----------
    image
        An image or its path, or a `Statistics`.
    mask
        Bool over ``y x``, or polygons (see `region`): signal inside, noise outside; the other
        variables use the inside only.
    percentile
        Of the recipe's mask, in 0..100.
    by
        ``"t"`` (or ``"z"``) measures each position along that axis by itself, in the same read,
        such as echoes; None pools them.

    Returns
    -------
    Dataset
        Over ``c``, with `by` over ``c`` and that axis; higher is better. In units of the image
        (those of its values) or without unit; NaN without support (an empty or constant channel).

        The recipe's, which calls structureless noise N(100, 5) a 49:

        - ``signal``: mean inside the mask, without one of ``x > its percentile`` of the channel;
          units of the image
        - ``noise``: population standard deviation outside; units of the image, from 0 up
        - ``snr``: signal / noise; infinite where the noise is 0

        Of Otsu's two classes:

        - ``otsu_threshold``: foreground is ``x > threshold``, for integers one candidate a value;
          units of the image
        - ``separability``: between-class over total variance; 0..1, 0.637 for structureless
          Gaussian noise
        - ``signal_to_background``: mean above / mean below
        - ``contrast_to_noise``: (mean above - mean below) / std below; from 0 up

        Of structure in space:

        - ``autocorrelation``: r, the mean Pearson correlation of a pixel with its right and its
          lower neighbour; -1..1
        - ``autocorrelation_snr``: r / (1 - r); about 0 for structureless noise of any mean

    Raises
    ------
    ParameterError
        A `percentile` outside of 0..100, or a `mask` beside a `Statistics`.
    ImageError, ImageTypeError, MaskError, SourceNotFoundError, ReadError
        What is no image or mask that fits, or a path without one; before a pixel is read.
    StatisticsError
        A `Statistics` that was scanned without what this needs.

    Notes
    -----
    One read (two for floats). Sources: IMC recipe; Otsu 1979; Frank and Al-Ali, Nature 256 (1975).

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.array([[1, 3, 1, 3], [1, 3, 21, 23], [3, 1, 23, 21]], dtype="u2")
    >>> found = gq.signal_to_noise(image, mask=image > 10).compute()
    >>> [float(found[name][0]) for name in ("signal", "noise", "snr")]
    [22.0, 1.0, 22.0]
    """
    if not 0 <= percentile <= 100:
        raise ParameterError(f"percentile: got {percentile!r}; pass a number in 0..100.")
    if by is not None:
        apart = Apart.of(image, by)
        within = apart.mask(mask, "mask")
        return apart.restored(signal_to_noise(apart.image, mask=within, percentile=percentile))
    metrics = chosen(function="signal_to_noise")
    options = {"quantiles": (percentile / 100,)}
    source = scanned(image, parts_of(metrics), "signal_to_noise", mask=mask, **options)
    return by_channel(source, metrics, Settings(percentile=percentile / 100))


def dynamic_range(
    image: ImageLike | StatisticsLike, percentiles: tuple[float, float] = (1, 99)
) -> xr.Dataset:
    """How much of its range each channel uses.

    Parameters
    ----------
    image
        An image or its path, or a `Statistics`.
    percentiles
        Low and high, in 0..100.

    Returns
    -------
    Dataset
        Over ``c``. NaN (and not adequate) for a channel without values.

        - ``range_low``: the low percentile; units of the image
        - ``range_high``: the high percentile; units of the image
        - ``range_utilized``: (high - low) / largest value, 0 where that is not positive; no unit,
          0..1 where no value is negative
        - ``adequate``: whether ``range_utilized`` exceeds 0.1; bool

    Raises
    ------
    ParameterError
        Percentiles that are no ascending pair in 0..100.
    ImageError, ImageTypeError, SourceNotFoundError, ReadError
        What is no image, or a path without one; before a pixel is read.

    Notes
    -----
    One read (two for floats). Source: IMC recipe.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> found = gq.dynamic_range(np.arange(101, dtype="u1").reshape(1, 101)).compute()
    >>> [found[name].item() for name in ("range_low", "range_high", "range_utilized", "adequate")]
    [1.0, 99.0, 0.98, True]
    """
    low, high = _percentile_pair(percentiles)
    metrics = chosen(function="dynamic_range")
    options = {"quantiles": (low / 100, high / 100)}
    source = scanned(image, parts_of(metrics), "dynamic_range", **options)
    return by_channel(source, metrics, Settings(low=low / 100, high=high / 100))


def _percentile_pair(percentiles: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = (float(p) for p in percentiles)
    except (TypeError, ValueError):
        low = high = math.nan
    if not 0 <= low < high <= 100:
        raise ParameterError(
            f"percentiles: got {percentiles!r}; pass (low, high) with 0 <= low < high <= 100."
        )
    return low, high


def stained_area(
    image: ImageLike | StatisticsLike,
    threshold: Literal["otsu"] | float | Sequence[float] = "otsu",
    *,
    labels: LabelsLike | None = None,
) -> xr.Dataset | pd.DataFrame:
    """How much of each channel is above a threshold.

    ``positive_fraction`` of the valid pixels with ``x > threshold``, ``positive_area`` in the
    squared unit of the pixel size (in pixels where none is known), ``positive_mean`` of those
    pixels, and the ``threshold`` used.

    Parameters
    ----------
    image
        An image, or a `Statistics`.
    threshold
        ``"otsu"`` (of each whole channel), a number, or one number a channel.
    labels
        A label image of the same pixels: measure within each of its objects. Runs now.

    Returns
    -------
    Dataset, or pandas.DataFrame with `labels`
        Over ``c``. NaN for an empty channel, and with Otsu for a constant one; ``positive_mean`` is
        NaN where nothing is positive.

        With `labels` a row an object, indexed by ``label``, ascending, with columns
        ``positive_fraction_<channel>``, ``positive_area_<channel>`` and
        ``positive_mean_<channel>``, beside those of `object_table`; ``attrs["threshold"]`` holds
        the thresholds by channel.

    Raises
    ------
    ParameterError
        A threshold that is no number, or not one a channel.
    ImageError
        Labels that are no integers, or of other pixels than the image.

    Notes
    -----
    One read (two for floats); with `labels` one more, of image and labels, and only that where the
    thresholds are given.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.array([[1, 9, 9, 9]], dtype="u2")
    >>> cells = gq.stained_area(image, 5, labels=np.array([[4, 4, 7, 0]]))
    >>> cells["positive_fraction_0"].to_dict()
    {4: 0.5, 7: 1.0}
    """
    fixed = None if isinstance(threshold, str) else np.atleast_1d(np.asarray(threshold, "f8"))
    if fixed is None and threshold != "otsu":
        raise ParameterError(f"threshold: got {threshold!r}; pass 'otsu' or numbers.")
    if fixed is not None and np.isnan(fixed).any():
        raise ParameterError(f"threshold: got {threshold!r}; nan is above nothing, pass numbers.")
    if fixed is not None and not isinstance(image, (Statistics, LazyStatistics)):
        check_count(threshold, as_image(image).sizes["c"])
    thresholds = () if fixed is None else tuple(float(v) for v in fixed)
    if labels is not None:
        return _stained_by_label(pixels_of(image, "stained_area by label"), labels, fixed)
    metrics = chosen(function="stained_area")
    source = scanned(image, parts_of(metrics), "stained_area", thresholds=thresholds)
    count, size = len(source.channels), source.meta.pixel_size
    if fixed is not None:
        check_count(threshold, count)
    limits = None if fixed is None else tuple(np.broadcast_to(fixed, count).tolist())
    found = by_channel(source, metrics, Settings(thresholds=limits))
    known = {"y", "x"} <= set(size) and source.meta.unit
    found["positive_area"].attrs["units"] = f"{source.meta.unit}^2" if known else "px"
    return found


def _stained_by_label(image: xr.DataArray, labels: Any, fixed: np.ndarray | None) -> pd.DataFrame:
    ids = as_labels(labels)
    image = check_fit(ids, image)
    names = channel_names(image)
    used: Any
    if fixed is None:
        statistics = scan(image, parts=Part.MOMENTS, refine=False)
        used = join("thresholds", _otsu_of_all, statistics.delayed)
    else:
        used = tuple(np.broadcast_to(fixed, len(names)).tolist())
    found, limits = dask.base.compute(stained_pass(ids, image, used), used)
    size = image.attrs.get("pixel_size") or {}
    pixel = float(size["y"]) * float(size["x"]) if {"y", "x"} <= set(size) else 1.0
    columns = {}
    for c, (name, limit) in enumerate(zip(names, limits, strict=True)):
        columns.update(signal.stained_columns(found.table[:, c], limit, pixel, name))
    table = pd.DataFrame(columns, index=label_index(found.labels, ids.dtype))
    table.attrs["threshold"] = dict(zip(names, map(float, limits), strict=True))
    return table


def _otsu_of_all(statistics: Statistics) -> tuple[float, ...]:
    return tuple(statistics.distribution(c).otsu()[0] for c in range(len(statistics.channels)))


def check_count(threshold: Any, count: int) -> None:
    """Refuse a list of thresholds that is not one a channel."""
    if np.ndim(threshold) and np.size(threshold) != count:
        raise ParameterError(
            f"threshold: got {np.size(threshold)} numbers for {count} channels; pass one number, "
            "or one a channel."
        )
