"""Numbers of a sample that follow from its table of channels and from what could be read."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gigaqc.formulas.record import Metric, Scope, Source, above
from gigaqc.formulas.views import Sample


def _snr(sample: Sample) -> pd.Series:
    assert sample.channels is not None
    return sample.channels["snr"]


def mean_snr(sample: Sample) -> float:
    """Mean over the channels of the recipe's SNR, of those that have a finite one."""
    return float(_snr(sample).replace([np.inf, -np.inf], np.nan).mean())


def min_snr(sample: Sample) -> float:
    """The recipe's SNR of the channel with the lowest."""
    return float(_snr(sample).min())


def n_channels(sample: Sample) -> int:
    """How many channels there are."""
    return len(_snr(sample))


def unreadable_fraction(sample: Sample) -> float:
    """Share of the values of all channels that could not be read."""
    statistics = sample.statistics
    if statistics is None or statistics.unreadable is None:
        return 0.0
    return float(statistics.unreadable.pixels.sum() / statistics.state.tally.table[0].sum())


METRICS = (
    Metric(
        "mean_snr",
        "Mean SNR",
        "Mean over the channels of the recipe's SNR.",
        formula="mean of the finite snr",
        compute=mean_snr,
        better="higher",
        scope=Scope.SAMPLE,
        source=Source.CHANNELS,
        exact="1e-9",
        origin="IMC recipe",
        primary=True,
        compared=True,
    ),
    Metric(
        "min_snr",
        "Lowest SNR",
        "Of the channel with the lowest.",
        formula="min of snr",
        compute=min_snr,
        better="higher",
        scope=Scope.SAMPLE,
        source=Source.CHANNELS,
        exact="1e-9",
        origin="IMC recipe",
        primary=True,
        compared=True,
    ),
    Metric(
        "n_channels",
        "Channels",
        "Channels of the image.",
        formula="number of channels",
        compute=n_channels,
        range="1..",
        kind="count",
        dtype="i8",
        scope=Scope.SAMPLE,
        source=Source.CHANNELS,
        column="n_channels",
    ),
    Metric(
        "unreadable_fraction",
        "Not readable",
        "Values of all channels that could not be read.",
        formula="values of chunks that could not be read / all values",
        compute=unreadable_fraction,
        range="0..1",
        better="lower",
        kind="fraction",
        scope=Scope.SAMPLE,
        meaning="pixels could not be read and were left out",
        cure="Copy or export the image again; what is left was judged as if these pixels were NaN.",
        limits=dict.fromkeys(("robust", "recipe"), above(0.0, 0.05)),
    ),
)
"""Numbers of a sample as a whole."""
