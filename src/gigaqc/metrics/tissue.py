"""How much of an image is tissue, and in how many pieces, from areas."""

from __future__ import annotations

import math

MAX_FRAGMENTATION = 0.5  # of tissue that counts as intact


def coverage(positive: int, valid: int) -> float:
    """Part of the valid pixels that is tissue; NaN without valid pixels."""
    return positive / valid if valid else math.nan


def fragmentation(largest: int, total: int) -> float:
    """1 - largest/total, both areas of counted components; 1 without tissue."""
    return 1.0 - largest / total if total else 1.0


def intact(coverage: float, fragmentation: float, min_coverage: float) -> bool:
    """Whether there is enough tissue and most of it hangs together; False for a NaN coverage."""
    return coverage > min_coverage and fragmentation < MAX_FRAGMENTATION
