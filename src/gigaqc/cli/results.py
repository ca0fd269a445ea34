"""One image of a command, and its results: maps, tables and a picture, together or not at all."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gigaqc.cli.assess import OpeningOptions, checked_dims
from gigaqc.errors import ParameterError, WriteError
from gigaqc.samples import make_writable, safe_name

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


@dataclass(frozen=True)
class Task:
    """One image, what is made of it, and where that goes."""

    source: str | list[str]
    element: str | None
    out: Path
    name: str
    what: str
    suffix: str
    overwrite: bool

    @classmethod
    def of(
        cls,
        sources: Sequence[str],
        out: Path,
        element: str | None,
        form: Format | None,
        what: str,
        maps: Sequence[str],
        overwrite: bool,
        more: Sequence[str] = (),
    ) -> Task:
        """Settle it before any pixel is read; raises where results could not be written."""
        from gigaqc.stores.location import natural_key

        # A shell sorts frame_10 before frame_2.
        files = sorted(sources, key=lambda s: natural_key(os.path.basename(s)))
        source = files[0] if len(files) == 1 else files
        named = files[0] if len(files) == 1 else os.path.dirname(os.path.abspath(files[0]))
        if form is None:
            form = _format_of(source)
        task = cls(source, element, out, safe_name(named, element), what, _SUFFIX[form], overwrite)
        if _are_files(source) and os.path.realpath(out) == os.path.realpath(task.folder()):
            raise WriteError(
                f"out: {str(out)!r} holds the files of SOURCE, and maps would be taken for some "
                "of them; choose another folder."
            )
        make_writable(out)
        tables = [task.path(f"{name}.csv") for name in (what, *more)]
        for path in (*map(task.map_path, maps), *tables, task.path(f"{what}.png")):
            if os.path.lexists(path) and not overwrite:
                raise WriteError(f"out: {str(path)!r} exists; pass --overwrite, or another folder.")
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

    def open(self, dims: str | None, channels: str | None, level: int) -> xr.DataArray:
        """The image, lazily."""
        return OpeningOptions(checked_dims(dims), channels, self.element, level).open(self.source)

    def open_series(self, dims: str | None, channels: str | None, level: int) -> xr.DataArray:
        """The series, lazily: of several TIFFs each is a frame unless `dims` says otherwise."""
        if dims is None and _are_files(self.source):
            dims = "tyx"
        series = self.open(dims, channels, level)
        if "t" not in series.dims:
            axes = " ".join(str(d) for d in series.dims if d != "c" or series.sizes["c"] > 1)
            raise ParameterError(
                f"--dims: {self.name} has the axes {axes} and none of time; name them as they lie "
                "in the file, such as --dims tyx."
            )
        return series

    def write(
        self, maps: Mapping[str, xr.DataArray], tables: Mapping[str, pd.DataFrame], figure: Figure
    ) -> list[Path]:
        """Write everything, or nothing; gives the paths."""
        from gigaqc.image import as_image
        from gigaqc.stores.staging import checked_target, staged
        from gigaqc.writers.write import write_together

        paths = [self.path(f"{name}.csv") for name in tables]
        paths.append(self.path(f"{self.what}.png"))
        stores = [self.map_path(name) for name in maps]
        targets = [checked_target(path, self.overwrite, store=False) for path in paths]
        with staged(targets) as places:
            for table, place in zip(tables.values(), places, strict=False):
                table.to_csv(place)
            figure.savefig(places[-1], format="png", dpi=110)
            write_together([as_image(m) for m in maps.values()], stores, (), self.overwrite)
        return [*paths, *stores]

    def say(self, table: pd.DataFrame, paths: Sequence[Path], *, quiet: bool) -> None:
        """Print the numbers, and where everything is."""
        if quiet:
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
        # Not through rich, which would break a long path into lines.
        for path in paths:
            typer.echo(f"Wrote {path.resolve()}")


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
