"""Signal, noise and range of a channel, from its distribution and its neighbour pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gigaqc.distribution import Distribution
from gigaqc.states import Neighbours, Outside


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
