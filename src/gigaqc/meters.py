"""How a bar is drawn: by rich in a terminal, by the browser in a notebook."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from html import escape
from typing import Any, Protocol

from gigaqc.representation import readable_bytes


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
