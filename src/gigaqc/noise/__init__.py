"""Noise in intensity and in time."""

from gigaqc.noise.temporal import temporal_statistics, tsnr_map, tsnr_summary

__all__ = ["temporal_statistics", "tsnr_map", "tsnr_summary"]
