"""Images that dask would rechunk by a shuffle between the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from capabilities import assert_same
from local_clusters import local_client

import gigaqc as gq
from gigaqc.base.geometry import rechunked
from gigaqc.graph.source import by_tasks


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with local_client(processes=False) as connected:
        yield connected


@pytest.fixture
def always() -> Iterator[None]:
    """As dask chooses for large images."""
    with dask.config.set({"array.rechunk.method": "p2p"}):
        yield


def pixels() -> np.ndarray:
    y, x = np.mgrid[:90, :80]
    rng = np.random.default_rng(0)
    return rng.poisson([20 + 200 * ((y // 8 + x // 8) % 2), 30 + y]).astype("u2")


def shuffled(values: np.ndarray) -> da.Array:
    """Rechunked by a shuffle, of which the tasks are not culled yet."""
    rows = da.from_array(values, chunks=(*values.shape[:-2], 90, 9))
    found = rows.rechunk((*(1,) * (values.ndim - 2), 31, 80), method="p2p")
    assert any("P2P" in type(layer).__name__ for layer in found.dask.layers.values())
    return found


def labels() -> np.ndarray:
    y, x = np.mgrid[:90, :80]
    return ((y // 10 * 8 + x // 10 + 1) * (y % 10 < 7)).astype("i4")


def written(image: Any, out: Path) -> Any:
    gq.write_image(image, out / "o.zarr", overwrite=True)
    return gq.open_image(out / "o.zarr").compute()


RUNS: dict[str, Callable[[Any, Any, Any, Path], Any]] = {
    "assess": lambda i, ids, m, out: gq.assess(i, labels=ids, mask=m, progress=False).channels,
    "tissue mask": lambda i, ids, m, out: gq.assess(i, tissue=m, progress=False).summary.dropna(),
    "object_table": lambda i, ids, m, out: gq.object_table(ids, i),
    "blur, written": lambda i, ids, m, out: written(gq.gaussian_blur(i, 1), out),
    "written": lambda i, ids, m, out: written(i, out),
    "preprocess": lambda i, ids, m, out: written(gq.pixel_clustering_preprocess(i, sigma=1), out),
    "segment_nuclei": lambda i, ids, m, out: gq.segment_nuclei(i, 0, diameter=8).compute(),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_same_as_in_memory(client: Any, always: None, tmp_path: Path, name: str) -> None:
    whole, ids, mask = pixels(), labels(), labels() % 3 > 0
    found = RUNS[name](shuffled(whole), shuffled(ids), shuffled(mask), tmp_path)
    with dask.config.set({"scheduler": "threads", "array.rechunk.method": "tasks"}):
        chunks = ((1, 1), (31, 31, 28), (80,))
        given = (da.from_array(a, chunks=chunks[3 - a.ndim :]) for a in (whole, ids, mask))
        assert_same(found, RUNS[name](*given, tmp_path))


def test_labels_in_other_chunks_than_the_image(client: Any, always: None) -> None:
    image = da.from_array(pixels(), chunks=(2, 90, 5))
    found = gq.object_table(da.from_array(labels(), chunks=(7, 80)), image)
    with dask.config.set(scheduler="threads"):
        expected = gq.object_table(labels(), pixels())
    np.testing.assert_allclose(found.to_numpy("f8"), expected.to_numpy("f8"), rtol=1e-12)


def test_parts_of_a_shuffle_and_shuffles_of_shuffles(client: Any) -> None:
    whole = pixels()
    array = (shuffled(whole)[:, 3:70, ::2] + 1).rechunk((2, 5, 40), method="p2p")[1:, 8:]
    found = by_tasks(array)
    assert not any("P2P" in type(layer).__name__ for layer in found.dask.layers.values())
    assert found.name == array.name and found.chunks == array.chunks
    np.testing.assert_array_equal(
        found.compute(scheduler="sync"), (whole[:, 3:70, ::2] + 1)[1:, 8:]
    )


def test_what_is_not_shuffled_stays_as_it_is() -> None:
    array = da.zeros((4, 6), chunks=2)
    assert by_tasks(array) is array
    assert by_tasks(array.rechunk(3)).name == array.rechunk(3).name
    image = xr.DataArray(array, dims=("y", "x"), attrs={"a": 1}, name="n")
    other = rechunked(image, {"x": 3, "c": 1})
    assert other.chunks == ((2, 2), (3, 3)) and other.attrs == {"a": 1} and other.name == "n"
