"""Tissue, the whole sample, and pairs of its channels: formulas and records."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import numpy as np
import pandas as pd

from gigaqc.formulas.record import Basis, Metric, Scope, Status, above, below
from gigaqc.formulas.views import Sample
from gigaqc.kernels import by_label as columns
from gigaqc.statistics.states import CoMoments
from gigaqc.statistics.statistics import Part, Statistics

MAX_FRAGMENTATION = 0.5  # of tissue that counts as intact


def coverage(positive: int, valid: int) -> float:
    """Part of the valid pixels that is tissue; NaN without valid pixels."""
    return positive / valid if valid else math.nan


def fragmentation(largest: int, total: int) -> float:
    """1 - largest/total, both areas of counted components; 1 without tissue."""
    return 1.0 - largest / total if total else 1.0


def intact(coverage: float, fragmentation: float, min_coverage: float) -> bool:
    """Whether there is enough tissue and most of it hangs together; False for a NaN coverage."""
    return coverage > min_coverage and fragmentation < MAX_FRAGMENTATION


def coverage_of(sample: Sample) -> float:
    """Tissue over valid pixels."""
    assert sample.tissue is not None
    return coverage(sample.tissue.positive, sample.tissue.valid)


def fragments_of(sample: Sample) -> int:
    """Pieces of the tissue."""
    assert sample.tissue is not None
    return int(sample.tissue.n_fragments)


def fragmentation_of(sample: Sample) -> float:
    """Tissue outside of its largest piece."""
    assert sample.tissue is not None
    return fragmentation(sample.tissue.largest, sample.tissue.counted)


def intact_of(sample: Sample) -> bool:
    """Whether there is enough tissue, most of it in one piece."""
    least = sample.settings.min_coverage
    return bool(intact(coverage_of(sample), fragmentation_of(sample), least))


_of_tissue = partial(
    Metric, function="tissue_integrity", scope=Scope.SAMPLE, source=Basis.TISSUE,
    origin="IMC recipe",
)  # fmt: skip

METRICS = (
    _of_tissue(
        "coverage",
        "Tissue coverage",
        "Tissue over all measured pixels: what is brighter than a threshold in the blurred tissue "
        "channel.",
        formula="tissue pixels / valid pixels",
        nan="no valid pixel",
        compute=coverage_of,
        range="0..1",
        kind="fraction",
        meaning="too little of the image is tissue",
        cure="Check the tissue channel, and whether the right region was imaged.",
        limits={
            "robust": below(0.002, 0.0, Status.FAIL),
            "recipe": below(None, 0.3, Status.FAIL),
        },
        primary=True,
        compared=True,
        column="tissue_coverage",
    ),
    _of_tissue(
        "n_fragments",
        "Tissue fragments",
        "Pieces of the tissue, pixels of which touch along a side.",
        formula="number of 4-connected components",
        compute=fragments_of,
        range="0..",
        kind="count",
        dtype="i8",
        compared=True,
    ),
    _of_tissue(
        "fragmentation",
        "Fragmentation",
        "Tissue outside of its largest piece.",
        formula="1 - largest component / all components; 1 without tissue",
        compute=fragmentation_of,
        range="0..1",
        better="lower",
        kind="fraction",
        compared=True,
    ),
    _of_tissue(
        "intact",
        "Tissue intact",
        "Whether there is enough tissue, and most of it hangs together.",
        formula="coverage > min_coverage and fragmentation < 0.5",
        compute=intact_of,
        kind="flag",
        dtype="?",
    ),
)
"""Numbers of the tissue mask."""


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


SAMPLE = (
    Metric(
        "mean_snr",
        "Mean SNR",
        "Mean over the channels of the recipe's SNR.",
        formula="mean of the finite snr",
        compute=mean_snr,
        better="higher",
        scope=Scope.SAMPLE,
        source=Basis.CHANNELS,
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
        source=Basis.CHANNELS,
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
        source=Basis.CHANNELS,
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


def correlation_matrix(moments: CoMoments) -> np.ndarray:
    """Pearson's r of each pair of channels over the pixels valid in both; NaN for constants."""
    n = moments.n
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = moments.squares - moments.total**2 / n
        covariance = moments.products - moments.total * moments.total.T / n
        # Rounding leaves a constant a variance of about 1e-16 of its squares.
        variance = np.where(variance > 1e-14 * moments.squares, variance, np.nan)
        r = covariance / np.sqrt(variance * variance.T)
    r = np.clip(r, -1.0, 1.0)
    np.fill_diagonal(r, np.where(np.isnan(np.diagonal(variance)), np.nan, 1.0))
    return r


def colocalized(table: np.ndarray) -> dict[str, np.ndarray]:
    """Pearson's r and Manders' coefficients of each row of `kernels.by_label.sum_pairs`."""
    n, xx, yy, xy = table[:, [columns.N, columns.XX, columns.YY, columns.XY]].T
    varies = (table[:, columns.LOW_X] < table[:, columns.HIGH_X]) & (
        table[:, columns.LOW_Y] < table[:, columns.HIGH_Y]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.clip(xy / np.sqrt(xx) / np.sqrt(yy), -1.0, 1.0)
        m1 = table[:, columns.X_WHERE_Y] / table[:, columns.SUM_X]
        m2 = table[:, columns.Y_WHERE_X] / table[:, columns.SUM_Y]
    return {
        "n_pixels": n.astype("i8"),
        "pearson": np.where(varies, r, np.nan),
        "manders_m1": m1,
        "manders_m2": m2,
    }


def unexpected_pairs(
    names: list[str], r: np.ndarray, expected: Iterable[tuple[str, str]], threshold: float
) -> pd.DataFrame:
    """Pairs correlated above the threshold that nobody expects, strongest first."""
    allowed = {frozenset(pair) for pair in expected}
    rows = [
        (names[i], names[j], float(r[i, j]))
        for i in range(len(names))
        for j in range(i + 1, len(names))
        if r[i, j] > threshold and frozenset((names[i], names[j])) not in allowed
    ]
    table = pd.DataFrame(rows, columns=["channel_1", "channel_2", "correlation"])
    return table.sort_values("correlation", ascending=False, ignore_index=True, kind="stable")


def correlations(statistics: Statistics) -> np.ndarray:
    """Pearson's r of each pair of channels."""
    assert statistics.state.comoments is not None
    return correlation_matrix(statistics.state.comoments)


PAIRS = (
    Metric(
        "correlation",
        "Correlation",
        "Pearson's correlation of two channels over all pixels. Above 0.7 a pair is outlined in "
        "the matrix; beyond the limit it is flagged.",
        formula="covariance / (std x std), over the pixels that are valid in both",
        nan="a channel is constant or empty",
        compute=correlations,
        function="channel_correlation",
        needs=Part.COMOMENTS,
        range="-1..1",
        scope=Scope.PAIR,
        exact="1e-9",
        origin="IMC recipe",
        meaning="two channels show nearly the same image",
        cure="Check for spillover or bleed-through, or name the pair as expected.",
        limits={"robust": above(0.95, None)},
    ),
)
"""What pairs of channels are judged by."""
