"""The pass over labels and the image beside them."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from gigaqc.graph.reduce import Reduce
from gigaqc.objects.labels import aligned
from gigaqc.objects.state import ObjectRequest, observe


def object_read(
    labels: xr.DataArray,
    image: xr.DataArray | None = None,
    *,
    connectivity: int = 8,
    folder: Path | None = None,
) -> Reduce:
    """The read of a label image, and of the image beside it, that sums over objects: `Objects`.

    Parameters
    ----------
    labels
        From `as_labels`.
    image
        From `check_fit`, for intensities.
    connectivity
        4 or 8: which neighbours are of one piece.
    folder
        Where rows are kept that are too many for memory; None keeps all.
    """
    request = ObjectRequest.of(labels, image, connectivity, folder)
    if image is None:
        source, mask = labels.expand_dims("c"), None
    else:
        source, mask = image, aligned(labels, image)
    return Reduce("objects", source, mask, observe, (request,), on_device=True)
