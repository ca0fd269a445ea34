"""What callers hand in, and results in its shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from gigaqc.errors import ImageError, ParameterError
from gigaqc.image.labelled import as_image

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


def like_series(result: Any, source: Any, dims: Dims) -> Any:
    """A DataArray or Dataset without the channel axis that the series did not have."""
    return result if has_channels(source, dims) else result.isel(c=0, drop=True)


def like(result: xr.DataArray, source: Any) -> xr.DataArray:
    """The result without the channel axis that an image of one plane did not have."""
    dims = getattr(source, "dims", None)
    if isinstance(source, xr.DataTree):  # of a multiscale element, whose root has no dims
        dims = {d for node in source.subtree for d in node.dims}
    plane = np.ndim(source) == 2 if dims is None else "c" not in dims
    return result.isel(c=0, drop=True) if plane and "c" in result.dims else result


def number(value: Any, name: str, cure: str) -> float:
    """A finite number, or an error that says what to pass."""
    try:
        checked = float(value)
    except (TypeError, ValueError):
        checked = math.nan
    if not math.isfinite(checked):
        raise ParameterError(f"{name}: got {value!r}; pass {cure}.")
    return checked
