"""``gigaqc demo``, ``gigaqc assess`` and ``gigaqc info``, and what all commands share.

Only what every command needs is imported here; the rest waits, so that ``--help`` is quick.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import gigaqc as gq
from gigaqc.cli.verdicts import Exit, report, say_outcome
from gigaqc.errors import ElementError, GigaqcError, ParameterError, RulesError
from gigaqc.workers import computing

if TYPE_CHECKING:
    import xarray as xr

    from gigaqc.cohort.batch import Outcome
    from gigaqc.cohort.plan import Options

_DEMO_TILE = 64  # of an image of 512 x 512, so that there are maps to look at

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class OnErrorOption(enum.Enum):
    """What becomes of a chunk that cannot be read."""

    RAISE = "raise"
    MASK = "mask"


@dataclass(frozen=True)
class OpeningOptions:
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
    """How images are observed and judged."""

    tissue: str | bool | None = None
    rules: str = "robust"
    tile: int = 512
    on_error: OnErrorOption = OnErrorOption.RAISE
    labels: str | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    pages: bool = True

    def options(self, reading: OpeningOptions) -> Options:
        """With how they are opened, as a batch takes it."""
        from gigaqc.cohort.plan import Options

        names = channel_names(reading.channels)
        return Options(
            tissue=self.tissue, tile=self.tile, dims=reading.dims, level=reading.level,
            channels=None if names is None else tuple(names), on_error=self.on_error.value,
        )  # fmt: skip


SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="A file, a folder, a zarr store or a URL.")
]
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Files, globs, zarr stores, folders or URLs, each image one sample; or a sample sheet "
        "(CSV: sample, path, and perhaps labels, tissue, batch, element, order).",
    ),
]
DimsOption = Annotated[
    str | None,
    typer.Option(metavar="AXES", help="The axes as they lie in the file, such as tyx or cyx."),
]
ChannelsOption = Annotated[
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


TissueOption = Annotated[
    str | None,
    typer.Option(
        metavar="CHANNEL",
        help="Channel that shows where the tissue is; by default the nuclear one; `none` leaves "
        "tissue out.",
    ),
]
RulesOption = Annotated[
    str,
    typer.Option(metavar="robust|recipe|FILE", help="The limits; FILE is TOML with your own."),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|NAME",
        help="Label image of the objects: a path, with {sample} for the sample's name, or the name "
        "of the labels in each store.",
    ),
]


@app.command(short_help="Judge images and write a page for each.")
def assess(
    sources: Sources,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")
    ],
    dims: DimsOption = None,
    channels: ChannelsOption = None,
    element: Element = None,
    level: Level = 0,
    tissue: TissueOption = None,
    rules: RulesOption = "robust",
    tile: Annotated[int, typer.Option(min=1, help="Side of the tiles in maps, pixels.")] = 512,
    labels: LabelsOption = None,
    expected_pair: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Two channels that may correlate; give it once a pair."),
    ] = None,
    pages: Annotated[
        bool, typer.Option("--pages/--no-pages", help="Write a page for each sample.")
    ] = True,
    workers: Workers = None,
    memory: Memory = None,
    scheduler: Scheduler = None,
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
    with reported():
        reading = OpeningOptions(checked_dims(dims), channels, element, level)
        pairs = tuple(map(_pair, expected_pair or ()))
        judging = Judging(
            _tissue(tissue), _checked_rules(rules), tile, on_error, labels, pairs, pages
        )
        with computing(workers, memory, scheduler):
            worst = _run(sources, out, reading, judging, overwrite=overwrite, quiet=quiet)
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
        end = _run(
            [str(image)], out, OpeningOptions(None, None, None, 0), Judging(tile=_DEMO_TILE),
            overwrite=True, quiet=quiet,
        )  # fmt: skip
    if end > Exit.FAILED:
        raise typer.Exit(end)


@app.command(short_help="Say what a source holds and what a run reads.")
def info(
    source: SourceArgument,
    dims: DimsOption = None,
    channels: ChannelsOption = None,
    element: Element = None,
    level: Level = 0,
) -> None:
    """Say what a source holds and what judging it would read; no pixel is read for that."""
    with reported():
        reading = OpeningOptions(checked_dims(dims), channels, element, level)
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


def _run(
    sources: list[str],
    out: Path,
    reading: OpeningOptions,
    judging: Judging,
    *,
    overwrite: bool,
    quiet: bool,
) -> Exit:
    """Judge the samples, say how each ended, and give the worst end."""
    from gigaqc.cohort.batch import run_batch
    from gigaqc.progress import watched

    worst = Exit.DONE

    def follow(outcome: Outcome) -> None:
        nonlocal worst
        worst = max(worst, say_outcome(outcome, out, quiet=quiet))

    cohort = run_batch(
        sources, out, judging.options(reading), labels=judging.labels, rules=judging.rules,
        expected_pairs=judging.pairs, element=reading.element, pages=judging.pages,
        overwrite=overwrite, show=not quiet and watched(), follow=follow,
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
        raise typer.Exit(report(error)) from None
