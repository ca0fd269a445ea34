"""Chunks of a zarr array in a local folder, decoded without zarr's own pipeline.

zarr reads through an event loop, which for a chunk of 2 MiB takes as long as decoding it. Here a
thread reads the file of a chunk and decodes it into the array that it returns. Chunks in object
stores are decoded in the same way (`io/remote.py`). What has no `ArrayLayout` is left to zarr.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from gigaqc.errors import ReadError
from gigaqc.io.layout import METADATA, ArrayLayout, ChunkPart, Index, layout_of, parsed
from gigaqc.io.seen import check_seen, unseen

if TYPE_CHECKING:
    import zarr

    from gigaqc.io.lazy import SourceArray


def direct(array: zarr.Array) -> SourceArray:
    """The array with chunks decoded directly where that is known to give the same."""
    from gigaqc.io.stores import is_remote

    folder = local_folder(array)
    if folder is not None:
        return _of_files(array, folder)
    layout = layout_of(array) if is_remote(array.store) else None
    if layout is None:
        return array
    from gigaqc.io.remote import RemoteArray

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
    return SeenArray(array, folder)


def store_of(array: zarr.Array) -> str:
    """The store of an array, in words."""
    from gigaqc.io.stores import address, is_remote

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


class BlockArray:
    """A zarr array whose blocks are put together from chunks that are decoded here."""

    def __init__(self, array: zarr.Array, layout: ArrayLayout) -> None:
        self.shape: tuple[int, ...] = array.shape
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        self._array, self._layout = array, layout
        # zarr 2 may leave it open what a missing chunk holds; zarr gives 0 then.
        self._fill = 0 if array.fill_value is None else array.fill_value

    def __getitem__(self, key: Any) -> np.ndarray:
        """A block; what is not one slice of step 1 an axis is left to zarr."""
        spans = self._spans(key)
        if spans is None:
            return np.asarray(self._array[key])
        self._begin(spans)
        chunks = self._layout.chunks
        shape = [len(s) for s in spans]
        out: np.ndarray | None = None
        for part in self._layout.parts(spans):
            for index, chunk in self._decoded(part):
                within = tuple(
                    slice(max(s.start - i * c, 0), min(s.stop - i * c, c))
                    for i, c, s in zip(index, chunks, spans, strict=True)
                )
                piece = chunk[within]
                if out is None and list(piece.shape) == shape:
                    return np.require(piece, self.dtype, ("C", "W"))
                out = np.empty(shape, self.dtype) if out is None else out
                out[
                    tuple(
                        slice(max(i * c - s.start, 0), min((i + 1) * c, s.stop) - s.start)
                        for i, c, s in zip(index, chunks, spans, strict=True)
                    )
                ] = piece
        return np.empty(shape, self.dtype) if out is None else out

    def _spans(self, key: Any) -> list[range] | None:
        plain = isinstance(key, tuple) and len(key) == self.ndim
        if not plain or any(not isinstance(k, slice) or k.step not in (None, 1) for k in key):
            return None
        return [range(*s.indices(n)) for s, n in zip(key, self.shape, strict=True)]

    def _begin(self, spans: Sequence[range]) -> None:
        """A block is about to be read."""

    def _decoded(self, part: ChunkPart) -> Iterator[tuple[Index, np.ndarray]]:
        """The chunks of a part, one after the other."""
        raise NotImplementedError

    def _missing(self) -> np.ndarray:
        return np.full(self._layout.chunks, self._fill, self.dtype)


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
            raise unseen(self._folder) from None
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


class SeenArray:
    """A zarr array in a local folder that zarr itself decodes, as long as the folder is there."""

    def __init__(self, array: zarr.Array, folder: Path) -> None:
        self.shape: tuple[int, ...] = array.shape
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        self._array, self._folder = array, str(folder)

    def __getitem__(self, key: Any) -> np.ndarray:
        """A block, by zarr."""
        check_seen(self._folder)
        return np.asarray(self._array[key])
