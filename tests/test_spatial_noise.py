"""Noise of SpatialData elements: series along an axis or as a list, in a store and in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ChannelError, ElementError, ParameterError, WriteError
from gigaqc.image.labelled import as_image
from gigaqc.image.spatialdata import transformations_of
from gigaqc.spatial.elements import Form, add

pytestmark = pytest.mark.filterwarnings("ignore")  # those of spatialdata's own dependencies

RNG = np.random.default_rng(3)
# Pixels of 100 to 1100 grey levels, two a photon, as frames along c.
FRAMES = (
    100 + 2 * RNG.poisson(np.linspace(20, 500, 60 * 50).reshape(60, 50), (30, 60, 50))
).astype("u2")
CELLS = RNG.normal(20, 3, (2, 60, 50)).round().astype("u2")
CELLS[:, 20:] += 200


def make(folder: Path | None) -> Any:
    """A movie along c, cells of two channels, three frames of them, and a stack."""
    spatialdata = pytest.importorskip("spatialdata")
    from spatialdata.models import Image2DModel, Image3DModel
    from spatialdata.transformations import Identity, Scale

    systems = {"global": Identity(), "um": Scale([0.5, 0.5], axes=("y", "x"))}
    options: dict[str, Any] = {"dims": ("c", "y", "x"), "transformations": systems}
    two = {**options, "c_coords": ["DNA", "actin"]}
    images = {
        "movie": Image2DModel.parse(FRAMES, **options),
        "cells": Image2DModel.parse(CELLS, **two),
        **{f"f{k}": Image2DModel.parse(CELLS + np.uint16(k * k), **two) for k in range(3)},
        "other": Image2DModel.parse(CELLS[:, :9], **two),
        "stack": Image3DModel.parse(
            np.stack([CELLS + np.uint16(k * k) for k in range(4)], axis=1),
            dims=("c", "z", "y", "x"), c_coords=["DNA", "actin"],
        ),
    }  # fmt: skip
    sdata = spatialdata.SpatialData(images=images)
    if folder is None:
        return sdata
    empty = spatialdata.SpatialData()
    empty.write(folder / "s.zarr")
    held = [as_image(image) for image in images.values()]
    add(empty, "images", list(images), held, Form((), ()),
        [transformations_of(sdata, name) for name in images])  # fmt: skip
    return spatialdata.read_zarr(folder / "s.zarr")


@pytest.fixture(params=["memory", "store"])
def sdata(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return make(None if request.param == "memory" else tmp_path)


def again(sdata: Any) -> Any:
    """The same, read anew where there is a store."""
    import spatialdata

    return spatialdata.read_zarr(sdata.path) if sdata.is_backed() else sdata


def check(
    sdata: Any, layer: str, made: str, names: list[str], values: np.ndarray, rtol: float = 1e-10
) -> None:
    from spatialdata.models import get_model
    from spatialdata.transformations import get_transformation

    for held in (sdata, again(sdata)):
        element = held[made]
        get_model(element)().validate(element)
        assert element.c.values.tolist() == names
        np.testing.assert_allclose(element.values, values, rtol=rtol)
        systems = get_transformation(element, get_all=True)
        assert systems == get_transformation(held[layer], get_all=True)
    if sdata.is_backed():
        kinds = {p.name for p in Path(str(sdata.path)).iterdir()}
        assert not [name for name in kinds if name.startswith(".")]


def test_tsnr_of_frames_along_c(sdata: Any) -> None:
    assert gq.spatial.tsnr_map(sdata, "movie", detrend=1, ddof=1) is sdata
    expected = gq.tsnr_map(FRAMES, detrend=1, ddof=1, dims="tyx").values
    check(sdata, "movie", "movie_tsnr", ["tsnr"], expected[None])
    for held in (sdata, again(sdata)):
        about = held.attrs["gigaqc"]["movie_tsnr"]
        assert about["function"] == "tsnr_map" and about["detrend"] == 1
        assert about["numbers"]["movie"]["median"] == pytest.approx(np.median(expected))


def test_tsnr_of_a_list_of_elements(sdata: Any) -> None:
    gq.spatial.tsnr_map(sdata, ["f0", "f1", "f2"], "noise", detrend=0)
    series = np.stack([CELLS + np.uint16(k * k) for k in range(3)])
    expected = gq.tsnr_map(series, detrend=0, dims="tcyx").values
    check(sdata, "f0", "noise", ["DNA", "actin"], expected)
    assert set(sdata.attrs["gigaqc"]["noise"]["numbers"]) == {"DNA", "actin"}


def test_tsnr_of_frames_along_z(sdata: Any) -> None:
    gq.spatial.tsnr_map(sdata, "stack", frames="z", detrend=0, chunks=32)
    series = np.stack([CELLS + np.uint16(k * k) for k in range(4)])
    expected = gq.tsnr_map(series, detrend=0, dims="tcyx").values
    for held in (sdata, again(sdata)):
        np.testing.assert_allclose(held["stack_tsnr"].values, expected, rtol=1e-10)
        assert max(held["stack_tsnr"].chunksizes["y"]) == 32


def test_isnr(sdata: Any) -> None:
    gq.spatial.isnr_map(sdata, "cells", n_clusters=2, correction=None)
    found = gq.isnr(CELLS, n_clusters=2, correction=None).compute()
    expected = CELLS / found.noise.values[:, None, None]
    check(sdata, "cells", "cells_isnr", ["DNA", "actin"], expected, rtol=1e-6)
    numbers = again(sdata).attrs["gigaqc"]["cells_isnr"]["numbers"]
    assert numbers["actin"]["isnr"] == pytest.approx(float(found.isnr[1]))


def test_gain_of_frames_along_c(sdata: Any) -> None:
    """Two grey levels an electron."""
    assert gq.spatial.gain_map(sdata, "movie", estimator="variance", offset=100) is sdata
    found = gq.gain_map(
        as_image(FRAMES, dims="tyx"), estimator="variance", offset=100
    ).compute()  # fmt: skip
    names = ["mean_map", "variance_map", "gain_map"]
    values = np.stack([found[name].values.squeeze() for name in names])
    check(sdata, "movie", "movie_gain", names, values)
    about = again(sdata).attrs["gigaqc"]["movie_gain"]
    assert about["frames"] == 30 and about["estimator"] == "variance"
    assert about["numbers"]["movie"]["gain"] == pytest.approx(float(found["gain"].squeeze()))
    assert about["numbers"]["movie"]["gain"] == pytest.approx(0.5, rel=0.1)


def test_nothing_is_replaced_unasked(sdata: Any) -> None:
    for function, layer in ((gq.spatial.tsnr_map, "movie"), (gq.spatial.isnr_map, "cells")):
        function(sdata, layer, "out", overwrite=True)
        with testing.forbid_compute(), pytest.raises(WriteError, match="'out' exists; pass overwr"):
            function(sdata, layer, "out")


@pytest.mark.parametrize(
    ("layer", "options", "error", "message"),
    [
        ("none", {}, ElementError, "no image is named 'none'"),
        (["f0", "f1"], {}, ParameterError, "output_layer: name the element"),
        ([], {"output_layer": "a"}, ParameterError, "img_layer: got 0 names"),
        (["f0", "other"], {"output_layer": "a"}, ParameterError, "the frames have shapes"),
        (["f0", "movie"], {"output_layer": "a"}, ChannelError, "images: the first has channels"),
        ("movie", {"frames": "t"}, ParameterError, "frames: got 't'; pass 'c' or 'z'"),
        ("movie", {"frames": "z"}, ParameterError, "frames: 'movie' has no axis 'z'"),
        ("movie", {"output_layer": "a/b"}, ParameterError, "output_layer: got 'a/b'"),
        ("movie", {"output_layer": ["a", "b"]}, ParameterError, "for 2 outputs"),
        ("movie", {"chunks": 0}, ParameterError, "chunks: got 0"),
        ("movie", {"detrend": 30}, ParameterError, "detrend: 30"),
    ],
)
def test_wrong_arguments(layer: Any, options: dict[str, Any], error: type, message: str) -> None:
    sdata = make(None)
    before = set(sdata.images)
    with testing.forbid_compute(), pytest.raises(error, match=message):
        gq.spatial.tsnr_map(sdata, layer, **options)
    assert set(sdata.images) == before


def test_nothing_is_left_of_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sdata = make(tmp_path)
    before = sorted(p for p in Path(str(sdata.path)).rglob("*"))

    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gigaqc.spatial.elements.write_levels", fail)
    with pytest.raises(KeyboardInterrupt):
        gq.spatial.tsnr_map(sdata, "movie")
    assert sorted(p for p in Path(str(sdata.path)).rglob("*")) == before
    assert "movie_tsnr" not in sdata and "gigaqc" not in sdata.attrs
