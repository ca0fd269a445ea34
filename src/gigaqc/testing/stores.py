"""Zarr stores for tests: one that counts what is read, and huge ones that take no room."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import ArrayLike, DTypeLike
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from gigaqc.errors import ParameterError

# dask copies zarr arrays by pickling them: counts on an instance would be lost with the copy.
_READS: dict[str, Counter[str]] = {}
_LOCK = threading.Lock()
_NUMBERS = itertools.count()
_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


class CountingStore(WrapperStore[Store]):
    """Counts each read of a chunk in the store that it wraps, over all of its copies.

    Parameters
    ----------
    store
        A `LocalStore`, a path (opened as one), or another zarr store such as a `MemoryStore`.

    Notes
    -----
    Counts live in the process that reads. A read of an absent chunk counts; one of metadata does
    not. Of a sharded array the key is the shard's, counted for its index and each inner chunk.

    Examples
    --------
    >>> store = CountingStore("image.zarr")
    >>> image = gq.open_image(zarr.open_array(store, mode="r"))    # doctest: +SKIP
    >>> count_reads(store)                                         # doctest: +SKIP
    Counter({'c/0/0/0': 1, 'c/0/0/1': 1})
    """

    def __init__(self, store: Store | str | os.PathLike[str]) -> None:
        if isinstance(store, (str, os.PathLike)):
            store = LocalStore(Path(store))
        super().__init__(store)
        self.counted_as = _name_of(store)

    def _with_store(self, store: Store) -> CountingStore:
        copy = type(self)(store)
        copy.counted_as = self.counted_as
        return copy

    def with_read_only(self, read_only: bool = False) -> CountingStore:
        """The same store, counted under the same name, with or without the right to write."""
        return self._with_store(self._store.with_read_only(read_only))

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a key, or a part of it, and count that."""
        _count(self.counted_as, key)
        return await self._store.get(key, prototype, byte_range)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """What newer zarr calls instead of `get`."""
        _count(self.counted_as, key)
        inner: Any = self._store
        return inner.get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Read parts of several keys, each counted once."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]


def count_reads(store: CountingStore | str | os.PathLike[str]) -> Counter[str]:
    """How often each chunk was read since the last `reset_reads`, by key.

    `store` is the `CountingStore` or the path that it counts.
    """
    with _LOCK:
        return Counter(_READS.get(_counted_as(store), ()))


def reset_reads(store: CountingStore | str | os.PathLike[str]) -> None:
    """Forget the reads of a store counted so far."""
    with _LOCK:
        _READS.pop(_counted_as(store), None)


def sparse_store(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    chunks: Sequence[int],
    *,
    dtype: DTypeLike = np.uint16,
    blocks: Sequence[ArrayLike] = (),
    fill_value: float = 0,
) -> Path:
    """A zarr array of any size that takes next to no room on disk.

    Parameters
    ----------
    path
        Where it is written; must not exist yet.
    shape, chunks, dtype
        Of the array.
    blocks
        Arrays of the shape of a chunk: each chunk of the array is one of them, in turn, stored
        once and linked from everywhere else, so that reading decodes real data. Without blocks all
        chunks are absent and read as `fill_value`.

    Returns
    -------
    pathlib.Path
        The path, to be opened with zarr or `gq.open_image`.

    Raises
    ------
    ParameterError
        When a block has not the shape of a chunk.
    """
    wrong = [np.shape(b) for b in blocks if np.shape(b) != tuple(chunks)]
    if wrong:
        raise ParameterError(f"blocks: got the shapes {wrong}; each must be {tuple(chunks)}.")
    root = Path(path)
    array = _create(root, shape, chunks, dtype, fill_value)
    if not blocks:
        return root
    grid = tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True))
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        originals = _write_blocks(Path(folder, "blocks"), chunks, dtype, blocks)
        for number, index in enumerate(np.ndindex(grid)):
            target = root / array.metadata.encode_chunk_key(index)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(originals[number % len(originals)], target)
    return root


def _create(
    root: Path, shape: Sequence[int], chunks: Sequence[int], dtype: DTypeLike, fill_value: float
) -> zarr.Array:
    return zarr.create_array(
        LocalStore(root),
        shape=tuple(shape),
        chunks=tuple(chunks),
        dtype=np.dtype(dtype),
        fill_value=fill_value,
        config={"write_empty_chunks": True},
    )


def _write_blocks(
    root: Path, chunks: Sequence[int], dtype: DTypeLike, blocks: Sequence[ArrayLike]
) -> list[Path]:
    """The files that hold the blocks, each a whole chunk."""
    array = _create(root, (chunks[0] * len(blocks), *chunks[1:]), chunks, dtype, 0)
    array[:] = np.concatenate([np.asarray(b, dtype) for b in blocks])
    zeros = (0,) * (len(chunks) - 1)
    return [root / array.metadata.encode_chunk_key((i, *zeros)) for i in range(len(blocks))]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # no hard links here, or too many of one file
        shutil.copyfile(source, target)


def _count(name: str, key: str) -> None:
    if key.rpartition("/")[2] in _METADATA:
        return
    with _LOCK:
        _READS.setdefault(name, Counter())[key] += 1


def _name_of(store: Store) -> str:
    if isinstance(store, LocalStore):
        return str(store.root.resolve())
    return f"{type(store).__name__}-{next(_NUMBERS)}"


def _counted_as(store: CountingStore | str | os.PathLike[str]) -> str:
    return store.counted_as if isinstance(store, CountingStore) else str(Path(store).resolve())
