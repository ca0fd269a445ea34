"""The short form of an assessment for a notebook: verdict, flags, channel table; no scripts."""

from __future__ import annotations

from typing import Any

from gigaqc.report import view
from gigaqc.report.templating import template
from gigaqc.report.words import name_of

_ROWS = 100


def notebook_html(assessment: Any) -> str:
    """HTML for a notebook's cell: verdict, flags and the main columns of the channel table.

    It has no script and its styles reach nothing else; colours follow the notebook's theme.

    Parameters
    ----------
    assessment
        What `gq.assess` returned.

    Returns
    -------
    str
        An HTML fragment.
    """
    shown = [m for m in view.columns(assessment) if m.primary]
    rows = view.rows(assessment, shown)
    return template("notebook.html.j2").render(
        title=name_of(assessment.name),
        verdict=view.verdict(assessment),
        facts=view.facts(assessment),
        columns=shown,
        rows=rows[:_ROWS],
        rows_left=max(0, len(rows) - _ROWS),
    )
