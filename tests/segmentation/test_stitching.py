"""Objects of many tiles are those of the whole image, numbered by their first pixels."""

from __future__ import annotations

import itertools
import re
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from skimage.measure import label as components
from skimage.segmentation import clear_border

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import GigaqcError, ParameterError, SegmentationError, SegmentationWarning
from gigaqc.kernels.places import number_labels, same_objects
from gigaqc.testing.stores import CountingStore, count_reads, reset_reads

TILE, OVERLAP = 64, 24
SHAPE = (300, 330)


def objects_everywhere(side: int = TILE, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Ids of discs on every corner and in the middle of every border of the tiles, and touching."""
    truth = np.zeros(shape, "i8")
    rng = np.random.default_rng(0)
    y, x = np.indices(shape)
    ids = iter(rng.permutation(4000) + 1)
    for cy in range(0, shape[0] + side, side // 4):
        for cx in range(0, shape[1] + side, side // 4):
            shift = rng.integers(-2, 3, 2)
            around = np.s_[max(cy - 11, 0) : cy + 12, max(cx - 11, 0) : cx + 12]
            near = np.hypot(y[around] - cy - shift[0], x[around] - cx - shift[1])
            disc = near <= rng.uniform(4, 9)
            truth[around][disc & (truth[around] == 0)] = next(ids)
    return truth


TRUTH = objects_everywhere()
NUMBERED, N = number_labels(TRUTH)


def exact(block: np.ndarray) -> np.ndarray:
    """A model that sees what is there, under names that differ from tile to tile."""
    found = block.astype("i8")
    return np.where(found > 0, (found * 7919) % 10007 + int(found[0, 0]) % 13, 0)


def lazily(pixels: np.ndarray, chunks: Any, dims: tuple[str, ...] = ("y", "x")) -> xr.DataArray:
    return xr.DataArray(da.from_array(pixels, chunks=chunks), dims=dims)


def segmented(image: Any, method: Callable = exact, **options: Any) -> xr.DataArray:
    options = {"tile": TILE, "overlap": OVERLAP} | options
    with testing.forbid_compute():
        return gq.segment_nuclei(image, 0, method=method, **options)


CHUNKS = [(300, 330), (64, 64), (37, 41), (300, 10), (7, 330), ((1, 299), (200, 130))]


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_an_exact_model_is_stitched_exactly(chunks: Any) -> None:
    labels = segmented(lazily(TRUTH.astype("u2"), chunks))
    assert labels.dims == ("y", "x") and labels.dtype == np.int32
    assert labels.shape == TRUTH.shape and labels.chunks[0][0] == TILE
    np.testing.assert_array_equal(labels.values, NUMBERED)
    assert int(labels.max()) == N > 300


@pytest.mark.parametrize("tile, overlap", [(16, 16), (50, 20), (128, 30), (1024, None)])
def test_any_grid_that_sees_objects_whole(tile: int, overlap: int | None) -> None:
    labels = segmented(TRUTH.astype("u2"), tile=tile, overlap=overlap)
    np.testing.assert_array_equal(labels.values, NUMBERED)


def test_numbers_follow_the_first_pixels() -> None:
    flat = segmented(TRUTH.astype("u2")).values.ravel()
    _, first = np.unique(flat[flat > 0], return_index=True)
    assert (np.diff(first) > 0).all()


def test_any_scheduler_gives_the_same() -> None:
    labels = segmented(TRUTH.astype("u2"))
    for scheduler in ("sync", "threads"):
        np.testing.assert_array_equal(labels.compute(scheduler=scheduler).values, NUMBERED)
    with dask.config.set(num_workers=7):
        np.testing.assert_array_equal(labels.compute(scheduler="threads").values, NUMBERED)


def test_objects_larger_than_the_overlap_are_joined_not_cut() -> None:
    image = np.zeros((300, 330), "u1")
    image[10:290, 20:26] = image[10:16, 20:320] = 1  # through five tiles, around a corner
    image[100:200, 100:220] = 1
    image[150, 300] = 1
    labels = segmented(image, components, overlap=4).values
    np.testing.assert_array_equal(labels, components(image))
    assert labels.max() == 3


def test_pieces_that_a_tile_sees_apart_are_one() -> None:
    """Of a ring around a corner each tile sees arcs, which are joined where another sees more."""
    y, x = np.indices((200, 200))
    ring = np.abs(np.hypot(y - 64, x - 64) - 50) < 3
    assert segmented(ring.astype("u1"), components, overlap=8).values.max() == 1


def test_objects_that_touch_at_a_corner_of_four_tiles() -> None:
    image = np.zeros((128, 128), "u1")
    image[60:64, 60:64] = image[64:68, 64:68] = 1
    assert segmented(image, components).values.max() == 1
    apart = segmented(image, lambda b: components(b, connectivity=1)).values
    np.testing.assert_array_equal(np.unique(apart), [0, 1, 2])


def test_a_model_that_drops_what_its_block_cuts() -> None:
    labels = segmented(TRUTH.astype("u2"), lambda b: clear_border(b.astype("i8"), buffer_size=0))
    inside = number_labels(clear_border(TRUTH))[0]
    np.testing.assert_array_equal(labels.values, inside)


def test_outlines_that_differ_from_tile_to_tile_make_no_object_twice() -> None:
    """Each tile sees all objects shifted its own way; one that grazes a seam is still one."""
    image = np.zeros((320, 330), "u2")
    for k, (y, x) in enumerate(itertools.product(range(4, 310, 20), range(4, 320, 20))):
        image[y : y + 12, x : x + 12] = k + 1
    shifts = itertools.cycle(itertools.product((-1, 0, 1), (1, 0, -1)))

    def unsteady(block: np.ndarray) -> np.ndarray:
        return np.roll(block.astype("i8"), next(shifts), (0, 1))

    labels = segmented(image, unsteady).compute(scheduler="sync").values
    assert labels.max() == image.max()


def test_planes_are_numbered_one_after_the_other() -> None:
    stack = np.stack([TRUTH, TRUTH[::-1], np.zeros_like(TRUTH), TRUTH]).reshape(2, 2, *SHAPE)
    image = lazily(stack.astype("u2"), (2, 1, 100, 77), ("t", "z", "y", "x"))
    labels = segmented(image)
    assert labels.dims == ("t", "z", "y", "x")
    want = [NUMBERED, number_labels(TRUTH[::-1])[0] + N, np.zeros(SHAPE), NUMBERED + 2 * N]
    want = np.where(stack > 0, np.reshape(want, stack.shape), 0)
    np.testing.assert_array_equal(labels.values, want)
    np.testing.assert_array_equal(labels[0].values, want[0])


def test_coordinates_and_attributes_stay() -> None:
    image = lazily(TRUTH.astype("u2"), 100).assign_coords(y=np.arange(300) * 0.5)
    image.attrs = {"pixel_size": {"y": 0.5, "x": 0.5}, "unit": "micrometer"}
    labels = segmented(image)
    assert labels.attrs == image.attrs
    assert "c" not in labels.coords
    np.testing.assert_array_equal(labels.y, image.y)


@pytest.mark.same_process
def test_each_tile_is_segmented_once_also_when_written(tmp_path: Path) -> None:
    calls, lock = [], threading.Lock()

    def counting(block: np.ndarray) -> np.ndarray:
        with lock:
            calls.append(block.shape)
        return components(block)

    stack = np.stack([TRUTH, TRUTH]).astype("u2")
    labels = segmented(lazily(stack, (1, 90, 110), ("t", "y", "x")), counting)
    gq.write_labels(labels, tmp_path / "labels.zarr")
    assert len(calls) == 2 * 5 * 6
    assert max(calls) == (TILE + 2 * OVERLAP, TILE + 2 * OVERLAP)
    assert (gq.open_labels(tmp_path / "labels.zarr").values > 0).sum() == (stack > 0).sum()


@pytest.mark.parametrize("chunk", [64, 100])
def test_reads(tmp_path: Path, chunk: int) -> None:
    store = CountingStore(tmp_path / "image.zarr")
    array = zarr.create_array(store, shape=(600, 640), chunks=(chunk, chunk), dtype="u2")
    array[:] = 1
    reset_reads(store)
    labels = segmented(array, lambda b: np.zeros(b.shape, int))
    assert not count_reads(store)
    labels.compute()
    assert set(count_reads(store).values()) == {1}
    for options, reads in (({"normalize": (1, 99)}, 2), ({}, 1)):
        reset_reads(store)
        segmented(array, lambda b: np.zeros(b.shape, int), **options).compute()
        assert set(count_reads(store).values()) == {reads}


def test_a_block_may_be_written_to() -> None:
    pixels = TRUTH.astype("u2")

    def careless(block: np.ndarray) -> np.ndarray:
        found = exact(block)
        block[:] = 0
        return found

    np.testing.assert_array_equal(segmented(pixels, careless).values, NUMBERED)
    assert pixels.any()


@pytest.mark.same_process
def test_normalized_by_the_whole_channel() -> None:
    image = np.random.default_rng(0).gamma(2, 50, (150, 140)).astype("f4")
    image[3, 3] = np.nan
    seen: list[np.ndarray] = []

    def keep(block: np.ndarray) -> np.ndarray:
        seen.append(block)
        return np.zeros(block.shape, "u1")

    segmented(image, keep, normalize=(2, 90), tile=1024).compute()
    low, high = np.quantile(image[np.isfinite(image)].astype("f8"), [0.02, 0.9])
    assert seen[0].dtype == np.float32
    want = np.nan_to_num((image - low) / (high - low))
    np.testing.assert_allclose(seen[0], want, atol=1e-6)


def fails_on(row: int, column: int, make: Callable) -> Callable:
    """A model that fails where the marked pixel of a tile is in its core."""
    image = TRUTH.astype("u2")

    def model(block: np.ndarray) -> Any:
        found = exact(block)
        return make(found) if (block == 60000).any() else found

    model.image = image  # type: ignore[attr-defined]
    image[row * TILE + 32, column * TILE + 32] = 60000  # beyond every overlap of the neighbours
    return model


def crash(labels: np.ndarray) -> np.ndarray:
    raise RuntimeError("out of memory on the device")


BAD = {
    "shape": (lambda found: found[1:], "shape (111, 112) for a block of (112, 112)"),
    "dimensions": (lambda found: found[None], "shape (1, 112, 112)"),
    "float": (lambda found: found.astype("f8"), "dtype float64"),
    "bool": (lambda found: found > 0, "dtype bool"),
    "negative": (lambda found: -found, "the label -"),
    "nothing": (lambda found: None, "shape ()"),
    "crash": (crash, "RuntimeError: out of memory on the device"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_tile_is_named(kind: str) -> None:
    make, said = BAD[kind]
    model = fails_on(2, 3, make)
    labels = segmented(model.image, model)  # type: ignore[attr-defined]
    where = "tile row 2, column 3: y 128:192, x 192:256 (seen with overlap: y 104:216, x 168:280)"
    with pytest.raises(SegmentationError, match=re.escape(where)) as caught:
        labels.compute(scheduler="sync")
    assert said in str(caught.value) and "on_error='skip'" in str(caught.value)
    assert isinstance(caught.value, GigaqcError) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("kind", ["shape", "crash"])
def test_the_rest_is_not_lost(kind: str) -> None:
    model = fails_on(2, 3, BAD[kind][0])
    labels = segmented(model.image, model, on_error="skip")  # type: ignore[attr-defined]
    with pytest.warns(SegmentationWarning, match="1 of 30 tiles .* row 2, column 3"):
        found = labels.compute(scheduler="sync").values
    core = np.zeros(SHAPE, bool)
    core[128:192, 192:256] = True
    assert not found[core].any()
    np.testing.assert_array_equal(found, number_labels(np.where(core, 0, TRUTH))[0])


def test_a_temporary_folder_keeps_tiles(tmp_path: Path) -> None:
    calls: list[int] = []
    broken = [True]

    def model(block: np.ndarray) -> np.ndarray:
        calls.append(1)
        if broken[0] and len(calls) == 9:
            raise RuntimeError("once")
        return exact(block)

    labels = segmented(TRUTH.astype("u2"), model, temporary=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SegmentationError, match="once"):
        labels.compute(scheduler="sync")
    broken[0] = False
    np.testing.assert_array_equal(labels.compute(scheduler="sync").values, NUMBERED)
    np.testing.assert_array_equal(labels.values, NUMBERED)
    assert len(calls) == 5 * 6 + 1
    assert len(list(next(tmp_path.iterdir()).iterdir())) == 5 * 6
    del labels
    assert not list(tmp_path.iterdir())


def test_pixels_that_are_not_finite_have_no_label() -> None:
    image = TRUTH.astype("f4")
    image[60:70, 100:110] = np.nan
    image[5, 5] = np.inf
    found = segmented(image, lambda b: np.nan_to_num(b, posinf=1).astype("i8")).values
    assert not found[~np.isfinite(image)].any()
    np.testing.assert_array_equal(found > 0, np.isfinite(image) & (image != 0))


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (65, 64), (64, 64)])
def test_small_images(shape: tuple[int, int]) -> None:
    image = np.ones(shape, "u1")
    np.testing.assert_array_equal(segmented(image, components).values, image)
    assert not segmented(0 * image, components).values.any()


def test_sparse_and_huge_ids() -> None:
    ids = np.array([[0, 2**62, 5], [2**62, 2**40, 5]])
    found, n = number_labels(ids)
    assert n == 3
    np.testing.assert_array_equal(found, [[0, 1, 2], [1, 3, 2]])
    full = np.array([[2**62, 2**40]])
    np.testing.assert_array_equal(number_labels(full)[0], [[1, 2]])


def test_same_objects_by_hand() -> None:
    one = np.array([[1, 1, 1, 0, 2, 2]])
    other = np.array([[3, 3, 4, 4, 0, 5]])
    # 3 lies in 1; of 4 half does, which is not more than half; 5 lies in 2
    np.testing.assert_array_equal(same_objects(one, other, 2, 5), [[1, 3], [2, 5]])


@pytest.mark.parametrize(
    "options, said",
    [
        ({"tile": 8}, "tile: got 8"),
        ({"tile": 64.0}, "tile: got 64.0"),
        ({"overlap": 65}, "overlap: got 65; .* 1 to 64"),
        ({"overlap": 0}, "overlap: got 0"),
        ({"diameter": 0}, "diameter: got 0"),
        ({"diameter": float("nan")}, "diameter: got nan"),
        ({"normalize": (99, 1)}, "normalize: got"),
        ({"normalize": True}, "normalize: got True"),
        ({"on_error": "ignore"}, "on_error: got 'ignore'"),
        ({"method": "threshold"}, "method: got 'threshold'; pass one of watershed"),
        ({"sigma": 2}, "sigma: a function takes no options"),
        ({"temporary": "/nowhere/at/all"}, "temporary: "),
    ],
)
def test_wrong_parameters(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        segmented(np.zeros((20, 20), "u1"), **options)


def test_no_such_channel() -> None:
    with pytest.raises(gq.errors.ChannelError, match="no channel 'DAPI'"):
        gq.segment_nuclei(np.zeros((20, 20), "u1"), "DAPI")


def test_a_computation_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmented(TRUTH.astype("u2")).compute()


@pytest.mark.slow
def test_memory_goes_with_tiles_and_objects_not_with_the_labels(tmp_path: Path) -> None:
    """Labels of 12288 x 12288 are 576 MiB, 512 more than of 4096 x 4096; memory grows by 70."""
    y, x = np.indices((1024, 1024)) % 16 - 8
    block = ((y * y + x * x < 36) * 100).astype("u2")
    growth = {}
    for side in (4096, 12288):
        path = testing.sparse_store(
            tmp_path / f"{side}.zarr", (side, side), (1024, 1024), blocks=[block]
        )
        setup = "import gigaqc as gq, dask, numpy as np\nfrom skimage.measure import label\n"
        setup += "dask.config.set(scheduler='threads', num_workers=2)"
        code = f"""
image = gq.open_image({str(path)!r})
labels = gq.segment_nuclei(image, 0, method=lambda b: label(b > 0))
gq.write_labels(labels, {str(path)!r} + ".labels", overwrite=True)
"""
        growth[side] = testing.peak_memory(code, setup=setup).growth / 2**20
    assert growth[12288] - growth[4096] < 150
