"""Classes of tasks: what a graph knows of them without reading their names."""

from __future__ import annotations

import pickle
from operator import add
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask._task_spec import TaskRef
from dask.callbacks import Callback

import gigaqc as gq
from gigaqc.graph.schedule import settled
from gigaqc.graph.tasks import Promise, ReadingTask, Tasks, join
from gigaqc.verdict.explain import Plan


def image(side: int = 64, chunk: int = 32) -> xr.DataArray:
    pixels = np.random.default_rng(0).poisson(40, (2, side, side)).astype("u2")
    return xr.DataArray(da.from_array(pixels, chunks=(1, chunk, chunk)), dims=("c", "y", "x"))


@pytest.mark.parametrize("kind", [Promise, ReadingTask])
def test_a_class_outlives_pickling_and_renaming(kind: type) -> None:
    tasks = Tasks()
    tasks.add("sum", add, TaskRef("a"), 1, kind=kind)
    node = tasks["sum"]
    again = pickle.loads(pickle.dumps(node)).substitute({"a": "b"}, key="other")
    assert type(again) is kind and again.key == "other"
    assert again({"b": 2}) == 3


def test_a_promise_outlives_the_optimisation_of_an_array() -> None:
    one = da.from_delayed(join("one", int, 1), (), "i8")
    chunks = da.zeros((8, 8), chunks=8) + one  # a chain, which dask fuses
    graph = chunks.__dask_optimize__(chunks.dask, chunks.__dask_keys__())
    assert [type(n) for n in graph.values()].count(Promise) == 1


def test_lists_of_references_are_given_as_lists() -> None:
    tasks = Tasks()
    refs = [tasks.add(f"n{k}", int, k) for k in range(3)]
    tasks.add("sum", sum, refs)
    assert dask.get(tasks, "sum") == 3


def test_chunks_that_are_one_delayed_each_are_not_computed_before_the_others() -> None:
    """Only what was promised comes first; by its key such a chunk looks like it."""
    made: list[int] = []

    def chunk(k: int) -> np.ndarray:
        made.append(k)
        return np.full((4, 4), k)

    rows = [da.from_delayed(dask.delayed(chunk)(k), (4, 4), "i8") for k in range(5)]
    array = da.concatenate(rows) + 1
    assert settled(array) is array and not made
    limit = da.from_delayed(join("limit", max, [2, 7]), (), "i8")
    ready = settled(array + limit)
    assert not made
    assert not any(isinstance(node, Promise) for node in ready.dask.values())
    np.testing.assert_array_equal(ready[::4, 0].compute(), np.arange(5) + 8)


def test_one_variable_of_a_lazy_result_is_a_promise(tmp_path: Path) -> None:
    lazy = image()
    scaled = lazy / gq.quantile(lazy, 0.99)
    assert settled(scaled.data) is not scaled.data
    kept: list[Any] = []

    class Begun(Callback):  # type: ignore[misc]
        def _start(self, graph: Any) -> None:
            kept.append(any(isinstance(node, Promise) for node in graph.values()))

    with Begun(), dask.config.set(scheduler="sync"):
        gq.write_image(scaled.astype("f4"), tmp_path / "o.zarr")
    assert kept[-1] is False  # chunks were written once all they wait for was known
    np.testing.assert_allclose(
        gq.open_image(tmp_path / "o.zarr").values, scaled.values.astype("f4"), rtol=1e-6
    )


def test_readings_are_what_progress_counts() -> None:
    graph = dict(gq.scan(image()).__dask_graph__())
    assert sum(isinstance(node, ReadingTask) for node in graph.values()) == 1
    large = image(4096, 1024)
    graph = dict(gq.scan(large).__dask_graph__())
    plan = gq.explain(large, metric="scan")
    assert isinstance(plan, Plan)
    assert sum(isinstance(node, ReadingTask) for node in graph.values()) == plan.tasks > 1
