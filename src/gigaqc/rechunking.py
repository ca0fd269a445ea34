"""Other chunks of an image, always by ordinary tasks, which graphs can copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dask.array as da
import xarray as xr


def rechunked(image: xr.DataArray, chunks: Mapping[Any, Any]) -> xr.DataArray:
    """An image over dask in other chunks, as `DataArray.chunk` takes them."""
    axes = {axis: chunks[dim] for axis, dim in enumerate(image.dims) if dim in chunks}
    return image.copy(data=rechunked_array(image.data, axes))


def rechunked_array(array: da.Array, chunks: Any) -> da.Array:
    """A dask array in other chunks, as its own `rechunk` takes them."""
    return array.rechunk(chunks, method="tasks")
