"""What does a second worker process gain, and what does reading itself gain by it?

    python benchmarks/workers.py [--side 8192] [--channels 4] [--runs 3] [--store FOLDER]

Clusters of one and of two processes of one thread each; the floor reads and decodes every chunk.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import distributed
from _measure import in_turn, read, slide

import gigaqc as gq


def on(client: distributed.Client, work: Callable[[], object]) -> Callable[[], object]:
    """The same work on that cluster."""

    def run() -> object:
        with client.as_current():
            return work()

    return run


def main() -> None:
    """Print seconds and gains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory())
        name = f"slide-{options.channels}x{options.side}.zarr"
        path = slide((options.store or Path(temporary)) / name, options.channels, options.side)
        image = gq.open_image(path)
        work = {
            "reading": lambda: read(path),
            "scan": lambda: gq.scan(image).compute(),
            "assess": lambda: gq.assess(image, progress=False),
        }
        functions = {}
        for workers in (1, 2):
            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, silence_logs=50,
                    dashboard_address="127.0.0.1:0",
                )
            )  # fmt: skip
            client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
            functions |= {f"{name} {workers}": on(client, work[name]) for name in work}
        seconds = in_turn(functions, options.runs)
        for name in work:
            gains = [a / b for a, b in zip(seconds[f"{name} 1"], seconds[f"{name} 2"], strict=True)]
            one, two = (statistics.median(seconds[f"{name} {workers}"]) for workers in (1, 2))
            print(f"{name:8} {one:6.2f} s -> {two:6.2f} s   {statistics.median(gains):.2f} x")


if __name__ == "__main__":
    main()
