"""Images on a device through transforms: the same pixels, which stay on the device."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import device_array
import numpy as np
import pandas as pd
import pytest
import test_devices
import xarray as xr
from settings import configure
from test_devices import on_device, stack

import gigaqc as gq

move = test_devices.move

CHUNKS = [(3, 70, 90), (1, 25, 17), (2, 70, 31)]
DTYPES = ["?", "u1", "i2", "u2", "i4", "u8", "i8", "f4", "f8"]

EXACT: dict[str, Callable] = {
    "blur": lambda image: gq.gaussian_blur(image, [1.0, None, 0.7]),
    "wide blur": lambda image: gq.gaussian_blur(image, 12),
    "normalized": gq.normalize_percentiles,
    "between": lambda image: gq.normalize_percentiles(image, 5, 90, clip=True, ignore_zeros=False),
    "without hot": lambda image: gq.remove_hot_pixels(image, 20),
    "equalized": lambda image: gq.equalize_histogram(image, 37),
}
ROUNDED: dict[str, Callable] = {
    "arcsinh": gq.arcsinh,
    "to channel": lambda image: gq.normalize_to_channel(image, "b"),
}


def pixels_of(image: xr.DataArray, move: Any) -> np.ndarray:
    """The pixels, whose chunks must lie on the device and have the type that was promised."""
    chunks = np.empty(image.data.numblocks, dtype=object)
    for index, chunk in zip(
        np.ndindex(*chunks.shape),
        dask.compute(*image.data.to_delayed().ravel(), scheduler="threads"),
        strict=True,
    ):
        assert isinstance(chunk, type(move(np.zeros(1)))), "a chunk left the device"
        assert chunk.dtype == image.dtype
        chunks[index] = chunk.get()
    return np.block(chunks.tolist())


def chunk_sizes(image: xr.DataArray) -> set[int]:
    """How many values planes, chunks, and chunks of all channels have.

    Without those that are as small as a table of a state.
    """
    of_plane = {h * w for h, w in itertools.product(*image.data.chunks[-2:])}
    of_plane.add(image.shape[-2] * image.shape[-1])
    sizes = {c * n for c in {1, image.shape[0], *image.data.chunks[0]} for n in of_plane}
    return {n for n in sizes if n > 1000}


def same(
    found: xr.DataArray, expected: xr.DataArray, image: xr.DataArray, move: Any, rtol: float = 0
) -> None:
    device_array.copied.clear()
    pixels = pixels_of(found, move)
    left = device_array.copied[: len(device_array.copied) - found.data.npartitions]
    assert not chunk_sizes(image) & set(left), "pixels left the device"
    assert found.dims == expected.dims and found.dtype == expected.dtype
    np.testing.assert_allclose(pixels, expected.values, rtol=rtol, atol=0)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "group-values", 6000)  # several groups, with seams
    monkeypatch.setattr("gigaqc.scanning.scan.THUMBNAIL_SIDE", 16)  # or it would have all pixels


@pytest.mark.cover(1)
@pytest.mark.parametrize(
    ("dtype", "chunks"),
    [(dtype, CHUNKS[1]) for dtype in DTYPES]
    + [(dtype, chunks) for dtype in ("u2", "f4") for chunks in (CHUNKS[0], CHUNKS[2])],
)
@pytest.mark.parametrize("name", EXACT)
def test_same_bits(move: Any, name: str, dtype: str, chunks: tuple) -> None:
    image = stack(dtype, chunks)
    same(EXACT[name](on_device(image, move)), EXACT[name](image), image, move)


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
@pytest.mark.parametrize("name", ROUNDED)
def test_same_but_for_rounding(move: Any, name: str, dtype: str) -> None:
    image = stack(dtype, CHUNKS[1])
    found = pixels_of(ROUNDED[name](on_device(image, move)), move)
    expected = ROUNDED[name](image).values
    rtol = 1e-10 if dtype == "f8" else 1e-6
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=10 * rtol)


def test_one_after_another(move: Any) -> None:
    image = stack("u2", CHUNKS[1])

    def steps(image: xr.DataArray) -> xr.DataArray:
        return gq.normalize_percentiles(gq.gaussian_blur(gq.remove_hot_pixels(image, 20), 1))

    same(steps(on_device(image, move)), steps(image), image, move)


def test_all_frames_of_a_series(move: Any) -> None:
    image = test_devices.series("f4", (16, 20, 48))
    same(gq.gaussian_blur(on_device(image, move), 2), gq.gaussian_blur(image, 2), image[:1], move)


@pytest.mark.parametrize("name", ["out.zarr", "out.ome.tif"])
def test_written(move: Any, tmp_path: Path, name: str) -> None:
    image = stack("u2", CHUNKS[1])
    path = gq.write_image(gq.gaussian_blur(on_device(image, move), 1), tmp_path / name)
    expected = gq.gaussian_blur(image, 1)
    np.testing.assert_array_equal(gq.open_image(path or tmp_path / name).values, expected.values)


@pytest.mark.parametrize("chunks", CHUNKS)
def test_only_the_result_leaves_the_device(move: Any, chunks: tuple) -> None:
    image = on_device(stack("u2", chunks), move)
    for name in ("blur", "without hot"):
        device_array.copied.clear()
        dask.compute(*EXACT[name](image).data.to_delayed().ravel())
        assert not device_array.copied


PREPARED: dict[str, dict[str, Any]] = {
    "all steps": {"sigma": [1.0, None, 0.7]},
    "no sums": {"sigma": 1, "norm_sum": False, "q_post": None, "cap": 0.5},
    "blur only": {"q": None, "q_sum": None, "q_post": None, "sigma": 1, "norm_sum": False},
}


@pytest.mark.cover(2)
@pytest.mark.parametrize(
    ("dtype", "chunks"), [*((d, CHUNKS[1]) for d in ("u1", "i2", "u2", "i4", "f4", "f8")),
                          ("u2", CHUNKS[0]), ("f4", CHUNKS[2])],
)  # fmt: skip
@pytest.mark.parametrize("name", PREPARED)
def test_preprocessed(
    move: Any, name: str, dtype: str, chunks: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gigaqc.transforms.preprocess._FEWEST_PIXELS", 1500
    )  # of 6300, or it has all
    monkeypatch.setattr("gigaqc.transforms.preprocess._SAMPLE", 3)
    image = stack(dtype, chunks)
    found = gq.pixel_clustering_preprocess(on_device(image, move), **PREPARED[name])
    expected = gq.pixel_clustering_preprocess(image, **PREPARED[name])
    same(found, expected, image, move, rtol=1e-6 if found.dtype == "f4" else 1e-10)


@pytest.mark.parametrize("pool", ["mean", "exact"])
def test_preprocessed_together(move: Any, pool: Any) -> None:
    images = [stack(dtype, CHUNKS[1]) for dtype in ("u2", "u2")]
    images[1] = images[1] // 2
    expected = gq.pixel_clustering_preprocess(images, sigma=1, pool=pool)
    given = [on_device(image, move) for image in images]
    for one, other in zip(
        gq.pixel_clustering_preprocess(given, sigma=1, pool=pool), expected, strict=True
    ):
        np.testing.assert_allclose(pixels_of(one, move), other, rtol=1e-6)


SERIES = {
    "all frames": ((40, 16, 24), {}),
    "few frames": ((8, 32, 48), {"detrend": 1, "ddof": 1}),
    "single frames": ((1, 32, 48), {"detrend": 3, "baseline": "intercept"}),
    "unlike": ((7, 20, 48), {"detrend": 0, "invalid": "zero"}),
}


@pytest.mark.same_process
@pytest.mark.parametrize("dtype", ["i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("name", SERIES)
def test_signal_to_noise_along_time(
    move: Any, name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gigaqc.graph.fold.FRAMES", 4)  # several tasks in time
    monkeypatch.setattr("gigaqc.noise.moments._FITTED", 4000)  # frames are fitted in parts
    monkeypatch.setattr("gigaqc.noise.moments._FEWEST_FITTED", 2)
    chunks, options = SERIES[name]
    image = test_devices.series(dtype, chunks)
    expected = gq.tsnr_map(image, **options).compute()
    device_array.copied.clear()
    found = gq.tsnr_map(on_device(image, move), **options).compute()
    xr.testing.assert_allclose(found, expected, rtol=1e-10)
    if move is device_array.wrapped:
        assert sum(device_array.copied) == 32 * 48, "more than the map left the device"


@pytest.mark.same_process
@pytest.mark.parametrize("timed", [False, True])
def test_statistics_of_a_series(move: Any, timed: bool) -> None:
    image = test_devices.series("u2", (9, 16, 48))
    mask = np.random.default_rng(0).random((40, 32, 48) if timed else (32, 48)) < 0.7
    inside = xr.DataArray(mask, dims=("t", "y", "x")[not timed :])
    expected = gq.temporal_statistics(image, mask=inside).compute()
    device_array.copied.clear()
    found = gq.temporal_statistics(on_device(image, move), mask=inside).compute()
    xr.testing.assert_allclose(found, expected, rtol=1e-10)
    if move is device_array.wrapped:
        assert sum(device_array.copied) == 4 * 32 * 48, "more than the maps left the device"


METHODS: dict[str, dict[str, Any]] = {
    "gmm": {},
    "kmeans": {"mask": "positive"},
    "flowsom": {"mask": np.random.default_rng(0).random((70, 90)) < 0.7},
}


@pytest.mark.cover(2)
@pytest.mark.parametrize(("dtype", "chunks"), [("u2", CHUNKS[1]), ("f4", CHUNKS[2])])
@pytest.mark.parametrize("method", METHODS)
def test_clusters(move: Any, method: Any, dtype: str, chunks: tuple) -> None:
    image = stack(dtype, chunks)
    arguments: dict[str, Any] = {"method": method, "fraction": 0.1, **METHODS[method]}
    expected = gq.cluster_pixels(image, 3, **arguments)
    device_array.copied.clear()
    found = gq.cluster_pixels(on_device(image, move), 3, **arguments)
    assert not chunk_sizes(image) & set(device_array.copied), "pixels left the device"
    np.testing.assert_array_equal(found.sample, expected.sample)
    pd.testing.assert_series_equal(found.sizes, expected.sizes)
    pd.testing.assert_frame_equal(found.profile, expected.profile, rtol=1e-10)
    same(found.labels, expected.labels, image, move)


@pytest.mark.parametrize("outside", [None, 7])
def test_polygons_of_an_image_on_a_device(move: Any, outside: float | None) -> None:
    image = stack("u2", CHUNKS[1])
    mask = np.random.default_rng(0).random((70, 90)) < 0.7
    found = gq.region(on_device(image, move), mask, outside=outside)
    expected = gq.region(image, mask, outside=outside)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(pixels_of(found, move), expected.values)


@pytest.mark.parametrize("masked", [False, True])
def test_histogram_of_an_image_on_a_device(move: Any, masked: bool) -> None:
    image = stack("f4", CHUNKS[2])
    mask = np.random.default_rng(0).random((70, 90)) < 0.7 if masked else None
    device_array.copied.clear()
    found = gq.histogram(on_device(image, move), 50, mask=mask).compute()
    assert not chunk_sizes(image) & set(device_array.copied), "pixels left the device"
    xr.testing.assert_identical(found, gq.histogram(image, 50, mask=mask).compute())


def test_pictures_of_what_lies_on_a_device(move: Any) -> None:
    image = stack("u2", CHUNKS[1])
    labels = xr.DataArray(np.kron(np.arange(63).reshape(7, 9), np.ones((10, 10), "i4")))
    labels = labels.rename(dim_0="y", dim_1="x").chunk(30)
    for draw, *given in (
        (gq.pl.map, image[0]),
        (gq.pl.clusters, labels),
        (gq.pl.nuclei, image, labels),
    ):
        expected, found = draw(*given), draw(*(on_device(one, move) for one in given))
        for one, other in zip(found.images, expected.images, strict=True):
            np.testing.assert_array_equal(one.get_array(), other.get_array())


def test_what_is_not_measurable_along_time(move: Any) -> None:
    t = np.arange(60.0)[:, None, None]
    frames = test_devices.series("f8", (60, 32, 48)).values[:1] + 0 * t
    frames[:, 0] = 1e4 - 30 * t[:, 0] + 0.7 * t[:, 0] ** 2
    frames[:, 1] += np.sin(t[:, 0])
    frames[3:, 1, :9], frames[5:30, 2] = np.nan, np.nan
    image = xr.DataArray(frames, dims=("t", "y", "x")).chunk(t=25, y=20)
    found = gq.temporal_statistics(on_device(image, move)).compute()
    xr.testing.assert_allclose(found, gq.temporal_statistics(image).compute(), rtol=1e-10)
    measured = np.isfinite(found["tsnr"].values)
    assert measured[1, 9:].all() and not measured[0].any() and not measured[1:, :9].any()
