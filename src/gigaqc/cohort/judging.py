"""A verdict on one sample: from its pixels, or anew from the statistics that were kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import xarray as xr

from gigaqc import progress as progress_bar
from gigaqc.assessment import Assessment, assess, judged, kept_at
from gigaqc.cohort.plan import Entry, Options
from gigaqc.image import channel_index, channel_names
from gigaqc.rules import Rules
from gigaqc.tissue import TissueMask, tissue_pass

ExpectedPairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Opened:
    """The lazy images of a sample."""

    image: xr.DataArray
    labels: Any

    @classmethod
    def of(cls, entry: Entry, options: Options) -> Opened:
        """Opened; no pixel is read."""
        return cls(entry.open(options), None if entry.labels is None else entry.labels.open())


def judge(
    entry: Entry,
    opened: Opened,
    options: Options,
    rules: Rules,
    pairs: ExpectedPairs,
    *,
    show: bool,
) -> Assessment:
    """Read a sample and judge it."""
    image = opened.image
    return assess(
        image,
        labels=opened.labels,
        tissue=entry.tissue,
        rules=rules,
        tile=options.tile,
        expected_pairs=known(pairs, channel_names(image)),
        full_scale=options.full_scale,
        on_error=options.on_error,
        name=entry.name,
        progress=show,
    )


def judge_again(
    entry: Entry, options: Options, rules: Rules, pairs: ExpectedPairs, *, show: bool
) -> tuple[Assessment, bool]:
    """Judge what was kept of a sample; whether tissue had to be found anew.

    Rules that find tissue in another way need it anew: the tissue channel is read once, with the
    thresholds from the statistics. Otherwise no pixel is read.
    """
    kept = kept_at(entry.files.path(".zarr"))
    parameters = kept.provenance["parameters"]
    parameters["expected_pairs"] = [list(p) for p in known(pairs, kept.statistics.channels)]
    tissue, anew = kept.tissue, False
    if parameters["tissue_method"] not in (None, rules.tissue_method):
        tissue, anew = _tissue(entry, options, rules, kept, show=show), True
        parameters["tissue_method"] = rules.tissue_method
    return judged(kept.statistics, tissue, rules, entry.name, kept.provenance), anew


def _tissue(entry: Entry, options: Options, rules: Rules, kept: Any, *, show: bool) -> TissueMask:
    image, channels = entry.open(options), kept.statistics.channels
    at = channel_index(channels, kept.provenance["parameters"]["tissue"], "tissue")
    found = tissue_pass(
        image,
        at,
        kept.statistics,
        channel_in_statistics=at,
        method=rules.tissue_method,
        guard=options.on_error == "mask",
    )
    n_bytes = image.isel(c=at).nbytes
    (mask,) = progress_bar.compute("reading the tissue channel", n_bytes, found, show=show)
    return mask


def known(pairs: Iterable[tuple[str, str]], channels: list[str]) -> ExpectedPairs:
    """Pairs of channels that a sample has: panels of a cohort may differ."""
    return [pair for pair in pairs if set(pair) <= set(channels)]
