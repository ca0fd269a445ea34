"""What does preparing pixels for clustering cost? Computed and written, over reading and writing.

    python benchmarks/preprocess.py [--side 4096] [--channels 4] [--runs 3] [--peer]

The floor reads and decodes every chunk four times, as what depends on what asks, and writes
one image of float32 through dask. With --peer, in an environment with harpy-analysis, its function
of the same name is run once on the same store, its result written through dask.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import dask
import dask.array as da
from _measure import in_turn, report, slide
from transforms import discard

import gigaqc as gq


def floor(path: Path, out: Path) -> None:
    """Four reads and a write."""
    for _ in range(3):
        discard(da.from_zarr(str(path)))
    shutil.rmtree(out, ignore_errors=True)
    gq.write_image(da.from_zarr(str(path)).astype("f4"), out)


def ours(path: Path, out: Path) -> None:
    """gigaqc with its defaults."""
    image = gq.open_image(path)
    gq.write_image(gq.pixel_clustering_preprocess(image), out, overwrite=True)


def peer(path: Path, out: Path) -> None:
    """harpy with its defaults, in SpatialData without a store, then written."""
    import harpy
    import spatialdata

    image = da.from_zarr(str(path))
    element = spatialdata.models.Image2DModel.parse(image, dims=("c", "y", "x"))
    sdata = spatialdata.SpatialData(images={"raw": element})
    done = harpy.im.pixel_clustering_preprocess(
        sdata, image_name="raw", output_image_name="done", chunks=1024
    )
    shutil.rmtree(out, ignore_errors=True)
    done["done"].data.to_zarr(str(out))


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    values = options.channels * options.side**2
    with tempfile.TemporaryDirectory() as folder:
        name = f"slide-{options.channels}x{options.side}.zarr"
        path = slide((options.store or Path(folder)) / name, options.channels, options.side)
        out = Path(folder) / "out.zarr"
        with dask.config.set(scheduler="threads", num_workers=options.threads):
            seconds = in_turn(
                {
                    "read 4 times, write once": lambda: floor(path, out),
                    "pixel_clustering_preprocess": lambda: ours(path, out),
                },
                options.runs,
            )
            report(seconds, "read 4 times, write once")
            taken = sorted(seconds["pixel_clustering_preprocess"])[options.runs // 2]
            print(f"{taken / values * 1e9:.0f} ns a value")
            if options.peer:
                start = time.perf_counter()
                peer(path, out)
                print(f"harpy: {(time.perf_counter() - start) / values * 1e9:.0f} ns a value")


if __name__ == "__main__":
    main()
