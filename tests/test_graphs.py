"""Graphs are small, also as they are sent: task by task, large values once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import cloudpickle
import numpy as np
import pytest
import shapely
import xarray as xr
from dask._task_spec import DataNode

import gigaqc as gq
from gigaqc import testing
from gigaqc.clusters import PixelModel
from gigaqc.graph import tasks

CHANNELS, SIDE, CHUNK = 8, 1024, 128
CHUNKS = CHANNELS * (SIDE // CHUNK) ** 2
WEIGHTS = np.zeros(1 << 20, "u1")


def model(n: int) -> PixelModel:
    """A mixture of so many components."""
    rng = np.random.default_rng(0)
    sample = rng.normal(size=(20 * n, CHANNELS))
    image = xr.DataArray(sample.T.reshape(CHANNELS, 1, -1), dims=("c", "y", "x"))
    return gq.cluster_pixels(image, n, fraction=1.0).model


def of_weights(block: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (block > weights[0]).astype("i4")


def outline() -> list[Any]:
    """A polygon of many corners."""
    return [shapely.Point(SIDE / 2, SIDE / 2).buffer(SIDE / 3, quad_segs=4000)]


LAZY: dict[str, Callable[[xr.DataArray], Any]] = {
    "scan": lambda i: gq.scan(i),
    "scan that masks": lambda i: gq.scan(i, on_error="mask"),
    "scan of floats": lambda i: gq.scan(i.astype("f4")),
    "scan within polygons": lambda i: gq.scan(i, mask=outline()),
    "normalize_percentiles": lambda i: gq.normalize_percentiles(i).data,
    "equalize_histogram": lambda i: gq.equalize_histogram(i).data,
    "gaussian_blur": lambda i: gq.gaussian_blur(i, 2).data,
    "pixel_clustering_preprocess": lambda i: gq.pixel_clustering_preprocess(i).data,
    "segment_nuclei": lambda i: gq.segment_nuclei(i, 0, tile=CHUNK).data,
    "segment_nuclei by a function": lambda i: (
        gq.segment_nuclei(i, 0, tile=CHUNK, method=partial(of_weights, weights=WEIGHTS)).data
    ),
    "labels of pixels": lambda i: model(60).label(i, None).data,
    "isnr_map": lambda i: gq.isnr_map(i).data,
    "tsnr_map": lambda i: gq.tsnr_map(i.rename(c="t").drop_vars("t")).data,
    "gain_map": lambda i: gq.gain_map(i.rename(c="t").drop_vars("t")).gain_map.data,
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> xr.DataArray:
    folder = tmp_path_factory.mktemp("images")
    block = np.random.default_rng(0).integers(0, 65536, (1, CHUNK, CHUNK)).astype("u2")
    path = testing.sparse_store(
        folder / "i.zarr", (CHANNELS, SIDE, SIDE), (1, CHUNK, CHUNK), blocks=[block]
    )
    return gq.open_image(path)


@pytest.mark.parametrize("name", LAZY)
def test_bytes_of_a_graph(image: xr.DataArray, name: str) -> None:
    graph = dict(LAZY[name](image).__dask_graph__())
    # As a cluster sends them to its workers: each task by itself.
    sizes = {key: len(cloudpickle.dumps(node, protocol=5)) for key, node in graph.items()}
    tasks = {k: n for k, n in sizes.items() if not isinstance(graph[k], DataNode)}
    total, largest = sum(tasks.values()), max(tasks.values())
    assert total <= 8192 * CHUNKS
    assert largest <= 512 * CHUNKS  # one that reads all chunks
    # As the client sends it to the scheduler: all together, but for values that are large.
    whole = len(cloudpickle.dumps({k: graph[k] for k in tasks}, protocol=5))
    assert whole <= 1536 * CHUNKS


def test_a_model_is_sent_once(image: xr.DataArray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "LARGE", 1 << 14)  # a mixture of 60 has 30 KiB
    for name in ("segment_nuclei by a function", "labels of pixels"):
        graph = dict(LAZY[name](image).__dask_graph__())
        sizes = {k: len(cloudpickle.dumps(node)) for k, node in graph.items()}
        large = [k for k, n in sizes.items() if n > 1 << 14]
        assert [isinstance(graph[k], DataNode) for k in large] == [True], name
