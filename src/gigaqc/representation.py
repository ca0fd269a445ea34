"""How results look at the end of a notebook's cell: a line of facts and a table, no scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
