"""A metric is one record, and a judgement of it has a status."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

import numpy as np

from gigaqc.errors import GigaqcError, ParameterError
from gigaqc.statistics.statistics import Part


class Status(StrEnum):
    """A verdict, with what a reader is told besides the colour.

    Numbers are judged PASS, WARN or FAIL. NONE is of what no limit judges, ERROR of a sample that
    could not be measured; pages know these two, tables of flags do not.
    """

    NONE = "NONE"
    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"
    ERROR = "ERROR"

    @property
    def severity(self) -> int:
        """Larger is worse; what was not judged counts as less than a pass."""
        return list(Status).index(self)

    @property
    def is_bad(self) -> bool:
        """Whether somebody should look: WARN or FAIL."""
        return self in (Status.WARN, Status.FAIL)

    @property
    def sign(self) -> str:
        """A character that tells the verdicts apart without colour."""
        signs = {"PASS": "\u2713", "WARN": "!", "FAIL": "\u2715", "NONE": "?", "ERROR": "\u2298"}
        return signs[self.value]

    @property
    def word(self) -> str:
        """The verdict as it is written on a page."""
        return {
            "PASS": "Pass", "WARN": "Warning", "FAIL": "Fail", "NONE": "Not judged",
            "ERROR": "Not measured",
        }[self.value]  # fmt: skip


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of several verdicts; PASS of none."""
    return max(statuses, key=lambda s: s.severity, default=Status.PASS)


def status_of(value: object) -> Status:
    """The status that a cell of a table holds; anything else is `Status.NONE`.

    Parameters
    ----------
    value
        ``"PASS"``, ``"WARN"`` or ``"FAIL"``, or whatever stands there.
    """
    text = str(value).upper()
    return Status(text) if text in Status.__members__ else Status.NONE


NOTHING = Part(0)

Kind = Literal["number", "fraction", "count", "flag", "text"]
"""How a number is written; a fraction is shown in percent."""

Better = Literal["higher", "lower", "near 1", ""]
"""Which way is good; empty where neither is."""


class Scope(StrEnum):
    """What a number is of, and what a limit judges."""

    CHANNEL = "channel"
    SAMPLE = "sample"
    PAIR = "pair"
    TILE = "tile"
    PIXEL = "pixel"


class Basis(StrEnum):
    """What a number is made from."""

    STATISTICS = "statistics"
    TISSUE = "tissue"
    LABELS = "labels"
    CHANNELS = "channels"  # the table of channels
    SERIES = "series"  # frames, or an image as a whole, by a function of its own


class Side(StrEnum):
    """On which side of a limit a value is bad."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True)
class Bounds:
    """From where on values are flagged; None leaves that verdict out.

    ``above`` is bad when ``value > limit``; ``below`` when ``value <= limit``. A NaN has no support
    and gets `when_nan`, or no flag at all where that is None.
    """

    side: Side
    warn: float | None
    fail: float | None
    when_nan: Status | None = None


def above(warn: float | None, fail: float | None, nan: Status | None = None) -> Bounds:
    """Large values are bad."""
    return Bounds(Side.ABOVE, warn, fail, nan)


def below(warn: float | None, fail: float | None, nan: Status | None = None) -> Bounds:
    """Small values are bad."""
    return Bounds(Side.BELOW, warn, fail, nan)


@dataclass(frozen=True)
class Limit:
    """The bounds of one metric; see `Bounds`."""

    metric: str
    scope: Scope
    side: Side
    warn: float | None
    fail: float | None
    when_nan: Status | None = None

    def raised(self, *, at_least: float = -math.inf, by: float = 0.0, times: float = 1.0) -> Limit:
        """The same with higher limits, where a channel explains a part of the value itself."""
        warn, fail = (
            None if limit is None else max(limit * times + by, at_least)
            for limit in (self.warn, self.fail)
        )
        return replace(self, warn=warn, fail=fail)

    def judge(self, value: float) -> tuple[Status, float] | None:
        """Verdict on a value and the limit that it was held against."""
        if math.isnan(value):
            return None if self.when_nan is None else (self.when_nan, math.nan)
        held = math.nan
        for status, limit in ((Status.FAIL, self.fail), (Status.WARN, self.warn)):
            if limit is None:
                continue
            held = limit
            bad = value > held if self.side is Side.ABOVE else value <= held
            if bad:
                return status, held
        return Status.PASS, held


Floor = Callable[[Limit, Mapping[Any, Any], int], Limit]
"""The limit for one channel, given its row of the table and how many planes its lines run through:
above what its own noise and structure explain."""


@dataclass(frozen=True)
class Metric:
    """One number: what it is, how it is made, how it is shown and judged.

    Attributes
    ----------
    key
        Its name, wherever it stands: column, variable, name in rules.
    label, what
        Its name and its explanation for a reader who does not know the formula.
    formula
        How it is computed, in the words of the field.
    compute
        Of what `scope` and `source` say: ``compute(channel)`` of a `Channel`, ``compute(tiles)`` of
        `Tiles`, ``compute(sample)`` of a `Sample`; no pixel is read. None where a function of its
        own makes the number (series, pictures of noise).
    function
        The public function that has it as a variable; empty where only `gq.assess` has.
    needs
        Which parts of a scan it is a function of.
    nan
        When it has no value.
    unit, range
        As text; empty where there is none.
    better
        Which way is good; empty where neither is.
    kind
        How it is written.
    dtype
        Of the variable.
    scope, source
        What it is of, and what it is made from.
    exact
        To which error it is computed; the bit, where nothing is said.
    origin
        Where the formula comes from.
    meaning, cure
        What is wrong when it is beyond its limit, and what to do.
    limits
        Its bounds by the name of a rule set.
    floor
        What noise and structure alone explain of it: the limit of one channel.
    error
        One standard error of the value, from the same as `compute`; flags then say whether they
        are certain.
    primary
        Whether tables show it before "all columns" is asked for; of tiles, whether there is a map
        of it without a flag.
    assessed
        Whether the tables of an `Assessment` have it.
    compared
        Whether the samples of a cohort are compared by it; of a channel's metric, by the median
        over channels too.
    headline
        Whether the median of a channel's metric stands in the first view of a cohort.
    column
        What the summary of a cohort calls a number of a sample; `key` unless said.
    artifact
        Whether its flags count in ``n_artifacts``.
    map
        The metric of tiles that shows where a flag of this one comes from.
    """

    key: str
    label: str
    what: str
    formula: str = ""
    compute: Callable[[Any], Any] | None = None
    function: str = ""
    needs: Part = NOTHING
    nan: str = ""
    unit: str = ""
    range: str = ""
    better: Better = ""
    kind: Kind = "number"
    dtype: str = "f8"
    scope: Scope = Scope.CHANNEL
    source: Basis = Basis.STATISTICS
    exact: str = "to the bit"
    origin: str = "gigaqc"
    meaning: str = ""
    cure: str = ""
    limits: Mapping[str, Bounds] = field(default_factory=dict)
    floor: Floor | None = None
    error: Callable[[Any], float] | None = None
    primary: bool = False
    assessed: bool = True
    compared: bool = False
    headline: bool = False
    column: str = ""
    artifact: bool = False
    map: str = ""

    @property
    def reads(self) -> str:
        """How often chunks are read for it, of integers to 16 bits and of other types."""
        if self.source is not Basis.STATISTICS:
            return _READS[self.source]
        return "1 (2)" if self.needs & (Part.MOMENTS | Part.RESPONSE) else "1"

    def limit(self, rules: str) -> Limit | None:
        """Its limit in a rule set."""
        bounds = self.limits.get(rules)
        if bounds is None:
            return None
        return Limit(self.key, self.scope, bounds.side, bounds.warn, bounds.fail, bounds.when_nan)

    def __post_init__(self) -> None:
        for name, kind in (("scope", Scope), ("source", Basis)):
            given = getattr(self, name)
            if given not in set(kind):
                raise ParameterError(
                    f"{name}: got {given!r} of the metric {self.key!r}; pass one of "
                    f"{', '.join(kind)}."
                )
            object.__setattr__(self, name, kind(given))

    def of(self, view: Any) -> Any:
        """What it is of a channel, of all tiles, or of a sample; a view computes it once.

        Raises
        ------
        ParameterError
            When its formula raises.
        """
        if self.compute is None:
            raise TypeError(f"{self.key} of {self.function} is no function of states")
        try:
            found = view.once(self.compute)
        except GigaqcError:
            raise
        except Exception as error:
            raise ParameterError(
                f"metric: compute of {self.key!r} raised {type(error).__name__}: {error}; return "
                "NaN where there is no value."
            ) from error
        return math.nan if found is None else found

    def number_of(self, view: Any) -> Any:
        """The same as a number, of `kind` flag as True or False.

        Raises
        ------
        ParameterError
            When its formula raises, or gives no number.
        """
        found = self.of(view)
        if self.kind == "text":
            return str(found)
        if isinstance(found, (int, np.integer)) and self.kind != "flag":
            return int(found)  # also beyond 2^53
        try:
            number = float(found)
        except (TypeError, ValueError) as error:
            raise ParameterError(
                f"metric: compute of {self.key!r} gave {type(found).__name__} {str(found)[:60]!r}; "
                "return a number."
            ) from error
        if self.kind == "flag":
            return None if math.isnan(number) else bool(number)
        return number


_READS = {
    Basis.TISSUE: "2 (3)",
    Basis.LABELS: "1",
    Basis.CHANNELS: "0",
    Basis.SERIES: "",
}


@dataclass(frozen=True)
class Pick:
    """A metric's `compute` where one formula gives several numbers: the one of that name.

    The formula is computed once for all of them; see `Channel.once`.
    """

    formula: Callable[[Any], Any]
    name: str

    def __call__(self, source: Any) -> Any:
        """The number, of a view."""
        found = source.once(self.formula)
        return found[self.name] if isinstance(found, Mapping) else getattr(found, self.name)
