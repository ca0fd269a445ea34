"""Blur of blocks with halos against scipy on the whole array."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from strategies import examples

from gigaqc.errors import ParameterError
from gigaqc.kernels.transform import gaussian_blur, gaussian_radius, gaussian_weights

SIGMAS = st.sampled_from([None, 0, 0.1, 0.2, 0.5, 1.0, 1.7, 2, 3.3, 6.0])


def expected(image, sigma_y, sigma_x):
    return ndimage.gaussian_filter(
        image.astype(np.float64), (sigma_y or 0, sigma_x or 0), mode="reflect"
    )


def blur_in_blocks(image, sigma, cuts_y, cuts_x, extra):
    """Blur each block of a grid with halos cut from the image, `extra` wider than needed."""
    edges_y = [0, *cuts_y, image.shape[0]]
    edges_x = [0, *cuts_x, image.shape[1]]
    reach_y, reach_x = (gaussian_radius(s) + extra for s in sigma)
    rows = []
    for y0, y1 in pairwise(edges_y):
        row = []
        for x0, x1 in pairwise(edges_x):
            a, b = max(0, y0 - reach_y), min(image.shape[0], y1 + reach_y)
            c, d = max(0, x0 - reach_x), min(image.shape[1], x1 + reach_x)
            halo = (y0 - a, b - y1, x0 - c, d - x1)
            row.append(gaussian_blur(image[a:b, c:d], sigma, halo))
        rows.append(row)
    return np.block(rows)


@st.composite
def cuts(draw, size):
    """Where an axis is cut; neighbouring cuts give blocks of one pixel."""
    return sorted(draw(st.sets(st.integers(1, size - 1), max_size=6))) if size > 1 else []


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int64", "float16", "float32", ">f4"],
)
def test_equals_scipy_in_float64(dtype):
    rng = np.random.default_rng(0)
    image = (rng.random((61, 83)) * 100).astype(dtype)
    out = gaussian_blur(image, 2)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, expected(image, 2, 2), rtol=1.2e-7)


@pytest.mark.parametrize("dtype", ["float64", ">f8"])
def test_float64_stays_float64(dtype):
    image = np.random.default_rng(1).normal(size=(40, 30)).astype(dtype)
    out = gaussian_blur(image, (1.5, 3))
    assert out.dtype == np.float64
    np.testing.assert_allclose(out, expected(image, 1.5, 3), rtol=0, atol=1e-14)


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_any_division_gives_the_same_bits(data):
    shape = data.draw(st.tuples(st.integers(1, 45), st.integers(1, 45)))
    sigma = data.draw(st.tuples(SIGMAS, SIGMAS))
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.uint16]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    image = (rng.gamma(0.5, 300, shape)).astype(dtype)
    whole = gaussian_blur(image, sigma)
    cut = blur_in_blocks(
        image,
        sigma,
        data.draw(cuts(shape[0])),
        data.draw(cuts(shape[1])),
        data.draw(st.integers(0, 3)),
    )
    np.testing.assert_array_equal(cut, whole)
    np.testing.assert_allclose(whole, expected(image, *sigma), rtol=1.2e-7, atol=1e-30)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (3, 40), (5, 5)])
def test_images_smaller_than_the_radius_are_mirrored_repeatedly(shape):
    image = np.random.default_rng(2).random(shape)
    np.testing.assert_allclose(gaussian_blur(image, 5), expected(image, 5, 5), rtol=1e-13)


def test_nan_and_infinity_spread_as_in_scipy():
    image = np.random.default_rng(3).random((50, 60)).astype(np.float32)
    image[3, 4] = np.nan
    image[30, 59] = np.inf
    image[35, 55] = -np.inf
    with np.errstate(invalid="ignore"):
        reference = expected(image, 1.5, 2)
    np.testing.assert_allclose(gaussian_blur(image, (1.5, 2)), reference, rtol=1.2e-7)
    cut = blur_in_blocks(image, (1.5, 2), [5, 6, 31], [2, 58], 0)
    np.testing.assert_array_equal(cut, gaussian_blur(image, (1.5, 2)))


def test_the_largest_floats_do_not_overflow():
    image = np.full((9, 9), np.finfo(np.float32).max / 2, np.float32)
    assert np.isfinite(gaussian_blur(image, 2)).all()


@pytest.mark.parametrize("sigma", [0, None, 0.1, (None, 0)])
def test_no_blur_copies_the_core_as_float(sigma):
    image = np.arange(30, dtype=np.uint8).reshape(5, 6)
    out = gaussian_blur(image, sigma, (1, 0, 2, 1))
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, image[1:, 2:5])
    floats = image.astype(np.float32)
    assert not np.shares_memory(gaussian_blur(floats, sigma), floats)


def test_input_may_be_strided_and_read_only_and_stays_as_it_is():
    image = np.random.default_rng(4).random((20, 30)).astype(np.float32)
    before = image.copy()
    image.flags.writeable = False
    out = gaussian_blur(image.T, (1, 2))
    np.testing.assert_array_equal(out, gaussian_blur(np.array(before.T), (1, 2)))
    np.testing.assert_array_equal(image, before)


def test_a_constant_stays_constant():
    out = gaussian_blur(np.full((30, 30), 4095, np.uint16), 2)
    np.testing.assert_array_equal(out, np.float32(4095))


def test_an_empty_core_is_empty():
    assert gaussian_blur(np.zeros((4, 5), np.float32), 1, (2, 2, 0, 0)).shape == (0, 5)


def test_weights_add_up_to_one():
    for sigma in (0.3, 1, 2.7, 20):
        weights = gaussian_weights(sigma)
        assert len(weights) == gaussian_radius(sigma) + 1 == int(4 * sigma + 0.5) + 1
        assert weights[0] + 2 * weights[1:].sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("sigma", [-1, float("nan"), float("inf"), (1, -0.5)])
def test_sigma_is_refused_with_its_value(sigma):
    with pytest.raises(ParameterError, match="sigma"):
        gaussian_blur(np.zeros((4, 4), np.float32), sigma)


def test_halo_and_shape_are_checked():
    with pytest.raises(ParameterError, match="halo"):
        gaussian_blur(np.zeros((4, 4), np.float32), 1, (3, 2, 0, 0))
    with pytest.raises(ParameterError, match="y x"):
        gaussian_blur(np.zeros((2, 4, 4), np.float32), 1)
