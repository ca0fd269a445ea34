"""Judging elements of SpatialData: grid and tables, in a store and in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import zarr

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ChannelError, ElementError, MaskError, ParameterError, WriteError
from gigaqc.image.labelled import as_image
from gigaqc.image.spatialdata import transformations_of
from gigaqc.spatial.elements import Form, add
from gigaqc.testing.stores import CountingStore, count_reads, reset_reads

spatialdata = pytest.importorskip("spatialdata")
from spatialdata.models import (  # noqa: E402
    Image2DModel,
    Image3DModel,
    Labels2DModel,
    get_model,
    get_table_keys,
)
from spatialdata.transformations import (  # noqa: E402
    Identity,
    Scale,
    Sequence,
    Translation,
    get_transformation,
)

# anndata with pandas 3
pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'future.infer_string' option is deprecated",
    "ignore:The 'mode.chained_assignment' option is deprecated",
)

RNG = np.random.default_rng(0)
NAMES = ["DNA", "a/b <i>", "CD3 é"]
PIXELS = RNG.poisson(30, (3, 90, 80)).astype("u2")
LABELS = np.zeros((90, 80), "u4")
LABELS[5:20, 5:20], LABELS[40:60, 30:60] = 7, 900
SYSTEMS = {
    "global": Identity(),
    "um": Sequence([Scale([1, 0.5, 0.5], axes=("c", "y", "x")), Translation([3, 4], ("y", "x"))]),
}
TILE = 32


def elements() -> dict[str, tuple[str, Any]]:
    options: dict[str, Any] = {"dims": ("c", "y", "x"), "transformations": SYSTEMS}
    deep = np.stack([PIXELS[:2], 3 * PIXELS[:2, ::-1]], axis=1)
    return {
        "one": ("images", Image2DModel.parse(PIXELS, c_coords=NAMES, **options)),
        "two": ("images", Image2DModel.parse(PIXELS[:, :60], scale_factors=[2], **options)),
        "deep": ("images", Image3DModel.parse(deep, dims=("c", "z", "y", "x"))),
        "cells": ("labels", Labels2DModel.parse(LABELS, dims="yx", transformations=SYSTEMS)),
        "moved": (
            "labels",
            Labels2DModel.parse(LABELS, dims="yx", transformations={"um": Identity()}),
        ),
    }


def make(folder: Path | None) -> Any:
    """Images and labels, in a store or in memory."""
    made = elements()
    sdata = spatialdata.SpatialData.init_from_elements({n: e for n, (_, e) in made.items()})
    if folder is None:
        return sdata
    empty = spatialdata.SpatialData()
    empty.write(folder / "s.zarr")
    for name, (kind, element) in made.items():  # some releases of spatialdata cannot write images
        array = as_image(element) if kind == "images" else element
        add(empty, kind, [name], [array], Form((), ()), [transformations_of(sdata, name)])
    return spatialdata.read_zarr(folder / "s.zarr")


@pytest.fixture(params=["memory", "store"])
def sdata(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return make(None if request.param == "memory" else tmp_path)


@pytest.fixture
def stored(tmp_path: Path) -> Any:
    return make(tmp_path)


def both(sdata: Any) -> list[Any]:
    """The object, and where there is a store what is read from it."""
    return [sdata, *([spatialdata.read_zarr(sdata.path)] if sdata.is_backed() else [])]


def judge(sdata: Any, *args: Any, **options: Any) -> Any:
    return gq.spatial.assess(sdata, *args, **{"tile": TILE, "progress": False, **options})


def files(folder: Any) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()
    }


def test_the_grid(sdata: Any) -> None:
    assert judge(sdata, "one") is sdata
    for held in both(sdata):
        grid = held["qc_img_one_grid"]
        get_model(grid)().validate(grid)
        assert len(grid) == 9
        assert grid.geometry.iloc[5].bounds == (64, 32, 80, 64)  # x, y: cut at the image's width
        assert grid.geometry.area.sum() == 90 * 80 and grid.geometry.union_all().area == 90 * 80
        assert list(grid.columns) == ["geometry"]
        systems = get_transformation(grid, get_all=True)
        assert set(systems) == {"global", "um"}
        extent = spatialdata.get_extent(held, coordinate_system="um", elements=["one"])
        assert spatialdata.get_extent(grid, coordinate_system="um") == {
            d: pytest.approx(extent[d]) for d in "xy"
        }


def test_the_tables(sdata: Any) -> None:
    judge(sdata, "one", labels_key="cells", expected_pairs=[("DNA", "CD3 é")])
    found = gq.assess(PIXELS_NAMED, labels=LABELS, tile=TILE, name="one", progress=False)
    for held in both(sdata):
        table = held["qc_img_one"]
        get_model(table)().validate(table)
        held.validate_table_in_spatialdata(table)
        assert get_table_keys(table) == ("qc_img_one_grid", "grid_name", "tile_id")
        assert table.obs_names[5] == "tile_x2_y1"
        assert table.obs.loc["tile_x2_y1", ["centroid_y", "centroid_x"]].tolist() == [48, 72]
        np.testing.assert_array_equal(table.obsm["spatial"][5], [72, 48])
        for name, tiles in found.tiles.data_vars.items():
            shown = table[:, table.var["metric"] == name]
            if name == "cells":
                assert shown.var_names.tolist() == ["qc_cells"]
            else:
                assert shown.var_names.tolist() == [f"qc_{name}:{c}" for c in NAMES]
                assert shown.var["channel"].tolist() == NAMES
            wanted = tiles.values.reshape(-1, 9).T
            np.testing.assert_array_equal(shown.X, wanted)
        about = table.uns["qc_image"]
        assert about["image_key"] == "one" and list(about["metrics"])[:2] == ["mean", "std"]
        assert (about["n_tiles_y"], about["tile_size_x"], about["image_width"]) == (3, TILE, 80)


PIXELS_NAMED = as_image(PIXELS, channels=NAMES)


def test_verdict_and_provenance(sdata: Any) -> None:
    judge(sdata, "one", labels_key="cells", expected_pairs=[("DNA", "CD3 é")])
    found = gq.assess(PIXELS_NAMED, labels=LABELS, tile=TILE, name="one", progress=False)
    told = found.flags.assign(certain="")  # nobody knows an error
    for held in both(sdata):
        kept = held["qc_img_one"].uns["gigaqc"]
        pd.testing.assert_frame_equal(kept["flags"].reset_index(drop=True), told, check_dtype=False)
        summary = kept["summary"]
        assert summary["status"] == "FAIL" and not summary["passed"] and summary["n_cells"] == 2
        for name, value in found.summary.items():
            assert summary[name] == value
        provenance = json.loads(kept["provenance"])
        assert provenance["parameters"]["expected_pairs"] == [["DNA", "CD3 é"]]
        assert provenance["rules"] == "robust" and provenance["pixel_size"] == {}


def test_channels_and_objects(sdata: Any) -> None:
    judge(sdata, "one", labels_key="cells")
    found = gq.assess(PIXELS_NAMED, labels=LABELS, tile=TILE, progress=False)
    assert found.objects is not None
    for held in both(sdata):
        channels = held["qc_img_one_channels"]
        get_model(channels)().validate(channels)
        assert channels.obs_names.tolist() == NAMES
        assert channels.obs["status"].tolist() == found.channels["status"].tolist()
        assert channels.obs["adequate"].tolist() == found.channels["adequate"].tolist()
        numbers = found.channels[channels.var_names.tolist()]
        np.testing.assert_array_equal(channels.X, numbers.to_numpy("f8"))
        assert set(numbers) | {"status", "adequate"} == set(found.channels)
        np.testing.assert_array_equal(channels.obsp["correlation"], found.correlation.values)

        objects = held["qc_img_one_objects"]
        held.validate_table_in_spatialdata(objects)
        assert get_table_keys(objects) == ("cells", "region", "label")
        assert objects.obs["label"].tolist() == [7, 900]
        np.testing.assert_array_equal(objects.to_df().values, found.objects.to_numpy("f8"))
        assert objects.obsm["spatial"][0].tolist() == [12.5, 12.5]  # the middle of pixels 5..19
        joined = spatialdata.join_spatialelement_table(
            sdata=held, spatial_element_names="cells", table_name="qc_img_one_objects", how="left"
        )[1]
        assert joined.n_obs == 2


def test_planes_are_layers(sdata: Any) -> None:
    judge(sdata, "deep")
    tiles = gq.assess(sdata["deep"], tile=TILE, progress=False).tiles
    for held in both(sdata):
        table = held["qc_img_deep"]
        assert set(table.layers) - {None} == {"z0", "z1"}
        planes = tiles["mean"].transpose("z", "tile_y", "tile_x", "c").values.reshape(2, 9, 2)
        columns = [f"qc_mean:{c}" for c in tiles["c"].values]
        for k in (0, 1):
            np.testing.assert_array_equal(table[:, columns].layers[f"z{k}"], planes[k])
        np.testing.assert_allclose(table[:, columns].X, planes.mean(axis=0), rtol=1e-15)


def test_all_images_in_one_call(sdata: Any) -> None:
    judge(
        sdata, labels_key={"one": "cells"}, tissue={"one": "CD3 é", "two": False},
        expected_pairs=[("DNA", "CD3 é")], name={"two": "the second"},
    )  # fmt: skip
    for held in both(sdata):
        assert set(held.tables) == {
            "qc_img_one", "qc_img_one_channels", "qc_img_one_objects", "qc_img_two",
            "qc_img_two_channels", "qc_img_deep", "qc_img_deep_channels",
        }  # fmt: skip
        assert set(held.shapes) == {"qc_img_one_grid", "qc_img_two_grid", "qc_img_deep_grid"}
        assert len(held["qc_img_two_grid"]) == 6
        whole = {n: held[f"qc_img_{n}"].uns["gigaqc"] for n in ("one", "two", "deep")}
        assert whole["one"]["summary"]["tissue_channel"] == "CD3 é"
        assert "tissue_channel" not in whole["two"]["summary"]  # None is left out
        assert [w["summary"]["name"] for w in whole.values()] == ["one", "the second", "deep"]
        pairs = [
            json.loads(w["provenance"])["parameters"]["expected_pairs"] for w in whole.values()
        ]
        assert pairs == [[["DNA", "CD3 é"]], [], []]


def test_what_exists_is_replaced_only_when_asked(sdata: Any) -> None:
    judge(sdata, "one", labels_key="cells")
    before = files(sdata.path) if sdata.is_backed() else None
    with testing.forbid_compute(), pytest.raises(WriteError, match="overwrite=True"):
        judge(sdata, ["two", "one"])
    assert "qc_img_two" not in sdata.tables
    assert before is None or files(sdata.path) == before
    judge(sdata, "one", tile=45, overwrite=True)
    for held in both(sdata):
        assert len(held["qc_img_one_grid"]) == 4 == held["qc_img_one"].n_obs
        # that of the first call would say what this one has not found
        assert "qc_img_one_objects" not in held.tables


def test_a_call_that_fails_leaves_nothing(stored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before, written = files(stored.path), []
    whole = zarr.storage.LocalStore.set

    async def full(store: Any, key: str, value: Any) -> None:
        written.append(key)
        if key.startswith("tables/qc_img_two/obs"):
            raise OSError(28, "No space left on device")
        await whole(store, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "set", full)
        with pytest.raises(WriteError, match="No space left"):
            judge(stored, ["one", "two"])
    assert len(written) > 20 and files(stored.path) == before
    assert not stored.tables and not stored.shapes
    broken = max(Path(stored.path, "images/two/s0/c").rglob("[0-9]*"))
    broken.write_bytes(broken.read_bytes()[:50])
    before = files(stored.path)
    with pytest.raises(Exception) as caught:
        judge(stored, ["one", "two"])
    assert caught.value.__notes__ == ["image_key: in 'two'."]
    assert files(stored.path) == before and not stored.tables and not stored.shapes


def test_consolidated_metadata_is_as_collected_anew(stored: Any) -> None:
    judge(stored, "one", labels_key="cells")
    judge(stored, "one", overwrite=True)
    ours = json.loads(Path(stored.path, "zarr.json").read_text())
    stored.write_consolidated_metadata()
    anew = json.loads(Path(stored.path, "zarr.json").read_text())
    assert ours["consolidated_metadata"]["metadata"] == anew["consolidated_metadata"]["metadata"]
    assert ours == anew


def test_a_store_without_consolidated_metadata(stored: Any) -> None:
    root = Path(stored.path, "zarr.json")
    metadata = json.loads(root.read_text())
    del metadata["consolidated_metadata"]
    root.write_text(json.dumps(metadata))
    judge(stored, "one")
    assert "consolidated_metadata" not in json.loads(root.read_text())
    assert "qc_img_one" in spatialdata.read_zarr(stored.path).tables


def test_the_store_opens_as_before(stored: Any) -> None:
    judge(stored, labels_key={"one": "cells"})
    assert gq.list_images(stored.path) == ["deep", "one", "two"]
    image = gq.open_image(stored.path, element="one")
    np.testing.assert_array_equal(image.values, PIXELS)
    np.testing.assert_array_equal(gq.open_labels(stored.path, element="cells"), LABELS)
    assert set(spatialdata.read_zarr(stored.path).images) == {"one", "two", "deep"}


@pytest.mark.filterwarnings("ignore:zarr v3 autosharding:UserWarning")
def test_a_store_is_copied_by_spatialdata(stored: Any, tmp_path: Path) -> None:
    judge(stored, "one", labels_key="cells")
    kept = [n for n in (*stored.shapes, *stored.tables) if "objects" not in n]
    stored.subset(kept).write(tmp_path / "copy.zarr")
    copy = spatialdata.read_zarr(tmp_path / "copy.zarr")
    np.testing.assert_array_equal(copy["qc_img_one"].X, stored["qc_img_one"].X)
    assert copy["qc_img_one"].uns["gigaqc"]["summary"]["n_cells"] == 2


def counted(folder: Path, dtype: str) -> tuple[Any, Any]:
    """An object in memory whose image lies in a store that counts, and the store."""
    store = CountingStore(folder / "pixels.zarr")
    array = zarr.create_array(store, shape=PIXELS.shape, chunks=(1, 33, 40), dtype=dtype)
    array[:] = PIXELS
    image = Image2DModel.parse(da.from_array(array), dims="cyx", c_coords=NAMES)
    reset_reads(store)
    return spatialdata.SpatialData.init_from_elements({"one": image}), store


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_no_chunk_is_read_more_often(tmp_path: Path, dtype: str) -> None:
    sdata, store = counted(tmp_path, dtype)
    gq.assess(sdata["one"], tile=TILE, progress=False)
    once = count_reads(store)
    assert once
    reset_reads(store)
    judge(sdata, "one")
    assert count_reads(store) == once


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"image_key": "cells"}, ElementError, "image_key: 'cells' is in labels and no image"),
        ({"image_key": "none"}, ElementError, "no image is named 'none'"),
        ({"image_key": []}, ElementError, "no images"),
        ({"image_key": ["one", "one"]}, ParameterError, "name each once"),
        ({"labels_key": "none"}, ElementError, "no labels are named 'none'; there are 'cells'"),
        ({"labels_key": ["cells"]}, ParameterError, "got 1 names for 2 images"),
        ({"labels_key": {"deep": "cells"}}, ParameterError, r"\['deep'\]"),
        ({"labels_key": {"one": "moved"}}, ElementError, "'moved' lies elsewhere in 'um'"),
        ({"labels_key": "cells"}, ValueError, "do not lie on the image"),
        ({"tissue": "DNA"}, ChannelError, "no channel 'DNA'"),
        ({"expected_pairs": [("DNA", "CD4")]}, ChannelError, "is no pair of channels"),
        ({"mask": np.ones((90, 80), bool)}, MaskError, "do not fit"),
        ({"tissue": {"two": np.ones((90, 80), bool)}}, MaskError, "do not fit"),
        ({"tile": 0}, ParameterError, "tile"),
    ],
)
def test_arguments_are_refused_before_a_pixel_is_read(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    sdata = make(None)
    with testing.forbid_compute(), pytest.raises(error, match=match):
        judge(sdata, **{"image_key": ["one", "two"], **options})


def test_results_of_two_images_that_meet(sdata: Any) -> None:
    for name in ("one_grid", "two_channels"):
        sdata[name] = Image2DModel.parse(PIXELS, dims="cyx")
    with pytest.raises(ParameterError, match="rename one of the images"):
        judge(sdata, ["one", "one_grid"])
    judge(sdata, ["one", "two_channels"])
    with pytest.raises(WriteError, match="already"):
        judge(sdata, "one_grid", overwrite=True)
    with pytest.raises(ParameterError, match="those of another image"):
        judge(sdata, "two", overwrite=True)


def test_an_assessment_of_ones_own(sdata: Any) -> None:
    found = gq.assess(gq.scan(sdata["one"], tile=TILE), name="mine")
    assert found.to_spatialdata(sdata, "one") is sdata
    for held in both(sdata):
        assert held["qc_img_one"].uns["gigaqc"]["summary"]["name"] == "mine"
    with pytest.raises(WriteError, match="exists"):
        found.to_spatialdata(sdata, "one")
    with pytest.raises(ParameterError, match=r"'two' is of \{'y': 60, 'x': 80\}"):
        found.to_spatialdata(sdata, "two")
    with pytest.raises(ElementError, match="no image is named"):
        found.to_spatialdata(sdata, "three")
    scanned = gq.scan(sdata["one"]).compute()
    with pytest.raises(ParameterError, match="pooled"):
        gq.assess(scanned + scanned).to_spatialdata(sdata, "two")


def test_objects_without_the_name_of_their_labels(sdata: Any) -> None:
    found = gq.assess(sdata["one"], labels=sdata["cells"], tile=TILE, progress=False)
    found.to_spatialdata(sdata, "one")
    for held in both(sdata):
        assert held["qc_img_one_objects"].n_obs == 2
        assert "spatialdata_attrs" not in held["qc_img_one_objects"].uns
    found.to_spatialdata(sdata, "one", labels_key="cells", overwrite=True)
    for held in both(sdata):
        assert get_table_keys(held["qc_img_one_objects"])[0] == "cells"


def test_labels_without_objects(sdata: Any) -> None:
    sdata["none"] = Labels2DModel.parse(np.zeros((90, 80), "u4"), dims="yx")
    judge(sdata, "one", labels_key="none")
    for held in both(sdata):
        assert "qc_img_one_objects" not in held.tables
        assert held["qc_img_one"].uns["gigaqc"]["summary"]["n_cells"] == 0


@pytest.mark.filterwarnings("ignore:The set_.* function will:PendingDeprecationWarning")
def test_spatialdata_plot_colours_the_tiles(stored: Any, tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    pytest.importorskip("spatialdata_plot")
    judge(stored, "one")
    column = "qc_mean:CD3 é"
    figure, axes = pyplot.subplots()
    shown = stored.pl.render_images("one", channel="DNA", cmap="gray")
    shown = shown.pl.render_shapes("qc_img_one_grid", color=column, fill_alpha=0.7)
    shown.pl.show(coordinate_systems="um", ax=axes)
    (tiles,) = axes.collections
    colours = {tuple(c) for c in tiles.get_facecolors().round(4)}
    values = np.asarray(stored["qc_img_one"][:, column].X).ravel()
    assert len(colours) == len(np.unique(values)) == 9
    assert column in [a.get_ylabel() for a in figure.axes]  # of its colour bar
    figure.savefig(tmp_path / "tiles.png")
    pyplot.close(figure)
