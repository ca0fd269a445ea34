"""Images whose chunks lie on a GPU."""

from __future__ import annotations

from typing import Any

import xarray as xr

from gigaqc.backend import empty_on_gpu, to_device
from gigaqc.image import as_image


def to_gpu(image: Any) -> xr.DataArray:
    """The same image with chunks that are moved to the GPU when they are read (lazy).

    A scan, all metrics that follow from it, sums over objects (`object_table`), joint histograms,
    Manders' coefficients and `gain_map` then observe the chunks there, and only tables, maps, runs
    of labels and the edges of chunks come back. Tissue above the median is told there too, and
    comes back as a byte a pixel, because its pieces are found on the host. What is not written for
    a GPU yet (tissue by Otsu, rings around objects, histograms of given edges, transforms,
    `tsnr_map`, nuclei) copies a chunk back and gives the same results.

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
    worker a GPU. Counts and quantiles are the same to the bit as on the CPU, sums to 1e-10.
    """
    labelled = as_image(image)
    nothing = empty_on_gpu(labelled.ndim, labelled.dtype)
    moved = labelled.data.map_blocks(to_device, dtype=nothing.dtype, meta=nothing)
    return labelled.copy(data=moved)
