"""The first read of a block: everything that a scan keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

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
from gigaqc.kernels import accumulate
from gigaqc.kernels.spectrum import power_log_log_slope
from gigaqc.observe.blocks import (
    DEAD_HALO,
    HALO,
    NEIGHBOURHOOD,
    Channels,
    Edges,
    Partial,
    Place,
    Request,
    Strips,
    finite_values,
    kernels_of,
    middle_code,
    to_codes,
)
from gigaqc.observe.comoments import code_comoments, value_comoments
from gigaqc.observe.tables import Tables, artifacts_of, focus_of
from gigaqc.states import Box
from gigaqc.statistics import Part, State


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
    shift = np.array(shifts)
    starts, kept = zip(*counts, strict=True)
    state = _assemble(
        tables, CodeHistogram(bias, starts, kept), tallies, shift + bias, request,
        complete=masks is None and not request.excluding,
    )  # fmt: skip
    if masks is not None:
        state = replace(state, outside=states.Outside(np.array(outside).T))
        return _with_the_rest(state, values, 0, place, request)
    if request.parts & Part.COMOMENTS:
        sums = np.array([t.rows[1].sum() for t in tables])
        state = replace(state, comoments=code_comoments(codes, shift, sums))
    return _with_the_rest(state, codes, -bias, place, request)


def _sums(values: np.ndarray) -> tuple[float, float, float]:
    return float(values.size), float(values.sum()), float((values * values).sum())


def _observe_floats(
    channels: Iterable[np.ndarray], masks: Channels | None, place: Place, request: Request
) -> Partial:
    layout = layout_of(request.dtype)
    assert layout is not None
    keys, tallies, tables, shifts, outside, planes = [], [], [], [], [], []
    for c, channel in enumerate(channels):
        native = channel.astype(layout.float_type, copy=False)
        inside = native.ravel() if masks is None else native[masks[c]]
        *bins, (zeros, nans, infinite) = kernels_of(inside, accumulate).count_keys(inside, layout)
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
        planes.append(values)
    histogram = KeyHistogram(layout, tuple(keys), (Refined.empty(),) * len(keys))
    state = _assemble(tables, histogram, tallies, np.array(shifts), request, complete=False)
    if masks is not None:
        state = replace(state, outside=states.Outside(np.array(outside).T))
    return _with_the_rest(state, planes, 0, place, request)


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


def _assemble(
    tables: list[Tables], histogram: Histogram, tallies: list, shift: np.ndarray, request: Request,
    *, complete: bool,
) -> State:  # fmt: skip
    """One state from the tables of all channels; `complete`: no pixel can be excluded."""
    place, first, parts = tables[0].place, tables[0], request.parts
    tile_origin = (place.t, place.z, first.tile_y, first.tile_x)
    tiles = np.stack([t.tiles for t in tables], axis=1)
    state = State(
        shift=shift.astype("f8"),
        histogram=histogram,
        tally=states.Tally(np.array(tallies, "i8").T),
        tiles=states.TileMoments(
            Box(tile_origin, tiles[:4]), Box(tile_origin, np.stack([tiles[5], tiles[4]]))
        ),
        rows=_profile([t.rows for t in tables], place.y, complete),
    )
    if parts & Part.COLUMNS:
        origin = (first.cell_y, first.cell_x)
        n, total = np.stack([t.cells for t in tables], axis=1)
        state = replace(
            state,
            columns=_profile([t.columns for t in tables], place.x, complete),
            thumbnail=states.Thumbnail(
                request.cell, Box(origin, states.counts_of(n)), Box(origin, total.copy())
            ),
        )
    if parts & Part.NEIGHBOURS:
        state = replace(state, neighbours=states.Neighbours(np.stack([t.pairs for t in tables])))
    return replace(state, focus=focus_of(tables, parts), artifacts=artifacts_of(tables, parts))


def _profile(tables: list[np.ndarray], origin: int, complete: bool) -> states.Profile:
    """Of (3, lines) count, sum and squares of each channel; `complete`: nothing is excluded."""
    boxes = [Box((origin,), np.stack([t[k] for t in tables])) for k in range(2 if complete else 3)]
    return states.Profile(replace(boxes[0], values=states.counts_of(boxes[0].values)), *boxes[1:])


def _spectrum(values: Channels, place: Place, tile: int) -> states.Spectrum:
    """Slopes of the tiles that lie in a block of values or codes."""
    frames, planes, height, width = values[0].shape
    first_y, first_x = -(-place.y // tile), -(-place.x // tile)
    rows = range(first_y, (place.y + height) // tile)
    columns = range(first_x, (place.x + width) // tile)
    slopes = np.zeros((1, len(values), frames, planes, len(rows), len(columns)))
    for c, t, z in np.ndindex(slopes.shape[1:4]):
        for i, ty in enumerate(rows):
            for j, tx in enumerate(columns):
                y, x = ty * tile - place.y, tx * tile - place.x
                square = to_host(values[c][t, z, y : y + tile, x : x + tile]).astype("f8")
                slopes[0, c, t, z, i, j] = power_log_log_slope(square)
    return states.Spectrum(Box((place.t, place.z, first_y, first_x), slopes))


def _with_the_rest(
    state: State, values: Channels, zero: int, place: Place, request: Request
) -> Partial:
    """Add what looks at all channels or at whole tiles, and cut the strips."""
    parts = request.parts
    if parts & Part.COMOMENTS and state.comoments is None:
        state = replace(state, comoments=value_comoments(values, state.shift))
    if parts & Part.SPECTRUM:
        state = replace(state, spectrum=_spectrum(values, place, request.tile))
    shape, width = values[0].shape[-2:], 2 * HALO
    if not parts & Part.DEAD:
        keep = parts & (NEIGHBOURHOOD | Part.NEIGHBOURS)
        strips = Strips.cut(values, place, width) if keep else None
        return Partial(state, Edges(place, shape, strips))
    strips = Strips.cut(values, place, 2 * DEAD_HALO)
    return Partial(state, Edges(place, shape, strips.narrowed(width), strips.equal(zero)))
