"""Preparing and clustering elements of SpatialData, with a store and without."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ElementError, ParameterError, WriteError
from gigaqc.image.labelled import as_image
from gigaqc.image.spatialdata import transformations_of
from gigaqc.spatial.elements import Form, add, as_json

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
    systems = [transformations_of(sdata, name) for name in names]
    add(empty, "images", names, images, Form((), ()), systems)
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


def test_factors_by_axis_and_by_level(sdata: Any) -> None:
    from spatialdata.transformations import get_transformation

    levels = {"scale2": {"y": 3, "x": 1}, "scale1": 2}
    gq.spatial.pixel_clustering_preprocess(sdata, "one", "a", sigma=1, scale_factors=levels)
    gq.spatial.cluster_pixels(
        sdata, "one", "kinds", 3, method="kmeans", scale_factors=[2, {"y": 3, "x": 1}]
    )
    for held in (sdata, again(sdata)):
        shapes = [level["image"].shape for level in held["a"].values()]
        assert [s[1:] for s in shapes] == [(90, 80), (45, 40), (15, 40)]
        labels = pixels_of(held["kinds"])
        np.testing.assert_array_equal(pixels_of(held["kinds"], "scale2"), labels[::6, ::2])
        scale = get_transformation(held["a"]["scale2"]["image"], "global")
        along = scale.to_affine_matrix(("y", "x"), ("y", "x"))
        np.testing.assert_array_equal(np.diag(along), [6, 2, 1])


def test_clusters_become_labels(sdata: Any, caplog: pytest.LogCaptureFixture) -> None:
    image = PIXELS.astype("f4")
    gq.spatial.cluster_pixels(sdata, "one", "kinds", 3, method="kmeans", scale_factors=[2])
    assert "no parent found" not in caplog.text
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


def test_images_with_z(tmp_path: Path) -> None:
    from spatialdata.models import Image3DModel, get_model

    sdata = make(tmp_path)
    pixels = np.stack([PIXELS, PIXELS[:, ::-1]], axis=1)
    sdata["deep"] = Image3DModel.parse(pixels, dims=("c", "z", "y", "x"), c_coords=NAMES)
    gq.spatial.pixel_clustering_preprocess(sdata, "deep", "done")
    for held in (sdata, again(sdata)):
        assert get_model(held["done"]) is Image3DModel
        wanted = gq.pixel_clustering_preprocess(sdata["deep"]).values
        np.testing.assert_array_equal(held["done"].values, wanted)


@pytest.mark.parametrize(
    ("chunks", "sizes"),
    [(40, (3, 40, 40)), ((30, 20), (3, 30, 20)), ([1, 30, 20], (1, 30, 20)), ((25,), (3, 90, 25))],
)
def test_chunks(sdata: Any, chunks: Any, sizes: tuple[int, ...]) -> None:
    gq.spatial.pixel_clustering_preprocess(sdata, "one", "done", chunks=chunks)
    assert again(sdata)["done"].data.chunksize == sizes


def test_what_is_written_is_what_spatialdata_writes(tmp_path: Path) -> None:
    make(tmp_path)
    found = dict(zarr.open_group(str(tmp_path / "s.zarr" / "images" / "one"), mode="r").attrs)
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": d, "type": "space", "unit": "unit"} for d in "yx"]

    def system(name: str, **transformation: Any) -> dict[str, Any]:
        ends = {"input": {"name": "cyx", "axes": axes}, "output": {"name": name, "axes": axes}}
        return {**transformation, **ends}

    # As spatialdata 0.7 writes it, read from its stores; the unit is not part of `axes` there.
    [multiscale] = found["ome"]["multiscales"]
    assert multiscale["coordinateTransformations"] == [
        system("global", type="identity"),
        system("um", type="scale", scale=[1.0, 0.5, 0.5]),
    ]
    assert multiscale["axes"] == [{k: a[k] for k in ("name", "type")} for a in axes]
    assert found["ome"]["omero"] == {"channels": [{"label": name} for name in NAMES]}
    assert found["ome"]["version"] == "0.5-dev-spatialdata"
    assert found["spatialdata_attrs"] == {"version": "0.3"}


@pytest.mark.parametrize("count", [1, 3])
def test_each_chunk_is_read_as_often_as_for_one_image(tmp_path: Path, count: int) -> None:
    from spatialdata.models import Image2DModel

    sdata = make(tmp_path)
    names = [f"field{k}" for k in range(count)]
    stores = []
    for name in names:
        stores.append(testing.CountingStore(tmp_path / f"{name}.zarr"))
        zarr.create_array(stores[-1], data=PIXELS, chunks=(1, 40, 40))
        lazy = gq.open_image(zarr.open_array(stores[-1], mode="r"))
        sdata[name] = Image2DModel.parse(lazy.data, dims=("c", "y", "x"), c_coords=NAMES)
        testing.reset_reads(stores[-1])
    gq.spatial.pixel_clustering_preprocess(sdata, names, [f"{name}-done" for name in names])
    for store in stores:
        reads = testing.count_reads(store)
        assert len(reads) == 18 and set(reads.values()) == {4}


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
        with pytest.raises(ParameterError, match=r"img_layer: got .*; name each once"):
            gq.spatial.pixel_clustering_preprocess(sdata, ["one", "one"], ["a", "b"])
        with pytest.raises(ParameterError, match="img_layer: got 5; pass a name"):
            gq.spatial.pixel_clustering_preprocess(sdata, 5, "a")  # type: ignore[arg-type]
        for chunks in (0, "auto", (1, 1, 1, 1), (1.5, 2)):
            with pytest.raises(ParameterError, match="chunks: got "):
                gq.spatial.cluster_pixels(sdata, "one", "other", 2, chunks=chunks)  # type: ignore[arg-type]
        with pytest.raises(ParameterError, match="scale_factors: got "):
            gq.spatial.cluster_pixels(sdata, "one", "other", 2, scale_factors=[1])
    gq.spatial.pixel_clustering_preprocess(sdata, "one", "done", sigma=None, overwrite=True)
    np.testing.assert_array_equal(again(sdata)["done"].values, expected(sigma=None))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "use letters, digits"),
        (".", "use letters, digits"),
        ("..", "use letters, digits"),
        ("a/b", "use letters, digits"),
        ("a b", "use letters, digits"),
        (".hidden", "begin with a letter"),
        ("__a", "begin with a letter"),
        (None, "pass a name"),
    ],
)
def test_names_that_spatialdata_would_not_read(sdata: Any, name: Any, message: str) -> None:
    with testing.forbid_compute(), pytest.raises(ParameterError, match=message):
        gq.spatial.pixel_clustering_preprocess(sdata, "one", name, overwrite=True)


def test_names_that_differ_in_case_only(sdata: Any) -> None:
    with testing.forbid_compute():
        with pytest.raises(WriteError, match="got 'ONE', but images has 'one' already"):
            gq.spatial.pixel_clustering_preprocess(sdata, "one", "ONE", overwrite=True)
        with pytest.raises(ParameterError, match="name each once"):
            gq.spatial.pixel_clustering_preprocess(sdata, ["one", "two"], ["a", "A"])


def test_what_is_only_in_the_store_is_seen(tmp_path: Path) -> None:
    sdata = make(tmp_path)
    del sdata.images["two"]
    with testing.forbid_compute():
        with pytest.raises(WriteError, match="'two' exists"):
            gq.spatial.pixel_clustering_preprocess(sdata, "one", "two")
        with pytest.raises(WriteError, match="but images has 'two' already"):
            gq.spatial.cluster_pixels(sdata, "one", "two", 2, overwrite=True)


def test_labels_are_no_image(sdata: Any) -> None:
    gq.spatial.cluster_pixels(sdata, "one", "kinds", 2, method="kmeans")
    with pytest.raises(ElementError, match="'kinds' is in labels and no image; the images are"):
        gq.spatial.pixel_clustering_preprocess(sdata, "kinds", "other")


def test_a_cluster_without_pixels_is_valid_json() -> None:
    assert as_json({"DNA": np.nan, "actin": np.float64(2)}) == {"DNA": None, "actin": 2.0}


def floats(folder: Path) -> tuple[Any, list[np.ndarray]]:
    """Images of the type that results have, so that nothing but the pixels could tell."""
    sdata = make(folder)
    rng = np.random.default_rng(1)
    pixels = [rng.gamma(2, 10 * k, PIXELS.shape).astype("f4") for k in (1, 3)]
    images = [as_image(p).assign_coords(c=NAMES).chunk({"y": 40, "x": 40}) for p in pixels]
    systems = [transformations_of(sdata, name) for name in ("one", "two")]
    add(sdata, "images", ["one", "two"], images, Form((), ()), systems)
    return sdata, pixels


@pytest.mark.cover(1)
@pytest.mark.parametrize("pool", ["mean", "exact"])
@pytest.mark.parametrize("outputs", [["one", "two"], ["two", "three"], ["two", "one"]])
def test_layers_may_replace_one_another(tmp_path: Path, outputs: list[str], pool: Any) -> None:
    sdata, pixels = floats(tmp_path)
    gq.spatial.pixel_clustering_preprocess(
        sdata, ["one", "two"], outputs, overwrite=True, pool=pool
    )
    wanted = gq.pixel_clustering_preprocess(pixels, pool=pool)
    for held in (sdata, again(sdata)):
        for name, result in zip(outputs, wanted, strict=True):
            np.testing.assert_array_equal(held[name].values, result.values)


@pytest.mark.parametrize("renames", [1, 2, 3])
def test_all_layers_are_replaced_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    sdata, pixels = floats(tmp_path)
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    rename, done = os.rename, []

    def failing(source: Any, place: Any) -> None:
        done.append(source)
        if len(done) == renames + 1:
            raise OSError("no such luck")
        rename(source, place)

    monkeypatch.setattr("gigaqc.writers.write.os.rename", failing)
    with pytest.raises(WriteError, match="no such luck"):
        gq.spatial.pixel_clustering_preprocess(
            sdata, ["one", "two"], ["one", "two"], overwrite=True
        )
    monkeypatch.undo()
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
    for name, values in zip(("one", "two"), pixels, strict=True):
        np.testing.assert_array_equal(again(sdata)[name].values, values)


def test_what_a_killed_run_left_disturbs_nothing(tmp_path: Path) -> None:
    sdata = make(tmp_path)
    zarr.open_group(str(tmp_path / "s.zarr" / ".done.0a.partial"), mode="w").create_array(
        "s0", shape=(3, 9, 9), dtype="u1"
    )
    gq.spatial.pixel_clustering_preprocess(sdata, "one", "done")
    assert set(again(sdata).images) == {"one", "two", "done"}


def test_a_layer_may_replace_itself(sdata: Any) -> None:
    gq.spatial.pixel_clustering_preprocess(sdata, "one", "one", overwrite=True)
    for held in (sdata, again(sdata)):
        np.testing.assert_array_equal(held["one"].values, expected())


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError("disk full"), WriteError, "disk full.*The store is as it was"),
        (RuntimeError("a bug"), RuntimeError, "a bug"),
        pytest.param(  # which ends a worker
            KeyboardInterrupt(), KeyboardInterrupt, "", marks=pytest.mark.same_process
        ),
    ],
)
def test_an_interrupted_write_leaves_the_store_as_it_was(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    raised: type[BaseException],
    message: str,
) -> None:
    sdata = make(tmp_path)
    from gigaqc import transforms

    def broken(elements: Any, **_: Any) -> Any:
        def fail(block: np.ndarray) -> np.ndarray:
            raise error

        last = elements[-1]
        failing = last.data.map_blocks(fail, dtype="f4", meta=np.empty((0, 0, 0), "f4"))
        return [*elements[:-1], last.copy(data=failing)]

    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    monkeypatch.setattr(transforms, "pixel_clustering_preprocess", broken)
    for layers, outputs in (("one", "done"), ("one", "one"), (["one", "two"], ["one", "new"])):
        with pytest.raises(raised, match=message):
            gq.spatial.pixel_clustering_preprocess(sdata, layers, outputs, overwrite=True)
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


def test_images_of_any_kind_become_elements(sdata: Any) -> None:
    from spatialdata.models import get_model
    from spatialdata.transformations import Identity, get_transformation

    image = gq.example_image()
    added = {"ht29": image, "plain": PIXELS[0]}
    with testing.forbid_compute() if not sdata.is_backed() else warnings.catch_warnings():
        assert gq.spatial.add_images(sdata, added, chunks=100) is sdata
    for held in (sdata, again(sdata)):
        element = held["ht29"]
        get_model(element)().validate(element)
        np.testing.assert_array_equal(element.values, image.values)
        assert element.c.values.tolist() == ["DNA", "pH3", "Actin"]
        assert max(element.chunksizes["y"]) == 100
        assert get_transformation(element, get_all=True) == {"global": Identity()}
        assert held["plain"].shape == (1, 90, 80)


def test_images_that_cannot_become_elements(sdata: Any) -> None:
    held = list(sdata.images)
    with pytest.raises(WriteError, match="'one' exists"):
        gq.spatial.add_images(sdata, {"new": PIXELS, "one": PIXELS})
    with pytest.raises(ParameterError, match="mapping of names"):
        gq.spatial.add_images(sdata, [PIXELS])
    with pytest.raises(ParameterError, match="axis t"):
        series = gq.testing.poisson((9, 9), 3).pixels[None, None]
        gq.spatial.add_images(sdata, {"film": xr.DataArray(series, dims=("t", "c", "y", "x"))})
    assert list(sdata.images) == held
