"""From what a reader finds in a file to the labelled lazy image.

`LazyArray` is what dask slices: it brings the file's axes into the order ``t c z y x``, and a
chunk that cannot be decoded raises an error that names the file and the chunk. It is small and
pickles, so that a worker in another process opens the file for itself.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr

from gigaqc.errors import ImageError, ParameterError, ReadError
from gigaqc.image import DIMS, check_channels, check_dtype, listed, parse_dims
from gigaqc.io.filling import BadChunk, Filling, current_filling
from gigaqc.io.seen import ChunkError, Unreachable, portable, unseen
from gigaqc.machine import reuse_memory

_TINY = 512 * 512  # below it a dask task costs more than decoding the chunk
_SIDE = 1024  # what tiny chunks are grouped to


class SourceArray(Protocol):
    """What a reader gives: a shape, a dtype, and blocks by a tuple of slices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True)
class RawImage:
    """One image as its file describes it; no pixel has been read.

    `dims` is None where the file does not say; `invented` are axes of length 1 that the format
    (not the person who wrote the file) put there, to be dropped; `chunks` are what the file
    decodes at once and `blocks`, a multiple of it, what one task should read.
    """

    array: SourceArray
    element: str
    chunks: tuple[int, ...]
    dims: tuple[str, ...] | None = None
    blocks: tuple[int, ...] | None = None
    invented: frozenset[str] = frozenset()
    channels: tuple[str, ...] | None = None
    pixel_size: Mapping[str, float] = field(default_factory=dict)
    unit: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


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
            error = unseen(str(error.filename or self.source))
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


def to_image(
    raw: RawImage,
    *,
    source: str,
    dims: str | Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    chunks: Any = None,
    as_labels: bool = False,
) -> xr.DataArray:
    """Label a reader's image and put it under dask; no pixel is read.

    Without `dims` an image always has ``c``; `dims` are taken at their word, and a single channel
    then is a scalar coordinate. Labels have neither.
    """
    check_dtype(np.dtype(raw.array.dtype), source)
    own = _own_dims(raw, dims, as_labels, source)
    if 0 in raw.array.shape:
        raise ImageError(f"{source}: empty, its shape is {raw.array.shape}; pass one with pixels.")
    shown = _shown_dims(raw, own, dims is not None, as_labels)
    order = [own.index(d) if d in own else None for d in shown]
    count = raw.array.shape[own.index("c")] if "c" in own else 1
    names, renamed = _unique(raw.channels, count)
    if channels is not None:
        names, renamed = check_channels(channels, count), {}
    lazy = LazyArray(raw.array, order, shown, raw.chunks, f"{source} ({raw.element})", names)
    blocks = raw.blocks if raw.blocks is not None else raw.chunks
    sizes = tuple(1 if a is None else int(blocks[a]) for a in order)
    if chunks is not None:
        sizes = chosen_chunks(chunks, lazy.shape, sizes, shown)
    # name=False: a random key, because hashing would read; inlined, so that no task that
    # holds the whole array stands before all the others.
    data = da.from_array(
        lazy,
        chunks=sizes,
        name=False,
        inline_array=True,
        fancy=False,
        meta=np.empty((0,) * lazy.ndim, lazy.dtype),
    )
    # No name: xarray would take dask's key for it.
    image = xr.DataArray(data, dims=shown, name="").rename(None)
    if not as_labels:
        coordinate = ("c", np.array(names, dtype=str)) if "c" in shown else names[0]
        image = image.assign_coords(c=coordinate)
    image.attrs = _attributes(raw, source, shown, {} if as_labels else renamed)
    return image


def _shown_dims(
    raw: RawImage, own: tuple[str, ...], said: bool, as_labels: bool
) -> tuple[str, ...]:
    """Dims of the image in order, without axes of length 1 that nobody meant."""
    size = dict(zip(own, raw.array.shape, strict=True))
    dropped = frozenset("tc") if as_labels else frozenset() if said else raw.invented
    shown = {d for d in own if d in ("y", "x") or size[d] > 1 or d not in dropped}
    if not said and not as_labels:
        shown.add("c")
    return tuple(d for d in DIMS if d in shown)


def _own_dims(
    raw: RawImage, dims: str | Sequence[str] | None, as_labels: bool, source: str
) -> tuple[str, ...]:
    """Axes of the file's array, as the caller, the file or their number says."""
    ndim = len(raw.array.shape)
    if dims is not None:
        return parse_dims(dims, ndim, source)
    if raw.dims is not None:
        return parse_dims(raw.dims, ndim, source)
    if as_labels and ndim == 3:
        return ("z", "y", "x")
    return parse_dims(None, ndim, source)


def _unique(names: tuple[str, ...] | None, count: int) -> tuple[list[str], dict[str, str]]:
    """Names as the file gives them, repeated or empty ones made unique, and what was changed."""
    if names is None or len(names) != count:
        return [str(i) for i in range(count)], {}
    result: list[str] = []
    changed: dict[str, str] = {}
    for position, name in enumerate(names):
        wanted = str(name).strip() or str(position)
        new, k = wanted, 2
        while new in result or (new != wanted and new in names):
            new, k = f"{wanted} ({k})", k + 1
        if new != name:
            changed[new] = str(name)
        result.append(new)
    return result, changed


def _attributes(
    raw: RawImage, source: str, shown: Sequence[str], renamed: Mapping[str, str]
) -> dict[str, Any]:
    attrs: dict[str, Any] = {"source": source, "element": raw.element}
    sizes = {d: float(raw.pixel_size[d]) for d in shown if d in raw.pixel_size}
    if sizes:
        attrs["pixel_size"] = sizes
        if raw.unit is not None:
            attrs["unit"] = raw.unit
    if renamed:
        attrs["renamed_channels"] = dict(renamed)
    return {**attrs, **raw.extra}


def grouped(shape: Sequence[int], chunks: Sequence[int], dims: Sequence[str]) -> tuple[int, ...]:
    """Chunks of tiny ``y x`` area grouped to about 1024 x 1024; others stay as they are."""
    y, x = dims.index("y"), dims.index("x")
    result = [min(int(c), int(n)) for c, n in zip(chunks, shape, strict=True)]
    if result[y] * result[x] >= _TINY:
        return tuple(result)
    result[x] = _multiple(result[x], _SIDE, shape[x])
    result[y] = _multiple(result[y], max(1, _SIDE * _SIDE // result[x]), shape[y])
    return tuple(result)


def grouped_in_shards(
    chunks: Sequence[int], shards: Sequence[int] | None, dims: Sequence[str] | None
) -> tuple[int, ...]:
    """Chunks of tiny ``y x`` area grouped to at most 1024 x 1024, none across the end of a shard.

    Where there are no shards, chunks stay as they are.
    """
    result = [int(c) for c in chunks]
    if shards is None or len(result) < 2:
        return tuple(result)
    y, x = (-2, -1) if dims is None else (dims.index("y"), dims.index("x"))
    if result[y] * result[x] < _TINY:
        for axis in (y, x):
            own = result[axis]
            fitting = range(own, min(_SIDE, int(shards[axis])) + 1, own)
            result[axis] = max((n for n in fitting if shards[axis] % n == 0), default=own)
    return tuple(result)


def _multiple(own: int, wanted: int, size: int) -> int:
    """Largest multiple of `own` up to `wanted`, at least `own`; a whole axis stays whole."""
    return min(max(1, wanted // own) * own, size)


def slabs(shape: Sequence[int], values: int = _SIDE * _SIDE) -> tuple[int, ...]:
    """Blocks of an array in C order that lie together in the file, about so many values each."""
    left, result = values, []
    for n in reversed([int(s) for s in shape]):
        take = max(1, min(n, left))
        result.append(take)
        left //= take
    return tuple(reversed(result))


def chosen_chunks(
    chunks: Any, shape: Sequence[int], own: Sequence[int], dims: Sequence[str]
) -> tuple[int, ...]:
    """The caller's `chunks`: a side for y and x, a size for each axis, or a mapping by dim."""
    wanted = dict(zip(dims, own, strict=True))
    if isinstance(chunks, Mapping):
        unknown = [d for d in chunks if d not in dims]
        if unknown:
            raise ParameterError(f"chunks: {unknown} are no dims of this image, it has {dims}.")
        wanted.update(chunks)
    elif isinstance(chunks, (int, np.integer)) and not isinstance(chunks, bool):
        wanted.update(y=int(chunks), x=int(chunks))
    elif isinstance(chunks, (tuple, list)) and len(chunks) == len(dims):
        wanted = dict(zip(dims, chunks, strict=True))
    else:
        raise ParameterError(
            f"chunks: got {chunks!r}; pass a side for y and x, a mapping such as "
            f"{{'y': 1024, 'x': 1024}}, or {len(dims)} sizes in the order {' '.join(dims)}."
        )
    sizes = []
    for dim, n in zip(dims, shape, strict=True):
        size = wanted[dim]
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
            raise ParameterError(f"chunks: {dim}={size!r}; pass a whole number of pixels.")
        if size != -1 and size < 1:
            raise ParameterError(f"chunks: {dim}={size}; pass at least 1, or -1 for all of it.")
        sizes.append(n if size == -1 else min(int(size), n))
    return tuple(sizes)
