"""NIfTI-1 and NIfTI-2 (``.nii``, ``.nii.gz``), lazily; headers are parsed by nibabel.

Axes i, j, k, t, u of the file are x, y, z, t, c: the first varies fastest, as x does in an image.
Nothing is reoriented. Uncompressed data is read block by block; a compressed file cannot be, so it
is decoded whole, once a process, and the last two are kept.
"""

from __future__ import annotations

import gzip
from typing import IO, Any, cast

import numpy as np

from gigaqc.base.formatting import in_one_unit
from gigaqc.errors import MissingDependencyError, ReadError
from gigaqc.readers.raw import DECODED, OneImage, RawImage, refuse_levels
from gigaqc.stores.chunks import slabs
from gigaqc.stores.location import Location

_DIMS = ("c", "t", "z", "y", "x")  # in C order: the file's axes u, t, k, j, i
_UNITS = {"mm": "mm", "meter": "m", "micron": "um"}
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


class NiftiReader(OneImage):
    """The one image of a NIfTI file, named after it."""

    def __init__(self, location: Location) -> None:
        super().__init__(location.stem)
        self._location = location

    def read(self, name: str, level: int, *, labels: bool = False) -> RawImage:
        """Parse the header."""
        refuse_levels(level, "NIfTI has")
        header, packed = _header(self._location)
        array = NiftiArray(self._location, header, packed)
        dims = _DIMS[-len(array.shape) :]
        space, time = header.get_xyzt_units()
        zooms = [float(z) for z in header.get_zooms()]
        sizes, unit = in_one_unit(
            {d: (z, _UNITS.get(space)) for d, z in zip(("x", "y", "z"), zooms, strict=False)}
        )
        extra = _orientation(header)
        if "t" in dims and zooms[3] > 0:
            extra["repetition_time"] = zooms[3] * _SECONDS.get(time, 1.0)
        return RawImage(
            array=array,
            element=name,
            dims=dims,
            chunks=slabs(array.shape),
            invented=frozenset("tc"),
            pixel_size=sizes,
            unit=unit,
            extra=extra,
        )


class NiftiArray:
    """The voxels in C order, scaled where the header says so; pickles."""

    def __init__(self, location: Location, header: Any, packed: bool) -> None:
        self.location = location
        self.packed = packed
        self.stamp = location.stamp()
        shape = [int(n) for n in header.get_data_shape()]
        if len(shape) > len(_DIMS) and set(shape[len(_DIMS) :]) == {1}:
            shape = shape[: len(_DIMS)]
        self.shape = tuple(reversed(shape))
        self.stored = np.dtype(header.get_data_dtype())
        self.offset = int(header.get_data_offset())
        slope, inter = header.get_slope_inter()
        self.slope = 1.0 if slope is None else float(slope)
        self.inter = 0.0 if inter is None else float(inter)
        self.dtype = self._scaled(np.empty(0, self.stored)).dtype
        self._check(header)

    def _check(self, header: Any) -> None:
        if not 2 <= len(self.shape) <= len(_DIMS):
            raise ReadError(
                f"{self.location.given}: NIfTI of shape {tuple(header.get_data_shape())} has no "
                "reading as x y z t c."
            )
        needed = self.offset + int(np.prod(self.shape)) * self.stored.itemsize
        if not self.packed and self.location.size() < needed:
            raise ReadError(
                f"{self.location.given}: truncated, {self.location.size()} bytes where its header "
                f"needs {needed}; copy or export it again."
            )

    def _scaled(self, block: np.ndarray) -> np.ndarray:
        if self.slope == 1.0 and self.inter == 0.0:
            return block
        return block * np.float64(self.slope) + np.float64(self.inter)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a block: mapped from an uncompressed local file, else out of the decoded array."""
        if self.packed or not self.location.local:
            return self._scaled(np.asarray(DECODED.get(self)[key]))
        mapped = np.memmap(self.location.path, self.stored, "r", self.offset, self.shape)
        return self._scaled(np.array(mapped[key]))

    def decode(self) -> np.ndarray:
        """Read the whole array from the file."""
        count = int(np.prod(self.shape)) * self.stored.itemsize
        with self.location.open() as raw:
            file = _unpacked(raw) if self.packed else raw
            file.seek(self.offset)
            data = file.read(count)
        if len(data) < count:
            raise ReadError(f"truncated, {len(data)} bytes of pixels where {count} are needed")
        return np.frombuffer(data, self.stored).reshape(self.shape)


def _orientation(header: Any) -> dict[str, Any]:
    """Where voxels lie in the scanner, if the file says so, as it says it."""
    codes = {name: int(header[name]) for name in ("sform_code", "qform_code")}
    if not any(codes.values()):
        return {}
    shape = [int(n) for n in header.get_data_shape()]
    parts = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    about: dict[str, Any] = {"shape": [*shape, 1, 1][:3], **codes}
    if codes["qform_code"]:
        about["quaternion"] = [float(header["pixdim"][0]), *(float(header[p]) for p in parts)]
    return {"affine": header.get_best_affine().tolist(), "nifti": about}


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw))


def _header(location: Location) -> tuple[Any, bool]:
    """Return the parsed header, and whether the file is compressed."""
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    except ImportError as error:
        raise MissingDependencyError(
            'source: NIfTI needs nibabel; pip install "gigaqc[mri]".'
        ) from error
    packed = location.head(2) == b"\x1f\x8b"
    try:
        with location.open() as raw:
            file = _unpacked(raw) if packed else raw
            size = file.read(4)
            file.seek(0)
            second = 540 in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
            header = (Nifti2Header if second else Nifti1Header).from_fileobj(file)
        header.get_data_dtype()
    except Exception as error:
        raise ReadError(
            f"{location.given}: no NIfTI header that can be read ({type(error).__name__}: "
            f"{error}); the file is corrupt or of another format."
        ) from error
    return header, packed
