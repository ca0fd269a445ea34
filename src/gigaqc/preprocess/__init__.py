"""Preparation of images for the clustering of their pixels."""

from gigaqc.preprocess.pixels import pixel_clustering_preprocess

__all__ = ["pixel_clustering_preprocess"]
