"""Tasks within a task, in a tenth of the memory.

A task of dask's takes one to two kilobytes, as objects of Python do, and a graph holds one for each
chunk that is read. Those that a group reads itself are nobody else's business until it is read, so
they wait as one string of bytes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

from dask._task_spec import GraphNode, Task
from dask.typing import Key

_PLAIN = (list, dict, set, frozenset, slice, int, float, bool, type(None))


class Packed:
    """Tasks, and what is said of them in plain values, unpacked whenever they are asked for.

    Only the structure is packed: arrays, functions and names are held as they are and not copied.
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
        self.dispatch_table = {Task: _parts}
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
