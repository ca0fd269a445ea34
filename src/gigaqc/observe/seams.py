"""The seams between blocks: what no block sees alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gigaqc import states
from gigaqc.distribution import CodeHistogram, Histogram, KeyHistogram
from gigaqc.observe.blocks import (
    DEAD_HALO,
    HALO,
    NEIGHBOURHOOD,
    Edges,
    Partial,
    Request,
    Seam,
    Strips,
    end_to_end,
)
from gigaqc.observe.state import State
from gigaqc.observe.tables import SweptSeam, Tables


def join_partials(first: Partial, second: Partial, axis: int, request: Request) -> Partial:
    """One partial of two rectangles; the second lies to the right (axis -1) or below (-2)."""
    state = first.state.merge(second.state)
    seam = seam_between(first.edges, second.edges, axis)
    state = state.merge(_observe_seam(seam, state, request))
    return Partial(state, first.edges.joined(second.edges, axis))


def seam_between(first: Edges, second: Edges, axis: int) -> Seam:
    """The seam between two rectangles; the second lies to the right (axis -1) or below (-2)."""
    place, (height, width) = first.place, first.shape
    h, d = HALO, DEAD_HALO
    if axis == -1:
        rows = (d if place.top else 0, height - d if place.bottom else height)
        return Seam(
            beside(first.values, second.values, "right", "left", axis),
            _zeros_beside(first.flags, second.flags, "right", "left", axis),
            replace(place, x=place.x + width - 2 * h),
            (h, height - h, h, 3 * h), (*rows, d, 3 * d), axis,
        )  # fmt: skip
    columns = (d if place.left else 0, width - d if place.right else width)
    return Seam(
        beside(first.values, second.values, "bottom", "top", axis),
        _zeros_beside(first.flags, second.flags, "bottom", "top", axis),
        replace(place, y=place.y + height - 2 * h),
        (h, 3 * h, h, width - h), (d, 3 * d, *columns), axis,
    )  # fmt: skip


def beside(
    mine: Strips | None, other: Strips | None, edge: str, other_edge: str, axis: int
) -> np.ndarray | None:
    """The strips at both sides of a seam, as one array."""
    if mine is None or other is None:
        return None
    return end_to_end(getattr(mine, edge), getattr(other, other_edge), axis)


def _zeros_beside(
    mine: Strips | None, other: Strips | None, edge: str, other_edge: str, axis: int
) -> np.ndarray | None:
    """1 where pixels at both sides of a seam are zero; None where none is, or nobody asks."""
    if mine is None or other is None:
        return None
    packed = (getattr(mine, edge), getattr(other, other_edge))
    if not any(bits.any() for bits in packed):
        return None
    apart = [np.unpackbits(bits, axis=axis, count=2 * DEAD_HALO) for bits in packed]
    return np.concatenate(apart, axis=axis)


def _observe_seam(seam: Seam, state: State, request: Request) -> State:
    """Sums of the centres and pairs of a seam, about the shift of `state`."""
    wanted = replace(request, parts=request.parts & NEIGHBOURHOOD)
    tables: list[Tables] = []
    if seam.values is not None:
        shape = seam.values.shape[1:]
        tables = [Tables(shape, seam.place, wanted, seam.bounds) for _ in state.shift]
        if wanted.parts and seam.bounds[0] < seam.bounds[1] and seam.bounds[2] < seam.bounds[3]:
            for table, values in zip(tables, seam.values, strict=True):
                table.sweep(values, upright=seam.axis == -1)
    swept = SweptSeam(seam, tables, state.shift, request)
    added = State(state.shift, _nothing(state.histogram), _none(state.tally))
    found = {kind.key: kind.at_seam(swept) for kind in request.kinds if kind.at_seam is not None}
    return added.holding(found)


def _none(tally: states.Tally) -> states.Tally:
    return states.Tally(np.zeros_like(tally.table))


def _nothing(histogram: Histogram) -> Histogram:
    if isinstance(histogram, CodeHistogram):
        return CodeHistogram.empty(len(histogram.counts), histogram.bias)
    return KeyHistogram.empty(len(histogram.channels), histogram.layout)
