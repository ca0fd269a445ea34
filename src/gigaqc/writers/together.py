"""Maps and numbers that are computed together, so that what they share is read once."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import dask.base
import xarray as xr

from gigaqc.base.geometry import rechunked_array
from gigaqc.errors import GigaqcError, WriteError
from gigaqc.stores.staging import StagedArray, remove
from gigaqc.writers.write import new_array, settled_images


@contextlib.contextmanager
def kept(
    maps: Mapping[str, xr.DataArray], folder: Path, *others: Any
) -> Iterator[tuple[dict[str, xr.DataArray], tuple[Any, ...]]]:
    """Compute maps *now* into a store in `folder`, and `others` (small) with them in memory.

    What they share, above all the series that they are made of, is read once for all of them. Gives
    the same maps, lazily from the store, and the values of the others; the store is removed when
    the block ends, however it ends.
    """
    store = folder / f".{uuid.uuid4().hex[:8]}.scratch"
    try:
        yield _computed(maps, store, others)
    finally:
        remove(store)


def _computed(
    maps: Mapping[str, xr.DataArray], store: Path, others: Sequence[Any]
) -> tuple[dict[str, xr.DataArray], tuple[Any, ...]]:
    import zarr

    try:
        group = zarr.open_group(str(store), mode="w", zarr_format=3)
        arrays = {name: new_array(group, name, m.data, m.dims) for name, m in maps.items()}
        blocks = [rechunked_array(m.data, arrays[name].chunks) for name, m in maps.items()]
        targets: Any = [StagedArray(array) for array in arrays.values()]
        stored = da.store(blocks, targets, lock=False, return_stored=False, compute=False)
        _, *values = dask.base.compute(stored, *others)
    except OSError as error:
        if isinstance(error, GigaqcError):
            raise
        raise WriteError(
            f"out: {str(store.parent)!r} could not be written ({error}); make room or change the "
            "folder. Nothing was left behind."
        ) from error
    lazy = {name: m.copy(data=da.from_zarr(arrays[name])) for name, m in maps.items()}
    return lazy, tuple(values)


def settled_with(image: xr.DataArray, numbers: xr.Dataset) -> tuple[xr.DataArray, xr.Dataset]:
    """An image and numbers that wait for the same read, which is done here, once for both."""
    ready, *variables = settled_images([image, *numbers.data_vars.values()])
    return ready, numbers.assign(dict(zip(numbers.data_vars, variables, strict=True))).compute()
