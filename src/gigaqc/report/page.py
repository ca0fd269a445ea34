"""The page of a sample: one HTML file that opens offline and runs no script but its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gigaqc.formulas.catalogue import chosen
from gigaqc.formulas.record import Basis, Metric, Scope
from gigaqc.report import maps, pictures, sections, view
from gigaqc.report.templating import shell, template
from gigaqc.report.words import MISSING, Name, format_bytes, format_value, name_of, text_of

_NESTING = 6  # levels of provenance that are shown
_TOLD_AS_COUNTS = (
    "fraction_fragmented", "mad_area", "fraction_very_small", "fraction_very_large",
)  # fmt: skip
_ENTRIES = 200  # entries of one level that are shown
_THUMBNAIL_BYTES = 1_600_000  # of a page, which is to stay below 5 million with all its maps


@dataclass(frozen=True, slots=True)
class Card:
    """Everything about one channel."""

    row: view.Row
    thumbnail: pictures.Picture | None
    thumbnail_alt: str
    histogram: str
    histogram_alt: str
    grid: maps.MapGrid | None
    flags: tuple[view.FlagRow, ...]


def render(
    assessment: Any,
    *,
    gain: Any = None,
    isnr: Any = None,
    clusters: Any = None,
    nuclei: Any = None,
) -> str:
    """The self-contained page of an assessment.

    It makes no request when it is opened: pictures are data URIs, the style is inline, and a
    content security policy allows the one script by its hash. Whatever comes from a file is
    escaped.

    Parameters
    ----------
    assessment
        What `gq.assess` returned.
    gain, isnr, clusters, nuclei
        Other results, each of which gets a section: see `write_html`.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ParameterError
        When one of the results is something else.
    """
    sections.check(gain=gain, isnr=isnr, clusters=clusters, nuclei=nuclei)
    shown = view.columns(assessment)
    rows = view.rows(assessment, shown)
    raised, passed = view.flag_rows(assessment)
    known = view.links(assessment)
    matrix = maps.matrix(
        assessment, [k.name.short for k in known.values()], view.expected_pairs(assessment)
    )
    objects = _objects(assessment)
    cards = _cards(assessment, rows, raised)
    around = shell(("base.css", "page.css"), ("tables.js", "maps.js"))
    return template("page.html.j2").render(
        title=name_of(assessment.name),
        verdict=view.verdict(assessment),
        facts=view.facts(assessment),
        columns=shown,
        rows=rows,
        choices=view.choices([row.status for row in rows]),
        cards=cards,
        mapped=any(card.grid and card.grid.maps for card in cards),
        raised=view.flag_groups(raised),
        passed=view.flag_groups(passed),
        n_passed=len(passed),
        matrix=matrix,
        pairs=view.strongest_pairs(assessment) if matrix else [],
        objects=objects,
        sections=sections.sections(
            known, assessment.summary, gain=gain, isnr=isnr, clusters=clusters, nuclei=nuclei
        ),
        explanations=view.explanations(assessment, _explained(assessment, shown)),
        source=_source(assessment),
        origin=_origin(assessment),
        provenance=tree(assessment.provenance or {}),
        tile_note=maps.tile_note(assessment, maps.map_side(len(rows))),
        scale=pictures.colour_scale(),
        shell=around,
    )


def _positions(labelled: Any) -> dict[str, int]:
    if labelled is None or "c" not in labelled.coords:
        return {}
    return {str(n): i for i, n in enumerate(labelled.coords["c"].values)}


def _cards(assessment: Any, rows: list[view.Row], raised: list[view.FlagRow]) -> list[Card]:
    shown = _positions(assessment.thumbnails)
    histograms = _positions(assessment.histograms)
    tiles = _positions(assessment.tiles)
    thumbnails = []
    if shown and assessment.thumbnails[0].size:
        thumbnails = pictures.thumbnails(list(assessment.thumbnails.values), _THUMBNAIL_BYTES)
    side = maps.map_side(len(rows))
    cards = []
    for key, row in zip(view.links(assessment), rows, strict=True):
        short = row.link.name.short
        flags = tuple(f for f in raised if f.link == row.link)
        grid = None
        if key in tiles:
            grid = maps.channel_grid(assessment, tiles[key], short, flags, side)
        cards.append(
            Card(
                row=row,
                thumbnail=thumbnails[shown[key]] if thumbnails and key in shown else None,
                thumbnail_alt=f"Thumbnail of channel {short}",
                histogram=(
                    pictures.histogram_svg(assessment, histograms[key]) if key in histograms else ""
                ),
                histogram_alt=_histogram_alt(assessment, key, short),
                grid=grid,
                flags=flags,
            )
        )
    return cards


def _histogram_alt(assessment: Any, key: str, short: str) -> str:
    values = assessment.channels.loc[key]
    low, high = (format_value(values.get(k)) for k in ("min", "max"))
    return f"Histogram of channel {short}, values from {low} to {high}, logarithmic counts"


@dataclass(frozen=True, slots=True)
class _ObjectsSection:
    """The label image: its numbers, and where its objects lie."""

    facts: list[view.Fact]
    grid: maps.MapGrid | None


def _objects(assessment: Any) -> _ObjectsSection | None:
    """None without labels."""
    if getattr(assessment, "objects", None) is None:
        return None
    found = []
    for entry in _of(Basis.LABELS):
        text = format_value(assessment.summary.get(entry.key), entry.kind)
        if text != MISSING and entry.key not in _TOLD_AS_COUNTS:
            found.append(view.Fact(entry.label, text))
    return _ObjectsSection(found, maps.object_grid(assessment))


def _of(source: Basis) -> list[Metric]:
    """Numbers of a sample that are made from one source."""
    return [m for m in chosen(scope=Scope.SAMPLE, assessed=True) if m.source is source]


def _explained(assessment: Any, shown: list[Metric]) -> list[Metric]:
    """The numbers that the page explains: columns, and what the sample and pairs are judged by."""
    summary = assessment.summary if assessment.summary is not None else {}
    found = [*shown]
    found += [m for m in _of(Basis.TISSUE) if format_value(summary.get(m.key)) != MISSING]
    if getattr(assessment, "objects", None) is not None:
        found += _of(Basis.LABELS)
    if assessment.correlation is not None and assessment.correlation.sizes["c"] > 1:
        found += chosen(scope=Scope.PAIR, assessed=True)
    return found


def _source(assessment: Any) -> list[view.Fact]:
    """Where the image came from and what it is, in one line each."""
    origin = assessment.provenance or {}
    found = []
    if origin.get("source"):
        found.append(view.Fact("Source", text_of(origin["source"])))
    sizes = origin.get("sizes")
    if isinstance(sizes, Mapping) and sizes:
        names = [d for d in ("t", "c", "z", "y", "x") if d in sizes]
        counts = " \u00d7 ".join(format_value(sizes[d], "count") for d in names)
        found.append(view.Fact("Size", f"{counts} ({' '.join(names)})"))
    for key, label in (("dtype", "Type"), ("created", "Assessed"), ("version", "gigaqc")):
        if origin.get(key):
            found.append(view.Fact(label, text_of(origin[key])))
    return found


def _origin(assessment: Any) -> list[view.Fact]:
    """How the numbers came about, as far as a reader asks at once."""
    origin = assessment.provenance or {}
    parameters = origin.get("parameters")
    parameters = parameters if isinstance(parameters, Mapping) else {}
    reads = origin.get("reads")
    if isinstance(reads, int | float):
        reads = f"{format_value(reads)} of each chunk"
        if parameters.get("tissue"):
            reads += ", one more of the tissue channel"
    told = (
        ("gigaqc", origin.get("version")),
        ("Rules", origin.get("rules")),
        ("Tile", parameters.get("tile") and f"{parameters['tile']} pixels a side"),
        ("Reads", reads),
        ("Bytes read", origin.get("bytes_read") and format_bytes(origin["bytes_read"])),
        ("Time", "seconds" in origin and f"{format_value(origin['seconds'])} s"),
        ("Exactness", origin.get("exact")),
    )
    return [view.Fact(label, text_of(v)) for label, v in told if isinstance(v, str) and v]


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
