"""Positions along an axis, such as echoes, measured apart: as channels, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr

from gigaqc.errors import ParameterError
from gigaqc.image import DIMS, as_image, as_mask, channel_names
from gigaqc.scanning import LazyStatistics
from gigaqc.statistics import Statistics

By = Literal["t", "z"] | None
"""The axis whose positions are measured each by itself; None pools them."""


@dataclass(frozen=True)
class Apart:
    """An image whose positions along `by` are channels of `image`, those of one side by side."""

    whole: xr.DataArray
    by: str
    image: xr.DataArray

    @classmethod
    def of(cls, image: Any, by: str) -> Apart:
        """An image and an axis of it; refuses Statistics, which have pooled it."""
        if by not in ("t", "z"):
            raise ParameterError(f"by: got {by!r}; pass 't' or 'z', or None to pool both.")
        if isinstance(image, (Statistics, LazyStatistics)):
            raise ParameterError(
                f"by: Statistics are pooled over {by!r}; pass the image, or scan each position "
                f"of it, image.isel({by}=0)."
            )
        whole = as_image(image)
        if by not in whole.dims:
            raise ParameterError(
                f"by: got {by!r}, but the image has dims {' '.join(map(str, whole.dims))}; leave "
                "it out, or name its axes by dims=."
            )
        names = [f"{c}, {by}={k}" for k in range(whole.sizes[by]) for c in channel_names(whole)]
        return cls(whole, by, _side_by_side(whole, by).assign_coords(c=names))

    @property
    def counts(self) -> tuple[int, int]:
        """Positions, and channels of each."""
        return self.whole.sizes[self.by], self.whole.sizes["c"]

    def mask(self, mask: Any, argument: str) -> xr.DataArray | None:
        """A mask of the whole image as one of `image`."""
        if mask is None:
            return None
        within = as_mask(mask, self.whole, argument)
        if self.by not in within.dims and "c" not in within.dims:
            return within
        lacking = {d: self.whole.sizes[d] for d in (self.by, "c") if d not in within.dims}
        within = within.expand_dims(lacking)
        return _side_by_side(within.transpose(*(d for d in DIMS if d in within.dims)), self.by)

    def restored(self, found: xr.Dataset) -> xr.Dataset:
        """Results over the channels of `image`, as results over `c` and the axis."""
        variables = {}
        for name, variable in found.data_vars.items():
            at, shape = variable.dims.index("c"), variable.shape
            data = variable.data.reshape(*shape[:at], *self.counts, *shape[at + 1 :])
            dims = (*variable.dims[:at], "c", self.by, *variable.dims[at + 1 :])
            variables[name] = (dims, np.moveaxis(data, at, at + 1))
        coords = {k: v for k, v in found.coords.items() if k != "c"}
        coords["c"] = channel_names(self.whole)
        if self.by in self.whole.coords:
            coords[self.by] = self.whole.coords[self.by].variable
        return xr.Dataset(variables, coords=coords, attrs=found.attrs)


def _side_by_side(image: xr.DataArray, by: str) -> xr.DataArray:
    """The channels of the first position, then those of the second, and so on."""
    parts = [image.isel({by: k}, drop=True) for k in range(image.sizes[by])]
    dims = parts[0].dims
    data = da.concatenate([p.data for p in parts], axis=dims.index("c"))
    return xr.DataArray(data, dims=dims, attrs=image.attrs)
