"""Saturation, hot pixels, dead areas and stripes, from states."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import median_filter

from gigaqc.kernels.fused import RESPONSE_ZERO, response_values
from gigaqc.statistics.distribution import Distribution
from gigaqc.statistics.states import Artifacts, Counts, Profile

MAD_TO_SIGMA = 1.4826
HOT_SIGMAS = 8.0
_COLD_FRACTION = 1e-4  # of Gaussian responses lie below
_COLD_SIGMAS = 3.719  # times their sigma, on the cold side, which no hot pixel reaches
CAMERA_OFFSET = 32768
STRIPE_WINDOW = 15
_WIDTH_90 = 3.289707  # of a standard Gaussian, from its 5th to its 95th percentile
_PILE = 5  # pixels at the maximum that count as a pile,
_PILE_RATIO = 4.0  # if they are this many times what the values below hold on average
_PILE_RANGE = 16


def saturation(values: Distribution) -> tuple[float, bool]:
    """Fraction of values at or above 0.99 of the largest; the recipe's saturation."""
    if not values.n:
        return math.nan, True
    n, exact = values.count_above(0.99 * values.maximum, inclusive=True)
    return n / values.n, exact


def above_twice_p999(values: Distribution) -> tuple[float, bool]:
    """Fraction of values above twice the 99.9th percentile; the recipe's hot pixels."""
    if not values.n:
        return math.nan, True
    threshold, width = values.quantile(0.999)
    n, exact = values.count_above(2.0 * threshold)
    return n / values.n, exact and width == 0


def clipping(
    values: Distribution, dtype: np.dtype, full_scale: float | None
) -> tuple[float, float]:
    """Clipped fraction and the level at which the image is clipped.

    With `full_scale` the pixels at or above it. Else, for integers, the largest value is a clipping
    level when it is the dtype's maximum or a power of two less one (also after an offset of 32768),
    and pixels pile up there: at least 5, and more than 4 times the average of the 16 values below.
    """
    if not values.n:
        return math.nan, math.nan
    if full_scale is not None:
        n, _ = values.count_above(full_scale, inclusive=True)
        return n / values.n, float(full_scale)
    if dtype.kind not in "iu":
        return math.nan, math.nan
    level = values.maximum
    at_level = int(values.counts[-1]) if values.low[-1] == values.high[-1] else 0
    if not (_is_full_scale(level, dtype) and _piles_up(values, level, at_level)):
        return 0.0, math.nan
    return at_level / values.n, level


def _is_full_scale(level: float, dtype: np.dtype) -> bool:
    if level == np.iinfo(dtype).max:
        return True
    steps = [int(level) + 1]
    if dtype == np.uint16 and level >= CAMERA_OFFSET:
        steps.append(int(level) + 1 - CAMERA_OFFSET)
    return any(s >= 256 and s & (s - 1) == 0 for s in steps)


def _piles_up(values: Distribution, level: float, at_level: int) -> bool:
    below = (values.low >= level - _PILE_RANGE) & (values.low < level)
    average = float(values.counts[below].sum()) / _PILE_RANGE
    return at_level >= _PILE and at_level > _PILE_RATIO * average


def response_sigma(response: Counts, channel: int, *, integers: bool) -> float:
    """1.4826 MAD of pixel minus local median; NaN where no neighbourhood was valid."""
    counts, start = response.counts[channel], response.starts[channel]
    if not counts.sum():
        return math.nan
    bins = np.arange(start, start + counts.size)
    values = (bins - RESPONSE_ZERO).astype("f8") if integers else response_values()[bins]
    middle = weighted_median(values, counts)
    return MAD_TO_SIGMA * weighted_median(np.abs(values - middle), counts)


def weighted_median(values: np.ndarray, counts: np.ndarray) -> float:
    """Median of values that occur `counts` times; even counts average the two in the middle."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(counts[order])
    n = int(cumulative[-1])
    ranks = np.searchsorted(cumulative, [(n - 1) // 2, n // 2], side="right")
    return float(values[order][ranks].mean())


def hot_pixels(
    artifacts: Artifacts, channel: int, values: Distribution, *, integers: bool
) -> float:
    """Fraction of pixels above their local median by 8 sigma and by 8 counting sigmas."""
    if not values.n:
        return math.nan
    if not integers:
        return float(artifacts.hot[channel]) / values.n
    sigma = response_sigma(artifacts.response, channel, integers=True)
    if math.isnan(sigma):
        return math.nan
    excess = _excess(artifacts, values)
    counts, start = excess.counts[channel], excess.starts[channel]
    above = np.arange(start, start + counts.size) > HOT_SIGMAS * sigma
    return float(counts[above].sum()) / values.n


def structure_hot_pixels(
    artifacts: Artifacts, channel: int, values: Distribution, *, integers: bool
) -> float:
    """Fraction of pixels that count as hot but are no more than the channel's own structure.

    Structure and noise reach below the local median as they reach above it; hot pixels do not. So
    the responses below say how large sigma must be for them, and what is not beyond 8 of those is
    explained. For floats, whose hot pixels are known as a number only, this is a lower bound.
    """
    hot = hot_pixels(artifacts, channel, values, integers=integers)
    if math.isnan(hot) or hot == 0:
        return hot
    responses, start = artifacts.response.counts[channel], artifacts.response.starts[channel]
    bins = np.arange(start, start + responses.size)
    sizes = (bins - RESPONSE_ZERO).astype("f8") if integers else response_values()[bins]
    cumulative = np.cumsum(responses)
    coldest = sizes[int(np.searchsorted(cumulative, _COLD_FRACTION * cumulative[-1]))]
    limit = HOT_SIGMAS * max(-float(coldest), 0.0) / _COLD_SIGMAS
    if not integers:
        return max(hot - float(responses[sizes > limit].sum()) / values.n, 0.0)
    excess = _excess(artifacts, values)
    above = np.arange(excess.counts[channel].size) + excess.starts[channel] > limit
    return max(hot - float(excess.counts[channel][above].sum()) / values.n, 0.0)


def _excess(artifacts: Artifacts, values: Distribution) -> Counts:
    """Responses beyond the counting noise, less the offset of a camera that has one."""
    return artifacts.excess_offset if values.minimum >= CAMERA_OFFSET else artifacts.excess


def dead_area(artifacts: Artifacts, channel: int, n: int, zeros: int) -> float:
    """Fraction of pixels in all-zero 8x8 windows; NaN where more than half of them are zero."""
    if not n or zeros > 0.5 * n:
        return math.nan
    return float(artifacts.dead[channel]) / n


def line_means(profile: Profile, channel: int, shift: float) -> np.ndarray:
    """Mean of each line that has pixels."""
    n, total = _lines(profile, channel)
    valid = n > 0
    return total[valid] / n[valid] + shift


def _lines(profile: Profile, channel: int) -> tuple[np.ndarray, np.ndarray]:
    """Count and sum of each line."""
    total = profile.total.values
    return np.broadcast_to(profile.n.values, total.shape)[channel], total[channel]


def relative_spread(means: np.ndarray) -> float:
    """Standard deviation over mean of line means; the recipe's striping."""
    if not means.size:
        return math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.std(means) / np.mean(means))


def striping(profile: Profile, channel: int, squares: float) -> float:
    """Robust spread of line means about their running median, over the expected standard error.

    The spread is the distance of the 5th and 95th percentile over what it is for a Gaussian: a MAD
    would be blind to stripes on fewer than half of the lines. The expected error follows from the
    variance of the pixels of each line about that median; `squares` is the sum of squares about the
    shift over all lines. NaN with fewer than 15 lines, and where neither varies.
    """
    n, total = _lines(profile, channel)
    valid = n > 0
    n, total = n[valid], total[valid]
    if n.size < STRIPE_WINDOW:
        return math.nan
    means = total / n  # about the shift, which cancels in every difference
    running = median_filter(means, STRIPE_WINDOW, mode="reflect")
    residual = means - running
    away = n * running * running - 2.0 * running * total  # from squares about the shift
    if profile.squares is None:  # lines are equally long
        error = math.sqrt(max(squares + float(away.sum()), 0.0) / n.size) / n[0]
    else:
        variance = np.maximum(profile.squares.values[channel, valid] + away, 0.0) / n
        error = math.sqrt(float(np.mean(variance / n)))
    low, high = np.quantile(residual, (0.05, 0.95))
    spread = float(high - low) / _WIDTH_90
    return spread / error if error > 0 else (math.inf if spread > 0 else math.nan)
