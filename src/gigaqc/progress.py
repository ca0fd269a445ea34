"""A progress bar with rate and time left, for the local schedulers and for a dask Client."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import dask.base
import dask.config
from dask.callbacks import Callback

from gigaqc.representation import readable_bytes

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
    if in_notebook():
        with _NotebookBar(label, readable_bytes) as bar, _Bar(bar, None, n_bytes):
            bar.update(None, total=n_bytes)
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


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    import sys

    return "ipykernel" in sys.modules


class _NotebookBar:
    """A bar in a cell's output, gone at the end; rich's needs ipywidgets and leaves a gap.

    It has the methods of rich's that are used here. What takes less than half a second has no bar.
    """

    def __init__(self, label: str, words: Callable[[float], str]) -> None:
        self._label, self._words = label, words
        self._done, self._total = 0.0, 0.0
        self._handle: Any = None
        self._start = time.monotonic()
        self._next = self._start + 0.5

    def __enter__(self) -> _NotebookBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            from IPython.display import HTML

            self._handle.update(HTML(""))

    def update(self, task: Any, *, total: float) -> None:
        """Set how much there is."""
        self._total = total

    def advance(self, task: Any, by: float = 1) -> None:
        """Note what was done, and show it five times a second."""
        self._done += by
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 0.2
        from IPython.display import HTML, display

        said = HTML(self._html(now - self._start))
        if self._handle is None:
            self._handle = display(said, display_id=True)
        else:
            self._handle.update(said)

    def _html(self, seconds: float) -> str:
        left = seconds * (self._total - self._done) / max(self._done, 1e-9)
        return (
            f'<progress value="{self._done:.0f}" max="{max(self._total, 1):.0f}"></progress> '
            f"{self._label}: {self._words(self._done)} of {self._words(self._total)}, "
            f"{self._words(self._done / seconds)}/s, {max(left, 0):.0f} s left"
        )


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
    if in_notebook():
        with _NotebookBar(label, lambda n: f"{n:,.0f}") as bar, _Steps(bar, None):
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
        if show:
            from distributed import progress

            progress(futures)
        return tuple(client.gather(futures))
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
