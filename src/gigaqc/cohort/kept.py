"""What is kept of each sample, while a cohort runs and for the next run."""

from __future__ import annotations

import enum
import json
import os
import pickle
import re
import shutil
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from gigaqc.base import __version__, machine
from gigaqc.cohort.plan import Entry, Options
from gigaqc.cohort.rows import ExpectedPairs, Opened, judge
from gigaqc.errors import WriteError
from gigaqc.formulas.catalogue import added, take_over
from gigaqc.formulas.record import Metric
from gigaqc.formulas.rules import Rules
from gigaqc.report import render
from gigaqc.report.templating import write_text
from gigaqc.statistics.statistics import FORMAT, write_files
from gigaqc.stores.identity import identity_of
from gigaqc.verdict.assessment import kept_files, plain
from gigaqc.verdict.progress import current_client
from gigaqc.verdict.samples import SampleSource

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
        if opened.image.nbytes > machine.sample_memory():
            return None
        return self._client.submit(make, packed(entry, opened, self._order), pure=False)


SAMPLE_FORMAT = "gigaqc-sample-1"
_KEY = "batch"  # of the JSON file: where all this stands
_LEFT = re.compile(r"\.(gigaqc-[0-9a-f]{32}\.tmp|gigaqc-\w{8}|.+\.zarr\.[0-9a-f]{8}\.partial)")


class Completeness(enum.Enum):
    """What there is of a sample."""

    NOTHING = enum.auto()  # or what cannot be used: of other pixels, parameters, or half of it
    STATISTICS = enum.auto()  # to be judged: by other rules, or its page is missing
    COMPLETE = enum.auto()
    FOREIGN = enum.auto()  # of something else: not to be replaced unless asked


class SampleResults(Protocol):
    """What is kept of a sample: an `Assessment`, or what a worker made of one."""

    def to_dict(self) -> dict[str, Any]:
        """The numbers, in plain values."""

    def to_html(self, path: Path) -> None:
        """Write the page."""

    def save(self, path: Path) -> None:
        """Write the statistics and what the verdict needs beside them."""


@dataclass(frozen=True)
class Wanted:
    """What the results of a sample must have been made from and by."""

    where: str
    reading: str | None  # None where the source cannot be looked at
    judging: str
    tissue_method: str
    page: bool

    @classmethod
    def of(
        cls, entry: Entry, options: Options, rules: Rules, pairs: list[list[str]], *, page: bool
    ) -> Wanted:
        """Settled from the source and the parameters; no pixel is read."""
        tissue = options.tissue if entry.tissue is None else entry.tissue
        try:
            image = identity_of(entry.source, entry.element)
            labels = None if entry.labels is None else entry.labels.identity()
        except Exception:  # whatever it is, opening the source will say
            where, reading = _place(entry), None
        else:
            where = image.where
            reading = _digest(
                SAMPLE_FORMAT, FORMAT, image.content, None if labels is None else labels.content,
                tissue, options.tile, options.full_scale, options.dims, options.channels,
                options.level, options.on_error,
            )  # fmt: skip
        judging = _digest(entry.name, __version__, rules.to_dict(), pairs, *_own_metrics())
        return cls(f"{where} {entry.element or ''}".rstrip(), reading, judging,
                   rules.tissue_method, page)  # fmt: skip


def _own_metrics() -> list[str]:
    """The metrics that this process added, with the code of their formulas."""
    import cloudpickle

    return [blake2b(cloudpickle.dumps(m), digest_size=16).hexdigest() for m in added()]


def _place(entry: Entry) -> str:
    if not entry.shown:
        return "memory"
    return entry.shown if "://" in entry.shown else os.path.abspath(entry.shown)


def _digest(*parts: Any) -> str:
    text = json.dumps(plain(list(parts)), sort_keys=True, default=str)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def look(files: SampleSource, wanted: Wanted) -> tuple[Completeness, dict[str, Any] | None]:
    """What there is of a sample, and its report where that can be used."""
    page, numbers, store = (files.path(suffix) for suffix in (".html", ".json", ".zarr"))
    there = [path for path in (page, numbers, store) if os.path.lexists(path)]
    if not there:
        return Completeness.NOTHING, None
    if os.path.lexists(store) and not _is_ours(store):
        return Completeness.FOREIGN, None
    if not os.path.lexists(numbers):
        # Statistics or a page without numbers are ours, and half of a sample.
        return (Completeness.NOTHING if os.path.lexists(store) else Completeness.FOREIGN), None
    report = _read(numbers)
    if report is None:
        return Completeness.FOREIGN, None
    made = report[_KEY]
    if made["where"] != wanted.where:
        return Completeness.FOREIGN, None
    if wanted.reading is None or made["reading"] != wanted.reading:
        return Completeness.NOTHING, None
    if made["store"] != _inventory(store):
        return Completeness.NOTHING, None
    if made["judging"] != wanted.judging or (wanted.page and not page.is_file()):
        return Completeness.STATISTICS, report
    return Completeness.COMPLETE, report


def has_page(files: SampleSource) -> bool:
    """Whether a complete sample has a page."""
    return files.path(".html").is_file()


def _read(path: Path) -> dict[str, Any] | None:
    """The report of a sample as a batch wrote it, or None."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        made = report[_KEY]
        return report if made["format"] == SAMPLE_FORMAT and made.keys() >= _MADE else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


_MADE = {"where", "reading", "judging", "store"}


def _is_ours(store: Path) -> bool:
    """Whether a folder is statistics of gigaqc, and not an image that has the name of a sample."""
    try:
        about = json.loads((store / "zarr.json").read_bytes())
        return str(about["attributes"]["format"]).startswith("gigaqc-statistics")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _inventory(store: Path) -> list[int]:
    """Number and bytes of the files of a store: a store that lost some does not count as kept."""
    count = total = 0
    for folder, _, files in os.walk(store):
        for name in files:
            count, total = count + 1, total + os.path.getsize(os.path.join(folder, name))
    return [count, total]


def refuse(files: SampleSource, name: str, *, overwrite: bool) -> None:
    """Raise for files that are not ours, or of another source."""
    store = files.path(".zarr")
    if os.path.lexists(store) and not _is_ours(store):
        raise WriteError(
            f"out: {str(store)!r} holds no statistics of gigaqc and is not replaced; name another "
            "folder."
        )
    if not overwrite:
        existing = ", ".join(str(path) for path in files.existing())
        raise WriteError(
            f"out: {existing} exists already and is not of sample {name[:80]!r}: it came from "
            "another source, or from no batch; name another folder or allow to overwrite."
        )


def clear(files: SampleSource) -> None:
    """Remove what there is of a sample; never a store that holds something else."""
    refuse(files, files.name, overwrite=True)
    for suffix in (".json", ".html", ".zarr"):  # the mark of completeness goes first
        path = files.path(suffix)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def keep(
    verdict: SampleResults, files: SampleSource, wanted: Wanted, *, anew: bool
) -> dict[str, Any]:
    """Write the results of a sample, the JSON file last; gives what that holds.

    Parameters
    ----------
    anew
        Write the statistics too; otherwise those that are there stay.
    """
    if anew:
        clear(files)
    try:
        if anew:
            verdict.save(files.path(".zarr"))
        else:
            # A page by new rules beside numbers by old ones must not look complete.
            _write(files, {**verdict.to_dict(), _KEY: _made(files, wanted, judged=False)})
        if wanted.page:
            verdict.to_html(files.path(".html"))
        else:
            files.path(".html").unlink(missing_ok=True)
        report = {**verdict.to_dict(), _KEY: _made(files, wanted, judged=True)}
        _write(files, report)
    except BaseException:
        if anew:
            clear(files)
        raise
    return report


def _made(files: SampleSource, wanted: Wanted, *, judged: bool) -> dict[str, Any]:
    return {
        "format": SAMPLE_FORMAT,
        "where": wanted.where,
        "reading": wanted.reading,
        "judging": wanted.judging if judged else None,
        "store": _inventory(files.path(".zarr")),
    }


def _write(files: SampleSource, report: Mapping[str, Any]) -> None:
    write_text(files.path(".json"), json.dumps(report, indent=1, allow_nan=False))


def sweep(out: Path) -> None:
    """Remove what a killed run left half-written."""
    for path in out.iterdir():
        if not _LEFT.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
