"""``gigaqc preprocess`` and ``gigaqc cluster``."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import gigaqc as gq
from gigaqc.cli.options import Into, Machine, Reading, Sources, Writing, channel_names
from gigaqc.errors import ParameterError


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
