"""Nuclei of SpatialData elements."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gigaqc import segmentation
from gigaqc.sdata import transformations_of
from gigaqc.spatial.elements import (
    Chunks,
    Form,
    Layers,
    add,
    check_outputs,
    images_of,
    names_of,
    note,
)
from gigaqc.writers.write import ScaleFactors

if TYPE_CHECKING:
    from spatialdata import SpatialData


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
    layers, outputs = names_of(img_layer, output_layer)
    elements = images_of(sdata, layers)
    check_outputs(sdata, outputs, "labels", overwrite)
    form = Form.of(elements, chunks, scale_factors)
    labels = [
        segmentation.segment_nuclei(
            element, channel, method=method, diameter=diameter, tile=tile, overlap=overlap,
            normalize=normalize, on_error=on_error, temporary=temporary, **options,
        )
        for element in elements
    ]  # fmt: skip
    systems = [transformations_of(sdata, layer) for layer in layers]
    add(sdata, "labels", outputs, labels, form, systems)
    name = method if isinstance(method, str) else getattr(method, "__name__", "function")
    shown = channel if isinstance(channel, str) else int(channel)
    note(sdata, {output: {"method": name, "channel": shown} for output in outputs})
    return sdata
