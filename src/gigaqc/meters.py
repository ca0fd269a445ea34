"""How a bar is drawn: by rich in a terminal, and by what a notebook has."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol


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


class _Tqdm:
    def __init__(self, bar: Any) -> None:
        self._bar, self._whole = bar, 0.0

    def expect(self, total: float) -> None:
        self._bar.total = total

    def advance(self, amount: float) -> None:
        # tqdm writes out its number as it is; shares of bytes are no whole numbers.
        before, self._whole = round(self._whole), self._whole + amount
        self._bar.update(round(self._whole) - before)


class _Nothing:
    def expect(self, total: float) -> None:
        pass

    def advance(self, amount: float) -> None:
        pass


_OUTER: ContextVar[Any] = ContextVar("outer", default=None)
"""rich's display while several bars share it: a terminal shows one at a time."""


@contextlib.contextmanager
def metered(label: str, n_bytes: int | None = None) -> Iterator[Meter | None]:
    """Show a bar of bytes, or of steps without `n_bytes`, with rate and time left.

    In a notebook without ipywidgets rich could draw nothing and would warn: tqdm draws the bar
    there, and where that is not installed dask's own, which moves by itself (None).
    """
    outer = _OUTER.get()
    if outer is not None:
        task = outer.add_task(label, total=n_bytes, bytes=n_bytes is not None)
        try:
            yield _Rich(outer, task)
        finally:
            outer.remove_task(task)
    elif _rich_draws():
        with _display() as progress:
            task = progress.add_task(label, total=n_bytes, bytes=n_bytes is not None)
            yield _Rich(progress, task)
    elif _installed("tqdm"):
        with _tqdm(label, n_bytes, n_bytes is not None) as meter:
            yield meter
    else:
        from dask.diagnostics.progress import ProgressBar

        with ProgressBar():
            yield None


@contextlib.contextmanager
def outermost(label: str, total: int) -> Iterator[Meter]:
    """Show a bar of steps, above those that `metered` shows inside."""
    if _rich_draws():
        with _display() as progress:
            token = _OUTER.set(progress)
            try:
                yield _Rich(progress, progress.add_task(label, total=total, bytes=False))
            finally:
                _OUTER.reset(token)
    elif _installed("tqdm"):
        with _tqdm(label, total, False) as meter:
            yield meter
    else:
        yield _Nothing()


@contextlib.contextmanager
def _tqdm(label: str, total: int | None, in_bytes: bool) -> Iterator[Meter]:
    from tqdm import tqdm

    units = {"unit": "B", "unit_scale": True} if in_bytes else {"unit": " steps"}
    with tqdm(desc=label, total=total, leave=False, **units) as bar:
        yield _Tqdm(bar)


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


def _rich_draws() -> bool:
    return not in_notebook() or _installed("ipywidgets")


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return "ipykernel" in sys.modules


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
