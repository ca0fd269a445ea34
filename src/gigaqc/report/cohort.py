"""The page of a cohort: its samples, with links to their pages."""

from __future__ import annotations

import os
from typing import Any

from gigaqc.report.page import template
from gigaqc.report.write import write_text

_SHOWN = ("status", "mean_snr", "min_snr", "tissue_coverage", "n_cells", "n_artifacts", "error")


def write_cohort_html(cohort: Any, path: str | os.PathLike[str]) -> None:
    """Write the page of a cohort; `path` is complete or as it was before.

    Parameters
    ----------
    cohort
        What `gq.assess_batch` returned.
    path
        The file; one that exists is replaced. Links are relative to the folder of the cohort.
    """
    rows = [
        {"sample": r["sample"], "page": r["page"], "cells": [_text(r[c]) for c in _SHOWN]}
        for r in cohort.summary.to_dict(orient="records")
    ]
    write_text(path, template("cohort.html.j2").render(columns=_SHOWN, rows=rows))


def _text(value: Any) -> str:
    if value is None or value != value or str(value) == "<NA>":
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
