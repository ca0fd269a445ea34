"""The version, where the lowest level and the build can read it."""

__version__ = "0.1.0.dev0"
