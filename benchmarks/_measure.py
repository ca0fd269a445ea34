"""How benchmarks measure: runs in turn, medians, ratios in one process."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import dask.array as da
import numpy as np
import zarr


def in_turn(
    functions: Mapping[str, Callable[[], object]],
    runs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each function, A B C A B C ..., after one round that is not counted.

    With `time.process_time` for a clock they are of processors, which others on the machine change
    less.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for counted in range(-1, runs):
        for name, function in functions.items():
            start = clock()
            function()
            if counted >= 0:
                seconds[name].append(clock() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, floor: str) -> float:
    """Median over the rounds of one function's time over another's in the same round."""
    pairs = zip(seconds[name], seconds[floor], strict=True)
    return statistics.median(a / b for a, b in pairs)


def report(seconds: Mapping[str, list[float]], floor: str) -> None:
    """Print medians, and ratios to the floor."""
    print(f"{platform.processor() or platform.machine()}, {len(seconds[floor])} runs, median")
    for name, taken in seconds.items():
        print(f"{name:28} {statistics.median(taken):8.2f} s   {ratio(seconds, name, floor):5.2f} x")


def read(path: Path) -> None:
    """The floor: read and decode every chunk as anybody would, and throw it away."""
    whole = da.from_zarr(str(path))
    ones = (1,) * whole.ndim
    whole.map_blocks(lambda block: np.zeros(ones), chunks=ones, dtype=float).compute()


def slide(path: Path, channels: int, side: int, chunk: int = 1024) -> Path:
    """A zstd store of uint16 with structure and photon noise, as a fluorescence slide has them."""
    if path.exists():
        return path
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    store = zarr.create_array(
        path, shape=(channels, side, side), chunks=(1, chunk, chunk), dtype="u2"
    )
    for c in range(channels):
        base = gaussian_filter(rng.random((chunk, chunk)), 6)
        base = (base - base.min()) / (base.max() - base.min())
        for y in range(0, side, chunk):
            for x in range(0, side, chunk):
                signal = 100 + (200 + 50 * c) * base
                store[c, y : y + chunk, x : x + chunk] = rng.poisson(signal).astype("u2")
    return path
