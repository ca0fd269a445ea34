"""What dask has to compute with: threads, and the memory of a process."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import dask.config
from dask.system import CPU_COUNT

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def threads() -> int:
    """How many tasks can be at work at once."""
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


def _workers() -> list[dict[str, Any]]:
    """Those of the cluster that dask computes on, if it does."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return []
    try:
        return list(distributed.get_client().scheduler_info(n_workers=-1)["workers"].values())
    except ValueError:  # no cluster
        return []
