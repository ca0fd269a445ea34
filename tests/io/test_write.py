"""OME-Zarr written and read back; complete or absent."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from gigaqc import open_image, write_image
from gigaqc.errors import ParameterError, WriteError

PIXELS = np.random.default_rng(7).integers(0, 4000, (2, 75, 90)).astype(np.uint16)


def image(data: Any = PIXELS, chunks: Any = (1, 32, 32), **attrs: Any) -> xr.DataArray:
    return xr.DataArray(
        da.from_array(data, chunks=chunks, name=False),
        dims=("c", "y", "x"),
        coords={"c": ["DNA", "CD3"]},
        attrs=attrs,
    )


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    write_image(image(pixel_size={"y": 0.5, "x": 0.25}, unit="micrometer"), path)
    back = open_image(path)
    np.testing.assert_array_equal(back.values, PIXELS)
    assert back.data.chunksize == (1, 32, 32)
    assert list(back.c.values) == ["DNA", "CD3"]
    assert back.attrs["pixel_size"] == {"y": 0.5, "x": 0.25}
    assert back.attrs["unit"] == "micrometer"
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    assert zarr.open_group(str(path), mode="r").attrs["ome"]["version"] == "0.5"


@pytest.mark.parametrize("dtype", ["?", "i1", ">i2", "u4", "i8", "f2", "f4", "f8"])
def test_dtypes(tmp_path: Path, dtype: str) -> None:
    data = (PIXELS % 100).astype(dtype)
    write_image(image(data), tmp_path / "a.zarr", scale_factors=(2,))
    back = open_image(tmp_path / "a.zarr")
    assert back.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(back.values, data)


def test_levels_are_means(tmp_path: Path) -> None:
    write_image(image(pixel_size={"y": 0.5, "x": 0.5}), tmp_path / "a.zarr", scale_factors=(2, 3))
    half = PIXELS[:, :74, :90].reshape(2, 37, 2, 45, 2).mean(axis=(2, 4))
    level = open_image(tmp_path / "a.zarr", level=1)
    np.testing.assert_array_equal(level.values, np.rint(half))
    assert level.attrs["pixel_size"] == {"y": 1.0, "x": 1.0}
    third = open_image(tmp_path / "a.zarr", level=2)
    assert third.shape == (2, 12, 15)
    assert third.attrs["pixel_size"] == {"y": 3.0, "x": 3.0}


def test_uneven_and_large_blocks(tmp_path: Path) -> None:
    write_image(image(chunks=((1, 1), (20, 55), (50, 40))), tmp_path / "a.zarr")
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr").values, PIXELS)
    large = np.zeros((2, 2100, 2100), np.uint8)
    write_image(image(large, chunks=-1), tmp_path / "b.zarr")
    assert open_image(tmp_path / "b.zarr").data.chunksize == (2, 1024, 1024)


def test_every_axis_and_plain_arrays(tmp_path: Path) -> None:
    data = np.arange(2 * 3 * 2 * 9 * 8.0).reshape(2, 3, 2, 9, 8)
    write_image(xr.DataArray(data, dims=tuple("tczyx")), tmp_path / "a.zarr")
    assert open_image(tmp_path / "a.zarr").dims == tuple("tczyx")
    write_image(data[0, 0, 0], tmp_path / "b.zarr")
    assert open_image(tmp_path / "b.zarr").dims == ("c", "y", "x")


def test_over_what_it_is_read_from(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    write_image(image(), path)
    with pytest.raises(WriteError, match="pass overwrite=True"):
        write_image(image(), path)
    write_image(open_image(path) + 1, path, overwrite=True)
    np.testing.assert_array_equal(open_image(path).values, PIXELS + 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_interrupted(tmp_path: Path, error: BaseException) -> None:
    def fail(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info and block_info[0]["chunk-location"] == (1, 1, 1):
            raise error
        return block

    path = tmp_path / "a.zarr"
    write_image(image(), path)
    broken = image().copy(data=image().data.map_blocks(fail, dtype="u2", meta=np.empty((0, 0, 0))))
    wanted = WriteError if isinstance(error, OSError) else KeyboardInterrupt
    for target in (path, tmp_path / "b.zarr"):
        with pytest.raises(wanted):
            write_image(broken, target, overwrite=True)
    # A task that was at work when the run ended takes away itself what it wrote after that.
    end = time.monotonic() + 30
    while [p.name for p in tmp_path.iterdir()] != ["a.zarr"] and time.monotonic() < end:
        time.sleep(0.05)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    np.testing.assert_array_equal(open_image(path).values, PIXELS)


def test_targets_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="does not exist; create it"):
        write_image(image(), tmp_path / "no" / "a.zarr")
    with pytest.raises(WriteError, match="is a URL"):
        write_image(image(), "memory://a.zarr")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(WriteError, match="no zarr store and is not replaced"):
        write_image(image(), tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"


@pytest.mark.parametrize(
    "factors",
    [
        {1: 2, 2: {"y": 3, "x": 1}},
        {"scale2": {"y": 3}, "scale1": 2},  # in their order, whatever that of the dict
        {"s1": {"y": 2, "x": 2}, "s2": {"y": 3, "x": 1, "c": 1}},
        [{"y": 2, "x": 2}, {"y": 3}],
        (np.int64(2), {"y": 3}),
    ],
)
def test_factors_by_axis_and_by_level(tmp_path: Path, factors: Any) -> None:
    given = image(pixel_size={"y": 0.5, "x": 0.5})
    write_image(given, tmp_path / "a.zarr", scale_factors=factors)
    write_image(given, tmp_path / "b.zarr", scale_factors=[2])
    half = open_image(tmp_path / "b.zarr", level=1).values
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr", level=1).values, half)
    last = open_image(tmp_path / "a.zarr", level=2)
    sixth = half[:, :36].reshape(2, 12, 3, -1).mean(axis=2)
    np.testing.assert_array_equal(last.values, np.rint(sixth))
    assert last.attrs["pixel_size"] == {"y": 3.0, "x": 1.0}


def test_planes_become_fewer_too(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).random((5, 9, 8))
    write_image(
        xr.DataArray(stack, dims=tuple("zyx"), attrs={"pixel_size": {"z": 2.0}}),
        tmp_path / "a.zarr", scale_factors=[{"z": 2, "y": 3, "x": 2}],
    )  # fmt: skip
    found = open_image(tmp_path / "a.zarr", level=1)
    np.testing.assert_allclose(
        found.values.reshape(2, 3, 4),
        stack[:4].reshape(2, 2, 3, 3, 4, 2).mean(axis=(1, 3, 5)), rtol=1e-12,
    )  # fmt: skip
    assert found.attrs["pixel_size"]["z"] == 4.0


def test_the_pixel_size_of_a_level_is_that_of_its_factors(tmp_path: Path) -> None:
    """Of 7 pixels 3 and then 1 are left, each four times as wide, and not seven times."""
    size = {"pixel_size": {"y": 0.5, "x": 0.5}}
    small = xr.DataArray(PIXELS[0, :7, :7], dims=tuple("yx"), attrs=size)
    write_image(small, tmp_path / "a.zarr", scale_factors=(2, 2))
    assert open_image(tmp_path / "a.zarr", level=2).attrs["pixel_size"]["y"] == 2.0


@pytest.mark.parametrize(
    "factors, said",
    [
        ({"y": 2, "x": 2}, r"put the factors of one level into a list: \[\{'y': 2, 'x': 2\}\]"),
        ({1: 2, 3: 2}, r"got levels \[1, 3\]; name the coarser levels 1, 2"),
        ({"scale0": 1, "scale1": 2}, "without a gap"),
        ({"half": 2}, r"got levels \['half'\]"),
        ([{"z": 2}], "with a factor of 'z'; the image can be coarser along y, x"),
        ([{"c": 2}], "with a factor of 'c'"),
        ([{"y": 1, "x": 1}], "pass whole numbers from 2"),
        ([{}], "pass whole numbers from 2"),
        ([{"y": 2.5}], "pass whole numbers from 2"),
        (2, "got 2; pass whole numbers from 2, such as"),
        ("2", "got '2'; pass whole numbers"),
        ({1: {"y": 2}, 2: {"y": 64}}, "shrink 75 pixels along y to nothing; pass fewer levels"),
    ],
)
def test_factors_that_are_none(tmp_path: Path, factors: Any, said: str) -> None:
    with pytest.raises(ParameterError, match=f"scale_factors: .*{said}"):
        write_image(image(), tmp_path / "a.zarr", scale_factors=factors)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("factors", [(1,), (2.5,), (0,), (True,), (2, 64)])
def test_scale_factors(tmp_path: Path, factors: Any) -> None:
    with pytest.raises(ParameterError, match="scale_factors:"):
        write_image(image(), tmp_path / "a.zarr", scale_factors=factors)
    assert not list(tmp_path.iterdir())
