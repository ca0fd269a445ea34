"""Quality control of very large images, in one read of their chunks.

>>> import gigaqc as gq
>>> verdict = gq.assess("slide.ome.tiff")       # one read; runs now, with a progress bar
>>> verdict.to_html("slide.html")
>>> image = gq.open_image("slide.ome.tiff")     # lazy: no pixel is read
>>> gq.signal_to_noise(image)                   # one metric; or image.gq.signal_to_noise()

An image is a path or URL, an `xarray.DataArray`, an element of SpatialData, or an array.

Open
    open_image                   lazily, from a path or URL
    open_labels                  the same, of a label image
    list_images                  names of the images that a source holds
    example_image                human cells, which come along
    region                       a rectangle, polygon or mask of it, as an image
    to_gpu                       with chunks that go to a GPU when they are read

Measure
    scan                         one read, from which every metric follows
    Statistics                   what a scan gives: saved, loaded, added
    explain                      what a run will take, before a pixel is read
    signal_to_noise              of each channel: the recipe's, Otsu's, that of structure
    acquisition_artifacts        clipping, hot pixels, dead areas, stripes
    dynamic_range                how much of its range each channel uses
    focus                        sharpness by tile and of the whole
    tissue_integrity             how much is tissue, in how many pieces
    channel_correlation          Pearson's r of every pair of channels
    unexpected_correlations      pairs that correlate though nobody expects it
    colocalization               two channels pixel by pixel: Pearson, Manders
    stained_area                 how much of each channel is above a threshold
    quantile                     exact quantiles
    histogram                    counts of a channel's values
    joint_histogram              counts of pairs of values of two channels
    object_table                 one row an object of a label image
    segmentation_quality         whether objects look as cells do

Judge
    assess                       all of it, with verdicts
    Assessment                   what that gives: tables, maps, flags, a page
    assess_batch                 many samples into one folder
    Cohort                       what that gives: outliers, drift, one table
    Rules                        limits: built in, or a lab's own from TOML
    metrics                      every number, its formula and its limits, as a table
    Metric                       the record of one of them
    add_metric                   one of your own, in tables, pages, rules and cohorts
    remove_metric                takes it out again

Prepare
    normalize_percentiles        divide by a percentile of the channel
    normalize_to_channel         clip and scale to mean and std of a channel
    arcsinh                      as mass cytometry does
    equalize_histogram           ranks instead of values
    gaussian_blur                without seams
    remove_hot_pixels            single pixels far above their neighbours
    pixel_clustering_preprocess  all that Pixie does before it clusters

Cluster
    cluster_pixels               train on a sample, label all pixels
    choose_n_clusters            how well numbers of clusters fit
    PixelClusters                labels, model, profile
    PixelModel                   labels other images, saved and loaded

Noise
    isnr                         signal to noise from the histogram of the background
    isnr_map                     the same, pixel by pixel
    isnr_components              which component a pixel belongs to
    tsnr_map                     signal to noise along time, pixel by pixel
    tsnr_summary                 of whole channels or regions
    temporal_statistics          mean, std, frames and tsnr of each pixel
    gain_map                     electrons a grey value, of a camera and of each pixel

Segment
    segment_nuclei               tile by tile, without seams
    count_nuclei                 of many images in one call, as a table

Write
    write_image                  OME-Zarr, OME-TIFF or NIfTI, complete or absent
    write_labels                 the same, of a label image

Beside them
    pl                           pictures of results
    spatial                      the same functions on elements of SpatialData
    testing                      phantoms with known answers, and instruments
    errors                       exceptions and warnings
    typing                       what is taken for an image, labels, a mask, a channel
    __version__                  of the package

A name is imported from its module when it is first used, so that ``import gigaqc`` costs hardly
more than numpy, dask and xarray do.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import TYPE_CHECKING, Any

from gigaqc.base import __version__
from gigaqc.image import accessor as _accessor

if TYPE_CHECKING:
    from gigaqc import errors, spatial, testing, typing
    from gigaqc import plot as pl
    from gigaqc.clusters import PixelClusters, PixelModel, choose_n_clusters, cluster_pixels
    from gigaqc.cohort import Cohort, assess_batch
    from gigaqc.formulas.catalogue import add_metric, metrics, remove_metric
    from gigaqc.formulas.record import Metric
    from gigaqc.formulas.rules import Rules
    from gigaqc.image.devices import to_gpu
    from gigaqc.noise import (
        gain_map,
        isnr,
        isnr_components,
        isnr_map,
        temporal_statistics,
        tsnr_map,
        tsnr_summary,
    )
    from gigaqc.quality import (
        acquisition_artifacts,
        channel_correlation,
        colocalization,
        dynamic_range,
        focus,
        histogram,
        joint_histogram,
        object_table,
        quantile,
        segmentation_quality,
        signal_to_noise,
        stained_area,
        tissue_integrity,
        unexpected_correlations,
    )
    from gigaqc.quality.regions import region
    from gigaqc.readers import example_image, list_images, open_image, open_labels
    from gigaqc.scanning.scan import scan
    from gigaqc.segmentation import count_nuclei, segment_nuclei
    from gigaqc.statistics.statistics import Statistics
    from gigaqc.transforms import (
        arcsinh,
        equalize_histogram,
        gaussian_blur,
        normalize_percentiles,
        normalize_to_channel,
        pixel_clustering_preprocess,
        remove_hot_pixels,
    )
    from gigaqc.verdict.assessment import Assessment, assess
    from gigaqc.verdict.explain import explain
    from gigaqc.writers import write_image, write_labels

__all__ = [
    "Assessment",
    "Cohort",
    "Metric",
    "PixelClusters",
    "PixelModel",
    "Rules",
    "Statistics",
    "__version__",
    "acquisition_artifacts",
    "add_metric",
    "arcsinh",
    "assess",
    "assess_batch",
    "channel_correlation",
    "choose_n_clusters",
    "cluster_pixels",
    "colocalization",
    "count_nuclei",
    "dynamic_range",
    "equalize_histogram",
    "errors",
    "example_image",
    "explain",
    "focus",
    "gain_map",
    "gaussian_blur",
    "histogram",
    "isnr",
    "isnr_components",
    "isnr_map",
    "joint_histogram",
    "list_images",
    "metrics",
    "normalize_percentiles",
    "normalize_to_channel",
    "object_table",
    "open_image",
    "open_labels",
    "pixel_clustering_preprocess",
    "pl",
    "quantile",
    "region",
    "remove_hot_pixels",
    "remove_metric",
    "scan",
    "segment_nuclei",
    "segmentation_quality",
    "signal_to_noise",
    "spatial",
    "stained_area",
    "temporal_statistics",
    "testing",
    "tissue_integrity",
    "to_gpu",
    "tsnr_map",
    "tsnr_summary",
    "typing",
    "unexpected_correlations",
    "write_image",
    "write_labels",
]

logging.getLogger("gigaqc").addHandler(logging.NullHandler())
_accessor.install(lambda name: getattr(sys.modules[__name__], name))

_MODULES = {
    "errors": "errors",
    "pl": "plot",
    "spatial": "spatial",
    "testing": "testing",
    "typing": "typing",
}

_HOMES = {
    "verdict.assessment": ("Assessment", "assess"),
    "clusters": ("PixelClusters", "PixelModel", "choose_n_clusters", "cluster_pixels"),
    "cohort": ("Cohort", "assess_batch"),
    "image.devices": ("to_gpu",),
    "formulas.catalogue": ("add_metric", "metrics", "remove_metric"),
    "formulas.record": ("Metric",),
    "noise": (
        "gain_map",
        "isnr",
        "isnr_components",
        "isnr_map",
        "temporal_statistics",
        "tsnr_map",
        "tsnr_summary",
    ),
    "quality": (
        "acquisition_artifacts",
        "channel_correlation",
        "colocalization",
        "dynamic_range",
        "focus",
        "histogram",
        "joint_histogram",
        "object_table",
        "quantile",
        "segmentation_quality",
        "signal_to_noise",
        "stained_area",
        "tissue_integrity",
        "unexpected_correlations",
    ),
    "readers": ("example_image", "list_images", "open_image", "open_labels"),
    "quality.regions": ("region",),
    "formulas.rules": ("Rules",),
    "verdict.explain": ("explain",),
    "scanning.scan": ("scan",),
    "segmentation": ("count_nuclei", "segment_nuclei"),
    "statistics.statistics": ("Statistics",),
    "transforms": (
        "arcsinh",
        "equalize_histogram",
        "gaussian_blur",
        "normalize_percentiles",
        "normalize_to_channel",
        "pixel_clustering_preprocess",
        "remove_hot_pixels",
    ),
    "writers": ("write_image", "write_labels"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # a type checker that sees __getattr__ would accept every name

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            value = importlib.import_module(f"gigaqc.{_MODULES[name]}")
        elif name in _HOME_OF:
            value = getattr(importlib.import_module(f"gigaqc.{_HOME_OF[name]}"), name)
        else:
            from gigaqc.errors import no_attribute

            raise no_attribute("module 'gigaqc'", name, __all__)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
