"""Objects in images: segmented tile by tile, stitched to one label image."""

from gigaqc.segmentation.counts import count_nuclei
from gigaqc.segmentation.nuclei import SegmentationMethod, segment_nuclei

__all__ = ["SegmentationMethod", "count_nuclei", "segment_nuclei"]
