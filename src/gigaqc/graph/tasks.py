"""Tasks of a graph, as it is put together: their classes, and what they refer to.

What a scheduler must know of a task is its class: a `Promise` is computed before all that waits for
it, a `ReadingTask` reads chunks.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import dask.array as da
import dask.threaded
import numpy as np
import xarray as xr
from dask._task_spec import DataNode, GraphNode, List, NestedContainer, Task, TaskRef
from dask.base import DaskMethodsMixin
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.typing import Key

from gigaqc.base.backend import empty_beside
from gigaqc.base.naming import named

LARGE = 1 << 16  # bytes of a value that is not copied into each task that a cluster is sent


class Promise(Task):
    """One value of a whole image, such as a percentile: what needs it waits until it is known."""

    __slots__ = ()

    @property
    def block_fusion(self) -> bool:
        """It stays a task of its own."""
        return True


class ReadingTask(Task):
    """A task that reads chunks by itself."""

    __slots__ = ()


class Tasks(dict[Key, GraphNode]):
    """Tasks by key; what is not there is made elsewhere."""

    def add(
        self, key: Key, function: Callable, *arguments: Any, kind: type[Task] = Task
    ) -> TaskRef:
        """A task, whose arguments are values, references, and lists of references."""
        self[key] = kind(key, function, *map(_argument, arguments))
        return TaskRef(key)

    def refer(
        self, arguments: Iterable[Any], name: str, *, all_once: bool = False
    ) -> list[TaskRef | Any]:
        """Arguments as tasks take them: by key what other graphs give, and what is large.

        With `all_once` all of them, for models, whose size is not known before they are packed.
        """
        refs: list[Any] = []
        for number, argument in enumerate(arguments):
            if isinstance(argument, Delayed):
                refs.append(TaskRef(argument.key))
            elif all_once or is_large(argument):
                key = f"{name}-argument-{number}"
                self[key] = DataNode(key, argument)
                refs.append(TaskRef(key))
            else:
                refs.append(argument)
        return refs

    def add_needed(self, source: Mapping[Key, GraphNode]) -> None:
        """Add the tasks of `source` that these name, and what those need."""
        needed = [d for node in self.values() for d in node.dependencies]
        while needed:
            key = needed.pop()
            if key in source and key not in self:
                self[key] = source[key]
                needed.extend(source[key].dependencies)

    def promise(
        self, root: str, value: TaskRef, after: Sequence[Delayed], function: Callable | None = None
    ) -> Delayed:
        """The value, or what a function makes of it, lazily; `after` are graphs that are needed."""
        self[root] = Promise(root, function or _itself, value)
        return delayed(root, self, after)

    def image(
        self, like: xr.DataArray, name: str, after: Sequence[Delayed], dtype: np.dtype,
        on_device: bool = False,
    ) -> xr.DataArray:  # fmt: skip
        """An image like another whose chunks these make; `on_device` where those of it are."""
        needed: Any = (*after, *persisted(like))
        graph = HighLevelGraph.from_collections(name, self, needed)
        host = like.data._meta if on_device else np.empty(0)
        meta = empty_beside(host, (0,) * like.ndim, dtype)
        return like.copy(data=da.Array(graph, name, like.chunks, dtype=dtype, meta=meta))


def with_arguments(node: GraphNode, change: Callable[[Any], Any]) -> GraphNode:
    """The same task of changed arguments; itself where all stay as they are."""
    if not isinstance(node, Task) or isinstance(node, NestedContainer):
        return node
    arguments = [change(argument) for argument in node.args]
    if all(a is b for a, b in zip(arguments, node.args, strict=True)):
        return node
    return type(node)(node.key, node.func, *arguments, **node.kwargs)


def _argument(given: Any) -> Any:
    return List(*given) if type(given) is list and any(map(_is_ref, given)) else given


def _is_ref(value: Any) -> bool:
    return isinstance(value, (TaskRef, GraphNode))


def _itself(value: Any) -> Any:
    return value


def join(kind: str, function: Callable, *arguments: Any) -> Delayed:
    """One task on values and on what other graphs give, named by the function and all of them."""
    name = named(kind, function, *arguments)
    refs = [TaskRef(a.key) if isinstance(a, Delayed) else a for a in arguments]
    return delayed(name, {name: Promise(name, function, *refs)}, promises_in(arguments))


def delayed(root: str, tasks: Mapping[Key, GraphNode], after: Sequence[Delayed]) -> Delayed:
    """What `root` of a graph gives, lazily."""
    # A Delayed is a collection, but dask gives some of its methods no types.
    graph = HighLevelGraph.from_collections(root, tasks, after)  # type: ignore[arg-type]
    return Delayed(root, graph, layer=root)


def promises_in(arguments: Iterable[Any]) -> tuple[Delayed, ...]:
    """Those of the arguments that other graphs give."""
    return tuple(a for a in arguments if isinstance(a, Delayed))


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
    distributed = sys.modules.get("distributed")  # where it is not imported there is none
    return distributed is not None and isinstance(value, distributed.Future)


class LazyValue(DaskMethodsMixin):
    """A dask collection of one value."""

    def __init__(self, promise: Delayed) -> None:
        self.delayed = promise

    def __dask_graph__(self) -> HighLevelGraph:
        return self.delayed.dask

    def __dask_keys__(self) -> list[Hashable]:
        return [self.delayed.key]

    def __dask_layers__(self) -> Sequence[str]:
        return self.delayed.__dask_layers__()

    def __dask_tokenize__(self) -> Hashable:
        return self.delayed.key

    __dask_scheduler__ = staticmethod(dask.threaded.get)

    @staticmethod
    def __dask_optimize__(graph: HighLevelGraph, keys: Any, **_: Any) -> HighLevelGraph:
        return graph.cull(set(flatten(keys)))

    def __dask_postcompute__(self) -> tuple[Callable, tuple]:
        return _first, ()


def _first(results: Sequence[Any]) -> Any:
    return results[0]


def persisted_value(graph: Mapping, key: Hashable, rename: Mapping | None) -> Delayed:
    """The promise of a value that dask has persisted."""
    key = (rename or {}).get(key, key)
    layers = HighLevelGraph.from_collections(str(key), graph, ())
    return Delayed(key, layers, layer=str(key))


def is_large(value: Any) -> bool:
    """Whether a value is better sent once than with each task."""
    try:
        return len(pickle.dumps(value, pickle.HIGHEST_PROTOCOL)) > LARGE
    except Exception:  # whatever a class may raise; it can be sent nowhere
        return False


def when_done(value: Any, *_: Any) -> Any:
    """The value, once what it waits for is done."""
    return value


def nothing(*_: Any) -> None:
    """Done."""


_PLAIN = (list, dict, set, frozenset, slice, int, float, bool, type(None))


class Packed:
    """Tasks, and what is said of them in plain values, unpacked whenever they are asked for.

    A task of dask's takes one to two kilobytes, and a graph holds one for each chunk that is read;
    those that a task reads by itself wait as one string of bytes, in a tenth of that. Only the
    structure is packed: arrays, functions and names are held as they are and not copied.
    """

    __slots__ = ("_packed", "_shared")

    def __init__(self, value: Any) -> None:
        packer = _Packer()
        self._packed = packer.packed(value)
        self._shared = tuple(packer.shared)

    def unpacked(self) -> Any:
        """The same value, made anew but for what is shared."""
        return _Unpacker(self._packed, self._shared).load()


class _Packer(pickle.Pickler):
    """Pickles tasks and plain values, and puts all else aside."""

    def __init__(self) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file, pickle.HIGHEST_PROTOCOL)
        self.dispatch_table = {Task: _parts, Promise: _parts}
        self.shared: list[Any] = []
        self._places: dict[int, int] = {}

    def packed(self, value: Any) -> bytes:
        self.dump(value)
        return self._file.getvalue()

    def persistent_id(self, value: Any) -> int | None:
        if type(value) in _PLAIN or isinstance(value, (tuple, GraphNode)):
            return None
        place = self._places.setdefault(id(value), len(self.shared))
        if place == len(self.shared):
            self.shared.append(value)
        return place


class _Unpacker(pickle.Unpickler):
    def __init__(self, packed: bytes, shared: tuple[Any, ...]) -> None:
        super().__init__(io.BytesIO(packed))
        self._shared = shared

    def persistent_load(self, place: int) -> Any:
        return self._shared[place]


def _parts(task: Task) -> tuple[Callable, tuple[Any, ...]]:
    return _task, (task.key, task.func, task.args, task.kwargs, task.data_producer)


def _task(
    key: Key, function: Callable, arguments: tuple, keywords: dict, data_producer: bool
) -> Task:
    return Task(key, function, *arguments, _data_producer=data_producer, **keywords)
