"""Blocks of arrays that lie elsewhere, as dask slices them, and chunks that cannot be read.

`LazyArray` brings a file's axes into the order ``t c z y x``, and a chunk that cannot be decoded
raises an error that names the file and the chunk. It is small and pickles, so that a worker in
another process opens the file for itself. Within `Filling.of` a block is read without bad chunks,
with one value or with another in their place: pixels that come out differently depend on what could
not be read, whatever was computed on the way.

A chunk that a zarr array lacks is its fill value. So a worker that does not see the folder of an
array would take all of it for fill value, and nobody would notice: `check_exists` does.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import pickle
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, Protocol

import numpy as np

from gigaqc.base.formatting import listed
from gigaqc.base.machine import reuse_memory
from gigaqc.errors import ReadError
from gigaqc.stores.location import in_one_line

_BLOCK = 1024 * 1024  # values of a block that is read from a file without chunks
_MARKS = ("zarr.json", ".zarray")


class ChunkError(ReadError):
    """A chunk that could not be read: where it lies, why, and what helps."""

    def __init__(self, store: str, index: tuple[int, ...], why: str, cure: str) -> None:
        super().__init__(store, index, why, cure)  # so it can be pickled
        self.store, self.index, self.why, self.cure = store, index, why, cure

    def __str__(self) -> str:
        place = f"chunk {self.index} " if self.index else ""
        return f"{self.store}: {place}cannot be read ({self.why}); {self.cure}."


class Unreachable(ChunkError):
    """Not the chunk is bad, but its store does not answer, or is not there."""


def check_exists(folder: str) -> None:
    """Refuse to take what is not there for fill value where not even its metadata is there."""
    if not any(os.path.exists(os.path.join(folder, mark)) for mark in _MARKS):
        raise absent(folder)


def absent(path: str) -> Unreachable:
    """The error for a path that is not there while it is computed."""
    worker = _worker()
    if worker is None:
        return Unreachable(
            path, (), "it is not there any more", "it was moved or removed; open it where it is now"
        )
    return Unreachable(
        path,
        (),
        f"worker {worker} does not see it",
        "put the image where all workers see it under the same path, on a shared file system, or "
        "into an object store (s3://)",
    )


def portable(error: BaseException) -> BaseException:
    """The error, or what it says where it cannot be sent to another process."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    try:
        for part in chain:
            pickle.dumps(part)
    except Exception:
        return OSError(in_one_line(chain[0]))
    return chain[0]


def _worker() -> str | None:
    """Name and address of the dask worker that this is, if it is one."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        worker = distributed.get_worker()
    except ValueError:
        return None
    return f"{worker.name} at {worker.address}"


@dataclass(frozen=True, order=True)
class BadChunk:
    """A chunk that could not be read: of which store, where in its grid, and why."""

    store: str
    dims: tuple[str, ...]
    index: tuple[int, ...]
    error: str = field(compare=False)

    def __str__(self) -> str:
        shown = ", ".join(f"{d}={i}" for d, i in zip(self.dims, self.index, strict=True))
        return f"({shown})"


class FillSide(Enum):
    """What stands in the place of a bad chunk."""

    LOW = auto()
    HIGH = auto()

    def filler(self, dtype: np.dtype) -> Any:
        """That value: 0, or what the type has furthest from it; of floats NaN."""
        if self is FillSide.LOW:
            return dtype.type(0)
        if dtype.kind == "f":
            return dtype.type(np.nan)
        return dtype.type(True) if dtype.kind == "b" else np.iinfo(dtype).max


class Filling:
    """Chunks found bad so far; they stay so while both sides are read."""

    def __init__(self) -> None:
        self.chunks: dict[BadChunk, BadChunk] = {}
        self.side = FillSide.LOW

    def add(self, chunk: BadChunk) -> None:
        """Take note of a chunk."""
        self.chunks.setdefault(chunk, chunk)

    @contextlib.contextmanager
    def of(self, side: FillSide) -> Iterator[None]:
        """Within this context this thread reads around bad chunks, with one side's value."""
        self.side = side
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)


_CURRENT: ContextVar[Filling | None] = ContextVar("gigaqc_filling", default=None)


def current_filling() -> Filling | None:
    """The filling in whose context this thread reads; None where a bad chunk is an error."""
    return _CURRENT.get()


class SourceArray(Protocol):
    """What a reader gives: a shape, a dtype, and blocks by a tuple of slices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""

    def __getitem__(self, key: Any, /) -> Any: ...


class LazyArray:
    """A reader's array seen in the order of `dims`, with errors that name file and chunk.

    `order` holds, for each axis shown, the axis of `array` or None for a new one of length 1;
    axes of `array` that `order` lacks have length 1 and are dropped.
    """

    def __init__(
        self,
        array: SourceArray,
        order: Sequence[int | None],
        dims: Sequence[str],
        chunks: Sequence[int],
        source: str,
        channels: Sequence[str] = (),
    ) -> None:
        self.array: Any = array
        self.order = tuple(order)
        self.dims = tuple(dims)
        self.source = source
        self.channels = tuple(channels)
        self.shape = tuple(1 if a is None else int(array.shape[a]) for a in self.order)
        self.chunks = tuple(1 if a is None else int(chunks[a]) for a in self.order)
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a block; integers drop their axis, as in numpy."""
        reuse_memory()
        key = key if isinstance(key, tuple) else (key,)
        if any(not isinstance(k, (slice, int, np.integer)) for k in key):
            return np.asarray(self.array[key])  # lists of places: of arrays whose order is kept
        key = key + (slice(None),) * (self.ndim - len(key))
        spans = tuple(
            slice(int(k), int(k) + 1) if isinstance(k, (int, np.integer)) else k for k in key
        )
        filling, failed = current_filling(), None
        try:
            block = self._read(spans) if filling is None else self._read_around(spans, filling)
        except (MemoryError, ImportError):
            raise
        except Exception as error:
            failed, cause = self._explained(spans, error), portable(error)
        if failed is not None:
            # Not where it was caught: what dask sends home holds all errors that led to this one.
            raise failed from cause
        dropped = tuple(i for i, k in enumerate(key) if isinstance(k, (int, np.integer)))
        return block.squeeze(dropped) if dropped else block

    @property
    def asks_ahead(self) -> bool:
        """Whether it wants to know which blocks will be read, because they come from a store."""
        return getattr(self.array, "asks_ahead", False)

    def for_a_pass(self) -> LazyArray:
        """The same array, with requests of its own that go when a graph does."""
        other = copy.copy(self)
        other.array = self.array.for_a_pass()
        return other

    def expect(self, keys: Iterable[Any]) -> None:
        """Say which blocks tasks will read, about in this order."""
        self.array.expect(self._raw(key) for key in keys)

    def expect_around(self, grid: Mapping[tuple[int, ...], Any]) -> None:
        """Say which blocks tasks will read, each about when they read those beside it."""
        raw = {place: self._raw(key) for place, key in grid.items()}
        self.array.expect_around(raw)

    def begin(self, keys: Iterable[Any]) -> None:
        """Ask for blocks that a task reads now."""
        self.array.begin([self._raw(key) for key in keys])

    def _raw(self, spans: Sequence[Any]) -> tuple[Any, ...]:
        """A block in the axes of the file."""
        raw = [slice(0, 1)] * len(self.array.shape)
        for axis, span in zip(self.order, spans, strict=True):
            if axis is not None:
                raw[axis] = span
        return tuple(raw)

    def _read(self, spans: Sequence[slice]) -> np.ndarray:
        block = np.asarray(self.array[self._raw(spans)])
        kept = [a for a in self.order if a is not None]
        gone = [a for a in range(block.ndim) if a not in kept]
        block = block.transpose(*gone, *kept).reshape([block.shape[a] for a in kept])
        block = np.expand_dims(block, tuple(i for i, a in enumerate(self.order) if a is None))
        # An axis that was moved would leave kernels a strided view.
        return np.ascontiguousarray(block)

    def _read_around(self, spans: Sequence[slice], filling: Filling) -> np.ndarray:
        """The block with a value of the filling where a chunk cannot be read."""
        places = [range(*s.indices(n)) for s, n in zip(spans, self.shape, strict=True)]
        if any(len(p) == 0 for p in places):
            return self._read(spans)
        corner = [min(p[0], p[-1]) for p in places]
        whole = [slice(low, max(p[0], p[-1]) + 1) for low, p in zip(corner, places, strict=True)]
        block = np.full(
            [s.stop - s.start for s in whole], filling.side.filler(self.dtype), self.dtype
        )
        for index, part in self._chunks(whole):
            found = BadChunk(self.source, self.dims, index, "")
            if found in filling.chunks:
                continue
            where = [slice(s.start - a, s.stop - a) for s, a in zip(part, corner, strict=True)]
            try:
                block[tuple(where)] = self._read(part)
            except (MemoryError, ImportError, FileNotFoundError, Unreachable):
                raise  # that is no chunk, but the store
            except Exception as error:
                filling.add(replace(found, error=f"{type(error).__name__}: {error}"))
        for axis, (place, low) in enumerate(zip(places, corner, strict=True)):
            if place.step != 1:
                block = block.take(np.asarray(place) - low, axis)
        return block

    def _chunks(self, spans: Sequence[slice]) -> Iterator[tuple[tuple[int, ...], list[slice]]]:
        """The chunks that a block meets, and what of each lies in it."""
        ranges = []
        for span, n, chunk in zip(spans, self.shape, self.chunks, strict=True):
            start, stop, _ = span.indices(n)
            ranges.append(range(start // chunk, -(-stop // chunk)))
        bounds = [s.indices(n)[:2] for s, n in zip(spans, self.shape, strict=True)]
        for index in itertools.product(*ranges):
            yield (
                index,
                [
                    slice(max(i * c, low), min((i + 1) * c, high))
                    for i, c, (low, high) in zip(index, self.chunks, bounds, strict=True)
                ],
            )

    def _explained(self, spans: Sequence[slice], error: Exception) -> ReadError:
        if isinstance(error, FileNotFoundError):
            error = absent(str(error.filename or self.source))
        if isinstance(error, Unreachable) and not error.index:
            return Unreachable(self.source, (), f"{error.why}: {error.store}", error.cure)
        if isinstance(error, ChunkError):  # it knows where it was; reading again would take minutes
            index = tuple(0 if a is None else error.index[a] for a in self.order)
            why, cure = f"{error.store}: {error.why}", error.cure
        else:
            index, cause = self._first_bad_chunk(spans, error)
            why = f"{type(cause).__name__}: {cause}"
            cure = (
                "the file is corrupt or truncated there, or was changed while it was read: copy or "
                "export it again"
            )
        if not isinstance(error, Unreachable):
            cure += ', or leave such chunks out with on_error="mask" where there is that choice'
        shown = BadChunk(self.source, self.dims, index, "")
        message = f"{self.source}{self._channel(index)}: chunk {shown} cannot be read ({why}); "
        return ReadError(f"{message}{cure}.")

    def _channel(self, index: tuple[int, ...]) -> str:
        """In words, which channels a chunk holds."""
        if "c" not in self.dims or not self.channels:
            return ""
        axis = self.dims.index("c")
        first = index[axis] * self.chunks[axis]
        names = self.channels[first : first + self.chunks[axis]]
        return f", channel {names[0]!r}" if len(names) == 1 else f", channels {listed(names)}"

    def _first_bad_chunk(
        self, spans: Sequence[slice], error: Exception
    ) -> tuple[tuple[int, ...], Exception]:
        first: tuple[int, ...] | None = None
        for index, part in self._chunks(spans):
            first = index if first is None else first
            try:
                self._read(part)
            except Exception as cause:
                return index, cause
        return first or (0,) * self.ndim, error


def named(array: Any, read: SourceArray, source: str) -> LazyArray:
    """A zarr array that `read` reads, with errors that name its store, `source`, and the chunk."""
    dims = tuple(getattr(array.metadata, "dimension_names", None) or ())
    if len(dims) != len(array.shape) or None in dims:
        dims = tuple(f"axis {k}" for k in range(len(array.shape)))
    return LazyArray(read, range(len(array.shape)), dims, array.chunks, source)


def slabs(shape: Sequence[int], values: int = _BLOCK) -> tuple[int, ...]:
    """Blocks of an array in C order that lie together in the file, about so many values each."""
    left, result = values, []
    for n in reversed([int(s) for s in shape]):
        take = max(1, min(n, left))
        result.append(take)
        left //= take
    return tuple(reversed(result))
