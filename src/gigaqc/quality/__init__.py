"""The public metric functions: an image or a `Statistics` in, a labelled result out.

Each is lazy when given an image (or a lazy scan), and reads no pixel when given a `Statistics`.
"""

from gigaqc.quality.artifacts import acquisition_artifacts, focus, tissue_integrity
from gigaqc.quality.channels import (
    channel_correlation,
    colocalization,
    histogram,
    joint_histogram,
    unexpected_correlations,
)
from gigaqc.quality.intensity import dynamic_range, quantile, signal_to_noise, stained_area
from gigaqc.quality.objects import object_table, segmentation_quality

__all__ = [
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
]
