"""scikit-image on whole arrays, which it reads from the stores."""

import numpy as np
import zarr
from skimage.exposure import rescale_intensity
from skimage.filters import gaussian
from skimage.measure import regionprops_table

PACKAGE = "scikit-image"
PROPERTIES = (
    "label", "area", "centroid", "bbox", "axis_major_length", "axis_minor_length", "eccentricity",
    "orientation", "intensity_mean", "intensity_min", "intensity_max",
)  # fmt: skip


def prepare(*paths):
    return [zarr.open_array(path, mode="r") for path in paths]


def blur(arrays):
    image = arrays[0][:].astype("f4")
    return np.stack([gaussian(c, 2, mode="reflect", preserve_range=True) for c in image])


def rescale(arrays):
    done = [
        rescale_intensity(c, tuple(np.percentile(c, (1, 99))), (0.0, 1.0)) for c in arrays[0][:]
    ]
    return np.stack(done)


def regionprops(arrays):
    labels, image = (array[:] for array in arrays)
    found = regionprops_table(labels, np.moveaxis(image, 0, -1), properties=PROPERTIES)
    return found["intensity_mean-0"]


FUNCTIONS = {"gaussian": blur, "rescale_intensity": rescale, "regionprops_table": regionprops}
