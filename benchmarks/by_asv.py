"""The questions as asv's benchmarks: `asv run --quick --launch-method forkserver`.

Classes of each question but those of other libraries, at its small size. Believe
`track_time_ratio`, which compares within one run; times and memory of different days differ by what
else the machine did.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import dask

from benchmarks._measure import Unavailable, in_turn, ratios
from benchmarks._question import Question
from benchmarks.questions import QUESTIONS


class _Asked:
    """What asv looks for; its parameters are cases of a question and names of functions."""

    timeout = 600
    param_names = ("of", "function")
    question: ClassVar[Question]
    sizes: ClassVar[dict[str, dict[str, Any]]]

    def __init_subclass__(cls, question: str = "") -> None:
        if question:
            cls.question = QUESTIONS[question]
            sizes = [cls.question.size(case, quick=True) for case in cls.cases()]
            cls.sizes = {cls.question.label(size): size for size in sizes}
            cls.params = (list(cls.sizes), list(cls.names()))

    @classmethod
    def cases(cls) -> tuple[Mapping[str, Any], ...]:
        return cls.question.cases[:1]

    @classmethod
    def names(cls) -> list[str]:
        return list(cls.question.functions)

    def setup_cache(self) -> str:
        """A folder for the stores, which asv removes."""
        return str(Path(tempfile.mkdtemp(dir=".")).absolute())

    def setup(self, folder: str, of: str, function: str) -> None:
        with contextlib.ExitStack() as held:  # asv tears nothing down that was not set up
            held.enter_context(dask.config.set(scheduler="threads", num_workers=2))
            try:
                given = self.question.prepared(Path(folder), self.sizes[of])
                self.given: Any = held.enter_context(given)
                for name in function.split(" / "):
                    self.run(name)
            except Unavailable as reason:
                raise NotImplementedError(str(reason)) from None  # asv's word for skipping
            self.held = held.pop_all()

    def teardown(self, folder: str, of: str, function: str) -> None:
        self.held.close()

    def run(self, name: str) -> None:
        self.question.functions[name](self.given)


class _Timed(_Asked):
    """Seconds of each function, in the first case."""

    def time_function(self, folder: str, of: str, function: str) -> None:
        self.run(function)


class _Compared(_Asked):
    """Each ratio of the table."""

    unit = "ratio"

    @classmethod
    def cases(cls) -> tuple[Mapping[str, Any], ...]:
        return cls.question.cases

    @classmethod
    def names(cls) -> list[str]:
        return [" / ".join(pair) for pair in cls.question.pairs if len(pair) == 2]

    def track_time_ratio(self, folder: str, of: str, function: str) -> float:
        """The median of three rounds."""
        name, floor = function.split(" / ")
        seconds = in_turn({n: lambda n=n: self.run(n) for n in (name, floor)}, 3)
        return statistics.median(ratios(seconds, name, floor))


class _Remembered(_Asked):
    """Memory of the functions whose memory is of interest."""

    @classmethod
    def names(cls) -> list[str]:
        return list(cls.question.memory)

    def peakmem_function(self, folder: str, of: str, function: str) -> None:
        self.run(function)


for _name, _question in QUESTIONS.items():
    if _question.group == "peers":
        continue
    _title = "".join(word.title() for word in _name.split("_"))
    for _kind in (_Timed, _Compared, *([_Remembered] if _question.memory else [])):
        _class = type(f"{_title}{_kind.__name__.strip('_')}", (_kind,), {}, question=_name)
        globals()[_class.__name__] = _class
