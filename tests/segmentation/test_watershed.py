"""The watershed in tiles against scikit-image's on the whole image, and on real nuclei."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ParameterError


def nuclei(shape: tuple[int, int], step: float, seed: int = 0) -> tuple[np.ndarray, int]:
    """Bright ellipses of about 14 pixels, some of which touch, on every border of tiles of 64."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    image = np.full(shape, 20.0)
    count = 0
    for cy in np.arange(8, shape[0] - 6, step):
        for cx in np.arange(8, shape[1] - 6, step):
            a, b = rng.uniform(5.5, 8, 2)
            around = np.s_[max(int(cy) - 10, 0) : int(cy) + 11, max(int(cx) - 10, 0) : int(cx) + 11]
            dy = y[around] - cy - rng.uniform(-1, 1)
            dx = x[around] - cx - rng.uniform(-1, 1)
            image[around][(dy / a) ** 2 + (dx / b) ** 2 <= 1] = rng.uniform(150, 250)
            count += 1
    return rng.poisson(ndimage.gaussian_filter(image, 1)).astype("u2"), count


def whole(image: np.ndarray, diameter: float) -> np.ndarray:
    """The same steps with scipy and scikit-image, on the whole image."""
    threshold = threshold_otsu(image, nbins=int(image.max() - image.min()) + 1)
    positive = ndimage.gaussian_filter(image.astype("f8"), diameter / 20) > threshold
    positive = ndimage.binary_fill_holes(positive)
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(positive), diameter / 10)
    peaks = peak_local_max(distance, min_distance=round(diameter / 4), exclude_border=False)
    markers = np.zeros(image.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-distance, markers, mask=positive)
    sizes = np.bincount(labels.ravel())
    return np.where(sizes[labels] < diameter**2 / 10, 0, labels)


def count(labels: np.ndarray) -> int:
    return np.unique(labels[labels > 0]).size


IMAGE, N = nuclei((400, 420), 16)
PART = IMAGE[:200, :210]
CHUNKS = [(200, 210), (64, 64), (100, 37), (200, 9), (13, 210), ((120, 80), (1, 209))]


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return gq.segment_nuclei(IMAGE, 0, diameter=13, tile=64).values


@pytest.fixture(scope="module")
def of_part() -> tuple[np.ndarray, np.ndarray]:
    """Labels with the diameter that is known, and with the one that is estimated."""
    given = gq.segment_nuclei(PART, 0, diameter=13, tile=64).values
    return given, gq.segment_nuclei(PART, 0, tile=64).values


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_chunks_change_nothing(chunks: Any, of_part: tuple[np.ndarray, np.ndarray]) -> None:
    labels, estimated = of_part
    image = xr.DataArray(da.from_array(PART, chunks=chunks), dims=("y", "x"))
    with testing.forbid_compute():
        lazy = gq.segment_nuclei(image, 0, diameter=13, tile=64)
    for scheduler in ("threads", "sync"):
        np.testing.assert_array_equal(lazy.compute(scheduler=scheduler).values, labels)
    found = gq.segment_nuclei(image, 0, tile=64).values
    np.testing.assert_array_equal(found, estimated)


def test_as_scikit_image_on_the_whole(labels: np.ndarray) -> None:
    reference = whole(IMAGE, 13)
    assert abs(count(labels) - count(reference)) <= 0.05 * count(reference)
    assert abs(labels.max() - N) <= 0.05 * N
    assert ((labels > 0) == (reference > 0)).mean() > 0.999
    # most nuclei are the same pixels
    pairs = np.unique(np.stack([labels.ravel(), reference.ravel()]), axis=1)
    assert (pairs[0] > 0).sum() < 1.1 * count(reference)


@pytest.mark.parametrize("tile", [50, 128, 1024])
def test_the_grid_changes_nothing_either(tile: int, labels: np.ndarray) -> None:
    """Clumps that are larger than the overlap are seen differently only far from the core."""
    found = gq.segment_nuclei(IMAGE, 0, diameter=13, tile=tile, overlap=50).values
    assert (found == labels).mean() > 0.99 or count(found) == count(labels)
    assert abs(count(found) - count(labels)) <= 1


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4", "f8", ">u2"])
def test_any_dtype(dtype: str) -> None:
    want = gq.segment_nuclei(IMAGE[:130, :140], 0, diameter=13).values
    image = np.minimum(IMAGE, 255) if dtype == "u1" else IMAGE
    found = gq.segment_nuclei(image[:130, :140].astype(dtype), 0, diameter=13).values
    if dtype == "u1":
        assert count(found) == count(want)
    else:
        assert (found == want).mean() > 0.99


def test_the_diameter_is_estimated() -> None:
    y, x = np.indices((64, 64))
    for radius in (5, 9, 20):
        disc = (np.hypot(y - 32, x - 32) <= radius).astype("u1") * 100
        image = np.tile(disc, (4, 5))
        assert gq.segment_nuclei(image, 0).values.max() == 20, radius


def test_local_threshold_finds_dim_nuclei_beside_bright_ones() -> None:
    image, n = nuclei((300, 300), 25, seed=3)
    dimmed = image * np.where(np.arange(300) < 150, 1, 0.4)
    found = {
        t: gq.segment_nuclei(dimmed, 0, diameter=13, threshold=t, tile=128).values.max()
        for t in ("otsu", "local")
    }
    assert found["otsu"] < 0.75 * n
    assert abs(found["local"] - n) <= 0.05 * n


def test_a_threshold_of_ones_own() -> None:
    image = np.zeros((60, 60), "u2")
    image[10:20, 10:20], image[40:50, 40:50] = 50, 500
    for threshold, n in ((20, 2), (100, 1), (1000, 0)):
        options = {"threshold": threshold, "diameter": 10, "sigma": 0}
        assert gq.segment_nuclei(image, 0, **options).values.max() == n


def test_small_objects_are_removed_and_small_holes_filled() -> None:
    image = np.zeros((60, 60), "u2")
    image[10:30, 10:30] = image[50:52, 50:52] = 100
    image[19:21, 19:21] = 0
    found = gq.segment_nuclei(image, 0, diameter=18, sigma=0).values
    np.testing.assert_array_equal(np.unique(found), [0, 1])
    assert (found[10:30, 10:30] == 1).all()
    both = gq.segment_nuclei(image, 0, diameter=18, sigma=0, min_area=4).values
    assert both.max() == 2


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((50, 60), "u2"),
        np.full((50, 60), 7, "u1"),
        np.full((50, 60), np.nan, "f4"),
        np.ones((1, 1), "u2"),
        np.zeros((50, 60), bool),
    ],
    ids=["zeros", "constant", "nan", "pixel", "bool"],
)
def test_nothing_to_see(image: np.ndarray) -> None:
    found = gq.segment_nuclei(image, 0)
    assert found.shape == image.shape and not found.values.any()


def test_nan_within_nuclei() -> None:
    image = IMAGE[:200, :200].astype("f4")
    want = gq.segment_nuclei(image, 0, diameter=13, tile=64).values
    image[50, 60] = np.nan
    image[120:123, 130:133] = np.inf
    found = gq.segment_nuclei(image, 0, diameter=13, tile=64).values
    assert not found[~np.isfinite(image)].any()
    assert abs(int(found.max()) - int(want.max())) <= 1
    far = np.ones(image.shape, bool)
    far[30:70, 40:80] = far[100:145, 110:155] = False
    assert (found[far] > 0).sum() == (want[far] > 0).sum()


def test_the_field_of_human_cells(data_dir: Path) -> None:
    """326 nuclei; outlines over the picture were looked at. scikit-image on the whole: 323."""
    path = data_dir / "fluorescence_ht29_examplehuman" / "AS_09125_050116030001_D03f00d0.tif"
    image = gq.open_image(path)
    labels = gq.segment_nuclei(image, 0).values
    reference = count(whole(image.values[0], 10))
    assert abs(int(labels.max()) - reference) <= 0.05 * reference
    for tile in (64, 100):
        tiled = gq.segment_nuclei(image, 0, diameter=10, tile=tile).values
        np.testing.assert_array_equal(tiled, labels)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"treshold": 3}, "treshold: no option of method 'watershed'; it has threshold"),
        ({"threshold": "li"}, "threshold: got 'li'"),
        ({"threshold": "local"}, "threshold: 'local' .* diameter="),
        ({"sigma": -1}, "sigma: got -1"),
        ({"min_distance": 0}, "min_distance: got 0"),
        ({"min_area": 2.5}, "min_area: got 2.5"),
        ({"normalize": (1, 99)}, "normalize: got .* watershed"),
    ],
)
def test_wrong_options(options: dict[str, Any], said: str) -> None:
    with testing.forbid_compute(), pytest.raises(ParameterError, match=said):
        gq.segment_nuclei(np.zeros((20, 20), "u1"), 0, **options)
