"""Graphs that bring all frames of a pixel together, in bounded memory.

A median along time needs every frame of a pixel at once. Where a chunk holds all frames, or all
chunks of a place fit, a task reads them (`Route.DIRECT`). Where a chunk is a frame or a few, the
series is gone through in slabs of rows, for each of which every chunk is read (`Route.SLABS`);
where that would read too often, runs of frames are laid down once in a temporary store in which
a band of rows is a chunk (`Route.STORE`). The whole series is never held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import xarray as xr
from dask._task_spec import TaskRef
from dask.typing import Key
from dask.utils import parse_bytes

from gigaqc.base import machine
from gigaqc.base.backend import empty_beside, local, reshaped, to_host
from gigaqc.base.geometry import Run, group_chunks, group_places
from gigaqc.base.machine import (
    as_peak,
    check_room,
    in_words,
    memory_of_a_process,
    threads_of_a_process,
)
from gigaqc.errors import ParameterError
from gigaqc.graph.frames import FramesReads, PlaceStates, chunk_range
from gigaqc.graph.scratch import Bands, Scratch, read_rows
from gigaqc.graph.source import OwnReads
from gigaqc.graph.tasks import Tasks, nothing, when_done

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
    def way(self) -> tuple[Any, ...]:
        """What decides which tasks there are."""
        return self.route, self.runs, self.slabs, self.times

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
    memory = machine.frames_memory() if memory is None else memory
    workers = threads_of_a_process()
    limit = memory_of_a_process() // 2 if memory is None else max(memory, _SMALLEST_LIMIT)
    chunks = {str(d): c for d, c in image.chunksizes.items()}
    times, itemsize, frames = chunks.pop("t"), image.dtype.itemsize, image.sizes["t"]
    place = math.prod(map(max, chunks.values()))
    a_task = limit // workers // _COPIES // itemsize  # values
    pixels = max(min(machine.group_values(), a_task) // frames, 1)
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
    route = Route.SLABS if reads <= machine.slab_reads() else Route.STORE
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


def gather_frames(
    image: xr.DataArray,
    function: Callable,
    arguments: tuple[Any, ...],
    name: str,
    plan: SlabPlan,
    scratch: Scratch | None,
    tasks: Tasks,
) -> np.ndarray:
    """Tasks that give `function` all frames of the pixels of each block; references to them."""
    work = _FrameWork(function, arguments, image.sizes["t"])
    refs: Any = np.empty(tuple(map(len, plan.chunks)), dtype=object)
    if plan.route is Route.DIRECT:
        _direct(image, work, name, plan, tasks, refs)
    elif plan.route is Route.SLABS:
        _in_slabs(image, work, name, plan, tasks, refs)
    else:
        _by_store(image, work, name, plan, scratch or Scratch(None), tasks, refs)
    return refs


@dataclass(frozen=True)
class _FrameWork:
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
    reads: OwnReads, outside: Sequence[Any], frames: int, rows: slice | None = None
) -> list[Any]:
    """The frames of each place, read one after the other; of all rows or of some."""
    opened = reads.opened(outside)
    return [_together(map(opened.take, keys), len(keys), frames, rows) for keys in opened.wanted]


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
    image: xr.DataArray, work: _FrameWork, name: str, plan: SlabPlan, tasks: Tasks, refs: Any
) -> None:
    """Each block reads its chunks."""
    pieces = {
        index: (
            chunk_range(plan.times[0]),
            *(chunk_range(runs[n]) for runs, n in zip(plan.runs.values(), index, strict=True)),
        )
        for index in np.ndindex(refs.shape)
    }
    reads = FramesReads(image, name, list(pieces.values()))
    for index, piece in pieces.items():
        key = (f"{name}-frames", *index)
        refs[index] = tasks.add(key, _of_chunks, work, *reads[piece].given)
    reads.complete(tasks)


def _of_chunks(
    work: _FrameWork, shape: tuple[int, ...], reads: OwnReads, *outside: Any
) -> PlaceStates:
    return work.states(_blocks(reads, outside, work.frames), shape)


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
    image: xr.DataArray, work: _FrameWork, name: str, plan: SlabPlan, tasks: Tasks, refs: Any
) -> None:
    """Slab after slab: its rows of every chunk, then the blocks that they hold."""
    places = _places(plan)
    waits: list[TaskRef] = []
    for number in range(plan.reads):
        slabs = [(place, *place.slabs[number]) for place in places if number < len(place.slabs)]
        pieces = [place.piece(time) for place, _, _ in slabs for time in plan.times]
        reads = FramesReads(image, f"{name}-slab-{number}", pieces)
        for place, slab, first in slabs:
            parts: list[TaskRef] = []
            for k, time in enumerate(plan.times):
                key: Key = (f"{name}-rows-{number}", k, *place.index)
                # No slab is begun before the one before it is done.
                about = (slab.rows, time.size, len(waits), *waits)
                parts.append(tasks.add(key, _rows, *about, *reads[place.piece(time)].given))
            blocks = [place.block(first + b) for b in range(len(slab.bands))]
            for index, band in zip(blocks, slab.bands, strict=True):
                refs[index] = tasks.add((f"{name}-frames", *index), _of_rows, work, band, *parts)
            done: Key = (f"{name}-done-{number}", *place.index)
            waits = [tasks.add(done, nothing, *(refs[index] for index in blocks))]
        reads.complete(tasks)


def _rows(rows: slice, frames: int, waited: int, *given: Any) -> Any:
    """Rows of consecutive frames, copied, so that the chunks are not held for their sake."""
    _, reads, *outside = given[waited:]
    return _blocks(reads, outside, frames, rows)[0]


def _of_rows(work: _FrameWork, band: slice, *parts: Any) -> PlaceStates:
    block = _together(iter(parts), len(parts), work.frames, band)
    return work.states([block], (1,) * (block.ndim - 1))


def _by_store(
    image: xr.DataArray,
    work: _FrameWork,
    name: str,
    plan: SlabPlan,
    scratch: Scratch,
    tasks: Tasks,
    refs: Any,
) -> None:
    """Place after place: its frames are laid down, then read band by band, then removed."""
    places = _places(plan)
    reads = FramesReads(image, name, [p.piece(time) for p in places for time in plan.times])
    waits: list[TaskRef] = []
    for place in places:
        slab, first = place.slabs[0]
        height = max(band.stop - band.start for band in slab.bands)
        shape = [runs[n].size for runs, n in zip(plan.runs.values(), place.index, strict=True)]
        opened = (scratch, shape, image.dtype, plan.times, height)
        bands = tasks.add((f"{name}-bands", *place.index), _opened, *opened, *waits)
        written: list[TaskRef] = []
        for k, time in enumerate(plan.times):
            key: Key = (f"{name}-laid-down", k, *place.index)
            given = reads[place.piece(time)].given
            written.append(tasks.add(key, _laid_down, k, time.size, scratch, bands, *given))
        complete = tasks.add((f"{name}-complete", *place.index), _all, *written)
        made = [
            tasks.add(
                (f"{name}-band", *place.block(first + b)),
                _of_bands, work, band, plan.times, scratch, complete,
            )
            for b, band in enumerate(slab.bands)
        ]  # fmt: skip
        closed = tasks.add((f"{name}-closed", *place.index), _closed, scratch, complete, *made)
        for b, band in enumerate(made):
            index = place.block(first + b)
            refs[index] = tasks.add((f"{name}-frames", *index), when_done, band, closed)
        waits = [closed]
    reads.complete(tasks)


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
    number: int, frames: int, scratch: Scratch, bands: Bands, _: Any, reads: OwnReads, *outside: Any
) -> Bands:
    """Write consecutive frames of a place, and say where.

    After a worker was lost a place may be opened again, and has frames in two folders then.
    """
    with scratch.cleaned([bands.folder]):
        bands.write(number, to_host(_blocks(reads, outside, frames)[0]))
    return bands


def _all(*written: Bands) -> tuple[Bands, ...]:
    return written


def _of_bands(
    work: _FrameWork,
    rows: slice,
    times: Sequence[Run],
    scratch: Scratch,
    written: tuple[Bands, ...],
) -> PlaceStates:
    with scratch.cleaned([bands.folder for bands in written]):
        frames = read_rows(written, rows, [time.size for time in times])
        block = _together(frames, len(times), work.frames)
        return work.states([block], (1,) * (block.ndim - 1))


def _closed(scratch: Scratch, written: tuple[Bands, ...], *_: Any) -> None:
    scratch.close({bands.folder for bands in written})
