"""Tissue: its mask, and the pieces that it is in, across any seams of chunks."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
import oracle
import pytest
import xarray as xr
from agreement import close, same
from hypothesis import assume, given
from strategies import DTYPES, NARROW, Case, build, images, repeatable

import gigaqc as gq

NAMES = ("coverage", "n_fragments", "fragmentation", "intact")
WHOLE = ("none",)


def check(found: xr.Dataset, wanted: oracle.Tissue) -> None:
    assert found["coverage"].ndim == 0
    same(found["coverage"], wanted.coverage, "coverage")
    same(found["n_fragments"], wanted.n_fragments, "n_fragments")
    close(found["fragmentation"], wanted.fragmentation, "fragmentation")
    assert bool(found["intact"]) == wanted.intact


@repeatable
@given(images())
def test_median_method_is_exact(case: Case) -> None:
    channel = oracle.channels(case.whole)[0]
    assume(channel.values.size > 0)
    found = gq.tissue_integrity(case.image, 0).compute()
    check(found, oracle.tissue(channel))


@repeatable
@given(images(dtypes=NARROW, smallest=8, kinds=("blobs", "counts", "two_levels", "ramp", "signed")))
def test_otsu_method_is_exact(case: Case) -> None:
    channel = oracle.channels(case.whole)[0]
    threshold = oracle.otsu(channel)
    assume(not math.isnan(threshold))
    distance = np.abs(oracle.blurred(channel) - threshold).min()
    assume(distance > 1e-6 * max(abs(threshold), 1))  # no pixel hangs on a rounding
    found = gq.tissue_integrity(case.image, 0, method="otsu").compute()
    check(found, oracle.tissue(channel, "otsu"))


@pytest.mark.cover(1)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunks", [(1, 70, 64), (1, 16, 16), (1, 9, 64), (1, 70, 11), (1, 1, 64)])
def test_components_meet_at_the_seams(dtype: str, chunks: tuple[int, ...]) -> None:
    case = build(dtype, "cyx", (1, 70, 64), ("blobs",), WHOLE, chunks, 9)
    check(
        gq.tissue_integrity(case.image, "ch0").compute(),
        oracle.tissue(oracle.channels(case.whole)[0]),
    )


def spiral(side: int) -> np.ndarray:
    """One component, one pixel wide, that crosses every seam many times."""
    out = np.zeros((side, side), "u1")
    y, x, dy, dx = 0, 0, 0, 1
    out[0, 0] = 1
    lengths = [side - 1, *(n for k in range(side - 1, 0, -2) for n in (k, k))]
    for length in lengths:
        for _ in range(length):
            y, x = y + dy, x + dx
            out[y, x] = 1
        dy, dx = dx, -dy
    return out


@pytest.mark.parametrize("chunk", [3, 8, 13, 41])
def test_a_spiral_is_one_piece(chunk: int) -> None:
    image = da.from_array(spiral(41), chunks=chunk)
    assert oracle.component_sizes(spiral(41)[None] > 0).size == 1
    median = np.median(spiral(41))
    found = gq.tissue_integrity(image, 0).compute()
    if median == 0:
        assert found["n_fragments"] == 1
        assert found["fragmentation"] == 0
    assert found["coverage"] == (spiral(41) > median).mean()


@pytest.mark.parametrize("chunk", [4, 5, 20])
def test_corners_do_not_connect(chunk: int) -> None:
    board = np.zeros((20, 20), "u2")
    board[4, 4] = board[5, 5] = board[10:12, 10] = 9
    found = gq.tissue_integrity(da.from_array(board, chunks=chunk), 0).compute()
    assert found["n_fragments"] == 3
    assert found["fragmentation"] == pytest.approx(1 - 2 / 4)
    assert found["coverage"] == 4 / 400
    assert not found["intact"]


def test_planes_do_not_connect() -> None:
    stack = np.zeros((2, 12, 12), "u1")
    stack[:, 3:6, 3:6] = 5
    image = xr.DataArray(stack, dims=("z", "y", "x"))
    found = gq.tissue_integrity(image, 0).compute()
    assert found["n_fragments"] == 2
    assert found["fragmentation"] == 0.5


def islands() -> np.ndarray:
    """A large, a medium and a tiny (under 64 px when blurred) piece of bright tissue."""
    scene = np.full((200, 200), 10.0)
    scene[20:120, 20:120] = 200
    scene[150:180, 150:180] = 200
    scene[160, 30] = 200
    return scene


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_small_pieces_are_not_counted(dtype: str) -> None:
    noise = np.random.default_rng(0).normal(0, 1, (200, 200))
    scene = (islands() + noise).astype(dtype)
    image = da.from_array(scene, chunks=64)
    found = gq.tissue_integrity(image, 0, method="otsu").compute()
    channel = oracle.channels(xr.DataArray(scene, dims=("y", "x")))[0]
    assert oracle.component_sizes(oracle.blurred(channel) > oracle.otsu(channel)).size == 3
    assert found["n_fragments"] == 2
    assert found["coverage"] == pytest.approx((108**2 + 38**2) / 200**2, rel=0.05)
    assert found["fragmentation"] == pytest.approx(38**2 / (108**2 + 38**2), rel=0.1)


def test_min_coverage_decides() -> None:
    ramp = np.arange(400, dtype="u2").reshape(20, 20)
    assert gq.tissue_integrity(ramp, 0).compute()["intact"]
    assert not gq.tissue_integrity(ramp, 0, min_coverage=0.6).compute()["intact"]


@pytest.mark.parametrize("method", ["median", "otsu"])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_without_tissue(method: str, dtype: str) -> None:
    found = gq.tissue_integrity(np.zeros((30, 30), dtype), 0, method=method).compute()
    assert found["coverage"] == 0
    assert found["n_fragments"] == 0
    assert found["fragmentation"] == 1
    assert not found["intact"]


@pytest.mark.parametrize("method", ["median", "otsu"])
def test_a_channel_of_nan(method: str) -> None:
    image = np.full((30, 30), math.nan, "f4")
    found = gq.tissue_integrity(image, 0, method=method).compute()
    assert math.isnan(found["coverage"])
    assert not found["intact"]


@pytest.mark.parametrize("method", ["median", "otsu"])
def test_pixels_that_do_not_count_are_no_tissue(method: str) -> None:
    scene = islands().astype("f4")
    scene += np.random.default_rng(0).normal(0, 1, scene.shape)
    scene[:, 60:64] = math.nan
    found = gq.tissue_integrity(da.from_array(scene, chunks=37), 0, method=method).compute()
    wanted = oracle.tissue(oracle.channels(xr.DataArray(scene, dims=("y", "x")))[0], method)
    assert found["n_fragments"] == wanted.n_fragments
    assert found["coverage"] == pytest.approx(wanted.coverage, rel=1e-3)
    assert found["fragmentation"] == pytest.approx(wanted.fragmentation, rel=1e-3)
