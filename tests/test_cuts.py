"""What graphs hold of an image: chunks cut from an array, and tasks packed until they run."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from dask._task_spec import DataNode, Task, TaskRef
from dask.core import flatten
from settings import configure

import gigaqc as gq
from gigaqc import testing
from gigaqc.graph.chunks import Cuts, cuts_of
from gigaqc.graph.reduce import plan_groups
from gigaqc.graph.source import Source
from gigaqc.graph.tasks import Packed, when_done

SHAPE = (3, 50, 70)


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """An array whose chunks do not divide it."""
    pixels = np.random.default_rng(0).integers(0, 4000, SHAPE).astype("u2")
    array = zarr.create_array(tmp_path / "a.zarr", shape=SHAPE, chunks=(1, 16, 32), dtype="u2")
    array[:] = pixels
    return tmp_path / "a.zarr", pixels


def opened(path: Path) -> da.Array:
    return gq.open_image(path, chunks={"y": 16, "x": 32}).data


SOURCES = {
    "a reader": opened,
    "from_zarr": lambda path: da.from_zarr(str(path)),
    "uneven chunks": lambda path: da.from_array(
        zarr.open_array(path), chunks=(1, (20, 16, 14), (32, 38))
    ),
    "chunks that grow": lambda path: da.from_array(
        zarr.open_array(path), chunks=(3, (10, 40), (30, 30, 10))
    ),
    "one channel": lambda path: opened(path)[1:2],
    "whole chunks": lambda path: opened(path)[1:, 16:48, 32:],
}


def together(array: da.Array, table: np.ndarray, nodes: Any) -> np.ndarray:
    """The image that the tasks under these keys make."""
    made = np.empty(array.shape, array.dtype)
    starts = [np.cumsum([0, *sizes]) for sizes in array.chunks]
    for index in np.ndindex(*table.shape):
        block = nodes[table[index]]()
        where = tuple(
            slice(s[i], s[i] + n) for s, i, n in zip(starts, index, block.shape, strict=True)
        )
        made[where] = block
    return made


@pytest.mark.parametrize("source", SOURCES)
def test_cuts_make_the_chunks_that_dask_would_make(
    store: tuple[Path, np.ndarray], source: str
) -> None:
    array = SOURCES[source](store[0])
    expected = array.compute()
    own = Source.of(array, "mine")
    table, nodes = own.table, own.tasks
    assert isinstance(nodes, Cuts)
    np.testing.assert_array_equal(together(array, table, nodes), expected)
    assert set(table.ravel()) <= set(nodes) and len(nodes) == len(list(nodes))
    assert not set(nodes) & set(flatten(array.__dask_keys__()))


@pytest.mark.parametrize(
    "changed",
    [
        lambda image: image + 1,
        lambda image: image[[2, 0]],
        lambda image: image[:, 3:],
        lambda image: image[::-1],
        lambda image: image.rechunk((1, 50, 70)),
        lambda image: image.persist(),
        lambda image: da.from_array(image.compute(), chunks=(1, 25, 35)),
    ],
)
def test_anything_else_is_left_to_dask(store: tuple[Path, np.ndarray], changed: Any) -> None:
    array = changed(opened(store[0]))
    assert cuts_of(array) is None
    nodes = Source.of(array, "mine").tasks
    assert not isinstance(nodes, Cuts)


def test_cuts_know_their_keys(store: tuple[Path, np.ndarray]) -> None:
    found = cuts_of(opened(store[0]))
    assert found is not None
    cuts, _ = found
    assert (cuts.name, 2, 3, 2) in cuts
    for key in (
        (cuts.name, 2, 4, 2), (cuts.name, 2, 3, -1), (cuts.name, 2, 3), ("b", 2, 3, 2), cuts.name,
    ):  # fmt: skip
        assert key not in cuts and cuts.get(key) is None


def test_a_graph_leaves_nothing_with_the_image(store: tuple[Path, np.ndarray]) -> None:
    """dask would keep a task for each chunk in the layer that the image shares with every graph."""
    image = gq.open_image(store[0])
    gq.scan(image).compute()
    assert not any(layer.is_materialized() for layer in image.data.dask.layers.values())


def test_packed_tasks_share_arrays_and_make_the_same() -> None:
    pixels = np.arange(12.0)
    nodes = {
        ("part", k): Task(("part", k), np.multiply, TaskRef("factor"), DataNode(None, pixels))
        for k in range(3)
    }
    nodes["first"] = Task("first", when_done, Task(None, lambda x, y=0: x[y], pixels, y=2))
    packed = Packed((nodes, "beside", slice(1, 2)))
    again, beside, where = packed.unpacked()
    assert beside == "beside" and where == slice(1, 2)
    assert again.keys() == nodes.keys()
    assert again["first"]() == 2
    for k in range(3):
        assert again["part", k].dependencies == {"factor"}
        assert again["part", k].args[1].value is pixels
        np.testing.assert_array_equal(again["part", k]({"factor": 3}), 3 * pixels)


def test_a_group_takes_a_kilobyte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the graph of a scan; with dask's own tasks it was 3, and 2 more for each further chunk."""
    configure(monkeypatch, "group-values", 8 * 64 * 64)
    for channels in (1, 8):
        side = 64 * (28 if channels == 8 else 56)
        path = tmp_path / f"{channels}.zarr"
        testing.sparse_store(path, (channels, side, side), (1, 64, 64), dtype="u2")
        image = gq.open_image(path, chunks=64)
        groups = len(plan_groups(image))
        assert groups > 250
        gc.collect()
        tracemalloc.start()
        scan = gq.scan(image)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] / groups
        tracemalloc.stop()
        assert scan is not None and taken < 1600, taken
