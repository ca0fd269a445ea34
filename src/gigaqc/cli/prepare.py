"""``gigaqc preprocess`` and ``gigaqc cluster``."""

from __future__ import annotations

import enum
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

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
    channel_names,
    checked_dims,
    reported,
)
from gigaqc.errors import (
    ElementError,
    MissingDependencyError,
    ParameterError,
    ReadError,
    WriteError,
)
from gigaqc.samples import make_writable, plan_samples
from gigaqc.workers import computing


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
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results that are there already.")
]
OutputLayer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Write an element of this name into the SpatialData store that SOURCE is, instead of "
        "OUT; --element names the image.",
    ),
]
PERCENTILE = "0..100|none"


@app.command(short_help="Prepare images for the clustering of their pixels.")
def preprocess(
    sources: Sources,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")
    ] = None,
    output_layer: OutputLayer = None,
    dims: DimsOption = None,
    channels: ChannelsOption = None,
    element: Element = None,
    level: Level = 0,
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
    workers: Workers = None,
    memory: Memory = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Prepare images for the clustering of their pixels, as Pixie does: NAME.zarr each into OUT.

    Each channel is divided by its percentile --q, blurred by --sigma, divided by the sum of the
    channels (pixels below the percentile --q-sum of these become NaN), and divided by its
    percentile --q-post. `none` leaves a step out. Several sources are fields of view of one
    experiment: they get the same percentiles.
    """
    with reported():
        settings: dict[str, Any] = {
            "channels": None if take is None else channel_names(take),
            "q": _number(q, "--q"), "q_sum": _number(q_sum, "--q-sum"),
            "q_post": _number(q_post, "--q-post"), "sigma": _number(sigma, "--sigma"),
            "norm_sum": norm_sum, "cap": _number(cap, "--cap"), "pool": str(pool),
        }  # fmt: skip
        if output_layer is not None:
            refuse_reading(dims, channels, level)
            sdata, layer = opened_store(sources, element, out, output_layer, overwrite)
            with computing(workers, memory, scheduler), bar("preprocess", quiet=quiet):
                gq.spatial.pixel_clustering_preprocess(
                    sdata, layer, output_layer, overwrite=overwrite, **settings
                )
            say(f"{sources[0]}: wrote images/{output_layer}", quiet)
            return
        targets = _targets(sources, out, element, overwrite)
        reading = OpeningOptions(checked_dims(dims), channels, element, level)
        images = [reading.open(source) for source in sources]
        with computing(workers, memory, scheduler), bar("preprocess", quiet=quiet):
            results = gq.pixel_clustering_preprocess(images, **settings)
            _write(results, targets, overwrite)
        for target in targets:
            say(f"Image: {target.resolve()}", quiet)


@app.command(short_help="Group the pixels of images by their channels.")
def cluster(
    sources: Sources,
    n_clusters: Annotated[int, typer.Option("--clusters", "-n", min=1, help="How many clusters.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")
    ] = None,
    output_layer: OutputLayer = None,
    dims: DimsOption = None,
    channels: ChannelsOption = None,
    element: Element = None,
    level: Level = 0,
    take: Take = None,
    method: Annotated[
        ClusterOption, typer.Option(help="Gaussian mixture, k-means, or self-organising map.")
    ] = ClusterOption.GMM,
    positive: Annotated[
        bool, typer.Option("--positive", help="Only pixels above 0 in all channels.")
    ] = False,
    fraction: Annotated[float, typer.Option(help="Part of the pixels to train on, 0..1.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Which pixels are drawn.")] = 0,
    workers: Workers = None,
    memory: Memory = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Group the pixels of images by their channels: a label image NAME.zarr each into OUT.

    Beside them profile.csv (mean of each channel and number of pixels by cluster), model.npz, which
    gigaqc.PixelModel.load reads, and clusters.png. Several sources get one model.
    """
    with reported():
        settings: dict[str, Any] = {
            "channels": None if take is None else channel_names(take), "method": str(method),
            "mask": "positive" if positive else None, "fraction": fraction, "seed": seed,
        }  # fmt: skip
        if output_layer is not None:
            refuse_reading(dims, channels, level)
            sdata, layer = opened_store(sources, element, out, output_layer, overwrite)
            with computing(workers, memory, scheduler), bar("cluster", quiet=quiet):
                gq.spatial.cluster_pixels(
                    sdata, layer, output_layer, n_clusters, overwrite=overwrite, **settings
                )
            say(f"{sources[0]}: wrote labels/{output_layer}", quiet)
            return
        targets = _targets(sources, out, element, overwrite)
        folder = targets[0].parent
        beside = [folder / name for name in ("profile.csv", "model.npz", "clusters.png")]
        refuse(beside, overwrite)
        reading = OpeningOptions(checked_dims(dims), channels, element, level)
        images = [reading.open(source) for source in sources]
        with computing(workers, memory, scheduler), bar("cluster", quiet=quiet):
            found = gq.cluster_pixels(images, n_clusters, **settings)
            _write(list(found.labels), targets, overwrite, labels=True)
        found.profile.assign(pixels=found.sizes).to_csv(beside[0])
        found.model.save(beside[1], overwrite=overwrite)
        _draw(targets, found, beside[2])
        for path in (*targets, *beside):
            say(f"Wrote {path.resolve()}", quiet)


def bar(label: str, *, quiet: bool) -> Any:
    """A progress bar of what is computed."""
    from gigaqc.progress import tasks_shown  # which imports dask

    return tasks_shown(label, show=not quiet)


def _write(
    images: Sequence[Any], targets: Sequence[Path], overwrite: bool, *, labels: bool = False
) -> None:
    from gigaqc.writers.write import write_together  # which imports dask

    write_together(images, targets, (), overwrite, labels=labels)


def _number(given: str, option: str) -> float | None:
    if given.strip().lower() == "none":
        return None
    try:
        return float(given)
    except ValueError:
        raise ParameterError(f"{option}: got {given!r}; pass a number, or none.") from None


def refuse_reading(dims: str | None, channels: str | None, level: int) -> None:
    """Elements say themselves what their axes and channels are."""
    for option, given in (("--dims", dims), ("--channels", channels), ("--level", level)):
        if given:
            raise ParameterError(f"{option}: does not go with --output-layer; leave it out.")


def opened_store(
    sources: Sequence[str], element: str | None, out: Path | None, output: str, overwrite: bool
) -> tuple[Any, str]:
    """The store, opened, and the image in it."""
    if len(sources) != 1 or out is not None:
        raise ParameterError(
            "--output-layer: goes with one SOURCE, a SpatialData store, and without --out."
        )
    names = gq.list_images(sources[0])
    if element is None and len(names) > 1:
        raise ParameterError(f"--element: name one of {', '.join(names)}.")
    if not (Path(sources[0]) / "images").is_dir():
        raise ParameterError(
            f"--output-layer: {sources[0]!r} is no SpatialData store; pass --out instead."
        )
    if element is not None and element not in names:
        raise ElementError(
            f"--element: no image is named {element!r}; there are {', '.join(names)}."
        )
    try:
        import spatialdata
    except ImportError as error:
        raise MissingDependencyError(
            "--output-layer: spatialdata is not installed; pip install 'gigaqc[spatial]'."
        ) from error
    # What it says of every labels element, its own included, tells a user nothing.
    logging.getLogger("ome_zarr").setLevel(logging.ERROR)
    try:
        sdata = spatialdata.read_zarr(sources[0])
    except Exception as error:  # of any kind, as it comes from many libraries
        raise ReadError(
            f"source: {sources[0]!r} cannot be read by spatialdata ({error}); repair it, or pass "
            "--out instead of --output-layer."
        ) from error
    if output in sdata and not overwrite:
        raise WriteError(
            f"--output-layer: {output!r} exists; pass --overwrite, or choose another name."
        )
    return sdata, element or names[0]


def _targets(
    sources: Sequence[str], out: Path | None, element: str | None, overwrite: bool
) -> list[Path]:
    """A store for each source, that can be written; settled before any pixel is read."""
    if out is None:
        raise ParameterError("--out: name a folder for the results, such as -o prepared.")
    make_writable(out)
    targets = [sample.path(".zarr") for sample in plan_samples(sources, out, element=element)]
    for target in targets:
        if any(os.path.realpath(source) == os.path.realpath(target) for source in sources):
            raise WriteError(f"out: {str(target)!r} is a SOURCE itself; choose another folder.")
    refuse(targets, overwrite)
    return targets


def refuse(paths: Sequence[Path], overwrite: bool) -> None:
    """Raise where a result is there already."""
    for path in paths:
        if os.path.lexists(path) and not overwrite:
            raise WriteError(f"out: {str(path)!r} exists; pass --overwrite, or another folder.")


def _draw(targets: Sequence[Path], found: gq.PixelClusters, path: Path) -> None:
    """The first label image and the profile, in one picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    gq.pl.clusters(gq.open_labels(targets[0]), ax=left)
    gq.pl.cluster_profile(found.profile, ax=right)
    figure.savefig(path, dpi=110)


def say(text: str, quiet: bool) -> None:
    """Print, unless nothing is to be printed."""
    if not quiet:
        typer.echo(text)
