"""What does a map of temporal signal to noise cost over reading?

    python -m benchmarks.tsnr [--side 512] [--runs 5] [--store FOLDER]

The floor reads and decodes every chunk once: from a zstd store with all frames of 64 x 64 pixels in
a chunk, and from one with a whole frame in a chunk. `benchmarks.peers` compares with ukat's `Tsnr`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import gigaqc as gq
from benchmarks._measure import Stored
from benchmarks._question import Question
from benchmarks.gain import SERIES, stored


def simulated(frames: int, side: int) -> np.ndarray:
    """Counts with a slow drift."""
    rng = np.random.default_rng(0)
    base = 200 + 300 * rng.random((side, side))
    return np.stack([rng.poisson(base * (1 + 2e-4 * t)) for t in range(frames)]).astype("u2")


def prepare(folder: Path, frames: int, side: int, together: str) -> Stored:
    chunks = (frames, 64, 64) if together == "all frames" else (1, side, side)
    path = folder / f"drift-{frames}x{side}-{chunks[0]}.zarr"
    return stored(path, lambda: simulated(frames, side), chunks)


QUESTIONS = (
    Question(
        name="tsnr",
        group="series",
        of=SERIES + ", {together} in a chunk",
        prepare=prepare,
        functions={
            "reading": Stored.read,
            "`tsnr_map`": lambda s: gq.tsnr_map(s.image).compute(),
            "`temporal_statistics`": lambda s: gq.temporal_statistics(s.image).compute(),
        },
        cases=({"together": "all frames"}, {"together": "one frame"}),
        full={"frames": 400, "side": 512},
        quick={"frames": 100, "side": 256},
    ),
)

if __name__ == "__main__":
    from benchmarks.__main__ import ask

    ask(__spec__.name)
