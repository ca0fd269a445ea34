"""How many pixels a channel or tile has, and their plain statistics."""

from __future__ import annotations

import numpy as np

from gigaqc.formulas.record import Metric, Scope, below
from gigaqc.formulas.signal import tile_moments
from gigaqc.formulas.views import Channel, Tiles
from gigaqc.statistics import Part


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

METRICS = (
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

TILES = (
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
