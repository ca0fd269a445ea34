"""Tissue integrity."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import xarray as xr

from gigaqc.errors import ParameterError
from gigaqc.formulas.catalogue import chosen
from gigaqc.formulas.record import Metric
from gigaqc.formulas.views import Sample, Settings
from gigaqc.image import channel_index, channel_names
from gigaqc.passes import join
from gigaqc.quality.labelled import Results, pixels_of, scalars
from gigaqc.scanning import scan
from gigaqc.statistics import Part
from gigaqc.tissue import Method, TissueMask, check_method, tissue_pass
from gigaqc.typing import ChannelLike, ImageLike


def tissue_integrity(
    image: ImageLike, channel: ChannelLike, *, method: Method = "median", min_coverage: float = 0.3
) -> xr.Dataset:
    """How much of the image is tissue, and in how many pieces.

    ``median`` (the recipe's): tissue is ``x > p50`` of the channel. ``otsu``: the channel blurred
    by 2 px exceeds the channel's Otsu threshold, and pieces below 64 px are not counted. Pieces are
    4-connected within each ``y x`` plane, across chunks. ``coverage`` = tissue over valid pixels,
    ``n_fragments``, ``fragmentation`` = 1 - largest/total (1 without tissue), ``intact`` =
    coverage > min_coverage and fragmentation < 0.5.

    Parameters
    ----------
    image
        An image; a `Statistics` holds no pixels and is refused.
    channel
        Name or position of the channel that shows the tissue.
    method
        ``"median"`` or ``"otsu"``.
    min_coverage
        Least coverage that counts as intact.

    Returns
    -------
    Dataset
        Four scalars. Coverage is NaN without valid pixels.

    Notes
    -----
    Reads the chunks of this channel twice (floats: three times): the threshold, then the mask.
    Memory goes with the seams between chunks and not with the image. With ``median`` the coverage
    is 0.5 by construction.
    """
    check_method(method)
    if not 0 <= min_coverage <= 1:
        raise ParameterError(f"min_coverage: got {min_coverage!r}; pass a fraction in 0..1.")
    labelled = pixels_of(image, "tissue_integrity")
    index = channel_index(channel_names(labelled), channel)
    statistics = scan(labelled.isel(c=[index]), parts=Part.MOMENTS)
    found = tissue_pass(labelled, index, statistics, channel_in_statistics=0, method=method)
    settings = Settings(min_coverage=float(min_coverage))
    metrics = tuple(chosen(function="tissue_integrity"))
    evaluate = partial(tissue_scalars, metrics=metrics, settings=settings)
    whole = join("tissue-metrics", evaluate, found)
    return xr.Dataset(
        scalars(whole, {m.key: m.dtype for m in metrics}),
        attrs={"channel": channel_names(labelled)[index], "method": method},
    )


def tissue_scalars(found: TissueMask, metrics: Sequence[Metric], settings: Settings) -> Results:
    """The variables of `tissue_integrity` from a tissue pass."""
    sample = Sample(tissue=found, settings=settings)
    return {m.key: np.dtype(m.dtype).type(m.formula_of(sample)) for m in metrics}
