"""SpatialData stores, read without importing spatialdata."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from gigaqc import list_images, open_image, open_labels
from gigaqc.errors import ElementError, ReadError

pytestmark = pytest.mark.same_process  # spatialdata does not write through a cluster

PIXELS = np.random.default_rng(2).integers(0, 99, (2, 64, 80)).astype(np.uint16)


def _sizes(write: Callable[..., Any]) -> Callable[..., Any]:
    """Pass chunk sizes where spatialdata 0.7 passes dask's chunks, which ome-zarr 0.18 refuses."""

    def plain(options: Any) -> Any:
        if isinstance(options, list):
            return [plain(o) for o in options]
        if options and "chunks" in options:
            chunks = tuple(c if isinstance(c, int) else max(c) for c in options["chunks"])
            return {**options, "chunks": chunks}
        return options

    def call(*args: Any, storage_options: Any = None, **kwargs: Any) -> Any:
        return write(*args, storage_options=plain(storage_options), **kwargs)

    return call


def _renamed(create: Callable[..., Any]) -> Callable[..., Any]:
    """Take options by the names of zarr 2, with which ome-zarr 0.12 writes container 0.1."""

    def call(*args: Any, **options: Any) -> Any:
        if "dimension_separator" in options:
            separator = options.pop("dimension_separator")
            options["chunk_key_encoding"] = {"name": "v2", "separator": separator}
        if "compressor" in options:
            options["compressors"] = options.pop("compressor")
        return create(*args, **options)

    return call


@pytest.fixture(scope="module", params=["container 0.1", "container 0.2"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write what the installed spatialdata writes, in the layouts of its format versions."""
    pytest.importorskip("spatialdata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import spatialdata
        import spatialdata._io.io_raster as raster
        from spatialdata._io import format as formats
        from spatialdata.models import Image2DModel, Labels2DModel

        patch = pytest.MonkeyPatch()
        for name in ("image", "labels", "multiscale", "multiscale_labels"):
            patch.setattr(
                raster, f"write_{name}_ngff", _sizes(getattr(raster, f"write_{name}_ngff"))
            )
        patch.setattr(zarr, "create_array", _renamed(zarr.create_array))
        named = {"dims": ("c", "y", "x"), "c_coords": ["DNA", "CD3"]}
        sdata = spatialdata.SpatialData(
            images={
                "one": Image2DModel.parse(PIXELS, **named),
                "many": Image2DModel.parse(PIXELS, scale_factors=[2], **named),
            },
            labels={"cells": Labels2DModel.parse(PIXELS[0].astype(np.int32), dims=("y", "x"))},
        )
        path = tmp_path_factory.mktemp("sdata") / "s.zarr"
        versions = {}
        if request.param == "container 0.1":
            versions = {"sdata_formats": [formats.SpatialDataContainerFormatV01()]}
        sdata.write(path, **versions)
        patch.undo()
    return path


def test_elements(store: Path) -> None:
    assert sorted(list_images(store)) == ["many", "one"]
    with pytest.raises(ElementError, match="name one of 'many', 'one'"):
        open_image(store)
    for name in ("one", "many"):
        image = open_image(store, element=name)
        assert image.dims == ("c", "y", "x")
        if name == "many":  # ome-zarr 0.18 drops the names of single-scale images
            assert list(image.c.values) == ["DNA", "CD3"]
        assert "pixel_size" not in image.attrs
        np.testing.assert_array_equal(image.values, PIXELS)
    assert dict(open_image(store, element="many", level=1).sizes) == {"c": 2, "y": 32, "x": 40}
    labels = open_labels(store)
    assert labels.dims == ("y", "x")
    np.testing.assert_array_equal(labels.values, PIXELS[0])
    with pytest.raises(ElementError, match="its label images are 'cells'"):
        open_labels(store, element="one")


@pytest.mark.parametrize("key", ["omero", "channels_metadata"])
def test_layout_of_a_single_scale_image(tmp_path: Path, key: str) -> None:
    root = zarr.open_group(str(tmp_path / "s.zarr"), mode="w", zarr_format=2)
    root.attrs["spatialdata_attrs"] = {"version": "0.1"}
    root.create_group("labels")
    group = root.create_group("images/one")
    data = group.create_array("0", shape=PIXELS.shape, dtype="u2", chunks=(1, 32, 32))
    data[...] = PIXELS
    to_global = {"type": "scale", "scale": [1.0, 9.0, 9.0], "output": {"name": "global"}}
    own = {"type": "scale", "scale": [1.0, 1.0, 1.0]}
    multiscale = {
        "version": "0.4-dev-spatialdata",
        "axes": [{"name": a, "type": "channel" if a == "c" else "space"} for a in "cyx"],
        "datasets": [{"path": "0", "coordinateTransformations": [own]}],
        "coordinateTransformations": [to_global],
    }
    group.attrs["multiscales"] = [multiscale]
    group.attrs[key] = {"channels": [{"label": "DNA"}, {"label": "CD3"}]}
    image = open_image(tmp_path / "s.zarr")
    assert list(image.c.values) == ["DNA", "CD3"]
    assert "pixel_size" not in image.attrs
    np.testing.assert_array_equal(image.values, PIXELS)
    with pytest.raises(ReadError, match="holds no label images"):
        open_labels(tmp_path / "s.zarr")


def test_spatialdata_is_not_imported(store: Path) -> None:
    code = (
        "import sys; from gigaqc import open_image; "
        f"open_image({str(store)!r}, element='one').compute(); "
        "assert 'spatialdata' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
