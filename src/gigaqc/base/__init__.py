"""What everything stands on: arrays on host or device, geometry, the machine, names, words."""

from __future__ import annotations

__version__ = "0.1.0.dev0"
