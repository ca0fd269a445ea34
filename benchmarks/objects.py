"""What does a table of objects cost? Against scikit-image on whole arrays, and reading alone.

    python benchmarks/objects.py [--side 16384] [--channels 4] [--runs 3] [--store FOLDER]

Labels (uint32) and image (uint16) are zarr stores, zstd, chunks of 1024. Objects are discs on a
grid of 16 pixels, moved and sized by chance: about 10^6 at the default side. The floor reads and
decodes every chunk of both once, through dask's own `from_zarr`, with the same threads.
`regionprops_table` gets whole arrays that are in memory already, and reads nothing; it is asked for
area, centroid, bounding box, axes, eccentricity, mean, minimum and maximum, once.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import zarr
from _measure import in_turn, report, slide

import gigaqc as gq
from gigaqc.testing import peak_memory

PITCH = 16
PROPERTIES = (
    "label", "area", "centroid", "bbox", "axis_major_length", "axis_minor_length", "eccentricity",
    "orientation", "intensity_mean", "intensity_min", "intensity_max",
)  # fmt: skip


def discs(path: Path, side: int, chunk: int = 1024) -> Path:
    """A label image of about (side / 16)^2 discs, radius 4 to 7, none cut by the grid."""
    if path.exists():
        return path
    rng = np.random.default_rng(1)
    store = zarr.create_array(path, shape=(side, side), chunks=(chunk, chunk), dtype="u4")
    cells = side // PITCH
    y, x = np.mgrid[:PITCH, :PITCH]
    for row in range(0, side, chunk):
        rows = range(row // PITCH, min(row + chunk, side) // PITCH)
        band = np.zeros((len(rows) * PITCH, side), "u4")
        for k, cell in enumerate(rows):
            radius = rng.uniform(4, 7, (cells, 1, 1))
            middle = rng.uniform(7, 8, (2, cells, 1, 1))
            disc = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 <= radius**2
            ids = np.arange(1, cells + 1)[:, None, None] + cell * cells
            tiles = np.where(disc, ids, 0).astype("u4")
            band[k * PITCH : (k + 1) * PITCH] = tiles.transpose(1, 0, 2).reshape(PITCH, -1)
        store[row : row + len(band)] = band
    return path


def discard(array: da.Array) -> da.Array:
    """Every chunk computed and none kept."""
    ones = (1,) * array.ndim
    return array.map_blocks(lambda block: np.zeros(ones), chunks=ones, dtype=float)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-side", type=int, default=4096, help="0 leaves the peer out")
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.store or Path(folder)
        image_path = slide(
            root / f"slide-{options.channels}x{options.side}.zarr", options.channels, options.side
        )
        label_path = discs(root / f"discs-{options.side}.zarr", options.side)
        image, labels = gq.open_image(image_path), gq.open_labels(label_path)
        floor = [discard(da.from_zarr(str(p))) for p in (image_path, label_path)]
        functions = {
            "read and decode both": lambda: dask.compute(*floor),
            "object_table": lambda: gq.object_table(labels, image),
            "object_table, no image": lambda: gq.object_table(labels),
            "to Parquet": lambda: gq.object_table(
                labels, image, to=Path(folder) / "cells.parquet", overwrite=True
            ),
        }
        with dask.config.set(scheduler="threads", num_workers=options.threads):
            report(in_turn(functions, options.runs), "read and decode both")
            if options.peer_side:
                compare(image_path, label_path, options.peer_side)
        print(f"objects: {len(gq.object_table(labels))}")
        for name, call in (
            ("held", ""),
            ("to Parquet", f", to={str(Path(folder, 'm.parquet'))!r}"),
        ):
            setup = (
                "import dask, gigaqc as gq, dask.dataframe, pyarrow.parquet\n"
                f"image = gq.open_image({str(image_path)!r})\n"
                f"labels = gq.open_labels({str(label_path)!r})\n"
                f"dask.config.set(scheduler='threads', num_workers={options.threads})\n"
                "gq.object_table(labels[:2048, :2048], image[:, :2048, :2048])\n"
            )
            used = peak_memory(f"gq.object_table(labels, image{call})", setup=setup)
            print(f"memory, {name}: {used.growth / 2**20:.0f} MiB beyond the imports")


def compare(image_path: Path, label_path: Path, side: int) -> None:
    """Time per object of `regionprops_table` on a whole array, and of ours with reading."""
    from skimage.measure import regionprops_table

    cut = np.s_[..., :side, :side]
    image, labels = gq.open_image(image_path)[cut], gq.open_labels(label_path)[cut]
    whole, ids = np.moveaxis(image.values, 0, -1), labels.values
    start = time.perf_counter()
    regionprops_table(ids, whole, properties=PROPERTIES)
    middle = time.perf_counter()
    table = gq.object_table(labels, image)
    end = time.perf_counter()
    print(
        f"regionprops_table, {side} x {side}, {len(table)} objects: {middle - start:.2f} s; "
        f"object_table, reading included: {end - middle:.2f} s; "
        f"{(middle - start) / (end - middle):.0f} x"
    )


if __name__ == "__main__":
    main()
