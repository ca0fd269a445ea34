"""One run, one table of ratios.

    python -m benchmarks [--quick] [--only verdict storage ...] [--runs 5] [--side 4096] [--write]

Each function in turn, round by round; a ratio is the median over the rounds of two times of the
same round, the spread their lowest and highest. `--write` puts the table of each group between its
markers in `docs/performance.md` when the group is done, with machine and date, so that a run which
is stopped keeps what was measured; rows that the README shows get their new ratios.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks import _page
from benchmarks._question import ROOT, Question, Row


def parser(title: str) -> argparse.ArgumentParser:
    """What every command takes."""
    found = argparse.ArgumentParser(description=title)
    found.add_argument("--quick", action="store_true", help="small images, 3 rounds")
    found.add_argument("--side", type=int, help="pixels a side instead of each question's own")
    found.add_argument("--runs", type=int, help="rounds instead of each question's own")
    found.add_argument("--threads", type=int, default=2)
    found.add_argument("--store", type=Path, help="folder that keeps the images for the next run")
    return found


def measured(
    questions: Iterable[Question], folder: Path, options: argparse.Namespace
) -> Iterator[Row]:
    """Rows as they come."""
    runs = options.runs or (3 if options.quick else None)
    for question in questions:
        for case in question.cases:
            size = question.size(case, options.quick, options.side)
            yield from question.rows(folder, size, runs, options.threads)


def show(questions: Iterable[Question], folder: Path, options: argparse.Namespace) -> list[Row]:
    """Print rows as they come."""
    rows = []
    for row in measured(questions, folder, options):
        rows.append(row)
        print(f"| {' | '.join(row)} |", flush=True)
    return rows


def ask(name: str) -> None:
    """The command of one file: `python -m benchmarks.transforms`."""
    module = importlib.import_module(name)
    options = parser((module.__doc__ or "").partition("\n")[0]).parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(_page.table(()))
        show(module.QUESTIONS, options.store or Path(temporary), options)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure groups, and write them."""
    from benchmarks.questions import GROUPS

    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="GROUP")
    options.add_argument("--write", action="store_true", help="into --page and --readme")
    options.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md")
    options.add_argument("--readme", type=Path, default=ROOT / "README.md")
    given = options.parse_args(arguments)
    for group in given.only if given.write else ():
        _page.parted(given.page, group)  # better now than after the minutes of measuring
    start = time.perf_counter()
    print(f"{_page.machine()}\n\n{_page.table(())}")
    with tempfile.TemporaryDirectory() as temporary:
        for group in given.only:
            rows = show(GROUPS[group], given.store or Path(temporary), given)
            if given.write:
                how = f"{given.threads} threads" + ", small images" * given.quick
                _page.replace(given.page, group, _page.section(rows, how))
                _page.refresh(given.readme, rows)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of other libraries
    main()
