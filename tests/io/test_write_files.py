"""OME-TIFF and NIfTI written: values, names, sizes and affines come back; complete or absent."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import MissingDependencyError, ParameterError, WriteError
from gigaqc.writers import tiff
from gigaqc.writers.write import write_together

RNG = np.random.default_rng(11)
SUFFIXES = [".tif", ".ome.tiff", ".nii", ".nii.gz"]
TYPES = ["?", "u1", "i1", ">u2", "<i2", "u4", ">i4", "f2", "f4", ">f8"]
AFFINE = [[-2.0, 0.1, 0.0, 90.5], [0.1, 2.0, 0.0, -126.0], [0.0, 0.0, 3.0, -72.0], [0, 0, 0, 1.0]]


def image(shape: dict[str, int], dtype: str = "u2", side: int = 32, **attrs: Any) -> xr.DataArray:
    values = RNG.integers(0, 2 if dtype == "?" else 100, tuple(shape.values())).astype(dtype)
    chunks = tuple(side if d in "yx" else 1 for d in shape)
    data = da.from_array(values, chunks=chunks, name=False)
    coords = {"c": [f"ch {k}" for k in range(shape["c"])]} if "c" in shape else {}
    return xr.DataArray(data, dims=tuple(shape), coords=coords, attrs=attrs)


@pytest.fixture
def nibabel() -> Any:
    return pytest.importorskip("nibabel")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_types_come_back(tmp_path: Path, suffix: str, dtype: str) -> None:
    path = tmp_path / f"a{suffix}"
    source = image({"z": 3, "y": 75, "x": 90}, dtype)
    gq.write_image(source, path)
    back = gq.open_image(path)
    stored = {"?": "u1", "f2": "f4"}.get(dtype, dtype)
    assert back.dtype.newbyteorder("=") == np.dtype(stored).newbyteorder("=")
    np.testing.assert_array_equal(back.transpose("c", "z", "y", "x").values[0], source.values)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_long_integers(tmp_path: Path, dtype: str, nibabel: Any) -> None:
    source = image({"y": 20, "x": 30}, dtype) * np.array(2**55, dtype)
    gq.write_image(source, tmp_path / "a.nii")
    np.testing.assert_array_equal(gq.open_image(tmp_path / "a.nii").values[0], source.values)
    with pytest.raises(WriteError, match=r"OME-TIFF has integers to 32 bits.*astype"):
        gq.write_image(source, tmp_path / "a.tif")


@pytest.mark.parametrize(
    "shape",
    [
        {"y": 20, "x": 30},
        {"c": 3, "y": 20, "x": 30},
        {"t": 4, "y": 20, "x": 30},
        {"t": 4, "c": 2, "y": 20, "x": 30},
        {"t": 3, "c": 2, "z": 5, "y": 20, "x": 30},
        {"c": 2, "y": 70, "x": 150},
    ],
)
def test_tiff_axes_names_and_sizes(
    tmp_path: Path, shape: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff, "_TILE", 64)
    sizes = {d: 0.25 * (k + 1) for k, d in enumerate(("z", "y", "x")) if d in shape}
    source = image(shape, pixel_size=sizes, unit="nanometer")
    path = tmp_path / "a.ome.tif"
    gq.write_image(source, path)
    back = gq.open_image(path)
    expected = source if "c" in shape else source.expand_dims("c").transpose(*back.dims)
    assert back.dims == expected.dims
    np.testing.assert_array_equal(back.values, expected.values)
    if "c" in shape:
        assert list(back.c.values) == list(source.c.values)
    assert back.attrs["pixel_size"] == sizes and back.attrs["unit"] == "nanometer"
    with tifffile.TiffFile(path) as file:
        assert file.is_ome and not file.is_bigtiff and file.pages[0].is_tiled
        assert file.pages[0].tile[0] % 16 == 0 and max(file.pages[0].tile) <= 64
        np.testing.assert_array_equal(file.asarray().squeeze(), source.values.squeeze())


def test_a_size_without_unit_is_not_taken_for_micrometers(tmp_path: Path) -> None:
    gq.write_image(image({"y": 20, "x": 30}, pixel_size={"y": 2.0, "x": 3.0}), tmp_path / "a.tif")
    back = gq.open_image(tmp_path / "a.tif")
    assert back.attrs["pixel_size"] == {"y": 2.0, "x": 3.0} and "unit" not in back.attrs


def test_large_files_are_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "_BIG", 1000)
    source = image({"y": 20, "x": 30})
    gq.write_image(source, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), source.values)


def test_any_name_of_a_channel_comes_back(tmp_path: Path) -> None:
    names = ['a<b>&"c"', "µ-Тубулин", "x" * 300]
    source = image({"c": 3, "y": 20, "x": 30}).assign_coords(c=names)
    gq.write_image(source, tmp_path / "a.tif")
    assert list(gq.open_image(tmp_path / "a.tif").c.values) == names


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (2, 0), (0, 0), (4, 3)])
def test_what_nibabel_wrote_comes_back(
    tmp_path: Path, nibabel: Any, suffix: str, codes: tuple[int, int]
) -> None:
    """Affine, codes, voxel sizes and time step survive a calculation, and the loss of t."""
    values = RNG.integers(0, 900, (7, 9, 5, 4)).astype("i2")
    made = nibabel.Nifti1Image(values, None)
    made.header.set_zooms((2.0, 2.0, 3.0, 2500.0))
    made.header.set_xyzt_units("mm", "msec")
    made.set_sform(AFFINE, codes[0])
    rigid = np.diag([-2.0, 2.0, 3.0, 1.0])
    rigid[:3, 3] = 10.0, 20.0, 30.0
    made.set_qform(rigid, codes[1])
    nibabel.save(made, tmp_path / "in.nii")
    series = gq.open_image(tmp_path / "in.nii")
    if any(codes):
        np.testing.assert_allclose(series.attrs["affine"], made.affine, rtol=1e-6)
    with xr.set_options(keep_attrs=True):
        gq.write_image(series * 2, tmp_path / f"series{suffix}")
        gq.write_image(series.mean("t"), tmp_path / f"map{suffix}")
    out = nibabel.load(tmp_path / f"series{suffix}")
    np.testing.assert_array_equal(np.asanyarray(out.dataobj), 2 * values)
    assert out.get_data_dtype() == np.int16
    assert [float(z) for z in out.header.get_zooms()] == [2.0, 2.0, 3.0, 2.5]
    assert out.header.get_xyzt_units() == ("mm", "sec")
    again = gq.open_image(tmp_path / f"series{suffix}")
    for name in ("pixel_size", "unit", "repetition_time", "affine", "nifti"):
        assert again.attrs.get(name) == series.attrs.get(name)
    mapped = nibabel.load(tmp_path / f"map{suffix}")
    assert mapped.shape == (7, 9, 5)
    np.testing.assert_array_equal(mapped.get_fdata(), values.mean(axis=3))
    loaded = nibabel.load(tmp_path / "in.nii")
    for copy in (out, mapped):
        np.testing.assert_array_equal(copy.affine, loaded.affine)
        assert (int(copy.header["sform_code"]), int(copy.header["qform_code"])) == codes
        if codes[1]:
            np.testing.assert_array_equal(copy.get_qform(), loaded.get_qform())


def test_an_affine_of_another_shape_is_refused(tmp_path: Path, nibabel: Any) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((7, 9, 5), "i2"), AFFINE), tmp_path / "in.nii")
    cut = gq.open_image(tmp_path / "in.nii")[..., 2:]
    with pytest.raises(ParameterError, match=r"belongs to \[7, 9, 5\] voxels .*pass affine="):
        gq.write_image(cut, tmp_path / "a.nii")
    shifted = np.array(AFFINE)
    shifted[:, 3] += shifted[:, 0] * 2
    gq.write_image(cut, tmp_path / "a.nii", affine=shifted)
    np.testing.assert_allclose(nibabel.load(tmp_path / "a.nii").affine, shifted, rtol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii", "in.nii"]


@pytest.mark.parametrize("affine", [np.eye(3), np.full((4, 4), np.nan), "no", np.ones((4, 4))])
def test_bad_affines(tmp_path: Path, nibabel: Any, affine: Any) -> None:
    with pytest.raises(ParameterError, match="4 x 4 matrix"):
        gq.write_image(image({"y": 20, "x": 30}), tmp_path / "a.nii", affine=affine)


def test_nifti_axes(tmp_path: Path, nibabel: Any) -> None:
    for name, shape, expected in (
        ("a", {"y": 4, "x": 3}, (3, 4)),
        ("b", {"c": 1, "y": 4, "x": 3}, (3, 4)),
        ("c", {"t": 5, "y": 4, "x": 3}, (3, 4, 1, 5)),
        ("d", {"c": 2, "y": 4, "x": 3}, (3, 4, 1, 1, 2)),
        ("e", {"t": 5, "c": 2, "z": 6, "y": 4, "x": 3}, (3, 4, 6, 5, 2)),
    ):
        source = image(shape)
        gq.write_image(source, tmp_path / f"{name}.nii")
        loaded = nibabel.load(tmp_path / f"{name}.nii")
        assert loaded.shape == expected
        back = gq.open_image(tmp_path / f"{name}.nii").squeeze()
        wanted = source.squeeze().transpose(*back.dims)
        np.testing.assert_array_equal(back.values, wanted.values)


@pytest.mark.parametrize(
    ("unit", "stored", "factor"),
    [("micrometer", "micron", 1), ("meter", "meter", 1), ("nanometer", "mm", 1e-6)],
)
def test_nifti_units(tmp_path: Path, nibabel: Any, unit: str, stored: str, factor: float) -> None:
    source = image({"z": 2, "y": 4, "x": 3}, pixel_size={"z": 9.0, "y": 5.0, "x": 4.0}, unit=unit)
    gq.write_image(source, tmp_path / "a.nii")
    header = nibabel.load(tmp_path / "a.nii").header
    assert header.get_xyzt_units()[0] == stored
    np.testing.assert_allclose(header.get_zooms(), [4 * factor, 5 * factor, 9 * factor], rtol=1e-6)
    assert int(header["sform_code"]) == int(header["qform_code"]) == 0


def test_sides_beyond_nifti_1(tmp_path: Path, nibabel: Any) -> None:
    source = image({"y": 2, "x": 40_000}, "u1", side=9000)
    gq.write_image(source, tmp_path / "a.nii.gz")
    assert isinstance(nibabel.load(tmp_path / "a.nii.gz"), nibabel.Nifti2Image)
    np.testing.assert_array_equal(gq.open_image(tmp_path / "a.nii.gz").values[0], source.values)


def test_the_same_image_gives_the_same_file(tmp_path: Path, nibabel: Any) -> None:
    source = image({"z": 3, "y": 20, "x": 30})
    for name in ("a", "b"):
        gq.write_image(source, tmp_path / f"{name}.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("suffix", [".tif", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i4"])
def test_labels(tmp_path: Path, suffix: str, dtype: str) -> None:
    labels = image({"z": 3, "y": 75, "x": 90}, dtype)
    gq.write_labels(labels, tmp_path / f"a{suffix}")
    back = gq.open_labels(tmp_path / f"a{suffix}")
    assert back.dims == ("z", "y", "x") and back.dtype == dtype
    np.testing.assert_array_equal(back.values, labels.values)


def test_options_of_other_formats_are_refused(tmp_path: Path) -> None:
    source = image({"y": 20, "x": 30})
    with pytest.raises(ParameterError, match=r"only OME-Zarr .* write 'a\.zarr'"):
        gq.write_image(source, tmp_path / "a.tif", scale_factors=(2,))
    for name in ("a.tif", "a.zarr"):
        with pytest.raises(ParameterError, match="affine: goes with NIfTI only"):
            gq.write_image(source, tmp_path / name, affine=np.eye(4))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_there_stays_unless_it_is_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("mine")
    source = image({"y": 20, "x": 30})
    with pytest.raises(WriteError, match=r"exists; pass overwrite=True"):
        gq.write_image(source, path)
    assert path.read_text() == "mine"
    gq.write_image(source, path, overwrite=True)
    # Over the file that it is read from.
    gq.write_image(gq.open_image(path) + 1, path, overwrite=True)
    np.testing.assert_array_equal(gq.open_image(path).values[0], source.values + 1)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    (tmp_path / f"b{suffix}").mkdir()
    with pytest.raises(WriteError, match="is a folder and is not replaced"):
        gq.write_image(source, tmp_path / f"b{suffix}", overwrite=True)
    with pytest.raises(WriteError, match="does not exist; create it"):
        gq.write_image(source, tmp_path / "none" / f"a{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_of_an_error(tmp_path: Path, suffix: str, error: type) -> None:
    def fail(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info and block_info[0]["chunk-location"] == (1, 1):
            raise error("broken")
        return block

    source = image({"y": 75, "x": 90})
    broken = source.copy(data=source.data.map_blocks(fail, dtype="u2"))
    path = tmp_path / f"a{suffix}"
    with pytest.raises(error):
        gq.write_image(broken, path)
    assert not list(tmp_path.iterdir())
    gq.write_image(source, path)
    before = path.read_bytes()
    with pytest.raises(error):
        gq.write_image(broken, path, overwrite=True)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("module", ["tiff", "nifti"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, error: BaseException
) -> None:
    writer = importlib.import_module(f"gigaqc.writers.{module}")
    original = writer.write

    def interrupted(values: Iterator[np.ndarray], *args: Any, **kwargs: Any) -> None:
        def some() -> Iterator[np.ndarray]:
            yield next(values)
            raise error

        original(some(), *args, **kwargs)

    monkeypatch.setattr(writer, "write", interrupted)
    source = image({"c": 3, "y": 1200, "x": 1100}, side=600)
    path = tmp_path / ("a.tif" if module == "tiff" else "a.nii.gz")
    expected = WriteError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if expected is WriteError else None):
        gq.write_image(source, path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder that even root cannot fill")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_folders_that_cannot_be_written(suffix: str) -> None:
    with pytest.raises(WriteError, match=r"could not be written .* change the folder"):
        gq.write_image(image({"y": 20, "x": 30}), f"/proc/self/a{suffix}")


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="does not exist; create it"):
        gq.write_image(image({"y": 20, "x": 30}), tmp_path / "file" / "a.tif")
    with pytest.raises(WriteError, match="is a URL"):
        gq.write_image(image({"y": 20, "x": 30}), "memory://a.nii")


def test_files_and_stores_of_several_images_all_or_none(tmp_path: Path) -> None:
    source = image({"c": 1, "y": 20, "x": 30})
    paths = [tmp_path / name for name in ("a.zarr", "b.tif", "c.nii.gz")]
    write_together([source, source + 1, source + 2], paths, (), False)
    for k, path in enumerate(paths):
        np.testing.assert_array_equal(gq.open_image(path).values, source.values + k)
    paths[0] = tmp_path / "d.zarr"
    with pytest.raises(WriteError, match=r"b\.tif' exists"):
        write_together([source] * 3, paths, (), False)
    assert not (tmp_path / "d.zarr").exists()


@pytest.mark.parametrize("name", ["a.tif", "a.nii"])
def test_each_chunk_is_read_once(tmp_path: Path, name: str) -> None:
    store = testing.CountingStore(tmp_path / "in.zarr")
    array = zarr.create_array(store, shape=(2, 150, 140), chunks=(1, 64, 64), dtype="u2")
    array[:] = 7
    testing.reset_reads(store)
    gq.write_image(gq.open_image(zarr.open_array(store, mode="r")), tmp_path / name)
    reads = testing.count_reads(store)
    assert len(reads) == 18 and set(reads.values()) == {1}


def test_without_nibabel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel.nifti1", None)
    with testing.forbid_compute(), pytest.raises(MissingDependencyError, match=r"gigaqc\[mri\]"):
        gq.write_image(image({"y": 20, "x": 30}), tmp_path / "a.nii")


WRITE = """
from pathlib import Path
gq.write_image(gq.open_image({path!r}), {out!r})
Path({out!r}).unlink()
"""
SETUP = """
import numpy as np, tempfile
import gigaqc as gq
for name in ("w.tif", "w.nii"):
    gq.write_image(np.zeros((2, 1500, 1500), "u2"), tempfile.mkdtemp() + "/" + name)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.tif", "a.nii", "a.nii.gz"])
def test_memory_does_not_go_with_the_image(tmp_path: Path, name: str) -> None:
    """32 and 512 MiB of an image take the same memory."""
    block = np.random.default_rng(0).poisson(300, (1, 1024, 1024)).astype("u2")
    taken = []
    for side in (4096, 16384):
        path = testing.sparse_store(
            tmp_path / f"{side}.zarr", (1, side, side), (1, 1024, 1024), dtype="u2", blocks=[block]
        )
        code = WRITE.format(path=str(path), out=str(tmp_path / name))
        env = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "65536"}
        taken.append(testing.peak_memory(code, setup=SETUP, env=env, timeout=900).growth)
    assert taken[1] <= 1.5 * taken[0] + 2**25, [t // 2**20 for t in taken]
    assert taken[1] <= 200 * 2**20, [t // 2**20 for t in taken]
