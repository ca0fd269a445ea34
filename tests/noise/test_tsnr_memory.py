"""Memory goes with a place and not with the series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gigaqc import testing

MIB = 1 << 20

SETUP = """
import dask, numpy as np, zarr
import gigaqc as gq
dask.config.set(scheduler="threads", num_workers=2)
warm = np.random.default_rng(0).poisson(30, (4, 64, 64)).astype("u2")
gq.tsnr_map(warm, dims="tyx", detrend=0).compute()
gq.open_image({path!r}, dims="tyx")
"""
CODE = """
print(gq.tsnr_map(gq.open_image({path!r}, dims="tyx")).values.size)
"""
# Freed arrays go back to the system at once, so that the peak is what lives.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def growth(folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> int:
    """Bytes that a map takes beyond the imports."""
    rng = np.random.default_rng(0)
    blocks = [rng.poisson(30 + k, chunks).astype("u2") for k in range(3)]
    path = testing.sparse_store(folder / "series.zarr", shape, chunks, blocks=blocks)
    options = {"setup": SETUP.format(path=str(path)), "env": ALLOCATOR, "timeout": 900}
    taken = testing.peak_memory(CODE.format(path=str(path)), **options)
    assert int(taken.stdout) == shape[1] * shape[2]
    return taken.growth


@pytest.mark.long
@pytest.mark.parametrize("chunks", [(1, 512, 512), (50, 512, 512)], ids=["one frame", "50 frames"])
def test_a_series_8_times_larger_than_what_it_may_take(
    tmp_path: Path, chunks: tuple[int, ...]
) -> None:
    """2000 frames of 512 KiB; their states are 10 MiB, and a few of them wait."""
    assert growth(tmp_path, (2000, 512, 512), chunks) <= 1000 * MIB // 8


@pytest.mark.slow
def test_large_frames_hold_a_few_states(tmp_path: Path) -> None:
    """1.5 GiB of frames of 8 MiB, one a chunk: a state is 160 MiB, two are made at a time."""
    assert growth(tmp_path, (192, 2048, 2048), (1, 2048, 2048)) <= 1024 * MIB
