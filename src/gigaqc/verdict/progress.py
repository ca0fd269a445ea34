"""A bar with rate and time left, in a terminal, in a notebook, and for a dask Client."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from html import escape
from typing import Any, Protocol

import dask.config
from dask.callbacks import Callback

from gigaqc.base import machine
from gigaqc.base.formatting import readable_bytes
from gigaqc.graph.tasks import ReadingTask


class Meter(Protocol):
    """A bar that moves."""

    def expect(self, total: float) -> None:
        """Say where it ends."""

    def advance(self, amount: float) -> None:
        """Move it on."""


class _Rich:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def expect(self, total: float) -> None:
        self._progress.update(self._task, total=total)

    def advance(self, amount: float) -> None:
        self._progress.advance(self._task, amount)


class _Notebook:
    """A bar in a cell's output, gone at the end; rich's needs ipywidgets and leaves a gap.

    What takes less than half a second has no bar.
    """

    def __init__(self, label: str, total: float | None, words: Callable[[float], str]) -> None:
        self._label, self._words = label, words
        self._done, self._total = 0.0, total or 0.0
        self._handle: Any = None
        self._start = time.monotonic()
        self._next = self._start + 0.5

    def expect(self, total: float) -> None:
        self._total = total

    def advance(self, amount: float) -> None:
        self._done += amount
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 0.2
        self._show(self._html(now - self._start))

    def close(self) -> None:
        if self._handle is not None:
            self._show("")

    def _show(self, html: str) -> None:
        from IPython.display import HTML, display

        if self._handle is None:
            self._handle = display(HTML(html), display_id=True)
        else:
            self._handle.update(HTML(html))

    def _html(self, seconds: float) -> str:
        left = seconds * (self._total - self._done) / max(self._done, 1e-9)
        return (
            f'<progress value="{self._done:.0f}" max="{max(self._total, 1):.0f}"></progress> '
            f"{escape(self._label)}: {self._words(self._done)} of {self._words(self._total)}, "
            f"{self._words(self._done / seconds)}/s, {max(left, 0):.0f} s left"
        )


_OUTER: ContextVar[Any] = ContextVar("outer", default=None)
"""rich's display while several bars share it: a terminal shows one at a time."""


@contextlib.contextmanager
def metered(label: str, n_bytes: int | None = None) -> Iterator[Meter]:
    """Show a bar of bytes, or of steps without `n_bytes`, with rate and time left."""
    outer = _OUTER.get()
    if outer is not None:
        task = outer.add_task(label, total=n_bytes, bytes=n_bytes is not None)
        try:
            yield _Rich(outer, task)
        finally:
            outer.remove_task(task)
    elif in_notebook():
        with _in_cell(label, n_bytes, _count if n_bytes is None else readable_bytes) as meter:
            yield meter
    else:
        with _display() as progress:
            task = progress.add_task(label, total=n_bytes, bytes=n_bytes is not None)
            yield _Rich(progress, task)


@contextlib.contextmanager
def outermost(label: str, total: int) -> Iterator[Meter]:
    """Show a bar of steps, above those that `metered` shows inside."""
    if in_notebook():
        with _in_cell(label, total, _count) as meter:
            yield meter
        return
    with _display() as progress:
        token = _OUTER.set(progress)
        try:
            yield _Rich(progress, progress.add_task(label, total=total, bytes=False))
        finally:
            _OUTER.reset(token)


@contextlib.contextmanager
def _in_cell(label: str, total: float | None, words: Callable[[float], str]) -> Iterator[_Notebook]:
    meter = _Notebook(label, total, words)
    try:
        yield meter
    finally:
        meter.close()


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _display() -> Any:
    """Bars of bytes, with their rate, and of steps."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Amount(ProgressColumn):
        """How many bytes and how fast, or how many steps."""

        steps, size = MofNCompleteColumn(), DownloadColumn(binary_units=True)
        speed = TransferSpeedColumn()

        def render(self, task: Any) -> Text:
            if not task.fields["bytes"]:
                return self.steps.render(task)
            return Text(" ").join([self.size.render(task), self.speed.render(task)])

    columns = (TextColumn("{task.description}"), BarColumn(), Amount(), TimeRemainingColumn())
    return Progress(*columns, transient=True)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    interactive = sys.modules.get("IPython")
    shell = None if interactive is None else interactive.get_ipython()
    return getattr(shell, "kernel", None) is not None


logger = logging.getLogger("gigaqc")


class _Bar(Callback):
    """Moves a meter by bytes: each reading task stands for its share of them."""

    def __init__(self, meter: Meter, n_bytes: int) -> None:
        super().__init__(start_state=self._begin, posttask=self._step)
        self._meter, self._bytes = meter, n_bytes
        self._share = 0.0
        self._reading: set[Any] = set()

    def _begin(self, graph: Any, state: Any) -> None:
        self._reading = {key for key, task in graph.items() if isinstance(task, ReadingTask)}
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
