"""How strong the signal of a channel is: formulas and records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigaqc.formulas.record import Limit, Metric, Pick, Scope, Status, below
from gigaqc.formulas.views import Channel, Tiles
from gigaqc.statistics.distribution import Distribution
from gigaqc.statistics.states import Neighbours, Outside
from gigaqc.statistics.statistics import Part


def ratio(numerator: float, denominator: float) -> float:
    """Quotient; infinite where only the denominator is 0, NaN where both are."""
    if math.isnan(numerator) or math.isnan(denominator):
        return math.nan
    if denominator == 0:
        return math.nan if numerator == 0 else math.copysign(math.inf, numerator)
    return numerator / denominator


def mean_and_std(
    n: np.ndarray, total: np.ndarray, squares: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation from sums about a shift; NaN where n is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        about = total / n
        return about + shift, np.sqrt(np.maximum(squares / n - about * about, 0.0))


def stained_columns(
    sums: np.ndarray, threshold: float, pixel: float, channel: str
) -> dict[str, np.ndarray]:
    """Stained fraction, area and mean of objects, from their valid and positive pixels and sum."""
    n, positive, total = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "positive_fraction": positive / n,
            "positive_area": np.where(n > 0, positive * pixel, np.nan),
            "positive_mean": total / positive,
        }
    nothing = math.isnan(threshold)
    return {f"{k}_{channel}": np.full_like(v, np.nan) if nothing else v for k, v in found.items()}


@dataclass(frozen=True)
class SignalNoise:
    """The recipe's signal, noise and their ratio, and whether they are exact."""

    signal: float
    noise: float
    snr: float
    exact: bool


def recipe_snr(values: Distribution, q: float) -> SignalNoise:
    """Mean above the q-th quantile over the standard deviation of the rest."""
    threshold, width = values.quantile(q)
    below, above = values.split(threshold)
    return SignalNoise(
        above.mean, below.std, recipe_ratio(above.mean, below.std), below.exact and width == 0
    )


def mask_snr(values: Distribution, outside: Outside, channel: int) -> SignalNoise:
    """Mean inside the mask over the standard deviation outside of it."""
    n, total, squares = outside.table[:, channel]
    noise = math.sqrt(max(squares / n - (total / n) ** 2, 0.0)) if n else math.nan
    signal = values.mean
    return SignalNoise(signal, noise, recipe_ratio(signal, noise), True)


def recipe_ratio(signal: float, noise: float) -> float:
    """Signal over noise, infinite where the noise is 0, as the recipe has it."""
    if math.isnan(signal) or math.isnan(noise):
        return math.nan
    return math.inf if noise == 0 else signal / noise


@dataclass(frozen=True)
class Contrast:
    """Otsu's classes of a channel."""

    threshold: float
    separability: float
    signal_to_background: float
    contrast_to_noise: float


def otsu_contrast(values: Distribution) -> Contrast:
    """Otsu's threshold, how well it separates, and how the classes compare."""
    threshold, separability = values.otsu()
    if math.isnan(threshold):
        return Contrast(math.nan, math.nan, math.nan, math.nan)
    below, above = values.split(threshold)
    return Contrast(
        threshold,
        separability,
        ratio(above.mean, below.mean),
        ratio(above.mean - below.mean, below.std),
    )


def autocorrelation(neighbours: Neighbours, channel: int) -> float:
    """Mean Pearson correlation of a pixel with its right and its lower neighbour."""
    found = [r for r in map(_pearson_of_pairs, neighbours.table[channel]) if not math.isnan(r)]
    return float(np.mean(found)) if found else math.nan


def _pearson_of_pairs(table: np.ndarray) -> float:
    n, first, second, first2, second2, products = (float(v) for v in table)
    if n < 2:
        return math.nan
    return pearson(n, first, second, first2, second2, products)


def pearson(
    n: float, first: float, second: float, first2: float, second2: float, products: float
) -> float:
    """Pearson's r from sums about any shift; NaN where one side is constant."""
    variance = first2 - first * first / n
    variance2 = second2 - second * second / n
    # Rounding leaves a constant a variance of about 1e-16 of its squares.
    if variance <= 1e-14 * first2 or variance2 <= 1e-14 * second2:
        return math.nan
    r = (products - first * second / n) / math.sqrt(variance * variance2)
    return min(max(r, -1.0), 1.0)


def autocorrelation_snr(r: float) -> float:
    """Variance that neighbours share over variance that they do not: r/(1 - r)."""
    if math.isnan(r):
        return math.nan
    return math.inf if r >= 1.0 else r / (1.0 - r)


def utilized_range(
    values: Distribution, low: float, high: float
) -> tuple[float, float, float, bool]:
    """Low and high quantile, and their distance over the largest value (0 where that is <= 0)."""
    (bottom, width), (top, width_top) = values.quantile(low), values.quantile(high)
    largest = values.maximum
    if math.isnan(largest):
        return math.nan, math.nan, math.nan, True
    utilized = (top - bottom) / largest if largest > 0 else 0.0
    return bottom, top, utilized, width == 0 and width_top == 0


def recipe_of(channel: Channel) -> SignalNoise:
    """The recipe's signal and noise: by a mask, where there is one, else by a percentile."""
    outside = channel.state.outside
    if outside is not None:
        return mask_snr(channel.values, outside, channel.index)
    return recipe_snr(channel.values, channel.settings.percentile)


def otsu_of(channel: Channel) -> Contrast:
    """Otsu's classes of a channel."""
    return otsu_contrast(channel.values)


def neighbour_correlation(channel: Channel) -> float:
    """Mean correlation of a pixel with its right and its lower neighbour."""
    assert channel.state.neighbours is not None
    return autocorrelation(channel.state.neighbours, channel.index)


def structure_snr(channel: Channel) -> float:
    """r/(1 - r) of the correlation of neighbours."""
    return autocorrelation_snr(channel.once(neighbour_correlation))


def above_noise(limit: Limit, row: Mapping[Any, Any], planes: int) -> Limit:
    """Of n pixels of pure noise, r scatters by about 1/sqrt(2 n); four of these are chance."""
    r = min(_NOISE_SIGMAS / math.sqrt(max(2.0 * row["n_valid"], 1.0)), 0.99)
    return limit.raised(at_least=r / (1.0 - r))


def tile_snr(tiles: Tiles) -> np.ndarray:
    """Mean of each tile over the noise of its channel."""
    return tiles.once(tile_moments)[0] / tiles.of_channel("noise")


def tile_local_snr(tiles: Tiles) -> np.ndarray:
    """Mean of each tile over its own standard deviation."""
    mean, std = tiles.once(tile_moments)
    return mean / std


def tile_moments(tiles: Tiles) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each tile."""
    assert tiles.state.tiles is not None
    n, total, squares, _ = tiles.state.tiles.box.values
    return mean_and_std(n, total, squares, tiles.shift)


_NOISE_SIGMAS = 4.0
_RECIPE = "IMC recipe"
_OTSU = "Otsu 1979"
_FRANK = "Frank and Al-Ali 1975"

METRICS = (
    Metric(
        "autocorrelation_snr",
        "Structure SNR",
        "Signal against noise, from how alike neighbouring pixels are: r / (1 - r), r the mean "
        "correlation of a pixel with its right and lower neighbour. 0 for pure noise.",
        formula="r / (1 - r), r = autocorrelation",
        nan="the channel is constant or has no pair of pixels",
        compute=structure_snr,
        function="signal_to_noise",
        needs=Part.NEIGHBOURS,
        range="-0.5..inf",
        better="higher",
        exact="1e-9",
        origin=_FRANK,
        meaning="neighbouring pixels hardly resemble each other: this looks like noise, not "
        "structure",
        cure="Leave the channel out of the analysis, or stain, expose or denoise again.",
        limits={"robust": below(0.2, 0.05, Status.FAIL)},
        floor=above_noise,
        primary=True,
        compared=True,
        headline=True,
    ),
    Metric(
        "snr",
        "SNR (recipe)",
        "Mean of the pixels above the channel's threshold percentile, over the standard deviation "
        "of the rest. Bright noise scores well here too: read it beside the structure SNR.",
        formula="signal / noise",
        nan="signal or noise is NaN; infinite where the noise is 0",
        compute=Pick(recipe_of, "snr"),
        function="signal_to_noise",
        needs=Part.MOMENTS,
        range="0..inf",
        better="higher",
        exact="1e-9",
        origin=_RECIPE,
        meaning="bright pixels stand out too little from the spread of the dark ones",
        cure="Leave the channel out of the analysis, or stain or expose again.",
        limits={"recipe": below(3.0, 1.5, Status.FAIL)},
        primary=True,
        compared=True,
    ),
    Metric(
        "separability",
        "Separability",
        "How clearly the values fall into background and foreground: variance between Otsu's two "
        "classes over the total variance. 0.64 for structureless noise, 1 for two clean levels.",
        formula="between-class variance / total variance, at Otsu's threshold",
        nan="the channel is constant",
        compute=Pick(otsu_of, "separability"),
        function="signal_to_noise",
        needs=Part.MOMENTS,
        range="0..1",
        better="higher",
        exact="1e-9",
        origin=_OTSU,
        primary=True,
        compared=True,
    ),
    Metric(
        "contrast_to_noise",
        "Contrast to noise",
        "Foreground mean less background mean, over the background's standard deviation (classes "
        "by Otsu's threshold).",
        formula="(mean above - mean below) / std below, at Otsu's threshold",
        nan="the channel is constant",
        compute=Pick(otsu_of, "contrast_to_noise"),
        function="signal_to_noise",
        needs=Part.MOMENTS,
        range="0..inf",
        better="higher",
        exact="1e-9",
        primary=True,
        compared=True,
    ),
    Metric(
        "signal",
        "Signal",
        "Mean of the pixels counted as signal by the recipe's SNR.",
        formula="mean of x inside the mask; without one, of x > its percentile",
        nan="no pixel on that side",
        compute=Pick(recipe_of, "signal"),
        function="signal_to_noise",
        needs=Part.MOMENTS,
        unit="DN",
        exact="1e-9",
        origin=_RECIPE,
    ),
    Metric(
        "noise",
        "Noise",
        "Standard deviation of the pixels the recipe's SNR counts as noise.",
        formula="std of x outside the mask; without one, of x <= its percentile",
        nan="no pixel on that side",
        compute=Pick(recipe_of, "noise"),
        function="signal_to_noise",
        needs=Part.MOMENTS,
        unit="DN",
        range="0..",
        exact="1e-9",
        origin=_RECIPE,
    ),
    Metric(
        "signal_to_background",
        "Signal to background",
        "Foreground mean over background mean (classes by Otsu's threshold).",
        formula="mean above / mean below, at Otsu's threshold",
        nan="the channel is constant",
        compute=Pick(otsu_of, "signal_to_background"),
        function="signal_to_noise",
        needs=Part.MOMENTS,
        better="higher",
        exact="1e-9",
        compared=True,
    ),
    Metric(
        "otsu_threshold",
        "Otsu threshold",
        "The value that best splits the histogram in two.",
        formula="t of the largest between-class variance; foreground is x > t",
        nan="the channel is constant",
        compute=Pick(otsu_of, "threshold"),
        function="signal_to_noise",
        needs=Part.MOMENTS,
        unit="DN",
        origin=_OTSU,
    ),
    Metric(
        "autocorrelation",
        "Neighbour correlation",
        "Mean Pearson correlation of a pixel with its right and lower neighbour.",
        formula="mean of Pearson's r of (x, right neighbour) and of (x, lower neighbour)",
        nan="the channel is constant or has no pair of pixels",
        compute=neighbour_correlation,
        function="signal_to_noise",
        needs=Part.NEIGHBOURS,
        range="-1..1",
        better="higher",
        exact="1e-9",
    ),
)

TILES = (
    Metric(
        "snr",
        "SNR",
        "Mean of the tile over the noise of its channel.",
        formula="mean of the tile / noise of the channel",
        nan="signal or noise is NaN; infinite where the noise is 0",
        compute=tile_snr,
        needs=Part.MOMENTS,
        better="higher",
        scope=Scope.TILE,
        exact="1e-9",
    ),
    Metric(
        "local_snr",
        "Local SNR",
        "Mean of the tile over its own standard deviation.",
        formula="mean / std of the tile",
        compute=tile_local_snr,
        needs=Part.MOMENTS,
        better="higher",
        scope=Scope.TILE,
        exact="1e-9",
        primary=True,
    ),
)
