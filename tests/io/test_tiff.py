"""TIFF in the forms that tifffile writes, each against the array that was written."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask
import fsspec
import numpy as np
import pytest
import tifffile

from gigaqc import list_images, open_image, open_labels
from gigaqc.errors import ElementError, ImageError, ParameterError, ReadError
from gigaqc.testing import forbid_compute

PIXELS = np.random.default_rng(3).integers(0, 4000, (3, 300, 500)).astype(np.uint16)
LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "zlib": {"compression": "zlib"},
    "tiles": {"tile": (128, 128)},
    "compressed tiles": {"tile": (128, 128), "compression": "zlib", "predictor": True},
    "tiny strips": {"rowsperstrip": 3},
    "compressed tiny strips": {"rowsperstrip": 3, "compression": "lzw"},
    "bigtiff": {"bigtiff": True, "tile": (64, 64)},
    "big-endian": {"byteorder": ">", "rowsperstrip": 16},
}


def save(path: Path, data: np.ndarray = PIXELS, axes: str | None = "CYX", **kwargs: Any) -> Path:
    metadata = {"axes": axes} if axes else None
    kwargs.setdefault("photometric", "minisblack")
    kwargs.setdefault("metadata", metadata)
    tifffile.imwrite(path, data, **kwargs)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    with forbid_compute():
        image = open_image(save(tmp_path / "a.tif", **LAYOUTS[layout]))
    assert image.dims == ("c", "y", "x")
    assert image.dtype == np.uint16
    assert image.data.chunksize == (1, 300, 500)
    np.testing.assert_array_equal(image.values, PIXELS)
    np.testing.assert_array_equal(image[1, 7:290:2, 490:].values, PIXELS[1, 7:290:2, 490:])


def test_tiny_tiles_and_strips_are_grouped_to_about_a_megapixel(tmp_path: Path) -> None:
    wide = np.arange(2100 * 2100, dtype=np.uint32).reshape(2100, 2100) % 251
    wide = wide.astype(np.uint8)
    tiles = open_image(save(tmp_path / "t.tif", wide, "YX", tile=(240, 240), compression="zlib"))
    assert tiles.data.chunksize == (1, 960, 960)
    np.testing.assert_array_equal(tiles.values[0], wide)
    strips = open_image(save(tmp_path / "s.tif", wide, "YX", rowsperstrip=7))
    assert strips.data.chunksize == (1, 497, 2100)
    np.testing.assert_array_equal(strips.values[0], wide)
    large = open_image(save(tmp_path / "l.tif", wide, "YX", tile=(512, 512)))
    assert large.data.chunksize == (1, 512, 512)
    chosen = open_image(tmp_path / "l.tif", chunks={"y": 700, "x": -1})
    assert chosen.data.chunksize == (1, 700, 2100)
    np.testing.assert_array_equal(chosen.values[0], wide)
    assert open_image(tmp_path / "l.tif", chunks=1024).data.chunksize == (1, 1024, 1024)
    assert open_image(tmp_path / "l.tif", chunks=(1, 64, 65)).data.chunksize == (1, 64, 65)


@pytest.mark.parametrize(
    "chunks", ["big", 0, -2, True, {"q": 3}, {"y": 1.5}, (4, 4), {"y": "auto"}]
)
def test_chunks_that_are_none(tmp_path: Path, chunks: Any) -> None:
    with pytest.raises(ParameterError, match="chunks:"):
        open_image(save(tmp_path / "a.tif"), chunks=chunks)


@pytest.mark.parametrize(
    ("axes", "shape", "dims"),
    [
        ("TYX", (3, 40, 50), {"t": 3, "c": 1, "y": 40, "x": 50}),
        ("QYX", (3, 40, 50), {"t": 3, "c": 1, "y": 40, "x": 50}),
        ("IYX", (3, 40, 50), {"t": 3, "c": 1, "y": 40, "x": 50}),
        ("ZCYX", (4, 3, 40, 50), {"c": 3, "z": 4, "y": 40, "x": 50}),
        ("TZCYX", (2, 4, 3, 40, 50), {"t": 2, "c": 3, "z": 4, "y": 40, "x": 50}),
    ],
)
def test_axes(tmp_path: Path, axes: str, shape: tuple[int, ...], dims: dict[str, int]) -> None:
    data = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    image = open_image(save(tmp_path / "a.tif", data, axes))
    assert dict(image.sizes) == dims
    raw = [a.lower().replace("q", "t").replace("i", "t") for a in axes]
    order = [raw.index(d) for d in dims if d in raw]
    np.testing.assert_array_equal(image.values.squeeze(), data.transpose(order))


def test_sequence_beside_a_time_axis_has_no_meaning_here(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.zeros((2, 3, 40, 50), np.uint8), "TQYX")
    with pytest.raises(ImageError, match="pass dims="):
        open_image(path)
    assert dict(open_image(path, dims="tcyx").sizes) == {"t": 2, "c": 3, "y": 40, "x": 50}


def test_dims_override(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", axes="QYX")
    assert open_image(path, dims="zyx").dims == ("z", "y", "x")
    assert open_image(path, dims="cyx", channels=["a", "b", "c"]).c.values.tolist() == [
        "a",
        "b",
        "c",
    ]
    with pytest.raises(ImageError, match="dims:"):
        open_image(path, dims="tcyx")


def test_colour_samples_are_channels(tmp_path: Path) -> None:
    data = np.moveaxis(PIXELS, 0, -1).astype(np.uint8)
    path = save(tmp_path / "rgb.tif", data, "YXS", photometric="rgb", tile=(64, 64))
    image = open_image(path)
    assert image.c.values.tolist() == ["R", "G", "B"]
    np.testing.assert_array_equal(image.values, np.moveaxis(data, -1, 0))
    planar = tmp_path / "planar.tif"
    tifffile.imwrite(planar, np.moveaxis(data, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(open_image(planar).values, image.values)
    both = save(tmp_path / "both.tif", np.stack([data, data]), "CYXS", photometric="rgb")
    with pytest.raises(ReadError, match="2 channels of 3 colour samples"):
        open_image(both)


def test_ome_names_pixel_size_pyramid_and_series(tmp_path: Path) -> None:
    path = tmp_path / "i.ome.tif"
    metadata = {
        "axes": "CYX", "Channel": {"Name": ["DNA", "CD3", "CD3"]}, "Name": "first",
        "PhysicalSizeX": 325.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.65,
    }  # fmt: skip
    with tifffile.TiffWriter(path) as writer:
        options = {"tile": (64, 64), "photometric": "minisblack"}
        writer.write(PIXELS, subifds=1, metadata=metadata, **options)
        writer.write(PIXELS[:, ::2, ::2], subfiletype=1, **options)
        writer.write(PIXELS[0], metadata={"axes": "YX", "Name": "second"}, **options)
    assert list_images(path) == ["first", "second"]
    with pytest.raises(ElementError, match="name one of 'first', 'second'"):
        open_image(path)
    image = open_image(path, element="first")
    assert image.c.values.tolist() == ["DNA", "CD3", "CD3 (2)"]
    assert image.attrs["renamed_channels"] == {"CD3 (2)": "CD3"}
    assert image.attrs["pixel_size"] == pytest.approx({"y": 650.0, "x": 325.0})
    assert image.attrs["unit"] == "nanometer"
    coarse = open_image(path, element="first", level=1)
    np.testing.assert_array_equal(coarse.values, PIXELS[:, ::2, ::2])
    assert coarse.attrs["pixel_size"] == pytest.approx({"y": 1300.0, "x": 650.0})
    with pytest.raises(ParameterError, match="has 2 levels for 'first'"):
        open_image(path, element="first", level=2)
    np.testing.assert_array_equal(open_image(path, element="second").values[0], PIXELS[0])


def test_imagej(tmp_path: Path) -> None:
    path = tmp_path / "ij.tif"
    metadata = {"axes": "ZCYX", "spacing": 2.0, "unit": "um", "Labels": list("abcdefghi")}
    data = np.stack([PIXELS] * 3)
    tifffile.imwrite(path, data, imagej=True, resolution=(4.0, 2.0), metadata=metadata)
    image = open_image(path)
    assert image.dims == ("c", "z", "y", "x")
    assert image.attrs["pixel_size"] == pytest.approx({"z": 2.0, "y": 0.5, "x": 0.25})
    assert image.attrs["unit"] == "micrometer"
    tifffile.imwrite(path, PIXELS, imagej=True, metadata={"axes": "CYX", "Labels": list("abc")})
    assert open_image(path).c.values.tolist() == ["a", "b", "c"]


def test_series_without_names_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as writer:
        for data in (PIXELS[0], PIXELS[0, :50, :60]):
            writer.write(data, photometric="minisblack", metadata=None)
    assert list_images(path) == ["0", "1"]
    assert open_image(path, element="1").shape == (1, 50, 60)


def test_labels(tmp_path: Path) -> None:
    labels = open_labels(save(tmp_path / "m.tif", PIXELS[0], "YX"))
    assert labels.dims == ("y", "x")
    np.testing.assert_array_equal(labels.values, PIXELS[0])
    with pytest.raises(ReadError, match="3 channels"):
        open_labels(save(tmp_path / "c.tif"))
    with pytest.raises(ReadError, match="labels are integers"):
        open_labels(save(tmp_path / "f.tif", PIXELS[0].astype(np.float32), "YX"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncated(tmp_path: Path, layout: str) -> None:
    path = save(tmp_path / "a.tif", **LAYOUTS[layout])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(ReadError, match=r"a\.tif.*(chunk \(c=\d|truncated)"):
        open_image(path).compute()


def test_truncated_without_a_shape_in_its_metadata_is_not_taken_for_shorter(
    tmp_path: Path,
) -> None:
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in PIXELS:
            writer.write(plane, photometric="minisblack", metadata=None, contiguous=False)
    assert open_image(path).sizes["t"] == 3
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ReadError, match="truncated, it ends at byte"):
        open_image(path)


def test_corrupt_tile_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", tile=(128, 128), compression="zlib")
    with tifffile.TiffFile(path) as file:
        page = file.pages[1]
        start, count = page.dataoffsets[6], page.databytecounts[6]
    content = bytearray(path.read_bytes())
    content[start : start + count] = b"\xff" * count
    path.write_bytes(content)
    image = open_image(path)
    with pytest.raises(ReadError, match=r"a\.tif .*chunk \(c=1, y=1, x=2\)") as caught:
        image.compute()
    assert caught.value.__cause__ is not None
    image[0].compute()


def test_pickled_and_in_other_processes_and_threads(tmp_path: Path) -> None:
    image = open_image(save(tmp_path / "a.tif", tile=(64, 64), compression="zlib"), chunks=64)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image)).values, PIXELS)
    with dask.config.set(scheduler="processes", num_workers=1):
        np.testing.assert_array_equal(image[:, :128, :128].values, PIXELS[:, :128, :128])
    with dask.config.set(scheduler="threads", num_workers=8):
        np.testing.assert_array_equal(image.values, PIXELS)


def test_a_file_that_is_replaced_is_opened_again(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif")
    open_image(path).compute()
    save(path, PIXELS[:, ::-1])
    np.testing.assert_array_equal(open_image(path).values, PIXELS[:, ::-1])


def test_urls(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", tile=(64, 64), compression="zlib")
    fsspec.filesystem("memory").put(str(path), "/gigaqc/a.tif")
    for url in (f"file://{path}", "memory://gigaqc/a.tif"):
        image = open_image(url)
        np.testing.assert_array_equal(image.values, PIXELS)
        assert image.attrs["source"] == url


def test_one_pixel_high(tmp_path: Path) -> None:
    image = open_image(save(tmp_path / "a.tif", PIXELS[0, :1], "YX"))
    assert dict(image.sizes) == {"c": 1, "y": 1, "x": 500}


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u4", "f4", "f8", "f2", "?"])
def test_dtypes(tmp_path: Path, dtype: str) -> None:
    data = (PIXELS[0] % 100).astype(dtype)
    image = open_image(save(tmp_path / "a.tif", data, "YX", photometric="minisblack"))
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.values[0], data)


def test_complex_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="complex64 cannot be measured"):
        open_image(save(tmp_path / "a.tif", PIXELS[0].astype(np.complex64), "YX"))
