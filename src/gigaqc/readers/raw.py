"""Images as readers give them: lazily by blocks, or decoded in whole."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr

from gigaqc.errors import ImageError, ParameterError
from gigaqc.image.labelled import DIMS, check_channels, check_dtype, parse_dims
from gigaqc.stores.chunks import LazyArray, SourceArray
from gigaqc.stores.location import Location

_TINY = 512 * 512  # below it a dask task costs more than decoding the chunk
_SIDE = 1024  # what tiny chunks are grouped to


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


class OneImage:
    """The names in a source that holds one image."""

    def __init__(self, name: str) -> None:
        self._name = name

    def images(self) -> list[str]:
        """Name the one image."""
        return [self._name]

    def labels(self) -> list[str] | None:
        """Nothing here tells labels from images."""
        return None

    def default(self) -> str | None:
        """Name the one image."""
        return self._name


def refuse_levels(level: int, what: str) -> None:
    """Raise where another level is asked of what has none."""
    if level:
        raise ParameterError(f"level: {what} no levels; got {level}, pass 0.")


_KEPT = 2


class Whole(Protocol):
    """An array whose file has to be decoded whole."""

    location: Location
    stamp: tuple[Any, ...]

    def decode(self) -> np.ndarray:
        """Read all of it."""


class _Decoded:
    """The arrays decoded last; threads that want the same one wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrays: OrderedDict[tuple[Any, ...], np.ndarray] = OrderedDict()

    def get(self, source: Whole) -> np.ndarray:
        """Return the decoded array, decoding it where it is not kept."""
        key = (source.location, source.stamp)
        with self._lock:
            if key not in self._arrays:
                while len(self._arrays) >= _KEPT:
                    self._arrays.popitem(last=False)
                self._arrays[key] = source.decode()
            self._arrays.move_to_end(key)
            return self._arrays[key]


DECODED = _Decoded()
"""What this process keeps."""
