"""In which order an image is computed, so that little of it is held at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import (
    DataNode,
    GraphNode,
    Task,
    TaskRef,
    convert_legacy_graph,
)
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull
from dask.typing import Key

from gigaqc.base.geometry import strip_width
from gigaqc.base.machine import compute, on_cluster, threads
from gigaqc.base.naming import named
from gigaqc.graph.source import by_tasks
from gigaqc.graph.tasks import Promise, is_large, nothing, when_done, with_arguments


def settled(array: da.Array) -> da.Array:
    """The same array, all that its chunks wait for together computed *now*.

    Percentiles of the whole image, say, which all chunks of a result need, are a `Promise`. While
    it is part of a graph dask sees everything connected with everything, begins many chunks, and
    holds what it has read; without it it walks from chunk to chunk. Promises are computed in as
    many steps as wait for one another.
    """
    array = by_tasks(array)
    graph = convert_legacy_graph(dict(array.__dask_graph__()))
    waiting = _waited_for(graph)
    if not waiting:
        return array
    while waiting:
        needs = {key: _ancestors(graph, key) for key in waiting}
        ready = {key for key in waiting if not needs[key] & waiting}
        done = ready.union(*(needs[key] for key in ready))
        # What a later step needs as well, such as a sample, is not made again for it.
        keys = [*ready, *(_promises_of(graph, done - ready) & _needed_beyond(graph, done))]
        values = compute(*(Delayed(key, graph) for key in keys))
        known = dict(zip(keys, values, strict=True))
        told = {k: v for k, v in known.items() if not (on_cluster() and is_large(v))}
        graph = {key: _told(node, known, told) for key, node in graph.items()}
        waiting -= ready
    return da.Array(_culled(graph, array), array.name, array.chunks, meta=array._meta)


def in_strips(blocks: da.Array) -> Delayed:
    """One task that all blocks lead to, strip by strip (lazy).

    For blocks that are nothing, once what they do is done, such as writing. Each leads to the next,
    because dask walks a chain in its order; from one task that needs them all it would begin
    everywhere.
    """
    keys = blocks.__dask_keys__()
    blocks = by_tasks(blocks)
    graph = dict(convert_legacy_graph(dict(blocks.__dask_optimize__(blocks.dask, keys))))
    width = strip_width(max(blocks.chunks[-1], default=1))
    indices = np.ndindex(*blocks.numblocks)
    chain: list[Key] = []
    done = f"{blocks.name}-done"
    for index in sorted(indices, key=lambda i: (i[-1] // width, *_rows_of_channels(i))):
        key: Key = (done, *index)
        # Beside the block: its work waits for no other's.
        graph[key] = Task(key, nothing, TaskRef((blocks.name, *index)), *map(TaskRef, chain[-1:]))
        chain.append(key)
    hold_back(graph, chain)
    root = f"{blocks.name}-all-done"
    graph[root] = Task(root, nothing, *map(TaskRef, chain[-1:]))
    return Delayed(root, graph)


def hold_back(nodes: dict[Key, GraphNode], chain: Sequence[Key]) -> None:
    """Let nothing be read before all but a few steps of a chain are done.

    What is held then does not depend on how a scheduler goes through a graph, and that reads wait
    for steps keeps dask's own ordering linear: it notes for each task which reads lead to it.
    """
    ahead = 2 * threads()
    seen: set[Key] = set()
    for number, last in enumerate(chain):
        waiting = [last]
        while waiting:
            key = waiting.pop()
            if key in seen or key not in nodes:
                continue
            seen.add(key)
            node = nodes[key]
            waiting.extend(node.dependencies)
            if number >= ahead and isinstance(node, Task) and _is_known(node.dependencies, nodes):
                nodes[key] = Task(key, when_done, node, TaskRef(chain[number - ahead]))


def _rows_of_channels(index: tuple[int, ...]) -> tuple[int, ...]:
    """Rows outside, what comes before them inside: channels of a place follow one another."""
    *others, y, x = index
    return (y, x, *others)


def _is_known(keys: Iterable[Key], nodes: Mapping[Key, GraphNode]) -> bool:
    return all(isinstance(nodes.get(key), DataNode | None) for key in keys)


def _told(node: GraphNode, known: Mapping[Key, Any], told: Mapping[Key, Any]) -> GraphNode:
    """The same task with values in the place of what it waits for, of those that are `told`.

    In the task and not as a node of the graph: any node that all share connects everything. But
    large ones are nodes on a cluster, where each task is sent by itself.
    """
    if node.key in known:
        return DataNode(node.key, known[node.key])
    if not node.dependencies & told.keys():
        return node
    return with_arguments(
        node, lambda a: told[a.key] if isinstance(a, TaskRef) and a.key in told else a
    )


def _waited_for(graph: Mapping[Key, GraphNode]) -> set[Key]:
    """Promises that chunks need."""
    needed = (d for key, n in graph.items() if isinstance(key, tuple) for d in n.dependencies)
    return _promises_of(graph, set(needed))


def _promises_of(graph: Mapping[Key, GraphNode], keys: set[Key]) -> set[Key]:
    return {k for k in keys if isinstance(graph.get(k), Promise)}


def _needed_beyond(graph: Mapping[Key, GraphNode], done: set[Key]) -> set[Key]:
    """What tasks that are not among `done` need."""
    return {d for key, node in graph.items() if key not in done for d in node.dependencies}


def _ancestors(graph: Mapping[Key, GraphNode], key: Key) -> set[Key]:
    found: set[Key] = set()
    waiting = list(graph[key].dependencies)
    while waiting:
        needed = waiting.pop()
        if needed not in found and needed in graph:  # else a cluster holds it
            found.add(needed)
            waiting.extend(graph[needed].dependencies)
    return found


def _culled(graph: Mapping[Key, GraphNode], array: da.Array) -> dict[Key, GraphNode]:
    found: dict[Key, GraphNode] = {}
    waiting = [key for key in graph if isinstance(key, tuple) and key[0] == array.name]
    while waiting:
        key = waiting.pop()
        if key not in found and key in graph:
            found[key] = graph[key]
            waiting.extend(graph[key].dependencies)
    return found


def settled_together(arrays: Sequence[da.Array]) -> list[da.Array]:
    """The same arrays, what their chunks wait for computed *now*, once for all of them.

    Arrays that share percentiles would each compute these anew when they are stored one by one.
    """
    if len(arrays) == 1:
        return list(arrays)  # which is settled when it is stored
    keys = [key for array in arrays for key in flatten(array.__dask_keys__())]
    name = named("together", list(arrays))
    layer: dict[Any, Any] = {(name, number): key for number, key in enumerate(keys)}
    needed: Any = arrays
    graph = HighLevelGraph.from_collections(name, layer, needed)
    all_blocks = da.Array(graph, name, ((1,) * len(keys),), dtype=arrays[0].dtype)
    known = dict(settled(all_blocks).__dask_graph__())
    ready = []
    for array in arrays:
        own, _ = cull(known, list(flatten(array.__dask_keys__())))
        ready.append(da.Array(own, array.name, array.chunks, meta=array._meta))
    return ready
