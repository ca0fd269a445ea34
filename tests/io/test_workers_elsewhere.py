"""Worker processes read what they see, and say so where they do not see it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from local_clusters import local_client
from same_states import identical
from settings import configure

import gigaqc as gq
from gigaqc.errors import ReadError
from gigaqc.testing import FaultyServer

PIXELS = np.random.default_rng(0).poisson(30, (2, 96, 96)).astype("u2")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two worker processes, with another working directory than this one."""
    with local_client() as connected:
        connected.run(os.chdir, "/")
        yield connected


def stored(path: Path, **options: Any) -> Path:
    plain: dict[str, Any] = {"shape": PIXELS.shape, "chunks": (1, 32, 32), "dtype": "u2"}
    zarr.create_array(path, **plain, **options)[:] = PIXELS
    return path


def by_zarr(path: Path) -> Path:
    return stored(path, zarr_format=2, order="F", filters=None)


def as_tiff(path: Path) -> Path:
    tifffile.imwrite(path, PIXELS, tile=(32, 32), compression="zlib")
    return path


def test_a_relative_path_is_where_it_was_opened(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(tmp_path / "a.zarr")
    monkeypatch.chdir(tmp_path)
    for image in (gq.open_image("a.zarr"), da.from_zarr(zarr.open_array("a.zarr", mode="r"))):
        assert gq.quantile(image, 1.0).compute().max() == PIXELS.max()


@pytest.mark.parametrize(
    ("name", "save"),
    [("a.zarr", stored), ("b.zarr", by_zarr), ("c.tif", as_tiff)],
    ids=["decoded here", "decoded by zarr", "tiff"],
)
def test_a_path_that_workers_do_not_see(client: Any, tmp_path: Path, name: str, save: Any) -> None:
    path = save(tmp_path / name)
    image = gq.open_image(path)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(
        ReadError, match=rf"worker \d at \S+ does not see it.*{path}.*shared file system.*s3://"
    ):
        gq.scan(image).compute()


@pytest.mark.parametrize("save", [stored, by_zarr])
def test_a_path_that_is_gone_is_not_taken_for_fill_value(tmp_path: Path, save: Any) -> None:
    path = save(tmp_path / "a.zarr")
    image, lazy = gq.open_image(path), da.from_zarr(zarr.open_array(path, mode="r"))
    path.rename(tmp_path / "elsewhere")
    for given in (image, lazy):
        with pytest.raises(ReadError, match=r"a\.zarr.*not there any more"):
            gq.scan(given).compute(scheduler="threads")


def test_workers_read_from_a_store(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each chunk once, all of a task at once, and one that is cut off is fetched again."""
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
    configure(monkeypatch, "group-values", PIXELS.size // 4)
    expected = gq.scan(gq.open_image(stored(tmp_path / "a.zarr"))).compute()
    with FaultyServer(tmp_path) as server:
        image = gq.open_image(f"{server.url}/a.zarr")
        server.reset()
        server.fail("c/1/1/1", cut=0.3, times=1)
        server.fail("c/", delay=0.1)
        identical(gq.scan(image).compute().state, expected.state)
        reads = {path: n for path, n in server.gets.items() if "/c/" in path}
        assert reads.pop("/a.zarr/c/1/1/1") == 2
        assert len(reads) == 17 and set(reads.values()) == {1}
        assert server.most_at_once > 2  # workers, of one thread each
        server.reset()
        server.fail("c/0/0/0", status=403)
        with pytest.raises(ReadError, match=r"chunk \(c=0, y=0, x=0\).*credentials"):
            gq.scan(image).compute()
