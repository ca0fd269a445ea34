"""Values as text: numbers, names, verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigaqc.formulas.record import Kind
from gigaqc.plot import printable

MISSING = "\N{EN DASH}"
_NAME_LENGTH = 80
_TEXT_LENGTH = 600


@dataclass(frozen=True, slots=True)
class Name:
    """A name from a file: shortened for display, whole where it was cut."""

    short: str
    full: str

    @property
    def cut(self) -> bool:
        """Whether the short form leaves something out."""
        return self.short != self.full


def name_of(value: Any) -> Name:
    """A name that is safe to show: printable, valid UTF-8, with a short form.

    Parameters
    ----------
    value
        The name, as a file gave it.
    """
    full = printable(value) or "(no name)"
    return Name(printable(full, _NAME_LENGTH), full)


def text_of(value: Any) -> str:
    """A sentence or a path for display, cut where it would fill the page.

    Parameters
    ----------
    value
        Any plain value.
    """
    return printable(value, _TEXT_LENGTH)


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or pandas' NA.

    Parameters
    ----------
    value
        Any plain value.
    """
    if value is None:
        return True
    if isinstance(value, str | bytes | list | tuple | dict):
        return False
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # pandas.NA has no truth value
        return True


def as_number(value: Any) -> float:
    """`value` as float, NaN where it is none.

    Parameters
    ----------
    value
        Any plain value.
    """
    if is_missing(value) or isinstance(value, str):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def format_value(value: Any, kind: Kind = "number") -> str:
    """A value as a reader wants it: three digits, percent, yes or no; a dash for what is missing.

    Parameters
    ----------
    value
        A number, bool, text, None or NaN.
    kind
        What it means; a fraction is written in percent.
    """
    if is_missing(value):
        return MISSING
    if isinstance(value, bool | np.bool_) or kind == "flag":
        return str(value) if isinstance(value, str) else ("yes" if value else "no")
    if isinstance(value, str):
        return printable(value, _NAME_LENGTH)
    number = as_number(value)
    if math.isnan(number):
        return text_of(value)
    if math.isinf(number):
        return "\u221e" if number > 0 else "\u2212\u221e"
    if kind == "fraction":
        return f"{_digits(100 * number)}\u00a0%"
    return _digits(number)


def _digits(number: float) -> str:
    size = abs(number)
    if number == int(number) and size < 1e15:
        text = f"{int(number):,}"
    elif size >= 1e7 or size < 1e-4:
        text = f"{number:.2e}"
    elif size >= 1000:
        text = f"{number:,.0f}"
    else:
        text = f"{number:.3g}"
    return text.replace(",", "\u202f").replace("-", "\u2212")


def format_bytes(count: Any) -> str:
    """A number of bytes in units a reader knows (1 kB is 1000 bytes).

    Parameters
    ----------
    count
        The number, or something missing.
    """
    size = as_number(count)
    if math.isnan(size):
        return MISSING
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f}\u00a0{unit}" if unit == "B" else f"{size:.3g}\u00a0{unit}"


def count_of(number: int, noun: str) -> str:
    """A number with its noun in the right form: ``1 channel``, ``3 channels``.

    Parameters
    ----------
    number, noun
        How many of what (the plural adds an s).
    """
    return f"{number}\u00a0{noun}" + ("" if number == 1 else "s")
