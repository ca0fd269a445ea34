"""What is read: each chunk once (floats: twice), and nothing before it is asked for.

Counted by the store, so that no cleverness of dask goes unseen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from settings import configure

import gigaqc as gq
from gigaqc import testing
from gigaqc.graph.reduce import plan_groups
from gigaqc.image.labelled import as_image
from gigaqc.scanning.tissue import REACH
from gigaqc.testing.stores import CountingStore, count_reads, reset_reads

pytestmark = pytest.mark.same_process

SHAPE, CHUNKS = (3, 150, 140), (1, 60, 66)
GRID = math.prod(-(-n // c) for n, c in zip(SHAPE[1:], CHUNKS[1:], strict=True))
_ORDER: list[str] = []


class RecordingStore(CountingStore):
    """Also keeps the order; under threads that share this module."""

    async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
        _ORDER.append(key)
        return await super().get(key, *arguments, **options)

    def get_sync(self, key: str, **options: Any) -> Any:
        _ORDER.append(key)
        return super().get_sync(key, **options)


def stored(folder: Path, dtype: str, chunks: tuple[int, ...] = CHUNKS) -> zarr.Array:
    store = RecordingStore(folder / f"{dtype}.zarr")
    array = zarr.create_array(store, shape=SHAPE, chunks=chunks, dtype=dtype)
    array[:] = np.random.default_rng(0).poisson(20, SHAPE) * 1.25
    reset_reads(store)
    _ORDER.clear()
    return array


@pytest.fixture(params=["u2", "f4", "i4"])
def array(request: pytest.FixtureRequest, tmp_path: Path) -> zarr.Array:
    return stored(tmp_path, request.param)


@pytest.fixture(params=[0, 1 << 23], ids=["many groups", "one group"], autouse=True)
def group_values(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "group-values", request.param)


def reads_by_channel(array: zarr.Array) -> dict[int, set[int]]:
    """How often the chunks of each channel were read; every channel that was read, wholly."""
    found: dict[int, list[int]] = {}
    for key, n in count_reads(array.store).items():
        found.setdefault(int(key.split("/")[1]), []).append(n)
    assert all(len(reads) == GRID for reads in found.values())
    return {c: set(reads) for c, reads in found.items()}


def passes_of(array: zarr.Array) -> int:
    return 1 if array.dtype == np.uint16 else 2


@pytest.mark.cover(2)
@pytest.mark.parametrize("options", [{}, {"mask": np.ones(SHAPE[1:], bool)}, {"tile": 17}])
def test_a_scan(array: zarr.Array, options: dict[str, Any]) -> None:
    with testing.forbid_compute():
        lazy = gq.scan(array, **options)
    assert not count_reads(array.store)
    lazy.compute()
    assert reads_by_channel(array) == {key: {passes_of(array)} for key in range(3)}


@pytest.mark.cover(2)
@pytest.mark.parametrize("tissue", [False, None, "1", 1, "mask"])
@pytest.mark.parametrize("rules", ["robust", "recipe"])
def test_an_assessment(array: zarr.Array, tissue: Any, rules: str) -> None:
    """Only the chunks of the channel that shows the tissue are read once more."""
    shown = np.ones(SHAPE[1:], bool) if tissue == "mask" else tissue
    gq.assess(array, tissue=shown, rules=rules, progress=False)
    expected = {key: {passes_of(array)} for key in range(3)}
    if tissue not in (False, "mask"):
        expected[0 if tissue is None else 1] = {passes_of(array) + 1}
    assert reads_by_channel(array) == expected


METRICS: dict[str, tuple[Callable[[Any], Any], set[int], tuple[int, int]]] = {
    # the call, the channels that it reads, and how often: integers to 16 bits, other types
    "quantile": (lambda i: gq.quantile(i, [0.2, 0.7]), {0, 1, 2}, (1, 2)),
    "quantile ignore_zeros": (lambda i: gq.quantile(i, 0.2, ignore_zeros=True), {0, 1, 2}, (1, 2)),
    "signal_to_noise": (gq.signal_to_noise, {0, 1, 2}, (1, 2)),
    "channel_correlation": (gq.channel_correlation, {0, 1, 2}, (1, 1)),
    "acquisition_artifacts": (gq.acquisition_artifacts, {0, 1, 2}, (1, 2)),
    "dynamic_range": (gq.dynamic_range, {0, 1, 2}, (1, 2)),
    "stained_area": (gq.stained_area, {0, 1, 2}, (1, 2)),
    "stained_area fixed": (lambda i: gq.stained_area(i, 12), {0, 1, 2}, (1, 2)),
    "focus": (gq.focus, {0, 1, 2}, (1, 1)),
    "focus spectrum": (lambda i: gq.focus(i, tile=60, spectrum=True), {0, 1, 2}, (1, 1)),
    "focus spectrum astride": (lambda i: gq.focus(i, tile=19, spectrum=True), {0, 1, 2}, (1, 1)),
    "colocalization": (lambda i: gq.colocalization(i, 2, 0), {0, 2}, (2, 2)),
    "tissue_integrity median": (lambda i: gq.tissue_integrity(i, 1), {1}, (2, 3)),
    "tissue_integrity otsu": (lambda i: gq.tissue_integrity(i, 1, method="otsu"), {1}, (2, 3)),
}


@pytest.mark.cover(2)
@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_alone(array: zarr.Array, metric: str) -> None:
    function, channels, reads = METRICS[metric]
    with testing.forbid_compute():
        lazy = function(array)
    assert not count_reads(array.store)
    lazy.compute()
    assert reads_by_channel(array) == {key: {reads[passes_of(array) - 1]} for key in channels}


def test_a_histogram(array: zarr.Array) -> None:
    """Floats are read once to know the range, and once to count."""
    gq.histogram(array, 12).compute()
    assert reads_by_channel(array) == {key: {passes_of(array)} for key in range(3)}


def test_a_histogram_of_a_given_range(array: zarr.Array) -> None:
    gq.histogram(array, 12, range=(0, 60)).compute()
    assert reads_by_channel(array) == {key: {1} for key in range(3)}


def test_a_joint_histogram_of_given_ranges(array: zarr.Array) -> None:
    gq.joint_histogram(array, 0, 2, 9, range=((0, 60), (0, 60))).compute()
    assert reads_by_channel(array) == {0: {1}, 2: {1}}


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_metrics_of_one_scan_share_its_reads(tmp_path: Path, dtype: str) -> None:
    array = stored(tmp_path, dtype)
    lazy = gq.scan(array)
    with testing.forbid_compute():
        found = [gq.signal_to_noise(lazy), gq.dynamic_range(lazy), gq.focus(lazy)]
    dask.compute(*found)
    assert reads_by_channel(array) == {key: {passes_of(array)} for key in range(3)}


@pytest.mark.cover(2)
@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize("chunks", [{"y": 30, "x": 30}, {"y": 50, "x": 140}, {"y": 7, "x": 61}])
def test_another_chunking_reads_the_same_pixels(
    tmp_path: Path, dtype: str, chunks: dict[str, int]
) -> None:
    """dask's optimisation of slices must not reach into our tasks: it gave wrong pixels."""
    array = stored(tmp_path, dtype)
    pixels = array[:].astype("f8").reshape(3, -1)
    reset_reads(array.store)
    image = as_image(array).chunk(chunks)
    levels = [0, 0.1, 0.5, 0.999, 1]
    found = xr.Dataset({"q": gq.quantile(image, levels), "r": gq.focus(image).whole_tenengrad})
    wanted = gq.scan(array[:]).compute()
    computed = found.compute()
    np.testing.assert_array_equal(computed.q, np.quantile(pixels, levels, axis=1))
    np.testing.assert_allclose(computed.r, gq.focus(wanted).whole_tenengrad, rtol=1e-12)


def test_statistics_are_enough(array: zarr.Array) -> None:
    statistics = gq.scan(array).compute()
    reset_reads(array.store)
    gq.signal_to_noise(statistics)
    gq.assess(statistics)
    assert not count_reads(array.store)


@pytest.mark.parametrize("tissue", [False, "1"])
def test_a_pass_waits_for_the_one_before(tmp_path: Path, tissue: Any) -> None:
    """Else the chunks of the second would be held while the first is at work."""
    array = stored(tmp_path, "f4")
    with dask.config.set(scheduler="threads", num_workers=4):
        gq.assess(array, tissue=tissue, progress=False)
    read = [key for key in _ORDER if key.startswith("c/")]
    total = 3 * GRID
    first, second, third = read[:total], read[total : 2 * total], read[2 * total :]
    assert len(set(first)) == len(set(second)) == total
    assert len(third) == len(set(third)) == (0 if tissue is False else GRID)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize("tissue", [False, True])
def test_one_task_a_group(tmp_path: Path, dtype: str, tissue: bool) -> None:
    """A pass observes (reading included); beside it the tree and a few single tasks."""
    array = stored(tmp_path, dtype)
    lazy = gq.scan(array)
    groups = len(plan_groups(as_image(array)))
    keys = list(lazy.__dask_optimize__(lazy.__dask_graph__(), lazy.__dask_keys__()).to_dict())
    by_task = [k for k in keys if isinstance(k, tuple) and "-join-" not in k[0]]
    assert len(by_task) == groups * passes_of(array)
    tree = [k for k in keys if isinstance(k, tuple) and "-join-" in k[0]]
    assert len(tree) <= passes_of(array) * (groups - 1)
    assert len(keys) - len(by_task) - len(tree) <= 4 * passes_of(array) + 2
    if tissue:
        found = gq.tissue_integrity(array, 0, method="otsu")
        own = {k for k in found.__dask_graph__() if isinstance(k, tuple) and "tissue-" in k[0]}
        regions = len(plan_groups(as_image(array).isel(c=[0]), 2 * REACH + 1))
        assert len([k for k in own if k[0].endswith("-observe")]) == regions
        assert len(own) < 2 * regions


def test_every_lazy_call_is_lazy(tmp_path: Path) -> None:
    array = stored(tmp_path, "f4")
    image = as_image(array)
    lazy = gq.scan(image)
    calls: dict[str, Callable[[], Any]] = {
        **{name: lambda f=f: f(image) for name, (f, *_) in METRICS.items()},
        "histogram": lambda: gq.histogram(image),
        "joint_histogram": lambda: gq.joint_histogram(image, 0, 1),
        "explain": lambda: gq.explain(image),
        "scan of statistics": lambda: gq.signal_to_noise(lazy),
        "repr": lambda: repr(lazy),
    }
    with testing.forbid_compute():
        for name, call in calls.items():
            assert call() is not None, name
    assert not count_reads(array.store) and not _ORDER
