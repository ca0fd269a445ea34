"""Noise in intensity and in time."""

from gigaqc.noise.intensity import isnr, isnr_components, isnr_map

__all__ = ["isnr", "isnr_components", "isnr_map"]
