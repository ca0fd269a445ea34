"""`gigaqc segment`, run as a user runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import gigaqc as gq
from gigaqc.cli import app


def nuclei_image() -> np.ndarray:
    """Twelve discs of radius 7 in the first channel, noise in the second."""
    y, x = np.mgrid[:120, :160]
    image = np.random.default_rng(0).poisson(4, (2, 120, 160)).astype("u2")
    for cy in (20, 60, 100):
        for cx in (20, 60, 100, 140):
            image[0][np.hypot(y - cy, x - cx) < 7.3] += 200
    return image


IMAGE = nuclei_image()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "field.zarr"
    image = xr.DataArray(IMAGE, dims=("c", "y", "x"), coords={"c": ["DAPI", "CD3"]})
    gq.write_image(image, path)
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["segment", *(str(a) for a in arguments)])


def test_labels_table_and_picture(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(source, "-o", out, "--tile", 64)
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in out.iterdir()) == [
        "field_labels.zarr", "field_nuclei.png", "field_objects.csv",
    ]  # fmt: skip
    labels = gq.open_labels(out / "field_labels.zarr")
    np.testing.assert_array_equal(labels.values, gq.segment_nuclei(IMAGE, 0, tile=64).values)
    table = pd.read_csv(out / "field_objects.csv", index_col="label")
    assert len(table) == 12
    own = labels.values == 5
    np.testing.assert_allclose(table.loc[5, "mean_CD3"], IMAGE[1][own].mean(), rtol=1e-12)
    for words in ("count", "12", "mean area [px]", "quality", "GOOD", "field_objects.csv"):
        assert words in done.output
    assert (out / "field_nuclei.png").read_bytes()[:4] == b"\x89PNG"
    again = run(source, "-o", out)
    assert again.exit_code == 2 and "pass --overwrite" in again.output
    assert run(source, "-o", out, "--overwrite", "--quiet").output == ""


def test_parquet_and_options(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(source, "-o", out, "--table", "parquet", "--channel", "DAPI", "--diameter", 14,
               "--threshold", 100, "--overlap", 40)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in out.iterdir()) == [
        "field_labels.zarr", "field_nuclei.png", "field_objects.parquet",
    ]  # fmt: skip
    table = pd.read_parquet(out / "field_objects.parquet")
    expected = gq.segment_nuclei(IMAGE, 0, diameter=14, threshold=100, overlap=40).values
    assert table["area"].tolist() == np.bincount(expected.ravel())[1:].tolist()


def test_strict_is_about_the_quality(source: Path, tmp_path: Path) -> None:
    assert run(source, "-o", tmp_path / "good", "--strict").exit_code == 0
    none = run(source, "-o", tmp_path / "empty", "--strict", "--threshold", 60_000,
               "--diameter", 14)  # fmt: skip
    assert none.exit_code == 1 and "EMPTY" in none.output
    table = pd.read_csv(tmp_path / "empty" / "field_objects.csv")
    assert len(table) == 0 and "mean_DAPI" in table


@pytest.mark.filterwarnings("ignore")
def test_into_a_spatialdata_store(tmp_path: Path) -> None:
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.models import Image2DModel

    from gigaqc.image.labelled import as_image
    from gigaqc.spatial.elements import Form, add

    path, out = tmp_path / "s.zarr", tmp_path / "out"
    element = Image2DModel.parse(IMAGE, dims=("c", "y", "x"), c_coords=["DAPI", "CD3"])
    sdata = spatialdata.SpatialData()
    sdata.write(path)
    systems = [element.attrs["transform"]]
    add(sdata, "images", ["raw"], [as_image(element)], Form((), ()), systems)
    done = run(path, "--output-layer", "nuclei", "-o", out)
    assert done.exit_code == 0, done.output
    assert "wrote labels/nuclei" in done.output and "GOOD" in done.output
    labels = spatialdata.read_zarr(path).labels["nuclei"]
    np.testing.assert_array_equal(labels.values, gq.segment_nuclei(IMAGE, 0).values)
    assert sorted(p.suffix for p in out.iterdir()) == [".csv", ".png"]
    again = run(path, "--output-layer", "nuclei")
    assert again.exit_code == 2 and "pass --overwrite" in again.output
    quiet = run(path, "--output-layer", "nuclei", "--overwrite", "--quiet")
    assert quiet.exit_code == 0 and quiet.output == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("FIELD",), 2, "--out: name a folder"),
        (("FIELD", "-o", "OUT", "--channel", "Z"), 2, "--channel: no channel 'Z'"),
        (("FIELD", "-o", "OUT", "--channels", "A,B"), 2, "--channel: name the one that shows"),
        (("FIELD", "-o", "OUT", "--diameter", 0), 2, "diameter: got 0"),
        (("FIELD", "-o", "OUT", "--tile", 3), 2, "tile: got 3"),
        (("FIELD", "-o", "OUT", "--threshold", "most"), 2, "threshold: got 'most'"),
        (("FIELD", "-o", "OUT", "--model", "x"), 2, "model: no option of method 'watershed'"),
        (("FIELD", "-o", "OUT", "--method", "magic"), 2, "magic"),
        (("missing.zarr", "-o", "OUT"), 3, "missing.zarr"),
        (("FIELD", "--output-layer", "x"), 2, "is no SpatialData store"),
    ],
)
def test_wrong_use(
    source: Path, tmp_path: Path, arguments: tuple[Any, ...], code: int, message: str
) -> None:
    places = {"FIELD": source, "OUT": tmp_path / "out"}
    done = run(*(places.get(a, a) for a in arguments))
    assert done.exit_code == code, done.output
    assert message in done.output
    out = tmp_path / "out"
    assert not out.exists() or not list(out.iterdir())


def test_a_corrupt_chunk_leaves_nothing(source: Path, tmp_path: Path) -> None:
    for chunk in (source / "0" / "c").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    out = tmp_path / "out"
    done = run(source, "-o", out)
    assert done.exit_code == 3 and not list(out.iterdir())
