"""One chunking gives the same bits wherever it is computed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from same_states import identical

import gigaqc as gq
from gigaqc import passes, slabs
from gigaqc.settling import in_strips


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Images on disk, so that worker processes read them themselves."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).poisson(30, (2, 160, 150)) * 1.37
    pixels[:, 40:90, 30:100] += 50
    found = {}
    for dtype in ("u2", "f4", "f8"):
        found[dtype] = folder / f"{dtype}.zarr"
        shape, chunks = pixels.shape, (1, 40, 37)
        zarr.create_array(found[dtype], shape=shape, chunks=chunks, dtype=dtype)[:] = pixels
    return found


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two worker processes of one thread each."""
    import distributed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sockets and event loops, none of them ours
        with (
            dask.config.set({"distributed.admin.log-format": "%(message)s"}),
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
            ) as cluster,
            distributed.Client(cluster) as connected,
        ):
            yield connected


@pytest.fixture(autouse=True)
def many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "GROUP_VALUES", 0)


def assessed(path: Path) -> gq.Assessment:
    return gq.assess(gq.open_image(path), tile=32, name="s", progress=False)


def same(actual: gq.Assessment, expected: gq.Assessment) -> None:
    identical(actual.statistics.state, expected.statistics.state)
    identical(actual.tissue, expected.tissue)
    assert actual.channels.equals(expected.channels)
    assert actual.flags.equals(expected.flags)
    assert actual.tiles.identical(expected.tiles)


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_threads_give_the_bits_of_one_thread(paths: dict[str, Path], dtype: str) -> None:
    with dask.config.set(scheduler="sync"):
        expected = assessed(paths[dtype])
    for workers in (2, 7):
        with dask.config.set(scheduler="threads", num_workers=workers):
            same(assessed(paths[dtype]), expected)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_worker_processes_give_the_bits_of_one_thread(
    paths: dict[str, Path], client: Any, dtype: str
) -> None:
    with dask.config.set(scheduler="sync"):
        expected = assessed(paths[dtype])
    processes = client.run(lambda: __import__("os").getpid())
    assert len(set(processes.values())) == 2
    actual = assessed(paths[dtype])  # the current Client is used without being named
    same(actual, expected)
    tasks = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert sum(tasks.values()) > 0


def test_lazy_results_on_worker_processes(paths: dict[str, Path], client: Any) -> None:
    image = gq.open_image(paths["f4"])
    lazy = {
        "quantile": gq.quantile(image, [0.1, 0.9]).to_dataset(name="q"),
        "snr": gq.signal_to_noise(image),
        "tissue": gq.tissue_integrity(image, 0, method="otsu"),
        "focus": gq.focus(image, tile=25, spectrum=True),
    }
    for name, dataset in lazy.items():
        assert dataset.compute().identical(dataset.compute(scheduler="sync")), name
    persisted = gq.scan(image).persist()
    identical(persisted.compute().state, gq.scan(image).compute(scheduler="sync").state)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_images_made_and_clustered_by_worker_processes(
    paths: dict[str, Path], client: Any, dtype: str, tmp_path: Path
) -> None:
    def made(folder: Path) -> list[np.ndarray]:
        image = gq.open_image(paths[dtype])
        gq.write_image(gq.pixel_clustering_preprocess(image), folder / "prepared.zarr")
        gq.write_image(gq.gaussian_blur(image, 2), folder / "blurred.zarr")
        prepared = gq.open_image(folder / "prepared.zarr")
        found = gq.cluster_pixels(prepared, 2, method="kmeans", seed=1)
        blurred = gq.open_image(folder / "blurred.zarr").values
        return [prepared.values, blurred, found.labels.values, found.profile.values]

    (tmp_path / "sync").mkdir()
    with dask.config.set(scheduler="sync"):
        expected = made(tmp_path / "sync")
    for actual, wanted in zip(made(tmp_path), expected, strict=True):
        assert actual.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("memory", [None, 70_000, 30_000])
def test_noise_of_a_series_by_worker_processes(
    client: Any, memory: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By each route: direct, in slabs, by a temporary store that both workers write to."""
    monkeypatch.setattr(slabs, "_SMALLEST_LIMIT", 1)
    light = np.geomspace(20, 500, 40 * 37).reshape(40, 37)
    array = zarr.create_array(
        tmp_path / "series.zarr", shape=(30, 40, 37), chunks=(1, 40, 37), dtype="u2"
    )
    array[:] = np.random.default_rng(0).poisson(light, (30, 40, 37))
    series = gq.open_image(tmp_path / "series.zarr", dims="tyx")
    (tmp_path / "scratch").mkdir()

    def made() -> list[Any]:
        options: dict[str, Any] = {"temporary": tmp_path / "scratch", "memory": memory}
        gain = gq.gain_map(series, estimator="variance", **options)
        return [gain, gq.temporal_statistics(series), gq.isnr(series, n_clusters=2)]

    with dask.config.set(scheduler="sync"):
        expected = [result.compute(scheduler="sync") for result in made()]
    for found, wanted in zip(made(), expected, strict=True):
        assert found.compute().identical(wanted)
    assert not list((tmp_path / "scratch").iterdir())


def test_any_order_of_tasks_holds_few_chunks() -> None:
    """A scheduler that reads whenever it can: held back, it gets no further than the strip."""
    chunks = da.zeros((1, 640, 640), dtype="u2", chunks=(1, 20, 20))
    blurred = gq.gaussian_blur(xr.DataArray(chunks, dims=("c", "y", "x")), 1)
    with dask.config.set(num_workers=2):
        done = in_strips(blurred.data)
    assert greedily_held(dict(done.__dask_graph__()), nbytes=20 * 20 * 2) <= 40


def greedily_held(graph: dict[Any, Any], nbytes: int) -> int:
    """The most chunks held at once when all that reads goes first."""
    waiting = {key: len(node.dependencies) for key, node in graph.items()}
    users: dict[Any, list[Any]] = {key: [] for key in graph}
    for key, node in graph.items():
        for needed in node.dependencies:
            users[needed].append(key)
    left = {key: len(names) for key, names in users.items()}
    values: dict[Any, Any] = {}
    ready = {key for key, n in waiting.items() if not n}
    most = 0
    while ready:
        key = max(ready, key=lambda k: (not pixels_of(graph[k], values), str(k)))
        ready.remove(key)
        node = graph[key]
        values[key] = node({name: values[name] for name in node.dependencies})
        for needed in node.dependencies:
            left[needed] -= 1
            if not left[needed]:
                del values[needed]
        for user in users[key]:
            waiting[user] -= 1
            if not waiting[user]:
                ready.add(user)
        most = max(most, sum(getattr(v, "nbytes", 0) >= nbytes for v in values.values()))
    return most


def pixels_of(node: Any, values: dict[Any, Any]) -> list[Any]:
    """What of a task's input is not just a word that something is done."""
    return [name for name in node.dependencies if values[name] is not None]
