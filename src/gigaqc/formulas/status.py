"""Verdicts: what a number, a channel, a sample may get, and which is worse."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


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
