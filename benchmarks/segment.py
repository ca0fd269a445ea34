"""What does segmenting nuclei cost? Over reading, and beside scikit-image on the whole array.

    python benchmarks/segment.py [--side 4096] [--runs 3] [--diameter 14] [--store FOLDER]

The same steps (Otsu, blur, distance, markers, watershed) with scipy and scikit-image on the whole
array stand beside the tiles, with the counts; then the peak memory of a child process that computes
the labels and throws them away.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import zarr
from _measure import in_turn, report
from transforms import discard

import gigaqc as gq
from gigaqc.segmentation.watershed import Steps, watershed_labels
from gigaqc.testing import peak_memory

CHUNK = 1024


def nuclei(path: Path, side: int, diameter: float) -> Path:
    """A zstd store of uint16: crowded bright ellipses on a dim background, with photon noise."""
    if path.exists():
        return path
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    plane = np.full((CHUNK, CHUNK), 20.0)
    y, x = np.indices((int(2 * diameter),) * 2) - diameter
    for top, left in rng.integers(
        0, CHUNK - int(2 * diameter), (int(3000 * (14 / diameter) ** 2), 2)
    ):
        a, b = rng.uniform(0.4, 0.6, 2) * diameter
        window = plane[top : top + len(y), left : left + len(y)]
        window[(y / a) ** 2 + (x / b) ** 2 <= 1] = rng.uniform(150, 400)
    plane = gaussian_filter(plane, 1)
    store = zarr.create_array(path, shape=(side, side), chunks=(CHUNK, CHUNK), dtype="u2")
    for top in range(0, side, CHUNK):
        for left in range(0, side, CHUNK):
            shifted = np.roll(plane, (top // 7, left // 5), (0, 1))
            store[top : top + CHUNK, left : left + CHUNK] = rng.poisson(shifted)[
                : side - top, : side - left
            ]
    return path


def whole(path: Path, diameter: float) -> np.ndarray:
    """All pixels at once."""
    from skimage.filters import threshold_otsu

    image = zarr.open_array(path, mode="r")[:]
    threshold = threshold_otsu(image, nbins=int(image.max() - image.min()) + 1)
    return watershed_labels(image, Steps.of(float(threshold), diameter))


def tiled(path: str, diameter: float) -> None:
    """Labels computed and thrown away."""
    discard(gq.segment_nuclei(gq.open_image(path), 0, diameter=diameter).data)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--diameter", type=float, default=14)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    pixels, diameter = options.side**2, options.diameter
    with tempfile.TemporaryDirectory() as folder:
        name = f"nuclei-{options.side}-{diameter:g}.zarr"
        path = nuclei((options.store or Path(folder)) / name, options.side, diameter)
        with dask.config.set(scheduler="threads", num_workers=options.threads):
            functions = {
                "read and decode": lambda: discard(da.from_zarr(str(path))),
                "scikit-image, whole": lambda: whole(path, diameter),
                "labels in tiles": lambda: tiled(str(path), diameter),
            }
            seconds = in_turn(functions, options.runs)
            report(seconds, "read and decode")
            report(
                {k: v for k, v in seconds.items() if k != "read and decode"}, "scikit-image, whole"
            )
            for name, taken in seconds.items():
                print(f"{name:28} {np.median(taken) / pixels * 1e9:6.1f} ns a pixel")
            n = np.count_nonzero(np.bincount(whole(path, diameter).ravel())[1:])
            found = int(
                gq.segment_nuclei(gq.open_image(path), 0, diameter=diameter).max().compute()
            )
            print(f"counts: whole {n:,}, tiles {found:,}")
            setup = (
                f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import segment, "
                f"dask; dask.config.set(scheduler='threads', num_workers={options.threads})"
            )
            peak = peak_memory(f"segment.tiled({str(path)!r}, {diameter})", setup=setup)
            print(
                f"memory: {peak.growth / 2**20:,.0f} MiB in tiles; the image is "
                f"{2 * pixels / 2**20:,.0f} MiB, its labels {4 * pixels / 2**20:,.0f} MiB"
            )


if __name__ == "__main__":
    main()
