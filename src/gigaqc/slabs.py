"""Graphs that bring all frames of a pixel together, in bounded memory.

A median along time needs every frame of a pixel at once. Where a chunk holds all frames, or all
chunks of a place fit, a task reads them (`Route.DIRECT`). Where a chunk is a frame or a few, the
series is gone through in slabs of rows, for each of which every chunk is read (`Route.SLABS`);
where that would read too often, runs of frames are laid down once in a temporary store in which
a band of rows is a chunk (`Route.STORE`). The whole series is never held.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import xarray as xr
from dask._task_spec import GraphNode, Task, TaskRef
from dask.typing import Key
from dask.utils import parse_bytes

from gigaqc import config
from gigaqc.backend import empty_beside, local, reshaped, to_host
from gigaqc.errors import ParameterError
from gigaqc.grid import Run, group_chunks, group_places
from gigaqc.machine import (
    as_peak,
    check_room,
    in_words,
    memory_of_a_process,
    threads_of_a_process,
)
from gigaqc.naming import named
from gigaqc.scratch import Bands, Scratch, read_rows
from gigaqc.series import (
    FramesReading,
    FramesReads,
    PlaceStates,
    TimeStates,
    chunk_range,
)
from gigaqc.settling import nothing, when_done

logger = logging.getLogger("gigaqc")

_COPIES = 3  # of its pixels that a task holds: the chunk, what is made of it, what is written
_LARGEST_PART = 1 << 24  # values of a task that reads or writes a part of the frames
_SMALLEST_LIMIT = 1 << 24
_A_PIXEL_OF_MAPS = 56  # bytes: of maps of all frames, and what the numbers are made of
_TIMES_HELD = 2  # a part of the frames, and what it is read from or packed to


class Route(StrEnum):
    """How all frames of a pixel come together."""

    DIRECT = "each task reads all frames of its pixels"
    SLABS = "slabs of rows, for each of which every chunk is read"
    STORE = "frames are laid down once in a temporary store"


@dataclass(frozen=True)
class Slab:
    """Rows of the chunks of one row of chunks, and the bands of them that are blocks."""

    chunk: int
    rows: slice
    bands: tuple[slice, ...]


@dataclass(frozen=True)
class SlabPlan:
    """How a series is gone through within a limit of memory."""

    route: Route
    memory: int
    runs: Mapping[str, Sequence[Run]]
    """Chunks of each dim beside t that a block takes; of y bands instead, unless direct."""
    slabs: Sequence[Slab]
    times: Sequence[Run]
    """Chunks in time that a task reads."""
    reads: int
    held: int
    """Bytes of frames, at most: with copies for which there is room."""
    peak_bytes: int
    """The most that a process will hold beyond its imports, of frames and of all else."""

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Of the maps: a block each."""
        bands = tuple(b.stop - b.start for slab in self.slabs for b in slab.bands)
        sizes = {d: tuple(run.size for run in runs) for d, runs in self.runs.items()}
        return tuple((sizes | ({"y": bands} if bands else {})).values())

    def __str__(self) -> str:
        blocks = math.prod(map(len, self.chunks))
        return (
            f"{self.route}: each chunk is read {self.reads}x, {blocks:,} blocks, at most about "
            f"{self.held / 2**20:,.0f} MiB of frames at a time; peak memory about "
            f"{self.peak_bytes / 2**20:,.0f} MiB"
        )


def parsed_memory(memory: int | str | None) -> int | None:
    """Bytes, of a number or a text such as ``"2GB"``; None for the default."""
    if memory is None:
        return None
    try:
        found = int(parse_bytes(memory))
    except (TypeError, ValueError, AttributeError) as error:
        raise ParameterError(f"memory: got {memory!r}; pass a size such as '2GB'.") from error
    if found < 1:
        raise ParameterError(f"memory: got {memory!r}; pass a size such as '2GB'.")
    return found


def plan_slabs(image: xr.DataArray, memory: int | None = None) -> SlabPlan:
    """The route that reads least in `memory` bytes of a process.

    By default those of ``gigaqc.frames-memory``, else half of its own.
    """
    memory = config.frames_memory() if memory is None else memory
    workers = threads_of_a_process()
    limit = memory_of_a_process() // 2 if memory is None else max(memory, _SMALLEST_LIMIT)
    chunks = {str(d): c for d, c in image.chunksizes.items()}
    times, itemsize, frames = chunks.pop("t"), image.dtype.itemsize, image.sizes["t"]
    place = math.prod(map(max, chunks.values()))
    a_task = limit // workers // _COPIES // itemsize  # values
    pixels = max(min(config.group_values(), a_task) // frames, 1)
    maps = _A_PIXEL_OF_MAPS * image.size // frames
    sides = {"t": max(times), **{d: max(c) for d, c in chunks.items()}}
    held = math.prod(sides.values()) * itemsize
    check_room(in_words("a chunk", sides), held, image.data.npartitions)
    if len(times) == 1 or frames * place <= a_task:
        runs = group_places(chunks, pixels)
        block = frames * math.prod(max(run.size for run in each) for each in runs.values())
        copies = 1 if len(times) == 1 else _COPIES
        whole = [Run(0, len(times), 0, frames)]
        at_once = min(workers, math.prod(map(len, runs.values())))
        held = copies * workers * block * itemsize
        peak = as_peak(at_once * block * itemsize + maps)
        return SlabPlan(Route.DIRECT, limit, runs, (), whole, 1, held, peak)
    row = place // max(chunks["y"])
    reads = math.ceil(frames * place * itemsize / (limit / 2))
    route = Route.SLABS if reads <= config.slab_reads() else Route.STORE
    # Large parts, so that a store has few files; in slabs enough of them for all threads.
    part = min(_LARGEST_PART, a_task)
    rows = max(part // frames // row, 1)
    if route is Route.SLABS:
        rows = max(min(rows, max(chunks["y"]) // (2 * workers * reads)), 1)
    else:
        reads = 1
    slabs = tuple(_slabs(chunks["y"], reads, rows))
    runs = {d: group_chunks(c, 1) for d, c in chunks.items()}
    together = group_chunks(times, max(part // place, 1))
    at_work = max(place * max(t.size for t in together), rows * row * frames)
    held = _COPIES * workers * itemsize * at_work
    held += limit // 2 if route is Route.SLABS else 0
    peak = min(workers, len(together)) * _TIMES_HELD * itemsize * at_work
    peak += frames * place * itemsize // reads if route is Route.SLABS else 0
    peak = as_peak(peak + maps)
    return SlabPlan(route, limit, runs, slabs, together, reads, held, peak)


def _slabs(heights: Sequence[int], count: int, rows: int) -> Iterator[Slab]:
    for chunk, height in enumerate(heights):
        for slab in _cut(height, -(-height // count)):
            bands = tuple(_cut(slab.stop - slab.start, rows))
            yield Slab(chunk, slab, bands)


def _cut(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def with_all_frames(
    image: xr.DataArray,
    function: Callable,
    *arguments: Any,
    name: str,
    plan: SlabPlan,
    scratch: Scratch,
) -> TimeStates:
    """What `function` makes of all frames of the pixels of each block (lazy).

    ``function(frames, *arguments)`` gets an array (frames, pixels); what it returns is passed on as
    the state of the block.
    """
    logger.info("%s: %s", name, plan.route.value)
    # How much memory there is now, and where frames are laid down, changes no task.
    name = named(name, image, function, arguments, plan.route, plan.runs, plan.slabs, plan.times)
    work = _Work(function, arguments, image.sizes["t"])
    keys: Any = np.empty(tuple(map(len, plan.chunks)), dtype=object)
    nodes: dict[Key, GraphNode] = {}
    if plan.route is Route.DIRECT:
        _direct(image, work, name, plan, nodes, keys)
    elif plan.route is Route.SLABS:
        _in_slabs(image, work, name, plan, nodes, keys)
    else:
        _by_store(image, work, name, plan, scratch, nodes, keys)
    return TimeStates.of(image, name, nodes, keys, plan.chunks)


@dataclass(frozen=True)
class _Work:
    """What is done with the frames of a block; a class, so that dask does not look inside."""

    function: Callable
    arguments: tuple[Any, ...]
    frames: int

    def states(self, blocks: Sequence[Any], shape: tuple[int, ...]) -> PlaceStates:
        """The state of each of several blocks, which lie in `shape`."""
        states = tuple(self.function(_by_pixel(b), *self.arguments) for b in blocks)
        return PlaceStates(states, tuple(b.shape[1:] for b in blocks), shape)


def _by_pixel(block: Any) -> Any:
    """Dims time, pixel."""
    return reshaped(block, (block.shape[0], -1))


def _blocks(
    reading: FramesReading, given: Sequence[Any], frames: int, rows: slice | None = None
) -> list[Any]:
    """The frames of each place, read one after the other; of all rows or of some."""
    source = reading.source(given)
    return [_together(map(source.take, keys), len(keys), frames, rows) for keys in reading.places]


def _together(chunks: Iterator[Any], count: int, frames: int, rows: slice | None = None) -> Any:
    """Consecutive chunks as one array; they are dropped one by one."""
    whole: Any = None
    start = 0
    for chunk in chunks:
        part = local(chunk)
        part = part if rows is None else part[..., rows, :]
        if count == 1 and rows is None:
            return part
        if whole is None:
            whole = empty_beside(part, (frames, *part.shape[1:]))
        stop = start + part.shape[0]
        whole[start:stop, ...] = part
        start = stop
    return whole


def _direct(
    image: xr.DataArray,
    work: _Work,
    name: str,
    plan: SlabPlan,
    nodes: dict[Key, GraphNode],
    keys: Any,
) -> None:
    """Each block reads its chunks."""
    reads = FramesReads(image, name)
    pieces = {
        index: (
            chunk_range(plan.times[0]),
            *(chunk_range(runs[n]) for runs, n in zip(plan.runs.values(), index, strict=True)),
        )
        for index in np.ndindex(keys.shape)
    }
    reads.count(list(pieces.values()))
    for index, piece in pieces.items():
        reading = reads.reading(piece)
        key: Key = (f"{name}-frames", *index)
        nodes[key] = Task(key, _of_chunks, work, reading, *map(TaskRef, reading.outside))
        keys[index] = key
    reads.add_needed(nodes)


def _of_chunks(work: _Work, reading: FramesReading, *given: Any) -> PlaceStates:
    return work.states(_blocks(reading, given, work.frames), reading.shape)


@dataclass(frozen=True)
class _SlabPlace:
    """One chunk of the dims beside t, its slabs, and which blocks lie in it."""

    index: tuple[int, ...]
    y: int  # axis
    slabs: tuple[tuple[Slab, int], ...]  # and the number of the first block of each

    def block(self, number: int) -> tuple[int, ...]:
        """Index of a block."""
        return (*self.index[: self.y], number, *self.index[self.y + 1 :])

    def piece(self, time: Run) -> tuple[range, ...]:
        """Its chunks in a run of time."""
        return (chunk_range(time), *(range(k, k + 1) for k in self.index))


def _places(plan: SlabPlan) -> list[_SlabPlace]:
    y = list(plan.runs).index("y")
    slabs: dict[int, list[tuple[Slab, int]]] = {}
    first = 0
    for slab in plan.slabs:
        slabs.setdefault(slab.chunk, []).append((slab, first))
        first += len(slab.bands)
    shape = tuple(map(len, plan.runs.values()))
    return [_SlabPlace(index, y, tuple(slabs[index[y]])) for index in np.ndindex(shape)]


def _in_slabs(
    image: xr.DataArray,
    work: _Work,
    name: str,
    plan: SlabPlan,
    nodes: dict[Key, GraphNode],
    keys: Any,
) -> None:
    """Slab after slab: its rows of every chunk, then the blocks that they hold."""
    places = _places(plan)
    waits: list[Key] = []
    for number in range(plan.reads):
        reads = FramesReads(image, f"{name}-slab-{number}")
        slabs = [(place, *place.slabs[number]) for place in places if number < len(place.slabs)]
        reads.count([place.piece(time) for place, _, _ in slabs for time in plan.times])
        for place, slab, first in slabs:
            parts: list[Key] = []
            for k, time in enumerate(plan.times):
                reading = reads.reading(place.piece(time))
                key: Key = (f"{name}-rows-{number}", k, *place.index)
                read = Task(
                    key, _rows, reading, time.size, slab.rows, *map(TaskRef, reading.outside)
                )
                # No slab is begun before the one before it is done.
                nodes[key] = Task(key, when_done, read, *map(TaskRef, waits))
                parts.append(key)
            blocks = [place.block(first + b) for b in range(len(slab.bands))]
            for index, band in zip(blocks, slab.bands, strict=True):
                keys[index] = (f"{name}-frames", *index)
                nodes[keys[index]] = Task(keys[index], _of_rows, work, band, *map(TaskRef, parts))
            done: Key = (f"{name}-done-{number}", *place.index)
            nodes[done] = Task(done, nothing, *(TaskRef(keys[index]) for index in blocks))
            waits = [done]
        reads.add_needed(nodes)


def _rows(reading: FramesReading, frames: int, rows: slice, *given: Any) -> Any:
    """Rows of consecutive frames, copied, so that the chunks are not held for their sake."""
    return _blocks(reading, given, frames, rows)[0]


def _of_rows(work: _Work, band: slice, *parts: Any) -> PlaceStates:
    block = _together(iter(parts), len(parts), work.frames, band)
    return work.states([block], (1,) * (block.ndim - 1))


def _by_store(
    image: xr.DataArray,
    work: _Work,
    name: str,
    plan: SlabPlan,
    scratch: Scratch,
    nodes: dict[Key, GraphNode],
    keys: Any,
) -> None:
    """Place after place: its frames are laid down, then read band by band, then removed."""
    reads = FramesReads(image, name)
    places = _places(plan)
    reads.count([place.piece(time) for place in places for time in plan.times])
    waits: list[Key] = []
    for place in places:
        slab, first = place.slabs[0]
        height = max(band.stop - band.start for band in slab.bands)
        shape = [runs[n].size for runs, n in zip(plan.runs.values(), place.index, strict=True)]
        bands: Key = (f"{name}-bands", *place.index)
        opened = (scratch, shape, image.dtype, plan.times, height)
        nodes[bands] = Task(bands, _opened, *opened, *map(TaskRef, waits))
        written: list[Key] = []
        for k, time in enumerate(plan.times):
            reading = reads.reading(place.piece(time))
            key: Key = (f"{name}-laid-down", k, *place.index)
            laid_down = (reading, time.size, k, scratch, TaskRef(bands))
            nodes[key] = Task(key, _laid_down, *laid_down, *map(TaskRef, reading.outside))
            written.append(key)
        complete: Key = (f"{name}-complete", *place.index)
        nodes[complete] = Task(complete, _all, *map(TaskRef, written))
        made: list[Key] = []
        for b, band in enumerate(slab.bands):
            key = (f"{name}-band", *place.block(first + b))
            read = (work, band, plan.times, scratch, TaskRef(complete))
            nodes[key] = Task(key, _of_bands, *read)
            made.append(key)
        closed: Key = (f"{name}-closed", *place.index)
        nodes[closed] = Task(closed, _closed, scratch, TaskRef(complete), *map(TaskRef, made))
        for b, key in enumerate(made):
            index = place.block(first + b)
            keys[index] = (f"{name}-frames", *index)
            nodes[keys[index]] = Task(keys[index], when_done, TaskRef(key), TaskRef(closed))
        waits = [closed]
    reads.add_needed(nodes)


def _opened(
    scratch: Scratch,
    shape: Sequence[int],
    dtype: np.dtype,
    times: Sequence[Run],
    height: int,
    *_: Any,
) -> Bands:
    folder = scratch.open()
    with scratch.cleaned([folder]):
        longest = max(time.size for time in times)
        return Bands.create(folder, shape, dtype, len(times), longest, height)


def _laid_down(
    reading: FramesReading, frames: int, number: int, scratch: Scratch, bands: Bands, *given: Any
) -> Bands:
    """Write consecutive frames of a place, and say where.

    After a worker was lost a place may be opened again, and has frames in two folders then.
    """
    with scratch.cleaned([bands.folder]):
        bands.write(number, to_host(_blocks(reading, given, frames)[0]))
    return bands


def _all(*written: Bands) -> tuple[Bands, ...]:
    return written


def _of_bands(
    work: _Work, rows: slice, times: Sequence[Run], scratch: Scratch, written: tuple[Bands, ...]
) -> PlaceStates:
    with scratch.cleaned([bands.folder for bands in written]):
        frames = read_rows(written, rows, [time.size for time in times])
        block = _together(frames, len(times), work.frames)
        return work.states([block], (1,) * (block.ndim - 1))


def _closed(scratch: Scratch, written: tuple[Bands, ...], *_: Any) -> None:
    scratch.close({bands.folder for bands in written})
