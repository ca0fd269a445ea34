"""``gigaqc isnr``, ``gigaqc tsnr`` and ``gigaqc gain``."""

from __future__ import annotations

import contextlib
import enum
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gigaqc as gq
from gigaqc.cli.options import Machine, Out, Reading, Writing
from gigaqc.errors import ParameterError, WriteError
from gigaqc.verdict.samples import make_writable, safe_name

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure


class Format(enum.StrEnum):
    """In which maps are written."""

    NIFTI = "nifti"
    TIFF = "tiff"
    ZARR = "zarr"


_SUFFIX = {Format.NIFTI: ".nii.gz", Format.TIFF: ".ome.tif", Format.ZARR: ".zarr"}


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


@dataclass(frozen=True, kw_only=True)
class MapSettings:
    """How an image is opened, and where and how its maps are made."""

    reading: Reading
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Of the maps; by default that of SOURCE, else zarr."),
    ] = None
    machine: Machine
    writing: Writing


def isnr(
    source: Image,
    out: Out,
    *,
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
    settings: MapSettings,
) -> None:
    """Signal to noise of an image (iSNR): one number a channel, and a map.

    The intensities are divided into classes by a mixture of Gaussians; the darkest class is the
    noise. iSNR = mean of the rest / standard deviation of the noise x the correction; higher is
    better. The map is the image divided by the noise.

    Into OUT, for a SOURCE called NAME: NAME_isnr.csv (the numbers), NAME_isnr.png (the histogram
    with its classes, and the map), NAME_isnr_map (NIfTI, TIFF or zarr).
    """
    task = Task.of(source, out, settings, "isnr", ("isnr_map",))
    image = task.open()
    options: dict[str, Any] = {
        "n_clusters": n_clusters,
        "correction": None if correction is CorrectionOption.NONE else str(correction),
        "noise_mask": noise_mask,
    }
    with task.computing():
        lazy = gq.isnr_map(image, **options).rename("isnr")
        lazy, found = _settled(lazy, gq.isnr(image, **options))
        figure, (left, right) = _two_axes()
        gq.pl.mixture(found, ax=left)
        gq.pl.map(lazy, ax=right)
        table = _by_channel(found)
        paths = task.write({"isnr_map": lazy}, {"isnr": table}, figure)
    task.say(table[["isnr", "signal", "noise", "threshold"]], paths)


def tsnr(
    source: Series,
    out: Out,
    *,
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
    settings: MapSettings,
) -> None:
    """Temporal signal to noise (tSNR) of each pixel of a series, such as fMRI.

    tSNR = mean of the frames / standard deviation of what is left of them without drift; higher is
    better. The published convention is --detrend 0 --ddof 1. The series is read once, whatever its
    size and chunks.

    Into OUT, for a SOURCE called NAME: NAME_tsnr.csv (median, mean and percentiles), NAME_tsnr.png,
    and the maps NAME_tsnr_map, NAME_mean and NAME_std (NIfTI, TIFF or zarr).
    """
    task = Task.of(source, out, settings, "tsnr", ("tsnr_map", "mean", "std"))
    series = task.open_series()
    options: dict[str, Any] = {"detrend": detrend, "ddof": ddof, "mask": mask}
    with task.computing():
        both = gq.temporal_statistics(series, **options)
        ratio = gq.tsnr_map(series, baseline=str(baseline), **options)
        lazy = {"tsnr_map": ratio, "mean": both["mean"], "std": both["std"]}
        with _kept(lazy, out) as (maps, _):
            table = gq.tsnr_summary(maps["tsnr_map"], mask=mask)
            figure, (left, right) = _two_axes()
            gq.pl.map(maps["mean"], ax=left, label="temporal mean")
            gq.pl.map(maps["tsnr_map"], ax=right, label="temporal SNR")
            paths = task.write(maps, {"tsnr": table}, figure)
    task.say(table, paths)


def gain(
    source: Series,
    out: Out,
    *,
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
    settings: MapSettings,
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
    names = ("mean_map", "variance_map", "gain_map")
    task = Task.of(source, out, settings, "gain", names, more=("bins",))
    series = task.open_series()
    options: dict[str, Any] = {
        "nbins": nbins, "offset": offset, "estimator": str(estimator), "temporary": temporary,
    }  # fmt: skip
    with task.computing():
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
    task.say(table, paths)


@dataclass(frozen=True)
class Task:
    """One image, what is made of it, and where that goes: together, or not at all."""

    source: str | list[str]
    out: Path
    name: str
    what: str
    suffix: str
    settings: MapSettings

    @classmethod
    def of(
        cls,
        sources: Sequence[str],
        out: Path,
        settings: MapSettings,
        what: str,
        maps: Sequence[str],
        more: Sequence[str] = (),
    ) -> Task:
        """Settle it before any pixel is read; raises where results could not be written."""
        from gigaqc.stores.location import natural_key

        # A shell sorts frame_10 before frame_2.
        files = sorted(sources, key=lambda s: natural_key(os.path.basename(s)))
        source = files[0] if len(files) == 1 else files
        named = files[0] if len(files) == 1 else os.path.dirname(os.path.abspath(files[0]))
        suffix = _SUFFIX[settings.form or _format_of(source)]
        task = cls(source, out, safe_name(named, settings.reading.element), what, suffix, settings)
        if _are_files(source) and os.path.realpath(out) == os.path.realpath(task.folder()):
            raise WriteError(
                f"out: {str(out)!r} holds the files of SOURCE, and maps would be taken for some "
                "of them; choose another folder."
            )
        make_writable(out)
        tables = [task.path(f"{name}.csv") for name in (what, *more)]
        settings.writing.refuse([*map(task.map_path, maps), *tables, task.path(f"{what}.png")])
        return task

    def folder(self) -> str:
        """Where the files of a source that is several lie."""
        first = self.source if isinstance(self.source, str) else self.source[0]
        return first if os.path.isdir(first) else os.path.dirname(os.path.abspath(first))

    def path(self, ending: str) -> Path:
        """Where a result goes."""
        return self.out / f"{self.name}_{ending}"

    def map_path(self, name: str) -> Path:
        """Where a map goes."""
        return self.path(f"{name}{self.suffix}")

    def open(self, dims: str | None = None) -> xr.DataArray:
        """The image, lazily."""
        reading = self.settings.reading
        return (reading if dims is None else replace(reading, dims=dims)).open(self.source)

    def open_series(self) -> xr.DataArray:
        """The series, lazily: of several TIFFs each is a frame unless --dims says otherwise."""
        frames = self.settings.reading.dims is None and _are_files(self.source)
        series = self.open("tyx" if frames else None)
        if "t" not in series.dims:
            axes = " ".join(str(d) for d in series.dims if d != "c" or series.sizes["c"] > 1)
            raise ParameterError(
                f"--dims: {self.name} has the axes {axes} and none of time; name them as they lie "
                "in the file, such as --dims tyx."
            )
        return series

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Within this context dask computes where the caller said, and shows how far it is."""
        with self.settings.machine.used(), self.settings.writing.bar(self.what):
            yield

    def write(
        self, maps: Mapping[str, xr.DataArray], tables: Mapping[str, pd.DataFrame], figure: Figure
    ) -> list[Path]:
        """Write everything, or nothing; gives the paths."""
        from gigaqc.image.labelled import as_image
        from gigaqc.stores.staging import checked_target, staged
        from gigaqc.writers.write import write_together

        overwrite = self.settings.writing.overwrite
        paths = [self.path(f"{name}.csv") for name in tables]
        paths.append(self.path(f"{self.what}.png"))
        stores = [self.map_path(name) for name in maps]
        targets = [checked_target(path, overwrite, store=False) for path in paths]
        with staged(targets) as places:
            for table, place in zip(tables.values(), places, strict=False):
                table.to_csv(place)
            figure.savefig(places[-1], format="png", dpi=110)
            write_together([as_image(m) for m in maps.values()], stores, (), overwrite)
        return [*paths, *stores]

    def say(self, table: pd.DataFrame, paths: Sequence[Path]) -> None:
        """Print the numbers, and where everything is."""
        if self.settings.writing.quiet:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        from gigaqc.plot import printable

        turned = len(table) == 1  # a single row would run off the screen
        rows = table.T if turned else table
        corner = "" if turned else "/".join(str(n) for n in rows.index.names if n)
        heads = [_shown(column) for column in rows.columns]
        typer.echo(self.name)
        shown = Table()
        for head in (corner, *(f"channel {h}" if turned else h for h in heads)):
            shown.add_column(Text(printable(head)))
        for index, values in zip(rows.index, rows.to_numpy(dtype=object), strict=True):
            shown.add_row(*(Text(printable(_shown(v))) for v in (index, *values)))
        Console().print(shown)
        self.settings.writing.say(*(f"Wrote {path.resolve()}" for path in paths))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "/".join(map(_shown, value))
    if isinstance(value, float):
        return f"{int(value)}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"
    return str(value)


def _format_of(source: str | list[str]) -> Format:
    """NIfTI for NIfTI, TIFF for TIFF and folders of it, zarr for everything else."""
    if isinstance(source, list) or _are_files(source):
        return Format.TIFF
    lower = source.lower()
    if lower.endswith((".nii", ".nii.gz")):
        return Format.NIFTI
    return Format.TIFF if lower.endswith((".tif", ".tiff")) else Format.ZARR


def _are_files(source: str | list[str]) -> bool:
    """Whether a source is several files that make one image."""
    from gigaqc.stores.identity import is_folder, is_pattern, is_zarr
    from gigaqc.stores.location import locate

    if isinstance(source, list):
        return True
    location = locate(source)
    return is_pattern(location) or (is_folder(location) and not is_zarr(location))


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
