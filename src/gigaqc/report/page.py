"""The page: one HTML file that opens offline and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gigaqc import plot
from gigaqc.report import pictures, view
from gigaqc.report.glossary import OBJECTS, Kind
from gigaqc.report.words import (
    MISSING,
    Name,
    Status,
    count_of,
    format_bytes,
    format_value,
    name_of,
    text_of,
)

_TEMPLATES = Path(__file__).parent / "templates"
_NESTING = 6  # levels of provenance that are shown
_ENTRIES = 200  # entries of one level that are shown


@dataclass(frozen=True, slots=True)
class _Map:
    """A heat map that each card shows: variable of the tiles, title, how big maps are reduced."""

    variable: str
    title: str
    fraction: bool = False
    reduce: Callable[..., Any] = np.nanmean


_MAPS = (
    _Map("mean", "Mean"),
    _Map("local_snr", "Local SNR"),
    _Map("variance_of_laplacian", "Sharpness"),
    _Map("clipped_fraction", "Clipped", True, np.nanmax),
)


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One heat map, ready to show; without a picture where nothing was measured."""

    title: str
    picture: pictures.Picture | None
    low: str
    high: str
    alt: str


@dataclass(frozen=True, slots=True)
class Card:
    """Everything about one channel."""

    row: view.Row
    thumbnail: pictures.Picture | None
    thumbnail_alt: str
    histogram: str
    histogram_alt: str
    maps: tuple[HeatMap, ...]
    flags: tuple[view.FlagRow, ...]


def render(assessment: Any) -> str:
    """The self-contained page of an assessment.

    It makes no request when it is opened: pictures are data URIs, the style is inline, and a
    content security policy allows the one script by its hash. Whatever comes from a file is
    escaped.

    Parameters
    ----------
    assessment
        What `gq.assess` returned.

    Returns
    -------
    str
        HTML.
    """
    shown = view.columns(assessment)
    rows = view.rows(assessment, shown)
    raised, passed = view.flag_rows(assessment)
    script, policy = _script()
    return template("page.html.j2").render(
        title=name_of(assessment.name),
        verdict=view.verdict(assessment),
        facts=view.facts(assessment),
        columns=shown,
        rows=rows,
        cards=_cards(assessment, rows, raised),
        raised=raised,
        passed=passed,
        matrix=_matrix(assessment),
        objects=_objects(assessment),
        explanations=view.explanations(assessment, shown),
        source=_source(assessment),
        provenance=tree(assessment.provenance or {}),
        tile_note=_tile_note(assessment),
        scale=pictures.colour_scale(),
        style=_asset("page.css"),
        script=script,
        policy=policy,
    )


def template(name: str) -> Any:
    """A template of ours; everything it shows is escaped.

    Parameters
    ----------
    name
        Its file name.
    """
    return _environment().get_template(name)


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(Status=Status, count_of=count_of)
    environment.tests["mapping"] = lambda value: isinstance(value, Mapping)
    return environment


@cache
def _asset(name: str) -> Any:
    """A file of ours that goes into the page as it is."""
    from markupsafe import Markup

    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


@cache
def _script() -> tuple[Any, str]:
    """The script, and the content security policy that allows it and nothing else."""
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return script, policy


def _positions(labelled: Any) -> dict[str, int]:
    if labelled is None or "c" not in labelled.coords:
        return {}
    return {str(n): i for i, n in enumerate(labelled.coords["c"].values)}


def _cards(assessment: Any, rows: list[view.Row], raised: list[view.FlagRow]) -> list[Card]:
    thumbnails = _positions(assessment.thumbnails)
    histograms = _positions(assessment.histograms)
    tiles = _positions(assessment.tiles)
    side = pictures.thumbnail_side(len(rows))
    cards = []
    for key, row in zip(view.links(assessment), rows, strict=True):
        short = row.link.name.short
        picture, histogram = None, ""
        if key in thumbnails:
            picture = pictures.grey_png(assessment.thumbnails.values[thumbnails[key]], side)
        if key in histograms:
            histogram = pictures.histogram_svg(assessment, histograms[key])
        cards.append(
            Card(
                row=row,
                thumbnail=picture,
                thumbnail_alt=f"Thumbnail of channel {short}",
                histogram=histogram,
                histogram_alt=_histogram_alt(assessment, key, short),
                maps=_heat_maps(assessment, tiles[key], short) if key in tiles else (),
                flags=tuple(f for f in raised if f.link == row.link),
            )
        )
    return cards


def _histogram_alt(assessment: Any, key: str, short: str) -> str:
    values = assessment.channels.loc[key]
    low, high = (format_value(values.get(k)) for k in ("min", "max"))
    return f"Histogram of channel {short}, values from {low} to {high}, logarithmic counts"


def _heat_maps(assessment: Any, position: int, short: str) -> tuple[HeatMap, ...]:
    found = []
    if assessment.tiles.sizes.get("tile_y", 0) * assessment.tiles.sizes.get("tile_x", 0) == 1:
        return ()  # a map of one square shows nothing that the table does not
    for wanted in _MAPS:
        if wanted.variable not in assessment.tiles.data_vars:
            continue
        _, values = plot.tile_map(assessment.tiles, wanted.variable, position)
        small, _ = pictures.shrink(values, pictures.HEAT_MAP_SIDE, wanted.reduce)
        if np.isnan(small).all():
            alt = f"{wanted.title} by tile, channel {short}: not measurable"
            found.append(HeatMap(wanted.title, None, "", "", alt))
            continue
        low = 0.0 if wanted.fraction else float(np.nanmin(small))
        high = float(np.nanmax(small))
        kind: Kind = "fraction" if wanted.fraction else "number"
        bottom, top = format_value(low, kind), format_value(high, kind)
        alt = f"{wanted.title} by tile, channel {short}: from {bottom} to {top}"
        picture = pictures.heat_png(small, low, high)
        found.append(HeatMap(wanted.title, picture, bottom, top, alt))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Objects:
    """The label image: its numbers, and where its objects lie."""

    facts: list[view.Fact]
    density: HeatMap | None


def _objects(assessment: Any) -> _Objects | None:
    """None without labels."""
    if getattr(assessment, "objects", None) is None:
        return None
    found = []
    for entry in OBJECTS:
        text = format_value(assessment.summary.get(entry.key), entry.kind)
        if text != MISSING and entry.key != "fraction_fragmented":
            found.append(view.Fact(entry.label, text))
    cells = assessment.tiles.get("cells")
    if cells is None or cells.size < 2:
        return _Objects(found, None)
    small, _ = pictures.shrink(cells.values, pictures.HEAT_MAP_SIDE)
    low, high = format_value(small.min()), format_value(small.max())
    picture = pictures.heat_png(small, float(small.min()), float(small.max()))
    alt = f"Objects by tile: from {low} to {high}"
    return _Objects(found, HeatMap("Objects", picture, low, high, alt))


def _tile_note(assessment: Any) -> str:
    sizes = assessment.tiles.sizes if assessment.tiles is not None else {}
    if "tile_y" not in sizes or "tile_x" not in sizes:
        return ""
    tall, wide = sizes["tile_y"], sizes["tile_x"]
    if tall * wide == 1:
        return "The image is one tile, so there are no maps."
    note = f"The image has {tall} \u00d7 {wide} tiles."
    step = max(1, math.ceil(max(tall, wide) / pictures.HEAT_MAP_SIDE))
    if step > 1:
        note += f" One square of a map stands for {step} \u00d7 {step} of them."
    return note


@dataclass(frozen=True, slots=True)
class _Matrix:
    """The correlation matrix: picture, its width and the least that can be read (CSS pixels)."""

    uri: str
    width: int
    least: int
    alt: str
    pairs: list[view.Pair]


def _matrix(assessment: Any) -> _Matrix | None:
    """The correlation matrix; None for fewer than two channels."""
    if assessment.correlation is None or assessment.correlation.sizes["c"] < 2:
        return None
    uri, width = pictures.correlation_svg(assessment, view.expected_pairs(assessment))
    pairs = view.strongest_pairs(assessment)
    count = assessment.correlation.sizes["c"]
    alt = f"Correlation matrix of {count} channels; the strongest pairs are in the table"
    return _Matrix(uri, width, 90 + 13 * count, alt, pairs)


def _source(assessment: Any) -> list[view.Fact]:
    """Where the image came from and what it is, in one line each."""
    origin = assessment.provenance or {}
    found = []
    if origin.get("source"):
        found.append(view.Fact("Source", text_of(origin["source"])))
    shape = origin.get("shape")
    if isinstance(shape, list | tuple):
        dims = origin.get("dims") or ()
        sizes = " \u00d7 ".join(format_value(n, "count") for n in shape)
        labels = " ".join(text_of(d) for d in dims)
        found.append(view.Fact("Size", f"{sizes} ({labels})" if labels else sizes))
    for key, label in (("dtype", "Type"), ("created", "Assessed"), ("version", "gigaqc")):
        if origin.get(key):
            found.append(view.Fact(label, text_of(origin[key])))
    return found


def tree(value: Any, key: str = "", level: int = 0) -> Any:
    """Nested plain values as text for display: a Name for a value, a dict for what holds others.

    Parameters
    ----------
    value
        A dict, a list or a plain value.
    key
        What it is called; names that count bytes are written in units.
    level
        How deep it lies.
    """
    if isinstance(value, Mapping) and level < _NESTING:
        entries = list(value.items())
        found = {name_of(k).short: tree(v, str(k), level + 1) for k, v in entries[:_ENTRIES]}
        if len(entries) > _ENTRIES:
            found["\u2026"] = _plain(f"{len(entries) - _ENTRIES} more")
        return found
    if isinstance(value, list | tuple):
        texts = [_nested_text(v) for v in value[:_ENTRIES]]
        if len(value) > _ENTRIES:
            texts.append(f"and {len(value) - _ENTRIES} more")
        return _plain(", ".join(texts))
    if "bytes" in key and isinstance(value, int | float):
        return _plain(format_bytes(value))
    return _plain(_nested_text(value))


def _nested_text(value: Any) -> str:
    if isinstance(value, list | tuple) and not any(isinstance(v, list | tuple) for v in value):
        return text_of(" and ".join(_nested_text(v) for v in value[:_ENTRIES]))
    if isinstance(value, str | Mapping | list | tuple):
        return text_of(value)
    return format_value(value)


def _plain(text: str) -> Name:
    return Name(text, text)
