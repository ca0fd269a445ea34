"""Chunks that are cut from one array, each by a task that needs nothing else.

That is what readers make. The tasks need not be there before they are used: of 10^5 chunks they
take 200 MiB, and dask keeps them with the image as soon as it has made them for one graph.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from dask._task_spec import Alias, DataNode, GraphNode, Task, TaskRef
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.layers import ArraySliceDep
from dask.typing import Key

from gigaqc.graph.tasks import when_done
from gigaqc.image.polygons import Outlines


@dataclass(frozen=True, eq=False)
class Cuts(Mapping[Key, GraphNode]):
    """Tasks by key (name, *index), each made when it is asked for.

    ``function(array, slices)`` gives a chunk, once the tasks of `waits` are done. `starts` are
    where the chunks of each axis start, and `shape` is where the last ones end. ``wrap(task)``
    makes the task that is given.
    """

    name: str
    function: Callable
    array: Any
    starts: tuple[Sequence[int], ...]
    shape: tuple[int, ...]
    waits: tuple[Key, ...] = ()
    wrap: Callable[[GraphNode], GraphNode] | None = None

    def __getitem__(self, key: Key) -> GraphNode:
        if key not in self:
            raise KeyError(key)
        index: Any = key
        slices = tuple(
            slice(starts[i], starts[i + 1] if i + 1 < len(starts) else n)
            for i, starts, n in zip(index[1:], self.starts, self.shape, strict=True)
        )
        node: GraphNode = Task(
            key, self.function, DataNode(None, self.array), DataNode(None, slices)
        )
        node = node if self.wrap is None else self.wrap(node)
        return Task(key, when_done, node, *map(TaskRef, self.waits)) if self.waits else node

    def __contains__(self, key: Any) -> bool:
        return (
            isinstance(key, tuple)
            and key[0] == self.name
            and len(key) == 1 + len(self.starts)
            and all(0 <= i < len(s) for i, s in zip(key[1:], self.starts, strict=True))
        )

    def __iter__(self) -> Iterator[Key]:
        for index in np.ndindex(*map(len, self.starts)):
            yield (self.name, *index)

    def __len__(self) -> int:
        return math.prod(map(len, self.starts))

    def owned(
        self,
        name: str,
        array: Any,
        waits: Sequence[Key],
        wrap: Callable[[GraphNode], GraphNode] | None = None,
    ) -> Cuts:
        """The same chunks under another name, of an array that gives the same pixels."""
        return replace(self, name=sys.intern(name), array=array, waits=tuple(waits), wrap=wrap)


def _starts(sizes: tuple[int, ...]) -> Sequence[int]:
    """Where chunks start; a range, which takes no room, where all but the last are alike."""
    if len(set(sizes[:-1])) <= 1 and 0 < sizes[-1] <= sizes[0]:
        return range(0, sum(sizes), sizes[0])
    return (0, *itertools.accumulate(sizes[:-1]))


def cuts_of(array: Any) -> tuple[Cuts, np.ndarray] | None:
    """Tasks that cut the chunks of a dask array, and the index of each chunk's, as tuples.

    None where its graph does anything else. Whole chunks may have been chosen, such as those of one
    channel.
    """
    graph = array.dask
    layer = graph.layers.get(array.name) if isinstance(graph, HighLevelGraph) else None
    chosen = None
    if isinstance(layer, MaterializedLayer) and type(layer.mapping) is dict:
        chosen = layer.mapping
        targets = {n.target[0] for n in chosen.values() if _is_chunk(n)}
        if len(targets) != 1 or not all(map(_is_chunk, chosen.values())):
            return None
        layer = graph.layers.get(targets.pop())
    cuts = None if layer is None else _cuts_of_layer(layer, graph)
    if cuts is None:
        return None
    table = np.empty(array.numblocks, dtype=object)
    for index in np.ndindex(*table.shape):
        table[index] = index if chosen is None else chosen[array.name, *index].target[1:]
    return cuts, table


def _is_chunk(node: Any) -> bool:
    return type(node) is Alias and isinstance(node.target, tuple)


def _cuts_of_layer(layer: Any, graph: HighLevelGraph) -> Cuts | None:
    """Of what `dask.array.from_array` makes, whether the array stands in the tasks or beside."""
    if not isinstance(layer, Blockwise) or type(layer.task) is not Task or layer.new_axes:
        return None
    if len(layer.indices) != 2 or layer.task.kwargs:
        return None
    array: Any
    (array, nowhere), (name, axes) = layer.indices
    slices = layer.io_deps.get(name) if isinstance(name, str) else None
    arguments = [a.key if isinstance(a, TaskRef) else None for a in layer.task.args]
    in_order = arguments == ["__dask_blockwise__0", "__dask_blockwise__1"]
    if type(slices) is not ArraySliceDep or nowhere is not None or not in_order:
        return None
    if axes != layer.output_indices:
        return None
    if isinstance(array, TaskRef):
        beside = graph.layers.get(str(array.key))
        array = beside.get(array.key) if isinstance(beside, MaterializedLayer) else None
        array = array.value if isinstance(array, DataNode) else array
        if array is None or isinstance(array, (GraphNode, Outlines)):
            return None  # outlines are large: a node of their own, which is sent once
    starts = tuple(map(_starts, slices.chunks))
    return Cuts(layer.output, layer.task.func, array, starts, tuple(map(sum, slices.chunks)))
