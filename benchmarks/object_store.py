"""What does the latency of an object store cost? Each request waits; threads should not.

    python -m benchmarks.object_store [--side 4096] [--channels 4] [--runs 3] [--store FOLDER]

A web server in a process of its own answers each chunk after 0 to 100 ms. `scan` and
`gaussian_blur` over it are compared with local files, and with chunks that threads fetch one by
one, through zarr's pipeline.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask

import gigaqc as gq
from benchmarks._measure import in_turn, ratio, slide
from gigaqc.stores import location

SERVER = """
import sys
from gigaqc.testing import FaultyServer

with FaultyServer(sys.argv[1]) as server:
    server.fail("/c/", delay=float(sys.argv[2]))
    print(server.url, flush=True)
    sys.stdin.read()
"""
WORK: dict[str, Callable[[Any], Any]] = {
    "scan": lambda image: gq.scan(image).compute(),
    "blur": lambda image: gq.gaussian_blur(image, 2).mean().compute(),
}


def one_by_one(work: Callable[[Any], Any], image: Any) -> None:
    """The same with a store that is left to zarr: a thread waits for each chunk."""
    known = location.is_remote
    location.is_remote = lambda _: False
    try:
        work(image())
    finally:
        location.is_remote = known


def main() -> None:
    """Print seconds and ratios to local files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.store or Path(temporary)
        path, local = slide(folder, options.side, options.channels)
        count = local.data.npartitions
        print(f"{count} chunks of 2 MiB, {options.threads} threads, {options.runs} rounds")
        print("| work | latency | one by one, waiting only | one by one | ahead | local, s |")
        print("|---|---|---|---|---|---|")
        for milliseconds in (0, 20, 50, 100):
            command = [sys.executable, "-c", SERVER, str(folder), str(milliseconds / 1000)]
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as server:
                assert server.stdout is not None
                url = f"{server.stdout.readline().strip()}/{path.name}"
                for what, work in WORK.items():
                    compare(what, work, local, url, milliseconds, options)
                server.communicate("")


def compare(
    what: str,
    work: Callable[[Any], Any],
    local: Any,
    url: str,
    milliseconds: int,
    options: argparse.Namespace,
) -> None:
    """Print one row."""
    with dask.config.set(scheduler="threads", num_workers=options.threads):
        seconds = in_turn(
            {
                "local": lambda: work(local),
                "one by one": lambda: one_by_one(work, lambda: gq.open_image(url)),
                "ahead": lambda: work(gq.open_image(url)),
            },
            options.runs,
        )
    waiting = local.data.npartitions * milliseconds / 1000 / options.threads
    before, after = (ratio(seconds, name, "local") for name in ("one by one", "ahead"))
    print(
        f"| {what} | {milliseconds} ms | {waiting:.1f} s | {before:.2f} x | {after:.2f} x | "
        f"{sorted(seconds['local'])[len(seconds['local']) // 2]:.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
