"""Images whose chunks lie on a GPU."""

from __future__ import annotations

from typing import Any

import dask.array as da
import dask.base
import numpy as np
import xarray as xr

from gigaqc.base.backend import beside, empty_on_gpu, to_device, to_host
from gigaqc.image.labelled import as_image
from gigaqc.typing import ImageLike


def to_gpu(image: ImageLike) -> xr.DataArray:
    """The same image with chunks that are moved to the GPU when they are read (lazy).

    A scan, all metrics that follow from it, sums over objects (`object_table`), joint histograms,
    Manders' coefficients, `gain_map`, `tsnr_map` and `temporal_statistics` then observe the chunks
    there, and only tables, maps, runs of labels and the edges of chunks come back. Transforms,
    `pixel_clustering_preprocess` and the labels of `cluster_pixels` are computed there, and their
    chunks stay on the GPU until they are written (or ``image.data.map_blocks(cupy.asnumpy)`` copies
    them). Tissue above the median is told there too, and comes back as a byte a pixel, because its
    pieces are found on the host. What is not written for a GPU yet (tissue by Otsu, rings around
    objects, nuclei, `isnr` and its maps) copies a chunk back and gives the same results.

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.

    Returns
    -------
    xarray.DataArray
        Over dask, with cupy arrays as chunks; names, coordinates and attrs as before.

    Raises
    ------
    MissingDependencyError
        Without cupy: ``pip install 'gigaqc[gpu]'``.

    Notes
    -----
    Each worker uses the device that is current in it; ``dask_cuda.LocalCUDACluster`` starts one
    worker a GPU. Counts, quantiles and labels are the same to the bit as on the CPU, and so are the
    blur and what only scales or replaces pixels; sums agree to 1e-10, other transforms to the
    rounding of their type.
    """
    labelled = as_image(image)
    nothing = empty_on_gpu(labelled.ndim, labelled.dtype)
    moved = labelled.data.map_blocks(to_device, dtype=nothing.dtype, meta=nothing)
    return labelled.copy(data=moved)


def only_inside(
    image: xr.DataArray, mask: xr.DataArray, outside: float, dtype: np.dtype
) -> xr.DataArray:
    """The image with one value outside of a mask over dims of it, where its chunks are (lazy).

    xarray's ``where`` would mix arrays of a device with those of the host, which is refused there.
    """
    at = tuple(slice(None) if d in mask.dims else None for d in image.dims)
    given = (image.data, mask.data[at], outside, dtype)
    return image.copy(data=da.map_blocks(_within, *given, dtype=dtype))


def _within(block: Any, inside: np.ndarray, outside: float, dtype: np.dtype) -> Any:
    chosen = np.where(beside(inside, block), block.astype(dtype, copy=False), outside)
    return chosen.astype(dtype, copy=False)


def in_memory(array: Any) -> np.ndarray:
    """The pixels of an image, or of any array, in the memory of the host; computed *now*."""
    data = array.data if isinstance(array, xr.DataArray) else array
    return to_host(dask.base.compute(data)[0])
