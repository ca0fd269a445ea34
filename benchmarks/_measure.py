"""How benchmarks measure: runs in turn, ratios of one round, and the stores that are read."""

from __future__ import annotations

import itertools
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import gigaqc as gq


class Unavailable(Exception):
    """What is compared with is not here, or failed; the message is the reason."""


def in_turn(
    functions: Mapping[str, Callable[[], object]],
    runs: int,
    clock: Callable[[], float] = time.perf_counter,
    lacking: dict[str, str] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each function, A B C A B C ..., after one round that is not counted.

    With `time.process_time` for a clock they are of processors, which others on the machine change
    less. What raises `Unavailable` is left out and its reason put into `lacking`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for counted in range(-1, runs):
        for name in list(seconds):
            start = clock()
            try:
                functions[name]()
            except Unavailable as reason:
                if lacking is None:
                    raise
                lacking[name] = str(reason)
                del seconds[name]
                continue
            if counted >= 0:
                seconds[name].append(clock() - start)
    return seconds


def ratios(seconds: Mapping[str, list[float]], name: str, floor: str) -> list[float]:
    """One function's time over another's, round by round."""
    return [a / b for a, b in zip(seconds[name], seconds[floor], strict=True)]


def ratio(seconds: Mapping[str, list[float]], name: str, floor: str) -> float:
    """Median over the rounds."""
    return statistics.median(ratios(seconds, name, floor))


def discarded(array: da.Array) -> da.Array:
    """Every chunk is computed and none kept."""
    ones = (1,) * array.ndim
    return array.map_blocks(lambda block: np.zeros(ones), chunks=ones, dtype=float)


def discard(array: da.Array) -> None:
    """Compute every chunk and keep none."""
    discarded(array).compute()


# ---- stores --------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """An image on disk."""

    path: Path
    image: xr.DataArray

    def read(self) -> None:
        """The floor: read and decode every chunk by zarr's own pipeline, with dask."""
        discard(da.from_zarr(str(self.path)))


BLOCK = 2048
CODECS: Mapping[str, Any] = {
    "none": None,
    "zstd": ZstdCodec(level=0),  # what zarr takes when nothing is said
    "blosc lz4 bits": BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
    "blosc zstd bits": BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"),
    "gzip": GzipCodec(level=5),
}


def fluorescence(rng: np.random.Generator, side: int) -> np.ndarray:
    """Structure of a few hundred counts with photon noise, as a fluorescence slide has them."""
    from scipy.ndimage import gaussian_filter

    base = gaussian_filter(rng.random((side, side)), 6)
    base = (base - base.min()) / (base.max() - base.min())
    return rng.poisson(100 + 300 * base).astype("u2")


DATA: Mapping[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "fluorescence": fluorescence,
    "sparse counts": lambda rng, side: rng.poisson(0.05, (side, side)).astype("u2"),
    "noise of 16 bits": lambda rng, side: rng.integers(0, 1 << 16, (side, side), dtype="u2"),
    "8 bits": lambda rng, side: (fluorescence(rng, side) >> 1).astype("u1"),
}


def made(path: Path, write: Callable[[Path], object]) -> Path:
    """What is made once; a run that was stopped leaves nothing that looks complete."""
    if not path.exists():
        part = path.with_name(f"{path.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        write(part)
        part.rename(path)
    return path


def slide(
    folder: Path, side: int, channels: int, chunk: int = 1024, codec: str = "zstd",
    data: str = "fluorescence", shard: int | None = None,
) -> Stored:  # fmt: skip
    """An image of one codec; the same 2048 x 2048 pixels repeat, which no codec sees."""
    shape, chunk = (channels, side, side), min(chunk, side)

    def write(path: Path) -> None:
        pixels = DATA[data](np.random.default_rng(0), min(BLOCK, side))
        array = zarr.create_array(
            path, shape=shape, chunks=(1, chunk, chunk), dtype=pixels.dtype,
            shards=None if shard is None else (1, shard, shard), compressors=CODECS[codec],
            config={"write_empty_chunks": True},
        )  # fmt: skip
        corners = itertools.product(range(channels), range(0, side, BLOCK), range(0, side, BLOCK))
        for c, y, x in corners:
            moved = np.roll(pixels, 7 * c, axis=0)
            array[c, y : y + BLOCK, x : x + BLOCK] = moved[: side - y, : side - x]

    name = f"{data}-{codec}-{channels}x{side}-{chunk}-{shard}.zarr".replace(" ", "-")
    path = made(folder / name, write)
    return Stored(path, gq.open_image(path))
