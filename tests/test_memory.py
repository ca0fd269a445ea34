"""Memory goes with the groups that are at work and not with the image.

Measured as the peak of a process of its own, over what the imports take; stores are sparse, that is
their chunks are a few files linked many times, so that reading decodes real data.
"""

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
# Compiled code is loaded, and threads are started, before anything is measured.
warm = np.random.default_rng(0).poisson(30, (2, 64, 64)).astype({dtype!r})
gq.assess(warm, progress=False)
"""
CODE = """
verdict = gq.assess(gq.open_image({path!r}), progress=False)
print(verdict.statistics.distribution(0).n)
"""

# Freed arrays go back to the system at once, so that the peak is what lives and not what glibc
# keeps for later, which depends on which thread freed what.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def growth(folder: Path, dtype: str, shape: tuple[int, ...], side: int = 512) -> int:
    """Bytes that an assessment takes beyond its imports."""
    rng = np.random.default_rng(0)
    blocks = [rng.poisson(30 + k, (1, side, side)).astype(dtype) for k in range(4)]
    name = "x".join(map(str, shape))
    path = testing.sparse_store(
        folder / f"{name}.zarr", shape, (1, side, side), dtype=dtype, blocks=blocks
    )
    taken = testing.peak_memory(
        CODE.format(path=str(path)), setup=SETUP.format(dtype=dtype), env=ALLOCATOR, timeout=900
    )
    assert int(taken.stdout) == shape[1] * shape[2]
    return taken.growth


@pytest.mark.parametrize("dtype", ["u2", pytest.param("f4", marks=pytest.mark.long)])
def test_four_times_the_area_takes_no_more(tmp_path: Path, dtype: str) -> None:
    """What does grow is small: tiles, profiles, pieces of tissue and the graph.

    24 MiB of slack is for the allocator and for chance: which of two blocks live at once.
    """
    small = growth(tmp_path, dtype, (4, 2048, 4096))
    large = growth(tmp_path, dtype, (4, 8192, 4096))
    assert large <= 1.1 * small + 24 * MIB, (small // MIB, large // MIB)
    assert large < 200 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_sixteen_times_the_area_takes_little_more(tmp_path: Path, dtype: str) -> None:
    """Measured 47 and 55 MiB of 16 bits, 100 and 116 of floats."""
    small = growth(tmp_path, dtype, (4, 4096, 4096), 1024)
    large = growth(tmp_path, dtype, (4, 16384, 16384), 1024)
    assert large <= 1.25 * small + 8 * MIB, (small // MIB, large // MIB)
    assert large <= 160 * MIB


@pytest.mark.slow
def test_eight_channels_of_8192_and_of_32768(tmp_path: Path) -> None:
    """1 and 16 GiB of image; measured 69 and 89 MiB, of which the results are 19 and 25."""
    small = growth(tmp_path, "u2", (8, 8192, 8192), 1024)
    large = growth(tmp_path, "u2", (8, 32768, 32768), 1024)
    assert small <= 96 * MIB
    assert large <= 1.4 * small, (small // MIB, large // MIB)


PREPARE = """
import shutil
gq.write_image(gq.{function}(gq.open_image({path!r}){more}), {out!r})
shutil.rmtree({out!r})
print("done")
"""
PREPARE_SETUP = (
    SETUP
    + """
import tempfile
for function in (gq.pixel_clustering_preprocess, lambda image: gq.gaussian_blur(image, 2)):
    gq.write_image(function(warm), tempfile.mkdtemp() + "/warm.zarr")
"""
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "more"), [("pixel_clustering_preprocess", ""), ("gaussian_blur", ", 2")]
)
def test_writing_with_a_halo_holds_strips_and_not_rows(
    tmp_path: Path, function: str, more: str
) -> None:
    """Twice as wide and high, from eight chunks on: what still grows is the graph, by the chunk."""
    rng = np.random.default_rng(0)
    blocks = [rng.poisson(30 + k, (1, 512, 512)).astype("u2") for k in range(4)]
    taken = []
    for side in (4096, 8192):
        path = testing.sparse_store(
            tmp_path / f"{side}.zarr", (4, side, side), (1, 512, 512), dtype="u2", blocks=blocks
        )
        code = PREPARE.format(
            function=function, path=str(path), more=more, out=str(tmp_path / "out.zarr")
        )
        setup = PREPARE_SETUP.format(dtype="u2")
        done = testing.peak_memory(code, setup=setup, env=ALLOCATOR, timeout=900)
        assert done.stdout.strip() == "done"
        taken.append(done.growth)
    assert taken[1] <= 2 * taken[0], [t // MIB for t in taken]
    assert taken[1] <= 300 * MIB
