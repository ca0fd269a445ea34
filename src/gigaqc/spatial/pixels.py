"""Pixels of SpatialData elements, prepared and clustered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from gigaqc import clusters, preprocess
from gigaqc.sdata import transformations_of
from gigaqc.spatial.elements import (
    Chunks,
    Form,
    Layers,
    add,
    as_json,
    check_outputs,
    images_of,
    names_of,
    note,
)
from gigaqc.typing import ChannelLike, MaskLike
from gigaqc.writers.write import ScaleFactors

if TYPE_CHECKING:
    from spatialdata import SpatialData


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
    layers, outputs = names_of(img_layer, output_layer)
    elements = images_of(sdata, layers)
    check_outputs(sdata, outputs, "images", overwrite)
    form = Form.of(elements, chunks, scale_factors)
    results = preprocess.pixel_clustering_preprocess(
        elements, channels=channels, q=q, q_sum=q_sum, q_post=q_post, sigma=sigma,
        norm_sum=norm_sum, cap=cap, pool=pool,
    )  # fmt: skip
    systems = [transformations_of(sdata, layer) for layer in layers]
    add(sdata, "images", outputs, results, form, systems)
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
    layers, outputs = names_of(img_layer, output_layer)
    elements = images_of(sdata, layers)
    check_outputs(sdata, outputs, "labels", overwrite)
    form = Form.of(elements, chunks, scale_factors)
    found = clusters.cluster_pixels(
        elements, n_clusters, method=method, channels=channels, mask=mask, fraction=fraction,
        seed=seed,
    )  # fmt: skip
    systems = [transformations_of(sdata, layer) for layer in layers]
    add(sdata, "labels", outputs, list(found.labels), form, systems)
    about = {
        "method": method,
        "profile": {str(c): as_json(means.to_dict()) for c, means in found.profile.iterrows()},
        "pixels": {str(c): int(n) for c, n in found.sizes.items()},
    }
    note(sdata, dict.fromkeys(outputs, about))
    return sdata
