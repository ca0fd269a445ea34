"""zarr arrays and groups, OME-Zarr of every version, plates."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask
import fsspec
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from gigaqc import list_images, open_image, open_labels
from gigaqc.errors import ElementError, ImageError, ParameterError, ReadError
from gigaqc.testing import CountingStore, count_reads, forbid_compute

PIXELS = np.random.default_rng(1).integers(0, 4000, (2, 70, 90)).astype(np.uint16)


def save(path: Path, data: np.ndarray = PIXELS, zarr_format: int = 3, **kwargs: Any) -> Path:
    chunks = kwargs.pop("chunks", (*(1,) * (data.ndim - 2), 32, 32))
    array = zarr.create_array(
        str(path), shape=data.shape, dtype=data.dtype, chunks=chunks, zarr_format=zarr_format,
        **kwargs,
    )  # fmt: skip
    array[...] = data
    return path


def save_ome(
    path: Path, version: str = "0.5", levels: int = 2, axes: str = "cyx", **extra: Any
) -> Path:
    zarr_format = 3 if version == "0.5" else 2
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    datasets = []
    for level in range(levels):
        data = PIXELS.reshape((1,) * (len(axes) - 3) + PIXELS.shape)
        if axes == "tczyx":
            data = PIXELS[None, :, None]
        data = data[..., :: 2**level, :: 2**level]
        array = group.create_array(
            str(level), shape=data.shape, dtype="u2", chunks=(*(1,) * (data.ndim - 2), 32, 32)
        )
        array[...] = data
        scale = [0.5 * 2**level if a in "yx" else 2.0 if a == "z" else 1.0 for a in axes]
        transforms = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    kinds = {"t": "time", "c": "channel"}
    entries: Any = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    for entry in entries:
        if entry["type"] == "space":
            entry["unit"] = "micrometer"
    multiscale: dict[str, Any] = {"datasets": datasets, "version": version}
    if version == "0.3":
        multiscale["axes"] = list(axes)
    elif version > "0.3":
        multiscale["axes"] = entries
    ome = {"multiscales": [multiscale], **extra}
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", **ome}
    else:
        group.attrs.update(ome)
    return path


OMERO = {"omero": {"channels": [{"label": "DNA"}, {"label": "CD3"}]}}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_array_with_the_stores_own_chunks(tmp_path: Path, zarr_format: int) -> None:
    path = save(tmp_path / "a.zarr", zarr_format=zarr_format)
    image = open_image(path, channels=["DNA", "CD3"])
    assert image.dims == ("c", "y", "x")
    assert list(image.c.values) == ["DNA", "CD3"]
    assert image.data.chunksize == (1, 32, 32)
    assert image.attrs == {"source": str(path), "element": "a"}
    np.testing.assert_array_equal(image.values, PIXELS)
    assert list_images(path) == ["a"]


def test_every_chunk_is_read_once_and_none_at_open(tmp_path: Path) -> None:
    store = CountingStore(LocalStore(save(tmp_path / "a.zarr")))
    with forbid_compute():
        image = open_image(store, dims="tyx")
        labels = open_labels(store)
    assert not count_reads(store)
    assert image.dims == ("t", "y", "x")
    assert image.c.item() == "0"
    assert labels.dims == ("z", "y", "x")
    image.compute()
    assert set(count_reads(store).values()) == {1}
    assert len(count_reads(store)) == 2 * 3 * 3


def test_dims_names_in_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zarr", dimension_names=["time", "Y", "X"])
    assert dict(open_image(path).sizes) == {"t": 2, "c": 1, "y": 70, "x": 90}
    group = zarr.open_group(str(tmp_path / "b.zarr"), mode="w", zarr_format=2)
    array = group.create_array("image", shape=(2, 8, 9), dtype="u1", chunks=(1, 8, 9))
    array.attrs["_ARRAY_DIMENSIONS"] = ["z", "y", "x"]
    assert open_image(tmp_path / "b.zarr").dims == ("c", "z", "y", "x")


def test_axes_are_brought_into_order_in_the_read_itself(tmp_path: Path) -> None:
    data = np.moveaxis(PIXELS, 0, -1)
    path = save(tmp_path / "a.zarr", data, chunks=(32, 32, 2))
    image = open_image(path, dims="yxc")
    np.testing.assert_array_equal(image.values, PIXELS)
    assert image.data.chunksize == (2, 32, 32)
    block = image.data.blocks[0, 0, 0].compute()
    assert block.flags.c_contiguous
    np.testing.assert_array_equal(image[1, 5, ::3].values, PIXELS[1, 5, ::3])


def test_an_array_that_does_not_say_its_axes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zarr", PIXELS[None])
    with pytest.raises(ImageError, match="pass dims="):
        open_image(path)
    with pytest.raises(ImageError, match="4 dimensions"):
        open_image(path, dims="cyx")
    assert open_image(path, dims="tcyx").sizes["t"] == 1


@pytest.mark.parametrize("version", ["0.1", "0.3", "0.4", "0.5"])
def test_ome_zarr_versions(tmp_path: Path, version: str) -> None:
    axes = "cyx" if version >= "0.4" else "tczyx"
    path = save_ome(tmp_path / "i.ome.zarr", version, axes=axes, **OMERO)
    image = open_image(path)
    wanted = {"c": 2, "y": 70, "x": 90}
    if version == "0.3":  # axes are named, so t and z are the writer's
        wanted = {"t": 1, "c": 2, "z": 1, "y": 70, "x": 90}
    assert dict(image.sizes) == wanted
    assert list(image.c.values) == ["DNA", "CD3"]
    np.testing.assert_array_equal(image.values.squeeze(), PIXELS)
    if version >= "0.4":
        assert image.attrs["pixel_size"] == {"y": 0.5, "x": 0.5}
        assert image.attrs["unit"] == "micrometer"
        coarse = open_image(path, level=1)
        assert coarse.attrs["pixel_size"] == {"y": 1.0, "x": 1.0}
        assert dict(coarse.sizes) == {"c": 2, "y": 35, "x": 45}
    with pytest.raises(ParameterError, match=r"level: .* has 2 levels"):
        open_image(path, level=2)
    assert list_images(path) == ["i"]


def test_levels_that_are_missing_are_passed_over(tmp_path: Path) -> None:
    import shutil

    path = save_ome(tmp_path / "i.zarr", levels=3)
    shutil.rmtree(path / "0")
    assert dict(open_image(path).sizes) == {"c": 2, "y": 35, "x": 45}
    with pytest.raises(ParameterError, match=r"\['1', '2'\]"):
        open_image(path, level=2)


def test_metadata_names_that_repeat_get_a_suffix(tmp_path: Path) -> None:
    omero = {"omero": {"channels": [{"label": "DNA"}, {"label": "DNA"}]}}
    image = open_image(save_ome(tmp_path / "i.zarr", **omero))
    assert list(image.c.values) == ["DNA", "DNA (2)"]
    assert image.attrs["renamed_channels"] == {"DNA (2)": "DNA"}
    named = open_image(tmp_path / "i.zarr", channels=["a", "b"])
    assert "renamed_channels" not in named.attrs


def test_labels_of_an_image(tmp_path: Path) -> None:
    path = save_ome(tmp_path / "i.zarr")
    zarr.open_group(str(path / "labels"), mode="w")
    (path / "labels" / "README").write_text("no part of the store")
    for name in ("cells", "nuclei"):
        save_ome(path / "labels" / name, axes="cyx")
    with pytest.raises(ElementError, match="'cells', 'nuclei'"):
        open_labels(path)
    with pytest.raises(ReadError, match="2 channels"):
        open_labels(path, element="cells")
    assert list_images(path) == ["i"]


def test_floats_are_no_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zarr", PIXELS[0].astype(np.float32))
    with pytest.raises(ReadError, match="float32, labels are integers"):
        open_labels(path)


def test_group_of_several_images(tmp_path: Path) -> None:
    root = tmp_path / "g.zarr"
    zarr.open_group(str(root), mode="w")
    save(root / "fov10")
    save(root / "fov2")
    save_ome(root / "deep" / "image", **OMERO)
    save(root / "table", np.arange(5.0), chunks=(5,))
    zarr.open_group(str(root / "deep"), mode="a")
    assert list_images(root) == ["deep/image", "fov2", "fov10"]
    assert list(open_image(root, element="deep/image").c.values) == ["DNA", "CD3"]
    with pytest.raises(ElementError, match="holds 3 images; name one of 'deep/image', 'fov2'"):
        open_image(root)
    with pytest.raises(ElementError, match="no 'fov3'; its images are 'deep/image'"):
        open_image(root, element="fov3")


def test_plate(tmp_path: Path) -> None:
    root = tmp_path / "p.zarr"
    group = zarr.open_group(str(root), mode="w")
    group.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "A/1"}]}}
    well = group.create_group("A/1")
    well.attrs["ome"] = {"well": {"images": [{"path": "0"}, {"path": "1"}]}}
    for field in "01":
        save_ome(root / "A" / "1" / field, **OMERO)
    assert list_images(root) == ["A/1/0", "A/1/1"]
    assert open_image(root, element="A/1/1").shape == PIXELS.shape


def test_empty_or_broken_groups(tmp_path: Path) -> None:
    zarr.open_group(str(tmp_path / "e.zarr"), mode="w")
    with pytest.raises(ReadError, match="holds no images"):
        open_image(tmp_path / "e.zarr")
    save_ome(tmp_path / "gone.zarr", levels=0)
    with pytest.raises(ReadError, match="none is there"):
        open_image(tmp_path / "gone.zarr")
    (tmp_path / "bad.zarr").mkdir()
    (tmp_path / "bad.zarr" / "zarr.json").write_text("{not json")
    with pytest.raises(ReadError, match="metadata is missing or corrupt"):
        open_image(tmp_path / "bad.zarr")


@pytest.mark.parametrize(("zarr_format", "chunk"), [(2, "1.2.0"), (3, "c/1/2/0")])
def test_corrupt_chunk_is_named_and_missing_chunk_is_the_fill_value(
    tmp_path: Path, zarr_format: int, chunk: str
) -> None:
    path = save(tmp_path / "a.zarr", zarr_format=zarr_format)
    (path / chunk).write_bytes(b"no chunk of anything")
    image = open_image(path)
    with pytest.raises(ReadError, match=r"a\.zarr .*chunk \(c=1, y=2, x=0\)") as caught:
        image.compute()
    assert caught.value.__cause__ is not None
    with pytest.raises(ReadError, match=r"chunk \(c=1, y=2, x=0\)"):
        open_image(path, chunks={"c": 2, "y": -1, "x": -1}).compute()
    (path / chunk).unlink()
    assert not image.values[1, 64:, :32].any()


def test_tiny_chunks_of_shards_are_read_together(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zarr", shards=(1, 64, 64))
    image = open_image(path)
    assert image.data.chunksize == (1, 64, 64)
    np.testing.assert_array_equal(image.values, PIXELS)


def test_urls(tmp_path: Path) -> None:
    path = save_ome(tmp_path / "i.zarr", **OMERO)
    memory = fsspec.filesystem("memory")
    memory.put(str(path), "/gigaqc/i.zarr", recursive=True)
    for url in (f"file://{path}", "memory://gigaqc/i.zarr"):
        image = open_image(url)
        assert image.attrs["source"] == url
        assert list(image.c.values) == ["DNA", "CD3"]
        np.testing.assert_array_equal(image.values, PIXELS)


def test_other_processes_open_it_for_themselves(tmp_path: Path) -> None:
    image = open_image(save(tmp_path / "a.zarr"))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image)).values, PIXELS)
    with dask.config.set(scheduler="processes", num_workers=1):
        np.testing.assert_array_equal(image.values, PIXELS)


def test_zarr_objects(tmp_path: Path) -> None:
    path = save_ome(tmp_path / "i.zarr", **OMERO)
    group = zarr.open_group(str(path), mode="r")
    assert open_image(group).shape == PIXELS.shape
    assert open_image(group["0"]).shape == PIXELS.shape
