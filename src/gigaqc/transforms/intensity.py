"""Intensities on a common scale: percentiles, arcsinh, another channel, equal histograms."""

from __future__ import annotations

import numpy as np
import xarray as xr

from gigaqc.base.backend import twin
from gigaqc.base.geometry import Halo
from gigaqc.errors import ParameterError
from gigaqc.graph.map import Map, result_dtype
from gigaqc.graph.tasks import join
from gigaqc.image.arguments import like, number
from gigaqc.image.labelled import as_image, channel_index, channel_names
from gigaqc.kernels import vectors
from gigaqc.kernels.vectors import Curve
from gigaqc.scanning.pixels import Extremes, extremes_pass, histogram_pass
from gigaqc.scanning.results import warn_of
from gigaqc.scanning.scan import StatisticsLike, statistics_of
from gigaqc.statistics.distribution import CodeHistogram, layout_of
from gigaqc.statistics.statistics import Statistics
from gigaqc.typing import ChannelLike, ImageLike


def normalize_percentiles(
    image: ImageLike,
    low: float | None = None,
    high: float = 99.0,
    *,
    clip: bool = False,
    ignore_zeros: bool = True,
    statistics: StatisticsLike | None = None,
) -> xr.DataArray:
    """Divide each channel by a percentile of its own: quantile normalization (lazy).

    ``x / p_high``, or with `low` ``(x - p_low) / (p_high - p_low)``.

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.
    low, high
        Percentiles in 0..100, exact over the whole channel.
    clip
        Limit the result to 0..1.
    ignore_zeros
        Percentiles of the values that are not exactly 0.
    statistics
        Of this image, from `gigaqc.scan`; saves the reads for the percentiles. Of floats they are
        exact when the scan was asked for them, else known to the bound of the scan.

    Returns
    -------
    DataArray
        float32 (float64 from float64), with the chunks of the image. NaN stays NaN. A channel
        without values, or whose percentiles agree, is NaN, and a `ChannelWarning` names it when it
        is computed.

    Raises
    ------
    ParameterError
        Percentiles outside of 0..100, or `low` not below `high`.

    Notes
    -----
    Reads an image of integers to 16 bits twice, of other types three times, `statistics` once.
    The normalization of Pixie (Liu et al., Nature Communications 2023) divides by the 99th or
    99.9th percentile of the values that are not zero.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.array([[0, 1], [2, 4]], dtype="u2")
    >>> gq.normalize_percentiles(image, high=100).values.tolist()
    [[0.0, 0.25], [0.5, 1.0]]
    """
    asked = [p for p in (low, high) if p is not None]
    if any(not 0 <= number(p, "low, high", "percentiles in 0..100") <= 100 for p in asked):
        raise ParameterError(f"low, high: got {low} and {high}; percentiles are in 0..100.")
    if low is not None and low >= high:
        raise ParameterError(f"low: {low} is not below high, {high}; exchange them.")
    labelled = as_image(image)
    option = "nonzero_quantiles" if ignore_zeros else "quantiles"
    known = statistics_of(labelled, statistics, **{option: [p / 100 for p in asked]})
    percentiles = (low, high, ignore_zeros)
    limits = join("limits", _limits, known, *percentiles)
    scaled = Map("normalized", labelled, _scaled, (limits, clip), on_device=True).build()
    return like(scaled, image)


def _limits(
    statistics: Statistics, low: float | None, high: float, ignore_zeros: bool
) -> np.ndarray:
    """(C, 2) what to subtract and what to divide by; NaN where nothing can be divided."""
    limits = np.full((len(statistics.channels), 2), np.nan)
    for c in range(len(limits)):
        values = statistics.distribution(c)
        if ignore_zeros:
            values = values.without_zeros(int(statistics.state.tally.table[4, c]))
        first = 0.0 if low is None else values.quantile(low / 100)[0]
        span = values.quantile(high / 100)[0] - first
        if span != 0 and np.isfinite(span):
            limits[c] = first, span
    lost = np.isnan(limits[:, 1])
    names = [n for n, gone in zip(statistics.channels, lost, strict=True) if gone]
    warn_of(names, "there is no percentile to divide by")
    return limits


def _scaled(
    block: np.ndarray, halo: Halo, channels: slice, limits: np.ndarray, clip: bool
) -> np.ndarray:
    return _scaled_by(block, limits[channels], clip)


@twin(vectors.scaled)
def _scaled_by(block: np.ndarray, limits: np.ndarray, clip: bool) -> np.ndarray:
    out = np.empty(block.shape, result_dtype(block.dtype))
    for c, (first, span) in enumerate(limits):
        values = np.subtract(block[c], first, dtype="f8")
        values /= span
        out[c] = np.clip(values, 0, 1, out=values) if clip else values
    return out


def arcsinh(image: ImageLike, cofactor: float = 5.0) -> xr.DataArray:
    """Transform counts as mass cytometry does: ``arcsinh(x / cofactor)`` (lazy).

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.
    cofactor
        Where the scale turns from linear to logarithmic; 5 for mass cytometry, 150 for
        fluorescence, are usual. Not 0.

    Returns
    -------
    DataArray
        float32 (float64 from float64), with the chunks of the image; NaN stays NaN.

    Raises
    ------
    ParameterError
        A cofactor that is 0 or not finite.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> gq.arcsinh(np.zeros((2, 2), dtype="u2")).values.tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    scale = number(cofactor, "cofactor", "a number that is not 0, such as 5.0")
    if scale == 0:
        raise ParameterError("cofactor: got 0; pass a number that is not 0, such as 5.0.")
    return like(Map("arcsinh", as_image(image), _arcsinh, (scale,), on_device=True).build(), image)


def _arcsinh(block: np.ndarray, halo: Halo, channels: slice, cofactor: float) -> np.ndarray:
    return _arcsinh_by(block, cofactor)


@twin(vectors.arcsinh)
def _arcsinh_by(block: np.ndarray, cofactor: float) -> np.ndarray:
    values = np.divide(block, cofactor, dtype="f8")
    return np.arcsinh(values, out=values).astype(result_dtype(block.dtype), copy=False)


def normalize_to_channel(
    image: ImageLike,
    reference: ChannelLike,
    *,
    statistics: StatisticsLike | None = None,
) -> xr.DataArray:
    """Clip all channels to mean +- std of one of them and scale to 0..255 (lazy).

    With mean m and population standard deviation s of the reference, every channel is clipped to
    m - s .. m + s; then the smallest and the largest value of the clipped channels together become
    0 and 255.

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.
    reference
        Name or position of the channel.
    statistics
        Of this image, from `gigaqc.scan`; saves the reads for the mean and the extremes.

    Returns
    -------
    DataArray
        float32 (float64 from float64), with the chunks of the image. NaN and infinities are NaN;
        0 everywhere when all clipped values agree; NaN when the reference has no values, and a
        `ChannelWarning` says so when it is computed.

    Raises
    ------
    ChannelError
        When there is no such channel.

    Notes
    -----
    Reads an image of integers to 16 bits twice, of other types three times, `statistics` once: the
    extremes of the clipped channels follow from those of the channels.

    Image analysis lessons that do the same end with a cast to uint8, which cuts fractions off, so
    that only what was clipped at the upper limit is 255. Here fractions stay (float32).
    ``.astype("uint8")`` of the result gives the integers of a cast, but where a value is a whole
    number to within 1e-5, and ``.round().astype("uint8")`` the nearest ones, as OpenCV's
    ``normalize`` does; NaN has to be filled before.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.array([[[0, 3, 7, 10]], [[2, 4, 5, 20]]], dtype="u1")
    >>> found = gq.normalize_to_channel(image, 0)
    >>> print(found.values[1].round(1))
    [[ 27.1  94.  127.5 255. ]]
    >>> found.astype("uint8").values[1].tolist()
    [[27, 94, 127, 255]]
    >>> x = np.clip(image, image[0].mean() - image[0].std(), image[0].mean() + image[0].std())
    >>> ((x - x.min()) / (x.max() - x.min()) * 255).astype("uint8")[1].tolist()
    [[27, 94, 127, 255]]
    """
    labelled = as_image(image)
    position = channel_index(channel_names(labelled), reference, "reference")
    known = statistics_of(labelled, statistics, quantiles=(0.0, 1.0))
    window = join("window", _window, known, position)
    windowed = Map("to-channel", labelled, _windowed, (window,), on_device=True).build()
    return like(windowed, image)


def _window(statistics: Statistics, reference: int) -> tuple[float, float, float, float]:
    """Where to clip, and the smallest and largest value after it."""
    values = statistics.distribution(reference)
    low, high = values.mean - values.std, values.mean + values.std
    if np.isnan(low):
        warn_of([statistics.channels[reference]], "the reference has no values")
        return (np.nan,) * 4
    channels = [statistics.distribution(c) for c in range(len(statistics.channels))]
    occupied = [v for v in channels if v.n]
    smallest = min(v.minimum for v in occupied)
    largest = max(v.maximum for v in occupied)
    return low, high, *np.clip([smallest, largest], low, high).tolist()


def _windowed(
    block: np.ndarray, halo: Halo, channels: slice, window: tuple[float, float, float, float]
) -> np.ndarray:
    return _windowed_by(block, *window)


@twin(vectors.windowed)
def _windowed_by(
    block: np.ndarray, low: float, high: float, smallest: float, largest: float
) -> np.ndarray:
    values = block.astype("f8")
    values[~np.isfinite(values)] = np.nan
    np.clip(values, low, high, out=values)
    values -= smallest
    if largest != smallest:
        values *= 255 / (largest - smallest)
    return values.astype(result_dtype(block.dtype), copy=False)


def equalize_histogram(image: ImageLike, nbins: int = 256) -> xr.DataArray:
    """Replace each value by the fraction of its channel that does not exceed it (lazy).

    As `skimage.exposure.equalize_hist` on the whole channel.

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.
    nbins
        Bins between the smallest and the largest value, for floats and integers beyond 16 bits;
        integers to 16 bits have one bin a value.

    Returns
    -------
    DataArray
        In 0..1, float32 (float64 from float64), with the chunks of the image. NaN stays NaN, and a
        channel without finite values is NaN.

    Raises
    ------
    ParameterError
        When `nbins` is no whole number from 1 up.

    Notes
    -----
    Reads an image of integers to 16 bits twice, of other types three times.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> gq.equalize_histogram(np.array([[0, 1], [2, 300]], dtype="u2")).values.tolist()
    [[0.25, 0.5], [0.75, 1.0]]
    """
    if isinstance(nbins, bool) or not isinstance(nbins, (int, np.integer)) or nbins < 1:
        raise ParameterError(f"nbins: got {nbins!r}; pass a whole number from 1 up.")
    labelled = as_image(image)
    if layout_of(np.dtype(labelled.dtype)) is None:
        known = statistics_of(labelled, None)
        curves = join("curves", _code_curves, known)
    else:
        extremes = extremes_pass(labelled, None)
        edges = join("bins", _edges, extremes, int(nbins))
        counts = histogram_pass(labelled, edges, None)
        curves = join("curves", _bin_curves, counts, edges)
    equalized = Map("equalized", labelled, _equalized, (curves,), on_device=True).build()
    return like(equalized, image)


def _code_curves(statistics: Statistics) -> list[Curve]:
    histogram = statistics.state.histogram
    assert isinstance(histogram, CodeHistogram)
    curves = []
    for start, counts in zip(histogram.starts, histogram.counts, strict=True):
        values = start + histogram.bias + np.arange(counts.size, dtype="f8")
        curves.append((values, _fractions(counts)))
    return curves


def _edges(extremes: Extremes, nbins: int) -> np.ndarray:
    """(C, nbins + 1) edges as `numpy.histogram` chooses them."""
    lines = []
    for low, high in zip(extremes.low, extremes.high, strict=True):
        lines.append(np.histogram_bin_edges(np.array([low, high])[np.isfinite([low, high])], nbins))
    return np.stack(lines)


def _bin_curves(counts: np.ndarray, edges: np.ndarray) -> list[Curve]:
    centres = (edges[:, :-1] + edges[:, 1:]) / 2
    return [(x, _fractions(n)) for x, n in zip(centres, counts, strict=True)]


def _fractions(counts: np.ndarray) -> np.ndarray:
    total = counts.cumsum()
    with np.errstate(invalid="ignore"):  # a channel without values
        return total / total[-1] if total.size else np.zeros(0)


def _equalized(block: np.ndarray, halo: Halo, channels: slice, curves: list[Curve]) -> np.ndarray:
    return _equalized_by(block, curves[channels])


@twin(vectors.equalized)
def _equalized_by(block: np.ndarray, curves: list[Curve]) -> np.ndarray:
    out = np.empty(block.shape, result_dtype(block.dtype))
    whole = block.dtype.kind in "iub" and block.dtype.itemsize <= 2
    for c, (values, fractions) in enumerate(curves):
        if whole:
            out[c] = fractions[block[c].astype("i8") - int(values[0])]
        else:
            pixels = block[c].astype("f8")
            out[c] = np.interp(pixels, values, fractions)
            if values.size == 1:  # then numpy gives a number for NaN
                out[c][np.isnan(pixels)] = np.nan
    return out
