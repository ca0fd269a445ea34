"""One chunking gives the same bits wherever it is computed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr
from same_states import identical

import gigaqc as gq
from gigaqc import passes


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
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
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
