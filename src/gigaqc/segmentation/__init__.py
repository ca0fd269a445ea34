"""Objects in images: segmented tile by tile, stitched to one label image."""

from gigaqc.segmentation.nuclei import segment_nuclei

__all__ = ["segment_nuclei"]
