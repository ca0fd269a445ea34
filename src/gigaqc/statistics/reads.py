"""What the first read of a channel gives, and the second one of floats and wide integers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gigaqc.base.backend import of_place, to_host
from gigaqc.kernels import accumulate, fused, planes
from gigaqc.statistics import states
from gigaqc.statistics.blocks import (
    DEAD_HALO,
    HALO,
    NEIGHBOURHOOD,
    Channels,
    Edges,
    Partial,
    Place,
    Request,
    Seam,
    Strips,
    end_to_end,
    finite_values,
    middle_code,
    to_codes,
)
from gigaqc.statistics.distribution import (
    CodeHistogram,
    Histogram,
    KeyBins,
    KeyHistogram,
    Refined,
    bias_of,
    layout_of,
    trim,
)
from gigaqc.statistics.state import Part, State, StateKind
from gigaqc.statistics.tables import Swept, SweptSeam, Tables


def observe(channels: Channels, masks: Channels | None, place: Place, request: Request) -> Partial:
    """State of a block: a (t, z, y, x) array a channel; `masks` are bool and alike, or None.

    Channels may come one by one: each is swept before the next is asked for.
    """
    if request.integers:
        return _observe_integers(channels, masks, place, request)
    return _observe_floats(channels, masks, place, request)


def _observe_integers(
    channels: Iterable[np.ndarray], masks: Channels | None, place: Place, request: Request
) -> Partial:
    bias = bias_of(request.dtype)
    codes, tables, shifts, counts, tallies, outside, values = [], [], [], [], [], [], []
    for c, block in enumerate(channels):
        channel = to_codes(block)
        table, middle, hidden = Tables(channel.shape, place, request), middle_code(channel), 0
        if masks is None:
            counts.append(table.sweep_codes(channel, bias, middle))
        else:
            inside = channel[masks[c]]
            counts.append(trim(to_host(np.bincount(inside, minlength=1))))
            values.append(np.where(masks[c], channel.astype("f8") + bias, np.nan))
            table.sweep_values(values[-1], middle + bias)
            outside.append(_sums(channel[~masks[c]].astype("f8") - middle))
            hidden = channel.size - inside.size
        tallies.append((channel.size, 0, 0, hidden, _count_at(*counts[-1], -bias)))
        codes.append(channel)
        tables.append(table)
        shifts.append(middle)
    shift = np.array(shifts, "f8") + bias
    starts, kept = zip(*counts, strict=True)
    if masks is None:
        swept = Swept(
            codes, tables, shift, place, request, -bias, coded=True, complete=not request.excluding
        )
    else:
        swept = Swept(values, tables, shift, place, request, outside=np.array(outside).T)
    return _collected(swept, CodeHistogram(bias, starts, kept), tallies)


def _sums(values: np.ndarray) -> tuple[float, float, float]:
    return float(values.size), float(values.sum()), float((values * values).sum())


def _observe_floats(
    channels: Iterable[np.ndarray], masks: Channels | None, place: Place, request: Request
) -> Partial:
    layout = layout_of(request.dtype)
    assert layout is not None
    keys, tallies, tables, shifts, outside, finite = [], [], [], [], [], []
    for c, channel in enumerate(channels):
        native = channel.astype(layout.float_type, copy=False)
        inside = native.ravel() if masks is None else native[masks[c]]
        *bins, (zeros, nans, infinite) = of_place(inside, accumulate, planes).count_keys(
            inside, layout
        )
        keys.append(KeyBins(*bins))
        tallies.append((native.size, nans, infinite, native.size - inside.size, zeros))
        values = finite_values(native)
        shift = _mean_of(keys[-1], layout)
        if masks is not None:
            hidden = values[~masks[c]]
            outside.append(_sums(hidden[~np.isnan(hidden)] - shift))
            values[~masks[c]] = np.nan
        tables.append(Tables(values.shape, place, request))
        tables[-1].sweep_values(values, shift)
        shifts.append(shift)
        finite.append(values)
    histogram = KeyHistogram(layout, tuple(keys), (Refined.empty(),) * len(keys))
    swept = Swept(
        finite, tables, np.array(shifts), place, request,
        outside=None if masks is None else np.array(outside).T,
    )  # fmt: skip
    return _collected(swept, histogram, tallies)


def _mean_of(keys: KeyBins, layout: accumulate.KeyLayout) -> float:
    """Mean of the values; 0 of none."""
    n = keys.counts.sum()
    if not n:
        return 0.0
    low, ulp = layout.edges(keys.bins)
    return float(np.sum(low * (keys.counts / n) + ulp * keys.first / n))


def _count_at(start: int, counts: np.ndarray, code: int) -> int:
    inside = start <= code < start + counts.size
    return int(counts[code - start]) if inside else 0


def _collected(swept: Swept, histogram: Histogram, tallies: list) -> Partial:
    """The states that were asked for, and the edges that wait for neighbours."""
    state = State(swept.shift, histogram, states.Tally(np.array(tallies, "i8").T))
    kinds = swept.request.kinds
    state = state.holding({kind.key: kind.collect(swept) for kind in kinds})
    return Partial(state, _edges(swept, kinds))


def _edges(swept: Swept, kinds: Sequence[StateKind]) -> Edges:
    """The strips that wait, as any of the states needs them."""
    place, parts, width = swept.place, swept.request.parts, 2 * HALO
    shape = swept.channels[0].shape[-2:]
    if any(kind.edge_zeros & parts for kind in kinds):
        strips = Strips.cut(swept.channels, place, 2 * DEAD_HALO)
        return Edges(place, shape, strips.narrowed(width), strips.equal(swept.zero))
    keep = any(kind.edge_values & parts for kind in kinds)
    return Edges(place, shape, Strips.cut(swept.channels, place, width) if keep else None)


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
