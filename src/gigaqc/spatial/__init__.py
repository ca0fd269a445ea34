"""The same functions on elements of SpatialData (``gq.spatial``).

Each returns the ``SpatialData`` that it was given. Results are written to the store that backs it,
chunk by chunk and complete or absent; without a store they are lazy elements in memory.
"""

from typing import TYPE_CHECKING, Any

from gigaqc.errors import no_attribute
from gigaqc.spatial.assess import assess
from gigaqc.spatial.images import (
    add_images,
    cluster_pixels,
    pixel_clustering_preprocess,
    segment_nuclei,
)
from gigaqc.spatial.noise import gain_map, isnr_map, tsnr_map

__all__ = [
    "add_images",
    "assess",
    "cluster_pixels",
    "gain_map",
    "isnr_map",
    "pixel_clustering_preprocess",
    "segment_nuclei",
    "tsnr_map",
]

if not TYPE_CHECKING:  # a type checker that sees __getattr__ would accept every name

    def __getattr__(name: str) -> Any:
        raise no_attribute("module 'gigaqc.spatial'", name, __all__)
