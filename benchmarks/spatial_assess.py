"""What does `gq.spatial.assess` cost over `gq.assess` of the same element of a backed SpatialData?

    python benchmarks/spatial_assess.py [--side 4096] [--channels 4] [--runs 9] [--store FOLDER]

Both judge the image of one store, with the same threads; the former writes a grid and two tables
too. Results are removed between the rounds, outside of the time.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import dask
from _measure import report, slide

import gigaqc as gq
from gigaqc.spatial.elements import Form, add


def stored(folder: Path, channels: int, side: int) -> object:
    """A SpatialData in a store, with one image."""
    import spatialdata
    from spatialdata.transformations import Identity

    path = folder / f"spatial-{channels}x{side}.zarr"
    if path.exists():
        shutil.rmtree(path)
    empty = spatialdata.SpatialData()
    empty.write(path)
    image = gq.open_image(slide(folder / f"slide-{channels}x{side}.zarr", channels, side))
    add(empty, "images", ["slide"], [image], Form((), ()), [{"global": Identity()}])
    return spatialdata.read_zarr(path)


def clean(sdata: object) -> None:
    """Remove the results of a round, from memory and from the store."""
    for kind in ("tables", "shapes"):
        held = getattr(sdata, kind)
        for name in list(held):
            del held[name]
        shutil.rmtree(Path(sdata.path) / kind, ignore_errors=True)
    sdata.write_consolidated_metadata()


def main() -> None:
    """Print the ratios, and what writing takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # those of spatialdata's own dependencies
    with tempfile.TemporaryDirectory() as folder:
        sdata = stored(options.store or Path(folder), options.channels, options.side)
        functions = {
            "gq.assess": lambda: gq.assess(sdata["slide"], progress=False),
            "gq.spatial.assess": lambda: gq.spatial.assess(sdata, "slide", progress=False),
        }
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        busy: dict[str, list[float]] = {name: [] for name in functions}
        with dask.config.set(scheduler="threads", num_workers=options.threads):
            for counted in range(-1, options.runs):
                for name, function in functions.items():
                    clean(sdata)
                    start, start_busy = time.perf_counter(), time.process_time()
                    function()
                    if counted >= 0:
                        seconds[name].append(time.perf_counter() - start)
                        busy[name].append(time.process_time() - start_busy)
        report(seconds, "gq.assess")
        print("of the processor, which others on the machine do not lengthen:")
        report(busy, "gq.assess")


if __name__ == "__main__":
    main()
