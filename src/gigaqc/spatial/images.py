"""Images of SpatialData elements: transformed, prepared, clustered, segmented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gigaqc.errors import ParameterError
from gigaqc.image.labelled import as_image
from gigaqc.spatial.elements import Chunks, Form, Making, add, check_outputs, listed_names
from gigaqc.writers.write import ScaleFactors

if TYPE_CHECKING:
    from spatialdata import SpatialData


from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from gigaqc import clusters, transforms
from gigaqc.spatial.elements import Layers, as_json, names_of
from gigaqc.typing import ChannelLike, MaskLike

if TYPE_CHECKING:
    from spatialdata import SpatialData


import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from gigaqc import segmentation

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


def pixel_clustering_preprocess(
    sdata: SpatialData,
    img_layer: Layers,
    output_layer: Layers,
    channels: Sequence[ChannelLike] | None = None,
    q: float | None = 99,
    q_sum: float | None = 5,
    q_post: float | None = 99.9,
    sigma: float | Sequence[float | None] | None = 2,
    norm_sum: bool = True,
    chunks: Chunks = None,
    scale_factors: ScaleFactors | None = None,
    overwrite: bool = False,
    *,
    cap: float | None = None,
    pool: Literal["mean", "exact"] = "mean",
) -> SpatialData:
    """`gigaqc.pixel_clustering_preprocess` of image elements; runs now where there is a store.

    Parameters
    ----------
    sdata
        Holds the elements.
    img_layer, output_layer
        Names of the image elements to prepare, and of those that are made; one, or lists of the
        same length.
    channels, q, q_sum, q_post, sigma, norm_sum, cap, pool
        As in `gigaqc.pixel_clustering_preprocess`.
    chunks
        Of the result: one number for y and x, or one for each of the last axes, such as (y, x) or
        (c, y, x); by default those of the image.
    scale_factors
        Coarser levels, each by this factor from the one before, as in `gigaqc.write_image`:
        ``[2, 2]``, ``[{"y": 2, "x": 2}]``, or by level, ``{"scale1": 2, "scale2": 4}``.
    overwrite
        Replace elements of that name. They stay until the new ones are complete, so that a layer
        may replace itself.

    Returns
    -------
    SpatialData
        `sdata`, with the new elements: float32, with the transformations of the images and the
        names of their channels.

    Raises
    ------
    ElementError
        When there is no such image element.
    WriteError
        When a name is taken and not `overwrite`, before anything is computed; or when the store
        cannot be written, or is of zarr 2.
    ParameterError
        Lists that do not fit; and as `gigaqc.pixel_clustering_preprocess`.
    """
    names = names_of(img_layer, output_layer)
    making = Making.of(sdata, "images", *names, chunks, scale_factors, overwrite)
    results = transforms.pixel_clustering_preprocess(
        making.images, channels=channels, q=q, q_sum=q_sum, q_post=q_post, sigma=sigma,
        norm_sum=norm_sum, cap=cap, pool=pool,
    )  # fmt: skip
    making.put(results)
    return sdata


def cluster_pixels(
    sdata: SpatialData,
    img_layer: Layers,
    output_layer: Layers,
    n_clusters: int,
    *,
    method: Literal["gmm", "kmeans", "flowsom"] = "gmm",
    channels: Sequence[ChannelLike] | None = None,
    mask: MaskLike | Sequence[MaskLike | None] | None = None,
    fraction: float = 0.1,
    seed: int = 0,
    chunks: Chunks = None,
    scale_factors: ScaleFactors | None = None,
    overwrite: bool = False,
) -> SpatialData:
    """`gigaqc.cluster_pixels` of image elements, as labels elements. Runs now.

    Parameters
    ----------
    sdata
        Holds the elements.
    img_layer, output_layer
        Names of the image elements, and of the labels elements that are made; one, or lists of the
        same length, whose pixels get one model.
    n_clusters, method, channels, mask, fraction, seed
        As in `gigaqc.cluster_pixels`.
    chunks, scale_factors, overwrite
        As in `pixel_clustering_preprocess`.

    Returns
    -------
    SpatialData
        `sdata`, with the labels elements, in the transformations of the images. The profile of the
        clusters (cluster by channel) is in ``sdata.attrs["gigaqc"][output]``, with the method.

    Raises
    ------
    ElementError, WriteError, ParameterError
        As `pixel_clustering_preprocess` and `gigaqc.cluster_pixels`.
    """
    names = names_of(img_layer, output_layer)
    making = Making.of(sdata, "labels", *names, chunks, scale_factors, overwrite)
    found = clusters.cluster_pixels(
        making.images, n_clusters, method=method, channels=channels, mask=mask, fraction=fraction,
        seed=seed,
    )  # fmt: skip
    about = {
        "method": method,
        "profile": {str(c): as_json(means.to_dict()) for c, means in found.profile.iterrows()},
        "pixels": {str(c): int(n) for c, n in found.sizes.items()},
    }
    making.put(list(found.labels), about)
    return sdata


def segment_nuclei(
    sdata: SpatialData,
    img_layer: Layers,
    output_layer: Layers,
    channel: str | int,
    *,
    method: segmentation.SegmentationMethod | Callable[[np.ndarray], Any] = "watershed",
    diameter: float | None = None,
    tile: int = 1024,
    overlap: int | None = None,
    normalize: tuple[float, float] | Literal[False] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    temporary: str | os.PathLike[str] | None = None,
    chunks: Chunks = None,
    scale_factors: ScaleFactors | None = None,
    overwrite: bool = False,
    **options: Any,
) -> SpatialData:
    """`gigaqc.segment_nuclei` of image elements, as labels; runs now where there is a store.

    Parameters
    ----------
    sdata
        Holds the elements.
    img_layer, output_layer
        Names of the image elements, and of the labels elements that are made; one, or lists of the
        same length.
    channel, method, diameter, tile, overlap, normalize, on_error, temporary, **options
        As in `gigaqc.segment_nuclei`.
    chunks
        Of the result: one number for y and x, or one for each of the last axes; by default the
        tiles.
    scale_factors, overwrite
        As in `gigaqc.spatial.pixel_clustering_preprocess`.

    Returns
    -------
    SpatialData
        `sdata`, with the labels elements, in the transformations of the images. Method and channel
        are in ``sdata.attrs["gigaqc"][output]``.

    Raises
    ------
    ElementError, WriteError
        As `gigaqc.spatial.pixel_clustering_preprocess`.
    ChannelError, ParameterError, MissingDependencyError, SegmentationError
        As `gigaqc.segment_nuclei`.
    """
    names = names_of(img_layer, output_layer)
    making = Making.of(sdata, "labels", *names, chunks, scale_factors, overwrite)
    labels = [
        segmentation.segment_nuclei(
            element, channel, method=method, diameter=diameter, tile=tile, overlap=overlap,
            normalize=normalize, on_error=on_error, temporary=temporary, **options,
        )
        for element in making.images
    ]  # fmt: skip
    name = method if isinstance(method, str) else getattr(method, "__name__", "function")
    shown = channel if isinstance(channel, str) else int(channel)
    making.put(labels, {"method": name, "channel": shown})
    return sdata
