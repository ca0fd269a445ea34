"""Tables as files: what anndata and spatialdata read, and would write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from gigaqc.tables import encoded
from gigaqc.tables.encoded import shapes_files, storable, table_files

anndata = pytest.importorskip("anndata")

# anndata with pandas 3
pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'future.infer_string' option is deprecated",
    "ignore:The 'mode.chained_assignment' option is deprecated",
)


def table() -> Any:
    obs = pd.DataFrame(
        {
            "text": ["a", "", "é\N{GRINNING FACE}", "a/b", "x" * 300],
            "number": [1.5, np.nan, np.inf, -0.0, 1e300],
            "whole": np.arange(5),
            "flag": [True, False, True, False, True],
            "kind": pd.Categorical(["u", "v", "u", "u", "v"]),
        },
        index=[f"row {k}" for k in range(5)],
    )
    uns = {
        "scalars": {"a": 1.5, "b": "text", "c": 3, "d": True, "e": float("nan")},
        "texts": np.array(["p", "qq"], dtype=object),
        "frame": pd.DataFrame({"n": [1, 2], "t": ["a", "b"]}, index=["0", "1"]),
        "numbers": np.arange(3, dtype="u2"),
    }
    made = anndata.AnnData(
        np.arange(20.0).reshape(5, 4), obs=obs, var=pd.DataFrame(index=list("wxyz")), uns=uns
    )
    made.layers["z0"] = made.X + 1
    made.obsm["spatial"] = np.arange(10.0).reshape(5, 2)
    made.obsp["r"] = np.eye(5)
    return made


def write(files: dict[str, bytes], folder: Path) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def assert_same(found: Any, wanted: Any) -> None:
    pd.testing.assert_frame_equal(found.obs, wanted.obs, check_dtype=False, check_index_type=False)
    assert found.obs["kind"].dtype == "category" and found.obs["flag"].dtype == bool
    assert found.var_names.tolist() == wanted.var_names.tolist()
    np.testing.assert_array_equal(found.X, wanted.X)
    assert set(found.layers) - {None} == {"z0"}
    np.testing.assert_array_equal(found.layers["z0"], wanted.layers["z0"])
    np.testing.assert_array_equal(found.obsm["spatial"], wanted.obsm["spatial"])
    np.testing.assert_array_equal(found.obsp["r"], wanted.obsp["r"])
    np.testing.assert_equal(found.uns["scalars"], wanted.uns["scalars"])
    assert list(found.uns["texts"]) == list(wanted.uns["texts"])
    assert found.uns["numbers"].dtype == np.uint16 and found.uns["numbers"].tolist() == [0, 1, 2]
    pd.testing.assert_frame_equal(found.uns["frame"], wanted.uns["frame"], check_dtype=False)


@pytest.mark.parametrize("size", [1 << 22, 40])
def test_anndata_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(encoded, "_CHUNK", size)
    folder = write(table_files(table()), tmp_path / "t")
    assert (size == 40) == (folder / "X" / "c.1.0").exists()
    assert_same(anndata.read_zarr(folder), table())


@pytest.mark.filterwarnings("ignore:zarr v3 autosharding:UserWarning")
def test_the_nodes_are_those_that_anndata_writes(tmp_path: Path) -> None:
    ours = table_files(table())
    group = zarr.open_group(tmp_path / "a", mode="w", zarr_format=3)
    anndata.io.write_elem(group, "t", table())
    compared = 0
    for path, content in ours.items():
        theirs = tmp_path / "a" / "t" / path
        if not path.endswith("zarr.json") or not theirs.exists():
            continue
        mine, other = (json.loads(c) for c in (content, theirs.read_bytes()))
        if other["attributes"]["encoding-type"] == "nullable-string-array":
            continue  # newer releases write these for text; older ones do not read them
        attributes = {k: v for k, v in mine["attributes"].items() if k in other["attributes"]}
        assert attributes == other["attributes"], path
        for key in ("node_type", "zarr_format", "shape", "data_type", "fill_value"):
            assert mine.get(key) == other.get(key), (path, key)
        compared += 1
    assert compared > 20


def test_empty_tables_and_rows(tmp_path: Path) -> None:
    made = anndata.AnnData(
        np.zeros((0, 2)),
        obs=pd.DataFrame({"t": np.array([], object)}, index=pd.Index([], dtype=object)),
        var=pd.DataFrame(index=["a", "b"]),
    )
    found = anndata.read_zarr(write(table_files(made), tmp_path / "t"))
    assert found.shape == (0, 2) and list(found.obs) == ["t"]
    assert not (tmp_path / "t" / "layers").exists()


def test_shapes_are_those_that_spatialdata_writes(tmp_path: Path) -> None:
    spatialdata = pytest.importorskip("spatialdata")
    import geopandas
    import shapely
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Affine, Scale, Sequence

    affine = Affine(np.array([[2, 1, 5], [0, 3, 6], [0, 0, 1]]), ("x", "y"), ("x", "y"))
    systems = {"a": Scale([2, 3], ("y", "x")), "b": Sequence([affine, Scale([2], ("x",))])}
    frame = geopandas.GeoDataFrame({"n": [1, 2]}, geometry=shapely.box([0, 1], 0, [1, 2], 1))
    element = ShapesModel.parse(frame.copy(), transformations=systems)
    spatialdata.SpatialData.init_from_elements({"g": element}).write(tmp_path / "s.zarr")
    theirs = tmp_path / "s.zarr" / "shapes" / "g"
    ours = write(shapes_files(frame, systems), tmp_path / "ours")
    metadata = [json.loads((p / "zarr.json").read_text()) for p in (ours, theirs)]
    assert metadata[0] == metadata[1]
    frames = [geopandas.read_parquet(p / "shapes.parquet") for p in (ours, theirs)]
    pd.testing.assert_frame_equal(*frames)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"a": None, "b": {"c": None}}, None),
        ({"a": np.float64(2), "b": {"c": True}}, {"a": 2.0, "b": {"c": True}}),
        ((), None),
        ("", ""),
    ],
)
def test_storable(value: Any, kept: Any) -> None:
    assert storable(value) == kept


def test_storable_lists() -> None:
    assert storable([1, 2]).tolist() == [1, 2]
    assert storable([("a", "b")]).tolist() == ["a / b"]
