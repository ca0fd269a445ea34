"""The tissue pass against scipy on the whole array: any chunks and groups, each chunk read once."""

from __future__ import annotations

import math
from typing import Any

import dask
import dask.array as da
import numpy as np
import oracle
import pytest
import scipy.ndimage as ndi
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from settings import configure
from strategies import build, chunkings, repeatable

from gigaqc.errors import ParameterError
from gigaqc.formulas.tissue import coverage, fragmentation, intact
from gigaqc.graph.reduce import plan_groups
from gigaqc.image.labelled import as_image, as_mask
from gigaqc.scanning import tissue
from gigaqc.scanning.scan import scan
from gigaqc.scanning.tissue import MIN_SIZE, REACH, TissueMask, mask_pass, tissue_pass
from gigaqc.statistics.blocks import SMALLEST_SIDE
from gigaqc.testing.stores import CountingStore, count_reads, reset_reads

METHODS = ("median", "otsu")


@pytest.fixture(params=[1 << 12, 1 << 23], ids=["many groups", "one group"])
def group_values(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many pixels a task takes; 4096 is the least, so images go beyond 64 pixels a side."""
    configure(monkeypatch, "group-values", request.param)
    return request.param


def expected(
    pixels: np.ndarray, threshold: float, method: str, mask: np.ndarray | bool = True
) -> TissueMask:
    """Of one channel (..., y, x)."""
    x = pixels.astype("f8").reshape(-1, *pixels.shape[-2:])
    x = np.where(np.isfinite(x), x, math.nan)
    valid = ~np.isnan(x) & np.broadcast_to(mask, pixels.shape).reshape(x.shape)
    least = 1
    level = x
    if method == "otsu":
        least = MIN_SIZE
        level = ndi.gaussian_filter(x, (0, 2, 2), mode="reflect", truncate=4.0)
    positive = (level > threshold) & valid
    sizes = oracle.component_sizes(positive)
    sizes = sizes[sizes >= least]
    return TissueMask(
        int(valid.sum()),
        int(positive.sum()),
        int(sizes.size),
        int(sizes.sum()),
        int(sizes.max(initial=0)),
    )


def found(image: xr.DataArray, channel: int, method: Any, mask: Any = None) -> TissueMask:
    labelled = as_image(image)
    within = None if mask is None else as_mask(mask, labelled)
    statistics = scan(labelled, mask=mask)
    result = tissue_pass(
        labelled, channel, statistics, channel_in_statistics=channel, method=method, mask=within
    )
    return result.compute(scheduler="sync")


def threshold(image: xr.DataArray, channel: int, method: Any, mask: Any = None) -> float:
    return tissue.threshold_of(scan(image, mask=mask).compute(scheduler="sync"), channel, method)


def large(draw_shape: tuple[int, int], dims: str, channels: int, lead: int) -> tuple[int, ...]:
    sizes = {"t": lead, "z": 2, "c": channels, "y": draw_shape[0], "x": draw_shape[1]}
    return tuple(sizes[d] for d in dims)


@st.composite
def cases(draw: st.DrawFn) -> Any:
    """Images of several groups in each direction, of every dtype and chunking."""
    dims = draw(st.sampled_from(["cyx", "cyx", "yx", "tczyx"]))
    sides = draw(st.tuples(st.integers(1, 200), st.integers(1, 200)))
    channels = draw(st.integers(1, 2)) if "c" in dims else 1
    shape = large(sides, dims, channels, draw(st.integers(1, 2)))
    kinds = draw(
        st.tuples(*[st.sampled_from(["blobs", "noise", "two_levels", "sparse"])] * channels)
    )
    holes = draw(st.tuples(*[st.sampled_from(["none", "nan", "inf", "all_nan"])] * channels))
    dtype = draw(st.sampled_from(["u1", "i2", ">u2", "u4", "i8", "f2", "f4", ">f4", "f8"]))
    return build(
        dtype, dims, shape, kinds, holes, draw(chunkings(shape)), draw(st.integers(0, 999))
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("masked", [False, True])
def test_any_chunks(group_values: int, method: str, masked: bool) -> None:
    @repeatable
    @given(cases())
    def check(case: Any) -> None:
        last = len(case.kinds) - 1
        mask = None
        if masked:
            sides = tuple(case.whole.sizes[d] for d in "yx")
            mask = np.random.default_rng(case.seed).random(sides) < 0.9
        pixels = (
            case.array[:, last]
            if case.dims == "tczyx"
            else case.array.reshape(-1, *case.array.shape[-2:])[last]
        )
        level = threshold(case.image, last, method, mask)
        wanted = expected(pixels, level, method, True if mask is None else mask)
        if method == "otsu":
            # A pixel that hangs on a rounding may fall on either side.
            below = expected(
                pixels, level - 1e-12 * abs(level), method, True if mask is None else mask
            )
            above = expected(
                pixels, level + 1e-12 * abs(level), method, True if mask is None else mask
            )
            if below != above:
                return
        assert found(case.image, last, method, mask) == wanted

    check()


@pytest.mark.cover(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk", [1, 14, 15, 16, 17, 40, 64])
def test_narrow_chunks(method: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups narrower than two reaches of the blur still find all that they need."""
    configure(monkeypatch, "group-values", 0)
    pixels = ndi.gaussian_filter(np.random.default_rng(1).random((90, 75)), 3).astype("f4")
    for chunks in ((chunk, 75), (90, chunk), (max(chunk, 9), max(chunk, 9))):
        image = xr.DataArray(da.from_array(pixels, chunks=chunks), dims=("y", "x"))
        level = threshold(image, 0, method)
        assert found(image, 0, method) == expected(pixels, level, method)


def test_a_group_with_neighbours_is_as_wide_as_the_blur_reaches() -> None:
    assert SMALLEST_SIDE >= REACH


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 5)])
@pytest.mark.parametrize("method", METHODS)
def test_images_smaller_than_the_blur(shape: tuple[int, int], method: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 99, shape).astype("u2")
    for chunks in (1, 2, -1):
        image = xr.DataArray(da.from_array(pixels, chunks=chunks), dims=("y", "x"))
        level = threshold(image, 0, method)
        assert found(image, 0, method) == expected(pixels, level, method)


def test_pieces_cross_where_four_groups_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of groups; a staircase through the corner, and pixels that only touch there."""
    configure(monkeypatch, "group-values", 1 << 12)
    board = np.zeros((128, 128), "u2")
    for k in range(54, 74):
        board[k, k : k + 2] = 9  # a staircase through all of (63, 63), (63, 64), (64, 64)
    board[62:64, 70:72] = board[64:66, 68:70] = 9  # touches at a corner, on the seam
    image = xr.DataArray(da.from_array(board, chunks=64), dims=("y", "x"))
    assert len(plan_groups(as_image(image))) == 4
    result = found(image, 0, "median")
    assert result == expected(board, 0, "median")
    assert result.positive == 48


@pytest.mark.cover(2)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize("chunks", [(1, 16, 16), (3, 33, 20)])
def test_each_chunk_of_the_channel_is_read_once(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, method: Any, dtype: str, chunks: Any
) -> None:
    configure(monkeypatch, "group-values", 1 << 12)
    store = CountingStore(tmp_path / "image.zarr")
    pixels = np.random.default_rng(0).random((3, 150, 160)) * 999
    array = zarr.create_array(store, shape=pixels.shape, chunks=chunks, dtype=dtype)
    array[:] = pixels.astype(dtype)
    image = as_image(array)
    assert len(plan_groups(image.isel(c=slice(1, 2)))) > 4
    for mask in (None, as_mask(pixels[0] < 900, image)):
        statistics = scan(image).compute()
        reset_reads(store)
        result = tissue_pass(
            image, 1, statistics, channel_in_statistics=1, method=method, mask=mask
        )
        assert not count_reads(store)
        result.compute()
        grid = [-(-n // c) for n, c in zip(pixels.shape[1:], chunks[1:], strict=True)]
        reads = count_reads(store)
        assert len(reads) == math.prod(grid)
        assert set(reads.values()) == {1}
        assert {key.split("/")[-3] for key in reads} == {"1" if chunks[0] == 1 else "0"}


@pytest.mark.same_process
@pytest.mark.parametrize("method", METHODS)
def test_reading_waits_for_the_statistics(method: Any) -> None:
    order: list[str] = []
    pixels = np.random.default_rng(0).random((60, 60))

    def read(block: np.ndarray) -> np.ndarray:
        order.append("read")
        return block

    def promise(statistics: Any) -> Any:
        order.append("statistics")
        return statistics

    lazy = da.from_array(pixels, chunks=20).map_blocks(read, meta=np.empty((0, 0)))
    image = as_image(xr.DataArray(lazy, dims=("y", "x")))
    statistics = dask.delayed(promise)(scan(pixels).compute())
    result = tissue_pass(image, 0, statistics, channel_in_statistics=0, method=method)
    assert result.compute(num_workers=4).valid == 3600
    assert order == ["statistics", *["read"] * 9]


def test_statistics_of_other_channels_and_the_same_bits_lazily() -> None:
    pixels = np.random.default_rng(0).integers(0, 99, (3, 70, 70)).astype("u2")
    image = as_image(pixels)
    statistics = scan(pixels[2:]).compute()
    results = [
        tissue_pass(image, 2, given, channel_in_statistics=k, method="otsu").compute()
        for given, k in ((statistics, 0), (dask.delayed(statistics), 0), (scan(image), 2))
    ]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("method", METHODS)
def test_without_tissue_and_without_pixels(method: Any) -> None:
    empty = found(xr.DataArray(np.zeros((30, 40), "u2"), dims=("y", "x")), 0, method)
    assert empty == TissueMask(1200, 0, 0, 0, 0)
    nothing = found(xr.DataArray(np.full((30, 40), np.nan), dims=("y", "x")), 0, method)
    assert nothing == TissueMask(0, 0, 0, 0, 0)


@pytest.mark.cover(2)
@pytest.mark.parametrize("of_tissue", ["yx", "tyx", "tzyx"])
@pytest.mark.parametrize("of_mask", ["", "yx", "tyx", "tcyx"])
def test_a_mask_of_tissue_that_the_caller_has(
    group_values: int, of_tissue: str, of_mask: str
) -> None:
    rng = np.random.default_rng(0)
    sizes = {"t": 2, "c": 2, "z": 3, "y": 80, "x": 90}
    image = as_image(
        xr.DataArray(da.zeros(tuple(sizes.values()), chunks=(1, 1, 1, 33, 40)), dims=tuple(sizes))
    )

    def drawn(dims: str) -> xr.DataArray:
        """The same in both channels: only one is looked at."""
        pixels = rng.random([sizes[d] if d != "c" else 1 for d in dims]) < 0.7
        repeated = np.repeat(pixels, 2, axis=dims.index("c")) if "c" in dims else pixels
        return xr.DataArray(repeated, dims=tuple(dims))

    shown = drawn(of_tissue)
    mask = drawn(of_mask) if of_mask else None
    lazy = mask_pass(as_mask(shown, image), None if mask is None else as_mask(mask, image))
    inside = xr.ones_like(shown) if mask is None else mask.isel(c=0) if "c" in mask.dims else mask
    shown, inside = xr.broadcast(shown, inside)
    order = [d for d in "tzyx" if d in shown.dims]
    pixels, where = shown.transpose(*order).values, inside.transpose(*order).values
    assert lazy.compute(scheduler="sync") == expected(pixels, 0.5, "median", where)


def test_an_unknown_method() -> None:
    image = as_image(np.zeros((9, 9), "u1"))
    with pytest.raises(ParameterError, match="'mean'; pass one of median, otsu"):
        tissue_pass(image, 0, scan(image), channel_in_statistics=0, method="mean")  # type: ignore[arg-type]


def test_formulas() -> None:
    assert coverage(30, 120) == 0.25
    assert math.isnan(coverage(0, 0))
    assert fragmentation(60, 80) == 0.25
    assert fragmentation(0, 0) == 1.0
    assert intact(0.4, 0.49, 0.3)
    assert not intact(0.3, 0.0, 0.3)
    assert not intact(0.9, 0.5, 0.3)
    assert not intact(math.nan, 0.0, 0.3)
