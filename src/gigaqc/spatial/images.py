"""Images of any file as elements of SpatialData."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gigaqc.errors import ParameterError
from gigaqc.image import as_image
from gigaqc.spatial.elements import Chunks, Form, add, check_outputs, listed_names
from gigaqc.writers.write import ScaleFactors

if TYPE_CHECKING:
    from spatialdata import SpatialData


def add_images(
    sdata: SpatialData,
    images: Mapping[str, Any],
    *,
    chunks: Chunks = None,
    scale_factors: ScaleFactors | None = None,
    overwrite: bool = False,
) -> SpatialData:
    """Put images into a SpatialData as elements; written now where there is a store.

    Parameters
    ----------
    sdata
        Gets the elements; all or none of them.
    images
        Names of the elements, and for each anything that `gigaqc` takes as an image, with dims
        ``c y x`` or ``c z y x``: what `gigaqc.open_image` or a transform gives.
    chunks, scale_factors, overwrite
        As in `pixel_clustering_preprocess`.

    Returns
    -------
    SpatialData
        `sdata`, with the new elements: the pixels and channel names of the images, in pixels
        (``Identity``) in the coordinate system ``global``.

    Raises
    ------
    ParameterError
        No mapping of names to images; names that SpatialData does not allow; images with ``t``.
    WriteError
        When a name is taken and not `overwrite`, before anything is computed; or when the store
        cannot be written, or is of zarr 2.

    Examples
    --------
    >>> import gigaqc as gq, spatialdata
    >>> sdata = spatialdata.SpatialData()
    >>> list(gq.spatial.add_images(sdata, {"ht29": gq.example_image()}).images)
    ['ht29']
    """
    if not isinstance(images, Mapping) or not images:
        raise ParameterError(
            f"images: got {type(images).__name__}; pass a mapping of names to images, such as "
            "{'slide': gq.open_image(path)}."
        )
    outputs = listed_names("images", list(images))
    elements = [as_image(image, argument="images") for image in images.values()]
    for name, element in zip(outputs, elements, strict=True):
        if "t" in element.dims:
            raise ParameterError(
                f"images: {name!r} has an axis t, which SpatialData does not know; pass one frame, "
                "image.isel(t=0)."
            )
    check_outputs(sdata, outputs, "images", overwrite)
    from spatialdata.transformations import Identity

    systems: list[Mapping[str, Any]] = [{"global": Identity()} for _ in outputs]
    add(sdata, "images", outputs, elements, Form.of(elements, chunks, scale_factors), systems)
    return sdata
