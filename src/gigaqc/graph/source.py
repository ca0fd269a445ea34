"""The pixels that a graph reads: its own tasks for chunks, and what each task reads by itself.

A graph owns its source under fresh keys, so that no chunk is kept for a later one. zarr arrays are
decoded here; those in object stores are told which blocks a task reads, all of them at its start,
and which come next in the order in which dask goes through the graph.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import (
    Alias,
    DataNode,
    GraphNode,
    Task,
    TaskRef,
    convert_legacy_graph,
)
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.typing import Key

from gigaqc.graph.chunks import Cuts, cuts_of
from gigaqc.graph.guard import Guarded, guarded
from gigaqc.graph.tasks import Packed, when_done, with_arguments
from gigaqc.stores.chunks import named
from gigaqc.stores.direct import direct, store_of


class Source:
    """The chunks of an array under keys of a graph's own, and the tasks that make them.

    Attributes
    ----------
    table
        The key of each chunk, an object array.
    tasks
        What makes them, by key.
    """

    def __init__(self, table: np.ndarray, tasks: Mapping[Key, GraphNode], stores: Sequence[Any]):
        self.table, self.tasks, self._stores = table, tasks, list(stores)

    @classmethod
    def of(
        cls, array: da.Array, name: str, after: Sequence[Delayed] = (), *, guard: bool = False
    ) -> Source:
        """That of a graph of this name.

        With `after` nothing of it runs before those are done, so a second pass holds no chunk while
        the first is at work. With `guard` what cannot be read is a value and no error. Chunks that
        a cluster holds (`persist`) have no task, and keep their keys.
        """
        array = by_tasks(array)
        found = cuts_of(array)
        whole = None if found is None else _Arrays({}).directly(found[0].array)
        if found is not None and not asks_ahead(whole):
            cuts, table = found
            waits = [a.key for a in after]
            cuts = cuts.owned(f"{cuts.name}-{name}", whole, waits, guarded if guard else None)
            for index in np.ndindex(*table.shape):
                table[index] = (cuts.name, *table[index])
            return cls(table, cuts, [])
        return cls._of_graph(array, name, after, guard)

    @classmethod
    def _of_graph(cls, array: da.Array, name: str, after: Sequence[Delayed], guard: bool) -> Source:
        """Of anything: dask's optimised graph under other keys.

        Not by `dask.graph_manipulation`, which loses keys of arrays that are indexed with a list.
        """
        keys = array.__dask_keys__()
        graph = convert_legacy_graph(dict(array.__dask_optimize__(array.__dask_graph__(), keys)))
        fresh: dict[Key, Any] = {key: _renamed(key, name) for key in graph}
        arrays = _Arrays(graph)
        tasks: dict[Key, GraphNode] = {}
        for key, given in graph.items():
            node = arrays.read_directly(given).substitute(fresh, key=fresh[key])
            node = guarded(node) if guard else node
            if after and not node.dependencies:
                node = Task(fresh[key], when_done, node, *(TaskRef(a.key) for a in after))
            tasks[fresh[key]] = node
        table = np.empty(array.numblocks, dtype=object)
        for index in np.ndindex(*array.numblocks):
            key = (array.name, *index)
            table[index] = fresh.get(key, key)
        return cls(table, tasks, arrays.stores)

    def add(self, other: Source) -> None:
        """What is read beside it, such as a mask; `table` stays."""
        self.tasks = {**self.tasks, **other.tasks}
        self._stores += other._stores

    def reads(self, wanted: Sequence[Any]) -> list[OwnReads]:
        """What each task reads by itself, of nested lists of the chunks that it wants."""
        if isinstance(self.tasks, Cuts):  # no chunk is wanted by two
            return [OwnReads.of(nested, self.tasks, self.tasks.waits) for nested in wanted]
        keys = [list(flat(nested)) for nested in wanted]
        users = count_users(keys, self.tasks)
        return [
            OwnReads.of(nested, *own_tasks(own, self.tasks, users))
            for nested, own in zip(wanted, keys, strict=True)
        ]

    def prefetch_around(self) -> None:
        """Let stores know that blocks are read by their neighbours.

        In which order dask reads them depends on what is made of the image later.
        """
        for array in self._stores:
            grid = {
                place: block
                for place, key in np.ndenumerate(self.table)
                for other, block in blocks_of(self.tasks.get(key))
                if other is array
            }
            array.expect_around(grid)

    def prefetch_in(self, graph: Mapping[Key, GraphNode]) -> None:
        """Let stores know in which order a graph reads their blocks."""
        for array in self._stores:
            array.expect(_in_order(graph, array))


def _renamed(key: Key, name: str) -> Key:
    if isinstance(key, tuple):
        return (sys.intern(f"{key[0]}-{name}"), *key[1:])  # one string for all chunks
    return f"{key}-{name}"


def _in_order(nodes: Mapping[Key, GraphNode], array: Any) -> Iterator[Any]:
    """Blocks of an array, as dask's schedulers come to them; ordered when the first is needed."""
    from dask.order import order

    place = order(nodes)
    for key in sorted(nodes, key=place.__getitem__):
        for other, block in blocks_of(nodes[key]):
            if other is array:
                yield block


@dataclass(frozen=True, slots=True)
class OwnReads:
    """Chunks that a task reads by itself; a class, so that dask does not look inside.

    `outside` are keys of what other tasks make for it; `packed` are the wanted keys and the tasks
    that are its own.
    """

    outside: tuple[Key, ...]
    packed: Packed

    @classmethod
    def of(cls, wanted: Any, inside: Mapping[Key, GraphNode], outside: Sequence[Key]) -> OwnReads:
        """Of nested lists of keys."""
        return cls(tuple(outside), Packed((wanted, inside)))

    def unpacked(self) -> tuple[Any, dict[Key, GraphNode]]:
        """The wanted keys and the task's own tasks."""
        wanted, inside = self.packed.unpacked()
        if isinstance(inside, Cuts):
            inside = {key: inside[key] for key in flat(wanted)}
        return wanted, inside

    @property
    def inside(self) -> Mapping[Key, GraphNode]:
        """The task's own tasks."""
        return self.unpacked()[1]

    @property
    def refs(self) -> list[TaskRef]:
        """To what other tasks make, for `opened`."""
        return [TaskRef(key) for key in self.outside]

    def opened(self, outside: Iterable[Any]) -> ChunksInTask:
        """From which the chunks are taken, given what other tasks made."""
        return ChunksInTask(*self.unpacked(), dict(zip(self.outside, outside, strict=True)))


class ChunksInTask:
    """Chunks within a task: made when they are asked for, dropped after their last use.

    So channels come one by one, and each is looked at while it is in the cache.
    """

    def __init__(self, wanted: Any, tasks: Mapping[Key, GraphNode], values: dict[Key, Any]) -> None:
        self.wanted = wanted
        self._tasks, self._values = tasks, values
        self._uses = count_users([flat(wanted)], tasks)
        _begin(tasks.values())

    def take(self, key: Key) -> Any:
        """The value of one use of `key`."""
        if key not in self._values:
            node = self._tasks[key]
            self._values[key] = node({k: self.take(k) for k in node.dependencies})
        self._uses[key] -= 1
        return self._values[key] if self._uses[key] else self._values.pop(key)


def flat(nested: Any) -> Iterator[Key]:
    """The keys in nested lists, in order; None is none."""
    if isinstance(nested, list):
        for part in nested:
            yield from flat(part)
    elif nested is not None:
        yield nested


def count_users(wanted: Iterable[Iterable[Key]], tasks: Mapping[Key, GraphNode]) -> dict[Key, int]:
    """How often each key is wanted, by others and by the tasks themselves."""
    users: dict[Key, int] = {}
    for keys in itertools.chain(wanted, (n.dependencies for n in tasks.values())):
        for key in keys:
            users[key] = users.get(key, 0) + 1
    return users


def own_tasks(
    wanted: Iterable[Key], tasks: Mapping[Key, GraphNode], users: Mapping[Key, int]
) -> tuple[dict[Key, GraphNode], tuple[Key, ...]]:
    """Tasks that only one user needs, who runs them itself; and keys of the others.

    Not dask's own fusing: that would decode all channels before the first is looked at, when it is
    no longer in the cache; and it merges slices of slices in place as if each chunk had one reader,
    which gives wrong pixels where several slice one chunk (after a rechunk).
    """
    inside: dict[Key, GraphNode] = {}
    waiting, seen = list(wanted), dict[Key, int]()
    while waiting:
        key = waiting.pop()
        seen[key] = seen.get(key, 0) + 1
        node = tasks.get(key)
        if isinstance(node, (Alias, Task)) and seen[key] == users[key]:
            inside[key] = node
            waiting.extend(node.dependencies)
    return inside, tuple(key for key in seen if key not in inside)


def _begin(nodes: Iterable[GraphNode]) -> None:
    """Ask for all blocks that these tasks read from object stores, before the first is waited for.

    What the first of them costs then is all that is waited for.
    """
    blocks: dict[int, tuple[Any, list[Any]]] = {}
    for node in nodes:
        for array, block in blocks_of(node):
            blocks.setdefault(id(array), (array, []))[1].append(block)
    for array, asked in blocks.values():
        array.begin(asked)


def blocks_of(node: Any) -> Iterator[tuple[Any, Any]]:
    """Array and block of each read from an object store within a task."""
    if not isinstance(node, Task):
        return
    if isinstance(node.func, Guarded):
        yield from blocks_of(node.func.node)
    first = node.args[0] if node.args else None
    if isinstance(first, DataNode) and asks_ahead(first.value):
        block = node.args[1]
        yield first.value, block.value if isinstance(block, DataNode) else block
        return
    for argument in node.args:
        if isinstance(argument, OwnReads):
            argument = argument.inside
        # Tasks that dask has fused into one are a dict within it.
        inside = argument.values() if type(argument) is dict else [argument]
        for part in inside:
            yield from blocks_of(part)


class _Arrays:
    """The arrays that a graph reads, each decoded without zarr's pipeline where that is known.

    An array may be a node that many tasks refer to.
    """

    def __init__(self, graph: Mapping[Key, GraphNode]) -> None:
        self._own: dict[int, Any] = {}
        nodes = {k: self._node(n) for k, n in graph.items() if isinstance(n, DataNode)}
        # Tasks of other arrays refer to them; those that are told what is read have to be seen.
        self._shared = {k: n for k, n in nodes.items() if asks_ahead(n.value)}

    @property
    def stores(self) -> list[Any]:
        """Those in object stores."""
        return [array for array in self._own.values() if asks_ahead(array)]

    def read_directly(self, node: GraphNode) -> GraphNode:
        """The same task, reading from these."""
        if isinstance(node, DataNode):
            return self._node(node)
        return with_arguments(node, self._argument)

    def _argument(self, given: Any) -> Any:
        if isinstance(given, DataNode):
            return self._node(given)
        if isinstance(given, TaskRef):
            return self._shared.get(given.key, given)
        if type(given) is dict and all(isinstance(n, GraphNode) for n in given.values()):
            # Tasks that dask has fused into one.
            changed = {key: self.read_directly(node) for key, node in given.items()}
            return changed if any(changed[key] is not given[key] for key in given) else given
        return given

    def _node(self, node: DataNode) -> DataNode:
        own = self.directly(node.value)
        return node if own is node.value else DataNode(node.key, own)

    def directly(self, value: Any) -> Any:
        """An array as it is read here; anything else as it is."""
        of_zarr = type(value).__module__.partition(".")[0] == "zarr" and hasattr(value, "chunks")
        if not of_zarr and not asks_ahead(value):
            return value
        if id(value) not in self._own:
            own: Any = named(value, direct(value), store_of(value)) if of_zarr else value
            self._own[id(value)] = own.for_a_pass() if asks_ahead(own) else own
        return self._own[id(value)]


def asks_ahead(array: Any) -> bool:
    """Whether an array wants to be told what will be read of it."""
    return bool(getattr(array, "asks_ahead", False))


def by_tasks(array: da.Array) -> da.Array:
    """The same array, rechunked by ordinary tasks where it was to be by dask's P2P shuffle.

    The tasks of that find one another by their keys, through a state of the scheduler: they cannot
    be copied into another graph, nor be done within a task, nor be begun before all are there.
    """
    graph = array.dask
    layers = graph.layers if isinstance(graph, HighLevelGraph) else {}
    shuffles = {name: layer for name, layer in layers.items() if _is_shuffle(layer)}
    if not shuffles:
        return array
    replaced, needed = dict(graph.layers), dict(graph.dependencies)
    for name, layer in shuffles.items():
        given: Any = layer
        source = da.Array(graph, given.name_input, given.chunks_input, array.dtype)
        found = source.rechunk(given.chunks, method="tasks")
        added = found.dask.layers.keys() - graph.layers.keys()
        replaced.update({n: found.dask.layers[n] for n in added})
        needed.update({n: found.dask.dependencies[n] for n in added})
        kept = (index for index in np.ndindex(given.keepmap.shape) if given.keepmap[index])
        replaced[name] = {
            (name, *index): Alias((name, *index), (found.name, *index)) for index in kept
        }
        needed[name] = {found.name}
    return da.Array(HighLevelGraph(replaced, needed), array.name, array.chunks, meta=array._meta)


def _is_shuffle(layer: Any) -> bool:
    module = sys.modules.get("distributed.shuffle._rechunk")  # where it is not imported is none
    return module is not None and isinstance(layer, module.P2PRechunkLayer)
