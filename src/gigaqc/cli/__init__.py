"""The command line: ``gigaqc demo``, ``assess``, ``isnr``, ``tsnr``, ``gain`` and more.

Exit status: 0 done, 1 done and quality control failed (with ``--strict``), 2 wrong use, 3 input
that cannot be read.
"""

from gigaqc.cli import metrics, noise, prepare, segment  # noqa: F401  (register their commands)
from gigaqc.cli.assess import app
from gigaqc.cli.verdicts import Exit

__all__ = ["Exit", "app", "main"]


def main() -> None:
    """Run the command line."""
    app(prog_name="gigaqc")
