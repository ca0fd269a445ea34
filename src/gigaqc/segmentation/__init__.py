"""Objects in images: segmented tile by tile, stitched to one label image."""

from gigaqc.segmentation.nuclei import Method, segment_nuclei

__all__ = ["Method", "segment_nuclei"]
