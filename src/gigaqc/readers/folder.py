"""A folder, a glob or a list of TIFFs as one image: a channel, a frame or a plane each."""

from __future__ import annotations

import csv
import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gigaqc.errors import ReadError, SourceNotFoundError
from gigaqc.readers.raw import OneImage, RawImage, refuse_levels
from gigaqc.readers.tiff import TiffReader
from gigaqc.stores.identity import is_folder, is_pattern
from gigaqc.stores.location import Location, locate, natural_key, no_permission, stem

_SUFFIXES = (".tif", ".tiff")
_NAME_COLUMNS = ("name", "channel_name", "target", "marker")


class FolderReader(OneImage):
    """One image whose first axis is the files of a folder, in natural order."""

    def __init__(self, folder: str, files: Sequence[str], given: str) -> None:
        super().__init__(os.path.basename(os.path.abspath(folder)))
        self._folder = folder
        self._files = tuple(files)
        self.given = given

    @classmethod
    def of(cls, location: Location) -> FolderReader:
        """Read the TIFFs of a folder or glob, frame_2 before frame_10."""
        folder = os.path.dirname(location.path) if is_pattern(location) else location.path
        return cls(folder, _tiffs(location), location.given)

    @classmethod
    def of_files(cls, sources: Sequence[Any]) -> FolderReader:
        """Read files in the order in which they are given."""
        located = [locate(source) for source in sources]
        if not located:
            raise SourceNotFoundError("source: got an empty list; pass the paths of TIFF files.")
        for location in located:
            if not location.local or is_folder(location):
                raise ReadError(
                    f"source: {location.given!r} is no local file; a list names TIFF files of one "
                    "image, in their order."
                )
        files = [location.path for location in located]
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        return cls(os.path.dirname(files[0]), files, f"{located[0].given}{more}")

    def read(self, name: str, level: int, *, labels: bool = False) -> RawImage:
        """Open the headers of all files, and check that they fit together."""
        refuse_levels(level, "a folder of TIFFs has")
        pages = [_one_series(f, self.given) for f in self._files]
        self._check_alike(pages)
        first = pages[0]
        blocks = first.blocks or first.chunks
        stems = tuple(stem(f) for f in self._files)
        plane = len(first.array.shape) == 2
        return RawImage(
            array=_Stack([p.array for p in pages], self._files),
            element=name,
            # Of files with more axes nothing says what their sequence is.
            dims=("c", *(first.dims or ("y", "x"))) if plane else None,
            chunks=(1, *first.chunks),
            blocks=(1, *blocks),
            channels=_panel_names(self._folder, stems) or stems,
            pixel_size=first.pixel_size,
            unit=first.unit,
        )

    def _check_alike(self, pages: Sequence[RawImage]) -> None:
        kinds = [(tuple(p.array.shape), str(p.array.dtype)) for p in pages]
        (usual, _), *others = Counter(kinds).most_common()
        if others:
            odd = next(i for i, kind in enumerate(kinds) if kind != usual)
            raise ReadError(
                f"source: the files of {self.given} do not fit together: "
                f"{os.path.basename(self._files[odd])} is {kinds[odd][0]} {kinds[odd][1]}, most "
                f"are {usual[0]} {usual[1]}; choose files of one kind with a glob such as "
                "'folder/*_w1.tif'."
            )


class _Stack:
    """The arrays of files, one after another along a first axis; pickles, as they do."""

    def __init__(self, pages: Sequence[Any], files: Sequence[str]) -> None:
        self.pages = tuple(pages)
        self.files = tuple(files)
        self.shape = (len(self.pages), *self.pages[0].shape)
        self.dtype = np.dtype(self.pages[0].dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read from the files in the first slice."""
        blocks = []
        for i in range(*key[0].indices(len(self.pages))):
            try:
                blocks.append(self.pages[i][key[1:]])
            except Exception as error:
                raise ReadError(f"{os.path.basename(self.files[i])}: {error}") from error
        return np.stack(blocks)


def _tiffs(location: Location) -> list[str]:
    pattern = is_pattern(location)
    try:
        if pattern:
            found = [f for f in glob.glob(location.path, recursive=True) if os.path.isfile(f)]
        else:
            found = [os.path.join(location.path, f) for f in os.listdir(location.path)]
    except PermissionError as error:
        raise no_permission(location) from error
    if pattern and not found:
        raise SourceNotFoundError(
            f"source: no file fits {location.given!r}; check the pattern (quote it in a shell)."
        )
    files = [f for f in found if f.lower().endswith(_SUFFIXES) and os.path.isfile(f)]
    files = [f for f in files if not os.path.basename(f).startswith(".")]
    if not files:
        inside = sorted(os.path.basename(f) for f in found)[:5]
        held = f"it holds {', '.join(inside)}" if inside else "it is empty"
        raise ReadError(
            f"source: {location.given!r} holds no TIFF and no zarr metadata ({held}); pass an "
            "image, or a folder of single-channel TIFFs."
        )
    return sorted(files, key=lambda f: natural_key(os.path.basename(f)))


def _one_series(path: str, given: str) -> RawImage:
    reader = TiffReader(Location(path, path, True))
    names = reader.images()
    if len(names) > 1:
        raise ReadError(
            f"source: {os.path.basename(path)} in {given} has {len(names)} series; files that make "
            "one image have one each, so open this file by its own path."
        )
    return reader.read(names[0], 0)


def _panel_names(folder: str, stems: Sequence[str]) -> tuple[str, ...] | None:
    """Names from a panel.csv in which one column holds just the file names.

    Rows are never matched by position: the order of files and the order of a panel often differ.
    """
    path = Path(folder) / "panel.csv"
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = list(csv.DictReader(file))
    named = next((c for c in _NAME_COLUMNS if rows and rows[0].get(c)), None)
    if named is None or len(rows) != len(stems):
        return None
    for column in rows[0]:
        keys = [row[column] for row in rows]
        if column != named and sorted(map(str, keys)) == sorted(stems):
            names = {str(row[column]): row[named] for row in rows}
            return tuple(names[s] for s in stems) if all(names.values()) else None
    return None
