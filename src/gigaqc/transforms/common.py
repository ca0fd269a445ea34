"""What the transforms share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from dask.delayed import Delayed

from gigaqc.errors import ChannelError, ChannelWarning, ParameterError, warn
from gigaqc.image import channel_names
from gigaqc.scanning import LazyStatistics, scan
from gigaqc.statistics import Part, Statistics


def like(result: xr.DataArray, source: Any) -> xr.DataArray:
    """The result without the channel axis that an image of one plane did not have."""
    dims = getattr(source, "dims", None)
    if isinstance(source, xr.DataTree):  # of a multiscale element, whose root has no dims
        dims = {d for node in source.subtree for d in node.dims}
    plane = np.ndim(source) == 2 if dims is None else "c" not in dims
    return result.isel(c=0, drop=True) if plane and "c" in result.dims else result


def statistics_of(
    image: xr.DataArray, statistics: Statistics | LazyStatistics | None, **asked: Any
) -> Statistics | Delayed:
    """What is known of the values of an image: what the caller has, or a read of its own."""
    if statistics is None:
        return scan(image, parts=Part.MOMENTS, **asked).delayed
    if not isinstance(statistics, (Statistics, LazyStatistics)):
        raise ParameterError(
            f"statistics: got {type(statistics).__name__}; pass what gq.scan(image) gives, or None."
        )
    if list(statistics.channels) != channel_names(image):
        raise ChannelError(
            f"statistics: of channels {list(statistics.channels)}, and the image has "
            f"{channel_names(image)}; scan this image."
        )
    return statistics.delayed if isinstance(statistics, LazyStatistics) else statistics


def warn_of(channels: list[str], reason: str) -> None:
    """Say which channels come out as NaN, and why."""
    if channels:
        warn(
            f"channels {', '.join(channels)}: {reason}, so they come out as NaN; leave them out.",
            ChannelWarning,
        )


def number(value: Any, name: str, cure: str) -> float:
    """A finite number, or an error that says what to pass."""
    try:
        checked = float(value)
    except (TypeError, ValueError):
        checked = math.nan
    if not math.isfinite(checked):
        raise ParameterError(f"{name}: got {value!r}; pass {cure}.")
    return checked
