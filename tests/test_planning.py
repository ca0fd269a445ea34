"""Plans: what is said before a run is held against what it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from typer.testing import CliRunner

import gigaqc as gq
from gigaqc import testing
from gigaqc.base import machine
from gigaqc.cli import app
from gigaqc.errors import ParameterError, TooLargeError

MIB = 1 << 20

SETUP = """
import dask, numpy as np, tempfile
import gigaqc as gq
dask.config.set(scheduler="threads", num_workers={threads})
# Compiled code is loaded, and threads are started, before anything is measured.
warm = np.random.default_rng(0).poisson(30, (2, 64, 64)).astype({dtype!r})
gq.assess(warm, progress=False)
folder = tempfile.mkdtemp(dir={folder!r})
{warm}
"""


@dataclass(frozen=True)
class Run:
    """What is run, and on which image."""

    metric: Any
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    threads: int = 2

    @property
    def dims(self) -> str | None:
        return "tyx" if self.metric in ("tsnr_map", "gain_map") else None


CODE = {
    "scan": "gq.scan({image}).compute()",
    "assess": "gq.assess({image}, progress=False)",
    "gaussian_blur": "gq.write_image(gq.gaussian_blur({image}, 2), folder + '/{out}')",
    "pixel_clustering_preprocess": (
        "gq.write_image(gq.pixel_clustering_preprocess({image}), folder + '/{out}')"
    ),
    "object_table": "gq.object_table({labels}, {image})",
    "tsnr_map": "gq.tsnr_map({image}).compute()",
    "gain_map": "gq.gain_map({image}).compute()",
}

QUICK = [
    Run("scan", "f4", (4, 4096, 4096), (1, 1024, 1024)),
    Run("gaussian_blur", "f4", (4, 4096, 4096), (1, 1024, 1024)),
]
SLOW = [
    Run("scan", "u2", (4, 8192, 8192), (1, 2048, 2048)),
    Run("scan", "u2", (16, 4096, 4096), (1, 1024, 1024)),
    Run("scan", "f4", (4, 4096, 4096), (1, 1024, 1024), threads=1),
    Run("assess", "u2", (4, 8192, 8192), (1, 2048, 2048)),
    Run("assess", "f4", (4, 8192, 8192), (1, 1024, 1024)),
    Run("gaussian_blur", "u2", (4, 8192, 8192), (1, 1024, 1024)),
    Run("pixel_clustering_preprocess", "u2", (4, 4096, 4096), (1, 1024, 1024)),
    Run("pixel_clustering_preprocess", "u2", (4, 8192, 8192), (1, 1024, 1024), threads=1),
    Run("object_table", "u2", (4, 8192, 8192), (1, 1024, 1024)),
    Run("tsnr_map", "u2", (200, 2048, 2048), (1, 1024, 1024)),
    Run("tsnr_map", "u2", (800, 512, 512), (1, 512, 512)),
    Run("gain_map", "u2", (200, 1024, 1024), (1, 1024, 1024)),
    Run("gain_map", "u2", (400, 1024, 1024), (400, 128, 128)),
]


def pixels(rng: np.random.Generator, k: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Faint signal and a few bright pixels: an image that uses the range of its type."""
    values = rng.poisson(30 + k, shape) * (1.37 if dtype == "f4" else 1)
    bright = rng.random(shape) < 1e-4
    values[bright] = rng.integers(200, 60000, bright.sum())
    return values.astype(dtype)


def objects(path: Path, side: int, chunk: int) -> Path:
    """Squares of 15 x 15, one in 16 x 16 pixels."""
    array = zarr.create_array(path, shape=(side, side), chunks=(chunk, chunk), dtype="i4")
    row, column = np.meshgrid(np.arange(chunk), np.arange(chunk), indexing="ij")
    inside = (row % 16 > 0) & (column % 16 > 0)
    for y in range(0, side, chunk):
        for x in range(0, side, chunk):
            ids = (row + y) // 16 * (side // 16) + (column + x) // 16 + 1
            array[y : y + chunk, x : x + chunk] = np.where(inside, ids, 0)
    return path


@pytest.mark.long
@pytest.mark.parametrize(
    "run",
    [*QUICK, *(pytest.param(run, marks=pytest.mark.slow) for run in SLOW)],
    ids=lambda run: f"{run.metric}-{run.dtype}-{run.shape[0]}-{run.shape[-1]}-{run.threads}",
)
def test_the_peak_is_what_was_said(tmp_path: Path, run: Run) -> None:
    rng = np.random.default_rng(0)
    blocks = [pixels(rng, k, run.chunks, run.dtype) for k in range(4)]
    path = testing.sparse_store(
        tmp_path / "i.zarr", run.shape, run.chunks, dtype=run.dtype, blocks=blocks
    )
    ids = tmp_path / "labels.zarr"
    if run.metric == "object_table":
        objects(ids, run.shape[-1], run.chunks[-1])
    small = "np.stack([warm[0]] * 8), dims='tyx'" if run.dims else "warm"
    warm = CODE[run.metric].format(
        image=small, labels="(warm[0] > 30).astype('i4')", out="warm.zarr"
    )
    code = CODE[run.metric].format(
        image=f"gq.open_image({str(path)!r}, dims={run.dims!r})",
        labels=f"gq.open_labels({str(ids)!r})",
        out="o.zarr",
    )
    with dask.config.set(scheduler="threads", num_workers=run.threads), testing.forbid_compute():
        plan = gq.explain(
            gq.open_image(path, dims=run.dims),
            metric=run.metric,
            labels=gq.open_labels(ids) if run.metric == "object_table" else None,
        )
    setup = SETUP.format(threads=run.threads, dtype=run.dtype, warm=warm, folder=str(tmp_path))
    taken = testing.peak_memory(code, setup=setup, timeout=900)
    said = plan.peak_bytes
    assert taken.growth <= said <= 1.5 * taken.growth, (taken.growth // MIB, said // MIB)


# ---- what cannot fit -----------------------------------------------------------------------------

SIDE = 400_000  # squared 320 GB of uint16: a chunk that fits nowhere


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> xr.DataArray:
    """An image that is one chunk; no pixel of it is stored."""
    path = tmp_path_factory.mktemp("huge") / "i.zarr"
    return gq.open_image(testing.sparse_store(path, (1, SIDE, SIDE), (1, SIDE, SIDE)))


def frames(image: xr.DataArray) -> xr.DataArray:
    """A series of frames that are one chunk each."""
    return xr.concat([image.isel(c=0, drop=True)] * 3, "t")


REFUSED: dict[str, Callable[[xr.DataArray], Any]] = {
    "explain": lambda i: gq.explain(i),
    "scan": lambda i: gq.scan(i),
    "assess": lambda i: gq.assess(i, progress=False),
    "quantile": lambda i: gq.quantile(i, 0.5),
    "isnr": lambda i: gq.isnr(i),
    "tissue": lambda i: gq.tissue_integrity(i, 0),
    "gaussian_blur": lambda i: gq.gaussian_blur(i, 2),
    "preprocess": lambda i: gq.pixel_clustering_preprocess(i),
    "cluster_pixels": lambda i: gq.cluster_pixels(i, 2),
    "segment_nuclei": lambda i: gq.segment_nuclei(i, 0),
    "object_table": lambda i: gq.object_table(i.isel(c=0, drop=True), i),
    "write_image": lambda i: gq.write_image(i, "/nowhere.zarr"),
    "tsnr_map": lambda i: gq.tsnr_map(frames(i)),
    "gain_map": lambda i: gq.gain_map(frames(i)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_chunk_that_fits_nowhere_is_refused_before_it_is_read(
    huge: xr.DataArray, name: str
) -> None:
    with testing.forbid_compute(), pytest.raises(TooLargeError, match="1024 x 1024"):
        REFUSED[name](huge)


def test_the_error_says_how_many_threads_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [{"nthreads": 8, "memory_limit": 1 << 30}, {"nthreads": 2, "memory_limit": 2 << 30}]
    monkeypatch.setattr(machine, "_workers", lambda: workers)
    zeros = dask.array.zeros((1, 8 * 16384, 16384), chunks=(1, 16384, 16384), dtype="u1")
    image = xr.DataArray(zeros, dims=("c", "y", "x"))
    said = r"256.00 MiB, and 8 of them do not fit the 1.00 GiB .* with 4 threads a process or fewer"
    with pytest.raises(TooLargeError, match=said):
        gq.scan(image)
    workers[0]["nthreads"] = 4
    plan = gq.explain(image)
    assert (plan.threads, plan.memory) == (4, 1 << 30)
    assert not plan.fits and "does not fit" in str(plan)


def test_small_images_are_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster is asked for its limits only where they could matter."""

    def asked() -> Any:
        raise AssertionError("asked")

    image = dask.array.zeros((1, 4096, 4096), chunks=(1, 1024, 1024), dtype="u2")
    monkeypatch.setattr(machine, "_workers", asked)
    gq.scan(xr.DataArray(image, dims=("c", "y", "x")))


def test_info_says_what_a_run_takes(tmp_path: Path) -> None:
    path = testing.sparse_store(tmp_path / "i.zarr", (2, 512, 512), (1, 256, 256))
    done = CliRunner().invoke(app, ["info", str(path)])
    assert done.exit_code == 0, done.output
    for words in ("passes       1", "bytes read   1.5 MiB", "peak memory"):
        assert words in done.output


def test_info_of_what_fits_nowhere(tmp_path: Path) -> None:
    path = testing.sparse_store(tmp_path / "i.zarr", (1, SIDE, SIDE), (1, SIDE, SIDE))
    done = CliRunner().invoke(app, ["info", str(path)])
    assert done.exit_code == 3 and "smaller chunks" in done.stderr


def test_wrong_words() -> None:
    image = dask.array.zeros((1, 64, 64), chunks=32)
    with pytest.raises(ParameterError, match="metric: got 'blur'"):
        gq.explain(image, metric="blur")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="labels: None"):
        gq.explain(image, metric="object_table")
