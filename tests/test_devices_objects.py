"""Objects and pairs of channels of images on a device: the same results, and no pixel leaves it.

Without a device its arrays are those of `device_array`; ``gpu`` marks what needs cupy.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import array_api_strict
import dask
import dask.array as da
import device_array
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from settings import configure

import gigaqc as gq
from gigaqc.base.backend import on_host, to_host
from gigaqc.errors import ImageError
from gigaqc.image.labelled import as_mask
from gigaqc.kernels import by_label, object_planes, objects, vectors
from gigaqc.scanning.pixels import joint_histogram_pass, manders_pass
from gigaqc.scanning.tissue import tissue_pass

SHAPE = (70, 90)


def to_cupy(block: np.ndarray) -> Any:
    return pytest.importorskip("cupy").asarray(block)


def to_strict(block: np.ndarray) -> Any:
    return array_api_strict.asarray(block, device=array_api_strict.Device("device1"))


@pytest.fixture(params=[device_array.wrapped, pytest.param(to_cupy, marks=pytest.mark.gpu)])
def move(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    configure(monkeypatch, "group-values", 6000)  # several groups, with seams
    device_array.copied.clear()
    return request.param


def on_device(image: xr.DataArray, move: Any) -> xr.DataArray:
    nothing = np.empty((0,) * image.ndim, image.dtype)
    return image.copy(data=image.data.map_blocks(move, dtype=image.dtype, meta=nothing))


def some_labels(dtype: str = "i4", chunks: tuple[int, int] = (32, 40)) -> xr.DataArray:
    """Disks and rings across the borders of chunks, one in two pieces, ids that are sparse."""
    y, x = np.indices(SHAPE)
    labels = np.zeros(SHAPE, dtype)
    for k, (cy, cx) in enumerate([(12, 12), (32, 40), (50, 80), (64, 20), (30, 75), (5, 60)]):
        distance = np.hypot(y - cy, x - cx)
        labels[(distance < 11) & (distance > 3 * (k % 2))] = 1 + 20 * k
    labels[40:44, 2:5] = labels[60:63, 50:60] = 77
    return xr.DataArray(da.from_array(labels, chunks=chunks), dims=("y", "x"))


def stack(dtype: str, chunks: tuple[int, ...]) -> xr.DataArray:
    pixels = np.random.default_rng(1).poisson(60, (2, *SHAPE)).astype(dtype)
    if np.dtype(dtype).kind == "f":
        pixels += np.random.default_rng(2).normal(1e4, 1, pixels.shape).astype(dtype)
        pixels[0, 10:14, 4:20], pixels[1, 33, 42] = np.nan, np.inf
    return xr.DataArray(
        da.from_array(pixels, chunks=chunks), dims=("c", "y", "x"), coords={"c": ["a", "b"]}
    )


def no_pixels_copied() -> None:
    """A chunk, or a group of them, has at least 22 x 10 pixels; runs and edges are fewer."""
    assert max(device_array.copied, default=0) < 32 * 40 // 2, "pixels left the device"


@pytest.mark.cover(2)
@pytest.mark.parametrize("labels_too", [False, True])
@pytest.mark.parametrize("chunks", [(2, 70, 90), (1, 32, 40)])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_object_table(move: Any, dtype: str, chunks: tuple, labels_too: bool) -> None:
    image, labels = stack(dtype, chunks), some_labels()
    expected = gq.object_table(labels, image)
    ids = on_device(labels, move) if labels_too else labels
    found = gq.object_table(ids, on_device(image, move))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-10)
    no_pixels_copied()


@pytest.mark.parametrize("dtype", ["u1", "i4", "u8"])
def test_labels_alone(move: Any, dtype: str) -> None:
    labels = some_labels(dtype)
    expected = gq.object_table(labels)
    pd.testing.assert_frame_equal(gq.object_table(on_device(labels, move)), expected)
    no_pixels_copied()


def test_negative_ids_are_refused(move: Any) -> None:
    with pytest.raises(ImageError, match=r"negative id -1 at z 0, y (40, x 2|60, x 50)"):
        gq.object_table(on_device(some_labels().where(lambda v: v != 77, -1), move))


@pytest.mark.parametrize("masked", [False, True])
def test_a_scan_with_labels(move: Any, masked: bool) -> None:
    image, labels = stack("u2", (1, 32, 40)), some_labels()
    mask = np.random.default_rng(3).random(SHAPE) < 0.8 if masked else None
    expected = gq.scan(image, labels=labels, mask=mask).compute()
    for ids in (labels, on_device(labels, move)):
        found = gq.scan(on_device(image, move), labels=ids, mask=mask).compute()
        for name, column in expected.objects.rows.columns().items():
            np.testing.assert_array_equal(column, found.objects.rows.columns()[name])


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_pairs_of_channels(move: Any, dtype: str) -> None:
    image = stack(dtype, (1, 32, 40))
    moved = on_device(image, move)
    edges = np.array([20.0, 50, 55, 70, 1e4, 10060, 10100])
    passes = (
        joint_histogram_pass(image, 0, 1, edges, edges[1:]),
        joint_histogram_pass(moved, 0, 1, edges, edges[1:]),
    )
    expected, counts = dask.compute(*passes)
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == expected.dtype and counts.sum() > 1000
    sums, same = dask.compute(
        *(manders_pass(i, 0, 1, (60.0, 60.0 if dtype != "f4" else 10060)) for i in (image, moved))
    )
    np.testing.assert_allclose(astuple(same), astuple(sums), 1e-10)
    no_pixels_copied()


@pytest.mark.same_process
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_tissue_above_the_median(
    move: Any, dtype: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = stack(dtype, (1, 32, 40))
    statistics = gq.scan(image).compute()
    inside = np.random.default_rng(3).random(SHAPE) < 0.8
    mask = as_mask(inside, image) if masked else None
    came: list[Any] = []

    def seen(block: Any) -> np.ndarray:
        came.append((on_host(block), block.dtype))
        return to_host(block)

    monkeypatch.setattr("gigaqc.scanning.tissue.to_host", seen)
    options: Any = {"channel_in_statistics": 0, "method": "median", "mask": mask}
    expected = tissue_pass(image, 0, statistics, **options).compute()
    came.clear()
    found = tissue_pass(on_device(image, move), 0, statistics, **options).compute()
    assert found == expected and found.n_fragments > 10
    assert set(came) == {(False, np.dtype(bool))}, "more than flags left the device"


def test_kernels_of_pairs() -> None:
    x, y = np.random.default_rng(4).integers(0, 9, (2, 20, 30)).astype("f8")
    x[3, 3], y[5] = np.nan, np.inf
    edges = np.arange(1.0, 9)
    finite = np.isfinite(x) & np.isfinite(y)
    expected = np.histogram2d(x[finite], y[finite], [edges, edges])[0]
    found = vectors.pair_counts(to_strict(x), to_strict(y), edges, edges)
    np.testing.assert_array_equal(found, expected)
    sums = vectors.manders_sums(to_strict(x), to_strict(y), 4.0, 5.0)
    a, b = x[finite], y[finite]
    assert sums == (a[b > 5].sum(), a.sum(), b[a > 4].sum(), b.sum(), a.size)


def block(seed: int, shape: tuple[int, int] = (9, 31)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(0, 4, shape), 3, axis=1).astype("u4") * 50_000


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize(
    "to", [np.asarray, to_strict, pytest.param(to_cupy, marks=pytest.mark.gpu)]
)
def test_kernels(to: Any, empty: bool) -> None:
    labels = block(0) * (not empty)
    runs = objects.find_runs(labels)
    for mine, theirs in zip(object_planes.find_runs(to(labels)), runs, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    bounds, ids, first = runs
    slots, distinct, *_ = objects.place_runs(bounds, ids, first, 9, 1)
    where = (bounds, first, slots, len(distinct))
    members = object_planes.Members.of(to(labels), *where)
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 65536, labels.shape).astype("u2")
    np.testing.assert_array_equal(
        object_planes.sum_codes(to(codes), members), objects.sum_codes(codes, *where)
    )
    x, y = rng.normal(1e6, 1, (2, *labels.shape))
    x[2, 5:9], y[4, 4], y[labels == 50_000] = np.nan, np.inf, np.nan
    for name, arrays, limits in (
        ("sum_floats", (y,), ()),
        ("sum_stained", (y,), (1e6,)),
        ("sum_pairs", (x, y), (1e6, 1e6 + 1)),
    ):
        compiled = getattr(objects if name == "sum_floats" else by_label, name)
        found = getattr(object_planes, name)(*map(to, arrays), members, *limits)
        np.testing.assert_allclose(found, compiled(*arrays, *where, *limits), 1e-10)
