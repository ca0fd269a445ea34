"""squidpy's quality metrics by tile, of an image of one channel in SpatialData."""

import dask.array as da
import spatialdata
import squidpy
from squidpy.experimental.im import QCMetric

PACKAGE = "squidpy"


def prepare(path):
    return da.from_zarr(path)


def qc_image(image):
    element = spatialdata.models.Image2DModel.parse(image, dims=("c", "y", "x"))
    sdata = spatialdata.SpatialData(images={"image": element})
    squidpy.experimental.im.qc_image(
        sdata, "image", metrics=[QCMetric.TENENGRAD, QCMetric.VAR_OF_LAPLACIAN],
        tile_size=(256, 256), is_hne=False, detect_outliers=False, detect_tissue=False,
        progress=False, preview=False,
    )  # fmt: skip
    table = sdata.tables["qc_img_image"].to_df()
    return table.filter(like="laplacian").to_numpy(dtype="f8").ravel()


FUNCTIONS = {"qc_image": qc_image}
