"""What is computed of flat channels, written for the array API: for pixels on a device.

A channel is a flat array of any namespace of the Python array API standard. Counts are as exact as
on the host.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gigaqc.backend import beside, namespace_of
from gigaqc.kernels.planes import occurrences


def finite(values: Any, within: Any = None) -> Any:
    """The finite values of an array as flat float64; only those inside a mask, if there is one."""
    xp = namespace_of(values)
    flat = xp.astype(xp.reshape(values, (-1,)), xp.float64)
    keep = xp.isfinite(flat)
    return flat[keep if within is None else keep & xp.reshape(within, (-1,))]


def extremes(values: Any) -> tuple[float, float]:
    """Smallest and largest of flat finite values; low > high without any."""
    if not values.shape[0]:
        return math.inf, -math.inf
    xp = namespace_of(values)
    return float(xp.min(values)), float(xp.max(values))


def histogram(values: Any, edges: np.ndarray) -> np.ndarray:
    """Counts of flat values between ascending edges, the last one inclusive."""
    xp = namespace_of(values)
    held = values[(values >= float(edges[0])) & (values <= float(edges[-1]))]
    bins = xp.searchsorted(beside(edges, values), held, side="right") - 1
    return occurrences(xp.clip(bins, 0, edges.size - 2), edges.size - 1)
