"""A progress bar with rate and time left, for the local schedulers and for a dask Client."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import dask.base
import dask.config
from dask.callbacks import Callback

logger = logging.getLogger("gigaqc")


class _Bar(Callback):
    """Moves a rich bar by bytes: each reading task stands for its share of them."""

    def __init__(self, progress: Any, task: Any, n_bytes: int) -> None:
        super().__init__(start_state=self._begin, posttask=self._step)
        self._progress, self._task, self._bytes = progress, task, n_bytes
        self._share = 0.0

    def _begin(self, graph: Any, state: Any) -> None:
        total = sum(_reads(key) for key in graph)
        self._share = self._bytes / max(total, 1)

    def _step(self, key: Any, *_: Any) -> None:
        if _reads(key):
            self._progress.advance(self._task, self._share)


def _reads(key: Any) -> bool:
    return isinstance(key, tuple) and str(key[0]).endswith("-observe")


@contextlib.contextmanager
def shown(label: str, n_bytes: int, *, show: bool) -> Iterator[None]:
    """Show a bar while the local scheduler computes inside."""
    if not show:
        yield
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True),
        TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(label, total=n_bytes)
        with _Bar(progress, task, n_bytes):
            yield


class _Steps(Callback):
    """Moves a rich bar by tasks, of as many computations as there come to be."""

    def __init__(self, progress: Any, task: Any) -> None:
        super().__init__(start_state=self._begin, posttask=self._step)
        self._progress, self._task, self._total = progress, task, 0

    def _begin(self, graph: Any, state: Any) -> None:
        self._total += len(graph)
        self._progress.update(self._task, total=self._total)

    def _step(self, *_: Any) -> None:
        self._progress.advance(self._task)


@contextlib.contextmanager
def tasks_shown(label: str, *, show: bool) -> Iterator[None]:
    """Show a bar of tasks while the local scheduler computes, once or several times, inside."""
    if not show:
        yield
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    progress = Progress(*columns, transient=True)
    with progress, _Steps(progress, progress.add_task(label, total=None)):
        yield


def compute(label: str, n_bytes: int, *collections: Any, show: bool) -> tuple[Any, ...]:
    """Compute wherever the user has it: the current Client, or the local scheduler with a bar."""
    announce_compilation(show=show)
    client = _client()
    if client is not None:
        futures = client.compute(collections)
        try:
            if show:
                from distributed import progress

                progress(futures)
            return tuple(client.gather(futures))
        except BaseException:
            client.cancel(futures)  # a traceback that is kept would keep the cluster at work
            raise
    with shown(label, n_bytes, show=show):
        return dask.base.compute(*collections)


def _client() -> Any:
    """The dask Client that computing would use, or None."""
    scheduler = dask.config.get("scheduler", None)
    if scheduler not in (None, "dask.distributed", "distributed"):
        return None
    import sys

    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        client = default_client()
    except ValueError:
        return None
    # One that never reached its scheduler may be the default, and computing on it would not end.
    return client if client.status == "running" else None


def announce_compilation(*, show: bool) -> None:
    """Say so when the kernels must be compiled first: that takes seconds, once."""
    from gigaqc.kernels import fused

    if fused.integer_plane.signatures or fused.float_plane.signatures:
        return
    from pathlib import Path

    folder = fused.integer_plane.stats.cache_path
    if folder is None or not any(Path(folder).glob("fused.*_plane-*.nbi")):
        message = "compiling kernels: about 20 s, on the first run only"
        logger.info(message)
        if show:
            from rich.console import Console

            Console(stderr=True).print(f"[dim]gigaqc: {message}[/dim]")
