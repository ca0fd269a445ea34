"""Regions: parts of an image, and tiles of its statistics."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import gigaqc as gq
from gigaqc.errors import ImageTypeError, MaskError, ParameterError, SourceNotFoundError
from gigaqc.testing import forbid_compute

shapely = pytest.importorskip("shapely")

RNG = np.random.default_rng(0)
VALUES = RNG.integers(0, 60_000, (2, 40, 60)).astype("u2")


def image_of(values=VALUES, chunks=(1, 16, 16), **coords) -> xr.DataArray:
    lazy = da.from_array(values, chunks=chunks)
    return xr.DataArray(
        lazy, dims=("c", "y", "x"), coords={"c": ["a", "b"], **coords}, attrs={"unit": "um"}
    )


DIAMOND = shapely.Polygon([(30.2, 5.1), (50.3, 20.2), (30.1, 35.3), (9.9, 20.4)])
Y, X = np.mgrid[:40, :60] + 0.5
IN_DIAMOND = shapely.contains_xy(DIAMOND, X, Y)


@pytest.mark.parametrize(
    "where",
    [
        np.s_[5:20, 8:33],
        [slice(-35, -20), slice(8, 33)],
        {"x": slice(8, 33), "y": slice(5, 20)},
        (8, 5, 33, 20),
        (7.6, 4.9, 32.7, 20.4),
    ],
    ids=["slices", "negative", "dict", "bounds", "between centres"],
)
def test_a_rectangle(where):
    with forbid_compute():
        found = gq.region(image_of(), where)
    np.testing.assert_array_equal(found.values, VALUES[:, 5:20, 8:33])
    assert found.dtype == "u2"
    assert found.attrs == {"unit": "um"}
    assert found["c"].values.tolist() == ["a", "b"]
    assert found["y"].values[[0, -1]].tolist() == [5.5, 19.5]
    assert found["x"].values[[0, -1]].tolist() == [8.5, 32.5]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "f2", "f4", "f8", "?"])
def test_a_polygon_is_nan_outside_and_keeps_values(dtype):
    values = (VALUES % 120).astype(dtype)
    with forbid_compute():
        found = gq.region(image_of(values), DIAMOND)
    rows, columns = (np.flatnonzero(IN_DIAMOND.any(axis=a)) for a in (1, 0))
    assert found.shape == (2, rows.size, columns.size)
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    wanted = np.where(IN_DIAMOND, values.astype("f8"), np.nan)[:, *box]
    np.testing.assert_array_equal(found.values.astype("f8"), wanted)
    kept = {"u1": "f4", "i2": "f4", "?": "f4", "u4": "f8", "i8": "f8"}
    assert found.dtype == kept.get(dtype, dtype)
    assert found.attrs == {"unit": "um"}


def test_metrics_of_the_region_are_those_of_the_mask():
    part, image = gq.region(image_of(), DIAMOND), image_of()
    q = [0.01, 0.5, 0.99]
    np.testing.assert_array_equal(
        gq.quantile(part, q).values, gq.quantile(image, q, mask=DIAMOND).values
    )
    np.testing.assert_array_equal(
        gq.quantile(part, q).values, np.quantile(VALUES[:, IN_DIAMOND], q, axis=1)
    )
    np.testing.assert_allclose(
        gq.channel_correlation(part).values,
        np.corrcoef(VALUES[:, IN_DIAMOND].astype("f8")),
        atol=1e-12,
    )
    # What takes no mask measures a region all the same.
    found = gq.colocalization(part, "a", "b", thresholds=(30_000, 20_000)).compute()
    a, b = VALUES[:, IN_DIAMOND].astype("f8")
    assert float(found.manders_m1) == pytest.approx(a[b > 20_000].sum() / a.sum(), rel=1e-12)
    stained = gq.stained_area(part, 30_000).compute()
    assert float(stained.positive_fraction[0]) == (a > 30_000).mean()


def test_a_polygon_fits_the_region_as_it_fits_the_image():
    part = gq.region(image_of(), np.s_[10:35, 20:50])
    inner = IN_DIAMOND[10:35, 20:50]
    found = gq.quantile(part, 0.5, mask=DIAMOND).values
    np.testing.assert_array_equal(found, np.median(VALUES[:, 10:35, 20:50][:, inner], axis=1))
    again = gq.region(gq.region(part, (25, 12, 45, 30)), DIAMOND, outside=0)
    wanted = np.where(IN_DIAMOND, VALUES, 0)[:, 12:30, 25:45]
    rows, columns = (np.flatnonzero(IN_DIAMOND[12:30, 25:45].any(axis=a)) for a in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    np.testing.assert_array_equal(again.values, wanted[:, *box])


def test_labels_keep_their_type_and_have_no_channels():
    labels = xr.DataArray(da.from_array(VALUES[0] % 9, chunks=(16, 16)), dims=("y", "x"))
    found = gq.region(labels, shapely.box(-5, -5, 70, 13.2).intersection(DIAMOND), outside=0)
    assert found.dims == ("y", "x")
    assert found.dtype == "u2"
    counted = np.where(IN_DIAMOND & (Y < 13.2), VALUES[0] % 9, 0)
    np.testing.assert_array_equal(np.unique(found), np.unique(counted))
    assert int(found.sum()) == counted.sum()
    plane = gq.region(VALUES[0], np.s_[:3, :4])
    assert plane.dims == ("y", "x")


@pytest.mark.parametrize("lazy", [False, True])
def test_a_mask(lazy):
    mask = da.from_array(IN_DIAMOND, chunks=7) if lazy else IN_DIAMOND
    with forbid_compute():
        found = gq.region(image_of(), mask, outside=7)
    wanted = np.where(IN_DIAMOND, VALUES, 7)
    if not lazy:  # its bounding box is known without computing
        rows, columns = (np.flatnonzero(IN_DIAMOND.any(axis=a)) for a in (1, 0))
        wanted = wanted[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    np.testing.assert_array_equal(found.values, wanted)


def test_an_image_with_coordinates_is_cut_by_them():
    y, x = 0.25 + 0.5 * np.arange(40), 130 - 2.0 * np.arange(60)
    found = gq.region(image_of(y=y, x=x), (100, 5, 120, 10))
    np.testing.assert_array_equal(found["y"], y[(y >= 5) & (y < 10)])
    # Descending coordinates: the edge that belongs to the region is the one with the smaller index.
    np.testing.assert_array_equal(found["x"], x[(x > 100) & (x <= 120)])


def test_a_multiscale_element_and_a_shapes_element():
    geopandas = pytest.importorskip("geopandas")
    models = pytest.importorskip("spatialdata.models")
    element = models.Image2DModel.parse(
        VALUES, dims=("c", "y", "x"), c_coords=["a", "b"], scale_factors=[2]
    )
    shapes = models.ShapesModel.parse(geopandas.GeoDataFrame(geometry=[DIAMOND]))
    with forbid_compute():
        found = gq.region(element, shapes, outside=0)
    assert int(found.sum()) == VALUES[:, IN_DIAMOND].astype("i8").sum()


@pytest.mark.same_process
def test_only_chunks_that_meet_the_rectangle_are_made():
    made = []

    def block(block_info=None):
        made.append(block_info[None]["chunk-location"])
        return np.ones((1, 10, 10), "u2")

    lazy = da.map_blocks(block, chunks=((1,), (10,) * 8, (10,) * 8), dtype="u2")
    image = xr.DataArray(lazy, dims=("c", "y", "x"))
    made.clear()
    gq.region(image, shapely.box(22, 31, 38, 49)).compute()
    assert sorted(made) == [(0, 3, 2), (0, 3, 3), (0, 4, 2), (0, 4, 3)]


@pytest.mark.parametrize(
    ("where", "error", "words"),
    [
        (np.s_[50:, :], ParameterError, "0 to 60 in x and 0 to 40 in y"),
        (np.s_[::2, :], ImageTypeError, "without a step"),
        (np.s_[0.5:3.0, :], ImageTypeError, "whole pixels"),
        (np.s_[4:9], ImageTypeError, "pair of slices"),
        ((5, 5, 2, 9), ParameterError, "x_min, y_min"),
        ((70, 5, 80, 9), ParameterError, "holds no pixel"),
        ((1, 2, 3, "x"), ImageTypeError, "bounds"),
        (shapely.box(70, 70, 80, 80), ParameterError, "holds no pixel"),
        (shapely.Polygon(), ParameterError, "holds no pixel"),
        (shapely.Point(3, 4), MaskError, "no area"),
        (np.zeros((40, 60), bool), ParameterError, "holds no pixel"),
        (np.zeros((4, 6), bool), MaskError, "do not fit"),
        (np.zeros((40, 60)), MaskError, "bool"),
        ("all", SourceNotFoundError, "where: 'all' does not exist"),
    ],
)
def test_a_region_that_cannot_be_is_refused(where, error, words):
    with forbid_compute(), pytest.raises(error, match=words):
        gq.region(image_of(), where)


def test_a_value_outside_that_the_type_does_not_hold_is_refused():
    for value in (-1, 0.5, 70_000, np.nan):
        with pytest.raises(ParameterError, match="outside"):
            gq.region(image_of(), DIAMOND, outside=value)


def tiles_of(where, *, lazy=False, **options):
    scanned = gq.scan(image_of(), tile=8, **options)
    with forbid_compute() if lazy else _nothing():
        found = gq.region(scanned if lazy else scanned.compute(), where)
    return found.compute()


def _nothing():
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "where",
    [np.s_[5:33, 8:60], (8, 5, 60, 33), DIAMOND, IN_DIAMOND],
    ids=["slices", "bounds", "polygon", "mask"],
)
def test_tiles_that_lie_in_a_region(where, lazy):
    found = tiles_of(where, lazy=lazy)
    inside = np.zeros((40, 60), bool)
    if isinstance(where, tuple):
        inside[5:33, 8:60] = True
    else:
        inside = IN_DIAMOND
    taken = np.zeros_like(inside)
    for i in range(5):
        for j in range(8):
            tile = np.s_[8 * i : 8 * i + 8, 8 * j : 8 * j + 8]
            here = found.sel(tile_y=i, tile_x=j) if _has(found, i, j) else None
            if not inside[tile].all():
                assert here is None or np.isnan(here["mean"]).all()
                continue
            taken[tile] = True
            values = VALUES[:, *tile].astype("f8").reshape(2, -1)
            np.testing.assert_allclose(here["mean"], values.mean(axis=1), rtol=1e-12)
            np.testing.assert_allclose(here["std"], values.std(axis=1), rtol=1e-9)
            np.testing.assert_array_equal(here["maximum"], values.max(axis=1))
            np.testing.assert_array_equal(here["n"], values.shape[1])
    values = VALUES[:, taken].astype("f8")
    assert taken.any()
    np.testing.assert_array_equal(found["whole_n"], taken.sum())
    np.testing.assert_allclose(found["whole_mean"], values.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found["whole_std"], values.std(axis=1), rtol=1e-9)


def _has(found, i, j):
    return i in found["tile_y"].values and j in found["tile_x"].values


def test_tiles_that_cannot_be_are_refused():
    statistics = gq.scan(image_of(), tile=16).compute()
    with pytest.raises(ParameterError, match="smaller tile"):
        gq.region(statistics, (3, 3, 18, 18))
    with pytest.raises(ParameterError, match="pooled"):
        gq.region(statistics + statistics, (0, 0, 40, 40))
    with pytest.raises(ParameterError, match="outside"):
        gq.region(statistics, (0, 0, 40, 40), outside=0)
    with pytest.raises(ParameterError, match="in memory"):
        gq.region(statistics, da.ones((40, 60), dtype=bool))
