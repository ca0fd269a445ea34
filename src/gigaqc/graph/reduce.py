"""`Reduce`: what groups of chunks give, merged to one state in one read of an image.

A task reads a group of chunks, and reading is fused into it; results merge in a fixed tree, so that
one chunking gives the same bits on any scheduler.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from dask._task_spec import TaskRef
from dask.delayed import Delayed

from gigaqc.base import machine
from gigaqc.base.backend import beside, local
from gigaqc.base.geometry import Run, group_chunks
from gigaqc.base.machine import check_room, in_words, reuse_memory
from gigaqc.base.naming import named
from gigaqc.graph.guard import Checked, CheckedFinish, CheckedSeam, Watch
from gigaqc.graph.source import ChunksInTask, OwnReads, Source
from gigaqc.graph.tasks import ReadingTask, Tasks, persisted, promises_in
from gigaqc.image.labelled import DIMS
from gigaqc.statistics.blocks import SMALLEST_SIDE, Place

PLACES = ("t", "z", "y", "x")
"""Axes of the blocks of a channel."""
FAN_IN = 8  # states that one merge takes
_FEW = 64  # rectangles of a plane that are large for it


@dataclass(frozen=True)
class Reduce:
    """One read of an image: `observe` each group, join what was observed in a tree.

    ``observe(channels, masks, place, *arguments)`` gets (t, z, y, x) blocks, one a channel, to go
    through once, and None or a list of a mask for each. Without `seam`, results have ``merge``.
    With it, ``seam(first, second, axis, *arguments)`` makes one result of two adjacent rectangles
    of a plane, of which the second lies to the right (axis -1) or below (axis -2), and ``merge``
    adds planes.
    `arguments` are values or promises, and nothing of it, reading included, runs before these are
    kept. ``finish`` is applied to the last result. Groups with neighbours have sides of at least
    `smallest` pixels: what a seam needs of them.

    With `on_device` blocks of an image on a device are observed there, else copied to the host.

    With `guard` chunks of the image that cannot be read are no error: `observe` then gets masked
    arrays, and the result is `Checked`.

    `kind` is what its tasks are called, before a token of all fields.
    """

    kind: str
    image: xr.DataArray
    mask: xr.DataArray | None
    observe: Callable
    arguments: tuple[Any, ...] = ()
    seam: Callable | None = None
    finish: Callable | None = None
    smallest: int = SMALLEST_SIDE
    guard: bool = False
    on_device: bool = False
    group_values: int = field(default_factory=machine.group_values)
    """Sums are rounded by groups: those of other groups have another name."""

    @cached_property
    def name(self) -> str:
        """What its tasks are called: another one for a reduction that differs in any field."""
        return named(self.kind, self)

    @cached_property
    def groups(self) -> list[Group]:
        """What each task reads."""
        return plan_groups(self.image, self.smallest, self.group_values)

    def build(self) -> Delayed:
        """The joined result, lazily."""
        tasks = Tasks()
        refs, source = self._observed(tasks)
        if self.seam is not None:
            refs = self._joined_planes(refs, tasks)
        last = merge_tree(self.name, refs, tasks)
        finish = CheckedFinish(self.finish) if self.guard and self.finish else self.finish
        after = (*promises_in(self.arguments), *persisted(self.image, self.mask))
        promise = tasks.promise(f"{self.name}-merged", last, after, finish)
        source.prefetch_in(tasks)
        return promise

    def _observed(self, tasks: Tasks) -> tuple[list[TaskRef], Source]:
        """Tasks that read and observe, one a group, and what is read."""
        image, mask = self.image, self.mask
        after = promises_in(self.arguments)
        source = Source.of(image.data, self.name, after, guard=self.guard)
        wanted = [[part] for part in nested_keys(image, source.table, self.groups)]
        if mask is not None:
            masks = Source.of(mask.data, f"{self.name}-mask", after)
            source.add(masks)
            for both, part in zip(wanted, nested_keys(mask, masks.table, self.groups), strict=True):
                both.append(part)
        arguments = tasks.refer(self.arguments, self.name)
        dims = tuple(tuple(map(str, a.dims)) for a in (image, mask) if a is not None)
        work = _GroupWork(self.observe, dims, self.guard, self.on_device and not self.guard)
        refs = []
        for group, reads in zip(self.groups, source.reads(wanted), strict=True):
            key = (f"{self.name}-observe", *group.index)
            given = (work, group.place, reads, len(arguments), *arguments, *reads.refs)
            refs.append(tasks.add(key, _observe, *given, kind=ReadingTask))
        tasks.add_needed(source.tasks)
        return refs, source

    def _joined_planes(self, refs: Sequence[TaskRef], tasks: Tasks) -> list[TaskRef]:
        """Join the rectangles of each plane, four to one, until the plane is one rectangle.

        In a tree of squares few results wait, and they hold edges that go with the side of a square
        and not with its area. The last and largest are joined two by two, so that fewer wait.
        """
        seam = CheckedSeam(self.seam) if self.guard and self.seam else self.seam
        table = np.empty([n + 1 for n in self.groups[-1].index], dtype=object)
        for group, ref in zip(self.groups, refs, strict=True):
            table[group.index] = ref
        level, arguments = 0, tasks.refer(self.arguments, self.name)
        while table[0, 0].size > 1:
            frames, planes, height, width = table.shape
            down, across = 2, 2
            if height * width <= _FEW:
                down, across = (2, 1) if height > width else (1, 2)
            joined = np.empty((frames, planes, -(-height // down), -(-width // across)), object)
            for t, z, y, x in np.ndindex(*joined.shape):
                square = table[t, z, down * y : down * (y + 1), across * x : across * (x + 1)]
                if square.size == 1:
                    joined[t, z, y, x] = square.item()
                    continue
                key = (f"{self.name}-join-{level}", t, z, y, x)
                # Flat: each list of a graph is a node with a set of its own.
                given = (seam, square.shape, *square.flat, *arguments)
                joined[t, z, y, x] = tasks.add(key, _join_square, *given)
            table, level = joined, level + 1
        return list(table.ravel())


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive chunks that one task reads, all channels of them."""

    index: tuple[int, int, int, int]
    runs: tuple[Run, Run, Run, Run]
    place: Place

    @property
    def pixels(self) -> int:
        """Of one channel."""
        return math.prod(run.size for run in self.runs)


def plan_groups(
    image: xr.DataArray, smallest: int = SMALLEST_SIDE, values: int | None = None
) -> list[Group]:
    """Which chunks each task reads: whole chunks, all channels, worth a task's overhead.

    Neighbouring chunks of a plane are joined to about as many `values` (`config.group_values`
    unless said); planes of small images are joined too. A block with neighbours is never narrower
    than `smallest`, for the seams' sake.
    """
    values = machine.group_values() if values is None else values
    sizes = {d: image.sizes.get(d, 1) for d in DIMS}
    chunks = {d: image.chunksizes[d] if d in image.dims else (1,) for d in DIMS}
    target = max(values // sizes["c"], 1 << 12)
    side = math.isqrt(target)
    wide = min(sizes["x"], max(side, max(chunks["x"])))
    runs = {
        "x": group_chunks(chunks["x"], side, smallest),
        "y": group_chunks(chunks["y"], max(target // wide, 1), smallest),
    }
    area = max(r.size for r in runs["y"]) * max(r.size for r in runs["x"])
    runs["z"] = group_chunks(chunks["z"], max(target // area, 1))
    depth = max(r.size for r in runs["z"])
    runs["t"] = group_chunks(chunks["t"], max(target // (area * depth), 1))
    shape = {"c": sizes["c"], **{d: max(r.size for r in runs[d]) for d in PLACES}}
    held = math.prod(shape.values()) * image.dtype.itemsize
    tasks = math.prod(map(len, runs.values()))
    check_room(in_words("all channels of whole chunks", shape), held, tasks)
    return [
        _group(index, runs) for index in itertools.product(*(range(len(runs[d])) for d in PLACES))
    ]


def _group(index: tuple[int, ...], runs: Mapping[str, list[Run]]) -> Group:
    t, z, y, x = index
    chosen = (runs["t"][t], runs["z"][z], runs["y"][y], runs["x"][x])
    place = Place(
        t=chosen[0].start,
        z=chosen[1].start,
        y=chosen[2].start,
        x=chosen[3].start,
        top=y > 0,
        bottom=y + 1 < len(runs["y"]),
        left=x > 0,
        right=x + 1 < len(runs["x"]),
    )
    return Group((t, z, y, x), chosen, place)


def nested_keys(image: xr.DataArray, table: np.ndarray, groups: Iterable[Group]) -> list[Any]:
    """The keys of each group's chunks: by channel, then in the order of the other dims."""
    dims = tuple(map(str, image.dims))
    order = sorted(dims, key=lambda d: d != "c")  # channels first
    table = table.transpose([dims.index(d) for d in order])
    found = []
    for group in groups:
        runs = dict(zip(PLACES, group.runs, strict=True))
        where = tuple(
            slice(runs[d].first, runs[d].last) if d in runs and n > 1 else slice(None)
            for d, n in zip(order, table.shape, strict=True)
        )
        found.append(table[where].tolist())
    return found


@dataclass(frozen=True, slots=True)
class _GroupWork:
    """What is done with a group; a class, so that dask does not look inside."""

    observe: Callable
    dims: tuple[tuple[str, ...], ...]  # of the image, and of the mask
    guard: bool
    on_device: bool


def _observe(work: _GroupWork, place: Place, reads: OwnReads, n: int, *values: Any) -> Any:
    """What a task does: put its chunks together and observe them.

    Of `values` the first `n` are arguments, the others what was read elsewhere.
    """
    reuse_memory()
    arguments, opened = values[:n], reads.opened(values[n:])
    watch = Watch()
    blocks = _GroupBlocks(opened, local if work.on_device else watch.array)
    pixels, *mask = (
        blocks.channels(nested, dims) for nested, dims in zip(opened.wanted, work.dims, strict=True)
    )
    channels: Iterable[np.ndarray] = watch.counted(pixels)
    masks: list[Any] | None = None
    if mask:
        masks = list(mask[0])
        channels = list(channels)
        masks = masks * len(channels) if len(masks) == 1 else masks
        masks = [
            beside(np.broadcast_to(m, c.shape), c) for m, c in zip(masks, channels, strict=True)
        ]
    found = work.observe(channels, masks, place, *arguments)
    return Checked(found, watch.found()) if work.guard else found


@dataclass(frozen=True)
class _GroupBlocks:
    """Puts chunks together to the blocks of channels."""

    opened: ChunksInTask
    array: Callable

    def channels(self, nested: Any, dims: tuple[str, ...]) -> Iterator[np.ndarray]:
        """Each channel of a block, (t, z, y, x); axes it lacks have length 1.

        Channels come one by one, so that each is looked at while it is in the cache, and are not
        copied into one array, which would cost as much as some of the statistics.
        """
        axes = [i for i, d in enumerate(dims) if d != "c"]
        missing = tuple(1 + i for i, d in enumerate(PLACES) if d not in dims)
        for part in nested if "c" in dims else [nested]:
            block = self._joined(part, axes)
            block = np.moveaxis(block, dims.index("c"), 0) if "c" in dims else block[None]
            yield from np.expand_dims(block, missing)

    def _joined(self, nested: Any, axes: Sequence[int]) -> Any:
        if not isinstance(nested, list):
            return self.array(self.opened.take(nested))
        parts = [self._joined(part, axes[1:]) for part in nested]
        if len(parts) == 1:
            return parts[0]
        some_masked = any(isinstance(part, np.ma.MaskedArray) for part in parts)
        return (np.ma if some_masked else np).concatenate(parts, axis=axes[0])


def merge_tree(name: str, refs: Sequence[TaskRef], tasks: Tasks) -> TaskRef:
    """Merge results in order, a few at a time.

    The tree is fixed, so that the same chunking gives the same bits on any scheduler.
    """
    level = 0
    while len(refs) > 1:
        refs = [
            tasks.add((f"{name}-merge-{level}", k // FAN_IN), _merge, list(refs[k : k + FAN_IN]))
            for k in range(0, len(refs), FAN_IN)
        ]
        level += 1
    return refs[0]


def _join_square(seam: Callable, shape: tuple[int, int], *values: Any) -> Any:
    """One result of up to two by two adjacent ones; of `values` the others are arguments."""
    height, width = shape
    arguments = values[height * width :]

    def join(parts: Sequence[Any], axis: int) -> Any:
        total = parts[0]
        for part in parts[1:]:
            total = seam(total, part, axis, *arguments)
        return total

    return join([join(values[k * width : (k + 1) * width], -1) for k in range(height)], -2)


def _merge(states: Iterable[Any]) -> Any:
    states = list(states)
    total = states[0]
    for state in states[1:]:
        total = total.merge(state)
    return total
