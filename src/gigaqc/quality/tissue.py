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
from gigaqc.graph.tasks import join
from gigaqc.image import channel_index, channel_names
from gigaqc.quality.labelled import Results, pixels_of, scalars
from gigaqc.scanning import scan
from gigaqc.statistics import Part
from gigaqc.tissue import Method, TissueMask, check_method, tissue_pass
from gigaqc.typing import ChannelLike, ImageLike


def tissue_integrity(
    image: ImageLike, channel: ChannelLike, *, method: Method = "median", min_coverage: float = 0.3
) -> xr.Dataset:
    """How much of the image is tissue, and in how many pieces.

    Pieces are 4-connected within each ``y x`` plane, across chunks.

    Parameters
    ----------
    image
        An image or its path; a `Statistics` holds no pixels and is refused.
    channel
        Name or position of the channel that shows the tissue.
    method
        ``"median"`` (the recipe's): tissue is ``x > p50`` of the channel. ``"otsu"``: the channel
        blurred by 2 px exceeds the channel's Otsu threshold, and pieces below 64 px are not
        counted.
    min_coverage
        Least coverage that counts as intact, in 0..1.

    Returns
    -------
    Dataset
        Four scalars.

        - ``coverage``: pixels of tissue / valid pixels; no unit, 0..1, NaN without valid pixels
        - ``n_fragments``: pieces that count, over all planes; from 0 up
        - ``fragmentation``: 1 - pixels of the largest piece / pixels of all pieces that count; no
          unit, 0..1, 1 without tissue
        - ``intact``: coverage > `min_coverage` and fragmentation < 0.5; bool

    Raises
    ------
    ChannelError
        No such channel.
    ParameterError
        Another `method`, or a `min_coverage` outside of 0..1.
    StatisticsError
        A `Statistics` instead of an image.
    ImageError, ImageTypeError, SourceNotFoundError, ReadError
        What is no image, or a path without one; before a pixel is read.

    Notes
    -----
    Reads the chunks of this channel twice (floats: three times): the threshold, then the mask.
    Memory goes with the seams between chunks and not with the image. With ``median`` the coverage
    is 0.5 by construction. Sources: IMC recipe; ours.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.array([[0, 9, 0, 0], [0, 9, 0, 9]], dtype="u2")
    >>> found = gq.tissue_integrity(image, 0).compute()
    >>> found.coverage.item(), found.n_fragments.item(), round(found.fragmentation.item(), 3)
    (0.375, 2, 0.333)
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
    return {m.key: np.dtype(m.dtype).type(m.of(sample)) for m in metrics}
