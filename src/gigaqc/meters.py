"""How a bar is drawn: by rich in a terminal, and by what a notebook has."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
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


@contextlib.contextmanager
def metered(label: str, n_bytes: int | None = None) -> Iterator[Meter | None]:
    """Show a bar of bytes, or of steps without `n_bytes`, with rate and time left.

    In a notebook without ipywidgets rich could draw nothing and would warn: tqdm draws the bar
    there, and where that is not installed dask's own, which moves by itself (None).
    """
    if not in_notebook() or _installed("ipywidgets"):
        with _rich_bar(label, n_bytes) as meter:
            yield meter
    elif _installed("tqdm"):
        from tqdm import tqdm

        units = {"unit": " steps"} if n_bytes is None else {"unit": "B", "unit_scale": True}
        with tqdm(desc=label, total=n_bytes, leave=False, **units) as bar:
            yield _Tqdm(bar)
    else:
        from dask.diagnostics.progress import ProgressBar

        with ProgressBar():
            yield None


@contextlib.contextmanager
def _rich_bar(label: str, n_bytes: int | None) -> Iterator[Meter]:
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

    amounts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
    if n_bytes is not None:
        amounts = (DownloadColumn(binary_units=True), TransferSpeedColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *amounts, TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        yield _Rich(progress, progress.add_task(label, total=n_bytes))


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return "ipykernel" in sys.modules


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
