"""What does judging cost over reading? `assess` and `scan` over the time to read and decode.

    python benchmarks/assess_floor.py [--side 8192] [--channels 8] [--runs 5] [--store FOLDER]

The floor reads and decodes every chunk with the same scheduler and threads and throws it away.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import dask
from _measure import in_turn, read, report, slide

import gigaqc as gq


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        name = f"slide-{options.channels}x{options.side}.zarr"
        path = slide((options.store or Path(folder)) / name, options.channels, options.side)
        image = gq.open_image(path)
        functions = {
            "read and decode": lambda: read(path),
            "scan": lambda: gq.scan(image).compute(),
            "assess, no tissue": lambda: gq.assess(image, tissue=False, progress=False),
            "assess": lambda: gq.assess(image, progress=False),
        }
        with dask.config.set(scheduler="threads", num_workers=options.threads):
            report(in_turn(functions, options.runs), "read and decode")


if __name__ == "__main__":
    main()
