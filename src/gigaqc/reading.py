"""What the tasks of a graph read: zarr arrays decoded here, and asked for before they are needed.

Tasks read from arrays that dask knows nothing about. Those whose chunks come from an object store
are told which blocks a task reads, all of them at its start, and which blocks come after these in
the order in which dask goes through the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from dask._task_spec import DataNode, GraphNode, Task, TaskRef
from dask.typing import Key

from gigaqc.stores.chunks import named
from gigaqc.stores.direct import direct, store_of


class Reads(Mapping[Key, GraphNode]):
    """Tasks that make the chunks of an array, and the arrays in object stores that they read."""

    def __init__(self, nodes: Mapping[Key, GraphNode], stores: Sequence[Any]) -> None:
        self.nodes = nodes
        self.stores = list(stores)

    def __getitem__(self, key: Key) -> GraphNode:
        return self.nodes[key]

    def __contains__(self, key: object) -> bool:
        return key in self.nodes

    def __iter__(self) -> Iterator[Key]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def add(self, other: Reads) -> None:
        """What is read beside it."""
        self.nodes = {**self.nodes, **other.nodes}
        self.stores += other.stores

    def expected_around(self, table: np.ndarray) -> None:
        """Let the arrays know that blocks, by the keys in `table`, are read by their neighbours.

        In which order dask reads them depends on what is made of the image later.
        """
        for array in self.stores:
            grid = {
                place: block
                for place, key in np.ndenumerate(table)
                for other, block in blocks_of(self.get(key))
                if other is array
            }
            array.expect_around(grid)

    def expected_in(self, nodes: Mapping[Key, GraphNode]) -> None:
        """Let the arrays know in which order the graph of `nodes` reads their blocks."""
        for array in self.stores:
            array.expect(_in_order(nodes, array))


def _in_order(nodes: Mapping[Key, GraphNode], array: Any) -> Iterator[Any]:
    """Blocks of an array, as dask's schedulers come to them; ordered when the first is needed."""
    from dask.order import order

    place = order(nodes)
    for key in sorted(nodes, key=place.__getitem__):
        for other, block in blocks_of(nodes[key]):
            if other is array:
                yield block


def begin(nodes: Iterable[GraphNode]) -> None:
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
    if type(node) is Task:
        if hasattr(node.func, "node"):  # a task that is guarded
            yield from blocks_of(node.func.node)
        arguments = node.args
        first = arguments[0] if arguments else None
        if type(first) is DataNode and asks_ahead(first.value):
            block = arguments[1]
            yield first.value, block.value if isinstance(block, DataNode) else block
            return
        for argument in arguments:
            if type(argument) is Task:
                yield from blocks_of(argument)
            elif type(argument) is dict or hasattr(argument, "inside"):
                inside = argument if type(argument) is dict else argument.inside
                for part in inside.values():
                    yield from blocks_of(part)


class Arrays:
    """The arrays that a graph reads, each decoded without zarr's pipeline where that is known."""

    def __init__(self, shared: Mapping[Key, DataNode]) -> None:
        self._own: dict[int, Any] = {}
        self._shared = {key: self._directly(node) for key, node in shared.items()}
        # Tasks of other arrays refer to them; those that are told what is read have to be seen.
        self._shared = {k: n for k, n in self._shared.items() if asks_ahead(n.value)}

    @classmethod
    def of(cls, graph: Mapping[Key, GraphNode]) -> Arrays:
        """Those of a graph, in which an array may be a node that many tasks refer to."""
        return cls({key: node for key, node in graph.items() if isinstance(node, DataNode)})

    @property
    def stores(self) -> list[Any]:
        """Those in object stores."""
        return [array for array in self._own.values() if asks_ahead(array)]

    def read_directly(self, node: GraphNode) -> GraphNode:
        """The same task, reading from these."""
        if isinstance(node, DataNode):
            return self._directly(node)
        if type(node) is Task:
            arguments = [self._argument(argument) for argument in node.args]
            if any(a is not b for a, b in zip(arguments, node.args, strict=True)):
                return Task(node.key, node.func, *arguments, **node.kwargs)
        return node

    def _argument(self, given: Any) -> Any:
        if isinstance(given, DataNode):
            return self._directly(given)
        if isinstance(given, TaskRef):
            return self._shared.get(given.key, given)
        if type(given) is dict and all(isinstance(n, GraphNode) for n in given.values()):
            # Tasks that dask has fused into one.
            changed = {key: self.read_directly(node) for key, node in given.items()}
            return changed if any(changed[key] is not given[key] for key in given) else given
        return given

    def _directly(self, node: DataNode) -> DataNode:
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
