"""Sections of the page about results beside the assessment: gain, iSNR, clusters, nuclei."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigaqc import plot
from gigaqc.errors import ParameterError
from gigaqc.image.labelled import nuclear_channel
from gigaqc.report import pictures
from gigaqc.report.view import Fact, Link
from gigaqc.report.words import Name, as_number, format_value, name_of, text_of

_MOST_PICTURES = 8  # of one section
_MOST_ROWS = 200

_GAIN_NOTE = (
    "Photon transfer: the noise of light grows with its square root, so that the variance of a "
    "pixel in time over its mean is a line; one over its slope is the gain, how many electrons a "
    "grey value stands for. The scene must be still and its light steady. Where the gain cannot be "
    "measured, take more frames and a wider range of brightness, or estimator='variance'."
)
_ISNR_NOTE = (
    "Image SNR: the mean of what is signal over the standard deviation of what is noise; noise is "
    "the component of lowest mean in a mixture of Gaussians that is fitted to the histogram, or "
    "what a mask marks. It is infinite where the background was set to one value: then mark noise "
    "by noise_mask. Where the fit did not converge or components overlap, look at the picture "
    "before you trust the number."
)
_CLUSTERS_NOTE = (
    "Pixels that are alike in their channels. The profile shows the mean of each channel in a "
    "cluster, as standard scores over the clusters: red is more of a channel than in the other "
    "clusters, blue is less. A cluster of few pixels that is high in every channel is often an "
    "artifact; look where it lies."
)
_NUCLEI_NOTE = (
    "Outlines of the label image over the channel that it was made from. Look for nuclei that were "
    "joined or cut, and for outlines on the background; then change the diameter or the threshold."
)


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first column heads its row, and may link to a channel."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Link, tuple[str, ...]], ...]
    more: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture with the words for who cannot see it."""

    uri: str
    alt: str
    caption: str
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the page."""

    anchor: str
    title: str
    note: str
    facts: tuple[Fact, ...]
    table: Table | None
    figures: tuple[Figure, ...]


def check(*, gain: Any, isnr: Any, clusters: Any, nuclei: Any) -> None:
    """Refuse what is no such result, before anything is drawn.

    Parameters
    ----------
    gain, isnr, clusters, nuclei
        As for `sections`.

    Raises
    ------
    ParameterError
        Which names the argument and what to pass.
    """
    wanted = (
        ("gain", gain, {"mean_bins", "slope", "gain", "measurable"}, "gq.gain_map"),
        ("isnr", isnr, {"counts", "edges", "component_mean", "isnr"}, "gq.isnr"),
    )
    for argument, value, names, source in wanted:
        if value is not None and not names <= set(map(str, getattr(value, "data_vars", ()))):
            raise ParameterError(
                f"{argument}: got {type(value).__name__}; pass what {source} gives."
            )
    if clusters is not None and not all(
        hasattr(clusters, n) for n in ("labels", "profile", "sizes")
    ):
        raise ParameterError(
            f"clusters: got {type(clusters).__name__}; pass what gq.cluster_pixels gives."
        )
    if nuclei is not None and not (isinstance(nuclei, tuple | list) and len(nuclei) in (2, 3)):
        raise ParameterError(
            f"nuclei: got {type(nuclei).__name__}; pass (image, labels) or (image, labels, channel)"
            "."
        )


def sections(
    known: Mapping[str, Link],
    summary: Any,
    *,
    gain: Any = None,
    isnr: Any = None,
    clusters: Any = None,
    nuclei: Any = None,
) -> list[Section]:
    """The sections of what ran.

    Parameters
    ----------
    known
        Links of channels by their names.
    summary
        Of the assessment.
    gain, isnr, clusters, nuclei
        As for `write_html`.
    """
    found = []
    if gain is not None:
        found.append(_gain(gain, known))
    if isnr is not None:
        found.append(_isnr(isnr, known))
    if clusters is not None:
        found.append(_clusters(clusters))
    if nuclei is not None:
        count = as_number(summary.get("n_cells")) if summary is not None else np.nan
        found.append(_nuclei(*nuclei, count=None if np.isnan(count) else int(count)))
    return found


def _link(known: Mapping[str, Link], name: str) -> Link:
    return known.get(name, Link(name_of(name), ""))


def _drawn(draw: Any, size: tuple[float, float], *, photograph: bool = False) -> str:
    with pictures.paper(*size) as figure:
        draw(figure.add_subplot())
        return pictures.paper_uri(figure, photograph=photograph)


def _gain(found: Any, known: Mapping[str, Link]) -> Section:
    """Numbers of each plane, and their curves; the map of the gain where it is in memory."""
    numbers = found[[n for n in found.data_vars if "y" not in found[n].dims]].compute()
    dims = numbers["gain"].dims
    planes = list(np.ndindex(numbers["gain"].shape))
    rows = []
    figures: list[Figure] = []
    for place in planes[:_MOST_ROWS]:
        at = dict(zip(dims, place, strict=True))
        own = numbers.isel(at)
        link = _plane(own, dims, at, known)
        gain = float(own["gain"])
        error = float(own["stderr"]) / float(own["slope"]) * gain if gain == gain else np.nan
        cells = [format_value(v) for v in (gain, error, own["fitted_offset"], own["read_noise"])]
        reason = "yes" if bool(own["measurable"]) else f"no: {text_of(own['reason'].item())}"
        rows.append((link, (*cells, format_value(own["rvalue"]), reason)))
        if len(figures) < _MOST_PICTURES:
            uri = _drawn(lambda ax, own=own: plot.photon_transfer(own, ax), (5.2, 3.7))
            alt = f"Photon-transfer curve of {link.name.short}, gain {cells[0]} electrons a value"
            figures.append(Figure(uri, alt, f"{link.name.short}: variance over mean"))
            pixels = found["gain_map"].isel(at) if "gain_map" in found.data_vars else None
            if pixels is not None and pixels.chunks is None:  # computed, and not to be read again
                uri = _drawn(lambda ax, p=pixels: plot.map(p, ax), (5.2, 3.7), photograph=True)
                alt = f"Map of the gain of {link.name.short}"
                figures.append(Figure(uri, alt, f"{link.name.short}: gain of each pixel"))
    head = (
        "Plane", "Gain [e\u207b/ADU]", "\u00b1", "Offset [ADU]", "Read noise [e\u207b]",
        "r of the line", "Measurable",
    )  # fmt: skip
    table = Table("One row a plane.", head, tuple(rows), max(0, len(planes) - _MOST_ROWS))
    facts = (Fact("Estimator", text_of(found.attrs.get("estimator", "unknown"))),)
    return Section("gain", "Photon transfer", _GAIN_NOTE, facts, table, tuple(figures))


def _plane(own: Any, dims: Sequence[Any], at: Mapping[Any, int], known: Mapping[str, Link]) -> Link:
    """What a plane is called: its channel, with a link, and its place along other axes."""
    others = [f"{d} {i}" for d, i in at.items() if d != "c"]
    unnamed = "c" in own.coords and str(own["c"].item()) == "0"  # as a channel without a name is
    if "c" in dims and "c" in own.coords and not unnamed:
        link = _link(known, str(own["c"].item()))
        if not others:
            return link
        return Link(name_of(f"{link.name.short}, {', '.join(others)}"), link.anchor)
    return Link(Name(*2 * (", ".join(others) or "the series",)), "")


def _isnr(found: Any, known: Mapping[str, Link]) -> Section:
    """Numbers of each channel; pictures of those with the lowest."""
    found = found.compute()
    names = [str(n) for n in found["c"].values]
    rows = []
    for i, name in enumerate(names[:_MOST_ROWS]):
        own = found.isel(c=i)
        cells = [format_value(own[n]) for n in ("isnr", "signal", "noise", "threshold")]
        fit = "marked noise" if np.isnan(own["component_mean"]).all() else (
            "yes" if bool(own["converged"]) else "no"
        )  # fmt: skip
        rows.append((_link(known, name), (*cells, fit)))
    values = np.nan_to_num(found["isnr"].values.astype("f8"), nan=-1.0)
    worst = np.argsort(values, kind="stable")[:_MOST_PICTURES]
    figures = tuple(
        Figure(
            _drawn(lambda ax, i=i: plot.mixture(found, int(i), ax), (7.4, 2.9)),
            f"Histogram of {name_of(names[i]).short} with the components of its mixture",
            f"{name_of(names[i]).short}: all values, and the components of the mixture",
            wide=True,
        )
        for i in worst
    )
    head = ("Channel", "iSNR", "Signal", "Noise", "Threshold", "Fit converged")
    caption = "One row a channel."
    if len(names) > _MOST_PICTURES:
        caption += f" Pictures are of the {_MOST_PICTURES} channels with the lowest iSNR."
    caption += _isnr_exactness(found)
    facts = (Fact("Correction", text_of(found.attrs.get("correction", "unknown"))),)
    table = Table(caption, head, tuple(rows), max(0, len(names) - _MOST_ROWS))
    return Section("isnr", "Image SNR", _ISNR_NOTE, facts, table, figures)


def _isnr_exactness(found: Any) -> str:
    if found.attrs.get("exact"):
        return " Exact: every distinct value was counted."
    errors = found["relative_error"].values
    largest = float(np.max(errors, initial=0.0, where=np.isfinite(errors)))
    return (
        " Approximate: values were counted in bins, which changes an iSNR by up to "
        f"{format_value(largest, 'fraction')}."
    )


def _clusters(found: Any) -> Section:
    """Sizes of the clusters, their profile, and where they lie."""
    sizes = found.sizes
    total = max(int(sizes.sum()), 1)
    rows = tuple(
        (
            Link(name_of(k), ""),
            (format_value(int(n), "count"), format_value(n / total, "fraction")),
        )
        for k, n in list(sizes.items())[:_MOST_ROWS]
    )
    table = Table(
        "One row a cluster.", ("Cluster", "Pixels", "Share"), rows, max(0, len(sizes) - _MOST_ROWS)
    )
    height = float(np.clip(1.5 + 0.26 * len(found.profile), 2.6, 9.0))
    width = float(np.clip(2.2 + 0.24 * found.profile.shape[1], 4.2, 13.0))
    several = isinstance(found.labels, list | tuple)
    labels = found.labels[0] if several else found.labels
    first = f" of the first of {len(found.labels)} fields of view" if several else ""
    figures = (
        Figure(
            _drawn(lambda ax: plot.cluster_profile(found.profile, ax), (width, height)),
            "Heat map of the clusters' profiles: a row a cluster, a column a channel",
            "Profile: channel means of each cluster, as standard scores",
            wide=width > 7,
        ),
        Figure(
            _drawn(lambda ax: plot.clusters(labels, ax), (6.4, 4.8), photograph=True),
            f"Map of the clusters{first}",
            f"Where the clusters lie{first}",
        ),
    )
    method = getattr(getattr(found, "model", None), "method", None)
    facts = [Fact("Clusters", format_value(len(sizes), "count"))]
    if method:
        facts.append(Fact("Method", text_of(method)))
    return Section("clusters", "Pixel clusters", _CLUSTERS_NOTE, tuple(facts), table, figures)


def _nuclei(image: Any, labels: Any, channel: Any = None, *, count: int | None) -> Section:
    """Outlines over the nuclear channel."""
    if channel is None and "c" in getattr(image, "coords", ()):
        names = [str(n) for n in np.atleast_1d(image.coords["c"].values)]
        channel = nuclear_channel(names) or 0
    uri = _drawn(
        lambda ax: plot.nuclei(image, labels, ax, channel=channel, count=count, numbers=False),
        (6.6, 6.6),
        photograph=True,
    )
    figure = Figure(uri, "Outlines of the nuclei over their channel", "Outlines", wide=True)
    facts = () if count is None else (Fact("Nuclei", format_value(count, "count")),)
    return Section("nuclei", "Nuclei", _NUCLEI_NOTE, facts, None, (figure,))
