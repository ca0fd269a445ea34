"""Noise in intensity and in time."""
