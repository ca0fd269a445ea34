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
from gigaqc.observe.blocks import DEAD_HALO, HALO, NEIGHBOURHOOD, Edged, Partial, Request, Strips
from gigaqc.observe.tables import Tables, artifacts_of, focus_of
from gigaqc.statistics import Part, State


def observe_seams(
    own: Partial,
    right: Partial | None,
    below: Partial | None,
    diagonal: Partial | None,
    request: Request,
) -> State:
    """The state of a block together with its seams to the right, below and diagonally below."""
    state = own.state
    for seam in seams_of(own, right, below, diagonal):
        state = state.merge(_observe_seam(seam, own, state, request))
    return state


@dataclass(frozen=True)
class Seam:
    """Context around a seam and, in it, the pixels that belong to the seam."""

    values: np.ndarray | None
    zeros: np.ndarray | None
    y: int
    x: int
    bounds: tuple[int, int, int, int]
    dead_bounds: tuple[int, int, int, int]
    axis: int | None  # along which pairs cross the seam


def seams_of(
    own: Edged,
    right: Edged | None,
    below: Edged | None,
    diagonal: Edged | None,
) -> list[Seam]:
    """The seams that a block answers for, where it has the neighbours."""
    place, (height, width) = own.place, own.shape
    h, d = HALO, DEAD_HALO
    found = []
    if right is not None:
        rows = (d if place.top else 0, height - d if place.bottom else height)
        found.append(
            Seam(
                _beside(own.values, right.values, "right", "left", -1),
                _beside(own.zeros, right.zeros, "right", "left", -1),
                place.y, place.x + width - 2 * h,
                (h, height - h, h, 3 * h), (*rows, d, 3 * d), -1,
            )
        )  # fmt: skip
    if below is not None:
        columns = (d if place.left else 0, width - d if place.right else width)
        found.append(
            Seam(
                _beside(own.values, below.values, "bottom", "top", -2),
                _beside(own.zeros, below.zeros, "bottom", "top", -2),
                place.y + height - 2 * h, place.x,
                (h, 3 * h, h, width - h), (d, 3 * d, *columns), -2,
            )
        )  # fmt: skip
    if right is not None and below is not None and diagonal is not None:
        found.append(
            Seam(
                _corner(own.values, right.values, below.values, diagonal.values, 2 * h),
                _corner(own.zeros, right.zeros, below.zeros, diagonal.zeros, 2 * d),
                place.y + height - 2 * h, place.x + width - 2 * h,
                (h, 3 * h, h, 3 * h), (d, 3 * d, d, 3 * d), None,
            )
        )  # fmt: skip
    return found


def _beside(
    mine: Strips | None, other: Strips | None, edge: str, other_edge: str, axis: int
) -> np.ndarray | None:
    if mine is None or other is None:
        return None
    return np.concatenate([getattr(mine, edge), getattr(other, other_edge)], axis=axis)


def _corner(
    own: Strips | None, right: Strips | None, below: Strips | None, diagonal: Strips | None, n: int
) -> np.ndarray | None:
    if own is None or right is None or below is None or diagonal is None:
        return None
    upper = np.concatenate([own.bottom[..., -n:], right.bottom[..., :n]], axis=-1)
    lower = np.concatenate([below.top[..., -n:], diagonal.top[..., :n]], axis=-1)
    return np.concatenate([upper, lower], axis=-2)


def _observe_seam(seam: Seam, own: Partial, state: State, request: Request) -> State:
    """Sums of the centres and pairs of a seam, about the shift of `state`."""
    channels = len(state.shift)
    here = replace(own.place, y=seam.y, x=seam.x)
    wanted = replace(request, parts=request.parts & NEIGHBOURHOOD)
    tables: list[Tables] = []
    if seam.values is not None:
        shape = seam.values.shape[1:]
        tables = [Tables(shape, here, wanted, seam.bounds) for _ in range(channels)]
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
    if request.parts & Part.NEIGHBOURS and seam.axis is not None:
        added = replace(added, neighbours=_crossing_pairs(seam, state, request))
    return added


def _nothing(histogram: Histogram) -> Histogram:
    if isinstance(histogram, CodeHistogram):
        return CodeHistogram.empty(len(histogram.counts), histogram.bias)
    return KeyHistogram.empty(len(histogram.channels), histogram.layout)


def _dead(seam: Seam, channels: int) -> np.ndarray:
    if seam.zeros is None or not seam.zeros.any():
        return np.zeros(channels, "i8")
    planes = np.ascontiguousarray(seam.zeros).view("u1")
    return np.array(
        [sum(fused.dead_plane(p, seam.dead_bounds) for frame in c for p in frame) for c in planes],
        "i8",
    )


def _crossing_pairs(seam: Seam, state: State, request: Request) -> states.Neighbours:
    assert seam.values is not None
    axis = seam.axis
    first = np.take(seam.values, HALO, axis).astype("f8")
    second = np.take(seam.values, HALO + 1, axis).astype("f8")
    shift = state.shift.copy()
    if seam.values.dtype == np.uint16:
        shift -= bias_of(request.dtype)
    first = first.reshape(len(shift), -1) - shift[:, None]
    second = second.reshape(len(shift), -1) - shift[:, None]
    valid = ~np.isnan(first + second)
    a, b = np.where(valid, first, 0.0), np.where(valid, second, 0.0)
    table = np.zeros((len(shift), 2, 6))
    parts = (valid, a, b, a * a, b * b, a * b)
    table[:, 0 if axis == -1 else 1] = np.stack([p.sum(axis=1) for p in parts], axis=-1)
    return states.Neighbours(table)
