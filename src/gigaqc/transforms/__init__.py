"""Transforms and preparation for pixel clustering: lazy image to lazy image."""

from gigaqc.transforms.intensity import (
    arcsinh,
    equalize_histogram,
    normalize_percentiles,
    normalize_to_channel,
)
from gigaqc.transforms.neighbours import gaussian_blur, remove_hot_pixels
from gigaqc.transforms.preprocess import pixel_clustering_preprocess

__all__ = [
    "arcsinh",
    "equalize_histogram",
    "gaussian_blur",
    "normalize_percentiles",
    "normalize_to_channel",
    "pixel_clustering_preprocess",
    "remove_hot_pixels",
]
