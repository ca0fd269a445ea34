"""``gigaqc demo``, ``gigaqc assess`` and ``gigaqc info``, and what all commands share.

Only what every command needs is imported here; the rest waits, so that ``--help`` is quick.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gigaqc as gq
from gigaqc.errors import (
    ChannelError,
    ElementError,
    GigaqcError,
    MaskError,
    ParameterError,
    RulesError,
    WriteError,
)
from gigaqc.samples import Sample, make_writable, plan_samples, refuse_existing
from gigaqc.workers import computing

if TYPE_CHECKING:
    import xarray as xr

_WRONG_USE = (ChannelError, ElementError, MaskError, ParameterError, RulesError, WriteError)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class OnError(enum.Enum):
    """What becomes of a chunk that cannot be read."""

    RAISE = "raise"
    MASK = "mask"


class Exit(enum.IntEnum):
    """What the exit status of a command says."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    UNREADABLE = 3


@dataclass(frozen=True)
class Reading:
    """How the sources are opened."""

    dims: str | None
    channels: str | None
    element: str | None
    level: int

    def open(self, source: str | list[str]) -> xr.DataArray:
        """The image, lazily."""
        return gq.open_image(
            source,
            element=self.element,
            level=self.level,
            dims=self.dims,
            channels=channel_names(self.channels),
        )


@dataclass(frozen=True)
class Judging:
    """How an image is judged."""

    tissue: str | bool | None = None
    rules: str = "robust"
    tile: int = 512
    on_error: OnError = OnError.RAISE

    def assess(self, image: xr.DataArray, name: str, *, progress: bool) -> gq.Assessment:
        """The verdict on an image; reads it."""
        return gq.assess(
            image,
            tissue=self.tissue,
            rules=self.rules,
            tile=self.tile,
            progress=progress,
            name=name,
            on_error=self.on_error.value,
        )


Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="A file, a folder, a zarr store or a URL.")
]
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Files, zarr stores, folders of single-channel TIFFs, or URLs; each is one sample.",
    ),
]
Dims = Annotated[
    str | None,
    typer.Option(metavar="AXES", help="The axes as they lie in the file, such as tyx or cyx."),
]
Channels = Annotated[
    str | None,
    typer.Option(metavar="A,B,...|FILE", help="Channel names, or a file with one in each line."),
]
Element = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which image of several; `gigaqc info` lists them."),
]
Level = Annotated[int, typer.Option(min=0, help="Level of a pyramid; 0 is the finest.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Run in so many processes instead of the threads of this one."),
]
Memory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="What these processes may use together, such as 4GB."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Run on a dask cluster, such as tcp://host:8786."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gigaqc {gq.__version__}")
        raise typer.Exit


@app.callback()
def _gigaqc(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which it is.")
    ] = False,
) -> None:
    """Judge the quality of very large microscopy and MRI images.

    Start with `gigaqc demo`, then `gigaqc assess IMAGE -o OUT` and open the page in OUT.
    """


@app.command(short_help="Judge images and write a page for each.")
def assess(
    sources: Sources,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")
    ],
    dims: Dims = None,
    channels: Channels = None,
    element: Element = None,
    level: Level = 0,
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
    workers: Workers = None,
    memory: Memory = None,
    scheduler: Scheduler = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 when a sample fails quality control.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that OUT already holds.")
    ] = False,
    on_error: Annotated[
        OnError,
        typer.Option(
            help="What becomes of a chunk that cannot be read: an error, or its pixels are left "
            "out, and the sample is flagged.",
        ),
    ] = OnError.RAISE,
    quiet: Quiet = False,
) -> None:
    """Judge images: write a page (HTML), a JSON file and a zarr store for each into OUT.

    Every chunk is read once (twice for floats, once more for the tissue channel). Several sources
    are done one after another; one that cannot be read is reported and the others go on.

    Exit status: 0 done; 1 a sample failed, with --strict; 2 wrong use; 3 a source could not be
    read.
    """
    with reported():
        reading = Reading(checked_dims(dims), channels, element, level)
        judging = Judging(_tissue(tissue), _checked_rules(rules), tile, on_error)
        channel_names(channels)
        make_writable(out)
        samples = plan_samples(sources, out, element=element)
        if not overwrite:
            refuse_existing(samples)
        with computing(workers, memory, scheduler):
            ends = [_assess_sample(s, reading, judging, quiet=quiet) for s in samples]
    worst = max(ends)
    if worst > Exit.FAILED or (worst == Exit.FAILED and strict):
        raise typer.Exit(worst)


@app.command(short_help="Judge a small real image that comes along.")
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")
    ] = Path("gigaqc-demo"),
    quiet: Quiet = False,
) -> None:
    """Judge a small real image that comes with gigaqc, and say where its page is.

    Human HT29 cells in three channels (DNA, phospho-histone H3, actin); Moffat et al., Cell 2006.
    """
    image = Path(gq.__file__).parent / "data" / "ht29.ome.tiff"
    with reported():
        make_writable(out)
        end = _assess_sample(
            Sample(str(image), "ht29", out), Reading(None, None, None, 0), Judging(), quiet=quiet
        )
    if end > Exit.FAILED:
        raise typer.Exit(end)


@app.command(short_help="Say what a source holds and what a run reads.")
def info(
    source: Source,
    dims: Dims = None,
    channels: Channels = None,
    element: Element = None,
    level: Level = 0,
) -> None:
    """Say what a source holds and what judging it would read; no pixel is read for that."""
    with reported():
        reading = Reading(checked_dims(dims), channels, element, level)
        names = gq.list_images(source)
        try:
            image = reading.open(source)
        except ElementError:
            if element is not None:
                raise
            _say(source, {"elements": ", ".join(names), "next": "name one with --element"})
            return
        facts = {"elements": ", ".join(names)} if len(names) > 1 else {}
        _say(source, {**facts, **_facts(image), "a run": str(gq.explain(image))})


def _assess_sample(sample: Sample, reading: Reading, judging: Judging, *, quiet: bool) -> Exit:
    """Judge one sample and write its results; an error is printed and becomes its exit status."""
    try:
        image = reading.open(sample.source)
        verdict = judging.assess(image, sample.name, progress=not quiet)
        sample.remove_existing()
        _write(verdict, sample)
    except (GigaqcError, OSError) as error:
        return _report(error)
    if not quiet:
        _show(verdict, sample)
    return Exit.DONE if verdict.passed else Exit.FAILED


def _write(verdict: gq.Assessment, sample: Sample) -> None:
    """All results of a sample, or none: a later run must not take a part for the whole."""
    try:
        verdict.to_html(sample.path(".html"))
        verdict.to_json(sample.path(".json"))
        verdict.save(sample.path(".zarr"))
    except BaseException:
        sample.remove_existing()
        raise


def _show(verdict: gq.Assessment, sample: Sample) -> None:
    """Print the verdict, a table with the reasons, and where the page is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gigaqc.plot import printable

    colours = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}
    table = Table("", "Verdict", "Why", title=Text(sample.name), title_justify="left")
    for row in _verdicts(verdict.flags):
        table.add_row(
            Text(printable(row.name)),
            Text(row.status, style=colours.get(row.status, "")),
            Text(printable(row.why)),
        )
    console = Console()
    console.print(table)
    status = Text(str(verdict.status), style=f"bold {colours.get(str(verdict.status), '')}")
    console.print(Text(f"{sample.name}: ") + status)
    # Not through rich, which would break a long path into lines.
    typer.echo(f"Page: {sample.path('.html').resolve()}")


@dataclass(frozen=True)
class _Verdict:
    name: str
    status: str
    why: str


def _verdicts(flags: Any) -> list[_Verdict]:
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
        rows.append(_Verdict(str(judged["name"].iloc[0]), status, why))
    return rows


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


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


def channel_names(given: str | None) -> list[str] | None:
    """Names from ``A,B,C``, or from the lines of a file."""
    if given is None:
        return None
    path = Path(given)
    try:
        if not path.is_file():
            return [name.strip() for name in given.split(",")]
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ParameterError(f"--channels: cannot read {given!r}: {error}.") from error
    return [line.strip() for line in lines if line.strip()]


def checked_dims(dims: str | None) -> str | None:
    """Axes as letters, each once."""
    if dims is not None and (set(dims) - set("tczyx") or len(set(dims)) != len(dims)):
        raise ParameterError(
            f"--dims: got {dims!r}; name each axis once with the letters t c z y x, such as tyx."
        )
    return dims


def _checked_rules(rules: str) -> str:
    if rules not in ("robust", "recipe") and not Path(rules).is_file():
        raise RulesError(
            f"--rules: {rules!r} is neither 'robust' nor 'recipe', and there is no such file; name "
            "a TOML file with your limits."
        )
    return rules


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn an expected error into one line and an exit status."""
    try:
        yield
    except (GigaqcError, OSError) as error:
        raise typer.Exit(_report(error)) from None


def _report(error: Exception) -> Exit:
    typer.echo(f"gigaqc: {' '.join(str(error).split())}", err=True)
    return Exit.WRONG_USE if isinstance(error, _WRONG_USE) else Exit.UNREADABLE
