"""Clusters of pixels: trained on a sample, predicted everywhere."""

from gigaqc.clusters.model import PixelModel
from gigaqc.clusters.pixels import PixelClusters, choose_n_clusters, cluster_pixels

__all__ = ["PixelClusters", "PixelModel", "choose_n_clusters", "cluster_pixels"]
