"""Chunks of a zarr array in a local folder, decoded without zarr's own pipeline.

zarr reads through an event loop, which for a chunk of 2 MiB takes as long as decoding it. Here a
thread reads the file of a chunk and decodes it into the array that it returns. What is not known
here (other stores, shards, filters, other codecs and types) is left to zarr.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gigaqc.errors import ReadError

if TYPE_CHECKING:
    import zarr

    from gigaqc.io.lazy import ArrayLike

_PLAIN = "biuf"  # kinds of numbers whose bytes are their values


def direct(array: zarr.Array) -> ArrayLike:
    """The array with chunks decoded directly where that is known to give the same."""
    folder = _local_folder(array)
    if folder is None or array.dtype.kind not in _PLAIN or not array.ndim:
        return array
    for name, read in (("zarr.json", _layout_3), (".zarray", _layout_2)):
        try:
            stamp = _stamp(folder / name)
            metadata = json.loads((folder / name).read_bytes())
        except (OSError, ValueError):
            continue
        layout = read(metadata)
        return array if layout is None else DirectArray(array, folder, layout, name, stamp)
    return array


def store_of(array: zarr.Array) -> str:
    """The store of an array, in words."""
    folder = _local_folder(array)
    return str(array.store_path if folder is None else folder)


def _stamp(file: Path | str) -> tuple[int, int]:
    """What tells whether a file was written again."""
    status = os.stat(file)
    return status.st_mtime_ns, status.st_size


def _local_folder(array: zarr.Array) -> Path | None:
    """Where the files of an array lie; None where they are not plain local files."""
    from zarr.storage import FsspecStore, LocalStore

    store = array.store
    if type(store) is LocalStore:
        return Path(store.root, array.path)
    if type(store) is FsspecStore:  # what dask.array.from_zarr makes of a path
        from fsspec.implementations.local import LocalFileSystem

        if type(getattr(store.fs, "sync_fs", None)) is LocalFileSystem:
            return Path(store.path, array.path)
    return None


@dataclass(frozen=True)
class Layout:
    """How chunks are stored: their shape, the type of their bytes, codec, and names of files."""

    chunks: tuple[int, ...]
    dtype: np.dtype
    codec: str
    prefix: str
    separator: str

    def file(self, index: Sequence[int]) -> str:
        """Path of a chunk below the array's folder."""
        return self.prefix + self.separator.join(map(str, index))


class DirectArray:
    """A zarr array whose chunks are files that one codec decodes."""

    def __init__(
        self, array: zarr.Array, folder: Path, layout: Layout, name: str, stamp: tuple[int, int]
    ) -> None:
        self.shape: tuple[int, ...] = array.shape
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        self._array, self._folder, self._layout = array, str(folder), layout
        self._metadata, self._stamp = f"{folder}/{name}", stamp
        # zarr 2 may leave it open what a missing chunk holds; zarr gives 0 then.
        self._fill = 0 if array.fill_value is None else array.fill_value

    def __getitem__(self, key: Any) -> np.ndarray:
        """A block; what is not one slice of step 1 an axis is left to zarr."""
        plain = isinstance(key, tuple) and len(key) == self.ndim
        if not plain or any(not isinstance(k, slice) or k.step not in (None, 1) for k in key):
            return np.asarray(self._array[key])
        spans = [range(*s.indices(n)) for s, n in zip(key, self.shape, strict=True)]
        chunks = self._layout.chunks
        indices = [range(s.start // c, -(-s.stop // c)) for s, c in zip(spans, chunks, strict=True)]
        if math.prod(map(len, indices)) == 1:
            index = tuple(i.start for i in indices)
            return np.ascontiguousarray(self._cut(index, spans), dtype=self.dtype)
        out = np.empty([len(s) for s in spans], self.dtype)
        for index in itertools.product(*indices):
            where = tuple(
                slice(max(i * c - s.start, 0), min((i + 1) * c, s.stop) - s.start)
                for i, c, s in zip(index, chunks, spans, strict=True)
            )
            out[where] = self._cut(index, spans)
        return out

    def _cut(self, index: tuple[int, ...], spans: Sequence[range]) -> np.ndarray:
        """What a chunk holds of a block."""
        within = tuple(
            slice(max(s.start - i * c, 0), min(s.stop - i * c, c))
            for i, c, s in zip(index, self._layout.chunks, spans, strict=True)
        )
        return self._chunk(index)[within]

    def _check(self) -> None:
        """Refuse an array whose shape was changed: chunks that it lost would be taken for 0."""
        stamp = _stamp(self._metadata)
        if stamp == self._stamp:
            return
        metadata = json.loads(Path(self._metadata).read_bytes())
        read = _layout_3 if "node_type" in metadata else _layout_2
        shape = tuple(metadata["shape"])
        if shape != self.shape or read(metadata) != self._layout:
            raise ReadError(
                f"{self._metadata}: the array was changed while it was read, its shape was "
                f"{self.shape} and is {shape}"
            )
        self._stamp = stamp

    def _chunk(self, index: tuple[int, ...]) -> np.ndarray:
        layout = self._layout
        self._check()
        try:
            with open(f"{self._folder}/{layout.file(index)}", "rb", buffering=0) as file:
                stored = file.read()
        except FileNotFoundError:
            return np.full(layout.chunks, self._fill, self.dtype)
        chunk = np.empty(layout.chunks, layout.dtype)
        try:
            size = _DECODERS[layout.codec](stored, chunk.reshape(-1).view("u1"))
        except Exception as error:
            raise ReadError(f"{file.name}: {type(error).__name__}: {error}") from error
        if size != chunk.nbytes:
            raise ReadError(f"{file.name}: it holds {size} bytes and not {chunk.nbytes}")
        return chunk


def _layout_3(metadata: Mapping[str, Any]) -> Layout | None:
    """From ``zarr.json``; None where something is not known."""
    grid, keys = metadata.get("chunk_grid", {}), metadata.get("chunk_key_encoding", {})
    first, *rest = metadata.get("codecs", [{}])
    codec = rest[0]["name"] if rest else "raw"
    known = (
        metadata.get("node_type") == "array"
        and isinstance(metadata.get("data_type"), str)
        and not metadata.get("storage_transformers")
        and grid.get("name") == "regular"
        and keys.get("name") in ("default", "v2")
        and first.get("name") == "bytes"
        and len(rest) <= 1
        and codec in ("raw", "zstd", "blosc", "gzip")
    )
    if not known:
        return None
    order = {"little": "<", "big": ">"}.get(first.get("configuration", {}).get("endian"), "|")
    dtype = np.dtype(metadata["data_type"])
    default = keys["name"] == "default"
    separator = keys.get("configuration", {}).get("separator", "/" if default else ".")
    return Layout(
        tuple(grid["configuration"]["chunk_shape"]),
        dtype.newbyteorder(order) if dtype.itemsize > 1 else dtype,
        codec,
        "c" + separator if default else "",
        separator,
    )


def _layout_2(metadata: Mapping[str, Any]) -> Layout | None:
    """From ``.zarray``; None where something is not known."""
    codec = (metadata.get("compressor") or {"id": "raw"}).get("id")
    known = (
        isinstance(metadata.get("dtype"), str)
        and metadata.get("order") == "C"
        and not metadata.get("filters")
        and codec in _DECODERS
    )
    if not known:
        return None
    separator = metadata.get("dimension_separator", ".")
    return Layout(tuple(metadata["chunks"]), np.dtype(metadata["dtype"]), str(codec), "", separator)


def _raw(stored: bytes, out: np.ndarray) -> int:
    if len(stored) == out.nbytes:
        out[:] = np.frombuffer(stored, "u1")
    return len(stored)


def _zstd(stored: bytes, out: np.ndarray) -> int:
    import imagecodecs

    return len(imagecodecs.zstd_decode(stored, out=out.data))


def _blosc(stored: bytes, out: np.ndarray) -> int:
    import imagecodecs

    # Its decoder believes the length that the header tells, and would read beyond the file.
    if int.from_bytes(stored[12:16], "little") != len(stored):
        raise ValueError(f"its file has {len(stored)} bytes, its header tells of another number")
    return len(imagecodecs.blosc_decode(stored, numthreads=1, out=out.data))


def _inflate(window: int) -> Callable[[bytes, np.ndarray], int]:
    def decode(stored: bytes, out: np.ndarray) -> int:
        return _raw(zlib.decompress(stored, window), out)

    return decode


_DECODERS: dict[str, Callable[[bytes, np.ndarray], int]] = {
    "raw": _raw,
    "zstd": _zstd,
    "blosc": _blosc,
    "gzip": _inflate(31),
    "zlib": _inflate(15),
}
"""Each decodes into bytes of the right number and says how many it found."""
