"""`Fold`: what the frames of each place of a series add up to, in one read where that can be.

Where states merge, a task reads consecutive chunks in time of a place one after the other, adds
them to states of its own, and drops them; the states of the tasks of a place merge in a chain. So
any chunking in time reads every chunk once, and a few states of a place are alive at a time. Where
a function needs all frames of a pixel at once, a `SlabPlan` says how they come together.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from dask.typing import Key

from gigaqc.base import machine
from gigaqc.base.backend import empty_beside, local
from gigaqc.base.geometry import Run, group_chunks, group_places
from gigaqc.base.machine import check_room, in_words
from gigaqc.base.naming import named
from gigaqc.graph.frames import FramesReads, PlaceStates, TimeStates, chunk_range
from gigaqc.graph.scratch import Scratch
from gigaqc.graph.slabs import SlabPlan, gather_frames
from gigaqc.graph.source import ChunksInTask, OwnReads
from gigaqc.graph.tasks import Tasks

logger = logging.getLogger("gigaqc")

FRAMES = 32  # that a task reads at least: its states are as large as about 20 frames of uint16
BATCH_VALUES = 1 << 25  # of short chunks put together, so that states are gone through less often


@dataclass(frozen=True)
class TimePlan:
    """How a series is gone through once, in the order of time."""

    runs: Mapping[str, Sequence[Run]]
    """Chunks of each dim beside t that a place takes."""
    times: Sequence[Run]
    """Chunks in time that a task reads."""

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Of the maps: a place each."""
        return tuple(tuple(run.size for run in each) for each in self.runs.values())


def plan_in_time(image: xr.DataArray) -> TimePlan:
    """Places of about `config.group_values` values, with all their frames or with some."""
    chunks = {str(d): c for d, c in image.chunksizes.items()}
    times = chunks.pop("t")
    values = machine.group_values()
    runs = group_places(chunks, values // sum(times))
    pixels = math.prod(max(run.size for run in each) for each in runs.values())
    frames = max(values // pixels, FRAMES)
    sides = {"t": max(times), **{d: max(r.size for r in each) for d, each in runs.items()}}
    held = math.prod(sides.values()) * image.dtype.itemsize
    check_room(in_words("whole chunks", sides), held, math.prod(map(len, runs.values())))
    return TimePlan(runs, group_chunks(times, frames, min(FRAMES, sum(times))))


@dataclass(frozen=True)
class Fold:
    """A series folded along t, to a state of each place, as its plan says.

    With a `TimePlan` ``function(pixels, start, *arguments)`` makes a state for so many pixels,
    whose ``add(frames)`` takes the frames from `start` on, (frames, pixels) arrays in the order of
    time, and whose ``merge(other)`` gives the state of both where the other's frames follow.

    With a `SlabPlan` ``function(frames, *arguments)`` gets all frames of some pixels, (frames,
    pixels), and what it returns is passed on as the state of these. `scratch` is where frames are
    laid down, if the plan says so.

    Frames on a device are given there; maps are in the memory of the host.
    """

    kind: str
    image: xr.DataArray
    function: Callable
    arguments: tuple[Any, ...]
    plan: TimePlan | SlabPlan
    scratch: Scratch | None = None

    @cached_property
    def name(self) -> str:
        """What its tasks are called; frames are added run by run, so another plan rounds otherwise.

        How much memory there is now, and where frames are laid down, changes no task.
        """
        plan = self.plan
        way = plan.way if isinstance(plan, SlabPlan) else plan
        return named(self.kind, self.image, self.function, self.arguments, way)

    def build(self) -> TimeStates:
        """The states, lazily, from which maps are made."""
        tasks = Tasks()
        plan, about = self.plan, (self.image, self.function, self.arguments, self.name)
        if isinstance(plan, SlabPlan):
            logger.info("%s: %s", self.name, plan.route.value)
            refs = gather_frames(*about, plan, self.scratch, tasks)
        else:
            refs = _add_in_time(*about, plan, tasks)
        return TimeStates.of(self.image, self.name, tasks, refs, plan.chunks)


def _add_in_time(
    image: xr.DataArray,
    function: Callable,
    arguments: tuple[Any, ...],
    name: str,
    plan: TimePlan,
    tasks: Tasks,
) -> np.ndarray:
    """Tasks that read places run by run, and merge their states in a chain."""
    runs = plan.runs.values()
    pieces = {
        (k, *index): (
            chunk_range(time),
            *(chunk_range(each[n]) for each, n in zip(runs, index, strict=True)),
        )
        for index in np.ndindex(*map(len, runs))
        for k, time in enumerate(plan.times)
    }
    reads = FramesReads(image, name, list(pieces.values()))
    refs: Any = np.empty(tuple(map(len, runs)), dtype=object)
    for (k, *at), piece in pieces.items():
        index, time = tuple(at), plan.times[k]
        lengths = image.chunksizes["t"][time.first : time.last]
        adding = _Adding(function, arguments, time.start, lengths)
        ref = tasks.add((f"{name}-frames", k, *index), _read, adding, *reads[piece].given)
        if k:
            ref = tasks.add((f"{name}-both", k, *index), _merged, refs[index], ref)
        refs[index] = ref
    reads.complete(tasks)
    return refs


@dataclass(frozen=True)
class _Adding:
    """Which states a task makes, of which frames; a class, so that dask does not look inside."""

    empty: Callable
    arguments: tuple[Any, ...]
    start: int
    lengths: tuple[int, ...]  # of the chunks in time


def _read(adding: _Adding, shape: tuple[int, ...], reads: OwnReads, *outside: Any) -> PlaceStates:
    """What a task does: read, add up, drop, chunk after chunk."""
    opened = reads.opened(outside)
    states, shapes = [], []
    for keys in opened.wanted:
        state, part = None, ()
        for frames in _batches(opened, keys, adding.lengths):
            part = frames.shape[1:]
            if state is None:
                state = adding.empty(math.prod(part), adding.start, *adding.arguments)
            state.add(frames.reshape(len(frames), -1))
        states.append(state)
        shapes.append(part)
    return PlaceStates(tuple(states), tuple(shapes), shape)


def _batches(
    opened: ChunksInTask, keys: Sequence[Key], lengths: Sequence[int]
) -> Iterator[np.ndarray]:
    """Consecutive frames; those of short chunks put together, each read when it is its turn.

    In one buffer, which the next batch overwrites: fetching new memory takes longer than copying.
    """
    buffer: Any = None
    filled, left, together = 0, sum(lengths), 0
    for key, length in zip(keys, lengths, strict=True):
        chunk = local(opened.take(key))
        if not together:
            frame = math.prod(chunk.shape[1:])
            together = min(FRAMES, max(BATCH_VALUES // frame, 1), left)
        left -= length
        if not filled and (length >= together or not left):
            yield chunk
            continue
        if buffer is None:
            buffer = empty_beside(chunk, (together + max(lengths), *chunk.shape[1:]))
        buffer[filled : filled + length] = chunk
        filled += length
        if filled >= together or not left:
            yield buffer[:filled]
            filled = 0


def _merged(first: PlaceStates, second: PlaceStates) -> PlaceStates:
    pairs = zip(first.states, second.states, strict=True)
    return PlaceStates(tuple(a.merge(b) for a, b in pairs), first.shapes, first.shape)
