"""Some combinations of the parameters of a test, in which all that should meet does."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any


def covering(combinations: list[set[Any]], n: int) -> set[int]:
    """Which combinations are enough for any ``n`` values to meet; equals are taken in turn."""
    meeting = [set(itertools.combinations(sorted(one), n)) for one in combinations]
    missing, found, used = set().union(*meeting), set[int](), Counter[Any]()

    def gain(at: int) -> tuple[int, int]:
        return len(meeting[at] & missing), -sum(used[value] for value in combinations[at])

    while missing:
        best = max(range(len(combinations)), key=gain)
        found.add(best)
        missing -= meeting[best]
        used.update(combinations[best])
    return found
