"""What does segmenting nuclei cost? Over reading, and beside scikit-image on the whole array.

    python -m benchmarks.segment [--side 4096] [--runs 3] [--store FOLDER]

Nuclei of 14 pixels. The same steps (Otsu, blur, distance, markers, watershed) with scipy and
scikit-image on the whole array stand beside the tiles, with the counts; then the peak memory of a
child process that computes the labels and throws them away.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr

import gigaqc as gq
from benchmarks._measure import Stored, discard, made
from benchmarks._question import Question
from gigaqc.segmentation.methods import WatershedSteps, watershed_labels

CHUNK, DIAMETER = 1024, 14
WHOLE = "the same steps with scikit-image on the whole array"


def nuclei(folder: Path, side: int) -> Stored:
    """A zstd store of uint16: crowded bright ellipses on a dim background, with photon noise."""

    def write(path: Path) -> None:
        from scipy.ndimage import gaussian_filter

        rng = np.random.default_rng(0)
        plane = np.full((CHUNK, CHUNK), 20.0)
        y, x = np.indices((2 * DIAMETER,) * 2) - DIAMETER
        for top, left in rng.integers(0, CHUNK - 2 * DIAMETER, (3000, 2)):
            a, b = rng.uniform(0.4, 0.6, 2) * DIAMETER
            window = plane[top : top + len(y), left : left + len(y)]
            window[(y / a) ** 2 + (x / b) ** 2 <= 1] = rng.uniform(150, 400)
        plane = gaussian_filter(plane, 1)
        chunks = (min(CHUNK, side),) * 2
        store = zarr.create_array(path, shape=(side, side), chunks=chunks, dtype="u2")
        for top in range(0, side, CHUNK):
            for left in range(0, side, CHUNK):
                counts = rng.poisson(np.roll(plane, (top // 7, left // 5), (0, 1)))
                store[top : top + CHUNK, left : left + CHUNK] = counts[: side - top, : side - left]

    path = made(folder / f"nuclei-{side}.zarr", write)
    return Stored(path, gq.open_image(path))


def whole(stored: Stored) -> np.ndarray:
    """All pixels at once."""
    from skimage.filters import threshold_otsu

    image = zarr.open_array(stored.path, mode="r")[:]
    threshold = threshold_otsu(image, nbins=int(image.max() - image.min()) + 1)
    return watershed_labels(image, WatershedSteps.of(float(threshold), DIAMETER))


def counts(stored: Stored) -> str:
    """How many nuclei either finds."""
    n = np.count_nonzero(np.bincount(whole(stored).ravel())[1:])
    tiles = gq.segment_nuclei(stored.image, 0, diameter=DIAMETER).max().compute()
    return f"{n:,} nuclei there, {int(tiles):,} here"


QUESTIONS = (
    Question(
        name="segment",
        group="objects",
        of="{side} x {side} uint16, watershed, diameter given",
        prepare=nuclei,
        functions={
            "reading": Stored.read,
            "`segment_nuclei`": lambda s: discard(
                gq.segment_nuclei(s.image, 0, diameter=DIAMETER).data
            ),
            WHOLE: whole,
        },
        pairs=(("`segment_nuclei`", "reading"), ("`segment_nuclei`", WHOLE)),
        notes={WHOLE: counts},
        memory=("`segment_nuclei`",),
        full={"side": 4096},
        quick={"side": 1024},
        runs=3,
    ),
)

if __name__ == "__main__":
    from benchmarks.__main__ import ask

    ask(__spec__.name)
