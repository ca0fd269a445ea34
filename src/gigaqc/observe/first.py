"""The first read of a block: everything that a scan keeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from gigaqc import states
from gigaqc.backend import to_host
from gigaqc.distribution import (
    CodeHistogram,
    Histogram,
    KeyBins,
    KeyHistogram,
    Refined,
    bias_of,
    layout_of,
    trim,
)
from gigaqc.kernels import accumulate, planes
from gigaqc.kernels.dispatch import of_place
from gigaqc.observe.blocks import (
    DEAD_HALO,
    HALO,
    Channels,
    Edges,
    Partial,
    Place,
    Request,
    Strips,
    finite_values,
    middle_code,
    to_codes,
)
from gigaqc.observe.registry import StateKind
from gigaqc.observe.state import State
from gigaqc.observe.tables import Swept, Tables


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
