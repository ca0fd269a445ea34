"""Sharpness and moments of channels and tiles: records."""

from __future__ import annotations

import numpy as np

from gigaqc.formulas.record import Metric, Scope, below
from gigaqc.formulas.signal import tile_moments
from gigaqc.formulas.views import Channel, Tiles
from gigaqc.statistics.states import Focus
from gigaqc.statistics.statistics import Part, Statistics


def n_valid(channel: Channel) -> int:
    """Finite pixels inside the mask."""
    return channel.values.n


def n_excluded(channel: Channel) -> int:
    """Pixels that are NaN, infinite, or outside of the mask."""
    return int(channel.tally[0]) - channel.values.n


def mean(channel: Channel) -> float:
    """Mean of the valid pixels."""
    return channel.values.mean


def std(channel: Channel) -> float:
    """Population standard deviation of the valid pixels."""
    return channel.values.std


def minimum(channel: Channel) -> float:
    """The smallest value."""
    return channel.values.minimum


def maximum(channel: Channel) -> float:
    """The largest value."""
    return channel.values.maximum


def zero_fraction(channel: Channel) -> float:
    """Valid pixels that are exactly 0."""
    n = channel.values.n
    return float(channel.tally[4] / n) if n else np.nan


def tile_mean(tiles: Tiles) -> np.ndarray:
    """Mean of each tile."""
    return tiles.once(tile_moments)[0]


def tile_std(tiles: Tiles) -> np.ndarray:
    """Population standard deviation of each tile."""
    return tiles.once(tile_moments)[1]


def tile_zeros(tiles: Tiles) -> np.ndarray:
    """Share of zeros in each tile."""
    assert tiles.state.tiles is not None
    n, *_, zeros = tiles.state.tiles.box.values
    with np.errstate(divide="ignore", invalid="ignore"):
        return zeros / n


COUNTS = (
    Metric(
        "n_valid",
        "Pixels measured",
        "Finite pixels inside the mask.",
        formula="number of pixels that are finite and inside the mask",
        compute=n_valid,
        needs=Part.MOMENTS,
        unit="px",
        range="0..",
        kind="count",
        dtype="i8",
        meaning="the channel has no valid pixel",
        cure="Check that the file is complete and that the mask covers part of it.",
        limits={"robust": below(None, 0)},
    ),
    Metric(
        "n_excluded",
        "Pixels excluded",
        "NaN, infinite, or outside the mask.",
        formula="number of pixels that are NaN, infinite or outside the mask",
        compute=n_excluded,
        needs=Part.MOMENTS,
        unit="px",
        range="0..",
        better="lower",
        kind="count",
        dtype="i8",
    ),
)
"""What there is to measure: judged before anything else is."""

MOMENTS = (
    Metric(
        "mean",
        "Mean",
        "Mean of all measured pixels.",
        formula="sum(x) / n",
        nan="no valid pixel",
        compute=mean,
        needs=Part.MOMENTS,
        unit="DN",
        exact="1e-12 of the sum of absolute values",
        primary=True,
        compared=True,
        headline=True,
    ),
    Metric(
        "std",
        "Std",
        "Standard deviation of all measured pixels.",
        formula="sqrt(mean((x - mean)^2))",
        nan="no valid pixel",
        compute=std,
        needs=Part.MOMENTS,
        unit="DN",
        range="0..",
        exact="1e-9",
        compared=True,
    ),
    Metric(
        "min",
        "Min",
        "Smallest value.",
        formula="min(x)",
        nan="no valid pixel",
        compute=minimum,
        needs=Part.MOMENTS,
        unit="DN",
    ),
    Metric(
        "max",
        "Max",
        "Largest value.",
        formula="max(x)",
        nan="no valid pixel",
        compute=maximum,
        needs=Part.MOMENTS,
        unit="DN",
    ),
    Metric(
        "zero_fraction",
        "Zeros",
        "Pixels equal to 0.",
        formula="number of x == 0 / n",
        nan="no valid pixel",
        compute=zero_fraction,
        needs=Part.MOMENTS,
        range="0..1",
        kind="fraction",
        compared=True,
    ),
)

MOMENT_TILES = (
    Metric(
        "mean",
        "Mean",
        "Mean of the tile's pixels.",
        formula="sum(x) / n",
        nan="no valid pixel",
        compute=tile_mean,
        needs=Part.MOMENTS,
        unit="DN",
        scope=Scope.TILE,
        exact="1e-12 of the sum of absolute values",
        primary=True,
    ),
    Metric(
        "std",
        "Std",
        "Standard deviation of the tile's pixels.",
        formula="sqrt(mean((x - mean)^2))",
        nan="no valid pixel",
        compute=tile_std,
        needs=Part.MOMENTS,
        unit="DN",
        range="0..",
        scope=Scope.TILE,
        exact="1e-9",
    ),
    Metric(
        "zero_fraction",
        "Zeros",
        "Pixels equal to 0.",
        formula="number of x == 0 / n",
        nan="no valid pixel",
        compute=tile_zeros,
        needs=Part.MOMENTS,
        range="0..1",
        kind="fraction",
        scope=Scope.TILE,
    ),
)


def variance_of_laplacian(sums: np.ndarray) -> np.ndarray:
    """Population variance of the Laplacian from (count, sum, squares, ...) on the first axis."""
    n, total, squares = sums[:3]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n > 0, np.maximum(squares / n - (total / n) ** 2, 0.0), np.nan)


def tenengrad(sums: np.ndarray) -> np.ndarray:
    """Mean squared Sobel gradient."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[0] > 0, sums[3] / sums[0], np.nan)


def whole(focus: Focus) -> np.ndarray:
    """Sums over all tiles, (4, C)."""
    return focus.box.values.sum(axis=(2, 3, 4, 5))


def _whole_laplacian(statistics: Statistics) -> np.ndarray:
    assert statistics.state.focus is not None
    return variance_of_laplacian(whole(statistics.state.focus))


def _whole_gradient(statistics: Statistics) -> np.ndarray:
    assert statistics.state.focus is not None
    return tenengrad(whole(statistics.state.focus))


def whole_laplacian(channel: Channel) -> float:
    """Variance of the Laplacian over the whole channel."""
    return float(channel.of_all(_whole_laplacian))


def whole_gradient(channel: Channel) -> float:
    """Mean squared gradient over the whole channel."""
    return float(channel.of_all(_whole_gradient))


def tile_laplacian(tiles: Tiles) -> np.ndarray:
    """Variance of the Laplacian in each tile."""
    assert tiles.state.focus is not None
    return variance_of_laplacian(tiles.state.focus.box.values)


def tile_gradient(tiles: Tiles) -> np.ndarray:
    """Mean squared gradient in each tile."""
    assert tiles.state.focus is not None
    return tenengrad(tiles.state.focus.box.values)


def tile_slope(tiles: Tiles) -> np.ndarray:
    """Slope of the power spectrum of each full tile."""
    assert tiles.state.focus is not None and tiles.state.spectrum is not None
    box = tiles.state.spectrum.box
    slopes = np.full(tiles.state.focus.box.values.shape[1:], np.nan)
    slopes[box.window((0, 0, 0, 0))] = box.values[0]
    return slopes


_LAPLACIAN = "variance of x * (0 1 0, 1 -4 1, 0 1 0)"
_GRADIENT = "mean of gx^2 + gy^2, Sobel (1 2 1)"
_SOURCE = "CellProfiler, squidpy"

METRICS = (
    Metric(
        "whole_variance_of_laplacian",
        "Sharpness (Laplacian)",
        "Variance of the Laplacian: fine detail. Compare only images of the same stain and "
        "exposure; noise raises it.",
        formula=_LAPLACIAN,
        nan="no pixel with a whole neighbourhood",
        compute=whole_laplacian,
        function="focus",
        needs=Part.FOCUS,
        unit="DN^2",
        range="0..",
        better="higher",
        exact="1e-9",
        origin=_SOURCE,
        compared=True,
    ),
    Metric(
        "whole_tenengrad",
        "Sharpness (gradient)",
        "Mean squared Sobel gradient: edges. Compare as above.",
        formula=_GRADIENT,
        nan="no pixel with a whole neighbourhood",
        compute=whole_gradient,
        function="focus",
        needs=Part.FOCUS,
        unit="DN^2",
        range="0..",
        better="higher",
        exact="1e-9",
        origin=_SOURCE,
        compared=True,
    ),
)

TILES = (
    Metric(
        "variance_of_laplacian",
        "Sharpness",
        "Variance of the Laplacian in the tile.",
        formula=_LAPLACIAN,
        nan="no pixel with a whole neighbourhood",
        compute=tile_laplacian,
        function="focus",
        needs=Part.FOCUS,
        unit="DN^2",
        range="0..",
        better="higher",
        scope=Scope.TILE,
        exact="1e-9",
        origin=_SOURCE,
        primary=True,
    ),
    Metric(
        "tenengrad",
        "Gradient",
        "Mean squared Sobel gradient in the tile.",
        formula=_GRADIENT,
        nan="no pixel with a whole neighbourhood",
        compute=tile_gradient,
        function="focus",
        needs=Part.FOCUS,
        unit="DN^2",
        range="0..",
        better="higher",
        scope=Scope.TILE,
        exact="1e-9",
        origin=_SOURCE,
    ),
    Metric(
        "power_log_log_slope",
        "Spectral slope",
        "How fast the power spectrum of a full tile falls: the steeper, the more blurred.",
        formula="slope of log mean power over log radial frequency, from 1/tile to 0.5 cycles/px",
        nan="the tile is not full",
        compute=tile_slope,
        function="focus",
        needs=Part.FOCUS | Part.SPECTRUM,
        better="higher",
        scope=Scope.TILE,
        exact="1e-9",
        origin=_SOURCE,
        assessed=False,
    ),
)
