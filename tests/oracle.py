"""The second implementation: every metric on the whole array, in plain numpy, scipy and skimage.

Written from the contract alone. Nothing here knows chunks, states or the package under test; an
image is split into `Channel` objects of shape (planes, y, x), where a plane is one ``t`` and ``z``,
and every measure is a short function of one or two of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.ndimage as ndi
import xarray as xr

NAN = math.nan


@dataclass(frozen=True)
class Channel:
    """One channel: pixels as stored, which of them count, both (planes, y, x)."""

    pixels: np.ndarray
    valid: np.ndarray

    @property
    def dtype(self) -> np.dtype:
        """The stored type, in native byte order."""
        return self.pixels.dtype

    @property
    def narrow(self) -> bool:
        """Whether the channel has one histogram bin a value."""
        return self.dtype.kind in "bui" and self.dtype.itemsize <= 2

    @property
    def values(self) -> np.ndarray:
        """The pixels that count, one-dimensional, as float64."""
        return self.pixels[self.valid].astype("f8")

    @property
    def exact(self) -> np.ndarray:
        """All pixels as float64, NaN where they do not count."""
        return np.where(self.valid, self.pixels.astype("f8"), NAN)


def channels(image: xr.DataArray, mask: Any = None) -> list[Channel]:
    """Split an image over a subset of ``t c z y x``, with or without ``c``, into its channels."""
    full = image.expand_dims([d for d in "tczyx" if d not in image.dims])
    full = full.transpose("t", "c", "z", "y", "x")
    pixels = np.asarray(full.values)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    inside = np.broadcast_to(True if mask is None else np.asarray(mask), pixels.shape)
    with np.errstate(invalid="ignore"):
        valid = np.isfinite(pixels) & inside
    side = pixels.shape[-2:]
    return [
        Channel(pixels[:, c].reshape(-1, *side), valid[:, c].reshape(-1, *side))
        for c in range(pixels.shape[1])
    ]


# ---- sums ---------------------------------------------------------------------------------------


def mean(x: np.ndarray) -> float:
    """Mean by a correctly rounded sum; NaN of nothing."""
    return math.fsum(x.ravel()) / x.size if x.size else NAN


def variance(x: np.ndarray) -> float:
    """Population variance in two passes; exactly 0 where all values are equal."""
    if x.size == 0:
        return NAN
    if x.min() == x.max():
        return 0.0
    return mean((x - mean(x)) ** 2)


def std(x: np.ndarray) -> float:
    """Population standard deviation."""
    return math.sqrt(variance(x))


def ratio(a: float, b: float) -> float:
    """IEEE division: x/0 is infinite, 0/0 and anything with NaN is NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(a) / np.float64(b))


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation of pairs; NaN without spread on either side."""
    if x.size < 2 or x.min() == x.max() or y.min() == y.max():
        return NAN
    dx, dy = x - mean(x), y - mean(y)
    top = math.fsum(dx * dy)
    return top / (math.sqrt(math.fsum(dx * dx)) * math.sqrt(math.fsum(dy * dy)))


# ---- quantiles and histograms --------------------------------------------------------------------


def quantile(channel: Channel, q: Any, ignore_zeros: bool = False) -> np.ndarray:
    """`np.quantile` of the finite pixels as float64, method linear."""
    x = channel.values
    if ignore_zeros:
        x = x[x != 0]
    return np.quantile(x, q) if x.size else np.full(np.shape(q), NAN)


def histogram(channel: Channel, bins: int, limits: tuple[float, float]) -> Any:
    """Counts and edges by `np.histogram`."""
    return np.histogram(channel.values, bins=bins, range=limits)


def joint(x: Channel, y: Channel) -> tuple[np.ndarray, np.ndarray]:
    """Values of both channels where both count."""
    both = x.valid & y.valid
    return x.pixels[both].astype("f8"), y.pixels[both].astype("f8")


# ---- thresholds ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Classes:
    """The two sides of a threshold: x <= t below, x > t above."""

    below: np.ndarray
    above: np.ndarray

    @classmethod
    def at(cls, channel: Channel, threshold: float) -> Classes:
        """Split the pixels that count."""
        x = channel.values
        return cls(x[x <= threshold], x[x > threshold])

    @property
    def separability(self) -> float:
        """Between-class over total variance."""
        x = np.concatenate([self.below, self.above])
        if not self.below.size or not self.above.size:
            return NAN
        w = self.below.size / x.size
        between = w * (1 - w) * (mean(self.above) - mean(self.below)) ** 2
        return between / variance(x)

    @property
    def signal_to_background(self) -> float:
        """Mean above over mean below."""
        return ratio(mean(self.above), mean(self.below))

    @property
    def contrast_to_noise(self) -> float:
        """Difference of the means over the std below."""
        return ratio(mean(self.above) - mean(self.below), std(self.below))


def separabilities(channel: Channel) -> tuple[np.ndarray, np.ndarray]:
    """Every distinct value but the largest as a threshold, and the separability it reaches."""
    values, counts = np.unique(channel.values, return_counts=True)
    if values.size < 2:
        return values[:0], values[:0]
    centred = values - mean(channel.values)
    n = counts.sum()
    n0 = np.cumsum(counts)[:-1].astype(np.longdouble)
    s0 = np.cumsum((counts * centred).astype(np.longdouble))[:-1]
    total = np.sum((counts * centred**2).astype(np.longdouble))
    s = np.sum((counts * centred).astype(np.longdouble))
    between = (n * s0 - n0 * s) ** 2 / (n0 * (n - n0) * n)
    return values[:-1], (between / total).astype("f8")


def otsu(channel: Channel) -> float:
    """The first value that maximizes the separability of x > t; NaN without two values."""
    thresholds, reached = separabilities(channel)
    if not thresholds.size:
        return NAN
    # Equal maxima (symmetric histograms) differ in the last bits; the first of them is meant.
    return float(thresholds[np.argmax(reached >= reached.max() * (1 - 1e-14))])


def is_otsu(channel: Channel, threshold: float) -> bool:
    """Whether a value reaches the best separability; symmetric histograms have two of them."""
    thresholds, reached = separabilities(channel)
    at = thresholds == threshold
    return bool(at.any() and reached[at][0] >= reached.max() * (1 - 1e-14))


# ---- signal to noise -----------------------------------------------------------------------------


def recipe_snr(channel: Channel, percentile: float = 10) -> tuple[float, float, float]:
    """Signal, noise and their ratio with the mask x > its percentile."""
    x = channel.values
    if x.size == 0:
        return NAN, NAN, NAN
    limit = np.quantile(x, percentile / 100)
    return _snr(x[x > limit], x[x <= limit])


def masked_snr(channel: Channel, mask: np.ndarray) -> tuple[float, float, float]:
    """Signal inside the mask, noise outside, over the finite pixels."""
    inside = np.broadcast_to(mask, channel.pixels.shape)
    x = channel.pixels.astype("f8")
    return _snr(x[channel.valid & inside], x[channel.valid & ~inside])


def _snr(inside: np.ndarray, outside: np.ndarray) -> tuple[float, float, float]:
    signal, noise = mean(inside), std(outside) if outside.size else NAN
    if math.isnan(signal) or math.isnan(noise):
        return signal, noise, NAN
    return signal, noise, signal / noise if noise else math.inf


def neighbour_correlations(channel: Channel) -> tuple[float, float]:
    """Pearson correlation of pixels with their right and with their lower neighbour."""
    x, ok = channel.exact, channel.valid
    right = ok[:, :, 1:] & ok[:, :, :-1]
    lower = ok[:, 1:] & ok[:, :-1]
    return (
        pearson(x[:, :, :-1][right], x[:, :, 1:][right]),
        pearson(x[:, :-1][lower], x[:, 1:][lower]),
    )


def autocorrelation(channel: Channel) -> float:
    """Mean of the two neighbour correlations."""
    return sum(neighbour_correlations(channel)) / 2


# ---- channels and stains -------------------------------------------------------------------------


def channel_correlation(parts: list[Channel]) -> np.ndarray:
    """Pearson matrix, each pair over the pixels where both count."""
    return np.array([[pearson(*joint(a, b)) for b in parts] for a in parts])


def colocalization(
    x: Channel, y: Channel, thresholds: tuple[float, float]
) -> tuple[float, float, float]:
    """Pearson and Manders' M1 and M2 over jointly valid pixels."""
    a, b = joint(x, y)
    m1 = ratio(math.fsum(a[b > thresholds[1]]), math.fsum(a))
    m2 = ratio(math.fsum(b[a > thresholds[0]]), math.fsum(b))
    return pearson(a, b), m1, m2


def stained(channel: Channel, threshold: float) -> tuple[float, int, float]:
    """Fraction, count and mean of the pixels above a threshold."""
    x = channel.values
    above = x[x > threshold]
    return ratio(above.size, x.size), above.size, mean(above)


# ---- tissue --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tissue:
    """What `tissue_integrity` says."""

    coverage: float
    n_fragments: int
    fragmentation: float
    intact: bool


def blurred(channel: Channel) -> np.ndarray:
    """Each plane blurred by 2 px in float64; NaN spreads."""
    return ndi.gaussian_filter(channel.exact, (0, 2, 2), mode="reflect", truncate=4.0)


def tissue(channel: Channel, method: str = "median", min_coverage: float = 0.3) -> Tissue:
    """Coverage and 4-connected components of the tissue mask, plane by plane."""
    if method == "median":
        mask = channel.exact > quantile(channel, 0.5)
        smallest = 1
    else:
        mask = blurred(channel) > otsu(channel)
        smallest = 64
    sizes = component_sizes(mask)
    sizes = sizes[sizes >= smallest]
    coverage = ratio(np.count_nonzero(mask), np.count_nonzero(channel.valid))
    fragmentation = float(1 - sizes.max() / sizes.sum()) if sizes.size else 1.0
    return Tissue(
        coverage, int(sizes.size), fragmentation, coverage > min_coverage and fragmentation < 0.5
    )


def component_sizes(mask: np.ndarray) -> np.ndarray:
    """Pixels of each 4-connected component of each plane."""
    found = [np.bincount(ndi.label(plane)[0].ravel())[1:] for plane in mask]
    return np.concatenate(found)


# ---- artifacts -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """The recipe's four artifact measures."""

    saturation: float
    hot_pixels: float
    dead_regions: float
    striping: float


def recipe_artifacts(channel: Channel) -> Recipe:
    """Fractions of the pixels that count, and the spread of row means."""
    x = channel.values
    if x.size == 0:
        return Recipe(NAN, NAN, NAN, NAN)
    rows = line_profile(channel, axis=1).means
    return Recipe(
        np.count_nonzero(x >= 0.99 * x.max()) / x.size,
        np.count_nonzero(x > 2 * np.quantile(x, 0.999)) / x.size,
        np.count_nonzero(x == 0) / x.size,
        ratio(std(rows), mean(rows)),
    )


def clipping(channel: Channel, full_scale: float | None = None) -> tuple[float, float]:
    """Fraction of pixels at the clipping level, and the level, for integers of 8 and 16 bits."""
    x = channel.values
    if x.size == 0:
        return NAN, NAN
    if full_scale is not None:
        return np.count_nonzero(x >= full_scale) / x.size, float(full_scale)
    if channel.dtype.kind == "f":
        return NAN, NAN
    top = int(x.max())
    at_top = np.count_nonzero(x == top)
    below = np.count_nonzero((x >= top - 16) & (x < top)) / 16
    if _is_full_scale(top, channel.dtype) and at_top >= 5 and at_top > 4 * below:
        return at_top / x.size, float(top)
    return 0.0, NAN


def _is_full_scale(top: int, dtype: np.dtype) -> bool:
    spans = [top + 1 - offset for offset in (0, 32768)]
    powers = [s for s in spans if s >= 256 and s & (s - 1) == 0]
    return top == np.iinfo(dtype).max or bool(powers)


def whole_neighbourhoods(channel: Channel) -> np.ndarray:
    """Where a pixel's 3x3 lies in the plane and every one of the nine counts."""
    return ndi.minimum_filter(channel.valid, (1, 3, 3), mode="constant", cval=0)


def hot_pixels(channel: Channel) -> float:
    """Fraction of pixels whose excess over their local median is beyond 8 sigma (8, 16 bits)."""
    here = whole_neighbourhoods(channel)
    if not here.any():
        return NAN
    x = channel.pixels.astype("f8")
    local = ndi.median_filter(x, (1, 3, 3), mode="reflect")[here]
    response = x[here] - local
    spread = 1.4826 * np.median(np.abs(response - np.median(response)))
    offset = 32768 if channel.values.min() >= 32768 else 0
    sigma = np.maximum(spread, np.sqrt(np.maximum(local - offset, 1)))
    return float(np.count_nonzero(response > 8 * sigma) / channel.values.size)


def dead_area(channel: Channel) -> float:
    """Fraction of pixels that are zero inside an all-zero 8x8 window of their plane."""
    zero = channel.valid & (channel.pixels == 0)
    total = np.count_nonzero(channel.valid)
    if total == 0 or np.count_nonzero(zero) > total / 2:
        return NAN
    dead = [ndi.binary_opening(plane, np.ones((8, 8))) for plane in zero]
    return np.count_nonzero(dead) / total


@dataclass(frozen=True)
class Profile:
    """Means of the lines (rows or columns) that have pixels, and the lines' own pixels."""

    means: np.ndarray
    lines: list[np.ndarray]


def line_profile(channel: Channel, axis: int) -> Profile:
    """Rows are axis 1, columns axis 2; a line gathers its pixels of all planes."""
    across = np.moveaxis(channel.exact, axis, 0).reshape(channel.pixels.shape[axis], -1)
    lines = [line[~np.isnan(line)] for line in across]
    lines = [line for line in lines if line.size]
    return Profile(np.array([mean(line) for line in lines]), lines)


def striping(channel: Channel, axis: int) -> float:
    """Robust spread of line means about their running median, over its expected error."""
    profile = line_profile(channel, axis)
    if len(profile.lines) < 15:
        return NAN
    running = ndi.median_filter(profile.means, 15, mode="reflect")
    residual = profile.means - running
    low, high = np.quantile(residual, [0.05, 0.95])
    spread = (high - low) / 3.289707
    errors = [
        mean((line - level) ** 2) / line.size
        for line, level in zip(profile.lines, running, strict=True)
    ]
    return ratio(spread, math.sqrt(math.fsum(errors) / len(errors)))


# ---- range ---------------------------------------------------------------------------------------


def dynamic_range(channel: Channel, percentiles: Any = (1, 99)) -> tuple[float, float, float]:
    """Low, high and the part of the range that they span; 0 where nothing is positive."""
    x = channel.values
    if x.size == 0:
        return NAN, NAN, NAN
    low, high = np.quantile(x, np.asarray(percentiles) / 100)
    return float(low), float(high), (high - low) / x.max() if x.max() > 0 else 0.0


# ---- focus ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sharpness:
    """Variance of the Laplacian and mean squared gradient of some pixels."""

    variance_of_laplacian: float
    tenengrad: float


def responses(channel: Channel) -> tuple[np.ndarray, np.ndarray]:
    """Laplacian and squared Sobel gradient, NaN where the 3x3 is incomplete."""
    x = np.where(channel.valid, channel.pixels.astype("f8"), 0.0)
    laplacian = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    here = whole_neighbourhoods(channel)
    lap = ndi.correlate(x, laplacian[None].astype("f8"))
    squared = ndi.correlate(x, across[None].astype("f8")) ** 2
    squared += ndi.correlate(x, across.T[None].astype("f8")) ** 2
    return np.where(here, lap, NAN), np.where(here, squared, NAN)


def sharpness(lap: np.ndarray, squared: np.ndarray) -> Sharpness:
    """Both measures of a piece of the responses."""
    return Sharpness(variance(lap[~np.isnan(lap)]), mean(squared[~np.isnan(squared)]))


def focus_whole(channel: Channel) -> Sharpness:
    """Over all planes of the channel."""
    return sharpness(*responses(channel))


def focus_tiles(channel: Channel, tile: int) -> np.ndarray:
    """By plane and tile of the centre: (planes, tile_y, tile_x, measure)."""
    lap, squared = responses(channel)
    planes, height, width = lap.shape
    out = np.full((planes, -(-height // tile), -(-width // tile), 2), NAN)
    for p, i, j in np.ndindex(out.shape[:3]):
        cut = np.s_[p, i * tile : (i + 1) * tile, j * tile : (j + 1) * tile]
        found = sharpness(lap[cut], squared[cut])
        out[p, i, j] = found.variance_of_laplacian, found.tenengrad
    return out


def spectral_slopes(channel: Channel, tile: int) -> np.ndarray:
    """Slope of log mean power over log radial frequency: (planes, tile_y, tile_x)."""
    x = channel.exact
    planes, height, width = x.shape
    out = np.full((planes, -(-height // tile), -(-width // tile)), NAN)
    for p, i, j in np.ndindex(out.shape):
        piece = x[p, i * tile : (i + 1) * tile, j * tile : (j + 1) * tile]
        if piece.shape == (tile, tile):
            out[p, i, j] = spectral_slope(piece)
    return out


def spectral_slope(piece: np.ndarray) -> float:
    """Slope of one square tile; NaN if it is constant or has pixels that do not count."""
    if np.isnan(piece).any() or piece.min() == piece.max():
        return NAN
    tile = len(piece)
    power = np.abs(np.fft.fft2(piece - piece.mean())) ** 2
    frequency = np.fft.fftfreq(tile)
    radius = np.rint(np.hypot(*np.meshgrid(frequency, frequency)) * tile).astype(int)
    rings = np.arange(1, tile // 2 + 1)
    level = np.array([power[radius == r].mean() for r in rings])
    use = level > 0
    if np.count_nonzero(use) < 2:
        return NAN
    return float(np.polyfit(np.log(rings[use] / tile), np.log(level[use]), 1)[0])
