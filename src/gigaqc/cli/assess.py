"""``gigaqc assess``, ``demo``, ``info`` and ``metrics``."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gigaqc as gq
from gigaqc.cli.options import Exit, Machine, Out, Quiet, Reading, Sources, channel_names, report
from gigaqc.errors import ElementError, ParameterError, RulesError

if TYPE_CHECKING:
    import xarray as xr

    from gigaqc.cohort.batch import Outcome

_DEMO_TILE = 64  # of an image of 512 x 512, so that there are maps to look at


class OnErrorOption(enum.StrEnum):
    """What becomes of a chunk that cannot be read."""

    RAISE = "raise"
    MASK = "mask"


def assess(
    sources: Sources,
    out: Out,
    *,
    reading: Reading,
    tissue: Annotated[
        str | None,
        typer.Option(
            metavar="CHANNEL",
            help="Channel that shows where the tissue is; by default the nuclear one; `none` "
            "leaves tissue out.",
        ),
    ] = None,
    rules: Annotated[
        str,
        typer.Option(metavar="robust|recipe|FILE", help="The limits; FILE is TOML with your own."),
    ] = "robust",
    tile: Annotated[int, typer.Option(min=1, help="Side of the tiles in maps, pixels.")] = 512,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|NAME",
            help="Label image of the objects: a path, with {sample} for the sample's name, or the "
            "name of the labels in each store.",
        ),
    ] = None,
    expected_pair: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Two channels that may correlate; give it once a pair."),
    ] = None,
    pages: Annotated[
        bool, typer.Option("--pages/--no-pages", help="Write a page for each sample.")
    ] = True,
    machine: Machine,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 when a sample fails quality control.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do all again; replace what OUT already holds.")
    ] = False,
    on_error: Annotated[
        OnErrorOption,
        typer.Option(
            help="What becomes of a chunk that cannot be read: an error, or its pixels are left "
            "out, and the sample is flagged.",
        ),
    ] = OnErrorOption.RAISE,
    quiet: Quiet = False,
) -> None:
    """Judge images: a page, a JSON file and statistics of each into OUT, and tables of all.

    Every chunk is read once (twice for floats, once more for the tissue channel). Samples are done
    one after another; one that cannot be read is a row with its error, and the others go on.

    A second run reads no pixel of samples that are complete: it does what is missing or failed, and
    applies other --rules to the statistics that were kept. It refuses to replace results of another
    source without --overwrite. OUT/summary.csv and OUT/index.html hold the samples of this run.

    Exit status: 0 done; 1 a sample failed, with --strict; 2 wrong use; 3 a source could not be
    read.
    """
    settings = {
        "expected_pairs": tuple(map(_pair, expected_pair or ())), "rules": _checked_rules(rules),
        "labels": labels, "pages": pages, "overwrite": overwrite,
    }  # fmt: skip
    observed = {"tissue": _tissue(tissue), "tile": tile, "on_error": str(on_error)}
    with machine.used():
        worst = _run(sources, out, reading, observed, settings, quiet=quiet)
    if worst > Exit.FAILED or (worst == Exit.FAILED and strict):
        raise typer.Exit(worst)


def demo(out: Out = Path("gigaqc-demo"), *, quiet: Quiet = False) -> None:
    """Judge a small real image that comes with gigaqc, and say where its page is.

    Human HT29 cells in three channels (DNA, phospho-histone H3, actin); Moffat et al., Cell 2006.
    """
    image = Path(gq.__file__).parent / "data" / "ht29.ome.tiff"
    end = _run([str(image)], out, Reading(), {"tile": _DEMO_TILE}, {"overwrite": True}, quiet=quiet)
    if end > Exit.FAILED:
        raise typer.Exit(end)


def info(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A file, a folder, a zarr store or a URL.")
    ],
    *,
    reading: Reading,
) -> None:
    """Say what a source holds and what judging it would read; no pixel is read for that."""
    names = gq.list_images(source)
    try:
        image = reading.open(source)
    except ElementError:
        if reading.element is not None:
            raise
        _say(source, {"elements": ", ".join(names), "next": "name one with --element"})
        return
    facts = {"elements": ", ".join(names)} if len(names) > 1 else {}
    _say(source, {**facts, **_facts(image), "a run": str(gq.explain(image))})


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
    from gigaqc.formulas.catalogue import json_schema
    from gigaqc.formulas.catalogue import metrics as known

    if schema:
        typer.echo(json.dumps(json_schema(), indent=1))
        return
    table = known()
    scopes = list(dict.fromkeys(table["scope"]))
    if scope is not None and scope not in scopes:
        raise ParameterError(f"scope: got {scope!r}; there are {', '.join(scopes)}.")
    if scope is not None:
        table = table[table["scope"] == scope]
    if key is not None:
        table = table[table["key"] == key]
        if not len(table):
            raise ParameterError(f"key: there is no metric {key!r}; see gigaqc metrics.")
    if csv:
        typer.echo(table.to_csv(index=False).rstrip())
    elif key is not None:
        _tell(table)
    else:
        _list(table)


def _run(
    sources: list[str],
    out: Path,
    reading: Reading,
    observed: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    quiet: bool,
) -> Exit:
    """Judge the samples, say how each ended, and give the worst end."""
    from gigaqc.cohort.batch import run_batch
    from gigaqc.cohort.plan import Options
    from gigaqc.verdict.progress import watched

    worst = Exit.DONE

    def follow(outcome: Outcome) -> None:
        nonlocal worst
        worst = max(worst, _say_outcome(outcome, out, quiet=quiet))

    names = channel_names(reading.channels)
    options = Options(
        dims=reading.dims, channels=None if names is None else tuple(names), level=reading.level,
        **observed,
    )  # fmt: skip
    cohort = run_batch(
        sources, out, options, element=reading.element, show=not quiet and watched(),
        follow=follow, **settings,
    )  # fmt: skip
    if not quiet and len(cohort.summary) > 1:
        counts = cohort.counts
        typer.echo(", ".join(f"{n} {s}" for s, n in counts.items() if n or s != "error"))
        typer.echo(f"Index: {(out / 'index.html').resolve()}")
    return worst


def _facts(image: xr.DataArray) -> dict[str, str]:
    from dask.utils import format_bytes

    chunks = " x ".join(str(max(sizes)) for sizes in image.chunks or ())
    facts = {
        "dims": ", ".join(f"{dim} {size}" for dim, size in image.sizes.items()),
        "channels": ", ".join(map(str, image.coords["c"].values)),
        "dtype": str(image.dtype),
        "chunks": f"{chunks} ({image.data.npartitions} in all)",
        "size": format_bytes(image.nbytes),
    }
    if sizes := image.attrs.get("pixel_size"):
        lengths = ", ".join(f"{dim} {size:g}" for dim, size in sizes.items())
        facts["pixel size"] = f"{lengths} {image.attrs.get('unit', '')}".rstrip()
    return facts


def _say(title: str, facts: dict[str, str]) -> None:
    from gigaqc.plot import printable

    typer.echo(title)
    for key, value in facts.items():
        lines = [printable(line) for line in value.splitlines()] or [""]
        typer.echo(f"  {key:<11}{lines[0]}")
        for line in lines[1:]:
            typer.echo(" " * 13 + line)


def _tissue(given: str | None) -> str | bool | None:
    return False if given is not None and given.lower() == "none" else given


def _pair(given: str) -> tuple[str, str]:
    """Two names; one with a comma in it stands in double quotes."""
    import csv

    names = next(csv.reader([given], skipinitialspace=True), [])
    if len(names) != 2:
        raise ParameterError(f"--expected-pair: got {given!r}; name two channels, such as CD3,CD8.")
    return names[0].strip(), names[1].strip()


def _checked_rules(rules: str) -> str:
    if rules not in ("robust", "recipe") and not Path(rules).is_file():
        raise RulesError(
            f"--rules: {rules!r} is neither 'robust' nor 'recipe', and there is no such file; name "
            "a TOML file with your limits."
        )
    return rules


def _say_outcome(outcome: Outcome, out: Path, *, quiet: bool) -> Exit:
    """Print how a sample ended: in full where it is the only one, else a line."""
    from gigaqc.plot import printable

    if outcome.error is not None:
        return report(outcome.error, "" if outcome.count == 1 else f"{outcome.name[:80]}: ")
    if not quiet:
        if outcome.verdict is not None and outcome.count == 1:
            _show_verdict(outcome.verdict)
        else:
            kept = " (done before)" if outcome.before else ""
            typer.echo(f"{printable(outcome.name, 80)}: {outcome.status}{kept}")
        if outcome.count == 1 and (page := out / f"{outcome.file}.html").is_file():
            # Not through rich, which would break a long path into lines.
            typer.echo(f"Page: {page.resolve()}")
    return Exit.FAILED if outcome.status == "FAIL" else Exit.DONE


def _show_verdict(verdict: gq.Assessment) -> None:
    """Print the verdict, and a table with the reasons."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gigaqc.plot import printable

    colours = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}
    table = Table(
        "", "Verdict", "Why", title=Text(printable(verdict.name, 80)), title_justify="left"
    )
    for name, status, why in _verdicts(verdict.flags):
        style = colours.get(status, "")
        table.add_row(Text(printable(name)), Text(status, style=style), Text(printable(why)))
    console = Console()
    console.print(table)
    end = Text(str(verdict.status), style=f"bold {colours.get(str(verdict.status), '')}")
    console.print(Text(f"{printable(verdict.name, 80)}: ") + end)


def _verdicts(flags: Any) -> Iterator[tuple[str, str, str]]:
    """What was judged, its worst status, and the metrics behind that."""
    severity = ("PASS", "WARN", "FAIL")
    for _, judged in flags.groupby(["scope", "name"], sort=False):
        status = max(judged["status"], key=severity.index)
        reasons = judged[judged["status"] != "PASS"]
        why = "; ".join(
            f"{r.metric} {_number(r.value)} (limit {_number(r.limit)})"
            for r in reasons.itertuples()
        )
        yield str(judged["name"].iloc[0]), status, why


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


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
