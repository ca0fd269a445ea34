"""How channels go together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import dask.base
import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.errors import ChannelError, ImageTypeError, ParameterError
from gigaqc.formulas import intensity
from gigaqc.formulas.pairs import (
    colocalized,
    correlation_matrix,
    correlations,
    unexpected_pairs,
)
from gigaqc.graph.tasks import join
from gigaqc.objects import as_labels, check_fit, label_index, pairs_pass
from gigaqc.pixels import manders_pass
from gigaqc.quality.labelled import Results, labelled_results, pair_of, scalars, scanned
from gigaqc.scanning import StatisticsLike, scan
from gigaqc.statistics import Part, Statistics
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
        "manders_m1": np.float64(intensity.ratio(sums.x_where_y, sums.x)),
        "manders_m2": np.float64(intensity.ratio(sums.y_where_x, sums.y)),
    }
