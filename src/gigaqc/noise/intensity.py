"""Image signal to noise ratio: how strong the signal is over the noise of the background."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import Delayed

from gigaqc.distribution import Distribution, KeyHistogram, Refined, layout_of
from gigaqc.errors import ParameterError
from gigaqc.image import as_image, as_mask
from gigaqc.mapping import Halo, map_image, result_dtype
from gigaqc.metrics.isnr import RICIAN, Classes, Separation, by_mask, by_mixture, image_snr, outline
from gigaqc.passes import join
from gigaqc.quality.labelled import Results, labelled_results, pixels_of, scanned
from gigaqc.scanning import LazyStatistics, scan
from gigaqc.statistics import Part, Statistics
from gigaqc.transforms.common import like, statistics_of

Correction = Literal["rician"] | None

_BINS = 1024  # of the histogram for the picture


def isnr(
    image: Any,
    *,
    n_clusters: int = 3,
    noise_mask: Any = None,
    correction: Correction = "rician",
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
        Bool over ``y x`` (or more of the image's dims), True where there is noise only: used
        instead of the mixture.
    correction
        ``"rician"`` for magnitude images; None for a factor of 1 (images with Gaussian noise).

    Returns
    -------
    Dataset
        Over ``c``: ``isnr`` (higher is better), ``signal``, ``noise`` and ``threshold`` (the
        largest intensity of the noise class) in units of the image, ``relative_error`` (what the
        width of histogram bins adds to `isnr`, 0 where each bin is one value). Over (``c``,
        ``component``), by ascending mean: ``component_mean``, ``component_variance``,
        ``component_weight``. Over ``bin`` and ``edge``: ``counts`` and ``edges``, a histogram with
        bins of their own width for `gq.pl.mixture`.

        NaN for a channel that is empty or constant; infinite where the noise is 0, as where a file
        has its background set to one value: then mark noise by `noise_mask`. Components beyond
        the number of distinct values are NaN; with `noise_mask`, all are, and ``threshold`` too.

    Raises
    ------
    ParameterError
        `n_clusters` outside of 2 to 6, another `correction`, a `noise_mask` with a `Statistics`.
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
    factor = _checked(n_clusters, correction)
    source = _source(image, noise_mask)
    count, names = len(source.channels), source.channels
    components = np.arange(1, n_clusters + 1)
    each = {n: (("c",), (count,), "f8") for n in _BY_CHANNEL}
    parts = {n: (("c", "component"), (count, n_clusters), "f8") for n in _BY_COMPONENT}
    picture = {
        "counts": (("c", "bin"), (count, _BINS), "i8"),
        "edges": (("c", "edge"), (count, _BINS + 1), "f8"),
    }
    evaluate = partial(
        _results, n_clusters=n_clusters, masked=noise_mask is not None, factor=factor
    )
    attrs = {
        "exact": layout_of(np.dtype(source.meta.dtype)) is None,
        "correction": factor,
        "n_clusters": n_clusters,
    }
    coords = {"c": names, "component": components}
    return labelled_results(source, evaluate, {**each, **parts, **picture}, coords, attrs)


def isnr_map(
    image: Any,
    *,
    n_clusters: int = 3,
    noise_mask: Any = None,
    correction: Correction = "rician",
    statistics: Statistics | LazyStatistics | None = None,
) -> xr.DataArray:
    """Divide each channel by its noise: the signal to noise ratio of each pixel (lazy).

    ``x / noise x sqrt(2 - pi/2)``, with the noise of `gq.isnr`.

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.
    n_clusters, noise_mask, correction
        As for `gq.isnr`.
    statistics
        Of this image, from `gigaqc.scan`; saves the read for the noise.

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
    labelled = pixels_of(image, "isnr_map")
    known = _known(labelled, noise_mask, statistics)
    arguments = (n_clusters, noise_mask is not None, factor)
    scales = join(f"noise-{tokenize(known, arguments)}", _scales, known, *arguments)
    return like(map_image(labelled, _scaled, scales, name="isnr-map"), image)


def isnr_components(
    image: Any,
    *,
    n_clusters: int = 3,
    statistics: Statistics | LazyStatistics | None = None,
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
    known = _known(labelled, None, statistics)
    classes = join(f"classes-{tokenize(known, n_clusters)}", _classes, known, n_clusters)
    dtype = np.min_scalar_type(n_clusters)
    mapped = map_image(labelled, _components, classes, name="components", dtype=dtype)
    return like(mapped, image)


_BY_CHANNEL = ("isnr", "signal", "noise", "threshold", "relative_error")
_BY_COMPONENT = ("component_mean", "component_variance", "component_weight")


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


def _source(image: Any, noise_mask: Any) -> Statistics | LazyStatistics:
    """The histogram of an image, and of its signal and noise apart where a mask tells them."""
    if noise_mask is None:
        return scanned(image, Part.MOMENTS, "isnr", refine=False)
    if isinstance(image, (Statistics, LazyStatistics)):
        raise ParameterError(
            "noise_mask: Statistics hold no pixels to mask; pass the image instead."
        )
    labelled = as_image(image)
    signal = ~as_mask(noise_mask, labelled, "noise_mask")
    return scan(labelled, mask=signal, parts=Part.MOMENTS, refine=False)


def _known(
    image: xr.DataArray, noise_mask: Any, statistics: Statistics | LazyStatistics | None
) -> Statistics | Delayed:
    if noise_mask is None:
        return statistics_of(image, statistics, refine=False)
    if statistics is not None:
        raise ParameterError(
            "statistics: they hold no pixels for noise_mask to mask; leave one of the two out."
        )
    source = _source(image, noise_mask)
    return source.delayed if isinstance(source, LazyStatistics) else source


def _distribution(statistics: Statistics, channel: int) -> Distribution:
    """Values of a channel by bins that do not depend on what a second read refined."""
    histogram = statistics.state.histogram
    if isinstance(histogram, KeyHistogram):
        histogram = replace(histogram, refined=(Refined.empty(),) * len(histogram.channels))
    return histogram.channel(channel)


def _separations(statistics: Statistics, n_clusters: int, masked: bool) -> list[Separation]:
    found = []
    with np.errstate(over="ignore", invalid="ignore"):  # squares near the largest float
        for c in range(len(statistics.channels)):
            values = _distribution(statistics, c)
            if masked:
                assert statistics.state.outside is not None
                found.append(by_mask(values, statistics.state.outside, c))
            else:
                found.append(by_mixture(values, n_clusters))
    return found


def _results(statistics: Statistics, n_clusters: int, masked: bool, factor: float) -> Results:
    """The variables of `isnr`."""
    separations = _separations(statistics, n_clusters, masked)
    results = {
        "isnr": np.array([image_snr(s.signal, s.noise, factor) for s in separations]),
        **{n: np.array([getattr(s, n) for s in separations]) for n in _BY_CHANNEL[1:]},
        **{n: np.full((len(separations), n_clusters), np.nan) for n in _BY_COMPONENT},
    }
    for c, separation in enumerate(separations):
        mixture = separation.mixture
        if mixture is not None:
            parts = (mixture.means, mixture.variances, mixture.weights)
            for name, values in zip(_BY_COMPONENT, parts, strict=True):
                results[name][c, : values.size] = values
    lines = [outline(_distribution(statistics, c), _BINS) for c in range(len(separations))]
    results["counts"] = np.stack([line.counts for line in lines])
    results["edges"] = np.stack([line.edges for line in lines])
    return results


def _scales(statistics: Statistics, n_clusters: int, masked: bool, factor: float) -> np.ndarray:
    """(C, 2) noise, and the factor of the correction."""
    return np.array([(s.noise, factor) for s in _separations(statistics, n_clusters, masked)])


def _scaled(block: np.ndarray, halo: Halo, channels: slice, scales: np.ndarray) -> np.ndarray:
    out = np.empty(block.shape, result_dtype(block.dtype))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for c, (noise, factor) in enumerate(scales[channels]):
            values = np.multiply(block[c], factor, dtype="f8")
            out[c] = np.divide(values, noise, out=values)
    return out


def _classes(statistics: Statistics, n_clusters: int) -> list[Classes]:
    return [s.classes for s in _separations(statistics, n_clusters, False)]


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
