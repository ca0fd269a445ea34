"""``gigaqc metrics``: every number that gigaqc tells, and by which limits it is judged."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from gigaqc.cli.assess import app
from gigaqc.cli.verdicts import Exit, report


@app.command()
def metrics(
    key: Annotated[
        str | None, typer.Argument(help="Tell all of one metric, such as hot_pixel_fraction.")
    ] = None,
    scope: Annotated[
        str | None, typer.Option(help="Only those of a channel, tile, sample, pair or pixel.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print the whole table as CSV.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of an assessment's JSON.")
    ] = False,
) -> None:
    """Every number that gigaqc tells: formula, unit, which way is good, and its limits."""
    from gigaqc.errors import ParameterError
    from gigaqc.formulas.catalogue import metrics as known
    from gigaqc.formulas.schema import json_schema

    if schema:
        typer.echo(json.dumps(json_schema(), indent=1))
        return
    table = known()
    scopes = list(dict.fromkeys(table["scope"]))
    if scope is not None and scope not in scopes:
        error = ParameterError(f"scope: got {scope!r}; there are {', '.join(scopes)}.")
        raise typer.Exit(report(error))
    if scope is not None:
        table = table[table["scope"] == scope]
    if key is not None:
        table = table[table["key"] == key]
        if not len(table):
            error = ParameterError(f"key: there is no metric {key!r}; see gigaqc metrics.")
            raise typer.Exit(report(error))
    if csv:
        typer.echo(table.to_csv(index=False).rstrip())
    elif key is not None:
        _tell(table)
    else:
        _list(table)
    raise typer.Exit(Exit.DONE)


def _tell(table: Any) -> None:
    """All that is known of a metric, line by line."""
    for row in table.to_dict("records"):
        width = max(map(len, row))
        for name, value in row.items():
            if value:
                typer.echo(f"{name:<{width}}  {value}")
        typer.echo("")


def _list(table: Any) -> None:
    """A line a metric, by scope."""
    from rich.console import Console
    from rich.table import Column, Table

    for scope, rows in table.groupby("scope", sort=False):
        shown = Table(
            Column("Metric", no_wrap=True), "Better", "Unit", "robust", "recipe", "What it is",
            title=f"Of a {scope}", title_justify="left",
        )  # fmt: skip
        for row in rows.itertuples():
            shown.add_row(row.key, row.better, row.unit, row.robust, row.recipe, row.label)
        Console().print(shown)
