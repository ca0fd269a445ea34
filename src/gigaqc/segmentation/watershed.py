"""Nuclei by threshold, distance transform and watershed, from one block."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gigaqc.kernels.transform import gaussian_blur

LOCAL_REACH = 4  # standard deviations of the local mean
_UNKNOWN = 10.0  # pixels, of a nucleus where no sample shows one: then there is hardly any


@dataclass(frozen=True)
class WatershedSteps:
    """How a block is segmented; all lengths in pixels.

    A pixel is foreground if its blurred value exceeds `threshold` and, with `window`, the Gaussian
    mean of that standard deviation around it.
    """

    threshold: float
    diameter: float
    sigma: float
    min_distance: int
    min_area: int
    window: float = 0.0

    @classmethod
    def of(
        cls,
        threshold: float,
        diameter: float,
        sigma: float | None = None,
        min_distance: int | None = None,
        min_area: int | None = None,
        window: float = 0.0,
    ) -> WatershedSteps:
        """What follows from the diameter where nothing is said."""
        if math.isnan(diameter):
            diameter = _UNKNOWN
        if sigma is None:
            sigma = diameter / 20
        if min_distance is None:
            min_distance = max(round(diameter / 4), 1)
        if min_area is None:
            min_area = max(round(diameter * diameter / 10), 1)
        return cls(threshold, diameter, sigma, min_distance, min_area, window)


def foreground(block: npt.NDArray, threshold: float, sigma: float, window: float) -> npt.NDArray:
    """Bool: where the blurred block exceeds the threshold, and with `window` the local mean."""
    if math.isnan(threshold):
        return np.zeros(block.shape, bool)
    pixels = block.astype("f8" if block.dtype.itemsize == 8 else "f4")
    finite = None
    if block.dtype.kind == "f":
        finite = np.isfinite(pixels)
        # Neither bright nor dark, so that nothing is won or lost around.
        pixels[~finite] = threshold
    blurred = gaussian_blur(pixels, sigma)
    positive = blurred > threshold
    if window:
        positive &= blurred > gaussian_blur(pixels, window)
    return positive if finite is None else positive & finite


def watershed_labels(block: npt.NDArray, steps: WatershedSteps) -> npt.NDArray[np.int32]:
    """Nuclei of a block, in the order of their markers.

    Holes below a ninth of a nucleus' square are filled; markers are the maxima of the smoothed
    distance to the background, `min_distance` apart, flooded by scikit-image's watershed; pieces of
    foreground without a marker are nuclei too; objects below `min_area` are removed.
    """
    from scipy import ndimage
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    positive = foreground(block, steps.threshold, steps.sigma, steps.window)
    if not positive.any():
        return np.zeros(block.shape, np.int32)
    holes = max(int(steps.diameter**2 / 9), 1)
    positive |= ~_without_small(~positive, holes)
    distance = gaussian_blur(ndimage.distance_transform_edt(positive), steps.diameter / 10)
    peaks = peak_local_max(
        distance, min_distance=steps.min_distance, threshold_abs=0, exclude_border=False
    )
    markers = np.zeros(block.shape, np.int32)
    inside = peaks[positive[tuple(peaks.T)]]
    markers[tuple(inside.T)] = np.arange(1, len(inside) + 1)
    labels = watershed(-distance, markers, mask=positive).astype(np.int32, copy=False)
    rest, _ = ndimage.label(positive & (labels == 0))
    labels = np.where(rest > 0, rest + len(inside), labels)
    sizes = np.bincount(labels.ravel())
    labels[sizes[labels] < steps.min_area] = 0
    if block.dtype.kind == "f":
        labels[~np.isfinite(block)] = 0
    return labels


def _without_small(mask: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    """4-connected pieces of at least `size` pixels."""
    from scipy import ndimage

    pieces, _ = ndimage.label(mask)
    keep = np.bincount(pieces.ravel()) >= size
    keep[0] = False
    return keep[pieces]


@dataclass(frozen=True)
class Radii:
    """Heights of the maxima of the distance to the background: inscribed radii of nuclei."""

    values: npt.NDArray[np.float64]

    def merge(self, other: Radii) -> Radii:
        """Of two parts of an image."""
        return Radii(np.concatenate([self.values, other.values]))

    @property
    def diameter(self) -> float:
        """Twice the median radius, each counted by its square; NaN of none.

        By the square, because a nucleus of uneven outline has several small maxima beside its own.
        """
        radii = np.sort(self.values)
        if not radii.size:
            return math.nan
        weights = np.cumsum(radii**2)
        return float(2 * radii[np.searchsorted(weights, weights[-1] / 2)])


def observe_radii(block: npt.NDArray, threshold: float) -> Radii:
    """Inscribed radii of what is above the threshold in a block."""
    from scipy import ndimage

    positive = foreground(block, threshold, 1.0, 0.0)
    if not positive.any():
        return Radii(np.empty(0))
    distance = ndimage.distance_transform_edt(positive)
    smooth = gaussian_blur(distance, 1.0)
    peak = (smooth == ndimage.maximum_filter(smooth, 5)) & (distance >= 1.5)
    return Radii(distance[peak])
