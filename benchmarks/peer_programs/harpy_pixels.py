"""harpy's preparation for pixel clustering, in SpatialData without a store, then written."""

import shutil
from pathlib import Path

import dask.array as da
import harpy
import spatialdata
import zarr

PACKAGE = "harpy-analysis"


def prepare(path):
    return Path(path)


def preprocess(path):
    element = spatialdata.models.Image2DModel.parse(da.from_zarr(str(path)), dims=("c", "y", "x"))
    sdata = spatialdata.SpatialData(images={"raw": element})
    done = harpy.im.pixel_clustering_preprocess(
        sdata, image_name="raw", output_image_name="done", chunks=1024
    )
    out = path.with_name("harpy.zarr")
    shutil.rmtree(out, ignore_errors=True)
    done["done"].data.to_zarr(str(out))
    return zarr.open_array(out, mode="r")


FUNCTIONS = {"pixel_clustering_preprocess": preprocess}
