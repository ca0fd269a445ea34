"""How samples ended, in words and as an exit status."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gigaqc.errors import (
    ChannelError,
    ElementError,
    MaskError,
    ParameterError,
    RulesError,
    WriteError,
)

if TYPE_CHECKING:
    import gigaqc as gq
    from gigaqc.cohort.batch import Outcome

_WRONG_USE = (ChannelError, ElementError, MaskError, ParameterError, RulesError, WriteError)


class Exit(enum.IntEnum):
    """What the exit status of a command says."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    UNREADABLE = 3


def report(error: Exception, about: str = "") -> Exit:
    """Print an error as one line, and give its exit status."""
    from gigaqc.plot import printable

    typer.echo(f"gigaqc: {printable(' '.join(f'{about}{error}'.split()))}", err=True)
    return Exit.WRONG_USE if isinstance(error, _WRONG_USE) else Exit.UNREADABLE


def say_outcome(outcome: Outcome, out: Path, *, quiet: bool) -> Exit:
    """Print how a sample ended: in full where it is the only one, else a line."""
    from gigaqc.plot import printable

    if outcome.error is not None:
        return report(outcome.error, "" if outcome.count == 1 else f"{outcome.name[:80]}: ")
    if not quiet:
        if outcome.verdict is not None and outcome.count == 1:
            _show(outcome.verdict)
        else:
            kept = " (done before)" if outcome.before else ""
            typer.echo(f"{printable(outcome.name, 80)}: {outcome.status}{kept}")
        if outcome.count == 1 and (page := out / f"{outcome.file}.html").is_file():
            # Not through rich, which would break a long path into lines.
            typer.echo(f"Page: {page.resolve()}")
    return Exit.FAILED if outcome.status == "FAIL" else Exit.DONE


def _show(verdict: gq.Assessment) -> None:
    """Print the verdict, and a table with the reasons."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gigaqc.plot import printable

    colours = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}
    table = Table(
        "", "Verdict", "Why", title=Text(printable(verdict.name, 80)), title_justify="left"
    )
    for row in _verdicts(verdict.flags):
        table.add_row(
            Text(printable(row.name)),
            Text(row.status, style=colours.get(row.status, "")),
            Text(printable(row.why)),
        )
    console = Console()
    console.print(table)
    status = Text(str(verdict.status), style=f"bold {colours.get(str(verdict.status), '')}")
    console.print(Text(f"{printable(verdict.name, 80)}: ") + status)


@dataclass(frozen=True)
class _VerdictLine:
    name: str
    status: str
    why: str


def _verdicts(flags: Any) -> list[_VerdictLine]:
    """One row for each thing that was judged, with the metrics behind its worst status."""
    severity = ("PASS", "WARN", "FAIL")
    rows = []
    for _, judged in flags.groupby(["scope", "name"], sort=False):
        status = max(judged["status"], key=severity.index)
        reasons = judged[judged["status"] != "PASS"]
        why = "; ".join(
            f"{r.metric} {_number(r.value)} (limit {_number(r.limit)})"
            for r in reasons.itertuples()
        )
        rows.append(_VerdictLine(str(judged["name"].iloc[0]), status, why))
    return rows


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
