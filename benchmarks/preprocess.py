"""What does preparing pixels for clustering cost? Computed and written, over reading and writing.

    python -m benchmarks.preprocess [--side 4096] [--runs 3] [--store FOLDER]

The floor reads and decodes every chunk four times, as what depends on what asks, and writes one
image of float32 through dask.
"""

from __future__ import annotations

from pathlib import Path

import dask.array as da

import gigaqc as gq
from benchmarks._measure import Stored, slide
from benchmarks._question import SLIDE, Question


def floor(stored: Stored) -> None:
    """Four reads and a write."""
    for _ in range(3):
        stored.read()
    image = da.from_zarr(str(stored.path)).astype("f4")
    gq.write_image(image, stored.path.with_name("floor.zarr"), overwrite=True)


def prepared(stored: Stored) -> Path:
    """gigaqc with its defaults."""
    out = stored.path.with_name("prepared.zarr")
    gq.write_image(gq.pixel_clustering_preprocess(stored.image), out, overwrite=True)
    return out


QUESTIONS = (
    Question(
        name="preprocess",
        group="transforms",
        of=SLIDE + ", written",
        prepare=slide,
        functions={
            "reading four times and writing once": floor,
            "`pixel_clustering_preprocess`": prepared,
        },
        memory=("`pixel_clustering_preprocess`",),
        full={"side": 4096, "channels": 4},
        quick={"side": 1024, "channels": 2},
        runs=3,
    ),
)

if __name__ == "__main__":
    from benchmarks.__main__ import ask

    ask(__spec__.name)
