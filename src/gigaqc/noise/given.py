"""The series that a caller hands in, and results in its shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from gigaqc.errors import ImageError
from gigaqc.image import as_image

Dims = str | Sequence[str] | None


def as_series(series: Any, dims: Dims) -> xr.DataArray:
    """The labelled series of two frames or more; `dims` names the axes of an array."""
    image = as_image(series, dims=dims, argument="series")
    if "t" not in image.dims:
        raise ImageError(
            f"series: its dims {tuple(map(str, image.dims))} have no t; pass dims= for an array, "
            "such as dims='tyx', or rename the axis: series.rename(c='t')."
        )
    if image.sizes["t"] == 1:
        raise ImageError("series: a single frame has no noise in time; pass two or more.")
    return image


def has_channels(source: Any, dims: Dims) -> bool:
    """Whether the caller's series or map has an axis of channels."""
    own = getattr(source, "dims", None) if dims is None else dims
    return np.ndim(source) != 2 if own is None else "c" in own


def like(result: Any, source: Any, dims: Dims) -> Any:
    """A DataArray or Dataset without the channel axis that the series did not have."""
    return result if has_channels(source, dims) else result.isel(c=0, drop=True)
