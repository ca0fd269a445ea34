"""What does a map of temporal signal to noise cost over reading, and over ukat's?

    python benchmarks/tsnr.py [--frames 400] [--side 512] [--runs 5] [--threads 2] [--peer PYTHON]

The floor reads and decodes every chunk once with the same scheduler and threads, through dask's own
`from_zarr`: from a zstd store with all frames of 64 x 64 pixels in a chunk, and from one with a
whole frame in a chunk. `--peer` names the Python of an environment that has ukat; its `Tsnr` then
gets the series as an array in memory, gigaqc the same array as well, and the maps are compared.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr
from _measure import in_turn, ratio, report

import gigaqc as gq

# From its file: the package imports its segmentation, and that a framework of gigabytes.
_PEER = """
import importlib.util, sys
import numpy as np
folder = list(importlib.util.find_spec("ukat").submodule_search_locations)[0]
spec = importlib.util.spec_from_file_location("snr", folder + "/qa/snr.py")
snr = importlib.util.module_from_spec(spec)
spec.loader.exec_module(snr)
series = np.ascontiguousarray(np.moveaxis(np.load(sys.argv[1]), 0, -1))
print("ready", flush=True)
for line in sys.stdin:
    found = snr.Tsnr(series, np.eye(4)).tsnr_map
    np.save(sys.argv[2], found)
    print("done", flush=True)
"""


class Peer:
    """ukat in a process of its own, which computes when asked."""

    def __init__(self, python: str, series: np.ndarray, folder: Path) -> None:
        self.result = folder / "peer.npy"
        np.save(folder / "series.npy", series)
        command = [
            python,
            "-W",
            "ignore",
            "-c",
            _PEER,
            str(folder / "series.npy"),
            str(self.result),
        ]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        self._wait()

    def compute(self) -> None:
        """One map."""
        assert self.process.stdin is not None
        self.process.stdin.write("compute\n")
        self._wait()

    def _wait(self) -> None:
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise SystemExit("the peer failed: it needs ukat and what ukat/qa/snr.py imports")


def discard(array: da.Array) -> None:
    """Compute every chunk and keep none."""
    ones = (1,) * array.ndim
    array.map_blocks(lambda block: np.zeros(ones), chunks=ones, dtype=float).compute()


def simulated(frames: int, side: int) -> np.ndarray:
    """Counts with a slow drift."""
    rng = np.random.default_rng(0)
    base = 200 + 300 * rng.random((side, side))
    return np.stack([rng.poisson(base * (1 + 2e-4 * t)) for t in range(frames)]).astype("u2")


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer")
    options = parser.parse_args()
    series = simulated(options.frames, options.side)
    shape = series.shape
    print(f"{shape[0]} frames of {shape[1]} x {shape[2]}, uint16, {options.threads} threads")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dask.config.set(scheduler="threads", num_workers=options.threads)
        chunkings = {"all frames a chunk": (shape[0], 64, 64), "a frame a chunk": (1, *shape[1:])}
        for label, chunks in chunkings.items():
            path = folder / f"{chunks[0]}.zarr"
            zarr.create_array(path, shape=shape, chunks=chunks, dtype="u2")[:] = series
            image = gq.open_image(path, dims="tyx")
            functions = {
                "read and decode": lambda path=path: discard(da.from_zarr(str(path))),
                "tsnr_map": lambda image=image: gq.tsnr_map(image).compute(),
                "temporal_statistics": lambda image=image: gq.temporal_statistics(image).compute(),
            }
            print(f"-- {label}")
            report(in_turn(functions, options.runs), "read and decode")
        if options.peer:
            compare(options, series, folder)


def compare(options: argparse.Namespace, series: np.ndarray, folder: Path) -> None:
    """Print how gigaqc and ukat do on an array in memory, and how far their maps are apart."""
    peer = Peer(options.peer, series, folder)
    chunks = {"t": len(series), "y": max(options.side // 8, 1)}
    image = xr.DataArray(series, dims=("t", "y", "x")).chunk(chunks)

    def own() -> xr.DataArray:
        return gq.tsnr_map(image, baseline="intercept", invalid="zero").compute()

    print("-- in memory")
    seconds = in_turn({"gigaqc": own, "ukat": peer.compute}, options.runs)
    report(seconds, "gigaqc")
    apart = np.abs(own().values / np.load(peer.result) - 1).max()
    times = ratio(seconds, "ukat", "gigaqc")
    print(f"ukat takes {times:.0f} times as long; maps differ by {apart:.1e}")
    peer.process.stdin.close()
    peer.process.wait()


if __name__ == "__main__":
    main()
