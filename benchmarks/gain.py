"""What does a gain map cost? Median, MAD and fit, over bottleneck in memory and over reading.

    python benchmarks/gain.py [--frames 400] [--side 512] [--runs 5] [--peer]

In memory: one thread, uint16. With --peer, where bottleneck is installed, its median and MAD of the
same array, once. From stores (zstd) with all frames in a chunk, and with one frame a chunk within
1 GiB: over the time that the same threads take to read and decode the first, through dask's
`from_zarr`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr
from _measure import in_turn, report
from transforms import discard

import gigaqc as gq
from gigaqc.kernels.temporal import median_and_mad


def camera(frames: int, side: int) -> np.ndarray:
    """A series of a gradient with photon noise."""
    rng = np.random.default_rng(0)
    light = np.geomspace(50, 5000, side * side).reshape(side, side)
    series = np.empty((frames, side, side), "u2")
    for frame in series:
        frame[:] = 100 + rng.poisson(light) // 2
    return series


def stored(series: np.ndarray, path: Path, chunks: tuple[int, int, int]) -> xr.DataArray:
    """The series as a store, opened."""
    array = zarr.create_array(path, shape=series.shape, chunks=chunks, dtype=series.dtype)
    array[:] = series
    return gq.open_image(path, dims="tyx")


def numbers(series: xr.DataArray, estimator: str, memory: str | None = None) -> None:
    """All maps and numbers."""
    gq.gain_map(series, estimator=estimator, memory=memory).compute()


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    series = camera(options.frames, options.side)
    flat = series.reshape(len(series), -1)
    lazy = xr.DataArray(da.from_array(series, chunks=-1), dims=("t", "y", "x"))
    with dask.config.set(scheduler="sync"):
        functions = {
            "median and MAD": lambda: median_and_mad(flat),
            "gain_map": lambda: numbers(lazy, "mad"),
            "gain_map, variance": lambda: numbers(lazy, "variance"),
        }
        seconds = in_turn(functions, options.runs)
        report(seconds, "median and MAD")
        for name, taken in seconds.items():
            print(f"{name}: {sorted(taken)[options.runs // 2] / series.size * 1e9:.2f} ns a sample")
    if options.peer:
        import bottleneck

        start = time.perf_counter()
        middle = bottleneck.median(series, axis=0)
        bottleneck.median(np.abs(series - middle), axis=0)
        taken = (time.perf_counter() - start) / series.size * 1e9
        print(f"bottleneck, median and MAD: {taken:.1f} ns a sample")
    with tempfile.TemporaryDirectory() as folder:
        band = max(options.side // 16, 1)
        together = stored(series, Path(folder, "all.zarr"), (options.frames, band, options.side))
        frames = stored(series, Path(folder, "frame.zarr"), (1, options.side, options.side))
        path = str(Path(folder, "all.zarr"))
        functions = {
            "read all frames in a chunk": lambda: discard(da.from_zarr(path)),
            "gain_map of it": lambda: numbers(together, "mad"),
            "... variance": lambda: numbers(together, "variance"),
            "gain_map, one frame a chunk": lambda: numbers(frames, "mad", "1GiB"),
            "... by a temporary store": lambda: numbers(frames, "mad", "128MiB"),
        }
        with dask.config.set(scheduler="threads", num_workers=options.threads):
            report(in_turn(functions, options.runs), "read all frames in a chunk")


if __name__ == "__main__":
    main()
