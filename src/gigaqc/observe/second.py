"""The second read of a block of floats: exact values where they are asked for, and hot pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from gigaqc.distribution import (
    Refined,
    layout_of,
)
from gigaqc.kernels import accumulate, fused, planes
from gigaqc.kernels.dispatch import of_place
from gigaqc.observe.blocks import (
    HALO,
    Channels,
    Edges,
    Place,
    Request,
    Strips,
    finite_values,
)
from gigaqc.observe.registry import Part
from gigaqc.observe.seams import seam_between


@dataclass(frozen=True)
class Second:
    """What a second read of floats is for: bins to refine, and what is a hot pixel."""

    bins: tuple[np.ndarray, ...]
    limit: np.ndarray
    unit: np.ndarray


@dataclass(frozen=True)
class Again:
    """What a second read gives: refined bins, hot pixels; and edges for the seams."""

    refined: tuple[Refined, ...]
    hot: np.ndarray
    edges: Edges

    def merge(self, other: Again) -> Again:
        """What both gave, where there is no seam between them."""
        refined = tuple(a.merge(b) for a, b in zip(self.refined, other.refined, strict=True))
        return replace(self, refined=refined, hot=self.hot + other.hot)


def observe_again(
    channels: Iterable[np.ndarray],
    masks: Channels | None,
    place: Place,
    request: Request,
    second: Second,
) -> Again:
    """Second read of a block of floats or wide integers."""
    layout = layout_of(request.dtype)
    assert layout is not None
    refined, hot, kept = [], [], []
    shape = (0, 0)
    for c, channel in enumerate(channels):
        native, shape = channel.astype(layout.float_type, copy=False), channel.shape[-2:]
        inside = native.ravel() if masks is None else native[masks[c]]
        values, counts = of_place(inside, accumulate, planes).values_in(
            inside, second.bins[c], layout
        )
        refined.append(Refined(second.bins[c], values, counts))
        if not request.parts & Part.RESPONSE:
            hot.append(0)
            continue
        plane = finite_values(native)
        if masks is not None:
            plane[~masks[c]] = np.nan
        hot.append(_hot(plane, (1, shape[0] - 1, 1, shape[1] - 1), second, c))
        kept.append(plane)
    strips = Strips.cut(kept, place, 2 * HALO) if kept else None
    return Again(tuple(refined), np.array(hot, "i8"), Edges(place, shape, strips))


def _hot(values: np.ndarray, bounds: tuple, second: Second, channel: int) -> int:
    limit, unit = float(second.limit[channel]), float(second.unit[channel])
    if not np.isfinite(limit):
        return 0
    hot_plane = of_place(values, fused, planes).hot_plane
    return sum(hot_plane(p, bounds, limit, unit) for frame in values for p in frame)


def join_again(first: Again, second: Again, axis: int, request: Request, plan: Second) -> Again:
    """One of two rectangles, with the hot pixels of the seam between them."""
    both = first.merge(second)
    hot = both.hot.copy()
    seam = seam_between(first.edges, second.edges, axis)
    if request.parts & Part.RESPONSE and seam.values is not None:
        for c, values in enumerate(seam.values):
            hot[c] += _hot(np.ascontiguousarray(values), seam.bounds, plan, c)
    return Again(both.refined, hot, first.edges.joined(second.edges, axis))
