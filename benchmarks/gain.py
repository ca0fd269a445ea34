"""What does a gain map cost? Over its own median and MAD in memory, and over reading.

    python -m benchmarks.gain [--side 512] [--runs 5] [--store FOLDER]

In memory: one thread, uint16. From stores (zstd) with all frames in a chunk, and with one frame a
chunk within 1 GiB and within 128 MiB: over the time that the same threads take to read and decode
the first. `benchmarks.peers` compares with bottleneck and smlmlp.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr

import gigaqc as gq
from benchmarks._measure import Stored, made
from benchmarks._question import Question
from gigaqc.kernels.temporal import median_and_mad

SERIES = "{frames} x {side} x {side} uint16"


def camera(frames: int, side: int) -> np.ndarray:
    """A series of a gradient with photon noise."""
    rng = np.random.default_rng(0)
    light = np.geomspace(50, 5000, side * side).reshape(side, side)
    series = np.empty((frames, side, side), "u2")
    for frame in series:
        frame[:] = 100 + rng.poisson(light) // 2
    return series


def stored(path: Path, series: Callable[[], np.ndarray], chunks: tuple[int, ...]) -> Stored:
    """A series as a store, opened."""
    made(path, lambda part: zarr.create_array(part, data=series(), chunks=chunks))
    return Stored(path, gq.open_image(path, dims="tyx"))


class Series(NamedTuple):
    """A series as two stores."""

    together: Stored
    frames: Stored


def together(folder: Path, frames: int, side: int) -> Stored:
    """A series with all frames in a chunk."""
    path = folder / f"camera-{frames}x{side}-together.zarr"
    return stored(path, lambda: camera(frames, side), (frames, max(side // 16, 1), side))


def prepare(folder: Path, frames: int, side: int) -> Series:
    path = folder / f"camera-{frames}x{side}-frames.zarr"
    one_by_one = stored(path, lambda: camera(frames, side), (1, side, side))
    return Series(together(folder, frames, side), one_by_one)


def held(folder: Path, frames: int, side: int) -> np.ndarray:
    return together(folder, frames, side).image.values


def in_memory(series: np.ndarray) -> None:
    image = xr.DataArray(da.from_array(series, chunks=-1), dims=("t", "y", "x"))
    with dask.config.set(scheduler="sync"):
        numbers(image)


def numbers(series: xr.DataArray, estimator: str = "mad", memory: str | None = None) -> None:
    """All maps and numbers."""
    gq.gain_map(series, estimator=estimator, memory=memory).compute()


QUESTIONS = (
    Question(
        name="gain",
        group="series",
        of=SERIES,
        prepare=prepare,
        functions={
            "reading with all frames in a chunk": lambda s: s.together.read(),
            "`gain_map`, all frames in a chunk": lambda s: numbers(s.together.image),
            "`gain_map`, variance": lambda s: numbers(s.together.image, "variance"),
            "`gain_map`, one frame a chunk, in 1 GiB": lambda s: numbers(
                s.frames.image, memory="1GiB"
            ),
            "`gain_map`, one frame a chunk, in 128 MiB": lambda s: numbers(
                s.frames.image, memory="128MiB"
            ),
        },
        full={"frames": 400, "side": 512},
        quick={"frames": 100, "side": 256},
    ),
    Question(
        name="gain_in_memory",
        group="series",
        of=SERIES + " in memory, one thread",
        prepare=held,
        functions={
            "its median and MAD": lambda series: median_and_mad(series.reshape(len(series), -1)),
            "`gain_map`": in_memory,
        },
        full={"frames": 400, "side": 512},
        quick={"frames": 100, "side": 256},
        runs=3,
    ),
)

if __name__ == "__main__":
    from benchmarks.__main__ import ask

    ask(__spec__.name)
