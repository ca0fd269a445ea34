"""Pictures of results (``gq.pl``): thumbnails, histograms, correlations, tiles, clusters, maps.

Every function takes results and never reads a pixel beyond a thumbnail. One that draws a single
axes takes ``ax=`` and returns it; without ``ax`` it makes a figure with `matplotlib.pyplot`, as a
notebook expects. matplotlib is imported when a picture is first asked for.
"""

from typing import TYPE_CHECKING, Any

from gigaqc.errors import no_attribute
from gigaqc.plot.clusters import (
    before_after,
    cluster_choice,
    cluster_profile,
    cluster_scatter,
    clusterings,
    clusters,
)
from gigaqc.plot.cohort import cohort_drift, cohort_strip
from gigaqc.plot.maps import compare_maps, map
from gigaqc.plot.noise import mixture, photon_transfer
from gigaqc.plot.objects import (
    counts,
    nuclei,
    object_density,
    object_distributions,
    region_histogram,
)
from gigaqc.plot.results import (
    DIVERGING,
    SEQUENTIAL,
    channels,
    contrast_limits,
    correlation,
    histograms,
    joint_histogram,
    printable,
    summary,
    tile_map,
    tiles,
)

__all__ = [
    "DIVERGING",
    "SEQUENTIAL",
    "before_after",
    "channels",
    "cluster_choice",
    "cluster_profile",
    "cluster_scatter",
    "clusterings",
    "clusters",
    "cohort_drift",
    "cohort_strip",
    "compare_maps",
    "contrast_limits",
    "correlation",
    "counts",
    "histograms",
    "joint_histogram",
    "map",
    "mixture",
    "nuclei",
    "object_density",
    "object_distributions",
    "photon_transfer",
    "printable",
    "region_histogram",
    "summary",
    "tile_map",
    "tiles",
]

if not TYPE_CHECKING:  # a type checker that sees __getattr__ would accept every name

    def __getattr__(name: str) -> Any:
        raise no_attribute("module 'gigaqc.plot'", name, __all__)
