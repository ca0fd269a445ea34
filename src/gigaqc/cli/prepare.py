"""Commands that make images and labels: preprocess, cluster, segment."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gigaqc as gq
from gigaqc.cli.options import Exit, Into, Machine, Reading, Sources, Writing, channel_names
from gigaqc.errors import ChannelError, ParameterError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


class Pool(enum.StrEnum):
    """How percentiles of several images become one."""

    MEAN = "mean"
    EXACT = "exact"


class ClusterOption(enum.StrEnum):
    """How pixels are clustered."""

    GMM = "gmm"
    KMEANS = "kmeans"
    FLOWSOM = "flowsom"


Take = Annotated[
    str | None,
    typer.Option("--take", metavar="A,B,...", help="The channels to use; by default all."),
]
PERCENTILE = "0..100|none"


def preprocess(
    sources: Sources,
    *,
    into: Into,
    reading: Reading,
    take: Take = None,
    q: Annotated[
        str, typer.Option(metavar=PERCENTILE, help="Percentile by which a channel is divided.")
    ] = "99",
    q_sum: Annotated[
        str, typer.Option(metavar=PERCENTILE, help="Percentile of the sums that a pixel exceeds.")
    ] = "5",
    q_post: Annotated[
        str, typer.Option(metavar=PERCENTILE, help="Percentile by which the result is divided.")
    ] = "99.9",
    sigma: Annotated[str, typer.Option(metavar="PIXELS|none", help="Of the blur.")] = "2",
    norm_sum: Annotated[
        bool, typer.Option(help="Divide each pixel by the sum of its channels.")
    ] = True,
    cap: Annotated[str, typer.Option(metavar="VALUE|none", help="Largest value.")] = "none",
    pool: Annotated[
        Pool, typer.Option(help="Mean of the images' percentiles, or those of all pixels together.")
    ] = Pool.MEAN,
    machine: Machine,
    writing: Writing,
) -> None:
    """Prepare images for the clustering of their pixels, as Pixie does: NAME.zarr each into OUT.

    Each channel is divided by its percentile --q, blurred by --sigma, divided by the sum of the
    channels (pixels below the percentile --q-sum of these become NaN), and divided by its
    percentile --q-post. `none` leaves a step out. Several sources are fields of view of one
    experiment: they get the same percentiles.
    """
    settings: dict[str, Any] = {
        "channels": channel_names(take),
        "q": _number(q, "--q"), "q_sum": _number(q_sum, "--q-sum"),
        "q_post": _number(q_post, "--q-post"), "sigma": _number(sigma, "--sigma"),
        "norm_sum": norm_sum, "cap": _number(cap, "--cap"), "pool": str(pool),
    }  # fmt: skip
    if into.output_layer is not None:
        sdata, layer = into.store(sources, reading, writing)
        with machine.used(), writing.bar("preprocess"):
            gq.spatial.pixel_clustering_preprocess(
                sdata, layer, into.output_layer, overwrite=writing.overwrite, **settings
            )
        writing.say(f"{sources[0]}: wrote images/{into.output_layer}")
        return
    targets = [path for (path,) in into.paths(sources, reading.element, [".zarr"], writing)]
    images = [reading.open(source) for source in sources]
    with machine.used(), writing.bar("preprocess"):
        results = gq.pixel_clustering_preprocess(images, **settings)
        _write(results, targets, writing)
    writing.say(*(f"Image: {target.resolve()}" for target in targets))


def cluster(
    sources: Sources,
    n_clusters: Annotated[int, typer.Option("--clusters", "-n", min=1, help="How many clusters.")],
    *,
    into: Into,
    reading: Reading,
    take: Take = None,
    method: Annotated[
        ClusterOption, typer.Option(help="Gaussian mixture, k-means, or self-organising map.")
    ] = ClusterOption.GMM,
    positive: Annotated[
        bool, typer.Option("--positive", help="Only pixels above 0 in all channels.")
    ] = False,
    fraction: Annotated[float, typer.Option(help="Part of the pixels to train on, 0..1.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Which pixels are drawn.")] = 0,
    machine: Machine,
    writing: Writing,
) -> None:
    """Group the pixels of images by their channels: a label image NAME.zarr each into OUT.

    Beside them profile.csv (mean of each channel and number of pixels by cluster), model.npz, which
    gigaqc.PixelModel.load reads, and clusters.png. Several sources get one model.
    """
    settings: dict[str, Any] = {
        "n_clusters": n_clusters, "channels": channel_names(take), "method": str(method),
        "mask": "positive" if positive else None, "fraction": fraction, "seed": seed,
    }  # fmt: skip
    if into.output_layer is not None:
        sdata, layer = into.store(sources, reading, writing)
        with machine.used(), writing.bar("cluster"):
            gq.spatial.cluster_pixels(
                sdata, layer, into.output_layer, overwrite=writing.overwrite, **settings
            )
        writing.say(f"{sources[0]}: wrote labels/{into.output_layer}")
        return
    targets = [path for (path,) in into.paths(sources, reading.element, [".zarr"], writing)]
    beside = [targets[0].with_name(n) for n in ("profile.csv", "model.npz", "clusters.png")]
    writing.refuse(beside)
    images = [reading.open(source) for source in sources]
    with machine.used(), writing.bar("cluster"):
        found = gq.cluster_pixels(images, **settings)
        _write(list(found.labels), targets, writing, labels=True)
    found.profile.assign(pixels=found.sizes).to_csv(beside[0])
    found.model.save(beside[1], overwrite=writing.overwrite)
    _draw(targets, found, beside[2])
    writing.say(*(f"Wrote {path.resolve()}" for path in (*targets, *beside)))


def _write(
    images: Sequence[Any], targets: Sequence[Path], writing: Writing, *, labels: bool = False
) -> None:
    from gigaqc.writers.write import write_together  # which imports dask

    write_together(images, targets, (), writing.overwrite, labels=labels)


def _number(given: str, option: str) -> float | None:
    if given.strip().lower() == "none":
        return None
    try:
        return float(given)
    except ValueError:
        raise ParameterError(f"{option}: got {given!r}; pass a number, or none.") from None


def _draw(targets: Sequence[Path], found: gq.PixelClusters, path: Path) -> None:
    """The first label image and the profile, in one picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    gq.pl.clusters(gq.open_labels(targets[0]), ax=left)
    gq.pl.cluster_profile(found.profile, ax=right)
    figure.savefig(path, dpi=110)


class SegmentOption(enum.StrEnum):
    """What finds nuclei."""

    WATERSHED = "watershed"
    STARDIST = "stardist"
    CELLPOSE = "cellpose"


class TableFormat(enum.StrEnum):
    """In which the table of objects is written."""

    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True)
class Finding:
    """How nuclei are found."""

    channel: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The channel that shows nuclei; by default by its name."),
    ] = None
    method: Annotated[
        SegmentOption, typer.Option(help="stardist and cellpose have to be installed.")
    ] = SegmentOption.WATERSHED
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Weights of stardist or cellpose."),
    ] = None
    diameter: Annotated[
        float | None, typer.Option(metavar="PIXELS", help="Of a nucleus; by default estimated.")
    ] = None
    threshold: Annotated[
        str | None,
        typer.Option(metavar="otsu|local|VALUE", help="Of the watershed; local needs --diameter."),
    ] = None
    tile: Annotated[int, typer.Option(metavar="PIXELS", help="Side of a tile.")] = 1024
    overlap: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="What a tile is seen with beyond its sides."),
    ] = None

    def options(self) -> dict[str, Any]:
        """Arguments of `segment_nuclei`."""
        found: dict[str, Any] = {
            "method": str(self.method), "diameter": self.diameter, "tile": self.tile,
            "overlap": self.overlap,
        }  # fmt: skip
        if self.model is not None:
            found["model"] = self.model
        if self.threshold is not None:
            try:
                found["threshold"] = float(self.threshold)
            except ValueError:
                found["threshold"] = self.threshold
        return found

    def channel_of(self, image: xr.DataArray) -> str:
        """Name of the channel that is segmented."""
        from gigaqc.base.formatting import listed
        from gigaqc.image.labelled import channel_index, channel_names, nuclear_channel

        names = channel_names(image)
        if self.channel is not None:
            return names[channel_index(names, self.channel, "--channel")]
        found = 0 if len(names) == 1 else nuclear_channel(names)
        if found is None:
            raise ChannelError(f"--channel: name the one that shows nuclei, of {listed(names)}.")
        return names[found]


def segment(
    sources: Sources,
    *,
    into: Into,
    finding: Finding,
    table: Annotated[
        TableFormat,
        typer.Option(help="parquet is written in parts, for more objects than memory holds."),
    ] = TableFormat.CSV,
    reading: Reading,
    machine: Machine,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 unless the quality is GOOD.")
    ] = False,
    writing: Writing,
) -> None:
    """Label the nuclei of images, tile by tile and without seams, and measure them.

    Into OUT, for a SOURCE called NAME: NAME_labels.zarr (nuclei are 1 to n), NAME_objects.csv
    (area, place, shape and intensities of each), NAME_nuclei.png (outlines, numbers, count). With
    --output-layer the labels go into the SpatialData store that SOURCE is, and the table and the
    picture into OUT, where that is given.

    The quality is GOOD where sizes vary by less than half of their mean and less than a tenth of
    the nuclei are elongated, else REVIEW; EMPTY without a nucleus.
    """
    endings = ("_labels.zarr", f"_objects.{table}", "_nuclei.png")
    if into.output_layer is None:
        targets = into.paths(sources, reading.element, endings, writing, "nuclei")
        with machine.used():
            qualities = [
                _segment_file(reading.open(source), finding, paths, writing)
                for source, paths in zip(sources, targets, strict=True)
            ]
    else:
        sdata, layer = into.store(sources, reading, writing, beside=True)
        names = (layer, into.output_layer)
        beside = None if into.out is None else into.paths(sources, layer, endings, writing)[0][1:]
        with machine.used():
            qualities = [_segment_layer(sources[0], sdata, names, finding, beside, writing)]
    if strict and any(quality != "GOOD" for quality in qualities):
        raise typer.Exit(Exit.FAILED)


def _segment_file(
    image: xr.DataArray, finding: Finding, paths: Sequence[Path], writing: Writing
) -> str:
    """Write labels, table and picture, or nothing; gives the quality."""
    from gigaqc.stores.staging import staged

    name = finding.channel_of(image)
    lazy = gq.segment_nuclei(image, name, **finding.options())
    with staged(paths[:1]) as (place,):
        with writing.bar("segment"):
            gq.write_labels(lazy, place)
        quality = _measured(paths[1:], image, gq.open_labels(place), name, writing)
    writing.say(f"Wrote {paths[0].resolve()}")
    return quality


def _segment_layer(
    source: str,
    sdata: Any,
    names: tuple[str, str],
    finding: Finding,
    beside: Sequence[Path] | None,
    writing: Writing,
) -> str:
    """Segment an image of a store into labels of the store; the quality."""
    element, output = names
    image = gq.open_image(source, element=element)
    name = finding.channel_of(image)
    with writing.bar("segment"):
        gq.spatial.segment_nuclei(
            sdata, element, output, name, overwrite=writing.overwrite, **finding.options()
        )
    quality = _measured(beside, image, gq.open_labels(source, element=output), name, writing)
    writing.say(f"{source}: wrote labels/{output}")
    return quality


def _measured(
    paths: Sequence[Path] | None,
    image: xr.DataArray,
    labels: xr.DataArray,
    channel: str,
    writing: Writing,
) -> str:
    """Table and picture of labels that are in a store; prints what they are like."""
    from gigaqc.stores.staging import staged

    with writing.bar("measure"):
        found = gq.segmentation_quality(labels).compute()
        if paths is not None:
            count = int(found["n_cells"])
            with staged(paths) as (table, picture):
                _write_table(labels, image, table, parquet=paths[0].suffix == ".parquet")
                _picture(image, labels, channel, count).savefig(picture, format="png", dpi=110)
    if not writing.quiet:
        _show(found)
    writing.say(*(f"Wrote {path.resolve()}" for path in paths or ()))
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
