"""Small samples on a cluster: each is one task, and several are on their way at a time.

Spread over a cluster, the few chunks of a small image leave most of it idle, and pages are made one
after another. So a worker makes all that is kept of a sample, and the files are written here: the
folder of a cohort need not be seen by workers.
"""

from __future__ import annotations

import os
import pickle
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gigaqc import config, machine
from gigaqc.assessment import kept_files
from gigaqc.cohort.judging import ExpectedPairs, Opened, judge
from gigaqc.cohort.plan import Entry, Options
from gigaqc.formulas.catalogue import added, take_over
from gigaqc.formulas.record import Metric
from gigaqc.progress import current_client
from gigaqc.report import render
from gigaqc.report.write import write_text
from gigaqc.rules import Rules
from gigaqc.statistics import write_files

_AHEAD = 2  # samples that each thread has before it


@dataclass(frozen=True)
class Made:
    """What a worker made of a sample; it is written as an `Assessment` is."""

    status: str
    report: dict[str, Any]
    page: str | None
    store: Mapping[str, bytes]

    def to_dict(self) -> dict[str, Any]:
        """The numbers, in plain values."""
        return self.report

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page."""
        assert self.page is not None
        write_text(path, self.page)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the statistics and what the verdict needs beside them."""
        write_files(path, self.store)


@dataclass(frozen=True)
class Order:
    """What is asked of every sample."""

    options: Options
    rules: Rules
    pairs: ExpectedPairs
    page: bool
    metrics: tuple[Metric, ...] = field(default_factory=added)  # that this process added


def packed(entry: Entry, opened: Opened, order: Order) -> bytes:
    """What `make` takes, as a kilobyte or two: a cluster remembers its last thousand messages."""
    from distributed.protocol.pickle import dumps

    return zlib.compress(dumps((entry, opened, order)), 1)


def make(content: bytes) -> Made:
    """All that is kept of a sample, computed by the thread that is asked."""
    entry, opened, order = pickle.loads(zlib.decompress(content))
    take_over(order.metrics)
    with machine.alone():
        verdict = judge(entry, opened, order.options, order.rules, order.pairs, show=False)
        page = render(verdict) if order.page else None
        return Made(verdict.status, verdict.to_dict(), page, kept_files(verdict))


class Flight:
    """The samples that are to be read, the next few of which are at work on the cluster.

    Parameters
    ----------
    entries
        In the order in which they will be asked for.
    order
        What is asked of them.
    """

    def __init__(self, entries: Iterable[Entry], order: Order) -> None:
        self._waiting, self._order = deque(entries), order
        # A future; or what was raised when it was opened; or None, where it is not for one worker.
        self._begun: dict[str, Any] = {}
        # One sample alone has the whole cluster.
        self._client: Any = current_client() if len(self._waiting) > 1 else None

    def take(self, entry: Entry) -> Made | None:
        """The results of a sample, or None where it is not for one worker to judge.

        Raises what judging it raised.
        """
        if self._client is None:
            return None
        ahead = _AHEAD * machine.threads()
        while self._waiting and len(self._begun) < ahead:
            following = self._waiting.popleft()
            self._begun[following.name] = self._begin(following)
        begun = self._begun.pop(entry.name, None)
        if isinstance(begun, Exception):
            raise begun
        if begun is None:
            return None
        try:
            return begun.result()
        finally:
            begun.release()

    def close(self) -> None:
        """Let the cluster stop with what was not asked for."""
        futures = [b for b in self._begun.values() if not isinstance(b, Exception | None)]
        self._begun.clear()
        if futures:
            self._client.cancel(futures)

    def _begin(self, entry: Entry) -> Any:
        """What a worker will have made of a sample, if that is small and a worker can read it."""
        if not entry.is_stored:
            return None
        try:
            opened = Opened.of(entry, self._order.options)
        except Exception as error:
            return error
        if opened.image.nbytes > config.sample_memory():
            return None
        return self._client.submit(make, packed(entry, opened, self._order), pure=False)
