"""Transforms against numpy, scipy and scikit-image on whole arrays, in any chunks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.ndimage as ndi
import xarray as xr
import zarr
from hypothesis import assume, given
from hypothesis import strategies as st
from skimage import exposure
from strategies import DTYPES, FLOATS, NARROW, Case, images, repeatable
from zarr.storage import MemoryStore

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ChannelError, ChannelWarning, ParameterError

ALL = images(dtypes=DTYPES)


def planes(case: Case) -> np.ndarray:
    """The pixels as float64, channels first."""
    whole = case.whole if "c" in case.whole.dims else case.whole.expand_dims("c")
    return whole.transpose("c", ...).values.astype("f8")


def compare(found: xr.DataArray, case: Case, expected: np.ndarray, tolerance: float) -> None:
    assert found.dims == tuple(case.dims)
    assert found.shape == case.array.shape
    wide = np.dtype(case.dtype).kind == "f" and np.dtype(case.dtype).itemsize == 8
    assert found.dtype == ("f8" if wide else "f4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ChannelWarning)
        values = found.compute()
    values = values if "c" in values.dims else values.expand_dims("c")
    with np.errstate(over="ignore"):
        expected = expected.astype(found.dtype)
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    np.testing.assert_allclose(
        values.transpose("c", ...).values, expected, rtol=tolerance, atol=tolerance * scale
    )


@repeatable
@given(ALL, st.sampled_from([None, 1.0, 30.0]), st.sampled_from([60.0, 99.0, 100.0]), st.booleans())
def test_percentiles(case: Case, low: float | None, high: float, zeros: bool) -> None:
    found = gq.normalize_percentiles(case.image, low, high, ignore_zeros=zeros)
    expected = []
    for x in planes(case):
        values = x[np.isfinite(x) & ((x != 0) | (not zeros))]
        bottom, top = 0.0, np.nan
        if values.size:
            bottom = 0.0 if low is None else np.percentile(values, low)
            top = np.percentile(values, high)
        span = top - bottom
        with np.errstate(invalid="ignore"):
            expected.append((x - bottom) / span if span != 0 else np.full(x.shape, np.nan))
    compare(found, case, np.stack(expected), 1e-6)


def test_clipped_percentiles_lie_in_0_to_1() -> None:
    image = np.arange(100, dtype="u2").reshape(10, 10)
    found = gq.normalize_percentiles(image, 10, 90, clip=True, ignore_zeros=False).values
    np.testing.assert_allclose(found, np.clip((image - 9.9) / 79.2, 0, 1), rtol=1e-6, atol=1e-7)


@repeatable
@given(ALL, st.sampled_from([5.0, 0.3, -150.0]))
def test_arcsinh(case: Case, cofactor: float) -> None:
    found = gq.arcsinh(case.image, cofactor)
    with np.errstate(over="ignore"):
        compare(found, case, np.arcsinh(planes(case) / cofactor), 1e-6)


@repeatable
@given(ALL, st.sampled_from([0.5, 1.0, 2.0, 3.7]))
def test_blur(case: Case, sigma: float) -> None:
    x = planes(case)
    assume(not np.isinf(x).any())
    sigmas = (0,) * (x.ndim - 2) + (sigma, sigma)
    expected = ndi.gaussian_filter(x, sigmas, mode="reflect", radius=int(4 * sigma + 0.5))
    compare(gq.gaussian_blur(case.image, sigma), case, expected, 1e-5)


def test_blur_by_channel_and_the_same_bits_in_any_chunks() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.poisson(20, (2, 3, 37, 41)).astype("u2")
    image = xr.DataArray(pixels, dims=tuple("tcyx"), coords={"c": list("abc")})
    whole = gq.gaussian_blur(image, [2, None, 0]).values
    np.testing.assert_allclose(
        whole[:, 0], ndi.gaussian_filter(pixels[:, 0].astype("f8"), (0, 2, 2)), rtol=1e-6
    )
    assert (whole[:, 1:] == pixels[:, 1:]).all()
    for chunks in ((1, 1, 5, 7), (2, 3, 1, 41), (1, 2, 37, 1), (2, 1, 20, 3)):
        cut = image.chunk(dict(zip("tcyx", chunks, strict=True)))
        found = gq.gaussian_blur(cut, [2, None, 0])
        assert found.chunks == cut.chunks
        assert (found.values == whole).all()


@repeatable
@given(ALL, st.sampled_from([0.0, 5.0, 50.0]))
def test_hot_pixels(case: Case, threshold: float) -> None:
    x = planes(case)
    assume(min(x.shape[-2:]) > 1)
    around = [(0, 0)] * (x.ndim - 2) + [(1, 1)] * 2
    padded = np.pad(np.where(np.isnan(x), -np.inf, x), around, constant_values=-np.inf)
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    footprint = ring.reshape((1,) * (x.ndim - 2) + (3, 3))
    largest = ndi.maximum_filter(padded, footprint=footprint)[..., 1:-1, 1:-1]
    with np.errstate(invalid="ignore"):
        hot = (x - largest > threshold) & (largest > -np.inf)
    compare(gq.remove_hot_pixels(case.image, threshold), case, np.where(hot, largest, x), 1e-7)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_hot_pixels_of_slivers(shape: tuple[int, int]) -> None:
    line = np.resize(np.array([3, 900, 1, 2, 4], dtype="u2"), shape)
    found = gq.remove_hot_pixels(line, 50).values
    expected = np.where((line == 900) & (line.size > 1), 3, line)
    np.testing.assert_array_equal(found, expected)


def test_raw_files_become_the_filtered_ones(data_dir: Path) -> None:
    folder = data_dir / "imc_bodenmiller_testdata"
    changed = 0
    for path in sorted((folder / "img_hotpixel_filtered").glob("*.tiff")):
        slide, region = path.stem.rsplit("_", 1)
        (raw,) = (folder / "raw_ometiff").glob(f"{slide}_s0_a{int(region)}_ac.ome.tiff")
        filtered = gq.open_image(path)
        image = gq.open_image(raw)
        found = gq.remove_hot_pixels(image, 50).values
        assert found.shape == filtered.shape
        np.testing.assert_array_equal(found, filtered.values)
        changed += np.count_nonzero(found != image.values)
    assert changed > 50


def equalized(channel: np.ndarray, nbins: int = 256) -> np.ndarray:
    """Of a plane, whatever the channel's shape: scikit-image takes some shapes for colours."""
    return exposure.equalize_hist(channel.reshape(1, -1), nbins).reshape(channel.shape)


@repeatable
@given(images(dtypes=NARROW))
def test_equalized_integers(case: Case) -> None:
    expected = np.stack([equalized(x.astype("i4")) for x in planes(case)])
    compare(gq.equalize_histogram(case.image), case, expected, 1e-6)


@repeatable
@given(images(dtypes=FLOATS), st.sampled_from([1, 7, 256]))
def test_equalized_floats(case: Case, nbins: int) -> None:
    assume(np.isfinite(case.array).all())
    expected = np.stack([equalized(x, nbins) for x in planes(case)])
    compare(gq.equalize_histogram(case.image, nbins), case, expected, 1e-5)


def test_equalized_in_one_bin_nan_stays() -> None:
    found = gq.equalize_histogram(np.array([[1.0, np.nan], [2.0, 3.0]]), 1)
    np.testing.assert_array_equal(found, [[1, np.nan], [1, 1]])


@repeatable
@given(ALL)
def test_to_channel(case: Case) -> None:
    x = planes(case)
    found = gq.normalize_to_channel(case.image, 0)
    x[~np.isfinite(x)] = np.nan
    reference = x[0][np.isfinite(x[0])]
    assume(reference.size > 0)
    m, s = reference.mean(), reference.std()
    assume(s > 1e-6 * abs(m) or s == 0)
    clipped = np.clip(x, m - s, m + s)
    low, high = np.nanmin(clipped), np.nanmax(clipped)
    assume(s == 0 or high - low > 1e-3 * s)
    expected = (clipped - low) / (high - low) * 255 if high > low else clipped * 0
    compare(found, case, expected, 1e-5)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_to_channel_as_integers(dtype: str) -> None:
    """What the docstring says of a cast, which cuts off, and of rounding."""
    x = np.random.default_rng(0).gamma(2, 20, (3, 70, 90)).clip(0, 250).astype(dtype)
    m, s = x[0].mean(dtype="f8"), x[0].std(dtype="f8")
    clipped = np.clip(x.astype("f8"), m - s, m + s)
    scaled = (clipped - clipped.min()) / (clipped.max() - clipped.min()) * 255
    found = gq.normalize_to_channel(x, 0)
    sure = abs(scaled - np.rint(scaled)) > 1e-4
    sure |= (clipped == clipped.min()) | (clipped == clipped.max())
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(found.astype("u1").values[sure], scaled.astype("u1")[sure])
    np.testing.assert_array_equal(found.round().astype("u1"), np.rint(scaled).astype("u1"))
    assert (found.astype("u1").values[sure] <= scaled[sure]).all() and found.max() == 255


TRANSFORMS: dict[str, Callable[[Any], xr.DataArray]] = {
    "percentiles": gq.normalize_percentiles,
    "arcsinh": gq.arcsinh,
    "blur": lambda image: gq.gaussian_blur(image, 2),
    "hot": lambda image: gq.remove_hot_pixels(image, 5),
    "equalized": gq.equalize_histogram,
    "to channel": lambda image: gq.normalize_to_channel(image, 0),
}
READS = {"percentiles": (2, 3), "equalized": (2, 3), "to channel": (2, 3)}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_reads(name: str, dtype: str) -> None:
    pixels = np.random.default_rng(0).poisson(9, (2, 40, 50)).astype(dtype)
    counted = testing.CountingStore(MemoryStore())
    held = zarr.create_array(counted, data=pixels, chunks=(1, 8, 9))
    testing.reset_reads(counted)
    with testing.forbid_compute():
        found = TRANSFORMS[name](held)
    found.compute(scheduler="threads")
    assert set(testing.count_reads(counted).values()) == {READS.get(name, (1, 1))[dtype == "f4"]}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_schedulers_give_the_same_bits(name: str) -> None:
    pixels = np.random.default_rng(0).normal(9, 3, (2, 40, 50)).astype("f4")
    image = xr.DataArray(da.from_array(pixels, chunks=(1, 8, 9)), dims=tuple("cyx"))
    with dask.config.set(scheduler="sync"):
        one = TRANSFORMS[name](image).values
    with dask.config.set(scheduler="threads", num_workers=4):
        assert (TRANSFORMS[name](image).values == one).all()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_names_and_a_plane(name: str) -> None:
    pixels = np.random.default_rng(0).poisson(9, (2, 12, 15)).astype("u2")
    image = xr.DataArray(
        da.from_array(pixels), dims=tuple("cyx"), coords={"c": ["DNA", "actin"]},
        attrs={"pixel_size": {"y": 0.5, "x": 0.5}},
    )  # fmt: skip
    found = TRANSFORMS[name](image)
    assert list(found.c.values) == ["DNA", "actin"]
    assert found.attrs == image.attrs
    plane = TRANSFORMS[name](pixels[0])
    assert plane.dims == ("y", "x")
    np.testing.assert_array_equal(plane.values, TRANSFORMS[name](pixels[:1]).values[0])


@pytest.mark.parametrize("values", [0.0, 3.0, np.nan])
def test_channels_without_structure(values: float) -> None:
    image = np.full((2, 6, 6), values, "f4")
    image[1] = np.arange(36).reshape(6, 6)
    for transform in TRANSFORMS.values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ChannelWarning)
            found = transform(image).values
        assert not np.isinf(found).any()


def test_an_empty_channel_is_named() -> None:
    names = {"c": ["DNA", "actin"]}
    image = xr.DataArray(np.zeros((2, 6, 6), "u2"), dims=tuple("cyx"), coords=names)
    image[1] = 5
    found = gq.normalize_percentiles(image)
    with pytest.warns(ChannelWarning, match="channels DNA: "):
        values = found.values
    assert np.isnan(values[0]).all()
    assert (values[1] == 1).all()


def test_statistics_save_a_read() -> None:
    image = np.random.default_rng(0).poisson(9, (2, 40, 50)).astype("u2")
    statistics = gq.scan(image).compute()
    for function in (gq.normalize_percentiles, lambda x, **k: gq.normalize_to_channel(x, 0, **k)):
        expected = function(image).values
        for known in (statistics, gq.scan(image)):
            np.testing.assert_array_equal(function(image, statistics=known).values, expected)
    with pytest.raises(ChannelError, match="scan this image"):
        gq.normalize_percentiles(image[:1], statistics=statistics)
    with pytest.raises(ParameterError, match="statistics: got int"):
        gq.normalize_percentiles(image, statistics=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: gq.normalize_percentiles(x, high=101), "percentiles are in 0..100"),
        (lambda x: gq.normalize_percentiles(x, "a"), "low, high: got 'a'"),
        (lambda x: gq.normalize_percentiles(x, 99, 1), "low: 99 is not below high"),
        (lambda x: gq.arcsinh(x, 0), "cofactor: got 0"),
        (lambda x: gq.gaussian_blur(x, -1), "sigma: -1"),
        (lambda x: gq.gaussian_blur(x, [1, 2, 3]), "sigma: got 3 for 2 channels"),
        (lambda x: gq.remove_hot_pixels(x, -1), "threshold: got -1"),
        (lambda x: gq.equalize_histogram(x, 0), "nbins: got 0"),
        (lambda x: gq.normalize_to_channel(x, "DNA"), "reference"),
    ],
)
def test_wrong_use(call: Callable[[Any], Any], message: str) -> None:
    image = np.zeros((2, 6, 6), "u2")
    with testing.forbid_compute(), pytest.raises((ParameterError, ChannelError), match=message):
        call(image)


def test_a_multiscale_element_keeps_its_channels():
    models = pytest.importorskip("spatialdata.models")
    data = np.arange(2 * 12 * 16, dtype="u2").reshape(2, 12, 16)
    element = models.Image2DModel.parse(data, dims=("c", "y", "x"), scale_factors=[2])
    np.testing.assert_array_equal(
        gq.gaussian_blur(element, 1).values, gq.gaussian_blur(data, 1).values
    )
