"""Two workers of 1 GiB each, and images of 20 GiB: ten times what both may hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr
from capabilities import assert_same
from local_clusters import local_client

import gigaqc as gq

pytestmark = pytest.mark.slow

SIDE, CHUNK = 51200, 2048  # 4 channels of uint16: 19.5 GiB
FRAMES = 10240  # of 1024 x 1024 of uint16: 20 GiB
LIMIT = "1GiB"


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sparse stores: few chunks are there, so that files take little room; all others are 0."""
    folder = tmp_path_factory.mktemp("huge")
    rng = np.random.default_rng(0)
    found = {name: folder / f"{name}.zarr" for name in ("image", "labels", "series")}
    image = zarr.create_array(
        found["image"], shape=(4, SIDE, SIDE), chunks=(1, CHUNK, CHUNK), dtype="u2"
    )
    labels = zarr.create_array(
        found["labels"], shape=(SIDE, SIDE), chunks=(CHUNK, CHUNK), dtype="i4"
    )
    row, column = np.meshgrid(np.arange(CHUNK), np.arange(CHUNK), indexing="ij")
    spots = 200 * (np.sin(row / 7) * np.sin(column / 9) > 0.5)
    for number, (y, x) in enumerate(rng.integers(0, SIDE // CHUNK, (24, 2)) * CHUNK):
        at = (slice(y, y + CHUNK), slice(x, x + CHUNK))
        for c in range(4):
            image[(c, *at)] = rng.poisson(20 + spots // (c + 1))
        labels[at] = (row // 32 * 64 + column // 32 + 1 + 4096 * number) * (spots > 0)
    series = zarr.create_array(
        found["series"], shape=(FRAMES, 1024, 1024), chunks=(16, 512, 512), dtype="u2"
    )
    light = np.geomspace(20, 500, 512 * 512).reshape(512, 512)
    for t in range(0, FRAMES, 1024):
        series[t : t + 16, :512, 512:] = rng.poisson(light, (16, 512, 512))
    return found


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Nannies end a worker that takes more than it may, and a run whose workers end fails."""
    with local_client(memory_limit=LIMIT) as connected:
        yield connected


def files_of(store: Path) -> list[np.ndarray]:
    """What a store holds, file by file."""
    files = sorted(p for p in store.rglob("*") if p.is_file() and p.name != "zarr.json")
    digests = [hashlib.sha1(p.read_bytes()).hexdigest() for p in files]
    return [np.array([str(p.relative_to(store)) for p in files]), np.array(digests)]


def written(image: Any, out: Path) -> Any:
    gq.write_image(image, out / "o.zarr")
    return files_of(out / "o.zarr")


def assessed(p: dict[str, Path], out: Path) -> Any:
    found = gq.assess(gq.open_image(p["image"]), tile=2048, name="s", progress=False)
    return [found.channels, found.flags, found.tiles, found.statistics.state]


def clustered(p: dict[str, Path], out: Path) -> Any:
    found = gq.cluster_pixels(gq.open_image(p["image"]), 3, method="kmeans", fraction=1e-4)
    return [found.profile, found.sizes]


def segmented(p: dict[str, Path], out: Path) -> Any:
    gq.write_labels(gq.segment_nuclei(gq.open_image(p["image"]), 0, diameter=12), out / "l.zarr")
    return files_of(out / "l.zarr")


RUNS: dict[str, Callable[[dict[str, Path], Path], Any]] = {
    "assess": assessed,
    "object_table": lambda p, out: gq.object_table(
        gq.open_labels(p["labels"]), gq.open_image(p["image"])
    ),
    "blur and write": lambda p, out: written(gq.gaussian_blur(gq.open_image(p["image"]), 2), out),
    "preprocess and write": lambda p, out: written(
        gq.pixel_clustering_preprocess(gq.open_image(p["image"])), out
    ),
    "cluster_pixels": clustered,
    "segment_nuclei": segmented,
    "tsnr_map": lambda p, out: gq.tsnr_map(gq.open_image(p["series"], dims="tyx")).compute(),
    "gain_map": lambda p, out: gq.gain_map(
        gq.open_image(p["series"], dims="tyx"), estimator="variance", temporary=out
    ).compute(),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_an_image_ten_times_larger_than_all_memory(
    paths: dict[str, Path], client: Any, tmp_path: Path, name: str
) -> None:
    workers = set(client.run(lambda: None))
    (tmp_path / "workers").mkdir()
    found = RUNS[name](paths, tmp_path / "workers")
    assert set(client.run(lambda: None)) == workers  # none was ended on the way
    (tmp_path / "threads").mkdir()
    with dask.config.set(scheduler="threads", num_workers=2):
        expected = RUNS[name](paths, tmp_path / "threads")
    assert_same(found, expected)
