"""dask-image on dask arrays of the stores."""

import dask.array as da
import numpy as np
from dask_image.ndfilters import gaussian_filter
from dask_image.ndmeasure import mean

PACKAGE = "dask-image"


def prepare(*paths):
    return [da.from_zarr(path) for path in paths]


def blur(arrays):
    return gaussian_filter(arrays[0].astype("f4"), (0, 2, 2), mode="reflect").compute()


def means(arrays):
    labels, image = arrays
    index = np.arange(1, int(labels.max().compute()) + 1)
    return mean(image[0], labels, index).compute()


FUNCTIONS = {"ndfilters.gaussian_filter": blur, "ndmeasure.mean": means}
