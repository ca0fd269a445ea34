"""The pass over labels and the image beside them."""

from __future__ import annotations

from pathlib import Path

import xarray as xr
from dask.delayed import Delayed

from gigaqc.objects.labels import aligned
from gigaqc.objects.state import ObjectRequest, observe
from gigaqc.passes import Pass


def object_pass(
    labels: xr.DataArray,
    image: xr.DataArray | None = None,
    *,
    connectivity: int = 8,
    folder: Path | None = None,
) -> Delayed:
    """Sums over the objects of a label image, as `Objects`, in one read of both (lazy).

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
    return Pass("objects", source, mask, observe, (request,), on_device=True).build()
