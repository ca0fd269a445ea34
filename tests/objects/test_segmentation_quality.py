"""Segmentation quality: the recipe's formulas, and what lies beyond them, against whole arrays."""

from __future__ import annotations

import math
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import ndimage
from settings import configure
from skimage.draw import ellipse

import gigaqc as gq
from gigaqc.errors import MaskError, ParameterError
from gigaqc.testing import forbid_compute


@pytest.fixture(autouse=True)
def many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "group-values", 0)


def cells(seed: int = 0, side: int = 300, *, stretch: float = 1.0) -> np.ndarray:
    """Ellipses on a grid of 20 pixels, one and a half radii apart at least."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), "i4")
    for k, (y, x) in enumerate((y, x) for y in range(10, side, 20) for x in range(10, side, 20)):
        radius = rng.uniform(3, 7)
        at = ellipse(y, x, radius / stretch, radius * min(stretch, 1.2), shape=labels.shape)
        labels[at] = 10 * k + 7
    return labels


def test_the_recipe() -> None:
    labels = cells(1)
    with forbid_compute():
        lazy = gq.segmentation_quality(da.from_array(labels, chunks=(70, 90)))
    found = lazy.compute()
    table = gq.object_table(labels)
    area = table["area"].to_numpy()
    assert int(found.n_cells) == len(area) == 225
    assert float(found.mean_area) == area.mean()
    assert math.isclose(found.area_cv, area.std() / area.mean(), rel_tol=1e-12)
    assert float(found.fraction_very_small) == (area < np.percentile(area, 5)).mean()
    assert float(found.fraction_very_large) == (area > np.percentile(area, 95)).mean()
    assert float(found.fraction_elongated) == (table["eccentricity"] > 0.9).mean()
    assert str(found.quality.values) == "GOOD"
    middle = np.median(area)
    mad = np.median(np.abs(area - middle))
    assert float(found.median_area) == middle and float(found.mad_area) == mad
    reach = 3 * 1.4826 * mad
    assert float(found.fraction_outlier_large) == (area > middle + reach).mean()
    assert math.isclose(found.labelled_fraction, (labels > 0).mean())


def test_elongated_cells_are_to_be_reviewed() -> None:
    found = gq.segmentation_quality(cells(2, stretch=3.0)).compute()
    assert float(found.fraction_elongated) > 0.9 and str(found.quality.values) == "REVIEW"


@pytest.mark.parametrize("shape", [(40, 50), (3, 40, 50)])
def test_no_cell(shape: tuple[int, ...]) -> None:
    image = np.ones((1, *shape), "u2")
    lazy = xr.DataArray(
        image, dims=tuple("czyx")[-len(shape) - 1 :] if len(shape) == 3 else tuple("cyx")
    )
    found = gq.segmentation_quality(np.zeros(shape, "u2"), lazy, ring=3).compute()
    assert int(found.n_cells) == 0 and str(found.quality.values) == "EMPTY"
    assert int(found.cells.sum()) == 0 and int(found.n_border) == 0
    for name in ("mean_area", "area_cv", "fraction_elongated", "fraction_very_small", "contrast"):
        assert np.isnan(found[name]).all(), name


def test_one_size_has_no_outliers_to_measure_by() -> None:
    labels = np.kron(np.arange(1, 26).reshape(5, 5), np.ones((6, 6), int))
    found = gq.segmentation_quality(labels).compute()
    assert np.isnan(found.fraction_outlier_small) and float(found.area_cv) == 0.0
    assert int(found.n_border) == 16


def test_cells_by_tile() -> None:
    labels = cells(3)
    found = gq.segmentation_quality(da.from_array(labels, chunks=(64, 300)), tile=64).compute()
    middles = np.array(ndimage.center_of_mass(labels > 0, labels, np.unique(labels)[1:]))
    wanted = np.histogram2d(*middles.T, bins=[np.arange(0, 321, 64)] * 2)[0]
    np.testing.assert_array_equal(found.cells, wanted)


def test_fragments_holes_and_the_border() -> None:
    labels = np.zeros((200, 200), "u2")
    labels[20:90, 20:90] = 1  # a ring across four groups
    labels[40:80, 40:80] = 0
    labels[120:130, 10:20] = labels[120:130, 150:160] = 2  # two pieces, far apart
    labels[0:5, 100:110] = 3
    found = gq.segmentation_quality(da.from_array(labels, chunks=(60, 70))).compute()
    assert [int(found[n]) for n in ("n_fragmented", "n_with_holes", "n_border")] == [1, 1, 1]


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_contrast_against_a_ring(dtype: str) -> None:
    labels = cells(4)
    rng = np.random.default_rng(0)
    bright = rng.poisson(np.where(labels > 0, 200, 50))
    image = np.stack([bright, rng.poisson(50, labels.shape)]).astype(dtype)
    lazy = da.from_array(labels, chunks=(70, 90)), da.from_array(image, chunks=(1, 64, 128))
    with forbid_compute():
        promised = gq.segmentation_quality(*lazy, ring=3)
    found = promised.compute()
    around = ndimage.grey_dilation(labels, (7, 7))
    around[labels > 0] = 0
    outside = image[:, around > 0].astype("f8")
    np.testing.assert_allclose(found.inside_mean, image[:, labels > 0].mean(axis=1, dtype="f8"))
    np.testing.assert_allclose(found.ring_mean, outside.mean(axis=1))
    wanted = (found.inside_mean - outside.mean(axis=1)) / outside.std(axis=1)
    np.testing.assert_allclose(found.contrast, wanted)
    assert found.fraction_brighter.values[0] == 1.0
    assert 0.4 < found.fraction_brighter.values[1] < 0.6
    whole = gq.segmentation_quality(labels, image, ring=3).compute()
    xr.testing.assert_allclose(found, whole, rtol=1e-12)


def test_rings_belong_to_the_nearest_object() -> None:
    labels = np.zeros((30, 60), "i2")
    labels[10:20, 10:20], labels[10:20, 26:36] = 5, 3
    image = np.zeros((1, 30, 60), "f4")
    image[0, :, :23], image[0, :, 23:] = 10, 20
    image[0][labels > 0] = 15
    found = gq.segmentation_quality(labels, image, ring=8).compute()
    assert float(found.fraction_brighter[0]) == 0.5  # 5 lies in 10, 3 in 20


def test_overlap_with_the_tissue() -> None:
    labels = cells(5)
    tissue = np.zeros(labels.shape, bool)
    tissue[:, :160] = True
    lazy = da.from_array(labels, chunks=(70, 90))
    image = np.random.default_rng(0).normal(5, 1, (2, *labels.shape)).astype("f4")
    wanted_cells = ndimage.mean(tissue, labels, np.unique(labels)[1:]) > 0.5
    for beside in (None, da.from_array(image, chunks=(1, 100, 100))):
        with forbid_compute():
            promised = gq.segmentation_quality(lazy, beside, tissue=tissue)
        found = promised.compute()
        assert float(found.fraction_in_tissue) == wanted_cells.mean()
        inside = (labels > 0) & tissue
        assert math.isclose(found.labelled_in_tissue, inside.sum() / (labels > 0).sum())
        assert math.isclose(found.tissue_covered, inside.sum() / tissue.sum())
    assert found.sizes["c"] == 2
    means = ndimage.mean(image[1].astype("f8"), labels, np.unique(labels)[1:])
    assert math.isclose(found.mean_intensity.values[1], np.mean(means), rel_tol=1e-9)


def test_wrong_options_are_refused_before_reading() -> None:
    labels, image = np.ones((20, 20), "u1"), np.ones((1, 20, 20), "u1")
    with forbid_compute():
        with pytest.raises(ParameterError, match="ring: got 0"):
            gq.segmentation_quality(labels, image, ring=0)
        with pytest.raises(ParameterError, match="need image="):
            gq.segmentation_quality(labels, ring=3)
        with pytest.raises(ParameterError, match="tile: got 2"):
            gq.segmentation_quality(labels, tile=2)
        with pytest.raises(MaskError, match="tissue: dtype"):
            gq.segmentation_quality(labels, image, tissue=image[0])


class TestRealImages:
    """Files that others segmented and measured."""

    def test_intensities_of_imc_cells(self, data_dir: Path) -> None:
        folder = data_dir / "imc_bodenmiller_testdata"
        compared = 0
        for path in sorted((folder / "masks_deepcell").glob("*.tiff")):
            wanted = pd.read_csv(
                folder / "intensities_deepcell" / f"{path.stem}.csv", index_col="Object"
            )
            image = gq.open_image(folder / "img_hotpixel_filtered" / path.name)
            table = gq.object_table(gq.open_labels(path), image)
            means = table.filter(regex="^mean_").to_numpy()
            assert table.index.tolist() == wanted.index.tolist()
            np.testing.assert_allclose(means, wanted.to_numpy(), rtol=1e-5, atol=1e-9)
            compared += len(table)
        assert compared == 237

    def test_nuclei_of_a_stack(self, data_dir: Path) -> None:
        path = data_dir / "omezarr" / "6001240_labels_v0.5.zarr"
        labels, image = gq.open_labels(path, level=2), gq.open_image(path)
        table = gq.object_table(labels, image)
        ids = np.unique(labels.values)[1:]
        assert table.index.tolist() == ids.tolist() and len(ids) == 61
        wanted = ndimage.mean(image.values[1].astype("f8"), labels.values, ids)
        np.testing.assert_allclose(table["mean_Dapi"], wanted, rtol=1e-9)
        assert (table["volume_um3"] / table["area"]).between(1.0, 1.1).all()
        found = gq.segmentation_quality(labels, image, ring=2).compute()
        assert str(found.quality.values) == "GOOD"
        assert float(found.contrast.sel(c="Dapi")) > 2
