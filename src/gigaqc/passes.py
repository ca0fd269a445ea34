"""Graphs: how a pass over an image becomes tasks.

The only file that builds reductions; it holds no formula. A pass owns its source under fresh keys,
so that no chunk is kept for a later pass; a task reads a group of chunks, and reading is fused into
it; results merge in a fixed tree, so that one chunking gives the same bits on any scheduler.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from dask._task_spec import (
    Alias,
    GraphNode,
    List,
    Task,
    TaskRef,
    convert_legacy_graph,
)
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.typing import Key

from gigaqc import config
from gigaqc.cutting import Cuts, cuts_of
from gigaqc.grid import Run, group_chunks
from gigaqc.image import DIMS
from gigaqc.machine import check_room, in_words
from gigaqc.naming import named
from gigaqc.observe import SMALLEST_SIDE, Place
from gigaqc.packing import Packed
from gigaqc.reading import Arrays, Reads, asks_ahead
from gigaqc.settling import refs_to, when_done
from gigaqc.taking import (
    PLACES,
    Group,
    GroupReading,
    Pieces,
    add_needed,
    count_users,
    keys_of,
    observe_group,
    own_reads,
    pieces_of,
)
from gigaqc.unreadable import CheckedFinish, CheckedSeam, guarded

FAN_IN = 8  # states that one merge takes
_FEW = 64  # rectangles of a plane that are large for it


@dataclass(frozen=True)
class Pass:
    """One read of an image: `observe` each group, join what was observed in a tree.

    ``observe(channels, masks, place, *arguments)`` gets a list of (t, z, y, x) blocks, one a
    channel, and None or a mask for each. Without `seam`, results have ``merge``. With it, ``seam(
    first, second, axis, *arguments)`` makes one result of two adjacent rectangles of a plane, of
    which the second lies to the right (axis -1) or below (axis -2), and ``merge`` adds planes.
    `arguments` are values or keys of `after`, and nothing of the pass, reading included, runs
    before `after` is done. ``finish`` is applied to the last result. Groups with neighbours have
    sides of at least `smallest` pixels: what a seam needs of them.

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
    after: tuple[Delayed, ...] = ()
    guard: bool = False
    on_device: bool = False
    group_values: int = field(default_factory=config.group_values)
    """Sums are rounded by groups: those of other groups have another name."""

    @cached_property
    def name(self) -> str:
        """What its tasks are called: another one for a pass that differs in any field."""
        return named(self.kind, self)

    def build(self) -> Delayed:
        """The joined result, lazily."""
        groups = plan_groups(self.image, self.smallest, self.group_values)
        nodes, keys, source = self.observe_tasks(groups)
        if self.seam is not None:
            keys = self._join_planes(groups, keys, nodes)
        last = merge_tree(self.name, keys, nodes)
        root = f"{self.name}-merged"
        finish = CheckedFinish(self.finish) if self.guard and self.finish else self.finish
        nodes[root] = Alias(root, last) if finish is None else Task(root, finish, TaskRef(last))
        source.expected_in(nodes)
        return promise(root, nodes, (*self.after, *persisted(self.image, self.mask)))

    def observe_tasks(
        self, groups: Sequence[Group]
    ) -> tuple[dict[Key, GraphNode], list[Key], Reads]:
        """Tasks that read and observe, the key of each group's, and what is read."""
        image, mask = self.image, self.mask
        table, source = owned(image.data, self.name, self.after, guard=self.guard)
        if mask is not None:
            mask_table, more = owned(mask.data, self.name + "-mask", self.after)
            source.add(more)
        name = f"{self.name}-observe"
        keys: list[Key] = [(name, *g.index) for g in groups]
        pixels = pieces_of(image, table, groups)
        masks = [None] * len(groups) if mask is None else pieces_of(mask, mask_table, groups)
        nodes: dict[Key, GraphNode] = {}
        arguments = refs_to(self.arguments, self.name, nodes)
        reads = _reads(list(zip(pixels, masks, strict=True)), source.nodes)
        for key, group, own, own_mask, (inside, outside) in zip(
            keys, groups, pixels, masks, reads, strict=True
        ):
            packed = Packed((own, own_mask, inside))
            stays = self.on_device and not self.guard
            reading = GroupReading(self.observe, group.place, outside, self.guard, stays, packed)
            refs = (TaskRef(name) for name in outside)
            nodes[key] = Task(key, observe_group, reading, len(arguments), *arguments, *refs)
        add_needed(nodes, source.nodes)
        return nodes, keys, source

    def _join_planes(
        self, groups: Sequence[Group], keys: Sequence[Key], nodes: dict[Key, GraphNode]
    ) -> list[Key]:
        """Join the rectangles of each plane, four to one, until the plane is one rectangle.

        In a tree of squares few results wait, and they hold edges that go with the side of a square
        and not with its area. The last and largest are joined two by two, so that fewer wait.
        """
        seam = CheckedSeam(self.seam) if self.guard and self.seam else self.seam
        table = np.empty([n + 1 for n in groups[-1].index], dtype=object)
        for group, key in zip(groups, keys, strict=True):
            table[group.index] = key
        level, arguments = 0, refs_to(self.arguments, self.name, nodes)
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
                refs = map(TaskRef, square.flat)
                nodes[key] = Task(key, _join_square, seam, square.shape, *refs, *arguments)
                joined[t, z, y, x] = key
            table, level = joined, level + 1
        return list(table.ravel())


def join(kind: str, function: Callable, *arguments: Any) -> Delayed:
    """One task on values and on what other graphs give, named by the function and all of them."""
    name = named(kind, function, *arguments)
    needed = [a for a in arguments if isinstance(a, Delayed)]
    refs = [TaskRef(a.key) if isinstance(a, Delayed) else a for a in arguments]
    return promise(name, {name: Task(name, function, *refs)}, needed)


def promise(root: str, nodes: Mapping[Key, GraphNode], after: Sequence[Delayed]) -> Delayed:
    """What `root` of a graph gives, lazily; `after` are the graphs that it needs."""
    # A Delayed is a collection, but dask gives some of its methods no types.
    graph = HighLevelGraph.from_collections(root, nodes, after)  # type: ignore[arg-type]
    return Delayed(root, graph, layer=root)


def persisted(*images: xr.DataArray | None) -> tuple[Delayed, ...]:
    """What keeps the chunks of images that a cluster holds: the futures of `persist`, for a graph.

    Tasks name such a chunk by its key, and a cluster forgets it with its last future.
    """
    layers = {
        name: layer
        for image in images
        if image is not None and isinstance(image.data.dask, HighLevelGraph)
        for name, layer in image.data.dask.layers.items()
        if isinstance(layer, MaterializedLayer) and _is_future(next(iter(layer.values()), None))
    }
    return tuple(
        Delayed(next(iter(layer)), HighLevelGraph({name: layer}, {name: set()}), layer=name)
        for name, layer in layers.items()
    )


def _is_future(value: Any) -> bool:
    """By names: distributed may not be imported."""
    return type(value).__name__ == "Future" and hasattr(value, "key")


def plan_groups(
    image: xr.DataArray, smallest: int = SMALLEST_SIDE, values: int | None = None
) -> list[Group]:
    """Which chunks each task reads: whole chunks, all channels, worth a task's overhead.

    Neighbouring chunks of a plane are joined to about as many `values` (`config.group_values`
    unless said); planes of small images are joined too. A block with neighbours is never narrower
    than `smallest`, for the seams' sake.
    """
    values = config.group_values() if values is None else values
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


def owned(
    array: Any, name: str, after: tuple[Delayed, ...], *, guard: bool = False
) -> tuple[np.ndarray, Reads]:
    """Keys of the chunks under fresh names, and the graph that makes them.

    With `after` nothing of it runs before those are done, so a second pass holds no chunk while the
    first is at work. With `guard` what cannot be read is a value and no error. Chunks that a
    cluster holds (`persist`) have no task, and keep their keys.
    """
    found = cuts_of(array)
    whole = None if found is None else Arrays.of({}).directly(found[0].array)
    if found is not None and not asks_ahead(whole):
        cuts, table = found
        waits = [a.key for a in after]
        cuts = cuts.owned(f"{cuts.name}-{name}", whole, waits, guarded if guard else None)
        for index in np.ndindex(*table.shape):
            table[index] = (cuts.name, *table[index])
        return table, Reads(cuts, [])
    keys = array.__dask_keys__()
    graph = convert_legacy_graph(dict(array.__dask_optimize__(array.__dask_graph__(), keys)))
    fresh: dict[Key, Any] = {key: _renamed(key, name) for key in graph}
    nodes: dict[Key, GraphNode] = {}
    arrays = Arrays.of(graph)
    for key, given in graph.items():
        node = arrays.read_directly(given).substitute(fresh, key=fresh[key])
        node = guarded(node) if guard else node
        if node.dependencies or not after:
            nodes[fresh[key]] = node
        else:
            refs = (TaskRef(a.key) for a in after)
            nodes[fresh[key]] = Task(fresh[key], when_done, node, *refs)
    table = np.empty(array.numblocks, dtype=object)
    for index in np.ndindex(*array.numblocks):
        key = (array.name, *index)
        table[index] = fresh.get(key, key)
    return table, Reads(nodes, arrays.stores)


def _renamed(key: Key, name: str) -> Key:
    if isinstance(key, tuple):
        return (sys.intern(f"{key[0]}-{name}"), *key[1:])  # one string for all chunks
    return f"{key}-{name}"


def _reads(
    pieces: Sequence[tuple[Pieces | None, ...]], source: Mapping[Key, GraphNode]
) -> Iterator[tuple[Mapping[Key, GraphNode], tuple[Key, ...]]]:
    """Of each group the source tasks that are its own, and the keys of others that it needs."""
    if isinstance(source, Cuts):  # no chunk is in two groups
        yield from itertools.repeat((source, source.waits), len(pieces))
        return
    needed = [list(keys_of(*group)) for group in pieces]
    users = count_users(needed, source)
    for wanted in needed:
        yield own_reads(wanted, source, users)


def merge_tree(name: str, keys: Sequence[Key], nodes: dict[Key, GraphNode]) -> Key:
    """Merge results in order, a few at a time, and say under which key all are merged.

    The tree is fixed, so that the same chunking gives the same bits on any scheduler.
    """
    level = 0
    while len(keys) > 1:
        merged: list[Key] = []
        for k in range(0, len(keys), FAN_IN):
            key: Key = (f"{name}-merge-{level}", k // FAN_IN)
            nodes[key] = Task(key, _merge, List(*(TaskRef(n) for n in keys[k : k + FAN_IN])))
            merged.append(key)
        keys, level = merged, level + 1
    return keys[0]


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
