"""What is said about sources that cannot be opened, and the lazy image itself."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr

from gigaqc import list_images, open_image, open_labels
from gigaqc.base.formatting import in_one_unit, unit_name
from gigaqc.errors import (
    ChannelError,
    ImageError,
    ImageTypeError,
    ParameterError,
    ReadError,
    SourceNotFoundError,
)
from gigaqc.image.labelled import as_image
from gigaqc.readers.raw import grouped
from gigaqc.stores.chunks import slabs


@pytest.mark.parametrize(
    "source", ["no/such/image.tif", "memory://no/such.zarr", "memory://no/such.tif", ""]
)
@pytest.mark.parametrize("function", [open_image, list_images, open_labels])
def test_missing(source: str, function: Any) -> None:
    with pytest.raises(SourceNotFoundError, match=r"does not exist|empty path"):
        function(source)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", b"a text"), ("a.png", b"\x89PNG\r\n\x1a\n"), ("a.tif", b"no tiff"), ("a.tif", b"")],
)
def test_not_an_image(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    wanted = "is empty" if not content else "not an image"
    with pytest.raises(ReadError, match=f"{wanted}.*gigaqc reads zarr"):
        open_image(tmp_path / name)


@pytest.mark.parametrize("content", [b"II*\0", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08\0\0"])
def test_not_even_a_first_page(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ReadError, match=r"a\.tif: a TIFF file"):
        open_image(tmp_path / "a.tif")


def test_unknown_protocol_and_unreachable_address() -> None:
    with pytest.raises(ReadError, match=r"protocol of 'foo://x/y\.tif' is not known"):
        open_image("foo://x/y.tif")
    pytest.importorskip("aiohttp")
    with pytest.raises(ReadError, match="cannot be reached"):
        open_image("http://127.0.0.1:9/x.tif")


@pytest.mark.parametrize("source", [None, 3, np.zeros((3, 4)), [3]])
def test_not_a_path(source: Any) -> None:
    with pytest.raises(ImageTypeError, match="pass a path"):
        open_image(source)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.tif"
    path.write_bytes(b"II*\0")

    def refuse(file: Any, *args: Any, **kwargs: Any) -> Any:  # a chmod would not stop root
        if os.fspath(file) == str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return original(file, *args, **kwargs)

    original = builtins.open
    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(ReadError, match=r"no permission to read '.*secret\.tif'"):
        open_image(path)


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    path = tmp_path / "a.zarr"
    array = zarr.create_array(str(path), shape=(2, 40, 50), dtype="u2", chunks=(1, 16, 16))
    array[...] = 7
    return path


@pytest.mark.parametrize("level", [1, -1, "0", 1.0, True])
def test_level(image_path: Path, level: Any) -> None:
    with pytest.raises(ParameterError, match="level:"):
        open_image(image_path, level=level)


@pytest.mark.parametrize("channels", [["a"], ["a", "a"], ["a", " "], ["a", "b", "c"]])
def test_channels(image_path: Path, channels: list[str]) -> None:
    with pytest.raises(ChannelError, match="channels:"):
        open_image(image_path, channels=channels)


@pytest.mark.parametrize("dims", ["yx", "tcyx", "cyy", "qyx", "tcz"])
def test_dims(image_path: Path, dims: str) -> None:
    with pytest.raises(ImageError):
        open_image(image_path, dims=dims)


def test_it_is_already_what_as_image_makes(image_path: Path) -> None:
    for options in ({}, {"channels": ["a", "b"]}, {"dims": "tyx", "channels": ["a"]}):
        image = open_image(image_path, **options)
        canonical = as_image(image)
        if "dims" in options:
            assert canonical.dims == ("t", "c", "y", "x")
            assert list(canonical.c.values) == ["a"]
        else:
            assert canonical.identical(image)


def test_indexing_as_numpy_does(image_path: Path) -> None:
    image = open_image(image_path)
    data = image.values
    for key in (np.s_[0], np.s_[1, 3:9, -1], np.s_[:, ::3, 5:2], np.s_[..., 2]):
        np.testing.assert_array_equal(image.data[key].compute(), data[key])
    assert image.name is None
    with dask.config.set(scheduler="processes", num_workers=1):
        assert (image.values == 7).all()


def test_units() -> None:
    assert unit_name("\u00b5m") == unit_name("\u03bcm") == unit_name("um") == "micrometer"
    assert unit_name("pixel") is unit_name(None) is None
    sizes, unit = in_one_unit({"x": (0.5, "um"), "y": (500, "nm"), "z": (0, "um")})
    assert sizes == pytest.approx({"x": 0.5, "y": 0.5})
    assert unit == "micrometer"


def test_grouping() -> None:
    assert grouped((5000, 5000), (64, 64), "yx") == (1024, 1024)
    assert grouped((5000, 5000), (600, 600), "yx") == (600, 600)
    assert grouped((100, 100), (64, 64), "yx") == (100, 100)
    assert grouped((9000, 20000), (1, 20000), "yx") == (52, 20000)
    assert grouped((3, 9000, 9000, 3), (1, 240, 240, 3), "tyxc") == (1, 960, 960, 3)
    assert slabs((30, 6, 68, 68)) == (30, 6, 68, 68)
    assert slabs((2, 64, 512, 512)) == (1, 4, 512, 512)
