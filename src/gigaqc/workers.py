"""Where dask computes: in this process, in worker processes of its own, or on a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from gigaqc.errors import ParameterError


@contextlib.contextmanager
def computing(workers: int | None, memory: str | None, scheduler: str | None) -> Iterator[None]:
    """Within this context dask computes where these say; with None for all, where it did before.

    Parameters
    ----------
    workers
        So many processes of one thread each, started here and stopped at the end; by default one
        a core.
    memory
        What these processes may use together, such as ``"4GB"``.
    scheduler
        Address of a cluster that runs already, such as ``"tcp://host:8786"``.

    Raises
    ------
    ParameterError
        When they contradict one another, the cluster does not answer, or a worker was killed.
    """
    if scheduler is None and workers is None and memory is None:
        yield
        return
    if scheduler is not None and (workers is not None or memory is not None):
        raise ParameterError(
            "--scheduler: a cluster has its own workers; leave --workers and --memory out."
        )
    import distributed

    with contextlib.ExitStack() as stack:
        if scheduler is None:
            cluster = stack.enter_context(_local_cluster(workers or os.cpu_count() or 1, memory))
            stack.enter_context(distributed.Client(cluster))
        else:
            stack.enter_context(_client(scheduler))
        try:
            yield
        except distributed.KilledWorker as error:
            raise ParameterError(
                "--memory: a worker was killed, most often for want of memory; allow more memory, "
                "or take fewer --workers."
            ) from error


def _local_cluster(workers: int, memory: str | None) -> Any:
    import distributed
    from dask.utils import parse_bytes

    try:
        limit = None if memory is None else parse_bytes(memory) // workers
    except ValueError as error:
        raise ParameterError(f"--memory: got {memory!r}; pass a size such as 4GB.") from error
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit="auto" if limit is None else limit,
        dashboard_address="127.0.0.1:0",  # any free port: None takes 8787, and warns if it is taken
        # A worker that is asked to stop between two heartbeats would call that an error.
        silence_logs=logging.CRITICAL,
    )


def _client(address: str) -> Any:
    import distributed

    try:
        # A client that fails stays dask's default, and whatever is computed later would not end.
        with distributed.Client(address, timeout=10, set_as_default=False):
            pass
        return distributed.Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"--scheduler: nothing answers at {address!r}; start one with `dask scheduler`, or "
            "leave it out to run here."
        ) from error
