"""A question: named functions over prepared stores, timed in turn, and what is compared of them."""

from __future__ import annotations

import contextlib
import inspect
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import dask

from benchmarks._measure import Unavailable, in_turn, ratios
from gigaqc.testing import peak_memory

ROOT = Path(__file__).resolve().parents[1]
SLIDE = "{channels} x {side} x {side} uint16"
Size = dict[str, Any]


class Row(NamedTuple):
    """A line of the table."""

    question: str
    against: str
    ratio: str
    spread: str = ""


@dataclass(frozen=True, eq=False)
class Question:
    """What `python -m benchmarks` and asv measure.

    `prepare(folder, **size)` makes the stores that are not in the folder yet and gives what the
    functions get; as a generator it yields that, and cleans up. The first function is the floor.
    A pair is a function and what its time is divided by; two more names make it a gain: what the
    first is faster than the second, of what the third is faster than the fourth.
    """

    name: str
    group: str
    of: str
    prepare: Callable[..., Any]
    functions: Mapping[str, Callable[[Any], object]]
    full: Mapping[str, Any]
    quick: Mapping[str, Any]
    cases: tuple[Mapping[str, Any], ...] = ({},)
    pairs: tuple[tuple[str, ...], ...] = ()
    notes: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)
    memory: tuple[str, ...] = ()
    runs: int = 5

    def __post_init__(self) -> None:
        floor, *others = self.functions
        object.__setattr__(self, "pairs", self.pairs or tuple((name, floor) for name in others))

    def size(self, case: Mapping[str, Any], quick: bool, side: int | None = None) -> Size:
        """Arguments of `prepare`; the `scale` of a case multiplies the side."""
        size = {**(self.quick if quick else self.full), **case}
        size["side"] = round((side or size["side"]) * size.pop("scale", 1))
        return size

    def label(self, size: Size) -> str:
        """What is measured, in words."""
        return self.of.format(**size)

    @contextlib.contextmanager
    def prepared(self, folder: Path, size: Size) -> Iterator[Any]:
        """What the functions get."""
        if inspect.isgeneratorfunction(self.prepare):
            with contextlib.contextmanager(self.prepare)(folder, **size) as found:
                yield found
        else:
            yield self.prepare(folder, **size)

    def rows(self, folder: Path, size: Size, runs: int | None, threads: int) -> list[Row]:
        """Measure one case."""
        of, lacking, seconds, notes = self.label(size), {}, {}, {}
        try:
            with (
                dask.config.set(scheduler="threads", num_workers=threads),
                self.prepared(folder, size) as found,
            ):
                bound = {n: (lambda f=f: f(found)) for n, f in self.functions.items()}
                seconds = in_turn(bound, runs or self.runs, lacking=lacking)
                notes = {n: note(found) for n, note in self.notes.items() if n in seconds}
        except Unavailable as reason:
            lacking = dict.fromkeys(self.functions, str(reason))
        rows = [compared(of, seconds, pair, lacking, notes) for pair in self.pairs]
        return rows + [self._peak(name, folder, size, threads) for name in self.memory]

    def _peak(self, name: str, folder: Path, size: Size, threads: int) -> Row:
        """Memory of a function in a process of its own, which has run it on a small image."""
        small = self.size({}, quick=True, side=256)
        run = (
            "with question.prepared(Path({!r}), {!r}) as given:\n  question.functions[{!r}](given)"
        )
        setup = (
            "import dask\nfrom pathlib import Path\nfrom benchmarks.questions import QUESTIONS\n"
            f"dask.config.set(scheduler='threads', num_workers={threads})\n"
            f"question = QUESTIONS[{self.name!r}]\n{run.format(str(folder), small, name)}"
        )
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        what, against = f"memory of {named(name, self.label(size))}", "before"
        try:
            used = peak_memory(
                run.format(str(folder), size, name), setup=setup, env={"PYTHONPATH": path}
            )
        except NotImplementedError as reason:
            return Row(what, against, f"not measured: {reason}")
        return Row(what, against, f"{used.growth / 2**20:.0f} MiB more")


def compared(
    of: str,
    seconds: Mapping[str, list[float]],
    pair: Sequence[str],
    lacking: Mapping[str, str],
    notes: Mapping[str, str],
) -> Row:
    """The row of a pair or of a gain."""
    name, floor, *other = pair
    said = f"{floor} ({notes[floor]})" if floor in notes else floor
    if other:
        said = f"{floor}; share of what {other[0].partition(', ')[0]} gains"
    what = named(name, of)
    reasons = [lacking[n] for n in pair if n in lacking]
    if reasons:
        return Row(what, said, f"not measured: {reasons[0]}")
    values = ratios(seconds, name, floor)
    if not other:
        return Row(what, said, *in_words(values))
    gains = [b / a for a, b in zip(values, ratios(seconds, *other), strict=True)]
    return Row(what, said, f"{statistics.median(gains):.2f}", spread(gains))


def named(name: str, of: str) -> str:
    """What was done to what, and how."""
    function, comma, how = name.partition(", ")
    return f"{function} of {of}{comma}{how}"


def in_words(values: Sequence[float]) -> tuple[str, str]:
    """Median and spread of ratios, said so that they are above one where they are far from it."""
    if statistics.median(values) > 0.8:
        return f"{statistics.median(values):.2f} x the time", spread(values)
    turned = [1 / value for value in values]
    middle = statistics.median(turned)
    return f"{middle:.{1 if middle < 10 else 0}f} x faster", spread(turned)


def spread(values: Sequence[float]) -> str:
    """The lowest and the highest."""
    return "–".join(f"{v:.{2 if max(values) < 10 else 0}f}" for v in (min(values), max(values)))
