"""The seams between blocks: what no block sees alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gigaqc import states
from gigaqc.distribution import (
    CodeHistogram,
    Histogram,
    KeyHistogram,
    bias_of,
)
from gigaqc.kernels import fused
from gigaqc.observe.blocks import (
    DEAD_HALO,
    HALO,
    NEIGHBOURHOOD,
    Edges,
    Partial,
    Place,
    Request,
    Strips,
    end_to_end,
)
from gigaqc.observe.tables import Tables, artifacts_of, focus_of
from gigaqc.statistics import Part, State


def join_partials(first: Partial, second: Partial, axis: int, request: Request) -> Partial:
    """One partial of two rectangles; the second lies to the right (axis -1) or below (-2)."""
    state = first.state.merge(second.state)
    seam = seam_between(first.edges, second.edges, axis)
    state = state.merge(_observe_seam(seam, state, request))
    return Partial(state, first.edges.joined(second.edges, axis))


@dataclass(frozen=True)
class Seam:
    """Context around a seam and, in it, the pixels that belong to the seam.

    A seam ends where its rectangles do: what lies nearer to their other edges belongs to the seam
    that is observed when a neighbour joins there.
    """

    values: np.ndarray | None
    zeros: np.ndarray | None
    place: Place
    bounds: tuple[int, int, int, int]
    dead_bounds: tuple[int, int, int, int]
    axis: int  # along which pairs cross the seam


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
    channels = len(state.shift)
    wanted = replace(request, parts=request.parts & NEIGHBOURHOOD)
    tables: list[Tables] = []
    if seam.values is not None:
        shape = seam.values.shape[1:]
        tables = [Tables(shape, seam.place, wanted, seam.bounds) for _ in range(channels)]
        if wanted.parts and seam.bounds[0] < seam.bounds[1] and seam.bounds[2] < seam.bounds[3]:
            for table, values in zip(tables, seam.values, strict=True):
                table.sweep(values, upright=seam.axis == -1)
    added = State(
        shift=state.shift,
        histogram=_nothing(state.histogram),
        tally=states.Tally(np.zeros_like(state.tally.table)),
        focus=focus_of(tables, wanted.parts) if tables else None,
    )
    if request.parts & (Part.RESPONSE | Part.DEAD):
        none = states.Counts.empty(channels)
        zero = np.zeros(channels, "i8")
        artifacts = artifacts_of(tables, wanted.parts) if tables else None
        artifacts = artifacts or states.Artifacts(none, none, none, zero, zero)
        added = replace(added, artifacts=replace(artifacts, dead=_dead(seam, channels)))
    if request.parts & Part.NEIGHBOURS:
        added = replace(added, neighbours=_crossing_pairs(seam, state, request))
    return added


def _nothing(histogram: Histogram) -> Histogram:
    if isinstance(histogram, CodeHistogram):
        return CodeHistogram.empty(len(histogram.counts), histogram.bias)
    return KeyHistogram.empty(len(histogram.channels), histogram.layout)


def _dead(seam: Seam, channels: int) -> np.ndarray:
    if seam.zeros is None:
        return np.zeros(channels, "i8")
    return np.array(
        [
            sum(fused.dead_plane(p, seam.dead_bounds) for frame in c for p in frame)
            for c in np.ascontiguousarray(seam.zeros)
        ],
        "i8",
    )


def _crossing_pairs(seam: Seam, state: State, request: Request) -> states.Neighbours:
    assert seam.values is not None
    shift = state.shift.copy()
    if seam.values.dtype == np.uint16:
        shift -= bias_of(request.dtype)
    table = np.zeros((len(shift), 2, 6))
    # One channel after the other: a seam may be as long as the image.
    for values, by, row in zip(seam.values, shift, table, strict=True):
        first, second = (
            np.take(values, HALO + k, seam.axis).astype("f8").ravel() - by for k in (0, 1)
        )
        valid = ~np.isnan(first + second)
        a, b = np.where(valid, first, 0.0), np.where(valid, second, 0.0)
        parts = (valid, a, b, a * a, b * b, a * b)
        row[0 if seam.axis == -1 else 1] = [p.sum() for p in parts]
    return states.Neighbours(table)
