"""`assess_batch`: many samples, one after another, and a folder that a second run completes."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gigaqc.cohort import kept
from gigaqc.cohort.kept import Completeness, Flight, Order, Wanted
from gigaqc.cohort.plan import Entry, Options, plan
from gigaqc.cohort.result import Cohort
from gigaqc.cohort.rows import (
    ChannelRows,
    ExpectedPairs,
    Opened,
    channel_rows,
    channel_table,
    failed_row,
    judge,
    judge_again,
    summary_row,
    summary_table,
)
from gigaqc.errors import (
    ChannelWarning,
    GigaqcError,
    ParameterError,
    ReadError,
    StatisticsError,
    WriteError,
)
from gigaqc.formulas.rules import Rules
from gigaqc.image.labelled import parse_dims
from gigaqc.scanning.scan import check_tile
from gigaqc.statistics.unreadable import OnError, check_on_error
from gigaqc.typing import ChannelLike, ImageLike, LabelsLike, MaskLike, PathLike
from gigaqc.verdict.assessment import Assessment
from gigaqc.verdict.progress import samples_shown, watched
from gigaqc.verdict.samples import make_writable

logger = logging.getLogger("gigaqc")


@dataclass(frozen=True)
class Outcome:
    """How one sample ended, for whoever follows a run."""

    name: str
    file: str  # its results without their suffix
    count: int  # samples of the run
    status: str | None  # None where it could not be assessed
    before: bool = False  # complete before this run
    verdict: Assessment | None = None  # None where it was judged before, or elsewhere
    error: Exception | None = None


def assess_batch(
    sources: PathLike | Sequence[PathLike] | Mapping[str, ImageLike] | pd.DataFrame,
    out: PathLike,
    *,
    labels: str | Mapping[str, LabelsLike] | None = None,
    tissue: ChannelLike | MaskLike | bool | None = None,
    rules: Rules | str | os.PathLike[str] = "robust",
    tile: int = 512,
    expected_pairs: Iterable[tuple[str, str]] = (),
    full_scale: float | None = None,
    on_error: OnError = "raise",
    dims: str | None = None,
    channels: Sequence[str] | None = None,
    element: str | None = None,
    level: int = 0,
    pages: bool = True,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Cohort:
    """Judge many images into a folder that a second run completes. Runs now.

    Parameters
    ----------
    sources
        Paths, globs, folders or URLs, one or a list; each image of a store or file with several is
        a sample, and each match of a glob. A folder of single-channel TIFFs is one image, any other
        folder the images in it. Or a sample sheet: a CSV file, or a DataFrame, with the columns
        ``sample path`` and perhaps ``labels tissue batch element`` and ``order`` (numbers) or
        ``acquired`` (dates, times); a path in it starts at the file's folder. Or a mapping of names
        to images in memory or paths.
    out
        A folder. ``summary.csv`` and ``.parquet`` (one row a sample), ``channels.csv`` and
        ``.parquet`` (one row a channel of a sample), ``index.html``, and of each sample
        ``NAME.html``, ``NAME.json`` and ``NAME.zarr``. They describe the samples of this call.
    labels
        A mapping of sample names to label images or their paths; a path with ``{sample}`` in it;
        or the name of the labels in the store of each image. A sheet's own go first.
    tissue, rules, tile, expected_pairs, full_scale, on_error
        As in `assess`. A sheet's tissue channel goes first, and may be ``none``. A pair counts
        where a sample has both channels.
    dims, channels, element, level
        As in `open_image`.
    pages
        Write a page for each sample.
    overwrite
        Do all samples again, and replace what another source left under the same name.
    progress
        Show how many samples are done. None: in a terminal or a notebook.

    Returns
    -------
    Cohort

    Raises
    ------
    ParameterError, RulesError, ImageTypeError, SourceNotFoundError
        When a parameter, the sheet or `sources` as a whole is wrong; before any pixel is read.
    WriteError
        When `out` cannot be written to, another run works in it, or it holds results of another
        source under the name of a sample (pass ``overwrite=True``).

    Notes
    -----
    A sample that cannot be opened or read is a row with its ``error``, and the others go on.

    A sample is complete when its statistics, page and numbers are there and were made from the same
    source (place, names, sizes and times of its files) with the same parameters. A second run reads
    no pixel of these and does the rest. With other `rules` or `expected_pairs` it judges from the
    statistics, and reads nothing; only rules that find tissue in another way read the tissue
    channel once. With other parameters, or a source that changed, a sample is read again. However
    often a run was stopped, the tables come out the same to the bit.

    Chunks that were replaced behind a URL do not show; use `overwrite` then. Images in memory are
    known by their values, those of dask only within this process.

    Runs on the current dask ``Client`` where there is one, else on threads. On a cluster each image
    of at most 128 MiB is judged by one worker, several at a time; workers need to see the images,
    not `out`.

    Examples
    --------
    >>> import tempfile, numpy as np, gigaqc as gq
    >>> noise = np.random.default_rng(0).poisson(5, (2, 1, 64, 64)).astype("u2")
    >>> with tempfile.TemporaryDirectory() as out:
    ...     cohort = gq.assess_batch({"a": noise[0], "b": noise[1]}, out, progress=False)
    >>> cohort.summary[["sample", "status"]].to_numpy().tolist()
    [['a', 'FAIL'], ['b', 'FAIL']]
    """
    names = None if channels is None else tuple(channels)
    options = Options(tissue, tile, full_scale, dims, names, level, on_error)
    return run_batch(
        sources, out, options, labels=labels, rules=rules, expected_pairs=expected_pairs,
        element=element, pages=pages, overwrite=overwrite,
        show=watched() if progress is None else progress,
    )  # fmt: skip


def run_batch(
    sources: Any,
    out: str | os.PathLike[str],
    options: Options,
    *,
    labels: Any = None,
    rules: Rules | str | os.PathLike[str] = "robust",
    expected_pairs: Iterable[tuple[str, str]] = (),
    element: str | None = None,
    pages: bool = True,
    overwrite: bool = False,
    show: bool = False,
    follow: Callable[[Outcome], None] | None = None,
) -> Cohort:
    """`assess_batch` for those who want to hear of each sample when it is done."""
    chosen, pairs = Rules.of(rules), _pairs(expected_pairs)
    _check(options)
    folder = Path(out)
    entries = plan(
        sources, folder, element=element, labels=labels, tissue=options.tissue, dims=options.dims
    )
    make_writable(folder)
    with _alone(folder):
        kept.sweep(folder)
        batch = _Batch(entries, options, chosen, pairs, pages, show, follow or (lambda _: None))
        cohort = batch.run(folder, overwrite)
        cohort.write()
    _warn_unknown(pairs, cohort.channels)
    return cohort


@dataclass(frozen=True)
class _SampleRow:
    summary: dict[str, Any]
    channels: ChannelRows | None = None


@dataclass
class _Batch:
    """One run over the samples."""

    entries: list[Entry]
    options: Options
    rules: Rules
    pairs: ExpectedPairs
    pages: bool
    show: bool
    follow: Callable[[Outcome], None]

    def run(self, out: Path, overwrite: bool) -> Cohort:
        """Do what is not complete; gives the tables."""
        rows: dict[int, _SampleRow] = {}
        todo = []
        for position, entry in enumerate(self.entries):
            wanted = self._wanted(entry)
            found, report = kept.look(entry.files, wanted)
            if found is Completeness.FOREIGN:
                kept.refuse(entry.files, entry.name, overwrite=overwrite)
            if found is Completeness.COMPLETE and report is not None and not overwrite:
                rows[position] = self._row(entry, report)
                self._tell(entry, str(report["status"]), before=True)
            else:
                again = found is Completeness.STATISTICS and not overwrite
                todo.append((position, entry, wanted, again))
        with samples_shown(len(self.entries), show=self.show) as done:
            for _ in rows:
                done()
            to_read = [entry for _, entry, _, again in todo if not again]
            order = Order(self.options, self.rules, self.pairs, self.pages)
            with contextlib.closing(Flight(to_read, order)) as flight:
                for position, entry, wanted, again in todo:
                    rows[position] = self._do(entry, wanted, again, flight)
                    done()
        ordered = [rows[k] for k in range(len(self.entries))]
        return Cohort(
            out,
            summary_table([r.summary for r in ordered]),
            channel_table([r.channels for r in ordered if r.channels is not None]),
            self.rules,
        )

    def _do(self, entry: Entry, wanted: Wanted, again: bool, flight: Flight) -> _SampleRow:
        """Read, judge and write one sample."""
        try:
            made = None if again else flight.take(entry)
            verdict, anew = (made, True) if made is not None else self._judge(entry, again)
            report = kept.keep(verdict, entry.files, wanted, anew=anew)
        except WriteError:
            raise  # the next sample could not be written either
        except Exception as error:
            return self._failed(entry, error)
        own = verdict if isinstance(verdict, Assessment) else None
        self._tell(entry, verdict.status, verdict=own)
        return self._row(entry, report)

    def _judge(self, entry: Entry, again: bool) -> tuple[Assessment, bool]:
        """The verdict, and whether there are statistics to be written."""
        if again:
            with contextlib.suppress(ReadError, StatisticsError):  # damaged: read the image again
                return judge_again(entry, self.options, self.rules, self.pairs, show=self.show)
        opened = Opened.of(entry, self.options)
        return judge(entry, opened, self.options, self.rules, self.pairs, show=self.show), True

    def _failed(self, entry: Entry, error: Exception) -> _SampleRow:
        expected = isinstance(error, (GigaqcError, OSError))
        logger.log(
            logging.INFO if expected else logging.WARNING, "%s could not be assessed: %s",
            entry.name[:80], error, exc_info=not expected,
        )  # fmt: skip
        self._tell(entry, None, error=error)
        return _SampleRow(failed_row(entry, error))

    def _tell(self, entry: Entry, status: str | None, **how: Any) -> None:
        self.follow(Outcome(entry.name, entry.files.name, len(self.entries), status, **how))

    def _row(self, entry: Entry, report: dict[str, Any]) -> _SampleRow:
        page = kept.has_page(entry.files)
        return _SampleRow(summary_row(entry, report, page=page), channel_rows(entry, report))

    def _wanted(self, entry: Entry) -> Wanted:
        pairs = [list(pair) for pair in self.pairs]
        return Wanted.of(entry, self.options, self.rules, pairs, page=self.pages)


def _check(options: Options) -> None:
    check_tile(options.tile)
    check_on_error(options.on_error)
    scale = options.full_scale
    if scale is not None and not math.isfinite(scale):
        raise ParameterError(f"full_scale: got {scale!r}; pass a finite number.")
    if options.dims is not None:
        parse_dims(options.dims, len(options.dims), "sources")
    if options.tissue is not None and not isinstance(options.tissue, (str, int)):
        raise ParameterError(
            f"tissue: got {type(options.tissue).__name__}; pass a channel, False, or None, which "
            "takes the nuclear channel."
        )


def _pairs(given: Iterable[tuple[str, str]]) -> ExpectedPairs:
    pairs = [tuple(str(name) for name in pair) for pair in given]
    for pair in pairs:
        if len(pair) != 2:
            raise ParameterError(f"expected_pairs: got {pair!r}; each is two channels.")
    return [(pair[0], pair[1]) for pair in pairs]


def _warn_unknown(pairs: ExpectedPairs, channels: pd.DataFrame) -> None:
    """A pair that no sample has is a slip of the pen."""
    have = channels.groupby("sample")["channel"].agg(set).tolist() if len(channels) else []
    unknown = [pair for pair in pairs if not any(set(pair) <= names for names in have)]
    if unknown and have:
        warnings.warn(
            f"expected_pairs: no sample has the channels {unknown[0]!r}; check the spelling.",
            ChannelWarning,
            stacklevel=4,
        )


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep a second run out of the folder; the lock goes with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WriteError(
                f"out: another run is writing into {str(out)!r}; wait for it, or name another "
                "folder."
            ) from error
        except OSError:  # a file system without locks
            logger.info("%s cannot be locked; do not start a second run there", out)
        yield
    finally:
        os.close(handle)
