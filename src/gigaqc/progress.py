"""A progress bar with rate and time left, for the local schedulers and for a dask Client."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import dask.config
from dask.callbacks import Callback

from gigaqc import machine
from gigaqc.graph.tasks import Reading
from gigaqc.meters import Meter, in_notebook, metered, outermost
from gigaqc.representation import readable_bytes

logger = logging.getLogger("gigaqc")


class _Bar(Callback):
    """Moves a meter by bytes: each reading task stands for its share of them."""

    def __init__(self, meter: Meter, n_bytes: int) -> None:
        super().__init__(start_state=self._begin, posttask=self._step)
        self._meter, self._bytes = meter, n_bytes
        self._share = 0.0
        self._reading: set[Any] = set()

    def _begin(self, graph: Any, state: Any) -> None:
        self._reading = {key for key, task in graph.items() if isinstance(task, Reading)}
        self._share = self._bytes / max(len(self._reading), 1)

    def _step(self, key: Any, *_: Any) -> None:
        if key in self._reading:
            self._meter.advance(self._share)


class _TaskCounter(Callback):
    """Moves a meter by tasks, of as many computations as there come to be."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(start_state=self._begin, posttask=self._step)
        self._meter, self._total = meter, 0

    def _begin(self, graph: Any, state: Any) -> None:
        self._total += len(graph)
        self._meter.expect(self._total)

    def _step(self, *_: Any) -> None:
        self._meter.advance(1)


@contextlib.contextmanager
def shown(label: str, n_bytes: int, *, show: bool) -> Iterator[None]:
    """Show a bar, with rate and time left, while the local scheduler computes inside."""
    if not show:
        yield
        return
    with metered(label, n_bytes) as meter, _Bar(meter, n_bytes):
        yield


@contextlib.contextmanager
def tasks_shown(label: str, *, show: bool) -> Iterator[None]:
    """Show a bar of tasks while the local scheduler computes, once or several times, inside."""
    if not show:
        yield
        return
    with metered(label) as meter, _TaskCounter(meter):
        yield


@contextlib.contextmanager
def samples_shown(total: int, *, show: bool) -> Iterator[Callable[[], None]]:
    """Show a bar of samples, under which others show theirs; gives what moves it by one."""
    if not show:
        yield lambda: None
        return
    with outermost("samples", total) as meter:
        yield lambda: meter.advance(1)


def compute(label: str, n_bytes: int, *collections: Any, show: bool) -> tuple[Any, ...]:
    """Compute wherever the user has it: the current Client, or the local scheduler with a bar."""
    announce_compilation(show=show)
    start = time.perf_counter()
    client = current_client()
    if client is None:
        with shown(label, n_bytes, show=show):
            results = machine.compute(*collections)
    else:
        futures = client.compute(collections)
        try:
            if show:
                from distributed import progress

                progress(futures)
            results = tuple(client.gather(futures))
        except BaseException:
            client.cancel(futures)  # a traceback that is kept would keep the cluster at work
            raise
    seconds = time.perf_counter() - start
    logger.info("%s: %s in %.2f s", label, readable_bytes(n_bytes), seconds)
    return results


def watched() -> bool:
    """Whether somebody is there to watch a bar: a terminal, or a notebook."""
    return in_notebook() or bool(sys.stderr is not None and sys.stderr.isatty())


def current_client() -> Any:
    """The dask Client that computing would use, or None."""
    if machine.is_alone():
        return None
    scheduler = dask.config.get("scheduler", None)
    if scheduler not in (None, "dask.distributed", "distributed"):
        return None
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
