"""Noise in intensity and in time."""

from gigaqc.noise.gain import gain_map
from gigaqc.noise.intensity import isnr, isnr_components, isnr_map
from gigaqc.noise.temporal import temporal_statistics, tsnr_map, tsnr_summary

__all__ = [
    "gain_map",
    "isnr",
    "isnr_components",
    "isnr_map",
    "temporal_statistics",
    "tsnr_map",
    "tsnr_summary",
]
