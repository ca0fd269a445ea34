"""Maps whose values the page tells under the pointer: tiles of a channel, objects, correlations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigaqc import plot
from gigaqc.formulas.catalogue import chosen
from gigaqc.formulas.record import Metric, Scope, Status, worst
from gigaqc.report import pictures
from gigaqc.report.view import FlagRow
from gigaqc.report.words import format_value

_MOST_SIDE, _LEAST_SIDE = 64, 32  # squares of a map along its longer side
_CHANNELS_AT_FULL_SIZE = 16


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One map: its picture, its values as text in the order of rows, and what a flag says of it."""

    title: str
    picture: pictures.Picture
    low: str
    high: str
    alt: str
    values: str
    unit: str
    status: Status = Status.NONE
    worst: str = ""


@dataclass(frozen=True, slots=True)
class MapGrid:
    """Maps of the same tiles.

    Attributes
    ----------
    maps
        Those whose values differ.
    same
        Sentences about the others.
    rows, columns, start
        Squares of a map, and the one that the keyboard finds first, counted by rows.
    step
        Tiles along the side of a square.
    tiles
        How many tiles there are along y and x.
    tile, size
        Side of a tile, and height and width of the image, in pixels; 0 where they are not known.
    """

    maps: tuple[HeatMap, ...]
    same: tuple[str, ...]
    rows: int
    columns: int
    start: int
    step: int
    tiles: tuple[int, int]
    tile: int
    size: tuple[int, int]


def map_side(channels: int) -> int:
    """Squares along the longer side of a map, for a page of so many channels.

    Parameters
    ----------
    channels
        How many of them have maps.
    """
    share = math.sqrt(min(1.0, _CHANNELS_AT_FULL_SIZE / max(channels, 1)))
    return max(_LEAST_SIDE, int(_MOST_SIDE * share))


def channel_grid(
    assessment: Any, position: int, short: str, flags: Sequence[FlagRow], side: int
) -> MapGrid | None:
    """The maps of one channel; None where the image is one tile or less.

    Parameters
    ----------
    assessment
        What `gq.assess` returned.
    position, short
        Of the channel among the tiles, and its name.
    flags
        What was found wrong with it.
    side
        Squares along the longer side of a map.
    """
    tiles = (assessment.tiles.sizes.get("tile_y", 0), assessment.tiles.sizes.get("tile_x", 0))
    if tiles[0] * tiles[1] <= 1:
        return None  # a map of one square shows nothing that the table does not
    maps, same, largest = [], [], {}
    step = max(1, math.ceil(max(tiles) / side))
    for wanted in chosen(scope=Scope.TILE, assessed=True):
        status = _shown_by(wanted, flags)
        if wanted.key not in assessment.tiles.data_vars:
            continue
        if not wanted.primary and status is Status.NONE:
            continue
        _, values = plot.tile_map(assessment.tiles, wanted.key, position)
        # Where few pixels are bad, a mean over many tiles would hide them.
        small, _ = pictures.shrink(
            values, side, np.nanmax if wanted.kind == "fraction" else np.nanmean
        )
        if np.isnan(small).all():
            same.append(f"{wanted.label}: not measurable in any tile")
            continue
        if np.nanmin(small) == np.nanmax(small):
            everywhere = format_value(float(np.nanmax(small)), wanted.kind)
            where = "every tile" if not np.isnan(small).any() else "every tile that has a value"
            same.append(f"{wanted.label}: {everywhere} in {where}")
            continue
        largest[status] = int(np.nanargmax(small))
        maps.append(_heat_map(wanted, small, short, status, step))
    first = max(largest, key=lambda s: s.severity, default=Status.NONE)
    return _grid(assessment, tuple(maps), tuple(same), tiles, step, largest.get(first, 0))


def _shown_by(wanted: Metric, flags: Sequence[FlagRow]) -> Status:
    """The worst verdict that a map of tiles shows the place of."""
    shown = {m.key for m in chosen(scope=Scope.CHANNEL, assessed=True) if m.map == wanted.key}
    found = [f.status for f in flags if f.key in shown]
    return worst(found) if found else Status.NONE


def _grid(
    assessment: Any,
    maps: tuple[HeatMap, ...],
    same: tuple[str, ...],
    tiles: tuple[int, int],
    step: int,
    start: int,
) -> MapGrid:
    rows, columns = (math.ceil(n / step) for n in tiles)
    origin = assessment.provenance or {}
    tile = int((origin.get("parameters") or {}).get("tile") or 0)
    sizes = origin.get("sizes") or {}
    size = (int(sizes.get("y") or 0), int(sizes.get("x") or 0))
    if not tile or tiles != tuple(math.ceil(n / tile) for n in size):
        tile, size = 0, (0, 0)  # these tiles are no grid of this image
    return MapGrid(maps, same, rows, columns, start, step, tiles, tile, size)


def _heat_map(wanted: Metric, small: np.ndarray, short: str, status: Status, step: int) -> HeatMap:
    low = 0.0 if wanted.kind == "fraction" else float(np.nanmin(small))
    high = float(np.nanmax(small))
    bottom, top = format_value(low, wanted.kind), format_value(high, wanted.kind)
    row, column = (int(i) * step for i in np.unravel_index(np.nanargmax(small), small.shape))
    marked = status.is_bad
    return HeatMap(
        title=wanted.label,
        picture=pictures.heat_png(small, low, high),
        low=bottom,
        high=top,
        alt=f"{wanted.label} by tile, channel {short}: from {bottom} to {top}",
        values=values_text(100 * small if wanted.kind == "fraction" else small),
        unit="\u00a0%" if wanted.kind == "fraction" else "",
        status=status,
        worst=f"most in tile row {row}, column {column}: {top}" if marked else "",
    )


def object_grid(assessment: Any) -> MapGrid | None:
    """The map of objects by tile; None where there are no tiles to tell apart.

    Parameters
    ----------
    assessment
        What `gq.assess` returned.
    """
    cells = assessment.tiles.get("cells")
    if cells is None or cells.size < 2:
        return None
    small, step = pictures.shrink(cells.values, _MOST_SIDE, np.nansum)
    low, high = float(small.min()), float(small.max())
    if low == high:
        return None
    found = HeatMap(
        title="Objects",
        picture=pictures.heat_png(small, low, high),
        low=format_value(low, "count"),
        high=format_value(high, "count"),
        alt=f"Objects by tile: from {format_value(low)} to {format_value(high)}",
        values=values_text(small),
        unit="",
    )
    tiles = (cells.sizes["tile_y"], cells.sizes["tile_x"])
    return _grid(assessment, (found,), (), tiles, step, int(np.argmax(small)))


def values_text(values: np.ndarray) -> str:
    """Numbers to three digits with a space between; nothing between two for one that is NaN.

    As text three digits take less room than a coded float does, and are what is shown.

    Parameters
    ----------
    values
        Any shape; row by row.
    """
    return " ".join(_three_digits(float(v)) for v in np.asarray(values).ravel())


def _three_digits(value: float) -> str:
    if math.isnan(value):
        return ""
    if 1000 <= abs(value) < 1e7:
        return f"{value:.0f}"
    text = f"{value:.3g}"
    return "0" if text == "-0" else text


@dataclass(frozen=True, slots=True)
class Matrix:
    """The correlation matrix: its picture, where the squares lie in it, and what they are."""

    picture: pictures.Plot
    names: list[str]
    values: str
    alt: str


def matrix(assessment: Any, names: list[str], expected: Iterable[tuple[str, str]]) -> Matrix | None:
    """The correlation matrix; None for fewer than two channels.

    Parameters
    ----------
    assessment
        What `gq.assess` returned.
    names
        How the page calls its channels.
    expected
        Pairs that may correlate.
    """
    if assessment.correlation is None or assessment.correlation.sizes["c"] < 2:
        return None
    picture = pictures.correlation_svg(assessment, expected)
    values = np.asarray(assessment.correlation.values, dtype=np.float64)
    text = " ".join("" if math.isnan(v) else f"{v:z.2f}" for v in values.ravel())
    alt = f"Correlation matrix of {len(names)} channels; the strongest pairs are in the table"
    return Matrix(picture, names, text, alt)


def tile_note(assessment: Any, side: int) -> str:
    """How many tiles there are, and what a square of a map stands for.

    Parameters
    ----------
    assessment
        What `gq.assess` returned.
    side
        As `map_side` gives it.
    """
    sizes = assessment.tiles.sizes if assessment.tiles is not None else {}
    if "tile_y" not in sizes or "tile_x" not in sizes:
        return ""
    tall, wide = sizes["tile_y"], sizes["tile_x"]
    if tall * wide == 1:
        return "The image is one tile, so there are no maps."
    tile = ((assessment.provenance or {}).get("parameters") or {}).get("tile")
    of = f" of {format_value(tile, 'count')} pixels a side" if tile else ""
    note = f"The image has {tall} \u00d7 {wide} tiles{of}; rows and columns count from 0."
    step = max(1, math.ceil(max(tall, wide) / side))
    if step > 1:
        note += (
            f" One square of a map stands for {step} \u00d7 {step} of them: their mean, or, of "
            "clipped pixels and zeros, the worst of them."
        )
    return note
