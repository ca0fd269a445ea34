"""Polygons as masks: the same pixels as shapely says of every centre, in any chunks."""

from __future__ import annotations

import sys

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from strategies import repeatable

import gigaqc as gq
from gigaqc.errors import ImageError, MaskError
from gigaqc.image.labelled import as_image, as_mask
from gigaqc.kernels.places import fill_polygons
from gigaqc.testing import forbid_compute

shapely = pytest.importorskip("shapely")

SHAPE = (37, 53)


def image_of(shape=SHAPE, chunks=(8, 11), **coords) -> xr.DataArray:
    blank = da.zeros(shape, chunks=chunks, dtype="u2")
    return as_image(xr.DataArray(blank, dims=("y", "x"), coords=coords))


def filled(polygons, **of) -> np.ndarray:
    mask = as_mask(polygons, image_of(**of))
    assert mask.dims == ("y", "x")
    assert mask.dtype == bool
    return mask.values


def by_centre(geometry, shape=SHAPE) -> np.ndarray:
    """shapely's word on the centre of each pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return shapely.contains_xy(geometry, x, y)


def star(seed: int, points: int = 9, reach: float = 30) -> shapely.Polygon:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = rng.uniform(2, reach, points)
    centre = rng.uniform(-5, 55, 2)
    outline = centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return shapely.Polygon(outline)


@repeatable
@given(
    st.integers(0, 10_000), st.integers(3, 40), st.tuples(st.integers(1, 40), st.integers(1, 60))
)
def test_a_polygon_holds_the_centres_that_shapely_says_in_any_chunks(seed, points, chunks):
    polygon = star(seed, points)
    if polygon.is_valid:
        np.testing.assert_array_equal(filled(polygon, chunks=chunks), by_centre(polygon))


@repeatable
@given(st.integers(0, 10_000), st.tuples(st.integers(1, 40), st.integers(1, 60)))
def test_polygons_with_holes_and_several_that_overlap(seed, chunks):
    several = [star(seed + k, 12) for k in range(4)]
    several = [p for p in several if p.is_valid]
    ring = shapely.Point(26.3, 18.1).buffer(15).difference(shapely.Point(25.2, 17.3).buffer(6.1))
    wanted = np.any([by_centre(p) for p in [*several, ring]], axis=0)
    np.testing.assert_array_equal(filled([*several, ring], chunks=chunks), wanted)
    together = shapely.union_all([*several, ring])
    np.testing.assert_array_equal(filled(together, chunks=chunks), wanted)


@repeatable
@given(st.integers(0, 10_000))
def test_polygons_that_touch_share_no_pixel_and_lose_none(seed):
    rng = np.random.default_rng(seed)
    # Corners at centres of pixels, so that edges run through many of them.
    places = rng.integers(0, 40, (30, 2)) + 0.5
    around = shapely.box(-10.5, -10.5, 70.5, 70.5)
    corners = shapely.MultiPoint([*map(tuple, places), *around.exterior.coords])
    triangles = shapely.get_parts(shapely.delaunay_triangles(corners))
    cover = sum(filled(t).astype(int) for t in triangles)
    assert (cover == 1).all()


def test_a_box_of_whole_numbers_is_a_pair_of_slices():
    wanted = np.zeros(SHAPE, bool)
    wanted[4:20, 7:31] = True
    np.testing.assert_array_equal(filled(shapely.box(7, 4, 31, 20)), wanted)
    assert filled(shapely.box(0, 0, SHAPE[1], SHAPE[0])).all()


def test_a_centre_on_an_edge_belongs_to_the_right_and_below():
    box = filled(shapely.box(2.5, 1.5, 4.5, 3.5))
    assert np.argwhere(box).tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]


@pytest.mark.parametrize(
    "polygons",
    [
        shapely.box(100, 100, 120, 130),
        shapely.box(-30, -30, -1, -1),
        shapely.box(-30, 5, -1, 20),
        shapely.Polygon(),
        shapely.MultiPolygon(),
        shapely.box(3.6, 3.6, 3.9, 3.9),
        shapely.Polygon([(3, 3.5), (9, 3.5), (5, 3.5)]),
        shapely.box(1e300, 1e300, 1.5e300, 1.5e300),
    ],
    ids=["beyond", "before", "beside", "empty", "none", "between centres", "flat", "far"],
)
def test_polygons_without_a_pixel(polygons):
    assert not filled(polygons).any()


def test_what_is_far_larger_than_the_image_covers_it():
    assert filled(shapely.box(-1e300, -1e300, 1e300, 1e300)).all()


def test_a_shapes_element_of_polygons_and_of_circles():
    geopandas = pytest.importorskip("geopandas")
    polygons = geopandas.GeoDataFrame(geometry=[star(1), star(2), None, shapely.Polygon()])
    wanted = by_centre(star(1)) | by_centre(star(2))
    np.testing.assert_array_equal(filled(polygons), wanted)
    np.testing.assert_array_equal(filled(polygons.geometry), wanted)
    points = [shapely.Point(10.2, 9.1), shapely.Point(30.3, 20.7)]
    circles = geopandas.GeoDataFrame({"radius": [4.0, 7.7]}, geometry=points)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    wanted = np.hypot(x - 10.2, y - 9.1) < 4.0
    wanted |= np.hypot(x - 30.3, y - 20.7) < 7.7
    np.testing.assert_array_equal(filled(circles), wanted)


def test_coordinates_of_the_image_are_those_of_the_polygons():
    y, x = 100 + 0.5 * np.arange(SHAPE[0]), 20 - 0.25 * np.arange(SHAPE[1])
    polygon = shapely.box(12.1, 104.2, 16.3, 109.9)
    centre = shapely.contains_xy(polygon, *np.broadcast_arrays(x[None], y[:, None]))
    np.testing.assert_array_equal(filled(polygon, y=y, x=x), centre)
    assert centre.any()


def test_elements_come_together_in_their_coordinate_system():
    geopandas = pytest.importorskip("geopandas")
    transformations = pytest.importorskip("spatialdata.transformations")
    models = pytest.importorskip("spatialdata.models")
    scale = transformations.Scale([2.0, 4.0], axes=("x", "y"))
    move = transformations.Translation([6.0, 4.0], axes=("x", "y"))
    element = models.Image2DModel.parse(
        np.zeros((1, *SHAPE), "u2"), dims=("c", "y", "x"), transformations={"global": scale}
    )
    shapes = models.ShapesModel.parse(
        geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 8, 12)]),
        transformations={"global": move},
    )
    found = as_mask(shapes, as_image(element)).values
    wanted = np.zeros(SHAPE, bool)
    wanted[1:4, 3:7] = True  # y (0 + 4)/4 to (12 + 4)/4, x (0 + 6)/2 to (8 + 6)/2
    np.testing.assert_array_equal(found, wanted)
    shapes.attrs["transform"] = {"elsewhere": move}
    with pytest.raises(MaskError, match="elsewhere"):
        as_mask(shapes, as_image(element))


def test_what_has_no_area_is_refused():
    with pytest.raises(MaskError, match=r"LineString.*buffer"):
        filled(shapely.LineString([(0, 0), (4, 5)]))
    with pytest.raises(MaskError, match="Point"):
        filled([shapely.box(0, 0, 1, 1), shapely.Point(1, 1)])
    with pytest.raises(MaskError, match="finite"):
        filled(shapely.Polygon([(0, 0), (np.inf, 0), (1, 1)]))
    with pytest.raises(ImageError, match="evenly"):
        filled(shapely.box(0, 0, 1, 1), x=np.arange(SHAPE[1]) ** 2.0)


def test_without_shapely_the_message_says_what_to_install(monkeypatch):
    box = shapely.box(0, 0, 1, 1)
    monkeypatch.setitem(sys.modules, "shapely", None)
    with pytest.raises(gq.errors.MissingDependencyError, match="pip install shapely"):
        filled(box)


def test_nothing_is_computed_and_no_block_is_larger_than_a_chunk():
    image = image_of((200_000, 300_000), (4096, 4096))
    with forbid_compute():
        mask = as_mask(shapely.Point(9e4, 8e4).buffer(3e4), image)
    assert max(mask.data.chunksize) == 4096
    assert mask.data.blocks[20, 20].compute().all()


def test_the_kernel_fills_a_window_as_the_whole():
    edges = np.array([[2.0, -3.0, 2.0, 9.0], [6.5, -3.0, 4.5, 9.0]])
    starts, boxes = np.array([0, 2]), np.array([[2.0, -3.0, 6.5, 9.0]])
    whole = fill_polygons(edges, starts, boxes, 0, 0, 12, 10)
    assert whole[0].tolist() == [False] * 2 + [True] * 4 + [False] * 4  # 2 <= x < 6
    part = fill_polygons(edges, starts, boxes, 5, 3, 6, 2)
    np.testing.assert_array_equal(part, whole[5:11, 3:5])


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4"])
def test_every_metric_with_a_mask_takes_polygons(dtype):
    rng = np.random.default_rng(3)
    data = rng.poisson(40, (2, *SHAPE)).astype(dtype)
    image = xr.DataArray(da.from_array(data, chunks=(1, 10, 16)), dims=("c", "y", "x"))
    polygon = star(4)
    mask = by_centre(polygon)
    assert 50 < mask.sum() < mask.size
    for metric in (
        lambda m: gq.quantile(image, [0.1, 0.5], mask=m),
        lambda m: gq.histogram(image, bins=7, mask=m),
        lambda m: gq.signal_to_noise(image, mask=m),
        lambda m: gq.channel_correlation(image, mask=m),
        lambda m: gq.focus(gq.scan(image, mask=m, tile=16)),
        lambda m: gq.isnr(image, noise_mask=m),
        lambda m: gq.cluster_pixels(image, 2, mask=m, method="kmeans", fraction=1).labels,
    ):
        xr.testing.assert_identical(metric(polygon).compute(), metric(mask).compute())
    assessed = gq.assess(image, mask=polygon, tissue=polygon)
    wanted = gq.assess(image, mask=mask, tissue=mask)
    assert assessed.summary.drop("name", errors="ignore").equals(
        wanted.summary.drop("name", errors="ignore")
    )


def test_series_take_polygons():
    rng = np.random.default_rng(5)
    series = xr.DataArray(rng.normal(100, 5, (12, *SHAPE)).astype("f4"), dims=("t", "y", "x"))
    polygon, mask = star(4), by_centre(star(4))
    xr.testing.assert_identical(
        gq.tsnr_map(series, mask=polygon).compute(), gq.tsnr_map(series, mask=mask).compute()
    )
    maps = gq.tsnr_map(series)
    by_polygon = gq.tsnr_summary(maps, mask={"roi": polygon})
    assert by_polygon.equals(gq.tsnr_summary(maps, mask={"roi": mask}))
