"""Stores that count, delay and fail reads, and processes whose memory is watched."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import zarr
from numpy.typing import ArrayLike, DTypeLike
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from gigaqc.errors import ParameterError

_RUNNER = """
import sys

def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

setup, code, report = sys.argv[1:4]
namespace = {"__name__": "__main__"}
exec(compile(setup, "<setup>", "exec"), namespace)
before = memory("VmRSS:")
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
exec(compile(code, "<code>", "exec"), namespace)
with open(report, "w") as file:
    file.write(f"{before} {memory('VmHWM:')}")
"""


@contextlib.contextmanager
def forbid_compute() -> Iterator[None]:
    """Within this context whoever computes a dask collection raises AssertionError.

    Holds a lazy function to its word; an active `distributed.Client` does not help around it.
    """
    import dask

    def refuse(graph: Any, keys: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError(f"computed behind the caller's back: {str(keys)[:200]}")

    with dask.config.set(scheduler=refuse):
        yield


@dataclass(frozen=True)
class PeakMemory:
    """Memory of a process, in bytes, and what it printed."""

    before: int
    """Resident when the set-up was done."""
    peak: int
    """The most that was resident after it."""
    stdout: str

    @property
    def growth(self) -> int:
        """Peak over what the set-up (the imports) had taken."""
        return self.peak - self.before


def peak_memory(
    code: str, *, setup: str = "", env: Mapping[str, str] | None = None, timeout: float = 600
) -> PeakMemory:
    """Run Python code in a process of its own and return the most memory it held (Linux).

    Parameters
    ----------
    code, setup
        Python source; `setup`, often the imports, runs first and is not counted. They share their
        names.
    env
        Variables added to the environment.
    timeout
        Seconds until the process is killed.

    Raises
    ------
    RuntimeError
        When the code fails; its error output is in the message.
    NotImplementedError
        Where there is no ``/proc``.

    Notes
    -----
    From ``VmHWM``, reset after the set-up. ``ru_maxrss`` would not do: a child inherits its
    parent's.
    """
    if not Path("/proc/self/clear_refs").exists():
        raise NotImplementedError("peak_memory reads /proc, which only Linux has.")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "memory")
        done = subprocess.run(
            [sys.executable, "-c", _RUNNER, setup, code, str(report)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **(env or {})},
            check=False,
        )
        if done.returncode or not report.exists():
            raise RuntimeError(
                f"the code ended with exit status {done.returncode}:\n{done.stderr[-4000:]}"
            )
        before, peak = map(int, report.read_text().split())
    return PeakMemory(before=before, peak=peak, stdout=done.stdout)


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
