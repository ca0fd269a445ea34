"""What tasks run on: the keys that a user may set, workers, threads, memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import dask.base
import dask.config
from dask.system import CPU_COUNT
from dask.utils import format_bytes, parse_bytes

from gigaqc.errors import ParameterError, TooLargeError

T = TypeVar("T")


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One key: its default, how its value is understood, and what to set instead of a wrong one."""

    key: str
    default: Any
    parse: Callable[[Any], T]
    cure: str

    def __call__(self) -> T:
        """The value now.

        Raises
        ------
        ParameterError
            When it cannot be used.
        """
        value = dask.config.get(f"gigaqc.{self.key}", self.default)
        try:
            return self.parse(value)
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise ParameterError(
                f"gigaqc.{self.key}: dask's configuration has {value!r}; set {self.cure}."
            ) from None


def _whole(least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or int(value) != value or value < least:
            raise ValueError(value)
        return int(value)

    return parse


def _size(least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or parse_bytes(value) < least:
            raise ValueError(value)
        return int(parse_bytes(value))

    return parse


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not 0 <= float(value) < math.inf:
        raise ValueError(value)
    return float(value)


def _unless_none(parse: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value is None else parse(value)


def _folder(value: Any) -> str:
    if not os.path.isdir(value):
        raise ValueError(value)
    return os.fspath(value)


_COUNT = "a whole number from 1 up"
_SECONDS = "a number of seconds from 0 up"
_BYTES = "a number of bytes, or a size such as '64MiB'"

group_values = Setting("group-values", 1 << 23, _whole(0), "a whole number of values from 0 up")
frames_memory = Setting("frames-memory", None, _unless_none(_size(1)), f"{_BYTES}, or null")
slab_reads = Setting("slab-reads", 3, _whole(0), "a whole number of reads from 0 up")
temporary = Setting("temporary", None, _unless_none(_folder), "a folder that is there, or null")
sample_memory = Setting("sample-memory", "128MiB", _size(0), _BYTES)
read_ahead = Setting("read-ahead", "32MiB", _size(0), _BYTES)
requests = Setting("requests", 32, _whole(1), _COUNT)
request_gap = Setting("request-gap", "64KiB", _size(0), _BYTES)
read_attempts = Setting("read-attempts", 7, _whole(1), _COUNT)
decode_attempts = Setting("decode-attempts", 3, _whole(1), _COUNT)
read_pause = Setting("read-pause", 0.25, _seconds, _SECONDS)
read_timeout = Setting("read-timeout", 120.0, _seconds, _SECONDS)
read_patience = Setting("read-patience", 180.0, _seconds, _SECONDS)

SETTINGS = (
    group_values, frames_memory, slab_reads, temporary, sample_memory, read_ahead, requests,
    request_gap, read_attempts, decode_attempts, read_pause, read_timeout, read_patience,
)  # fmt: skip
"""All of them, in the order of the documentation."""

dask.config.update_defaults({"gigaqc": {setting.key: setting.default for setting in SETTINGS}})

_FIXED = 12 << 20  # what dask and the first call of everything take
_SLACK = 1.15  # what the allocator keeps
_SMALL = 1 << 26  # bytes that every process has: asking a cluster for its limits takes time
# Of mallopt(3): what glibc itself comes to for large arrays; and free memory that each heap keeps.
_ALLOCATOR = {-3: 32 << 20, -1: 8 << 20}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Compute on this thread and nowhere else: for tasks of a cluster that compute themselves."""
    before = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(before)


def is_alone() -> bool:
    """Whether this thread computes by itself."""
    return _alone.get()


def compute(*collections: Any) -> tuple[Any, ...]:
    """As `dask.compute`, on this thread where it is `alone`."""
    return dask.base.compute(*collections, **({"scheduler": "sync"} if is_alone() else {}))


@functools.cache
def reuse_memory() -> None:
    """In a worker of dask let arrays take the memory of those before them, as in other processes.

    Dask starts workers with ``MALLOC_TRIM_THRESHOLD_``, so that free memory returns to the system
    early. That also keeps glibc from learning which sizes come again: each array of 128 KiB or more
    is mapped and cleared anew, and a pass takes up to twice as long. Here arrays come from the heap
    again, of which up to 8 MiB at its end stay. ``MALLOC_MMAP_THRESHOLD_`` in the workers'
    environment goes first.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        with contextlib.suppress(OSError, AttributeError):  # not glibc
            allocator = ctypes.CDLL(None)
            for parameter, value in _ALLOCATOR.items():
                allocator.mallopt(parameter, value)


def threads() -> int:
    """How many tasks can be at work at once."""
    if is_alone():
        return 1
    workers = _workers()
    if workers:
        return max(sum(w["nthreads"] for w in workers), 1)
    return dask.config.get("num_workers", None) or CPU_COUNT


def on_cluster() -> bool:
    """Whether what is computed is sent to other processes."""
    return bool(_workers())


def threads_of_a_process() -> int:
    """How many of them share the memory of a process."""
    workers = _workers()
    return max(w["nthreads"] for w in workers) if workers else threads()


def memory_of_a_process() -> int:
    """Bytes that a process may use: the limit of the smallest worker, else what is free here."""
    limits = [w["memory_limit"] for w in _workers() if w["memory_limit"]]
    if limits:
        return min(limits)
    import psutil

    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
        free = min(free, int(_CGROUP_LIMIT.read_text()))
    return free


def as_peak(held: int) -> int:
    """The most that a process will hold beyond its imports, where `held` bytes are known.

    Measured with the allocator as it comes, on several threads.
    """
    return int(_SLACK * (held + _FIXED))


def in_words(what: str, sides: Mapping[Any, int]) -> str:
    """A block and its sides."""
    return f"{what} ({', '.join(f'{d} {n:,}' for d, n in sides.items() if n > 1)})"


def check_room(what: str, held: int, tasks: int) -> None:
    """Refuse blocks of so many bytes, of which each thread of a process holds one at least.

    Raises
    ------
    TooLargeError
        Where they do not fit the memory of a process.
    """
    if held < _SMALL:
        return
    at_once = min(threads_of_a_process(), tasks)
    memory = memory_of_a_process()
    if held * at_once <= memory:
        return
    threads = memory // held
    fewer = f"with {threads} threads a process or fewer, " if threads else ""
    raise TooLargeError(
        f"image: a task must hold {what}, {format_bytes(held)}, and {at_once} of them "
        f"do not fit the {format_bytes(memory)} that a process may use. Store the image in "
        "smaller chunks, such as 1024 x 1024 pixels; open it with chunks={'y': 1024, 'x': 1024} if "
        f"the file has such chunks already; or run {fewer}where a process has more memory."
    )


def _workers() -> list[dict[str, Any]]:
    """Those of the cluster that dask computes on, if it does."""
    distributed = sys.modules.get("distributed")
    if distributed is None or is_alone():
        return []
    try:
        return list(distributed.get_client().scheduler_info(n_workers=-1)["workers"].values())
    except ValueError:  # no cluster
        return []
