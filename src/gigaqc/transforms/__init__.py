"""Transforms: lazy image to lazy image."""

from gigaqc.transforms.histogram import equalize_histogram
from gigaqc.transforms.intensity import arcsinh, normalize_percentiles, normalize_to_channel
from gigaqc.transforms.neighbours import gaussian_blur, remove_hot_pixels

__all__ = [
    "arcsinh",
    "equalize_histogram",
    "gaussian_blur",
    "normalize_percentiles",
    "normalize_to_channel",
    "remove_hot_pixels",
]
