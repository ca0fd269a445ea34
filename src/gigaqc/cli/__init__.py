"""The command line: ``gigaqc demo``, ``assess``, ``isnr``, ``tsnr``, ``gain`` and more.

Exit status: 0 done, 1 done and quality control failed (with ``--strict``), 2 wrong use, 3 input
that cannot be read.
"""

from collections.abc import Callable
from typing import Annotated

import typer

import gigaqc as gq
from gigaqc.cli.assess import assess, demo, info, metrics
from gigaqc.cli.noise import gain, isnr, tsnr
from gigaqc.cli.options import Exit, as_command
from gigaqc.cli.prepare import cluster, preprocess, segment

__all__ = ["Exit", "app", "main"]

_COMMANDS: dict[Callable[..., None], str | None] = {
    assess: "Judge images and write a page for each.",
    demo: "Judge a small real image that comes along.",
    info: "Say what a source holds and what a run reads.",
    metrics: None,
    preprocess: "Prepare images for the clustering of their pixels.",
    cluster: "Group the pixels of images by their channels.",
    isnr: "Signal to noise of an image, from the histogram of its background.",
    tsnr: "Temporal signal to noise of a series, pixel by pixel.",
    gain: "Gain of a camera from a series of frames, pixel by pixel.",
    segment: "Label the nuclei of images, and measure them.",
}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


for _command, _short in _COMMANDS.items():
    app.command(short_help=_short)(as_command(_command))


def main() -> None:
    """Run the command line."""
    app(prog_name="gigaqc")
