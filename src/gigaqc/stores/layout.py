"""How a zarr array is stored: which object holds a chunk, and how bytes become chunks and blocks.

From the array's own metadata. What is not known here (filters, other codecs and types) has no
layout, and is left to zarr.
"""

from __future__ import annotations

import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import zarr

Index = tuple[int, ...]
"""Of a chunk, one number an axis."""

METADATA = ("zarr.json", ".zarray")
"""Documents that tell it, of zarr 3 and 2."""

_PLAIN = "biuf"  # kinds of numbers whose bytes are their values
_ABSENT = np.uint64(2**64 - 1)  # offset and length of a chunk that a shard lacks


@dataclass(frozen=True)
class ChunkPart:
    """Chunks of a block that lie in one stored object: a chunk, or some of a shard."""

    key: str
    chunks: tuple[Index, ...]


@dataclass(frozen=True)
class Shard:
    """How chunks lie in a shard: how many along each axis, and where their index is."""

    counts: tuple[int, ...]
    at_end: bool
    checked: bool

    @property
    def size(self) -> int:
        """Bytes of the index."""
        return 16 * math.prod(self.counts) + 4 * self.checked

    def within(self, stored: Any) -> Any:
        """The bytes of the index in those of the whole shard."""
        return stored[-self.size :] if self.at_end else stored[: self.size]

    def entries(self, stored: Any) -> np.ndarray:
        """Offset and length of each chunk, (chunks, 2), from the bytes of the index."""
        if len(stored) != self.size:
            raise ValueError(f"its index has {len(stored)} bytes and not {self.size}")
        body = bytes(stored[: 16 * math.prod(self.counts)])
        if self.checked:
            import google_crc32c

            if google_crc32c.value(body) != int.from_bytes(bytes(stored[-4:]), "little"):
                raise ValueError("its index is damaged (its checksum differs)")
        return np.frombuffer(body, "<u8").reshape(-1, 2)

    def span(self, entries: np.ndarray, index: Index) -> tuple[int, int] | None:
        """Offset and length of a chunk of the array; None where the shard lacks it."""
        inside = tuple(i % n for i, n in zip(index, self.counts, strict=True))
        offset, length = entries[np.ravel_multi_index(inside, self.counts)]
        return None if offset == _ABSENT and length == _ABSENT else (int(offset), int(length))


@dataclass(frozen=True)
class ArrayLayout:
    """How chunks are stored: their shape, the type of their bytes, codec, and names of objects."""

    chunks: tuple[int, ...]
    dtype: np.dtype
    codec: str
    prefix: str
    separator: str
    shard: Shard | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of a decoded chunk."""
        return math.prod(self.chunks) * self.dtype.itemsize

    def key(self, index: Sequence[int]) -> str:
        """Name of an object below the array: that of a chunk, or of a shard."""
        return self.prefix + self.separator.join(map(str, index))

    def parts(self, spans: Sequence[range]) -> Iterator[ChunkPart]:
        """What a block is made of, in order."""
        ranges = [
            range(s.start // c, -(-s.stop // c)) for s, c in zip(spans, self.chunks, strict=True)
        ]
        if self.shard is None:
            for index in itertools.product(*ranges):
                yield ChunkPart(self.key(index), (index,))
            return
        counts = self.shard.counts
        shards = [
            range(r.start // n, -(-r.stop // n)) if r else range(0)
            for r, n in zip(ranges, counts, strict=True)
        ]
        for shard in itertools.product(*shards):
            inside = (
                range(max(r.start, i * n), min(r.stop, (i + 1) * n))
                for r, i, n in zip(ranges, shard, counts, strict=True)
            )
            yield ChunkPart(self.key(shard), tuple(itertools.product(*inside)))

    def decoded(self, stored: Any) -> np.ndarray:
        """The chunk that these bytes hold; raises where they do not hold exactly one."""
        if self.codec == "raw" and len(stored) == self.nbytes:
            return np.frombuffer(stored, self.dtype).reshape(self.chunks)  # of these very bytes
        chunk = np.empty(self.chunks, self.dtype)
        size = _DECODERS[self.codec](stored, chunk.reshape(-1).view("u1"))
        if size != chunk.nbytes:
            raise ValueError(f"it holds {size} bytes and not {chunk.nbytes}")
        return chunk


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


def layout_of(array: zarr.Array) -> ArrayLayout | None:
    """The layout of an array, or None where something of it is not known."""
    from zarr.core.buffer import default_buffer_prototype

    documents = array.metadata.to_buffer_dict(default_buffer_prototype())
    for name in METADATA:
        if name in documents:
            return parsed(json.loads(documents[name].to_bytes()))
    return None


def parsed(metadata: Mapping[str, Any]) -> ArrayLayout | None:
    """The layout that the metadata of an array tells, of either version of zarr."""
    layout = (_layout_3 if "node_type" in metadata else _layout_2)(metadata)
    plain = layout is not None and layout.dtype.kind in _PLAIN and len(layout.chunks) > 0
    return layout if plain else None


def _layout_3(metadata: Mapping[str, Any]) -> ArrayLayout | None:
    """From ``zarr.json``; None where something is not known."""
    grid, keys = metadata.get("chunk_grid", {}), metadata.get("chunk_key_encoding", {})
    known = (
        metadata.get("node_type") == "array"
        and isinstance(metadata.get("data_type"), str)
        and not metadata.get("storage_transformers")
        and grid.get("name") == "regular"
        and keys.get("name") in ("default", "v2")
    )
    if not known:
        return None
    default = keys["name"] == "default"
    separator = keys.get("configuration", {}).get("separator", "/" if default else ".")
    outer = tuple(grid["configuration"]["chunk_shape"])
    prefix = "c" + separator if default else ""
    whole = ArrayLayout(outer, np.dtype(metadata["data_type"]), "raw", prefix, separator)
    return _coded(whole, metadata.get("codecs", ()))


def _coded(layout: ArrayLayout, codecs: Sequence[Mapping[str, Any]]) -> ArrayLayout | None:
    """The same layout where chunks are stored by these codecs; None where one is not known."""
    first, *rest = codecs or [{}]
    given = first.get("configuration", {})
    if first.get("name") == "sharding_indexed" and not rest and layout.shard is None:
        return _sharded(layout, given)
    codec = rest[0]["name"] if rest else "raw"
    if first.get("name") != "bytes" or len(rest) > 1 or codec not in _CODECS_3:
        return None
    endian = given.get("endian")
    dtype = layout.dtype
    if dtype.itemsize > 1 and endian in ("little", "big"):
        dtype = dtype.newbyteorder(endian)
    return replace(layout, codec=codec, dtype=dtype)


def _sharded(layout: ArrayLayout, given: Mapping[str, Any]) -> ArrayLayout | None:
    inner = tuple(given["chunk_shape"])
    first, *rest = given.get("index_codecs", [{}])
    checked = [codec.get("name") for codec in rest] == ["crc32c"]
    known = (
        first.get("name") == "bytes"
        and first.get("configuration", {}).get("endian", "little") == "little"
        and (not rest or checked)
        and not any(n % c for n, c in zip(layout.chunks, inner, strict=True))
        and (not checked or find_spec("google_crc32c") is not None)
    )
    if not known:
        return None
    counts = tuple(n // c for n, c in zip(layout.chunks, inner, strict=True))
    shard = Shard(counts, given.get("index_location", "end") == "end", checked)
    return _coded(replace(layout, chunks=inner, shard=shard), given["codecs"])


def _layout_2(metadata: Mapping[str, Any]) -> ArrayLayout | None:
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
    return ArrayLayout(
        tuple(metadata["chunks"]), np.dtype(metadata["dtype"]), str(codec), "", separator
    )


def _raw(stored: Any, out: np.ndarray) -> int:
    if len(stored) == out.nbytes:
        out[:] = np.frombuffer(stored, "u1")
    return len(stored)


def _zstd(stored: Any, out: np.ndarray) -> int:
    import imagecodecs

    return len(imagecodecs.zstd_decode(stored, out=out.data))


def _blosc(stored: Any, out: np.ndarray) -> int:
    import imagecodecs

    # Its decoder believes the length that the header tells, and would read beyond the file.
    if int.from_bytes(bytes(stored[12:16]), "little") != len(stored):
        raise ValueError(f"it has {len(stored)} bytes, its header tells of another number")
    return len(imagecodecs.blosc_decode(stored, numthreads=1, out=out.data))


def _inflate(window: int) -> Callable[[Any, np.ndarray], int]:
    def decode(stored: Any, out: np.ndarray) -> int:
        return _raw(zlib.decompress(stored, window), out)

    return decode


_DECODERS: dict[str, Callable[[Any, np.ndarray], int]] = {
    "raw": _raw,
    "zstd": _zstd,
    "blosc": _blosc,
    "gzip": _inflate(31),
    "zlib": _inflate(15),
}
"""Each decodes into bytes of the right number and says how many it found."""

_CODECS_3 = ("raw", "zstd", "blosc", "gzip")
