"""Histogram equalization of whole channels."""

from __future__ import annotations

import numpy as np
import xarray as xr

from gigaqc.distribution import CodeHistogram, layout_of
from gigaqc.errors import ParameterError
from gigaqc.graph.map import Map, result_dtype
from gigaqc.graph.tasks import join
from gigaqc.grid import Halo
from gigaqc.image import as_image
from gigaqc.kernels import stacks
from gigaqc.kernels.dispatch import twin
from gigaqc.kernels.stacks import Curve
from gigaqc.pixels import Extremes, extremes_pass, histogram_pass
from gigaqc.statistics import Statistics
from gigaqc.transforms.common import like, statistics_of
from gigaqc.typing import ImageLike


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


@twin(stacks.equalized)
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
