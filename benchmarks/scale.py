"""Does the cost of a chunk stay what it is when there are many? Graphs and runs of 10^2 to 10^5.

    python -m benchmarks.scale [--chunks 100 1000 10000 100000] [--side 256] [--threads 2] [--store FOLDER]

Each chunk is a group: what a task costs beside its pixels shows, and graphs are as large as those of
images with 128 times as many pixels a chunk. Stores are sparse: all chunks are links to four files.
Each figure comes from a process of its own; memory is the peak over the imports.
"""  # noqa: E501

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np

from gigaqc import testing

MIB = 1 << 20

SETUP = """
import time
import dask
import gigaqc as gq
from gigaqc.scanning.tissue import tissue_pass
dask.config.set(scheduler="threads", num_workers={threads})
dask.config.set({{"gigaqc.group-values": {side} * {side}}})
corner = slice(4 * {side})  # so that all kernels are loaded
warm = gq.open_image({path!r}, chunks={side}).isel(y=corner, x=corner)
gq.assess(warm, progress=False)
"""
GRAPH = """
start = time.perf_counter()
image = gq.open_image({path!r}, chunks={side})
statistics = gq.scan(image)
tissue = tissue_pass(image, 0, statistics, channel_in_statistics=0, method="otsu")
print(time.perf_counter() - start)
"""
RUN = """
start, busy = time.perf_counter(), time.process_time()
verdict = gq.assess(gq.open_image({path!r}, chunks={side}), progress=False)
print(time.perf_counter() - start, time.process_time() - busy)
assert verdict.statistics.distribution(0).n == {pixels}
"""


def store(folder: Path, across: int, side: int) -> Path:
    """A square image of so many chunks a side."""
    path = folder / f"{across}x{side}.zarr"
    if not path.exists():
        rng = np.random.default_rng(0)
        blocks = [rng.poisson(30 + k, (1, side, side)).astype("u2") for k in range(4)]
        shape = (1, across * side, across * side)
        testing.sparse_store(path, shape, (1, side, side), dtype="u2", blocks=blocks)
    return path


def main() -> None:
    """Print a line for each number of chunks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    print("  chunks  graph s  graph MiB    run s  ms a chunk  CPU ms a chunk  run MiB")
    with tempfile.TemporaryDirectory() as temporary:
        for wanted in options.chunks:
            across = round(math.sqrt(wanted))
            path = store(options.store or Path(temporary), across, options.side)
            named = {
                "path": str(path),
                "side": options.side,
                "threads": options.threads,
                "pixels": (across * options.side) ** 2,
            }
            setup = SETUP.format(**named)
            graph = testing.peak_memory(GRAPH.format(**named), setup=setup, timeout=3600)
            run = testing.peak_memory(RUN.format(**named), setup=setup, timeout=36_000)
            seconds, busy = map(float, run.stdout.split())
            n = across**2
            print(
                f"{n:8} {float(graph.stdout):8.2f} {graph.growth / MIB:10.1f} {seconds:8.1f} "
                f"{1e3 * seconds / n:11.2f} {1e3 * busy / n:15.2f} {run.growth / MIB:8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
