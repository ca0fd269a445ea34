"""The states of this package: what each is collected from, and its record in the register."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gigaqc.base.backend import to_host
from gigaqc.kernels import fused
from gigaqc.kernels.transform import power_log_log_slope
from gigaqc.statistics import states
from gigaqc.statistics.blocks import HALO, Seam, code_comoments, value_comoments
from gigaqc.statistics.distribution import bias_of
from gigaqc.statistics.state import Part, StateKind, register
from gigaqc.statistics.states import Box
from gigaqc.statistics.tables import Swept, SweptSeam, Tables


def _rows(swept: Swept) -> states.Profile:
    return _profile([t.rows for t in swept.tables], swept.place.y, swept.complete)


def _columns(swept: Swept) -> states.Profile:
    return _profile([t.columns for t in swept.tables], swept.place.x, swept.complete)


def _profile(tables: list[np.ndarray], origin: int, complete: bool) -> states.Profile:
    """Of (3, lines) count, sum and squares of each channel; `complete`: nothing is excluded."""
    boxes = [Box((origin,), np.stack([t[k] for t in tables])) for k in range(2 if complete else 3)]
    return states.Profile(replace(boxes[0], values=states.counts_of(boxes[0].values)), *boxes[1:])


def _tiles(swept: Swept) -> states.TileMoments:
    tiles = np.stack([t.tiles for t in swept.tables], axis=1)
    origin = _tile_origin(swept.tables)
    return states.TileMoments(Box(origin, tiles[:4]), Box(origin, np.stack([tiles[5], tiles[4]])))


def _tile_origin(tables: list[Tables]) -> tuple[int, int, int, int]:
    first = tables[0]
    return first.place.t, first.place.z, first.tile_y, first.tile_x


def _thumbnail(swept: Swept) -> states.Thumbnail:
    origin = (swept.tables[0].cell_y, swept.tables[0].cell_x)
    n, total = np.stack([t.cells for t in swept.tables], axis=1)
    counts = Box(origin, states.counts_of(n))
    return states.Thumbnail(swept.request.cell, counts, Box(origin, total.copy()))


def _outside(swept: Swept) -> states.Outside | None:
    return None if swept.outside is None else states.Outside(swept.outside)


def _neighbours(swept: Swept) -> states.Neighbours:
    return states.Neighbours(np.stack([t.pairs for t in swept.tables]))


def _crossing_pairs(swept: SweptSeam) -> states.Neighbours:
    seam, shift = swept.seam, swept.shift.copy()
    assert seam.values is not None
    if seam.values.dtype == np.uint16:
        shift -= bias_of(swept.request.dtype)
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


def _focus(swept: Swept | SweptSeam) -> states.Focus:
    focus = np.stack([t.focus for t in swept.tables], axis=1)
    return states.Focus(Box(_tile_origin(swept.tables), focus))


def _artifacts(swept: Swept | SweptSeam) -> states.Artifacts:
    tables = swept.tables
    return states.Artifacts(
        response=_counts([t.response for t in tables]),
        excess=_counts([t.excess[0] for t in tables]),
        excess_offset=_counts([t.excess[1] for t in tables]),
        dead=np.array([t.dead[0] for t in tables], "i8"),
        hot=np.zeros(len(tables), "i8"),
    )


def _counts(ranges: list[tuple[int, np.ndarray]]) -> states.Counts:
    return states.Counts(tuple(s for s, _ in ranges), tuple(c for _, c in ranges))


def _artifacts_at_seam(swept: SweptSeam) -> states.Artifacts:
    channels = len(swept.shift)
    none, zero = states.Counts.empty(channels), np.zeros(channels, "i8")
    responses = (
        _artifacts(swept) if swept.tables else states.Artifacts(none, none, none, zero, zero)
    )
    return replace(responses, dead=_dead(swept.seam, channels))


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


def _comoments(swept: Swept) -> states.CoMoments:
    if not swept.coded:
        return value_comoments(swept.channels, swept.shift)
    shift = (swept.shift + swept.zero).astype("i8")  # of codes it is a whole number
    return code_comoments(swept.channels, shift, np.array([t.rows[1].sum() for t in swept.tables]))


def _spectrum(swept: Swept) -> states.Spectrum:
    """Slopes of the tiles that lie in a block."""
    values, place, tile = swept.channels, swept.place, swept.request.tile
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


ROWS = register(StateKind("rows", states.Profile, Part.MOMENTS, _rows, pooled=None))
COLUMNS = register(StateKind("columns", states.Profile, Part.COLUMNS, _columns, pooled=None))
TILES = register(StateKind("tiles", states.TileMoments, Part.MOMENTS, _tiles, pooled=None))
THUMBNAIL = register(
    StateKind("thumbnail", states.Thumbnail, Part.COLUMNS, _thumbnail, pooled=None)
)
OUTSIDE = register(StateKind("outside", states.Outside, Part.MOMENTS, _outside))
NEIGHBOURS = register(
    StateKind(
        "neighbours", states.Neighbours, Part.NEIGHBOURS, _neighbours, at_seam=_crossing_pairs,
        edge_values=Part.NEIGHBOURS,
    )
)  # fmt: skip
FOCUS = register(
    StateKind(
        "focus", states.Focus, Part.FOCUS, _focus, at_seam=_focus, edge_values=Part.FOCUS,
        pooled=states.Focus.placeless,
    )
)  # fmt: skip
ARTIFACTS = register(
    StateKind(
        "artifacts", states.Artifacts, Part.RESPONSE | Part.DEAD, _artifacts,
        at_seam=_artifacts_at_seam, edge_values=Part.RESPONSE, edge_zeros=Part.DEAD,
    )
)  # fmt: skip
COMOMENTS = register(StateKind("comoments", states.CoMoments, Part.COMOMENTS, _comoments))
SPECTRUM = register(StateKind("spectrum", states.Spectrum, Part.SPECTRUM, _spectrum, pooled=None))
