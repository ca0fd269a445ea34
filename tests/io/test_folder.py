"""Folders and globs of single-channel TIFFs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile

from gigaqc import list_images, open_image
from gigaqc.errors import ImageError, ImageTypeError, ParameterError, ReadError, SourceNotFoundError
from gigaqc.testing import forbid_compute

PLANES = np.random.default_rng(6).integers(0, 255, (3, 40, 50)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "field"
    path.mkdir()
    for name, plane in zip(("ch1", "ch2", "ch10"), PLANES, strict=True):
        tifffile.imwrite(path / f"{name}.tif", plane)
    (path / "notes.txt").write_text("not an image")
    return path


def test_files_are_channels_in_natural_order(folder: Path) -> None:
    with forbid_compute():
        image = open_image(folder)
    assert image.dims == ("c", "y", "x")
    assert list(image.c.values) == ["ch1", "ch2", "ch10"]
    assert image.data.chunksize == (1, 40, 50)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image)).values, PLANES)
    np.testing.assert_array_equal(image[1:, 3, ::2].values, PLANES[1:, 3, ::2])
    assert list_images(folder) == ["field"]
    assert open_image(folder, dims="zyx").dims == ("z", "y", "x")
    with pytest.raises(ParameterError, match="no levels"):
        open_image(folder, level=1)


def test_glob(folder: Path) -> None:
    image = open_image(folder / "ch1*.tif")
    assert list(image.c.values) == ["ch1", "ch10"]
    np.testing.assert_array_equal(image.values, PLANES[::2])
    with pytest.raises(SourceNotFoundError, match="no file fits"):
        open_image(folder / "none*.tif")


def test_folder_with_a_bracket_in_its_name(folder: Path) -> None:
    renamed = folder.rename(folder.with_name("field[1]"))
    assert list_images(renamed) == ["field[1]"]
    np.testing.assert_array_equal(open_image(renamed).values, PLANES)


def test_panel_names_only_where_it_says_which_file_is_meant(folder: Path) -> None:
    (folder / "panel.csv").write_text("channel,name\nch10,CD3\nch1,DNA\nch2,CD8\n")
    assert list(open_image(folder).c.values) == ["DNA", "CD8", "CD3"]
    (folder / "panel.csv").write_text("channel,name\n0,CD3\n1,DNA\n2,CD8\n")
    assert list(open_image(folder).c.values) == ["ch1", "ch2", "ch10"]
    (folder / "panel.csv").write_text("channel,name\nch10,CD3\nch1,DNA\n")
    assert list(open_image(folder).c.values) == ["ch1", "ch2", "ch10"]


@pytest.mark.parametrize("odd", [PLANES[0, :20], PLANES[0].astype(np.uint16)])
def test_the_odd_file_is_named(folder: Path, odd: np.ndarray) -> None:
    tifffile.imwrite(folder / "ch2.tif", odd)
    with pytest.raises(ReadError, match=r"ch2\.tif is .* most are \(40, 50\) uint8"):
        open_image(folder)


def test_files_of_several_planes_need_their_axes_named(tmp_path: Path) -> None:
    stacks = np.stack([PLANES, PLANES + 1])
    for k, stack in enumerate(stacks):
        tifffile.imwrite(tmp_path / f"t{k}.tif", stack, photometric="minisblack")
    with pytest.raises(ImageError, match=r"does not say which axis is which; pass dims=.* 'czyx'"):
        open_image(tmp_path)
    image = open_image(tmp_path, dims="tzyx")
    assert image.dims == ("t", "z", "y", "x")
    np.testing.assert_array_equal(image.values, stacks)
    np.testing.assert_array_equal(open_image(tmp_path, dims="tcyx")[1, 2].values, stacks[1, 2])


def test_a_file_of_several_series_is_named(folder: Path) -> None:
    with tifffile.TiffWriter(folder / "ch2.tif") as file:
        file.write(PLANES[0])
        file.write(PLANES[0, :9])
    with pytest.raises(ReadError, match=r"ch2\.tif in .* has 2 series"):
        open_image(folder)


@pytest.mark.parametrize("kind", ["folder", "glob", "list"])
def test_a_frame_a_file(tmp_path: Path, kind: str) -> None:
    """Natural order: frame_2 before frame_10; a list is taken in its order."""
    frames = np.random.default_rng(2).integers(0, 900, (12, 33, 41)).astype(np.uint16)
    for k, frame in enumerate(frames, start=1):
        tifffile.imwrite(tmp_path / f"frame_{k}.tif", frame)
    sources = {
        "folder": tmp_path,
        "glob": tmp_path / "frame_*.tif",
        "list": [tmp_path / f"frame_{k}.tif" for k in range(1, 13)],
    }
    with forbid_compute():
        image = open_image(sources[kind], dims="tyx")
    assert image.dims == ("t", "y", "x") and image.chunksizes["t"] == (1,) * 12
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image)).values, frames)
    assert list_images(sources[kind]) == [tmp_path.name]
    if kind == "list":
        backwards = open_image(sources[kind][::-1], dims="tyx")
        np.testing.assert_array_equal(backwards.values, frames[::-1])


def test_lists_of_files(tmp_path: Path, folder: Path) -> None:
    image = open_image([str(folder / "ch10.tif"), folder / "ch1.tif"])
    assert list(image.c.values) == ["ch10", "ch1"]
    np.testing.assert_array_equal(image.values, PLANES[[2, 0]])
    one = open_image([folder / "ch1.tif"], dims="tyx")
    np.testing.assert_array_equal(one.values, PLANES[:1])
    with pytest.raises(SourceNotFoundError, match="empty list"):
        open_image([])
    with pytest.raises(SourceNotFoundError, match=r"none\.tif' does not exist"):
        open_image([folder / "ch1.tif", folder / "none.tif"])
    with pytest.raises(ReadError, match="is no local file; a list names TIFF files"):
        open_image([folder])
    with pytest.raises(ImageTypeError, match="got int"):
        open_image([1])


def test_corrupt_file_is_named(folder: Path) -> None:
    image = open_image(folder)
    path = folder / "ch2.tif"
    os.truncate(path, path.stat().st_size - 1000)
    with pytest.raises(ReadError, match=r"chunk \(c=1, y=0, x=0\).*ch2\.tif"):
        open_image(folder).compute()
    path.unlink()
    with pytest.raises(ReadError, match=r"ch2\.tif"):
        image.compute()


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="it is empty"):
        open_image(tmp_path)
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(ReadError, match=r"it holds a\.csv"):
        open_image(tmp_path)
