"""TIFF, OME-TIFF, BigTIFF, SVS and the other TIFFs that tifffile knows, lazily.

Uncompressed pixels that lie together in a local file are mapped; everything else is read through
tifffile's zarr store. That store cannot be pickled, so `TiffArray` keeps
the path, and opens the file once in every process that reads from it.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from gigaqc.errors import MissingDependencyError, ParameterError, ReadError
from gigaqc.readers.raw import RawImage, grouped
from gigaqc.readers.tiff_metadata import channel_names, dims_of, pixel_size
from gigaqc.stores.location import Location

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

_OPEN_FILES = 64
_WHOLE_PAGE = 4096 * 4096  # pages up to here are read whole where their strips are tiny
_TINY_STRIP = 1 << 16
_ASSOCIATED = {"thumbnail", "label", "macro", "overview"}  # pictures of the slide, not of tissue


class TiffReader:
    """The series of a TIFF file."""

    def __init__(self, location: Location) -> None:
        self._location = location
        with opened(location) as file:
            _check_complete(file, location)
            self._names = series_names(file, location)

    def images(self) -> list[str]:
        """Names of the series."""
        return list(self._names)

    def labels(self) -> list[str] | None:
        """TIFF does not tell labels from images."""
        return None

    def default(self) -> str | None:
        """Name the only series that is not a picture of the slide (thumbnail, label, macro)."""
        if len(self._names) == 1:
            return self._names[0]
        main = [n for n in self._names if n.lower() not in _ASSOCIATED]
        return main[0] if len(main) == 1 else None

    def read(self, name: str, level: int, *, labels: bool = False) -> RawImage:
        """Open a series at a level of its pyramid."""
        index = self._names.index(name)
        with opened(self._location) as file:
            series = file.series[index]
            if level >= len(series.levels):
                raise ParameterError(
                    f"level: {self._location.given} has {len(series.levels)} levels for {name!r}; "
                    f"got {level}, pass 0 to {len(series.levels) - 1}."
                )
            return self._describe(file, series, index, level, name)

    def _describe(
        self, file: TiffFile, series: TiffPageSeries, index: int, level: int, name: str
    ) -> RawImage:
        at = series.levels[level]
        _check_codec(at, self._location)
        array = TiffArray(self._location, index, level, at)
        dims = dims_of(at.axes, at.shape, self._location.given)
        chunks = array.chunks
        layout = dims if dims is not None else tuple("tczyx"[-len(at.shape) :])
        sizes, unit = pixel_size(file, series, index)
        if level:  # coarser levels cover the same field with fewer pixels
            for dim, axis in (("y", "Y"), ("x", "X")):
                if dim in sizes:
                    sizes[dim] *= (
                        series.shape[series.axes.index(axis)] / at.shape[at.axes.index(axis)]
                    )
        return RawImage(
            array=array,
            element=name,
            dims=dims,
            chunks=chunks,
            blocks=grouped(at.shape, chunks, layout) if {"y", "x"} <= set(layout) else chunks,
            channels=channel_names(file, series, index),
            pixel_size=sizes,
            unit=unit,
        )


class TiffArray:
    """One level of one series; pickles, and opens its file where it is read."""

    def __init__(
        self, location: Location, series: int, level: int, described: TiffPageSeries
    ) -> None:
        self.location = location
        self.series = series
        self.level = level
        self.pages = _by_pages(described)
        self.stamp = location.stamp()
        self.shape = tuple(int(n) for n in described.shape)
        self.dtype = np.dtype(described.dtype)
        self.chunks = _chunks(described, self.pages)
        self.mapped = _mapped(described, location)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a block, out of the mapped file or through tifffile's zarr store."""
        if self.mapped is not None:
            stored, offset = self.mapped
            block = np.memmap(self.location.path, stored, "r", offset, self.shape)[key]
            return np.array(block, dtype=self.dtype)
        return np.asarray(_HANDLES.get(self).array[key])


class _Handle:
    """An open file and the zarr array over it; closes when the last reader lets go of it."""

    def __init__(self, source: TiffArray) -> None:
        import zarr
        from tifffile.zarr import ZarrTiffStore

        self.file = _open(source.location)
        series = self.file.series[source.series].levels[source.level]
        compressed = series.keyframe.compression != 1
        store = _checked_store()(
            series,
            multiscales=False,
            chunkmode=2 if source.pages else 0,
            # Above 1, tiles are decoded in threads and not one by one in zarr's own.
            maxworkers=2 if compressed and not source.pages else 1,
        )
        assert isinstance(store, ZarrTiffStore)
        self.array = zarr.open_array(store, mode="r")

    def __del__(self) -> None:
        file = getattr(self, "file", None)
        if file is not None:
            file.close()


class _Handles:
    """The files that this process has open, the least recently used let go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: OrderedDict[tuple[Any, ...], _Handle] = OrderedDict()

    def get(self, source: TiffArray) -> _Handle:
        # The process number: a forked child must not share the file position of its parent.
        key = (os.getpid(), source.location, source.stamp, source.series, source.level)
        with self._lock:
            handle = self._handles.get(key)
            if handle is None:
                handle = self._handles[key] = _Handle(source)
            self._handles.move_to_end(key)
            while len(self._handles) > _OPEN_FILES:
                self._handles.popitem(last=False)
            return handle


_HANDLES = _Handles()
_STORE: list[Any] = []


def _checked_store() -> Any:
    """Return tifffile's zarr store, refusing segments that the file ends before."""
    if not _STORE:
        from tifffile.zarr import ZarrTiffStore

        class CheckedTiffStore(ZarrTiffStore):
            async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
                # "0.0.1" where the store is of zarr 2, "c/0/0/1" where it is of zarr 3
                if key[:1].isdigit() or key.startswith("c/"):
                    _check_inside(self, key)
                return await super().get(key, prototype, byte_range)

        _STORE.append(CheckedTiffStore)
    return _STORE[0]


def _check_inside(store: Any, key: str) -> None:
    _, page, _, offset, count = store._parse_key(key)
    if page is None:
        return
    segments = [(offset, count)]
    if offset is None:
        segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    size = page.parent.filehandle.size
    for start, length in segments:
        if start and length and start + length > size:
            raise ReadError(f"the file ends at byte {size}, its data should reach {start + length}")


def _by_pages(series: TiffPageSeries) -> bool:
    """Whether to read page by page: where strips are tiny, one call beats hundreds."""
    page = series.keyframe
    return (
        not page.is_tiled
        and len(page.dataoffsets) > 1
        and int(np.prod(page.shape)) <= _WHOLE_PAGE
        and int(np.prod(page.chunks)) < _TINY_STRIP
        and series.dataoffset is None
        and len(series.shape) >= len(page.shape)
        and tuple(series.shape[len(series.shape) - len(page.shape) :]) == tuple(page.shape)
    )


def _mapped(series: TiffPageSeries, location: Location) -> tuple[np.dtype, int] | None:
    """Type and offset of pixels that lie together, uncompressed, in a complete local file."""
    offset = series.dataoffset
    if not location.local or series.is_multifile or series.transform is not None or not offset:
        return None
    stored = np.dtype(series.keyframe.parent.byteorder + series.dtype.char)
    needed = offset + int(np.prod(series.shape)) * stored.itemsize
    return (stored, offset) if location.size() >= needed else None


def _chunks(series: TiffPageSeries, pages: bool) -> tuple[int, ...]:
    import zarr

    store = series.aszarr(multiscales=False, chunkmode=2 if pages else 0)
    return tuple(int(c) for c in zarr.open_array(store, mode="r").chunks)


def _check_codec(series: TiffPageSeries, location: Location) -> None:
    """Refuse a compression that cannot be decoded here before anything is computed."""
    from tifffile import TIFF

    compression = series.keyframe.compression
    try:
        TIFF.DECOMPRESSORS[compression]
    except KeyError as error:
        raise MissingDependencyError(
            f"source: {location.given} is compressed with {compression!r}, which cannot be "
            f"decoded here ({error}); pip install imagecodecs."
        ) from error


def _check_complete(file: TiffFile, location: Location) -> None:
    """Refuse a file that ends before its last page; tifffile would leave these pages out."""
    if file.is_ndpi:  # offsets of its own
        return
    tiff, handle = file.tiff, file.filehandle
    handle.seek(file.pages[-1].offset)
    tags = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))[0]
    handle.seek(tags * tiff.tagsize, os.SEEK_CUR)
    following = handle.read(tiff.offsetsize)
    after = struct.unpack(tiff.offsetformat, following)[0] if following else 0
    if after >= handle.size:
        raise ReadError(
            f"{location.given}: truncated, it ends at byte {handle.size}, and page "
            f"{len(file.pages)} lies at {after}; copy or export it again."
        )


def series_names(file: TiffFile, location: Location) -> list[str]:
    """Names of the series: their own where each has one, else their numbers."""
    names = [str(s.name).strip() for s in file.series]
    if len(names) == 1:
        return [names[0] or location.stem]
    if all(names) and max(Counter(names).values()) == 1:
        return names
    return [f"{i} {n}".strip() for i, n in enumerate(names)]


@contextmanager
def opened(location: Location) -> Iterator[TiffFile]:
    """Open a TIFF file for its metadata, with errors that name it."""
    file = _open(location)
    try:
        yield file
    finally:
        file.close()


def _open(location: Location) -> TiffFile:
    from tifffile import TiffFile

    handle = None
    try:
        if location.local:
            file = TiffFile(location.path)
        else:
            handle = location.open()
            file = TiffFile(handle, name=location.stem)
        if not any(len(s.shape) >= 2 and s.dtype is not None for s in file.series):
            file.close()
            raise ReadError(f"{location.given}: a TIFF file without images; export it again.")
        return file
    except (ReadError, MissingDependencyError, FileNotFoundError):
        raise
    except PermissionError as error:
        from gigaqc.stores.location import no_permission

        raise no_permission(location) from error
    except Exception as error:
        if handle is not None:
            handle.close()
        raise ReadError(
            f"{location.given}: a TIFF file that cannot be read ({type(error).__name__}: {error}); "
            "it is corrupt or truncated, copy or export it again."
        ) from error
