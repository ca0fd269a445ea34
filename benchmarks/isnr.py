"""What does the image SNR of a volume cost over reading it?

    python -m benchmarks.isnr [--side 256] [--runs 5] [--store FOLDER]

The volume is simulated magnitude MRI: a Rician background and two tissues, as integers and as
floats. `benchmarks.peers` compares with ukat's `Isnr`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr

import gigaqc as gq
from benchmarks._measure import Stored, made
from benchmarks._question import Question


def volume(side: int, dtype: str) -> np.ndarray:
    """Magnitude of complex Gaussian noise of 20 on a body of 300 with an organ of 800."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j, -1 : 1 : side * 1j]
    radius = np.sqrt(z * z + y * y + x * x)
    truth = np.select([radius < 0.3, radius < 0.8], [800.0, 300.0], 0.0).astype("f4")
    truth *= 1 + 0.1 * np.sin(5 * x + 3 * y).astype("f4")
    noise = rng.normal(0, 20, (2, *truth.shape)).astype("f4")
    magnitude = np.hypot(truth + noise[0], noise[1])
    return np.rint(magnitude).astype(dtype) if dtype == "int16" else magnitude.astype(dtype)


def prepare(folder: Path, side: int, dtype: str) -> Stored:
    def write(path: Path) -> None:
        zarr.create_array(path, data=volume(side, dtype), chunks=(min(32, side), side, side))

    path = made(folder / f"volume-{side}-{dtype}.zarr", write)
    return Stored(path, gq.open_image(path, dims="zyx"))


QUESTIONS = (
    Question(
        name="isnr",
        group="series",
        of="{side} x {side} x {side} {dtype}",
        prepare=prepare,
        functions={
            "reading": Stored.read,
            "`isnr`": lambda s: gq.isnr(s.image).compute(),
            "`isnr_map`": lambda s: gq.isnr_map(s.image).compute(),
        },
        cases=({"dtype": "int16"}, {"dtype": "float32"}),
        full={"side": 256},
        quick={"side": 96},
    ),
)

if __name__ == "__main__":
    from benchmarks.__main__ import ask

    ask(__spec__.name)
