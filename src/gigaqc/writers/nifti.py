"""Images written as NIfTI, with the affine, the voxel size and the time step they came with."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import xarray as xr

from gigaqc.base.formatting import in_unit, unit_name
from gigaqc.errors import MissingDependencyError, ParameterError
from gigaqc.stores.chunks import slabs

_AXES = ("c", "t", "z", "y", "x")  # of the file, in C order
_STORED = {"b": "u1", "f2": "f4"}  # what holds every value of a type that NIfTI lacks
_LARGEST_SIDE = 32767  # of NIfTI-1
_UNITS = {"millimeter": "mm", "meter": "meter", "micrometer": "micron"}
_BLOCK = 2048 * 2048  # values that are written at a time
_ALIGNED = 2  # code of an affine whose coordinates are not further known


def fitting(image: xr.DataArray) -> xr.DataArray:
    """The image as the file holds it: dims ``c t z y x`` without those that it does not need."""
    if image.sizes.get("c") == 1:
        image = image.isel(c=0, drop=True)
    most = next(d for d in _AXES if d in image.dims)
    needed = _AXES[_AXES.index(most) :]
    image = image.expand_dims([d for d in needed if d not in image.dims])
    kind = "b" if image.dtype.kind == "b" else image.dtype.str[1:]
    return image.transpose(*needed).astype("<" + _STORED.get(kind, kind))


def blocks(shape: Sequence[int]) -> tuple[int, ...]:
    """Blocks whose values lie together in the file."""
    return slabs(shape, _BLOCK)


def header_of(image: xr.DataArray, affine: Any = None) -> Any:
    """Header of a file with this image, from `fitting`; raises where its affine does not fit."""
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    except ImportError as error:
        raise MissingDependencyError(
            'path: NIfTI needs nibabel; pip install "gigaqc[mri]".'
        ) from error
    shape = tuple(int(n) for n in reversed(image.shape))
    second = max(shape) > _LARGEST_SIDE
    header: Any = (Nifti2Header if second else Nifti1Header)(endianness="<")
    header.set_data_dtype(image.dtype)
    header.set_data_shape(shape)
    header.set_slope_inter(1, 0)
    header.set_data_offset(header.single_vox_offset)
    _set_sizes(header, image)
    _set_orientation(header, image, affine)
    return header


def write(values: Iterator[np.ndarray], path: Path, header: Any, *, packed: bool) -> None:
    """Write blocks, which come in C order, to a file; `packed` by gzip."""
    with open(path, "wb") as raw:
        if packed:
            # The time is left out, so that the same image gives the same file.
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as file:
                _write(values, header, cast(IO[bytes], file))
        else:
            _write(values, header, raw)


def _write(values: Iterator[np.ndarray], header: Any, file: IO[bytes]) -> None:
    header.write_to(file)
    for block in values:
        file.write(np.ascontiguousarray(block).data)


def _set_sizes(header: Any, image: xr.DataArray) -> None:
    sizes = {d: float(s) for d, s in (image.attrs.get("pixel_size") or {}).items()}
    unit = image.attrs.get("unit")
    if unit is not None and unit not in _UNITS:
        name = unit_name(str(unit))
        sizes = {d: in_unit(s, name, "millimeter") for d, s in sizes.items()} if name else sizes
        unit = "millimeter" if name else None
    zooms = [sizes.get(dim, 1.0) for dim in ("x", "y", "z")]
    step = image.attrs.get("repetition_time")
    zooms.append(1.0 if step is None else float(step))
    zooms.append(1.0)
    header.set_zooms(zooms[: image.ndim])
    time = "sec" if step is not None and "t" in image.dims else None
    header.set_xyzt_units(_UNITS.get(str(unit)) if sizes else None, time)


def _set_orientation(header: Any, image: xr.DataArray, affine: Any) -> None:
    if affine is not None:
        header.set_sform(_checked_affine(affine), _ALIGNED)
        return
    kept = image.attrs.get("affine")
    if kept is None:
        return
    about = image.attrs.get("nifti") or {}
    shape = [image.sizes.get(d, 1) for d in ("x", "y", "z")]
    if about.get("shape", shape) != shape:
        raise ParameterError(
            f"affine: the image's belongs to {about['shape']} voxels (x, y, z), not to {shape}: it "
            "was cut or resampled since; pass affine=, from voxel indices x, y, z to coordinates."
        )
    code = int(about.get("sform_code", _ALIGNED))
    if code:
        header.set_sform(_checked_affine(kept), code)
    if about.get("qform_code"):
        # As they were read: computed anew from the matrix they would differ in the last digits.
        factor, b, c, d, x, y, z = about["quaternion"]
        header["pixdim"][0] = factor
        header["quatern_b"], header["quatern_c"], header["quatern_d"] = b, c, d
        header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = x, y, z
        header["qform_code"] = about["qform_code"]


def _checked_affine(affine: Any) -> np.ndarray:
    try:
        matrix = np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if (
        matrix.shape != (4, 4)
        or not np.isfinite(matrix).all()
        or not np.array_equal(matrix[3], (0, 0, 0, 1))
    ):
        raise ParameterError(
            f"affine: got {affine!r}; pass a 4 x 4 matrix of numbers with the last row 0 0 0 1."
        )
    return matrix
