"""What does the image SNR of a volume cost: over reading it, and beside ukat's `Isnr`?

    python benchmarks/isnr.py [--side 256] [--runs 5] [--peer /path/to/python/with/ukat]

The volume is simulated magnitude MRI: a Rician background and two tissues. `isnr` runs on the store
and on the array in memory; ukat takes only the latter and makes the map too, so `isnr` and the map
of the array in memory stand beside it. It runs in an interpreter of its own, which reads the array
before its clock starts.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import tempfile
from pathlib import Path

import dask
import numpy as np
import xarray as xr
import zarr
from _measure import in_turn, read, report

import gigaqc as gq

PEER = """
import sys, time, numpy as np
from ukat.qa.snr import Isnr
# Given whole numbers, scikit-learn 1.9 cuts the log probabilities that it predicts by.
volume = np.load(sys.argv[1]).astype("f8")
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    found = Isnr(volume, np.eye(4))
    print("peer", time.perf_counter() - start, found.isnr)
"""


def volume(side: int, dtype: str) -> np.ndarray:
    """Magnitude of complex Gaussian noise of 20 on a body of 300 with an organ of 800."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j, -1 : 1 : side * 1j]
    radius = np.sqrt(z * z + y * y + x * x)
    truth = np.select([radius < 0.3, radius < 0.8], [800.0, 300.0], 0.0).astype("f4")
    truth *= 1 + 0.1 * np.sin(5 * x + 3 * y).astype("f4")
    noise = rng.normal(0, 20, (2, *truth.shape)).astype("f4")
    magnitude = np.hypot(truth + noise[0], noise[1])
    return np.rint(magnitude).astype(dtype) if dtype == "i2" else magnitude.astype(dtype)


def peer(python: str, array: Path, runs: int) -> list[tuple[float, float]]:
    """Seconds and answers of ukat."""
    command = [python, "-c", PEER, str(array), str(runs)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in printed.splitlines() if line.startswith("peer")]
    return [(float(seconds), float(answer)) for _, seconds, answer in lines]


def main() -> None:
    """Print the ratios, for integers and for floats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer", help="a Python interpreter that has ukat")
    options = parser.parse_args()
    print(platform.python_implementation(), platform.python_version())
    with (
        tempfile.TemporaryDirectory() as folder,
        dask.config.set(scheduler="threads", num_workers=options.threads),
    ):
        for dtype in ("i2", "f4"):
            whole = volume(options.side, dtype)
            path, array = Path(folder) / f"{dtype}.zarr", Path(folder) / f"{dtype}.npy"
            zarr.create_array(path, data=whole, chunks=(32, options.side, options.side))
            np.save(array, whole)
            stored = gq.open_image(path, dims="zyx")
            held = xr.DataArray(whole, dims=("z", "y", "x"))
            functions = {
                "read and decode": lambda path=path: read(path),
                "isnr of the store": lambda image=stored: gq.isnr(image).compute(),
                "isnr in memory": lambda image=held: gq.isnr(image).compute(),
                "isnr and map in memory": lambda image=held: dask.compute(
                    gq.isnr(image), gq.isnr_map(image)
                ),
            }
            print(f"\n{whole.dtype}, {options.side}^3")
            seconds = in_turn(functions, options.runs)
            report(seconds, "read and decode")
            print(f"isnr {float(gq.isnr(held)['isnr'][0].compute()):.4f}")
            if options.peer:
                taken = peer(options.peer, array, min(options.runs, 3))
                middle = statistics.median(s for s, _ in taken)
                print(f"{'ukat (in its interpreter)':28} {middle:8.2f} s, isnr {taken[0][1]:.4f}")
                for name in ("isnr in memory", "isnr and map in memory"):
                    ratio = middle / statistics.median(seconds[name])
                    print(f"    over {name}: {ratio:.0f} x")


if __name__ == "__main__":
    main()
