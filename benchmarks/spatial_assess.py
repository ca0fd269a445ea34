"""What does `gq.spatial.assess` cost over `gq.assess` of the same element of a backed SpatialData?

    python -m benchmarks.spatial_assess [--side 4096] [--runs 7] [--store FOLDER]

Both judge the image of one store, with the same threads; the former writes a grid and two tables
too, and its time holds the removal of those of the round before.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gigaqc as gq
from benchmarks._measure import Unavailable, slide
from benchmarks._question import SLIDE, Question
from gigaqc.spatial.elements import Form, add


def stored(folder: Path, **size: Any) -> Iterator[Any]:
    """A SpatialData in a store, with one image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of spatialdata's own dependencies
        try:
            import spatialdata
            from spatialdata.transformations import Identity
        except ImportError as reason:
            raise Unavailable(f"gigaqc[spatial] is not installed: {reason}") from None

        path = folder / "spatial.zarr"
        shutil.rmtree(path, ignore_errors=True)
        empty = spatialdata.SpatialData()
        empty.write(path)
        image = slide(folder, **size).image
        add(empty, "images", ["slide"], [image], Form((), ()), [{"global": Identity()}])
        yield spatialdata.read_zarr(path)


def assess_and_write(sdata: Any) -> None:
    """The results of the round before removed, those of this one written."""
    for kind in ("tables", "shapes"):
        held = getattr(sdata, kind)
        for name in list(held):
            del held[name]
        shutil.rmtree(Path(sdata.path) / kind, ignore_errors=True)
    sdata.write_consolidated_metadata()
    gq.spatial.assess(sdata, "slide", progress=False)


QUESTIONS = (
    Question(
        name="spatial",
        group="verdict",
        of=SLIDE + " in a store, grid and tables written",
        prepare=stored,
        functions={
            "`gq.assess`": lambda sdata: gq.assess(sdata["slide"], progress=False),
            "`gq.spatial.assess`": assess_and_write,
        },
        full={"side": 4096, "channels": 4},
        quick={"side": 1024, "channels": 2},
        runs=7,
    ),
)

if __name__ == "__main__":
    from benchmarks.__main__ import ask

    ask(__spec__.name)
