"""The report: a self-contained HTML page of a sample or a cohort, and what a notebook shows."""

from __future__ import annotations

import os
from typing import Any

from gigaqc.report.cohort import render_cohort, write_cohort_html
from gigaqc.report.page import render
from gigaqc.report.templating import notebook_html, write_text

__all__ = ["notebook_html", "render", "render_cohort", "write_cohort_html", "write_html"]


def write_html(
    assessment: Any,
    path: str | os.PathLike[str],
    *,
    gain: Any = None,
    isnr: Any = None,
    clusters: Any = None,
    nuclei: Any = None,
) -> None:
    """Write the page of an assessment; `path` is complete or as it was before.

    Parameters
    ----------
    assessment
        What `gq.assess` returned.
    path
        The file; one that exists is replaced.
    gain
        What `gq.gain_map` gives, for a section with the photon-transfer curve of each plane; with
        the map of the gain if it is computed.
    isnr
        What `gq.isnr` gives, for a section with a row for each channel and the mixtures of the
        eight with the lowest.
    clusters
        What `gq.cluster_pixels` gives, for a section with sizes, profile and map of the clusters
        (of several fields of view the first).
    nuclei
        ``(image, labels)`` or ``(image, labels, channel)``, for a section with outlines over the
        nuclear channel: of an image beyond 4 megapixels the middle 2048 x 2048 pixels.

    Raises
    ------
    ParameterError
        When one of the results is something else.
    WriteError
        When it cannot be written; the message names the path and the cure, and no half page is
        left.

    Notes
    -----
    Of results that are lazy, what is shown is computed now: numbers, cluster labels, and the window
    of the outlines. Compute or write them before, and nothing is computed twice.
    """
    write_text(path, render(assessment, gain=gain, isnr=isnr, clusters=clusters, nuclei=nuclei))
