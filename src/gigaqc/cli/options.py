"""What commands share: options, declared once and in groups, and errors as an exit status.

A command takes a group, such as `Reading`, as one argument; `as_command` gives typer the options in
its place. Only what every command needs is imported here; the rest waits, so that ``--help`` is
quick.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

import gigaqc as gq
from gigaqc.errors import (
    ChannelError,
    ElementError,
    GigaqcError,
    MaskError,
    MissingDependencyError,
    ParameterError,
    ReadError,
    RulesError,
    WriteError,
)
from gigaqc.verdict.samples import make_writable, plan_samples

if TYPE_CHECKING:
    import xarray as xr

_WRONG_USE = (ChannelError, ElementError, MaskError, ParameterError, RulesError, WriteError)

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Files, globs, zarr stores, folders or URLs, each image one sample; or a sample sheet "
        "(CSV: sample, path, and perhaps labels, tissue, batch, element, order).",
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


@dataclass(frozen=True)
class Reading:
    """How the sources are opened."""

    dims: Annotated[
        str | None,
        typer.Option(metavar="AXES", help="The axes as they lie in the file, such as tyx or cyx."),
    ] = None
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...|FILE", help="Channel names, or a file with one in each line."
        ),
    ] = None
    element: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which image of several; `gigaqc info` lists them."),
    ] = None
    level: Annotated[int, typer.Option(min=0, help="Level of a pyramid; 0 is the finest.")] = 0

    def __post_init__(self) -> None:
        dims = self.dims
        if dims is not None and (set(dims) - set("tczyx") or len(set(dims)) != len(dims)):
            raise ParameterError(
                f"--dims: got {dims!r}; name each axis once with the letters t c z y x, such as "
                "tyx."
            )

    def open(self, source: str | list[str]) -> xr.DataArray:
        """The image, lazily."""
        names = channel_names(self.channels)
        return gq.open_image(
            source, element=self.element, level=self.level, dims=self.dims, channels=names
        )


@dataclass(frozen=True)
class Machine:
    """Where it is computed."""

    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Run in so many processes instead of the threads of this one."),
    ] = None
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="What these processes may use together, such as 4GB."),
    ] = None
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run on a dask cluster, such as tcp://host:8786."),
    ] = None

    def used(self) -> contextlib.AbstractContextManager[None]:
        """Within this context dask computes there."""
        return computing(self.workers, self.memory, self.scheduler)


@dataclass(frozen=True)
class Writing:
    """What becomes of earlier results, and what is printed."""

    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that are there already.")
    ] = False
    quiet: Quiet = False

    def refuse(self, paths: Sequence[Path]) -> None:
        """Raise where a result is there already."""
        for path in paths:
            if os.path.lexists(path) and not self.overwrite:
                raise WriteError(f"out: {str(path)!r} exists; pass --overwrite, or another folder.")

    def bar(self, label: str) -> contextlib.AbstractContextManager[None]:
        """A progress bar of what is computed."""
        from gigaqc.verdict.progress import tasks_shown  # which imports dask

        return tasks_shown(label, show=not self.quiet)

    def say(self, *lines: str) -> None:
        """Print, unless nothing is to be printed; not through rich, which breaks long paths."""
        for line in () if self.quiet else lines:
            typer.echo(line)


@dataclass(frozen=True)
class Into:
    """Where results go: into a folder, or into the SpatialData store that the source is."""

    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="Folder for the results.")
    ] = None
    output_layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Write an element of this name into the SpatialData store that SOURCE is, instead "
            "of OUT; --element names the image.",
        ),
    ] = None

    def paths(
        self,
        sources: Sequence[str],
        element: str | None,
        endings: Sequence[str],
        writing: Writing,
        example: str = "prepared",
    ) -> list[list[Path]]:
        """Results of each source by their endings, settled before any pixel is read."""
        if self.out is None:
            raise ParameterError(f"--out: name a folder for the results, such as -o {example}.")
        make_writable(self.out)
        samples = plan_samples(sources, self.out, element=element)
        found = [[sample.path(ending) for ending in endings] for sample in samples]
        taken = {os.path.realpath(source) for source in sources}
        for target in (path for paths in found for path in paths):
            if os.path.realpath(target) in taken:
                raise WriteError(f"out: {str(target)!r} is a SOURCE itself; choose another folder.")
            writing.refuse([target])
        return found

    def store(
        self, sources: Sequence[str], reading: Reading, writing: Writing, *, beside: bool = False
    ) -> tuple[Any, str]:
        """The store, opened, and the image in it; with `beside` there may be a folder too."""
        # Elements say themselves what their axes and channels are.
        for option in ("dims", "channels", "level"):
            if getattr(reading, option):
                raise ParameterError(f"--{option}: does not go with --output-layer; leave it out.")
        if len(sources) != 1 or (self.out is not None and not beside):
            raise ParameterError(
                "--output-layer: goes with one SOURCE, a SpatialData store, and without --out."
            )
        image = _image_of(sources[0], reading.element)
        sdata = _opened(sources[0])
        if self.output_layer in sdata and not writing.overwrite:
            raise WriteError(
                f"--output-layer: {self.output_layer!r} exists; pass --overwrite, or choose "
                "another name."
            )
        return sdata, image


def _image_of(store: str, element: str | None) -> str:
    """Which image of a SpatialData store is meant."""
    names = gq.list_images(store)
    if element is None and len(names) > 1:
        raise ParameterError(f"--element: name one of {', '.join(names)}.")
    if not (Path(store) / "images").is_dir():
        raise ParameterError(
            f"--output-layer: {store!r} is no SpatialData store; pass --out instead."
        )
    if element is not None and element not in names:
        raise ElementError(
            f"--element: no image is named {element!r}; there are {', '.join(names)}."
        )
    return element or names[0]


def _opened(store: str) -> Any:
    try:
        import spatialdata
    except ImportError as error:
        raise MissingDependencyError(
            "--output-layer: spatialdata is not installed; pip install 'gigaqc[spatial]'."
        ) from error
    # What it says of every labels element, its own included, tells a user nothing.
    logging.getLogger("ome_zarr").setLevel(logging.ERROR)
    try:
        return spatialdata.read_zarr(store)
    except Exception as error:  # of any kind, as it comes from many libraries
        raise ReadError(
            f"source: {store!r} cannot be read by spatialdata ({error}); repair it, or pass --out "
            "instead of --output-layer."
        ) from error


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


def as_command(function: Callable[..., None]) -> Callable[..., None]:
    """A function as typer takes it: groups are their options, errors a line and an exit status."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    kinds = {name: hints[name] for name in parameters}
    options = [o for name, p in parameters.items() for o in _options(name, kinds[name], p.default)]

    @functools.wraps(function)
    def run(**given: Any) -> None:
        try:
            function(**{name: _value(name, kind, given) for name, kind in kinds.items()})
        except (GigaqcError, OSError) as error:
            raise typer.Exit(report(error)) from None

    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def _options(name: str, kind: Any, default: Any) -> Iterator[inspect.Parameter]:
    """A parameter itself, or the fields of a group."""
    if not dataclasses.is_dataclass(kind):
        default = inspect.Parameter.empty if default is dataclasses.MISSING else default
        yield inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
        )
        return
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        yield from _options(field.name, hints[field.name], field.default)


def _value(name: str, kind: Any, given: dict[str, Any]) -> Any:
    """What was given for a parameter, or for the fields of a group."""
    if not dataclasses.is_dataclass(kind):
        return given[name]
    hints = get_type_hints(kind, include_extras=True)
    return kind(**{f.name: _value(f.name, hints[f.name], given) for f in dataclasses.fields(kind)})  # type: ignore[operator]


@contextlib.contextmanager
def computing(workers: int | None, memory: str | None, scheduler: str | None) -> Iterator[None]:
    """Within this context dask computes where these say; with None for all, where it did before.

    Parameters
    ----------
    workers
        So many processes of one thread each, started here and stopped at the end; by default one
        a core.
    memory
        What these processes may use together, such as ``"4GB"``.
    scheduler
        Address of a cluster that runs already, such as ``"tcp://host:8786"``.

    Raises
    ------
    ParameterError
        When they contradict one another, the cluster does not answer, or a worker was killed.
    """
    if scheduler is None and workers is None and memory is None:
        yield
        return
    if scheduler is not None and (workers is not None or memory is not None):
        raise ParameterError(
            "--scheduler: a cluster has its own workers; leave --workers and --memory out."
        )
    import distributed

    with contextlib.ExitStack() as stack:
        if scheduler is None:
            cluster = stack.enter_context(_local_cluster(workers or os.cpu_count() or 1, memory))
            stack.enter_context(distributed.Client(cluster))
        else:
            stack.enter_context(_client(scheduler))
        try:
            yield
        except distributed.KilledWorker as error:
            raise ParameterError(
                "--memory: a worker was killed, most often for want of memory; allow more memory, "
                "or take fewer --workers."
            ) from error


def _local_cluster(workers: int, memory: str | None) -> Any:
    import distributed
    from dask.utils import parse_bytes

    try:
        limit = None if memory is None else parse_bytes(memory) // workers
    except ValueError as error:
        raise ParameterError(f"--memory: got {memory!r}; pass a size such as 4GB.") from error
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit="auto" if limit is None else limit,
        dashboard_address="127.0.0.1:0",  # any free port: None takes 8787, and warns if it is taken
        # A worker that is asked to stop between two heartbeats would call that an error.
        silence_logs=logging.CRITICAL,
    )


def _client(address: str) -> Any:
    import distributed

    try:
        # A client that fails stays dask's default, and whatever is computed later would not end.
        with distributed.Client(address, timeout=10, set_as_default=False):
            pass
        return distributed.Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"--scheduler: nothing answers at {address!r}; start one with `dask scheduler`, or "
            "leave it out to run here."
        ) from error
