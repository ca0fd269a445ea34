"""Transforms of each pixel by its neighbours in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from gigaqc.base.backend import twin
from gigaqc.base.geometry import Halo
from gigaqc.errors import ParameterError
from gigaqc.graph.map import Map, result_dtype
from gigaqc.image.arguments import like, number
from gigaqc.image.labelled import as_image
from gigaqc.kernels import transform, vectors
from gigaqc.typing import ImageLike

Sigma = float | None


def gaussian_blur(image: ImageLike, sigma: Sigma | Sequence[Sigma]) -> xr.DataArray:
    """Blur each plane with a Gaussian (lazy).

    Over y and x, never over c, t or z; truncated at ``int(4 sigma + 0.5)`` pixels, summed in
    float64; where the image ends it is continued by its mirror image, the edge pixel repeated
    (scipy's ``reflect``). There is no seam at the borders of chunks: any chunks give the same bits.

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.
    sigma
        Standard deviation in pixels, one or one a channel; 0 or None leaves a channel as it is.

    Returns
    -------
    DataArray
        float32 (float64 from float64), with the chunks of the image. NaN spreads over the square
        that a pixel reaches, as in `scipy.ndimage.gaussian_filter`.

    Raises
    ------
    ParameterError
        A sigma below 0 or not finite, or as many sigmas as there are not channels.

    Notes
    -----
    Each chunk is read once: blocks that meet share what was read.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> gq.gaussian_blur(np.full((4, 4), 7, dtype="u2"), 1).values.max()
    np.float32(7.0)
    """
    labelled = as_image(image)
    count = labelled.sizes["c"]
    sigmas = tuple(sigma) if isinstance(sigma, (Sequence, np.ndarray)) else (sigma,) * count
    if len(sigmas) != count:
        raise ParameterError(
            f"sigma: got {len(sigmas)} for {count} channels; pass one number, or one a channel."
        )
    depth = max(transform.gaussian_radius(s) for s in sigmas)
    blurred = Map("blurred", labelled, _blurred, (sigmas,), halo=depth, on_device=True)
    return like(blurred.build(), image)


def _blurred(block: np.ndarray, halo: Halo, channels: slice, sigmas: Sequence[Sigma]) -> np.ndarray:
    return _blurred_by(block, halo, sigmas[channels])


@twin(vectors.blurred)
def _blurred_by(block: np.ndarray, halo: Halo, sigmas: Sequence[Sigma]) -> np.ndarray:
    core = vectors.core(block, halo)
    out = np.empty(core.shape, result_dtype(block.dtype))
    for c, sigma in enumerate(sigmas):
        if not sigma:
            out[c] = core[c]
            continue
        for index in np.ndindex(*block.shape[1:-2]):
            out[c, *index] = transform.gaussian_blur(block[c, *index], sigma, halo)
    return out


def remove_hot_pixels(image: ImageLike, threshold: float) -> xr.DataArray:
    """Replace pixels far above all their neighbours by the largest of them (lazy).

    A pixel that exceeds the maximum of its 8 neighbours in the plane by more than `threshold`
    becomes that maximum: the filter of steinbock for imaging mass cytometry.

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.
    threshold
        In units of the image; 50 counts is usual for imaging mass cytometry.

    Returns
    -------
    DataArray
        float32 (float64 from float64), with the chunks of the image. NaN stays NaN and is no
        neighbour; a pixel without neighbours stays.

    Raises
    ------
    ParameterError
        A threshold below 0 or not finite.

    Notes
    -----
    Each chunk is read once. Compared and replaced with the values of the image, before they become
    float32.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.array([[1, 2, 1], [1, 90, 1], [1, 1, 1]], dtype="u2")
    >>> gq.remove_hot_pixels(image, 50).values.max()
    np.float32(2.0)
    """
    limit = number(threshold, "threshold", "a number from 0 up, such as 50")
    if limit < 0:
        raise ParameterError(f"threshold: got {threshold}; pass a number from 0 up, such as 50.")
    found = Map("without-hot", as_image(image), _without_hot, (limit,), halo=1, on_device=True)
    return like(found.build(), image)


def _without_hot(block: np.ndarray, halo: Halo, channels: slice, threshold: float) -> np.ndarray:
    return _without_above(block, halo, threshold)


@twin(vectors.without_hot)
def _without_above(block: np.ndarray, halo: Halo, threshold: float) -> np.ndarray:
    values = block.astype(_exact_type(block.dtype))
    largest = _largest_neighbour(values)
    with np.errstate(invalid="ignore"):  # infinite pixels beside infinite neighbours
        hot = (values - largest > threshold) & (largest > -np.inf)
    np.copyto(values, largest, where=hot)
    return vectors.core(values, halo).astype(result_dtype(block.dtype), copy=False)


def _exact_type(dtype: np.dtype) -> Any:
    """A float type in which all values of an integer type, and their differences, are exact."""
    if dtype.kind == "f":
        return np.float64
    return {1: np.float32, 2: np.float32, 4: np.float64, 8: np.longdouble}[dtype.itemsize]


def _largest_neighbour(values: np.ndarray) -> np.ndarray:
    """Maximum of the 8 neighbours in the plane; -inf where there are none but NaN."""
    around = [(0, 0)] * (values.ndim - 2) + [(1, 1), (1, 1)]
    padded = np.pad(values, around, constant_values=-np.inf)
    beside = np.fmax(padded[..., :-2], padded[..., 2:])
    with_centre = np.fmax(beside, padded[..., 1:-1])
    largest = np.fmax(with_centre[..., :-2, :], with_centre[..., 2:, :])
    return np.fmax(largest, beside[..., 1:-1, :], out=largest)
