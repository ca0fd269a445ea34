"""`gigaqc preprocess` and `gigaqc cluster`, run as a user runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from typer.testing import CliRunner

import gigaqc as gq
from gigaqc.cli import app

PIXELS = np.random.default_rng(0).poisson([[[9]], [[40]]], (2, 60, 50)).astype("u2")
PIXELS[:, 30:] *= 3


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "slide.zarr"
    gq.write_image(PIXELS, path)
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_preprocess(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("preprocess", source, "-o", out, "--sigma", 1, "--q-sum", "none", "--cap", 0.9)
    assert done.exit_code == 0, done.output
    assert f"Image: {out / 'slide.zarr'}" in done.output
    expected = gq.pixel_clustering_preprocess(PIXELS, sigma=1, q_sum=None, cap=0.9)
    np.testing.assert_array_equal(gq.open_image(out / "slide.zarr").values, expected.values)
    again = run("preprocess", source, "-o", out)
    assert again.exit_code == 2 and "exists; pass --overwrite" in again.output
    assert run("preprocess", source, "-o", out, "--overwrite", "--quiet").output == ""


def test_fields_of_view_share_percentiles(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    gq.write_image(PIXELS[:, ::-1] // 2, other)
    out = tmp_path / "out"
    assert run("preprocess", source, other, "-o", out, "--pool", "exact").exit_code == 0
    expected = gq.pixel_clustering_preprocess([PIXELS, PIXELS[:, ::-1] // 2], pool="exact")
    for name, values in zip(("slide", "other"), expected, strict=True):
        np.testing.assert_array_equal(gq.open_image(out / f"{name}.zarr").values, values.values)


def test_a_source_is_never_replaced(source: Path, tmp_path: Path) -> None:
    for command in (("preprocess",), ("cluster", "-n", 2)):
        done = run(*command, source, "-o", tmp_path, "--overwrite")
        assert done.exit_code == 2 and "is a SOURCE itself; choose another folder" in done.output
    np.testing.assert_array_equal(gq.open_image(source).values, PIXELS)


def test_cluster(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("cluster", source, "-n", 2, "-o", out, "--method", "kmeans", "--fraction", 0.5)
    assert done.exit_code == 0, done.output
    labels = gq.open_labels(out / "slide.zarr").values
    assert labels.shape == (60, 50) and labels[40:].mean() > 1.9 and labels[:20].mean() < 1.1
    profile = pd.read_csv(out / "profile.csv", index_col="cluster")
    assert profile.index.tolist() == [1, 2] and profile["pixels"].sum() == 3000
    model = gq.PixelModel.load(out / "model.npz")
    np.testing.assert_array_equal(model.predict(gq.open_image(source)).values, labels)
    assert (out / "clusters.png").stat().st_size > 10_000
    refused = run("cluster", source, "-n", 2, "-o", out)
    assert refused.exit_code == 2 and "exists" in refused.output


@pytest.mark.filterwarnings("ignore")
def test_elements_of_spatialdata(tmp_path: Path) -> None:
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.models import Image2DModel

    from gigaqc.image.labelled import as_image
    from gigaqc.spatial.elements import Form, add

    path = tmp_path / "s.zarr"
    sdata = spatialdata.SpatialData()
    sdata.write(path)
    element = Image2DModel.parse(PIXELS, dims=("c", "y", "x"), c_coords=["A", "B"])
    systems = [element.attrs["transform"]]
    add(sdata, "images", ["raw"], [as_image(element)], Form((), ()), systems)
    done = run("preprocess", path, "--element", "raw", "--output-layer", "done", "--sigma", 1)
    assert done.exit_code == 0, done.output
    done = run("cluster", path, "--element", "done", "--output-layer", "kinds", "-n", 2)
    assert done.exit_code == 0, done.output
    sdata = spatialdata.read_zarr(path)
    expected = gq.pixel_clustering_preprocess(PIXELS, sigma=1).values
    np.testing.assert_array_equal(sdata["done"].values, expected)
    assert ((sdata["kinds"].values > 0) == np.isfinite(expected[0])).all()
    for arguments, message in [
        (("--element", "raw", "--output-layer", "done"), "'done' exists; pass --overwrite"),
        (("--element", "kinds", "--output-layer", "x"), "no image is named 'kinds'"),
        (("--element", "raw", "--output-layer", "x", "--dims", "cyx"), "--dims: does not go"),
        (("--element", "raw", "--output-layer", "x", "--channels", "A,B"), "--channels: does not"),
        (("--element", "raw", "--output-layer", "x", "--level", 1), "--level: does not go"),
    ]:
        for command in (("preprocess",), ("cluster", "-n", 2)):
            refused = run(*command, path, *arguments)
            assert refused.exit_code == 2 and message in refused.output
    (path / "images" / "raw" / "s0" / "zarr.json").unlink()
    unreadable = run("preprocess", path, "--element", "done", "--output-layer", "x")
    assert unreadable.exit_code == 3 and "cannot be read by spatialdata" in unreadable.output
    unclear = run("preprocess", path, "--output-layer", "more")
    assert unclear.exit_code == 2 and "name one of" in unclear.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("preprocess", "SLIDE"), 2, "--out: name a folder"),
        (("preprocess", "SLIDE", "-o", "OUT", "--q", "most"), 2, "--q: got 'most'; pass a number"),
        (("preprocess", "SLIDE", "-o", "OUT", "--q", 101), 2, "q: got 101.0; pass a percentile"),
        (("preprocess", "SLIDE", "-o", "OUT", "--take", "Z"), 2, "channels: "),
        (("preprocess", "missing.zarr", "-o", "OUT"), 3, "missing.zarr"),
        (("preprocess", "SLIDE", "--output-layer", "x"), 2, "is no SpatialData store"),
        (("preprocess", "SLIDE", "-o", "OUT", "--output-layer", "x"), 2, "without --out"),
        (("cluster", "SLIDE", "-n", 2, "-o", "OUT", "--fraction", 2), 2, "fraction: got 2"),
        (("cluster", "SLIDE", "-n", 0, "-o", "OUT"), 2, "clusters"),
    ],
)
def test_wrong_use(
    source: Path, tmp_path: Path, arguments: tuple[Any, ...], code: int, message: str
) -> None:
    places = {"SLIDE": source, "OUT": tmp_path / "out"}
    done = run(*(places.get(a, a) for a in arguments))
    assert done.exit_code == code, done.output
    assert message in done.output
    out = tmp_path / "out"
    assert not out.exists() or not list(out.iterdir())


def test_a_corrupt_chunk_leaves_no_store(source: Path, tmp_path: Path) -> None:
    array = zarr.open_array(str(source / "0"))
    assert array.shape == PIXELS.shape
    for chunk in (source / "0" / "c").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    out = tmp_path / "out"
    done = run("preprocess", source, "-o", out)
    assert done.exit_code == 3 and not list(out.iterdir())


def test_fields_of_view_are_replaced_together_or_not_at_all(source: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other.zarr", tmp_path / "out"
    gq.write_image(PIXELS[:, ::-1], other)
    off = ("--q", "none", "--q-sum", "none", "--q-post", "none", "--sigma", "none")
    assert run("preprocess", source, other, "-o", out, *off, "--cap", 5).exit_code == 0
    before = gq.open_image(out / "slide.zarr").values
    for chunk in (other / "0" / "c").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    done = run("preprocess", source, other, "-o", out, *off, "--cap", 9, "--overwrite")
    assert done.exit_code == 3 and "other.zarr" in done.output
    np.testing.assert_array_equal(gq.open_image(out / "slide.zarr").values, before)
    assert sorted(p.name for p in out.iterdir()) == ["other.zarr", "slide.zarr"]
