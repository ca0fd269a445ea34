"""What does a table of objects cost over reading labels and image?

    python -m benchmarks.objects [--side 8192] [--runs 3] [--store FOLDER]

Labels (uint32) and image (uint16) are zarr stores, zstd, chunks of 1024. Objects are discs on a
grid of 16 pixels, moved and sized by chance: 2.6e5 at the default side. The floor reads and decodes
every chunk of both once. `benchmarks.peers` compares with scikit-image on whole arrays.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr

import gigaqc as gq
from benchmarks._measure import Stored, discarded, made, slide
from benchmarks._question import Question

PITCH = 16


class Objects(NamedTuple):
    """Labels, and an image of the same pixels."""

    label_path: Path
    labels: xr.DataArray
    stored: Stored

    def read(self) -> None:
        dask.compute(
            *(discarded(da.from_zarr(str(p))) for p in (self.label_path, self.stored.path))
        )

    def to_parquet(self) -> None:
        out = self.label_path.with_suffix(".parquet")
        gq.object_table(self.labels, self.stored.image, to=out, overwrite=True)


def prepare(folder: Path, side: int, channels: int) -> Objects:
    path = discs(folder / f"discs-{side}.zarr", side)
    return Objects(path, gq.open_labels(path), slide(folder, side, channels))


def discs(path: Path, side: int) -> Path:
    """A label image of about (side / 16)^2 discs, radius 4 to 7, none cut by the grid."""
    chunk = min(1024, side)

    def write(path: Path) -> None:
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

    return made(path, write)


QUESTIONS = (
    Question(
        name="objects",
        group="objects",
        of="{side} x {side} labels and {channels} channels",
        prepare=prepare,
        functions={
            "reading both": Objects.read,
            "`object_table`": lambda o: gq.object_table(o.labels, o.stored.image),
            "`object_table`, into Parquet": Objects.to_parquet,
            "`object_table`, no image": lambda o: gq.object_table(o.labels),
        },
        memory=("`object_table`", "`object_table`, into Parquet"),
        full={"side": 8192, "channels": 4},
        quick={"side": 1024, "channels": 2},
        runs=3,
    ),
)

if __name__ == "__main__":
    from benchmarks.__main__ import ask

    ask(__spec__.name)
