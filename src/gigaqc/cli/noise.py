"""``gigaqc isnr``, ``gigaqc tsnr`` and ``gigaqc gain``."""

from __future__ import annotations

import enum
from contextlib import AbstractContextManager
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
    Quiet,
    Scheduler,
    Workers,
    app,
    reported,
)
from gigaqc.cli.prepare import Overwrite
from gigaqc.cli.results import Format, Task
from gigaqc.workers import computing

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class CorrectionOption(enum.StrEnum):
    """What the noise of the background is multiplied by."""

    RICIAN = "rician"
    NONE = "none"


class Baseline(enum.StrEnum):
    """What is divided by the noise."""

    MEAN = "mean"
    INTERCEPT = "intercept"


class Estimator(enum.StrEnum):
    """How the noise of a pixel is estimated."""

    MAD = "mad"
    VARIANCE = "variance"


Image = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="A file, a zarr store or a URL; or TIFFs of one image: a folder, or the files.",
    ),
]
Series = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="A file with an axis of time, a zarr store or a URL; or TIFFs of a frame each: a "
        "folder, or the files (frame_2 comes before frame_10).",
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")]
MapFormat = Annotated[
    Format | None,
    typer.Option("--format", help="Of the maps; by default that of SOURCE, else zarr."),
]


@app.command(short_help="Signal to noise of an image, from the histogram of its background.")
def isnr(
    source: Image,
    out: Out,
    n_clusters: Annotated[
        int, typer.Option("--clusters", "-n", help="Classes of intensity, 2 to 6.")
    ] = 3,
    noise_mask: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Image that is above 0 where there is only noise, instead."
        ),
    ] = None,
    correction: Annotated[
        CorrectionOption,
        typer.Option(help="rician for magnitude images (MRI), none where noise is Gaussian."),
    ] = CorrectionOption.RICIAN,
    dims: DimsOption = None,
    channels: ChannelsOption = None,
    element: Element = None,
    level: Level = 0,
    form: MapFormat = None,
    workers: Workers = None,
    memory: Memory = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Signal to noise of an image (iSNR): one number a channel, and a map.

    The intensities are divided into classes by a mixture of Gaussians; the darkest class is the
    noise. iSNR = mean of the rest / standard deviation of the noise x the correction; higher is
    better. The map is the image divided by the noise.

    Into OUT, for a SOURCE called NAME: NAME_isnr.csv (the numbers), NAME_isnr.png (the histogram
    with its classes, and the map), NAME_isnr_map (NIfTI, TIFF or zarr).
    """
    with reported():
        task = Task.of(source, out, element, form, "isnr", ("isnr_map",), overwrite)
        image = task.open(dims, channels, level)
        options: dict[str, Any] = {
            "n_clusters": n_clusters,
            "correction": None if correction is CorrectionOption.NONE else str(correction),
            "noise_mask": noise_mask,
        }
        with computing(workers, memory, scheduler), _bar("isnr", quiet=quiet):
            lazy = gq.isnr_map(image, **options).rename("isnr")
            lazy, found = _settled(lazy, gq.isnr(image, **options))
            figure, (left, right) = _two_axes()
            gq.pl.mixture(found, ax=left)
            gq.pl.map(lazy, ax=right)
            table = _by_channel(found)
            paths = task.write({"isnr_map": lazy}, {"isnr": table}, figure)
        columns = ["isnr", "signal", "noise", "threshold"]
        task.say(table[columns], paths, quiet=quiet)


@app.command(short_help="Temporal signal to noise of a series, pixel by pixel.")
def tsnr(
    source: Series,
    out: Out,
    detrend: Annotated[
        int,
        typer.Option(help="Degree of the drift that is removed; 0 removes none, 1 a line."),
    ] = 2,
    ddof: Annotated[
        int, typer.Option(help="The squares are divided by the number of frames less this.")
    ] = 0,
    baseline: Annotated[
        Baseline,
        typer.Option(help="Divide the mean, or the fit before the first frame (as ukat does)."),
    ] = Baseline.MEAN,
    mask: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Image that is above 0 where to measure."),
    ] = None,
    dims: DimsOption = None,
    channels: ChannelsOption = None,
    element: Element = None,
    level: Level = 0,
    form: MapFormat = None,
    workers: Workers = None,
    memory: Memory = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Temporal signal to noise (tSNR) of each pixel of a series, such as fMRI.

    tSNR = mean of the frames / standard deviation of what is left of them without drift; higher is
    better. The published convention is --detrend 0 --ddof 1. The series is read once, whatever its
    size and chunks.

    Into OUT, for a SOURCE called NAME: NAME_tsnr.csv (median, mean and percentiles), NAME_tsnr.png,
    and the maps NAME_tsnr_map, NAME_mean and NAME_std (NIfTI, TIFF or zarr).
    """
    with reported():
        names = ("tsnr_map", "mean", "std")
        task = Task.of(source, out, element, form, "tsnr", names, overwrite)
        series = task.open_series(dims, channels, level)
        options: dict[str, Any] = {"detrend": detrend, "ddof": ddof, "mask": mask}
        with computing(workers, memory, scheduler), _bar("tsnr", quiet=quiet):
            both = gq.temporal_statistics(series, **options)
            ratio = gq.tsnr_map(series, baseline=str(baseline), **options)
            lazy = {"tsnr_map": ratio, "mean": both["mean"], "std": both["std"]}
            with _kept(lazy, out) as (maps, _):
                table = gq.tsnr_summary(maps["tsnr_map"], mask=mask)
                figure, (left, right) = _two_axes()
                gq.pl.map(maps["mean"], ax=left, label="temporal mean")
                gq.pl.map(maps["tsnr_map"], ax=right, label="temporal SNR")
                paths = task.write(maps, {"tsnr": table}, figure)
        task.say(table, paths, quiet=quiet)


@app.command(short_help="Gain of a camera from a series of frames, pixel by pixel.")
def gain(
    source: Series,
    out: Out,
    nbins: Annotated[int, typer.Option(help="Bins of the mean, for the straight line.")] = 50,
    offset: Annotated[
        float | None,
        typer.Option(help="Grey level of a dark frame, for the gain map; 0 if not given."),
    ] = None,
    estimator: Annotated[
        Estimator,
        typer.Option(
            help="Median and MAD of each pixel, which outliers do not move, or mean and "
            "variance, which are the more accurate."
        ),
    ] = Estimator.MAD,
    temporary: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Room for a copy of the series in another order, where "
            "frames are stored one by one and do not fit in memory.",
        ),
    ] = None,
    dims: DimsOption = None,
    channels: ChannelsOption = None,
    element: Element = None,
    level: Level = 0,
    form: MapFormat = None,
    workers: Workers = None,
    memory: Memory = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Gain of a camera (electrons a grey level) from frames of a scene that does not move.

    Light that is twice as bright has twice the variance: the slope of variance over mean is the
    system gain in grey levels an electron [ADU/e-], its inverse the gain [e-/ADU]. Where the series
    cannot tell (too few levels of light, noise that does not grow), there is no number but a
    reason.

    Into OUT, for a SOURCE called NAME: NAME_gain.csv (the numbers), NAME_bins.csv (the points),
    NAME_gain.png (the photon-transfer curve and the map), and the maps NAME_mean_map,
    NAME_variance_map and NAME_gain_map (NIfTI, TIFF or zarr).
    """
    with reported():
        names = ("mean_map", "variance_map", "gain_map")
        task = Task.of(source, out, element, form, "gain", names, overwrite, more=("bins",))
        series = task.open_series(dims, channels, level)
        options: dict[str, Any] = {
            "nbins": nbins,
            "offset": offset,
            "estimator": str(estimator),
            "temporary": temporary,
        }
        with computing(workers, memory, scheduler), _bar("gain", quiet=quiet):
            # Here, where what the workers may hold is known.
            found = gq.gain_map(series, **options)
            lazy = {name: found[name] for name in names}
            with _kept(lazy, out, found.drop_vars(names)) as (maps, (numbers,)):
                figure, (left, right) = _two_axes()
                first = dict.fromkeys(numbers["gain"].dims, 0)  # of several planes
                gq.pl.photon_transfer(numbers.isel(first), ax=left)
                gq.pl.map(maps["gain_map"].isel(first), ax=right)
                table = _by_channel(numbers)
                paths = task.write(maps, {"gain": table, "bins": _points(numbers)}, figure)
        task.say(table, paths, quiet=quiet)


def _bar(label: str, *, quiet: bool) -> AbstractContextManager[None]:
    from gigaqc.progress import tasks_shown  # which imports dask

    return tasks_shown(label, show=not quiet)


def _kept(maps: dict[str, xr.DataArray], folder: Path, *others: Any) -> Any:
    from gigaqc.writers.together import kept  # which imports dask

    return kept(maps, folder, *others)


def _settled(image: xr.DataArray, numbers: xr.Dataset) -> tuple[xr.DataArray, xr.Dataset]:
    from gigaqc.writers.together import settled_with  # which imports dask

    return settled_with(image, numbers)


def _two_axes() -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    return figure, figure.subplots(1, 2)


def _by_channel(found: xr.Dataset) -> pd.DataFrame:
    """A row a channel (and plane) of the numbers that are no map; a column a component."""
    import pandas as pd

    columns: dict[str, pd.Series] = {}
    for name, values in found.data_vars.items():
        if "component" in values.dims:
            for k in values["component"].values:
                columns[f"{name}_{k}"] = values.sel(component=k, drop=True).to_series()
        elif not values.dims:
            columns[str(name)] = pd.Series([values.item()], index=["0"])
        elif set(values.dims) <= {"c", "z"}:
            columns[str(name)] = values.to_series()
    table = pd.DataFrame(columns)
    return table.rename_axis(["channel" if n in (None, "c") else n for n in table.index.names])


def _points(found: xr.Dataset) -> pd.DataFrame:
    """The bins that the straight line was fitted to."""
    names = [n for n, v in found.data_vars.items() if "bin" in v.dims]
    return found[names].to_dataframe().reset_index().rename(columns={"c": "channel"})
