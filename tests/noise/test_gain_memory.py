"""The frames that a gain map holds are bounded by what it is told, and not by the series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gigaqc import testing

MIB = 1 << 20

SETUP = """
import dask, numpy as np, zarr
import gigaqc as gq
from gigaqc.graph import slabs
dask.config.set(scheduler="threads", num_workers=2)
slabs._SMALLEST_LIMIT = 1
warm = np.arange(80 * 4096).reshape(80, 64, 64) // 7 % 251
warm = dask.array.from_array(warm, chunks=(1, 64, 64))
for estimator in ("mad", "variance"):  # compiles, by a temporary store
    found = gq.gain_map(warm.astype("u2"), dims="tyx", estimator=estimator, memory=100_000)
    found.compute()
"""
CODE = """
series = gq.open_image({path!r}, dims="tyx")
found = gq.gain_map(series, estimator={estimator!r}, memory={memory}).compute()
print(gq.explain(series, metric="gain_map", memory={memory}).route.name, found.mean_map.size)
"""
# Freed arrays go back to the system at once, so that the peak is what lives.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def growth(folder: Path, shape: tuple[int, ...], estimator: str, memory: int) -> tuple[str, int]:
    """The route, and the bytes that a gain map takes beyond the imports; a frame is a chunk."""
    rng = np.random.default_rng(0)
    light = np.linspace(50, 500, shape[2])
    blocks = [rng.poisson(light, (1, *shape[1:])).astype("u2") for _ in range(3)]
    path = testing.sparse_store(folder / "s.zarr", shape, (1, *shape[1:]), blocks=blocks)
    code = CODE.format(path=str(path), estimator=estimator, memory=memory)
    taken = testing.peak_memory(code, setup=SETUP, env=ALLOCATOR, timeout=900)
    route, pixels = taken.stdout.split()
    assert int(pixels) == shape[1] * shape[2]
    return route, taken.growth


@pytest.mark.long
@pytest.mark.parametrize("estimator", ["mad", "variance"])
def test_a_series_8_times_larger_than_its_limit(tmp_path: Path, estimator: str) -> None:
    """1 GiB of frames of 512 KiB in 128 MiB; maps and fit, about 80 bytes a pixel, are 20 MiB."""
    route, taken = growth(tmp_path, (2048, 512, 512), estimator, 128 * MIB)
    assert route == "STORE"
    assert taken <= 128 * MIB


@pytest.mark.slow
def test_large_frames_in_slabs_and_by_a_store(tmp_path: Path) -> None:
    """2 GiB of frames of 8 MiB; the maps themselves are 96 MiB, the fit as much again."""
    for memory, wanted in ((2048 * MIB, "SLABS"), (256 * MIB, "STORE")):
        (tmp_path / wanted).mkdir()
        route, taken = growth(tmp_path / wanted, (256, 2048, 2048), "mad", memory)
        assert route == wanted
        assert taken <= memory + 200 * MIB
