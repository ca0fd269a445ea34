"""Numbers, lists and units in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

_MOST_ROWS = 100
_MOST_NAMES = 8
_STYLE = """
.gigaqc-table { color: inherit; font-size: 13px; line-height: 1.45; max-width: 100%; }
.gigaqc-table p { margin: 4px 0; }
.gigaqc-table .gigaqc-soft { opacity: .75; }
.gigaqc-table .gigaqc-box { overflow: auto; max-height: 420px; }
.gigaqc-table table { border-collapse: collapse; margin: 6px 0; color: inherit; }
.gigaqc-table tr, .gigaqc-table th, .gigaqc-table td { background: transparent; color: inherit; }
.gigaqc-table th, .gigaqc-table td { padding: 2px 10px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid rgba(128, 128, 128, .35); }
.gigaqc-table th:first-child { text-align: left; }
.gigaqc-table bdi { display: inline-block; max-width: 16em; overflow: hidden;
  text-overflow: ellipsis; vertical-align: bottom; }
"""


def table_html(
    title: str, facts: str, columns: Sequence[str], rows: Sequence[Sequence[str]], more: str = ""
) -> str:
    """A fragment of HTML whose colours follow the notebook's theme.

    Parameters
    ----------
    title, facts
        What it is, and what else is known of it; text, which is escaped as all of it is.
    columns
        Heads of the columns.
    rows
        One a row, the first cell its name; of more than 100 the first.
    more
        Where the rest is found.

    Returns
    -------
    str
    """
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in columns)
    body = "".join(
        f'<tr><th scope="row"><bdi>{escape(name)}</bdi></th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for name, *cells in rows[:_MOST_ROWS]
    )
    left = len(rows) - _MOST_ROWS
    notes = [f"{left:,} more rows are not shown"] if left > 0 else []
    notes += [more] if more else []
    soft = f'<span class="gigaqc-soft">{escape(facts)}</span>'
    return (
        f'<div class="gigaqc-table"><style>{_STYLE}</style>\n'
        f"<p><strong>{escape(title)}</strong> {soft}</p>\n"
        f'<div class="gigaqc-box"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n"
        + "".join(f'<p class="gigaqc-soft">{escape(note)}</p>\n' for note in notes)
        + "</div>"
    )


def names(given: Iterable[object]) -> str:
    """Names in a row, of many the first."""
    known = [str(name) for name in given]
    shown = ", ".join(known[:_MOST_NAMES])
    left = len(known) - _MOST_NAMES
    return f"{shown} and {left} more" if left > 0 else shown


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names in a sentence; of many, the first."""
    shown = ", ".join(repr(n) for n in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def readable_bytes(n: float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.4g} {unit}"
        n /= 1024
    return f"{n:.4g} TiB"


_METERS = {
    "angstrom": 1e-10,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "inch": 0.0254,
    "meter": 1.0,
}
_SPELLINGS = {
    "nm": "nanometer",
    "um": "micrometer",
    "\u00b5m": "micrometer",  # the micro sign
    "\u03bcm": "micrometer",  # the Greek letter
    "\\u00b5m": "micrometer",  # as ImageJ escapes it
    "micron": "micrometer",
    "microns": "micrometer",
    "micrometre": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "in": "inch",
    "\u00c5": "angstrom",
}


def unit_name(unit: str | None) -> str | None:
    """Full name of a length unit, or None where it is none (pixels, unknown)."""
    if not unit:
        return None
    plain = unit.strip()
    name = _SPELLINGS.get(plain) or _SPELLINGS.get(plain.lower(), plain.lower())
    return name if name in _METERS else None


def in_one_unit(
    sizes: Mapping[str, tuple[float, str | None]],
) -> tuple[dict[str, float], str | None]:
    """Pixel sizes with a unit each, brought to the unit of x; sizes that are not positive fall."""
    kept = {d: (float(v), unit_name(u)) for d, (v, u) in sizes.items() if v > 0}
    if not kept:
        return {}, None
    unit = kept.get("x", next(iter(kept.values())))[1]
    result = {}
    for dim, (value, own) in kept.items():
        if own is not None and unit is not None:
            value = in_unit(value, own, unit)
        result[dim] = value
    return result, unit


def in_unit(value: float, own: str, wanted: str) -> float:
    """A length in another unit, both by their full names."""
    return value if own == wanted else value * _METERS[own] / _METERS[wanted]
