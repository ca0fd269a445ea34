"""``gigaqc segment``."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gigaqc as gq
from gigaqc.cli.assess import (
    ChannelsOption,
    DimsOption,
    Element,
    Level,
    Memory,
    OpeningOptions,
    Quiet,
    Scheduler,
    Sources,
    Workers,
    app,
    checked_dims,
    reported,
)
from gigaqc.cli.prepare import (
    OutputLayer,
    Overwrite,
    bar,
    opened_store,
    refuse,
    refuse_reading,
    say,
)
from gigaqc.cli.verdicts import Exit
from gigaqc.errors import ChannelError, ParameterError
from gigaqc.samples import make_writable, plan_samples
from gigaqc.workers import computing

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


class SegmentOption(enum.StrEnum):
    """How nuclei are found."""

    WATERSHED = "watershed"
    STARDIST = "stardist"
    CELLPOSE = "cellpose"


class TableFormat(enum.StrEnum):
    """In which the table of objects is written."""

    CSV = "csv"
    PARQUET = "parquet"


Threshold = Annotated[
    str | None,
    typer.Option(metavar="otsu|local|VALUE", help="Of the watershed; local needs --diameter."),
]


@app.command(short_help="Label the nuclei of images, and measure them.")
def segment(
    sources: Sources,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")
    ] = None,
    output_layer: OutputLayer = None,
    channel: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The channel that shows nuclei; by default by its name."),
    ] = None,
    method: Annotated[
        SegmentOption, typer.Option(help="stardist and cellpose have to be installed.")
    ] = SegmentOption.WATERSHED,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Weights of stardist or cellpose."),
    ] = None,
    diameter: Annotated[
        float | None, typer.Option(metavar="PIXELS", help="Of a nucleus; by default estimated.")
    ] = None,
    threshold: Threshold = None,
    tile: Annotated[int, typer.Option(metavar="PIXELS", help="Side of a tile.")] = 1024,
    overlap: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="What a tile is seen with beyond its sides."),
    ] = None,
    table: Annotated[
        TableFormat,
        typer.Option(help="parquet is written in parts, for more objects than memory holds."),
    ] = TableFormat.CSV,
    dims: DimsOption = None,
    channels: ChannelsOption = None,
    element: Element = None,
    level: Level = 0,
    workers: Workers = None,
    memory: Memory = None,
    scheduler: Scheduler = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 unless the quality is GOOD.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Label the nuclei of images, tile by tile and without seams, and measure them.

    Into OUT, for a SOURCE called NAME: NAME_labels.zarr (nuclei are 1 to n), NAME_objects.csv
    (area, place, shape and intensities of each), NAME_nuclei.png (outlines, numbers, count). With
    --output-layer the labels go into the SpatialData store that SOURCE is, and the table and the
    picture into OUT, where that is given.

    The quality is GOOD where sizes vary by less than half of their mean and less than a tenth of
    the nuclei are elongated, else REVIEW; EMPTY without a nucleus.
    """
    with reported():
        options = _options(method, model, diameter, threshold, tile, overlap)
        if output_layer is None:
            reading = OpeningOptions(checked_dims(dims), channels, element, level)
            jobs = _jobs(sources, out, element, table, overwrite)
            with computing(workers, memory, scheduler):
                qualities = _segment_each(jobs, sources, reading, channel, options, quiet=quiet)
        else:
            refuse_reading(dims, channels, level)
            sdata, layer = opened_store(sources, element, None, output_layer, overwrite)
            jobs = [] if out is None else _jobs(sources, out, layer, table, overwrite)
            element_of = _Layer(sources[0], sdata, layer, output_layer, overwrite)
            with computing(workers, memory, scheduler):
                qualities = [_segment_layer(element_of, jobs, channel, options, quiet=quiet)]
    if strict and any(quality != "GOOD" for quality in qualities):
        raise typer.Exit(Exit.FAILED)


def _segment_each(
    jobs: Sequence[_Job],
    sources: Sequence[str],
    reading: OpeningOptions,
    channel: str | None,
    options: dict[str, Any],
    *,
    quiet: bool,
) -> list[str]:
    """Segment one source after another into files; the quality of each."""
    qualities = []
    for job, source in zip(jobs, sources, strict=True):
        image = reading.open(source)
        name = _nuclear(image, channel)
        lazy = gq.segment_nuclei(image, name, **options)
        qualities.append(_segmented(job, image, lazy, name, quiet=quiet))
    return qualities


@dataclass(frozen=True)
class _Layer:
    """An image of a SpatialData store, and where its labels go."""

    source: str
    sdata: Any
    image: str
    labels: str
    overwrite: bool


def _segment_layer(
    layer: _Layer,
    jobs: Sequence[_Job],
    channel: str | None,
    options: dict[str, Any],
    *,
    quiet: bool,
) -> str:
    """Segment an image of a store into labels of the store; the quality."""
    image = gq.open_image(layer.source, element=layer.image)
    name = _nuclear(image, channel)
    with bar("segment", quiet=quiet):
        gq.spatial.segment_nuclei(
            layer.sdata, layer.image, layer.labels, name, overwrite=layer.overwrite, **options
        )
    labels = gq.open_labels(layer.source, element=layer.labels)
    quality = _measured(jobs[0] if jobs else None, image, labels, name, quiet=quiet)
    say(f"{layer.source}: wrote labels/{layer.labels}", quiet)
    return quality


def _options(
    method: SegmentOption,
    model: str | None,
    diameter: float | None,
    threshold: str | None,
    tile: int,
    overlap: int | None,
) -> dict[str, Any]:
    """Arguments of `segment_nuclei`."""
    found: dict[str, Any] = {
        "method": str(method), "diameter": diameter, "tile": tile, "overlap": overlap,
    }  # fmt: skip
    if model is not None:
        found["model"] = model
    if threshold is not None:
        try:
            found["threshold"] = float(threshold)
        except ValueError:
            found["threshold"] = threshold
    return found


@dataclass(frozen=True)
class _Job:
    """Where the results of one source go."""

    labels: Path
    table: Path
    picture: Path


def _jobs(
    sources: Sequence[str],
    out: Path | None,
    element: str | None,
    table: TableFormat,
    overwrite: bool,
) -> list[_Job]:
    """Settled before any pixel is read."""
    if out is None:
        raise ParameterError("--out: name a folder for the results, such as -o nuclei.")
    make_writable(out)
    jobs = [
        _Job(s.path("_labels.zarr"), s.path(f"_objects.{table}"), s.path("_nuclei.png"))
        for s in plan_samples(sources, out, element=element)
    ]
    for job in jobs:
        if any(os.path.realpath(source) == os.path.realpath(job.labels) for source in sources):
            raise ParameterError(
                f"out: {str(job.labels)!r} is a SOURCE itself; choose another folder."
            )
        refuse([job.labels, job.table, job.picture], overwrite)
    return jobs


def _nuclear(image: xr.DataArray, channel: str | None) -> str:
    """Name of the channel that is segmented."""
    from gigaqc.image import channel_index, channel_names, nuclear_channel
    from gigaqc.representation import listed

    names = channel_names(image)
    if channel is not None:
        return names[channel_index(names, channel, "--channel")]
    found = 0 if len(names) == 1 else nuclear_channel(names)
    if found is None:
        raise ChannelError(f"--channel: name the one that shows nuclei, of {listed(names)}.")
    return names[found]


def _segmented(
    job: _Job, image: xr.DataArray, lazy: xr.DataArray, channel: str, *,
    quiet: bool,
) -> str:  # fmt: skip
    """Write labels, table and picture, or nothing; gives the quality."""
    from gigaqc.stores.staging import staged

    with staged([job.labels]) as (place,):
        with bar("segment", quiet=quiet):
            gq.write_labels(lazy, place)
        quality = _measured(job, image, gq.open_labels(place), channel, quiet=quiet)
    say(f"Wrote {job.labels.resolve()}", quiet)
    return quality


def _measured(
    job: _Job | None, image: xr.DataArray, labels: xr.DataArray, channel: str, *,
    quiet: bool,
) -> str:  # fmt: skip
    """Table and picture of labels that are in a store; prints what they are like."""
    from gigaqc.stores.staging import staged

    with bar("measure", quiet=quiet):
        found = gq.segmentation_quality(labels).compute()
        if job is not None:
            count = int(found["n_cells"])
            with staged([job.table, job.picture]) as (table, picture):
                _write_table(labels, image, table, parquet=job.table.suffix == ".parquet")
                _picture(image, labels, channel, count).savefig(picture, format="png", dpi=110)
    if not quiet:
        _show(found)
        for path in (job.table, job.picture) if job is not None else ():
            typer.echo(f"Wrote {path.resolve()}")
    return str(found["quality"].values)


def _write_table(labels: xr.DataArray, image: xr.DataArray, path: Path, *, parquet: bool) -> None:
    if parquet:
        named = path.with_name(f"{path.name}.parquet")  # as tables must be called
        gq.object_table(labels, image, to=named)
        named.rename(path)
    else:
        gq.object_table(labels, image).to_csv(path)


def _picture(image: xr.DataArray, labels: xr.DataArray, channel: str, count: int) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 9), layout="constrained")
    # What several planes hold is not what the one in the picture holds.
    planar = all(labels.sizes.get(d, 1) == 1 for d in "tz")
    gq.pl.nuclei(
        image, labels, ax=figure.subplots(), channel=channel, count=count if planar else None
    )
    return figure


def _show(found: xr.Dataset) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table("", "nuclei")
    rows = {
        "count": f"{int(found['n_cells']):,}",
        "mean area [px]": f"{float(found['mean_area']):.4g}",
        "variation of area (std/mean)": f"{float(found['area_cv']):.3g}",
        "elongated": f"{float(found['fraction_elongated']):.1%}",
        "at the border of the image": f"{int(found['n_border']):,}",
        "quality": str(found["quality"].values),
    }
    for name, value in rows.items():
        shown.add_row(Text(name), value)
    Console().print(shown)
