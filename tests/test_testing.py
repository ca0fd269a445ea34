"""The testing kit itself: the answers of the phantoms are right, the instruments measure."""

from __future__ import annotations

import pickle
import threading
from collections import Counter

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from scipy import ndimage
from zarr.storage import MemoryStore

from gigaqc import testing
from gigaqc.errors import ParameterError

SHAPE = (192, 160)


MAKE = {
    "poisson": lambda: testing.poisson(SHAPE, 12, seed=3),
    "gaussian": lambda: testing.gaussian(SHAPE, 100, 5, seed=3),
    "tissue": lambda: testing.tissue(SHAPE, seed=3),
    "nuclei": lambda: testing.nuclei(SHAPE, seed=3),
    "striped": lambda: testing.striped(testing.tissue(SHAPE), 6, seed=3),
    "defocused": lambda: testing.defocused(testing.tissue(SHAPE), 32, 16, 64, 96, seed=3),
    "hot_pixels": lambda: testing.hot_pixels(testing.tissue(SHAPE), 25, 900, seed=3),
    "clipped": lambda: testing.clipped(testing.tissue(SHAPE), 0.02, level=4095),
    "dead_block": lambda: testing.dead_block(testing.tissue(SHAPE), 8, 24, 16, 40),
    "spilled": lambda: testing.spilled(testing.tissue(SHAPE), testing.tissue(SHAPE, seed=4), 0.8),
}


@pytest.mark.parametrize("kind", MAKE)
def test_a_seed_gives_the_same_pixels(kind):
    first, second = MAKE[kind](), MAKE[kind]()
    assert first.pixels.shape == SHAPE
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_another_seed_gives_other_pixels():
    assert (testing.poisson(SHAPE, 12, seed=1).pixels != testing.poisson(SHAPE, 12).pixels).any()


@pytest.mark.parametrize("mean", [0.05, 1, 1000])
def test_poisson_has_its_mean_as_mean_and_variance(mean):
    pixels, truth = testing.poisson((512, 512), mean)
    error = 5 * np.sqrt(mean / pixels.size)
    assert pixels.mean() == pytest.approx(mean, abs=error)
    assert pixels.var() == pytest.approx(mean, abs=error * (1 + 2 * np.sqrt(mean)))
    assert truth.tissue is None and truth.hot is None and truth.dead is None


def test_gaussian_has_its_mean_and_std():
    pixels, truth = testing.gaussian((512, 512), 100, 5)
    assert pixels.dtype == np.float32 and truth.noise_std == 5
    assert pixels.mean() == pytest.approx(100, abs=0.05)
    assert pixels.std() == pytest.approx(5, abs=0.05)


@pytest.mark.parametrize("coverage", [0.1, 0.5, 1])
def test_tissue_covers_what_was_asked(coverage):
    pixels, truth = testing.tissue((256, 256), mean=80, background=2, coverage=coverage)
    assert truth.tissue.mean() == pytest.approx(coverage, abs=1e-4)
    assert pixels[truth.tissue].mean() == pytest.approx(80, rel=0.02)
    if coverage < 1:
        assert pixels[~truth.tissue].mean() == pytest.approx(2, rel=0.05)
        neighbours = np.corrcoef(pixels[:, 1:].ravel(), pixels[:, :-1].ravel())[0, 1]
        assert neighbours > 0.5


@pytest.mark.parametrize("filled", [0.3, 1])
def test_nuclei_are_as_many_as_asked_and_do_not_touch(filled):
    pixels, truth = testing.nuclei((200, 260), filled=filled, background=3, seed=1)
    count = round(filled * 10 * 13)
    assert np.unique(truth.labels).tolist() == list(range(count + 1))
    twice = np.tile(truth.labels > 0, (2, 2))  # nor do those of copies side by side
    assert ndimage.label(twice, np.ones((3, 3)))[1] == 4 * count
    areas = np.bincount(truth.labels.ravel())[1:]
    assert areas.mean() == pytest.approx(np.pi * 36, rel=0.05)
    assert pixels[truth.labels == 0].mean() == pytest.approx(3, rel=0.02)
    with pytest.raises(ParameterError, match="spacing"):
        testing.nuclei((64, 64), diameter=20)


@pytest.mark.parametrize("axis", ["y", "x"])
def test_stripes_have_their_amplitude(axis):
    flat = testing.poisson((400, 300), 100)
    pixels, truth = testing.striped(flat, 4, axis=axis)
    offsets = truth.row_offsets if axis == "y" else truth.column_offsets
    assert set(np.abs(offsets)) == {4}
    assert offsets.std() == pytest.approx(4)
    profile = pixels.mean(axis=1 if axis == "y" else 0) - 100
    assert np.corrcoef(profile, offsets)[0, 1] > 0.98
    assert np.dot(profile, offsets) / np.dot(offsets, offsets) == pytest.approx(1, abs=0.05)


def test_the_defocused_rectangle_is_less_sharp_and_the_rest_is_as_it_was():
    sharp = testing.tissue((256, 256), seed=1)
    pixels, truth = testing.defocused(sharp, 64, 128, 64, 64, seed=1)
    response = ndimage.laplace(pixels.astype(float))
    before = ndimage.laplace(sharp.pixels.astype(float))
    where = truth.defocused
    assert response[where].var() < 0.5 * before[where].var()
    np.testing.assert_array_equal(truth.expected[:64], sharp.truth.expected[:64])


def test_hot_pixels_are_where_they_are_said_to_be():
    clean = testing.poisson(SHAPE, 20)
    pixels, truth = testing.hot_pixels(clean, 50, 500)
    changed = np.argwhere(pixels != clean.pixels)
    np.testing.assert_array_equal(changed, truth.hot[np.lexsort(truth.hot.T[::-1])])
    distance = np.abs(truth.hot[:, None] - truth.hot).max(axis=-1)
    assert distance[~np.eye(50, dtype=bool)].min() >= 3
    assert (pixels[tuple(truth.hot.T)] - clean.pixels[tuple(truth.hot.T)] == 500).all()


@pytest.mark.parametrize(("dtype", "level"), [("u1", None), ("u2", 4095), ("u2", None)])
def test_clipped_reaches_its_fraction(dtype, level):
    pixels, truth = testing.clipped(testing.tissue(SHAPE, mean=60, dtype=dtype), 0.03, level=level)
    assert pixels.dtype == np.dtype(dtype)
    assert pixels.max() == truth.clipping_level == (level or np.iinfo(dtype).max)
    assert (pixels == pixels.max()).mean() == truth.clipped_fraction
    assert truth.clipped_fraction == pytest.approx(0.03, abs=0.01)


def test_clipped_floats_end_at_one():
    pixels, truth = testing.clipped(testing.gaussian(SHAPE, 100, 5), 0.01)
    assert pixels.max() == 1
    assert truth.clipped_fraction == pytest.approx(0.01, abs=1e-3)


def test_a_dead_block_is_zero():
    pixels, truth = MAKE["dead_block"]()
    assert (pixels[truth.dead] == 0).all()
    assert pixels[truth.dead].shape == (16, 40)


@pytest.mark.parametrize("wanted", [0.0, 0.3, 0.95])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_spilled_reaches_its_correlation(wanted, dtype):
    a, b = (testing.tissue(SHAPE, mean=900, seed=s, dtype=dtype, background=700) for s in (1, 2))
    pixels, truth = testing.spilled(a, b, wanted)
    measured = np.corrcoef(a.pixels.ravel().astype(float), pixels.ravel().astype(float))[0, 1]
    assert truth.correlation == pytest.approx(measured, abs=1e-12)
    assert truth.correlation == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda p: testing.poisson(SHAPE, -1), "mean"),
        (lambda p: testing.gaussian(SHAPE, 1, 0), "std"),
        (lambda p: testing.tissue(SHAPE, coverage=0), "coverage"),
        (lambda p: testing.striped(p, 1, axis="z"), "axis"),
        (lambda p: testing.hot_pixels(p, 10**6, 1), "count"),
        (lambda p: testing.clipped(p, 1), "fraction"),
        (lambda p: testing.clipped(testing.poisson(SHAPE, 0), 0.1), "fraction"),
        (lambda p: testing.dead_block(p, 180, 0, 20, 5), "y, x, height, width"),
        (lambda p: testing.spilled(p, p, 0.5), "source, target"),
        (lambda p: testing.spilled(p, p, 1), "correlation"),
        (lambda p: testing.striped(testing.dead_block(p, 0, 0, 4, 4), 1), "phantom"),
    ],
)
def test_wrong_arguments_are_named(call, argument):
    with pytest.raises(ParameterError, match=rf"^{argument}: "):
        call(testing.tissue(SHAPE))


@pytest.fixture
def store(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(64, 48), chunks=(32, 16), dtype="u2")
    array[:] = np.arange(64 * 48).reshape(64, 48)
    return testing.CountingStore(tmp_path / "a.zarr")


def test_each_chunk_is_counted_once_and_metadata_never(store):
    array = zarr.open_array(store, mode="r")
    assert testing.count_reads(store) == Counter()
    np.testing.assert_array_equal(array[:], np.arange(64 * 48).reshape(64, 48))
    assert testing.count_reads(store) == {f"c/{i}/{j}": 1 for i in range(2) for j in range(3)}
    array[0, 0]
    assert testing.count_reads(store)["c/0/0"] == 2
    testing.reset_reads(store)
    assert testing.count_reads(store) == Counter()


def test_counts_survive_pickling_and_are_found_by_path(store, tmp_path):
    array = pickle.loads(pickle.dumps(zarr.open_array(store, mode="r")))
    array[:32, :16]
    assert testing.count_reads(tmp_path / "a.zarr") == {"c/0/0": 1}


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_counts_under_dask(store, scheduler):
    lazy = da.from_array(zarr.open_array(store, mode="r"), chunks=(32, 16))
    assert testing.count_reads(store) == Counter()
    assert lazy.sum().compute(scheduler=scheduler) == sum(range(64 * 48))
    assert set(testing.count_reads(store).values()) == {1}


def test_counts_add_up_over_threads(store):
    array = zarr.open_array(store, mode="r")
    threads = [threading.Thread(target=lambda: array[:]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(testing.count_reads(store).values()) == {8}


def test_a_memory_store_is_counted_through_its_copies():
    inner = MemoryStore()
    zarr.create_array(inner, name="x", shape=(8,), chunks=(4,), dtype="u1")[:] = 1
    store = testing.CountingStore(inner)
    zarr.open_array(store.with_read_only(True), path="x", mode="r")[:]
    assert testing.count_reads(store) == {"x/c/0": 1, "x/c/1": 1}
    assert testing.count_reads(testing.CountingStore(inner)) == Counter()


def test_version_2_arrays_are_counted(tmp_path):
    path = tmp_path / "old.zarr"
    zarr.create_array(path, shape=(8, 8), chunks=(4, 8), dtype="u1", zarr_format=2)[:] = 1
    store = testing.CountingStore(path)
    zarr.open_array(store, mode="r")[:]
    assert testing.count_reads(store) == {"0.0": 1, "1.0": 1}


def test_a_sparse_store_of_absent_chunks_reads_as_its_fill_value(tmp_path):
    path = testing.sparse_store(
        tmp_path / "s.zarr", (4, 10**5, 10**5), (1, 1024, 1024), fill_value=7
    )
    array = zarr.open_array(path, mode="r")
    assert (array[2, 5000:5003, 99_998:] == 7).all()
    assert sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) < 10_000


def test_a_sparse_store_of_blocks_repeats_them(tmp_path):
    blocks = [testing.poisson((1, 32), 9, seed=s).pixels.reshape(1, 4, 8) for s in range(3)]
    path = testing.sparse_store(tmp_path / "s.zarr", (2, 10, 20), (1, 4, 8), blocks=blocks)
    array = zarr.open_array(path, mode="r")
    tiled = np.zeros((2, 12, 24), "u2")
    for number, (c, y, x) in enumerate(np.ndindex(2, 3, 3)):
        tiled[c, 4 * y : 4 * y + 4, 8 * x : 8 * x + 8] = blocks[number % 3][0]
    np.testing.assert_array_equal(array[:], tiled[:, :10, :20])
    files = [f.stat().st_ino for f in (path / "c").rglob("*") if f.is_file()]
    assert len(files) == 18 and len(set(files)) == 3


def test_a_sparse_store_refuses_blocks_of_another_shape(tmp_path):
    with pytest.raises(ParameterError, match=r"^blocks: "):
        testing.sparse_store(tmp_path / "s.zarr", (8, 8), (4, 4), blocks=[np.zeros((4, 5))])


@pytest.mark.same_process
def test_forbid_compute_raises_only_inside():
    lazy = da.ones(3)
    with testing.forbid_compute():
        lazy + 1
        with pytest.raises(AssertionError, match="behind the caller's back"):
            lazy.sum().compute()
    assert lazy.sum().compute() == 3
    assert dask.config.get("scheduler", None) is None


def test_peak_memory_sees_what_is_held_and_not_the_setup():
    size = 200 * 2**20
    taken = testing.peak_memory(
        f"a = bytearray(b'1' * {size}); del a; print(word)",
        setup=f"b = bytearray({size}); del b; word = 'hello'",
    )
    assert size <= taken.growth < 2.5 * size
    assert taken.stdout == "hello\n"
    idle = testing.peak_memory("pass", setup=f"b = bytes({size}); b = None")
    assert idle.growth < 20 * 2**20


def test_peak_memory_reports_a_failure():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        testing.peak_memory("1 / 0")
