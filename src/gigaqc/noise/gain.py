"""Gain maps: how many electrons a grey value is, from the noise of a series of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr

from gigaqc.base.backend import of_place
from gigaqc.errors import ParameterError
from gigaqc.formulas.photon_transfer import (
    MAD_TO_STD,
    PhotonTransfer,
    PlaneMaps,
    photon_transfer,
    shapes_and_types,
)
from gigaqc.graph.fold import Fold
from gigaqc.graph.frames import PlaneStates, TimeStates
from gigaqc.graph.scratch import Scratch, check_temporary
from gigaqc.graph.slabs import parsed_memory, plan_slabs
from gigaqc.graph.tasks import join
from gigaqc.image.arguments import as_series, like_series, number
from gigaqc.kernels import frames as on_device
from gigaqc.kernels import temporal
from gigaqc.scanning.results import promised
from gigaqc.typing import ImageLike, PathLike


def gain_map(
    series: ImageLike,
    *,
    nbins: int = 50,
    offset: float | None = None,
    estimator: Literal["mad", "variance"] = "mad",
    temporary: PathLike | None = None,
    memory: int | str | None = None,
    dims: str | Sequence[str] | None = None,
) -> xr.Dataset:
    """Gain of a camera and of each pixel, from a series of frames of a constant scene (lazy).

    A detector of gain g [e-/ADU] adds up ``variance = (mean - offset) / g + read noise^2``: the
    photon-transfer curve. Pixels are put in bins of their mean, and a line is fitted through the
    means of mean and variance in the bins; its slope is 1/g.

    ``estimator="mad"`` is the recipe: temporal median and (1.4826 MAD)^2 of each pixel, bins of
    equal width ``linspace(min, max, nbins + 1)`` with more than 10 pixels, ordinary least squares
    over the bins whose mean lies strictly between the 33rd and the 66th percentile of the map.
    ``estimator="variance"`` is ours: temporal mean and variance (n - 1), bins of equal population,
    without pixels that vary more than chance allows beside the median of their bin (hot, blinking),
    weighted least squares (weight: pixels over the square of the fitted variance) over the bins of
    which at most 0.1 % of the values lie at the smallest or the largest value of all (clipped).

    Parameters
    ----------
    series
        Anything that `gigaqc` takes as an image, with an axis ``t``; each ``c`` and ``z`` has a
        curve of its own.
    nbins
        Bins of the mean.
    offset
        Grey value without light, subtracted in `gain_map`, 0 for None; with it the read noise is
        told.
    estimator
        As above.
    temporary
        A folder that all workers see, with room for the series, in case that frames must be laid
        down (``print(gq.explain(series, metric="gain_map"))`` says whether); by default that of the
        system.
    memory
        Bytes of frames that a process may hold, such as ``"2GB"``; by default half of what it may
        use.
    dims
        Axes of an array without labels, such as ``"tyx"``.

    Returns
    -------
    Dataset
        Maps without ``t``: ``mean_map`` [ADU], ``variance_map`` [ADU^2] and ``gain_map`` =
        (mean - offset) / variance [e-/ADU], NaN where the variance is 0.

        Over ``bin``: ``mean_bins``, ``variance_bins`` (NaN where a bin has too few pixels),
        ``count_bins``, ``in_fit``.

        Numbers (over ``c`` and ``z``, if there are): ``slope``, ``intercept``, ``rvalue``,
        ``stderr``, ``intercept_stderr`` of the line, ``gain`` = 1/slope [e-/ADU], ``system_gain`` =
        slope [ADU/e-], ``fitted_offset`` = -intercept/slope [ADU] (where the variance would be 0,
        so the read noise pulls it down), ``read_noise`` [e-] (NaN without `offset`),
        ``measurable`` and, where it is not, the ``reason``, with gain NaN: fewer than 3 bins in the
        fit (5 with ``"variance"``), or a slope that is not above 0 by twice its error;
        ``quantised`` (half of the pixels have a MAD below 5 grey values of an integer type, too
        coarse for its square), ``n_zero_variance`` pixels, ``n_missing`` values that are NaN or
        infinite (a pixel uses its other frames), ``n_outliers`` pixels left out.

    Raises
    ------
    ImageError
        A series without ``t``, or with one frame.
    ParameterError
        When `nbins`, `offset`, `estimator`, `memory` or `temporary` is not one that can be used.

    Notes
    -----
    Median and MAD are exact, equal to `numpy.median` of the values as float64. Each chunk is read
    once where all frames of a chunk's place fit in `memory`; else in up to three slabs of rows, or
    once more from a temporary store, which is removed afterwards, also after an error. The numbers
    need the maps of a plane at once, about 40 bytes a pixel.

    MAD of integers is quantised, and its bins of equal width often leave few for the fit: the page
    of the documentation on gain compares both on simulated cameras; prefer ``"variance"`` for clean
    series.
    A scene that moves, or light that flickers, adds variance that is not counted in electrons.

    The recipe is that of smlmlp's ``detect_gain``, whose map does not know an offset; the other
    follows EMVA 1288 in its use of mean and variance of many pixels.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq, xarray as xr
    >>> light = np.linspace(100, 1000, 4096).reshape(64, 64)
    >>> frames = np.random.default_rng(0).poisson(light, (200, 64, 64)) // 2
    >>> found = gq.gain_map(xr.DataArray(frames, dims=("t", "y", "x")), estimator="variance")
    >>> round(float(found.gain), 1)
    2.0
    """
    labelled = as_series(series, dims)
    request = _checked(nbins, offset, estimator, labelled.dtype)
    check_temporary(temporary)
    plan = plan_slabs(labelled, parsed_memory(memory))
    scratch = Scratch(temporary)
    states = Fold("frames", labelled, _temporal_maps, (estimator,), plan, scratch).build()
    maps = {
        "mean_map": states.map(_mean_of, name="mean"),
        "variance_map": states.map(_variance_of, name="variance"),
        "gain_map": states.map(_gain_of, request.offset or 0.0, name="gain"),
    }
    numbers = _numbers(states, labelled.sizes["t"], request)
    dataset = xr.Dataset(maps | numbers, attrs={"estimator": estimator, "nbins": nbins})
    return like_series(dataset, series, dims)


@dataclass(frozen=True)
class _CurveRequest:
    """What is asked of the curve."""

    nbins: int
    offset: float | None
    estimator: str
    integers: bool


def _checked(nbins: int, offset: float | None, estimator: str, dtype: np.dtype) -> _CurveRequest:
    if isinstance(nbins, bool) or not isinstance(nbins, (int, np.integer)) or nbins < 1:
        raise ParameterError(f"nbins: got {nbins!r}; pass a whole number from 1, such as 50.")
    if estimator not in ("mad", "variance"):
        raise ParameterError(f"estimator: got {estimator!r}; pass one of mad, variance.")
    level = None if offset is None else number(offset, "offset", "a grey value, such as 100.0")
    return _CurveRequest(int(nbins), level, estimator, dtype.kind in "bui")


def _temporal_maps(frames: Any, estimator: str) -> PlaneMaps:
    """What the frames of a block give."""
    kernels = of_place(frames, temporal, on_device)
    if estimator == "mad":
        middle, mad, n = kernels.median_and_mad(frames)
        with np.errstate(over="ignore"):
            variance = (MAD_TO_STD * mad) ** 2
        return PlaneMaps(middle, variance, n)
    mean, variance, n = kernels.mean_and_variance(frames)
    return PlaneMaps(mean, variance, n, *kernels.extremes(frames))


def _mean_of(maps: PlaneMaps) -> np.ndarray:
    return maps.mean


def _variance_of(maps: PlaneMaps) -> np.ndarray:
    return maps.variance


def _gain_of(maps: PlaneMaps, offset: float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gain = (maps.mean - offset) / maps.variance
    return np.where(maps.variance > 0, gain, np.nan)


def _numbers(
    states: TimeStates, frames: int, request: _CurveRequest
) -> dict[str, tuple[tuple[str, ...], da.Array]]:
    """The results of each plane, lazily."""
    dims = tuple(str(d) for d in states.image.dims[:-2])
    sizes = states.image.shape[:-2]
    curves = [states.gather(_curve, plane, frames, request) for plane in np.ndindex(sizes)]
    whole = join("transfer", _stacked, sizes, *curves)
    found = {}
    for name, (shape, dtype) in shapes_and_types(request.nbins).items():
        values = promised(whole, name, (*sizes, *shape), dtype)
        found[name] = ((*dims, *("bin" for _ in shape)), values)
    return found


def _curve(states: PlaneStates, frames: int, request: _CurveRequest) -> PhotonTransfer:
    """That of one plane."""
    first = states.places[0].states[0]
    held = [f.name for f in fields(PlaneMaps) if getattr(first, f.name) is not None]
    maps = PlaneMaps(**{name: states.pixels(attrgetter(name)).ravel() for name in held})
    return photon_transfer(
        maps, frames, request.nbins, request.estimator, request.offset, request.integers
    )


def _stacked(sizes: tuple[int, ...], *curves: PhotonTransfer) -> dict[str, np.ndarray]:
    found = {}
    for name, (shape, dtype) in shapes_and_types(len(curves[0].mean_bins)).items():
        values = [getattr(curve, name) for curve in curves]
        found[name] = np.array(values, dtype).reshape((*sizes, *shape))
    return found
