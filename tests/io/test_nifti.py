"""NIfTI against nibabel's own reading."""

from __future__ import annotations

import gzip
import pickle
import sys
from pathlib import Path

import dask
import fsspec
import numpy as np
import pytest

from gigaqc import list_images, open_image, open_labels
from gigaqc.errors import MissingDependencyError, ParameterError, ReadError
from gigaqc.readers.nifti import NiftiArray
from gigaqc.testing import forbid_compute

nibabel = pytest.importorskip("nibabel")
SERIES = np.random.default_rng(4).integers(-50, 900, (11, 13, 5, 7)).astype(np.int16)


def save(path: Path, data: np.ndarray = SERIES, slope: float = 1.0, endian: str = "<") -> Path:
    header = nibabel.Nifti1Header(endianness=endian)
    header.set_data_dtype(data.dtype.newbyteorder(endian))
    header.set_data_shape(data.shape)
    header.set_zooms((2.0, 3.0, 4.0, 1.5)[: data.ndim])
    header.set_xyzt_units("mm", "sec")
    if slope != 1.0:
        header.set_slope_inter(slope, 10.0)
    raw = header.binaryblock + bytes(4) + data.astype(header.get_data_dtype()).tobytes("F")
    raw = raw[:108] + np.array(352, f"{endian}f4").tobytes() + raw[112:]
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("slope", [1.0, 0.5])
def test_series(tmp_path: Path, name: str, endian: str, slope: float) -> None:
    path = save(tmp_path / name, slope=slope, endian=endian)
    with forbid_compute():
        image = open_image(path)
    assert dict(image.sizes) == {"t": 7, "c": 1, "z": 5, "y": 13, "x": 11}
    expected = np.asanyarray(nibabel.load(path).dataobj)
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image.values[:, 0], expected.transpose())
    assert image.attrs["pixel_size"] == {"z": 4.0, "y": 3.0, "x": 2.0}
    assert image.attrs["unit"] == "millimeter"
    assert image.attrs["repetition_time"] == 1.5
    assert list_images(path) == ["a"]
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(image))[2, 0, 1:3].values, expected.transpose()[2, 1:3]
    )


def test_blocks_lie_together_in_the_file(tmp_path: Path) -> None:
    image = open_image(save(tmp_path / "a.nii", np.zeros((256, 256, 40, 2), np.int16)))
    assert image.data.chunksize == (1, 1, 16, 256, 256)


def test_axes_that_the_format_invents(tmp_path: Path) -> None:
    volume = open_image(save(tmp_path / "a.nii", SERIES[..., :1]))
    assert volume.dims == ("c", "z", "y", "x")
    flat = open_image(save(tmp_path / "b.nii", SERIES[:, :, :1, 0]))
    assert dict(flat.sizes) == {"c": 1, "z": 1, "y": 13, "x": 11}


def test_compressed_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    whole = NiftiArray.decode

    def counted(self: NiftiArray) -> np.ndarray:
        decoded.append(self.location.path)
        return whole(self)

    monkeypatch.setattr(NiftiArray, "decode", counted)
    image = open_image(save(tmp_path / "a.nii.gz"), chunks={"t": 1, "z": 2})
    assert not decoded
    with dask.config.set(scheduler="threads", num_workers=4):
        image.compute()
    image.compute()
    assert len(decoded) == 1


def test_truncated(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(ReadError, match=r"a\.nii: truncated, 4000 bytes"):
        open_image(path)
    packed = save(tmp_path / "b.nii.gz")
    packed.write_bytes(packed.read_bytes()[:4000])
    with pytest.raises(ReadError, match=r"b\.nii\.gz .*chunk \(t=0, c=0, z=0, y=0, x=0\)"):
        open_image(packed).compute()
    (tmp_path / "c.nii").write_bytes(b"nothing")
    with pytest.raises(ReadError, match="no NIfTI header"):
        open_image(tmp_path / "c.nii")


@pytest.mark.same_process
def test_labels_level_and_url(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", (SERIES[..., 0] > 0).astype(np.uint8))
    labels = open_labels(path)
    assert labels.dims == ("z", "y", "x")
    with pytest.raises(ParameterError, match="no levels"):
        open_image(path, level=1)
    fsspec.filesystem("memory").put(str(path), "/gigaqc/a.nii")
    np.testing.assert_array_equal(open_labels("memory://gigaqc/a.nii").values, labels.values)


def test_without_nibabel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.nii")
    monkeypatch.setitem(sys.modules, "nibabel.nifti1", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "gigaqc\[mri\]"'):
        open_image(path)
