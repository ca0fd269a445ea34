"""Which samples there are: sources become entries, before any pixel is read."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.base.formatting import listed
from gigaqc.cohort.sheet import SheetRow, placed, read_sheet, rows_of
from gigaqc.errors import GigaqcError, ImageTypeError, ParameterError
from gigaqc.image.labelled import as_image
from gigaqc.readers.open import meant_images, open_image, open_labels
from gigaqc.statistics.unreadable import OnError
from gigaqc.stores.identity import Identity, identity_of, is_pattern, is_zarr
from gigaqc.stores.location import locate, natural_key, without_secrets
from gigaqc.verdict.samples import SampleSource, file_names, titles

_OPENING = 8  # headers that are read at once
_IMAGES = (".nii", ".nii.gz", ".mcd", ".svs")  # what a folder may hold besides TIFFs and stores


@dataclass(frozen=True)
class Options:
    """How sources are opened and observed; what changes is read again."""

    tissue: Any = None
    tile: int = 512
    full_scale: float | None = None
    dims: str | None = None
    channels: tuple[str, ...] | None = None
    level: int = 0
    on_error: OnError = "raise"


@dataclass(frozen=True)
class Labels:
    """A label image: of a source of its own, or an array."""

    source: Any
    element: str | None = None

    def open(self) -> Any:
        """The labels, lazily."""
        if isinstance(self.source, str):
            return open_labels(self.source, element=self.element)
        return self.source

    def identity(self) -> Identity:
        """What tells whether they are the same as before."""
        return identity_of(self.source, self.element, labels=self.element is not None)


@dataclass(frozen=True)
class Entry:
    """One sample: what it is called, where it lies, and where its results go."""

    name: str
    source: Any
    files: SampleSource
    element: str | None = None
    labels: Labels | None = None
    tissue: Any = None
    batch: str | None = None
    order: float | None = None  # none: its position among the sources

    @property
    def shown(self) -> str:
        """The source as a table shows it; empty for an image in memory."""
        if isinstance(self.source, (list, tuple)):
            shown = f"{self.source[0]} and {len(self.source) - 1} more"
        else:
            shown = str(self.source) if isinstance(self.source, (str, os.PathLike)) else ""
        return without_secrets(shown)

    @property
    def is_stored(self) -> bool:
        """Whether image and labels lie in files, and not in memory."""
        return _is_path(self.source) and (self.labels is None or _is_path(self.labels.source))

    def open(self, options: Options) -> xr.DataArray:
        """The image, lazily."""
        if _is_path(self.source) or type(self.source).__module__.partition(".")[0] == "zarr":
            return open_image(
                self.source,
                element=self.element,
                level=options.level,
                dims=options.dims,
                channels=options.channels,
            )
        return as_image(self.source, dims=options.dims, channels=options.channels)


def plan(
    sources: Any, out: Path, *, element: str | None, labels: Any, tissue: Any, dims: str | None
) -> list[Entry]:
    """The samples in the order of `sources`, each with a name and files of its own.

    Raises
    ------
    ParameterError, ImageTypeError, SourceNotFoundError
        When `sources` or a sheet cannot be understood. What is wrong with a single source shows
        when it is opened.
    """
    found = _entries(sources, element, dims)
    if not found:
        raise ParameterError("sources: got none; pass paths, a sample sheet, or named images.")
    _refuse_repeated(found)
    stems = file_names([entry.name for entry in found])
    placed_labels = _Given(labels, {entry.name for entry in found})
    return [
        replace(
            entry,
            files=SampleSource(entry.shown, stem, out),
            labels=entry.labels or placed_labels.of(entry),
            tissue=tissue if entry.tissue is None else entry.tissue,
            order=float(position) if entry.order is None else entry.order,
        )
        for position, (entry, stem) in enumerate(zip(found, stems, strict=True))
    ]


_NOWHERE = SampleSource("", "", Path())


def _entries(sources: Any, element: str | None, dims: str | None) -> list[Entry]:
    if isinstance(sources, pd.DataFrame):
        return [_of_row(row, None) for row in rows_of(sources)]
    if isinstance(sources, Mapping):
        return [_of_memory(name, image, element) for name, image in sources.items()]
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    if not isinstance(sources, Iterable) or isinstance(sources, (np.ndarray, xr.DataArray)):
        raise ImageTypeError(
            f"sources: got {type(sources).__name__}; pass paths, a sample sheet (CSV or "
            "DataFrame), or a mapping of names to images."
        )
    given = list(sources)
    if wrong := [type(s).__name__ for s in given if not isinstance(s, (str, os.PathLike))]:
        raise ImageTypeError(
            f"sources: got {wrong[0]} among the paths; pass images in memory as a mapping of "
            "names to images."
        )
    rows: list[Entry] = []
    paths: list[str] = []
    for source in map(os.fspath, given):
        if source.lower().endswith(".csv"):
            rows += [_of_row(row, Path(source).parent) for row in read_sheet(source)]
        else:
            paths += _expanded(source, dims)
    return [*rows, *_of_paths(paths, element)]


def _is_path(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike)) or (
        isinstance(source, (list, tuple))
        and bool(source)
        and all(isinstance(part, (str, os.PathLike)) for part in source)
    )


def _of_row(row: SheetRow, folder: Path | None) -> Entry:
    tissue = False if row.tissue is not None and row.tissue.lower() == "none" else row.tissue
    entry = Entry(row.sample, row.path, _NOWHERE, row.element, None, tissue, row.batch, row.order)
    if row.labels is None:
        return entry
    return replace(entry, labels=_labels_at(row.labels, row.path, folder))


def _of_memory(name: Any, image: Any, element: str | None) -> Entry:
    source = os.fspath(image) if isinstance(image, os.PathLike) else image
    return Entry(str(name), source, _NOWHERE, element)


def _of_paths(paths: list[str], element: str | None) -> list[Entry]:
    if element is not None:
        images: list[tuple[str, str | None]] = [(path, element) for path in paths]
    else:
        # Readers silence warnings as they open; in threads they would undo one another's filters.
        with warnings.catch_warnings(), ThreadPoolExecutor(_OPENING) as pool:
            warnings.simplefilter("ignore")
            held = list(pool.map(_images_in, paths))
        images = [(path, name) for path, names in zip(paths, held, strict=True) for name in names]
    return [
        Entry(name, path, _NOWHERE, one)
        for name, (path, one) in zip(titles(images), images, strict=True)
    ]


def _images_in(path: str) -> list[str | None]:
    """The images of a source; one that cannot be opened is a sample that will say so."""
    try:
        return meant_images(path)
    except Exception:
        return [None]


def _expanded(source: str, dims: str | None) -> list[str]:
    """The samples that a path, a glob or a folder stands for."""
    location = locate(source)
    if is_pattern(location):
        found = glob.glob(location.path, recursive=True)
        return sorted(found, key=natural_key) or [source]
    if not location.local or not os.path.isdir(location.path) or is_zarr(location):
        return [source]
    try:
        inside = sorted(os.scandir(location.path), key=lambda e: natural_key(e.name))
    except OSError:
        return [source]
    inside = [e for e in inside if not e.name.startswith(".")]
    tiffs = [e.path for e in inside if e.is_file() and e.name.lower().endswith((".tif", ".tiff"))]
    others = [e.path for e in inside if _is_sample(e)]
    if tiffs and not others:
        return tiffs if dims is None and _has_more_axes(tiffs[0]) else [source]
    files = set(tiffs)
    return [e.path for e in inside if e.path in files or e.path in others] or [source]


def _is_sample(entry: os.DirEntry[str]) -> bool:
    if entry.is_file():
        return entry.name.lower().endswith(_IMAGES)
    if is_zarr(locate(entry.path)):
        return True
    try:
        return any(name.lower().endswith((".tif", ".tiff")) for name in os.listdir(entry.path))
    except OSError:
        return True  # and it will say why it cannot be read


def _has_more_axes(path: str) -> bool:
    """Whether a TIFF is an image by itself, and not a channel of one."""
    try:
        names = meant_images(path)
        image = open_image(path, element=names[0])
    except (GigaqcError, OSError):
        return False
    return len(names) > 1 or any(n > 1 for d, n in image.sizes.items() if d not in ("y", "x"))


def _refuse_repeated(entries: list[Entry]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise ParameterError(
                f"sources: two samples are called {entry.name[:80]!r}; name each source once, or "
                "give names in a sample sheet."
            )
        seen.add(entry.name)


@dataclass(frozen=True)
class _Given:
    """What a caller gave as ``labels=``, for all samples."""

    given: Any
    names: set[str]

    def of(self, entry: Entry) -> Labels | None:
        """Labels of one sample."""
        given = self.given
        if isinstance(given, Mapping):
            unknown = sorted(str(name) for name in given if str(name) not in self.names)
            if unknown:
                raise ParameterError(
                    f"labels: no sample is called {listed(unknown)}; there are "
                    f"{listed(sorted(self.names))}."
                )
            given = given.get(entry.name)
            if given is not None and not isinstance(given, (str, os.PathLike)):
                return Labels(given)
        if given is None:
            return None
        if not isinstance(given, (str, os.PathLike)):
            if len(self.names) == 1:
                return Labels(given)
            raise ParameterError(
                f"labels: got one {type(given).__name__} for {len(self.names)} samples; pass a "
                "mapping of sample names to label images."
            )
        text = os.fspath(given)
        shared = "{sample}" not in text and not isinstance(self.given, Mapping)
        if shared and len(self.names) > 1 and os.path.exists(text):
            raise ParameterError(
                f"labels: {text!r} is one label image for {len(self.names)} samples; write "
                "{sample} for the name of each, or use a sample sheet."
            )
        return _labels_at(text.replace("{sample}", entry.name), entry.source, None)


def _labels_at(given: str, source: Any, folder: Path | None) -> Labels:
    """A path; or, where there is no such file, the name of labels in the store of the image."""
    path = placed(given, folder)
    named = not os.path.dirname(given) and isinstance(source, str)
    if not named or os.path.exists(path):
        return Labels(path)
    location = locate(source)
    if not location.local or (os.path.isdir(location.path) and is_zarr(location)):
        return Labels(source, given)
    return Labels(path)
