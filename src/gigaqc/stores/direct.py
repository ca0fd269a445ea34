"""Chunks of a zarr array in a local folder, decoded without zarr's own pipeline.

zarr reads through an event loop, which for a chunk of 2 MiB takes as long as decoding it. Here a
thread reads the file of a chunk and decodes it into the array that it returns. Chunks in object
stores are decoded in the same way (`stores/remote.py`). What has no `ArrayLayout` is left to zarr.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from gigaqc.errors import ReadError
from gigaqc.stores.chunks import SourceArray, absent, check_exists
from gigaqc.stores.layout import (
    METADATA,
    ArrayLayout,
    BlockArray,
    ChunkPart,
    Index,
    layout_of,
    parsed,
)

if TYPE_CHECKING:
    import zarr


def direct(array: zarr.Array) -> SourceArray:
    """The array with chunks decoded directly where that is known to give the same."""
    from gigaqc.stores.object_store import is_remote

    folder = local_folder(array)
    if folder is not None:
        return _of_files(array, folder)
    layout = layout_of(array) if is_remote(array.store) else None
    if layout is None:
        return array
    from gigaqc.stores.remote import RemoteArray

    return RemoteArray(array, layout)


def _of_files(array: zarr.Array, folder: Path) -> SourceArray:
    for name in METADATA:
        try:
            stamp = _stamp(folder / name)
            layout = parsed(json.loads((folder / name).read_bytes()))
        except (OSError, ValueError):
            continue
        if layout is not None:
            return DirectArray(array, folder, layout, name, stamp)
    return ExistingArray(array, folder)


def store_of(array: zarr.Array) -> str:
    """The store of an array, in words."""
    from gigaqc.stores.object_store import address, is_remote

    folder = local_folder(array)
    if folder is not None:
        return str(folder)
    if is_remote(array.store):
        return f"{address(array.store)}/{array.path}".rstrip("/")
    return str(array.store_path)


def _stamp(file: Path | str) -> tuple[int, int]:
    """What tells whether a file was written again."""
    status = os.stat(file)
    return status.st_mtime_ns, status.st_size


def local_folder(array: zarr.Array) -> Path | None:
    """Where the files of an array lie; None where they are not plain local files."""
    from zarr.storage import FsspecStore, LocalStore

    store = array.store
    if type(store) is LocalStore:
        return Path(store.root, array.path).absolute()
    if type(store) is FsspecStore:  # what dask.array.from_zarr makes of a path
        from fsspec.implementations.local import LocalFileSystem

        if type(getattr(store.fs, "sync_fs", None)) is LocalFileSystem:
            return Path(store.path, array.path).absolute()
    return None


class DirectArray(BlockArray):
    """A zarr array whose chunks, or shards, are local files."""

    def __init__(
        self,
        array: zarr.Array,
        folder: Path,
        layout: ArrayLayout,
        name: str,
        stamp: tuple[int, int],
    ) -> None:
        super().__init__(array, layout)
        self._folder = str(folder)
        self._metadata, self._stamp = f"{folder}/{name}", stamp

    def _check(self) -> None:
        """Refuse an array whose shape was changed: chunks that it lost would be taken for 0."""
        try:
            stamp = _stamp(self._metadata)
        except FileNotFoundError:
            raise absent(self._folder) from None
        if stamp == self._stamp:
            return
        metadata = json.loads(Path(self._metadata).read_bytes())
        shape = tuple(metadata["shape"])
        if shape != self.shape or parsed(metadata) != self._layout:
            raise ReadError(
                f"{self._metadata}: the array was changed while it was read, its shape was "
                f"{self.shape} and is {shape}"
            )
        self._stamp = stamp

    def _decoded(self, part: ChunkPart) -> Iterator[tuple[Index, np.ndarray]]:
        self._check()
        path = f"{self._folder}/{part.key}"
        try:
            with open(path, "rb", buffering=0) as file:
                for index, stored in zip(part.chunks, self._stored(file, part), strict=True):
                    yield index, self._missing() if stored is None else self._layout.decoded(stored)
        except FileNotFoundError:
            for index in part.chunks:
                yield index, self._missing()
        except Exception as error:
            raise ReadError(f"{path}: {type(error).__name__}: {error}") from error

    def _stored(self, file: IO[bytes], part: ChunkPart) -> Iterator[bytes | memoryview | None]:
        """The bytes of each chunk; None of one that a shard lacks."""
        shard = self._layout.shard
        if shard is None:
            yield _all_of(file)
            return
        file.seek(-shard.size if shard.at_end else 0, os.SEEK_END if shard.at_end else os.SEEK_SET)
        entries = shard.entries(file.read(shard.size))
        for index in part.chunks:
            span = shard.span(entries, index)
            if span is not None:
                file.seek(span[0])
            yield None if span is None else file.read(span[1])


def _all_of(file: IO[bytes]) -> memoryview:
    """What a file holds, in memory that may be written to: the pixels, if nothing is compressed."""
    stored = np.empty(os.fstat(file.fileno()).st_size, "u1")
    return stored.data[: file.readinto(stored.data)]  # type: ignore[attr-defined]


class ExistingArray:
    """A zarr array in a local folder that zarr itself decodes, as long as the folder is there."""

    def __init__(self, array: zarr.Array, folder: Path) -> None:
        self.shape: tuple[int, ...] = array.shape
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        self._array, self._folder = array, str(folder)

    def __getitem__(self, key: Any) -> np.ndarray:
        """A block, by zarr."""
        check_exists(self._folder)
        return np.asarray(self._array[key])
