"""One chunking gives the same bits wherever it is computed."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from capabilities import CAPABILITIES, Sources, assert_same, make_sources
from local_clusters import local_client
from same_states import identical
from settings import configure

import gigaqc as gq
from gigaqc.graph import slabs
from gigaqc.graph.schedule import in_strips, settled


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
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return make_sources(tmp_path_factory.mktemp("sources"), side=120)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two worker processes of one thread each."""
    with local_client() as connected:
        yield connected


@pytest.fixture(autouse=True)
def many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "group-values", 0)


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


def test_lazy_results_on_worker_processes(paths: dict[str, Path], client: Any) -> None:
    image = gq.open_image(paths["f4"])
    persisted = gq.scan(image).persist()
    identical(persisted.compute().state, gq.scan(image).compute(scheduler="sync").state)


@pytest.mark.parametrize("name", CAPABILITIES)
def test_every_capability_gives_the_bits_of_one_thread(
    sources: Sources, client: Any, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two threads, and on two worker processes, which share no memory and write to one disk.

    There also of images that the workers hold, and nobody else once the graph is made.
    """
    monkeypatch.setattr(slabs, "_SMALLEST_LIMIT", 1)

    def made(where: str) -> Any:
        (tmp_path / where).mkdir()
        return CAPABILITIES[name](replace(sources, out=tmp_path / where))

    with dask.config.set(scheduler="sync"):
        expected = made("sync")
    with dask.config.set(scheduler="threads", num_workers=2):
        assert_same(made("threads"), expected)
    before = done_by(client)
    assert_same(made("processes"), expected)
    assert done_by(client) > before
    for name_of in ("open_image", "open_labels"):
        monkeypatch.setattr(gq, name_of, partial(persisted, getattr(gq, name_of)))
    assert_same(made("held"), expected)


def persisted(opened: Callable[..., xr.DataArray], *arguments: Any, **options: Any) -> xr.DataArray:
    return opened(*arguments, **options).persist()


def done_by(client: Any) -> int:
    """Tasks that the workers have done so far."""
    counts = client.run(lambda dask_worker: dask_worker.state.executed_count)
    return sum(counts.values())


def test_a_large_value_is_sent_once(client: Any, tmp_path: Path) -> None:
    """A look-up table of half a megabyte a channel, which all blocks of a written image need."""
    pixels = np.random.default_rng(0).integers(0, 65536, (2, 512, 512)).astype("u2")
    zarr.create_array(tmp_path / "i.zarr", shape=pixels.shape, chunks=(1, 64, 64), dtype="u2")[
        :
    ] = pixels
    equal = gq.equalize_histogram(gq.open_image(tmp_path / "i.zarr")).data
    ready = settled(equal)
    tasks = dict(ready.__dask_graph__())
    large = [k for k, node in tasks.items() if len(pickle.dumps(node)) > 16384]
    assert 1 <= len(large) <= 2
    with dask.config.set(scheduler="sync"):
        expected = equal.compute()
    np.testing.assert_array_equal(ready.compute(), expected)


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
