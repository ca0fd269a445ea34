"""Image signal to noise ratio: how strong the signal is over the noise of the background."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from gigaqc.base.geometry import Halo
from gigaqc.errors import ParameterError
from gigaqc.formulas.noise import (
    RICIAN,
    Classes,
    Separation,
    by_mask,
    by_mixture,
    image_snr,
    outline,
)
from gigaqc.graph.map import Map, result_dtype
from gigaqc.graph.tasks import join
from gigaqc.image.arguments import like
from gigaqc.image.labelled import as_image, as_mask, channel_names
from gigaqc.scanning.pixels import Sides, sides_pass
from gigaqc.scanning.results import Apart, By, pixels_of, promised
from gigaqc.scanning.scan import LazyStatistics, StatisticsLike, statistics_of
from gigaqc.statistics.distribution import (
    CodeHistogram,
    Distribution,
    KeyHistogram,
    Refined,
    layout_of,
)
from gigaqc.statistics.statistics import Part, Statistics
from gigaqc.typing import ImageLike, MaskLike

Correction = Literal["rician"] | None

_BINS = 1024  # of the histogram for the picture


def isnr(
    image: ImageLike | StatisticsLike,
    *,
    n_clusters: int = 3,
    noise_mask: MaskLike | None = None,
    correction: Correction = "rician",
    by: By = None,
) -> xr.Dataset:
    """Image signal to noise ratio of each channel (lazy).

    ``isnr`` = mean of what is not noise / standard deviation of the noise x sqrt(2 - pi/2). Noise
    is, unless `noise_mask` says where it is, what the component with the lowest mean is the most
    probable for, in a variational Bayesian mixture of Gaussians fitted to the histogram of all
    finite values. The factor turns the standard deviation of a magnitude image's background, which
    has a Rayleigh distribution, into that of the Gaussian noise of its real and imaginary part.

    Parameters
    ----------
    image
        An image, or a `Statistics`.
    n_clusters
        Components of the mixture, 2 to 6.
    noise_mask
        Bool over ``y x`` (or more of the image's dims), or polygons (see `region`), True where
        there is noise only: used instead of the mixture.
    correction
        ``"rician"`` for magnitude images; None for a factor of 1 (images with Gaussian noise).
    by
        ``"t"`` (or ``"z"``) measures each position along that axis by itself, in the same read:
        echoes, which have noise alike and signals that decay. None pools them. Results are then
        over (``c``, ``t``, ...).

    Returns
    -------
    Dataset
        Over ``c``: ``isnr`` (higher is better), ``signal``, ``noise`` and ``threshold`` (the
        largest intensity of the noise class) in units of the image, ``relative_error`` (what the
        width of histogram bins adds to `isnr`, 0 where each bin is one value), ``converged`` (bool,
        of the mixture). Over (``c``, ``component``), by ascending mean: ``component_mean``,
        ``component_variance``, ``component_weight``. Over ``bin`` and ``edge``: ``counts`` and
        ``edges``, a histogram with bins of their own width for `gq.pl.mixture`.

        NaN for a channel that is empty or constant; infinite where the noise is 0, as where a file
        has its background set to one value: then mark noise by `noise_mask`. Components beyond
        the number of distinct values are NaN; with `noise_mask`, all are, and ``threshold`` too.

    Raises
    ------
    ParameterError
        `n_clusters` outside of 2 to 6, another `correction`, an axis `by` that there is not, a
        `noise_mask` or `by` with a `Statistics`.
    MaskError
        A `noise_mask` that is not bool or does not fit.

    Notes
    -----
    One read of any type of image, none with a `Statistics`. Zeros are ordinary values. The
    histogram of integers to 16 bits is exact; of other types its bins are 2^-9 wide (2^-14 for
    float64 and wider integers), relative to the value. Priors are those of scikit-learn's
    ``BayesianGaussianMixture``; where there are more than 4096 occupied bins, neighbours are merged
    for the fit, and classes are told by all bins.

    Source: the definition of ukat's ``Isnr``, which fits 49,152 random voxels instead of all.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.tile(np.array([[1, 3], [99, 101]], dtype="u1"), (50, 50))
    >>> float(gq.isnr(image, n_clusters=2, correction=None).isnr[0].compute())  # 100 / 1
    100.0
    """
    if by is not None:
        apart = Apart.of(image, by)
        mask = apart.mask(noise_mask, "noise_mask")
        each = isnr(apart.image, n_clusters=n_clusters, noise_mask=mask, correction=correction)
        return apart.restored(each)
    factor = _checked(n_clusters, correction)
    sides, names, dtype = _sides(image, noise_mask)
    count, line = len(names), ("c", "component")
    shapes: dict[str, tuple[tuple[str, ...], tuple[int, ...], str]] = {
        **{name: (("c",), (count,), "f8") for name in _BY_CHANNEL},
        **{name: (line, (count, n_clusters), "f8") for name in _BY_COMPONENT},
        "converged": (("c",), (count,), "?"),
        "counts": (("c", "bin"), (count, _BINS), "i8"),
        "edges": (("c", "edge"), (count, _BINS + 1), "f8"),
    }
    if isinstance(sides, Sides):
        values: Any = _results(sides, n_clusters, factor)
    else:
        whole = join("isnr", _results, sides, n_clusters, factor)
        values = {n: promised(whole, n, shape, kind) for n, (_, shape, kind) in shapes.items()}
    return xr.Dataset(
        {name: (dims, values[name]) for name, (dims, _, _) in shapes.items()},
        coords={"c": names, "component": np.arange(1, n_clusters + 1)},
        attrs={
            "exact": layout_of(dtype) is None,
            "correction": correction or "none",
            "factor": factor,
        },
    )


def isnr_map(
    image: ImageLike,
    *,
    n_clusters: int = 3,
    noise_mask: MaskLike | None = None,
    correction: Correction = "rician",
    statistics: StatisticsLike | None = None,
    by: By = None,
) -> xr.DataArray:
    """Divide each channel by its noise: the signal to noise ratio of each pixel (lazy).

    ``x / noise x sqrt(2 - pi/2)``, with the noise of `gq.isnr`.

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.
    n_clusters, noise_mask, correction, by
        As for `gq.isnr`: with `by` each position along that axis, such as an echo, is divided by
        its own noise.
    statistics
        Of this image, from `gigaqc.scan`; saves the read for the noise. Not with `by`.

    Returns
    -------
    DataArray
        float32 (float64 from float64), with the dims and chunks of the image. NaN where the pixel
        or the noise of the channel is NaN; where the noise is 0, infinite, or NaN for 0.

    Raises
    ------
    ParameterError, MaskError
        As `gq.isnr`.

    Notes
    -----
    Two reads of any type of image, one with `statistics`.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.tile(np.array([[1, 3], [99, 101]], dtype="u1"), (50, 50))
    >>> gq.isnr_map(image, n_clusters=2, correction=None).values[:2, :2].tolist()
    [[1.0, 3.0], [99.0, 101.0]]
    """
    factor = _checked(n_clusters, correction)
    if by is not None:
        return like(_map_apart(image, by, n_clusters, noise_mask, factor, statistics), image)
    labelled = pixels_of(image, "isnr_map")
    sides = _sides_beside(labelled, noise_mask, statistics)
    scales = join("noise", _scales, sides, n_clusters, factor)
    return like(Map("isnr-map", labelled, _scaled, (scales,)).build(), image)


def isnr_components(
    image: ImageLike,
    *,
    n_clusters: int = 3,
    statistics: StatisticsLike | None = None,
) -> xr.DataArray:
    """Label each pixel with its most probable component of the mixture of `gq.isnr` (lazy).

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.
    n_clusters
        Components, 2 to 6.
    statistics
        Of this image, from `gigaqc.scan`; saves the read for the mixture.

    Returns
    -------
    DataArray
        uint8, with the dims and chunks of the image: 1 is noise, then by ascending mean; 0 where
        the pixel is not finite, or the channel constant.

    Raises
    ------
    ParameterError
        `n_clusters` outside of 2 to 6.

    Notes
    -----
    Two reads of any type of image, one with `statistics`. A wide component may own the values on
    both sides of a narrow one.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.tile(np.array([[1, 3], [99, 101]], dtype="u1"), (50, 50))
    >>> gq.isnr_components(image, n_clusters=2).values[:2, :2].tolist()
    [[1, 1], [2, 2]]
    """
    _checked(n_clusters, None)
    labelled = pixels_of(image, "isnr_components")
    sides = _sides_beside(labelled, None, statistics)
    classes = join("classes", _classes, sides, n_clusters)
    dtype = np.min_scalar_type(n_clusters)
    mapped = Map("components", labelled, _components, (classes,), dtype=dtype).build()
    return like(mapped, image)


_BY_CHANNEL = ("isnr", "signal", "noise", "threshold", "relative_error")
_BY_COMPONENT = {
    "component_mean": "means",
    "component_variance": "variances",
    "component_weight": "weights",
}


def _checked(n_clusters: int, correction: Correction) -> float:
    """The factor of a correction; refuses what is no number of clusters or no correction."""
    whole = isinstance(n_clusters, (int, np.integer)) and not isinstance(n_clusters, bool)
    if not whole or not 2 <= n_clusters <= 6:
        raise ParameterError(f"n_clusters: got {n_clusters!r}; pass a whole number from 2 to 6.")
    if correction is not None and correction != "rician":
        raise ParameterError(
            f"correction: got {correction!r}; pass 'rician' for magnitude images, or None."
        )
    return 1.0 if correction is None else RICIAN


def _sides(image: Any, noise_mask: Any) -> tuple[Sides | Delayed, list[str], np.dtype]:
    """Histograms of signal and noise, or of both where no mask tells them; names; type."""
    if isinstance(image, (Statistics, LazyStatistics)):
        if noise_mask is not None:
            raise ParameterError(
                "noise_mask: Statistics hold no pixels to mask; pass the image instead."
            )
        image.meta.require(Part.MOMENTS, "isnr")
        return _sides_of(image), image.channels, np.dtype(image.meta.dtype)
    labelled = as_image(image)
    signal = None if noise_mask is None else ~as_mask(noise_mask, labelled, "noise_mask")
    return sides_pass(labelled, signal), channel_names(labelled), np.dtype(labelled.dtype)


def _sides_beside(
    image: xr.DataArray, noise_mask: Any, statistics: Statistics | LazyStatistics | None
) -> Sides | Delayed:
    """The same, of what the caller knows of the image."""
    if statistics is None:
        return _sides(image, noise_mask)[0]
    if noise_mask is not None:
        raise ParameterError(
            "statistics: they hold no pixels for noise_mask to mask; leave one of the two out."
        )
    statistics_of(image, statistics)  # refuses those of another image
    return _sides(statistics, None)[0]


def _sides_of(statistics: Statistics | LazyStatistics) -> Sides | Delayed:
    if isinstance(statistics, LazyStatistics):
        return join("sides", _unrefined, statistics.delayed)
    return _unrefined(statistics)


def _unrefined(statistics: Statistics) -> Sides:
    """Bins that do not depend on what a second read looked at."""
    histogram = statistics.state.histogram
    if isinstance(histogram, KeyHistogram):
        histogram = histogram.with_refined((Refined.empty(),) * len(histogram.channels))
    return Sides(histogram)


def _separations(sides: Sides, n_clusters: int) -> Iterator[tuple[Distribution, Separation]]:
    """Values of each channel (of the signal, where a mask tells it), and how they are divided."""
    for c in range(_count(sides)):
        values = sides.inside.channel(c)
        with np.errstate(over="ignore", invalid="ignore"):  # squares near the largest float
            if sides.outside is None:
                yield values, by_mixture(values, n_clusters)
            else:
                yield values, by_mask(values, sides.outside.channel(c))


def _count(sides: Sides) -> int:
    held = sides.inside
    return len(held.counts if isinstance(held, CodeHistogram) else held.channels)


def _results(sides: Sides, n_clusters: int, factor: float) -> dict[str, np.ndarray]:
    """The variables of `isnr`."""
    rows = []
    for values, found in _separations(sides, n_clusters):
        row: dict[str, Any] = {n: getattr(found, n) for n in _BY_CHANNEL[1:]}
        row["isnr"] = image_snr(found.signal, found.noise, factor)
        row["converged"] = found.mixture is not None and found.mixture.converged
        for name, field in _BY_COMPONENT.items():
            own = () if found.mixture is None else getattr(found.mixture, field)
            row[name] = np.append(own, np.full(n_clusters - len(own), np.nan))
        line = outline(values, _BINS)
        rows.append({**row, "counts": line.counts, "edges": line.edges})
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _scales(sides: Sides, n_clusters: int, factor: float) -> np.ndarray:
    """What to multiply each channel by."""
    noise = np.array([found.noise for _, found in _separations(sides, n_clusters)])
    with np.errstate(divide="ignore"):
        return factor / noise


def _scaled(block: np.ndarray, halo: Halo, channels: slice, scales: np.ndarray) -> np.ndarray:
    out = np.empty(block.shape, result_dtype(block.dtype))
    with np.errstate(invalid="ignore", over="ignore"):
        for c, scale in enumerate(scales[channels]):
            np.multiply(block[c], scale, out=out[c], dtype=out.dtype, casting="unsafe")
    return out


def _map_apart(
    image: Any, by: str, n_clusters: int, noise_mask: Any, factor: float, statistics: Any
) -> xr.DataArray:
    """Each position along an axis divided by its own noise, in the blocks of the image."""
    if statistics is not None:
        raise ParameterError(
            f"statistics: they are pooled over {by!r}, which by= measures apart; leave one of the "
            "two out."
        )
    apart = Apart.of(pixels_of(image, "isnr_map"), by)
    sides, _, _ = _sides(apart.image, apart.mask(noise_mask, "noise_mask"))
    found = join("noise", _scales, sides, n_clusters, factor)
    positions, channels = apart.counts
    scales = da.from_delayed(found, (positions * channels,), "f8").reshape(positions, channels)
    whole, along = apart.whole, (by, "c")
    scales = scales.rechunk(tuple(whole.chunksizes[d] for d in along))
    dtype = result_dtype(whole.dtype)
    where = tuple(1 if d in along else 0 for d in whole.dims)
    if tuple(d for d in whole.dims if d in along) != along:
        scales, along = scales.T, ("c", by)
    data = da.blockwise(
        _times, whole.dims, whole.data, whole.dims, scales, along, where=where, dtype=dtype,
        meta=np.empty((0,) * whole.ndim, dtype),
    )  # fmt: skip
    return whole.copy(data=data)


def _times(block: np.ndarray, scales: np.ndarray, where: tuple[int, ...]) -> np.ndarray:
    lengths = iter(scales.shape)
    scales = scales.reshape([next(lengths) if there else 1 for there in where])
    out = np.empty(block.shape, result_dtype(block.dtype))
    with np.errstate(invalid="ignore", over="ignore"):
        return np.multiply(block, scales, out=out, dtype=out.dtype, casting="unsafe")


def _classes(sides: Sides, n_clusters: int) -> list[Classes]:
    return [found.classes for _, found in _separations(sides, n_clusters)]


def _components(
    block: np.ndarray, halo: Halo, channels: slice, classes: list[Classes]
) -> np.ndarray:
    out = np.empty(block.shape, classes[0].labels.dtype)
    for c, own in enumerate(classes[channels]):
        passed = np.zeros(block.shape[1:], "u1")
        for cut in own.cuts:  # a float64 scalar: compared as such with floats of any width
            passed += block[c] >= cut
        out[c] = own.labels[passed]
        if block.dtype.kind == "f":
            out[c][~np.isfinite(block[c])] = 0
    return out
