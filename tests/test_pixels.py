"""Histograms of given edges and sums above thresholds, against numpy on the whole array."""

from __future__ import annotations

import math
from typing import Any

import dask
import dask.array as da
import numpy as np
import oracle
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from settings import configure
from strategies import Case, images, repeatable

from gigaqc.image.labelled import as_image, as_mask
from gigaqc.scanning.pixels import MandersSums, histogram_pass, joint_histogram_pass, manders_pass
from gigaqc.testing.stores import CountingStore, count_reads, reset_reads

EDGES = {
    "even": np.linspace(0.0, 100.0, 41),
    "thirds": np.linspace(-31.5, 77.25, 8),
    "uneven": np.array([-50.0, -1.0, 0.0, 3.0, 3.5, 90.0]),
    "infinite": np.array([-np.inf, 5.0, np.inf]),
    "beyond": np.linspace(1e6, 1e6 + 1e-9, 6),
    "wide": np.array([-1.7e308, -0.5e308, 0.5e308, 1.7e308]),
    "undefined": np.full(4, np.nan),
}


@pytest.fixture(autouse=True)
def many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "group-values", 0)


@repeatable
@given(images(largest=100), st.sampled_from(list(EDGES)), st.booleans(), st.booleans())
def test_histograms_are_numpys(case: Case, kind: str, masked: bool, promised: bool) -> None:
    image = as_image(case.image)
    sides = tuple(case.whole.sizes[d] for d in "yx")
    mask = np.random.default_rng(case.seed).random(sides) < 0.5 if masked else None
    edges = np.array([EDGES[kind] + (0 if kind != "even" else k) for k in range(image.sizes["c"])])
    found = histogram_pass(
        image,
        dask.delayed(edges) if promised else edges,
        None if mask is None else as_mask(mask, image),
    ).compute(scheduler="sync")
    assert found.dtype == np.int64 and found.shape == (len(edges), edges.shape[1] - 1)
    for counts, bins, channel in zip(found, edges, oracle.channels(case.whole, mask), strict=True):
        wanted = np.histogram(channel.values, bins)[0] if kind != "undefined" else 0
        np.testing.assert_array_equal(counts, wanted)


@repeatable
@given(st.integers(1, 300), st.integers(0, 999), st.booleans())
def test_values_on_the_edges(bins: int, seed: int, single: bool) -> None:
    """Where a division by the width of a bin would round to the wrong side."""
    rng = np.random.default_rng(seed)
    low, width = rng.normal(0, 100), rng.lognormal(0, 5)
    edges = np.histogram_bin_edges([], bins, (low, low + width))
    values = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    pixels = values[None].astype("f4" if single else "f8")
    found = histogram_pass(as_image(pixels), edges[None]).compute(scheduler="sync")
    np.testing.assert_array_equal(found[0], np.histogram(pixels.astype("f8"), edges)[0])
    np.testing.assert_array_equal(
        found[0], np.histogram(pixels.astype("f8"), bins, (edges[0], edges[-1]))[0]
    )


def test_large_integers_count_as_float64() -> None:
    pixels = np.array([[0, 2**53, 2**53 + 1, 2**63 - 1]], "i8")
    edges = np.array([[0, 2.0**53, 2.0**53 + 2, 2.0**63]])
    assert histogram_pass(as_image(pixels), edges).compute().tolist() == [[1, 2, 1]]


@repeatable
@given(
    images(dims=("cyx", "tczyx"), channels=(1, 4), largest=100),
    st.sampled_from(["even", "thirds", "uneven", "infinite"]),
    st.sampled_from(["even", "uneven", "undefined"]),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_joint_histograms_are_numpys(
    case: Case, kind_x: str, kind_y: str, pair: tuple[int, int]
) -> None:
    image = as_image(case.image)
    ix, iy = (k % image.sizes["c"] for k in pair)
    channels = oracle.channels(case.whole)
    x, y = oracle.joint(channels[ix], channels[iy])
    edges = EDGES[kind_x], EDGES[kind_y]
    lazy = joint_histogram_pass(image, ix, iy, dask.delayed(edges[0]), edges[1])
    found = lazy.compute(scheduler="sync")
    assert found.dtype == np.int64
    if kind_y == "undefined":
        np.testing.assert_array_equal(found, np.zeros((edges[0].size - 1, 3)))
    else:
        np.testing.assert_array_equal(found, np.histogram2d(x, y, bins=edges)[0])


@repeatable
@given(
    images(dims=("cyx", "tczyx"), channels=(2, 4), largest=100),
    st.tuples(st.floats(-20, 100), st.floats(-20, 100)),
    st.booleans(),
)
def test_manders_sums(case: Case, thresholds: tuple[float, float], promised: bool) -> None:
    channels = oracle.channels(case.whole)
    x, y = oracle.joint(channels[1], channels[0])
    given_ = dask.delayed(thresholds) if promised else thresholds
    found = manders_pass(as_image(case.image), 1, 0, given_).compute(scheduler="sync")
    wanted = (x[y > thresholds[1]], x, y[x > thresholds[0]], y)
    sums = (found.x_where_y, found.x, found.y_where_x, found.y)
    assert found.n == x.size
    for total, values in zip(sums, wanted, strict=True):
        assert abs(total - math.fsum(values)) <= 1e-12 * math.fsum(np.abs(values))


def test_manders_without_pixels() -> None:
    pixels = np.full((2, 5, 5), np.nan)
    found = manders_pass(as_image(pixels), 0, 1, (0.0, 0.0)).compute()
    assert found == MandersSums(0.0, 0.0, 0.0, 0.0, 0)


@pytest.mark.parametrize("chunks", [(1, 16, 16), (4, 33, 20), (2, 64, 64)])
def test_reads(tmp_path: Any, chunks: tuple[int, ...]) -> None:
    store = CountingStore(tmp_path / "image.zarr")
    pixels = np.random.default_rng(0).random((4, 100, 90), "f4")
    array = zarr.create_array(store, shape=pixels.shape, chunks=chunks, dtype="f4")
    array[:] = pixels
    image = as_image(array)
    reset_reads(store)
    edges = np.linspace(0, 1, 5)
    lazy = (
        histogram_pass(image, np.array([edges] * 4)),
        joint_histogram_pass(image, 3, 1, edges, edges),
        manders_pass(image, 1, 3, (0.5, 0.5)),
    )
    grid = math.prod(-(-n // c) for n, c in zip(pixels.shape[1:], chunks[1:], strict=True))
    of_two = grid * len({1 // chunks[0], 3 // chunks[0]})
    assert not count_reads(store)
    for result, chunks_read in zip(lazy, (grid * 4 // chunks[0], of_two, of_two), strict=True):
        result.compute()
        reads = count_reads(store)
        assert len(reads) == chunks_read
        assert set(reads.values()) == {1}
        reset_reads(store)


@pytest.mark.same_process
def test_reading_waits_for_the_edges() -> None:
    order: list[str] = []

    def read(block: np.ndarray) -> np.ndarray:
        order.append("read")
        return block

    def promise() -> np.ndarray:
        order.append("edges")
        return np.array([[0.0, 1.0]])

    lazy = da.ones((60, 60), chunks=20).map_blocks(read, meta=np.empty((0, 0)))
    image = as_image(xr.DataArray(lazy, dims=("y", "x")))
    found = histogram_pass(image, dask.delayed(promise)()).compute(num_workers=4)
    assert found.tolist() == [[3600]]
    assert order == ["edges", *["read"] * 9]


def test_edges_may_be_of_the_image_itself() -> None:
    pixels = np.random.default_rng(0).normal(0, 1, (2, 40, 40))
    image = as_image(da.from_array(pixels, chunks=(1, 15, 40)))
    edges = dask.delayed(lambda x: np.linspace(x.min((1, 2)), x.max((1, 2)), 9).T)(image.data)
    found = histogram_pass(image, edges).compute()
    assert found.sum(axis=1).tolist() == [1600, 1600]
