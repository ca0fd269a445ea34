"""Temporal signal to noise of a series: maps, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gigaqc.errors import ParameterError
from gigaqc.formulas import noise
from gigaqc.graph.fold import Fold, plan_in_time
from gigaqc.graph.frames import TimeStates
from gigaqc.image.arguments import as_series, has_channels, like_series
from gigaqc.image.devices import only_inside
from gigaqc.image.labelled import as_image, as_mask, channel_names
from gigaqc.noise.moments import DetrendedMoments
from gigaqc.typing import ImageLike, MaskLike

if TYPE_CHECKING:
    import pandas as pd

_MOST_DETREND = 20
_UKAT_LIMIT = 1000.0  # what ukat takes for no measurement


def tsnr_map(
    series: ImageLike,
    *,
    detrend: int = 2,
    ddof: int = 0,
    baseline: str = "mean",
    invalid: str = "nan",
    mask: MaskLike | None = None,
    dims: str | Sequence[str] | None = None,
) -> xr.DataArray:
    """Temporal signal to noise of each pixel: mean over standard deviation after detrending (lazy).

    ``mean(x) / sqrt(sum(r ** 2) / (n - ddof))``, r the residuals of the pixel's n valid frames
    from the least-squares polynomial of time of degree `detrend`.

    Parameters
    ----------
    series
        An image with an axis t.
    detrend
        Degree of the drift that is removed: 0 removes the mean only, 1 a linear drift, 2 a
        quadratic one.
    ddof
        As in `numpy.std`: 1 gives the published convention, with ``detrend=0``.
    baseline
        What is divided: ``"mean"`` of the series, or ``"intercept"``, the value of the fit at t = 0
        where the frames are t = 1 to T, which is what ukat divides (with ``detrend=2``).
    invalid
        What is not measurable: ``"nan"``, or ``"zero"``, where values beyond 1000 are 0 too, as
        in ukat.
    mask
        Bool over ``y x``, or more dims of the series, or polygons (see `region`): only what is
        inside is measured. With t, frames outside are left out.
    dims
        The axes of an array without labels, such as ``"tyx"``.

    Returns
    -------
    DataArray
        float64, the dims of the series without t. Without unit; higher is better. NaN where fewer
        than ``detrend + 2`` frames are valid (not NaN, not infinite), where the residuals are 0 or
        no larger than the rounding of the pixel's values (constant pixels, exact polynomials), and
        outside the mask.

    Raises
    ------
    ImageError
        A series without t, or of a single frame.
    ParameterError
        A degree that is no whole number from 0 to 20 and below the number of frames, or another
        baseline or invalid than those above.
    MaskError
        A mask of another shape.

    Notes
    -----
    Reads each chunk once, however time is chunked. Exact to rounding also for large offsets and
    drifts: residuals are summed, and not taken from sums of squares of the values. Integers beyond
    2^53 are rounded to float64.

    ukat's map (`Tsnr`) divides the intercept of its quadratic, which lies one step before the first
    frame and so scatters about the mean by about ``3 / (tsnr * sqrt(T))`` of it.
    ``baseline="intercept", invalid="zero"`` gives its numbers.

    Sources: Hutton et al., NeuroImage 57, 2011 (detrending); ukat.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> series = np.array([9, 11, 9, 11], dtype="u2").reshape(4, 1, 1)
    >>> gq.tsnr_map(series, dims="tyx", detrend=0).values.tolist()
    [[10.0]]
    """
    for name, value, known in (
        ("baseline", baseline, ("mean", "intercept")),
        ("invalid", invalid, ("nan", "zero")),
    ):
        if value not in known:
            raise ParameterError(f"{name}: got {value!r}; pass {known[0]!r} or {known[1]!r}.")
    states, inside = _states(series, detrend, ddof, mask, dims)
    values = _within(states.map(_tsnr, detrend, ddof, baseline, name="tsnr"), inside)
    if invalid == "zero":
        values = values.where(values <= _UKAT_LIMIT, 0.0)
    return like_series(values, series, dims)


def temporal_statistics(
    series: ImageLike,
    *,
    detrend: int = 2,
    ddof: int = 0,
    mask: MaskLike | None = None,
    dims: str | Sequence[str] | None = None,
) -> xr.Dataset:
    """Mean, standard deviation and signal to noise of each pixel along time (lazy).

    Parameters
    ----------
    series, detrend, ddof, mask, dims
        As for `tsnr_map`.

    Returns
    -------
    Dataset
        Over the dims of the series without t: ``mean`` of the valid frames, in grey levels (NaN
        without any); ``std`` of the residuals from the drift of degree `detrend`, in grey levels
        (NaN with fewer than ``detrend + 2`` valid frames; 0 where nothing beyond rounding is left);
        ``n_frames``, how many are valid (int64); ``tsnr``, mean over std, as `tsnr_map` gives it.
        Outside the mask ``n_frames`` is 0 and the others are NaN.

    Raises
    ------
    ImageError, ParameterError, MaskError
        As `tsnr_map`.

    Notes
    -----
    Variables that are computed together share one read of each chunk.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> series = np.array([9, 11, 9, 11], dtype="u2").reshape(4, 1, 1)
    >>> found = gq.temporal_statistics(series, dims="tyx", detrend=0).compute()
    >>> [found[name].values.item() for name in ("mean", "std", "n_frames", "tsnr")]
    [10.0, 1.0, 4, 10.0]
    """
    states, inside = _states(series, detrend, ddof, mask, dims)
    counts = states.map(_count, name="n-frames", dtype="i8")
    variables = {
        "mean": _within(states.map(_mean, name="temporal-mean"), inside),
        "std": _within(states.map(_std, detrend, ddof, name="temporal-std"), inside),
        "n_frames": _within(counts, inside, 0),
        "tsnr": _within(states.map(_tsnr, detrend, ddof, "mean", name="tsnr"), inside),
    }
    return like_series(xr.Dataset(variables), series, dims)


def tsnr_summary(
    series: ImageLike,
    *,
    mask: MaskLike | Mapping[str, MaskLike] | None = None,
    percentiles: Sequence[float] = (5, 50, 95),
    detrend: int = 2,
    ddof: int = 0,
    baseline: str = "mean",
    dims: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Temporal signal to noise of whole channels: median, mean and percentiles; *runs now*.

    Parameters
    ----------
    series
        A series with an axis t, or a map that `tsnr_map` gave.
    mask
        Bool over ``y x`` or more dims of the map, or polygons (see `region`); or a dict of names to
        masks, each of which gives rows of its own.
    percentiles
        In 0..100.
    detrend, ddof, baseline, dims
        As for `tsnr_map`; a map is taken as it is.

    Returns
    -------
    DataFrame
        A row a channel; with a dict of masks the index is ``channel``, ``mask``. ``n`` pixels are
        measured and ``n_not_measurable`` are NaN in the map; ``median``, ``mean`` and percentiles
        (``p5``, ``p50``, ``p95``) of the measured ones, linear as `numpy.percentile`; NaN where
        there are none.

    Raises
    ------
    ImageError, ParameterError, MaskError
        As `tsnr_map`, and for percentiles outside of 0..100.

    Notes
    -----
    Reads a series once, and holds the map in memory while it runs. Exact. A map with
    ``invalid="zero"`` does not tell what was not measurable: pass one with NaN.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> series = np.array([[9, 9], [11, 9], [9, 9], [11, 9]], dtype="u2").reshape(4, 1, 2)
    >>> found = gq.tsnr_summary(series, dims="tyx", detrend=0)
    >>> found[["n", "n_not_measurable", "median"]].values.tolist()
    [[1.0, 1.0, 10.0]]
    """
    import pandas as pd

    asked = np.atleast_1d(np.asarray(percentiles, "f8"))
    if asked.ndim != 1 or not ((asked >= 0) & (asked <= 100)).all():
        raise ParameterError(f"percentiles: got {percentiles!r}; pass numbers in 0..100.")
    given = as_image(series, dims=dims, argument="series")
    if "t" in given.dims:
        options: dict[str, Any] = {"detrend": detrend, "ddof": ddof, "baseline": baseline}
        source: Any = tsnr_map(series, dims=dims, **options)
    else:
        source = series if dims is None else like_series(given, series, dims)
    lazy = as_image(source, argument="series")
    masks = dict(mask) if isinstance(mask, Mapping) else {"": mask}
    within = {
        str(name): None if one is None else _mask_of(one, lazy, has_channels(source, None))
        for name, one in masks.items()
    }
    values = lazy.compute()
    rows, keys = [], []
    for number, channel in enumerate(channel_names(values)):
        plane = values.isel(c=number, drop=True)
        for name, one in within.items():
            keys.append((channel, name))
            rows.append(_row(_inside(plane, one, number), asked))
    columns = ["n", "n_not_measurable", "median", "mean", *(f"p{p:g}" for p in asked)]
    table = pd.DataFrame(rows, columns=columns)
    table.index = pd.MultiIndex.from_tuples(keys, names=["channel", "mask"])
    return table if isinstance(mask, Mapping) else table.droplevel("mask")


def _inside(plane: xr.DataArray, mask: xr.DataArray | None, channel: int) -> np.ndarray:
    """The values of one channel within a mask, flat."""
    if mask is None:
        return plane.values.ravel()
    own = mask.isel(c=channel) if "c" in mask.dims else mask
    return plane.values[np.broadcast_to(own.broadcast_like(plane).values, plane.shape)]


def _row(values: np.ndarray, percentiles: np.ndarray) -> list[Any]:
    known = values[np.isfinite(values)].astype("f8")
    lost = values.size - known.size
    if not known.size:
        return [0, lost, np.nan, np.nan, *np.full(percentiles.size, np.nan)]
    levels = np.percentile(known, [50.0, *percentiles], overwrite_input=True)
    return [known.size, lost, levels[0], known.mean(), *levels[1:]]


def _states(
    series: Any, detrend: int, ddof: int, mask: Any, dims: str | Sequence[str] | None
) -> tuple[TimeStates, xr.DataArray | None]:
    """The moments of each pixel, lazily, and which pixels are wanted; None for all."""
    image = as_series(series, dims)
    frames = image.sizes["t"]
    degree = _whole(detrend, "detrend", 2)
    if degree > _MOST_DETREND or degree >= frames:
        raise ParameterError(
            f"detrend: {degree} for a series of {frames} frames; pass a degree below the number of "
            f"frames, and of {_MOST_DETREND} at most, such as 0."
        )
    _whole(ddof, "ddof", 1)
    inside = None
    if mask is not None:
        within = _mask_of(mask, image, has_channels(series, dims))
        if "t" in within.dims:
            short = image.dtype.itemsize <= 2 or image.dtype == "f4"
            image = only_inside(image, within, np.nan, np.dtype("f4" if short else "f8"))
        else:
            inside = within
    arguments = (frames, degree)
    states = Fold("moments", image, DetrendedMoments, arguments, plan_in_time(image)).build()
    return states, None if inside is None else as_mask(inside, states.image)


def _within(values: xr.DataArray, mask: xr.DataArray | None, other: Any = np.nan) -> xr.DataArray:
    return values if mask is None else values.where(mask, other)


def _whole(value: Any, name: str, example: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ParameterError(
            f"{name}: got {value!r}; pass a whole number from 0 up, such as {example}."
        )
    return int(value)


def _mask_of(mask: Any, image: xr.DataArray, channels: bool) -> xr.DataArray:
    """The mask of a series or a map, where an array without labels may have all dims of the map.

    `channels` says whether the caller's has an axis of them.
    """
    own = [d for d in image.dims if d != "t" and (d != "c" or channels)]
    if not isinstance(mask, xr.DataArray) and 2 < np.ndim(mask) == len(own):
        mask = xr.DataArray(mask, dims=own)
    return as_mask(mask, image)


def _mean(moments: DetrendedMoments) -> np.ndarray:
    return moments.means


def _count(moments: DetrendedMoments) -> np.ndarray:
    return moments.counts.astype("i8")


def _std(moments: DetrendedMoments, detrend: int, ddof: int) -> np.ndarray:
    std = np.empty_like(moments.squares)
    for part, few in moments.parts():
        std[part] = noise.residual_std(few.squares, few.counts, few.scales, detrend, ddof)
    return std


def _tsnr(moments: DetrendedMoments, detrend: int, ddof: int, baseline: str) -> np.ndarray:
    std = _std(moments, detrend, ddof)
    for part, few in moments.parts():
        value = few.means if baseline == "mean" else few.before_first
        std[part] = noise.temporal_snr(value, std[part])
    return std
