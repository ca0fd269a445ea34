"""The report: a self-contained HTML page, and the short form that a notebook shows."""

from __future__ import annotations

import os
from typing import Any

from gigaqc.report.cohort import write_cohort_html
from gigaqc.report.notebook import notebook_html
from gigaqc.report.page import render
from gigaqc.report.write import write_text

__all__ = ["notebook_html", "render", "write_cohort_html", "write_html"]


def write_html(assessment: Any, path: str | os.PathLike[str]) -> None:
    """Write the page of an assessment; `path` is complete or as it was before.

    Parameters
    ----------
    assessment
        What `gq.assess` returned.
    path
        The file; one that exists is replaced.

    Raises
    ------
    WriteError
        When it cannot be written; the message names the path and the cure, and no half page is
        left.
    """
    write_text(path, render(assessment))
