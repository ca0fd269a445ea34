"""Preparing and clustering elements of SpatialData, with a store and without."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ElementError, ParameterError, WriteError
from gigaqc.image import as_image
from gigaqc.spatial import _add, _Form, _transformations

pytestmark = pytest.mark.filterwarnings("ignore")  # those of spatialdata's own dependencies

PIXELS = np.random.default_rng(0).poisson(30, (3, 90, 80)).astype("u2")
NAMES = ["DNA", "actin", "CD3"]


def make(folder: Path | None) -> Any:
    """Two images and their transformations, in a store or in memory."""
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Identity, Scale

    def image(pixels: np.ndarray, **options: Any) -> Any:
        systems = {"global": Identity(), "um": Scale([0.5, 0.5], axes=("y", "x"))}
        return Image2DModel.parse(
            pixels, dims=("c", "y", "x"), c_coords=NAMES, transformations=systems, **options
        )

    sdata = spatialdata.SpatialData(
        images={"one": image(PIXELS), "two": image(PIXELS[:, ::-1], scale_factors=[2])}
    )
    if folder is None:
        return sdata
    path = folder / "s.zarr"
    empty = spatialdata.SpatialData()
    empty.write(path)
    names = ["one", "two"]  # spatialdata itself cannot write, with some releases of ome-zarr
    images = [as_image(sdata[name]) for name in names]
    systems = [_transformations(sdata, name) for name in names]
    _add(empty, "images", names, images, _Form((), ()), systems)
    return spatialdata.read_zarr(path)


@pytest.fixture(params=["memory", "store"])
def sdata(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return make(None if request.param == "memory" else tmp_path)


def expected(pixels: np.ndarray = PIXELS, **settings: Any) -> np.ndarray:
    return gq.pixel_clustering_preprocess(pixels, **settings).values


def pixels_of(element: Any, level: str = "scale0") -> np.ndarray:
    return (element[level]["image"] if hasattr(element, "children") else element).values


def again(sdata: Any) -> Any:
    """The same, read anew where there is a store."""
    import spatialdata

    return spatialdata.read_zarr(sdata.path) if sdata.is_backed() else sdata


def test_preprocess(sdata: Any) -> None:
    from spatialdata.models import get_model
    from spatialdata.transformations import get_transformation

    found = gq.spatial.pixel_clustering_preprocess(sdata, "one", "done", chunks=40)
    assert found is sdata
    for held in (sdata, again(sdata)):
        element = held["done"]
        get_model(element)().validate(element)
        np.testing.assert_array_equal(element.values, expected())
        assert element.c.values.tolist() == NAMES
        assert max(element.chunksizes["y"]) == 40
        systems = get_transformation(element, get_all=True)
        assert systems == get_transformation(held["one"], get_all=True)
        assert set(systems) == {"global", "um"}


def test_lists_of_layers_and_levels(sdata: Any) -> None:
    gq.spatial.pixel_clustering_preprocess(
        sdata, ["one", "two"], ["a", "b"], ["CD3", "DNA"], sigma=1, scale_factors=[2, 2],
        pool="exact",
    )  # fmt: skip
    lists = gq.pixel_clustering_preprocess(
        [PIXELS, PIXELS[:, ::-1]], channels=[2, 0], sigma=1, pool="exact"
    )
    for held in (sdata, again(sdata)):
        for name, values in zip("ab", lists, strict=True):
            np.testing.assert_array_equal(pixels_of(held[name]), values.values)
            assert [level["image"].shape[1] for level in held[name].values()] == [90, 45, 22]


def test_clusters_become_labels(sdata: Any) -> None:
    image = PIXELS.astype("f4")
    gq.spatial.cluster_pixels(sdata, "one", "kinds", 3, method="kmeans", scale_factors=[2])
    found = gq.cluster_pixels(image, 3, method="kmeans")
    for held in (sdata, again(sdata)):
        labels = pixels_of(held["kinds"])
        assert labels.shape == (90, 80) and set(np.unique(labels)) == {1, 2, 3}
        np.testing.assert_array_equal(pixels_of(held["kinds"], "scale1"), labels[::2, ::2])
        about = held.attrs["gigaqc"]["kinds"]
        np.testing.assert_allclose(
            [list(about["profile"][str(k)].values()) for k in (1, 2, 3)], found.profile.values,
            rtol=1e-6,
        )  # fmt: skip
        assert sum(about["pixels"].values()) == 90 * 80


def test_nothing_is_replaced_unasked_and_nothing_is_computed_before(sdata: Any) -> None:
    gq.spatial.pixel_clustering_preprocess(sdata, "one", "done")
    with testing.forbid_compute():
        with pytest.raises(WriteError, match="'done' exists; pass overwrite=True"):
            gq.spatial.pixel_clustering_preprocess(sdata, "one", "done")
        with pytest.raises(WriteError, match="but images has 'done' already"):
            gq.spatial.cluster_pixels(sdata, "one", "done", 2, overwrite=True)
        with pytest.raises(ElementError, match="no image is named 'three'; there are 'one'"):
            gq.spatial.pixel_clustering_preprocess(sdata, "three", "other")
        with pytest.raises(ParameterError, match="got 1 names for 2 image layers"):
            gq.spatial.pixel_clustering_preprocess(sdata, ["one", "two"], "other")
        with pytest.raises(ParameterError, match="name each once"):
            gq.spatial.pixel_clustering_preprocess(sdata, ["one", "two"], ["a", "a"])
        with pytest.raises(ParameterError, match="use letters, digits"):
            gq.spatial.pixel_clustering_preprocess(sdata, "one", "a/b")
        with pytest.raises(ParameterError, match="chunks: got 0"):
            gq.spatial.pixel_clustering_preprocess(sdata, "one", "other", chunks=0)
    gq.spatial.pixel_clustering_preprocess(sdata, "one", "done", sigma=None, overwrite=True)
    np.testing.assert_array_equal(again(sdata)["done"].values, expected(sigma=None))


def test_a_layer_may_replace_itself(sdata: Any) -> None:
    gq.spatial.pixel_clustering_preprocess(sdata, "one", "one", overwrite=True)
    for held in (sdata, again(sdata)):
        np.testing.assert_array_equal(held["one"].values, expected())


def test_an_interrupted_write_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdata = make(tmp_path)
    from gigaqc import preprocess

    def broken(elements: Any, **_: Any) -> Any:
        def fail(block: np.ndarray) -> np.ndarray:
            raise OSError("disk full")

        return [e.copy(data=e.data.map_blocks(fail, dtype="f4")) for e in elements]

    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    monkeypatch.setattr(preprocess, "pixel_clustering_preprocess", broken)
    for output in ("done", "one"):
        with pytest.raises(WriteError, match="The store is as it was"):
            gq.spatial.pixel_clustering_preprocess(sdata, "one", output, overwrite=True)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
    np.testing.assert_array_equal(again(sdata)["one"].values, PIXELS)


def test_stores_of_zarr_2_are_refused(tmp_path: Path) -> None:
    sdata = make(None)
    zarr.open_group(str(tmp_path / "old.zarr"), mode="w", zarr_format=2)
    sdata.path = tmp_path / "old.zarr"
    with pytest.raises(WriteError, match="no local folder of zarr 3"):
        gq.spatial.pixel_clustering_preprocess(sdata, "one", "done")


def test_in_memory_elements_are_lazy() -> None:
    sdata = make(None)
    with testing.forbid_compute(), warnings.catch_warnings():
        gq.spatial.pixel_clustering_preprocess(sdata, "one", "done")
    with dask.config.set(scheduler="sync"):
        np.testing.assert_array_equal(sdata["done"].values, expected())
