"""`assess`: from an image to a verdict, and the `Assessment` that holds it."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.base import __version__
from gigaqc.errors import ImageTypeError, ParameterError, StatisticsError
from gigaqc.formulas.catalogue import SCHEMA
from gigaqc.formulas.record import Status, worst
from gigaqc.formulas.rules import Rules, flag_table
from gigaqc.formulas.segmentation import cells_by_tile
from gigaqc.formulas.views import Labelled, Sample, Settings
from gigaqc.image.labelled import (
    as_image,
    as_mask,
    channel_index,
    channel_names,
    nuclear_channel,
    opened,
)
from gigaqc.quality.channels import check_pairs
from gigaqc.scanning.scan import LazyStatistics, StatisticsLike, scan
from gigaqc.scanning.table import table_of
from gigaqc.scanning.tissue import TissueMask, mask_pass, tissue_pass
from gigaqc.statistics.statistics import Statistics, state_files, write_files
from gigaqc.statistics.unreadable import OnError, listed
from gigaqc.stores.location import without_query
from gigaqc.typing import ChannelLike, ImageLike, LabelsLike, MaskLike
from gigaqc.verdict import progress as progress_bar
from gigaqc.verdict.explain import plan_scan
from gigaqc.verdict.judge import (
    channel_table,
    correlation_table,
    display_histograms,
    error_table,
    judge_channels,
    judge_pairs,
    judge_sample,
    sample_numbers,
    thumbnails,
    tile_maps,
)

_MASK = "mask"  # what shows the tissue when the caller has a mask of it


@dataclass(frozen=True)
class Assessment:
    """What `assess` found; every part is a plain table or array.

    Attributes
    ----------
    name
        Of the sample.
    channels
        One row a channel: all metrics, and ``status``.
    summary
        Of the sample: ``coverage``, ``n_fragments``, ``min_snr``, ``status``, ...
    tiles
        Maps over ``c tile_y tile_x`` (and ``t``, ``z`` where the image has them); with labels also
        ``cells``, objects by the tile of their centroid.
    correlation
        Pearson's r over ``c``, ``c_other``.
    flags
        One row a judgement, the worst first: ``scope name metric value``, one standard ``error`` of
        the value (NaN where it is not known), the ``limit`` that it was held against, on which
        ``side`` values are bad, ``status``, whether it is ``certain`` (the limit lies more than two
        errors away; NA where that cannot be told), a ``note``, and the ``reason`` in words.
    objects
        Where labels are given, one row an object, as `object_table` gives it; else None.
    provenance
        Version, source, parameters, reads, seconds.
    histograms, thumbnails
        For display: counts of 128 bins, and means of small cells, a channel.
    statistics
        The `Statistics` that all of it follows from.
    """

    name: str
    rules: Rules
    statistics: Statistics
    tissue: TissueMask | None
    channels: pd.DataFrame
    summary: pd.Series
    tiles: xr.Dataset
    correlation: xr.DataArray
    flags: pd.DataFrame
    histograms: xr.Dataset
    thumbnails: xr.DataArray
    provenance: dict[str, Any]
    objects: pd.DataFrame | None = None

    @property
    def status(self) -> str:
        """The worst verdict: PASS, WARN or FAIL."""
        return str(worst([Status(s) for s in self.flags["status"]]))

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.status != Status.FAIL

    def to_html(
        self,
        path: str | os.PathLike[str],
        *,
        gain: Any = None,
        isnr: Any = None,
        clusters: Any = None,
        nuclei: Any = None,
    ) -> None:
        """Write one self-contained page; complete or absent.

        Parameters
        ----------
        path
            The file; one that exists is replaced.
        gain, isnr, clusters, nuclei
            Other results of the image, each of which gets a section: what `gq.gain_map`, `gq.isnr`
            and `gq.cluster_pixels` give, and ``(image, labels)``. What is shown of lazy ones is
            computed now.

        Raises
        ------
        ParameterError, WriteError
            When a result is something else, or the file cannot be written.
        """
        from gigaqc.report import write_html

        write_html(self, path, gain=gain, isnr=isnr, clusters=clusters, nuclei=nuclei)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write what `to_dict` gives as JSON (NaN is null, infinities are strings)."""
        from gigaqc.report.templating import write_text

        write_text(path, json.dumps(self.to_dict(), indent=1, allow_nan=False))

    def to_spatialdata(
        self, sdata: Any, image_key: str, *, labels_key: str | None = None, overwrite: bool = False
    ) -> Any:
        """Put it into a SpatialData beside the image that it is of, as `gigaqc.spatial.assess`.

        Written to the store that backs `sdata`, if there is one. `labels_key` names the labels
        element that ``objects`` come from. Returns `sdata`.
        """
        from gigaqc.tables import add_assessments

        labels = {image_key: labels_key}
        add_assessments(sdata, {image_key: self}, labels=labels, overwrite=overwrite)
        return sdata

    def to_dict(self) -> dict[str, Any]:
        """All tables as plain values, but not that of single objects: they may be millions."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "status": self.status,
            "passed": self.passed,
            "summary": plain(self.summary.to_dict()),
            "channels": plain(self.channels.to_dict(orient="index")),
            "flags": plain(self.flags.to_dict(orient="records")),
            "correlation": plain(self.correlation.values.tolist()),
            "provenance": plain(self.provenance),
        }

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Keep the statistics and what the verdict needs beside them; `load` judges them anew."""
        write_files(path, kept_files(self), overwrite=overwrite)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, rules: Rules | str | os.PathLike[str] = "robust"
    ) -> Assessment:
        """Judge what `save` kept, by any rules, without reading a pixel.

        Tissue is left out where the rules find it in another way than it was found.
        """
        kept, chosen = kept_at(path), Rules.of(rules)
        tissue, parameters = kept.tissue, kept.provenance["parameters"]
        if parameters["tissue_method"] not in (_MASK, chosen.tissue_method):
            # Found in another way than these rules ask for; to find it anew takes the pixels.
            tissue = parameters["tissue"] = None
        return judged(kept.statistics, tissue, chosen, kept.name, kept.provenance)

    def _repr_html_(self) -> str:
        from gigaqc.report import notebook_html

        return notebook_html(self)

    def __repr__(self) -> str:
        counts = self.flags["status"].value_counts()
        found = ", ".join(f"{counts.get(s, 0)} {s}" for s in ("FAIL", "WARN", "PASS"))
        lines = [f"Assessment of {self.name!r}: {self.status} ({found})"]
        bad = self.flags[self.flags["status"] != "PASS"]
        lines += [f"  {f.status} {f.name}: {f.reason}" for f in bad.head(8).itertuples(index=False)]
        if len(bad) > 8:
            lines.append(f"  and {len(bad) - 8} more in .flags")
        return "\n".join(lines)


@dataclass(frozen=True)
class Kept:
    """What `Assessment.save` kept: all that a verdict follows from."""

    statistics: Statistics
    tissue: TissueMask | None
    name: str
    provenance: dict[str, Any]


def kept_files(verdict: Assessment) -> dict[str, bytes]:
    """What `Assessment.save` writes: the files of a zarr group, by their paths in it."""
    extra = {
        "name": verdict.name,
        "tissue": None if verdict.tissue is None else asdict(verdict.tissue),
        "provenance": verdict.provenance,
    }
    return state_files(verdict.statistics, {"assessment": json.dumps(plain(extra))})


def kept_at(path: str | os.PathLike[str]) -> Kept:
    """Read what `Assessment.save` kept, without judging it."""
    import zarr

    statistics = Statistics.load(path)
    kept = json.loads(str(zarr.open_group(str(path), mode="r").attrs.get("assessment", "null")))
    if kept is None:
        raise StatisticsError(
            f"path: {os.fspath(path)!r} holds statistics but no assessment; make one with "
            "gq.assess(Statistics.load(path))."
        )
    tissue = None if kept["tissue"] is None else TissueMask(**kept["tissue"])
    return Kept(statistics, tissue, kept["name"], kept["provenance"])


def assess(
    image: ImageLike | StatisticsLike,
    *,
    labels: LabelsLike | None = None,
    tissue: ChannelLike | MaskLike | bool | None = None,
    rules: Rules | str | os.PathLike[str] = "robust",
    tile: int = 512,
    expected_pairs: Iterable[tuple[str, str]] = (),
    mask: MaskLike | None = None,
    full_scale: float | None = None,
    name: str | None = None,
    progress: bool | None = None,
    on_error: OnError = "raise",
) -> Assessment:
    """Judge an image: all metrics from one read of its chunks (two for floats). Runs now.

    Parameters
    ----------
    image
        An image or its path, or a `Statistics` (then no pixel is read, and there is no tissue).
    labels
        A label image of the same pixels (or its path, as `open_labels` takes it), read once beside
        the image: its objects are measured and judged too. An image with labels has one time.
    tissue
        The channel that shows the tissue, or a bool mask of it; the file of one as a
        `pathlib.Path`, because a str is a channel. None takes the nuclear channel by its name (DNA,
        DAPI, Hoechst, Ir191, Ir193, H3, histone), else the first; False leaves tissue out. It costs
        one more read of that channel, and does not change the SNR.
    rules
        ``"robust"``, ``"recipe"``, a `Rules`, or the path of a TOML file.
    tile
        Side of the tiles of the maps, in pixels.
    expected_pairs
        Pairs of channels that may correlate.
    mask
        Bool over ``y x``, or polygons (see `region`): judge only the pixels inside; the recipe's
        SNR takes its noise outside.
    full_scale
        Where the detector clips; needed to see clipping in float images.
    name
        Of the sample; the file's name unless said.
    progress
        Show a progress bar. None: in a terminal or a notebook.
    on_error
        ``"raise"``: a chunk that cannot be read is an error. ``"mask"``: its pixels are excluded,
        as those that are NaN, and the sample gets a flag `unreadable_fraction` that names it; all
        such chunks are listed in ``.provenance["unreadable"]``.

    Returns
    -------
    Assessment

    Raises
    ------
    ImageError, ChannelError, MaskError, ParameterError, RulesError, SourceNotFoundError
        Before any pixel is read.
    ReadError
        A chunk cannot be read (with ``on_error="mask"`` too, where it is of labels or of a mask).

    Notes
    -----
    Runs on the current dask ``Client`` where there is one, else on threads.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> noise = np.random.default_rng(0).poisson(5, (1, 128, 128)).astype("u2")
    >>> gq.assess(noise, progress=False).passed
    False
    """
    chosen = Rules.of(rules)
    named = [tuple(str(n) for n in pair) for pair in expected_pairs]
    if full_scale is not None and not math.isfinite(full_scale):
        raise ParameterError(f"full_scale: got {full_scale!r}; pass a finite number.")
    if isinstance(image, LazyStatistics):
        image = image.compute()
    if isinstance(image, Statistics):
        for argument, value in (("labels", labels), ("tissue", tissue), ("mask", mask)):
            if value is not None and value is not False:
                raise ImageTypeError(
                    f"{argument}: Statistics hold no pixels; pass the image itself."
                )
        pairs = check_pairs(named, image.channels, "expected_pairs")
        provenance = provenance_of(image, None, None, pairs, full_scale, 0, 0.0)
        return judged(image, None, chosen, name or "statistics", provenance)
    labelled = as_image(image)
    labels = opened(labels, "labels", labels=True)
    names = channel_names(labelled)
    pairs = check_pairs(named, names, "expected_pairs")
    thresholds = () if full_scale is None else (float(full_scale),)
    statistics = scan(
        labelled, labels=labels, mask=mask, tile=tile, thresholds=thresholds, on_error=on_error
    )
    wanted = [statistics]
    guard = on_error == "mask"
    shown, method, found = _tissue(labelled, tissue, statistics, chosen, mask, guard=guard)
    if found is not None:
        wanted.append(found)
    plan = plan_scan(labelled, tissue=found is not None, labels=labels)
    show = progress_bar.watched() if progress is None else progress
    start = time.perf_counter()
    results = progress_bar.compute("reading", plan.bytes_read, *wanted, show=show)
    seconds = time.perf_counter() - start
    title = name or sample_name(labelled)
    provenance = provenance_of(
        results[0], shown, method, pairs, full_scale, plan.bytes_read, seconds
    )
    mask_found = results[1] if found is not None else None
    return judged(results[0], mask_found, chosen, title, provenance)


def _tissue(
    image: xr.DataArray, tissue: Any, statistics: Any, rules: Rules, mask: Any, *, guard: bool
) -> tuple[str | None, str | None, Any]:
    """What shows the tissue and how it is found, in words, and the pass that finds it."""
    if tissue is False:
        return None, None, None
    if isinstance(tissue, np.integer):
        tissue = int(tissue)
    within = None if mask is None else as_mask(mask, image)
    names = channel_names(image)
    if tissue is None or isinstance(tissue, (str, int)):
        nuclear = nuclear_channel(names)
        index = (nuclear or 0) if tissue is None else channel_index(names, tissue, "tissue")
        found = tissue_pass(
            image, index, statistics, channel_in_statistics=index, method=rules.tissue_method,
            mask=within, guard=guard,
        )  # fmt: skip
        return names[index], rules.tissue_method, found
    return _MASK, _MASK, mask_pass(as_mask(tissue, image, "tissue"), within)


def judged(
    statistics: Statistics,
    tissue: TissueMask | None,
    rules: Rules,
    name: str,
    provenance: dict[str, Any],
) -> Assessment:
    """The assessment of what was observed: arithmetic, no pixels."""
    parameters = provenance["parameters"]
    settings = Settings(full_scale=parameters["full_scale"], min_coverage=rules.min_coverage)
    channels = channel_table(statistics, settings)
    with np.errstate(over="ignore", invalid="ignore"):  # squares near the largest float
        correlation = correlation_table(statistics)
    tiles = tile_maps(statistics, channels)
    sums, objects, labelled = statistics.objects, None, None
    if sums is not None:
        objects, labelled = table_of(sums.rows, sums.layout), Labelled(sums.rows, sums.layout)
        cells = cells_by_tile(sums.rows, sums.layout, statistics.meta.tile)
        tiles["cells"] = (("tile_y", "tile_x"), cells)
    sample = Sample(statistics, channels, tissue=tissue, objects=labelled, settings=settings)
    numbers = {"tissue_channel": parameters["tissue"], **sample_numbers(sample)}
    summary = pd.Series(numbers, dtype=object)
    planes = math.prod(statistics.meta.sizes.get(d, 1) for d in "tz")
    errors = error_table(sample, name)
    flags = judge_channels(rules, channels, planes=planes, errors=errors)
    flags += judge_sample(rules, summary, name, statistics.unreadable, errors)
    flags += judge_pairs(rules, correlation, [tuple(p) for p in parameters["expected_pairs"]])
    table = flag_table(flags)
    by_channel = {
        c: str(worst([f.status for f in flags if f.scope == "channel" and f.name == c]))
        for c in channels.index
    }
    channels["status"] = pd.Series(by_channel, dtype=object)
    summary["status"] = str(worst([f.status for f in flags]))
    summary["n_flags"] = int((table["status"] != "PASS").sum())
    return Assessment(
        name=name, rules=rules, statistics=statistics, tissue=tissue, channels=channels,
        summary=summary, tiles=tiles, correlation=correlation,
        flags=table, histograms=display_histograms(statistics), thumbnails=thumbnails(statistics),
        objects=objects,
        provenance={**provenance, "rules": rules.name},
    )  # fmt: skip


def provenance_of(
    statistics: Statistics,
    tissue: str | None,
    tissue_method: str | None,
    pairs: list[tuple[str, str]],
    full_scale: float | None,
    n_bytes: int,
    seconds: float,
) -> dict[str, Any]:
    """How the numbers came about, in plain values."""
    meta = statistics.meta
    return {
        "version": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "source": meta.source,
        "dims": list(meta.dims),
        "sizes": dict(meta.sizes),
        "dtype": meta.dtype,
        "channels": len(meta.channels),
        "pixel_size": dict(meta.pixel_size),
        "unit": meta.unit,
        "parameters": {
            "tile": meta.tile,
            "masked": meta.masked,
            "labels": statistics.objects is not None,
            "tissue": tissue,
            "tissue_method": tissue_method,
            "expected_pairs": [list(p) for p in pairs],
            "full_scale": full_scale,
        },
        "reads": meta.reads,
        "bytes_read": n_bytes,
        "seconds": round(seconds, 3),
        "unreadable": [] if statistics.unreadable is None else listed(statistics.unreadable),
        "exact": "counts and percentiles to the bit; hot-pixel sigma of floats to 2^-8",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def sample_name(image: xr.DataArray) -> str:
    """What a sample is called unless said: the last part of its source, and its element."""
    source, element = image.attrs.get("source"), image.attrs.get("element")
    if source is None:
        return str(image.name) if image.name is not None else "image"
    name = Path(without_query(str(source)).rstrip("/")).name
    return name if element in (None, "", "0", "Image0", name) else f"{name} {element}"


def plain(value: Any) -> Any:
    """Plain values that JSON can hold: NaN is None, infinities are strings."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return None if value is pd.NA else value
