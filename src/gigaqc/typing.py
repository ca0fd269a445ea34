"""What the verbs take, as types: for editors, and for whoever writes functions around them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import dask.array as da
import numpy as np
import xarray as xr

__all__ = [
    "ArrayLike", "ChannelLike", "HasGeometry", "ImageLike", "LabelsLike", "MaskLike", "PathLike",
    "RegionLike",
]  # fmt: skip


class ArrayLike(Protocol):
    """An array by its shape, type and slices: of zarr, cupy, or another library."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> Any:
        """Type of the values, as numpy names it."""

    @property
    def ndim(self) -> int:
        """Number of axes."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return a part of it."""


class HasGeometry(Protocol):
    """A geometry of shapely, or a shapes element (GeoDataFrame)."""

    @property
    def __geo_interface__(self) -> Any:
        """As GeoJSON."""


PathLike: TypeAlias = str | os.PathLike[str]
"""A local path, or an fsspec URL."""

ImageLike: TypeAlias = (
    PathLike | xr.DataArray | xr.Dataset | xr.DataTree | np.ndarray | da.Array | ArrayLike
)
"""An image: a path or URL as `open_image` takes it, a labelled array, an element of SpatialData, or
an array that is ``y x``, ``c y x``, or has its axes named by ``dims=``."""

LabelsLike: TypeAlias = ImageLike
"""A label image: the same of integers, 0 for background; a path is opened as by `open_labels`."""

MaskLike: TypeAlias = ImageLike | HasGeometry | Sequence[HasGeometry]
"""A mask: bool, a file that is above 0 inside, or polygons."""

ChannelLike: TypeAlias = str | int
"""A channel by its name or its position."""

RegionLike: TypeAlias = MaskLike | Sequence[slice] | Mapping[str, slice] | Sequence[float]
"""A part of an image: slices (y, x), bounds (x_min, y_min, x_max, y_max), polygons, or a mask."""
