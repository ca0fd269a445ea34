"""Images written as OME-TIFF: tiled, compressed without loss, BigTIFF where they are large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gigaqc.errors import WriteError
from gigaqc.image.labelled import channel_names
from gigaqc.stores.chunks import slabs

_TILE = 1024  # side of a tile; a smaller plane is one tile
_GRAIN = 16  # TIFF allows sides of tiles that are multiples of it
_BIG = 2**32 - 2**26  # bytes from which offsets of 32 bits might not do
_BUFFER = 2**25  # bytes of tiles that tifffile compresses at a time
_TYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8")  # the numbers of OME-XML
_STORED = {"b": "u1", "f2": "f4"}  # what holds every value of a type that OME-XML lacks
_UNITS = {
    "angstrom": "\u00c5",
    "nanometer": "nm",
    "micrometer": "\u00b5m",
    "millimeter": "mm",
    "centimeter": "cm",
    "inch": "in",
    "meter": "m",
}


def fitting(image: xr.DataArray, given: str) -> xr.DataArray:
    """The image as the file holds it; raises WriteError for integers of 64 bits."""
    kind = "b" if image.dtype.kind == "b" else image.dtype.str[1:]
    kind = _STORED.get(kind, kind)
    if kind not in _TYPES:
        raise WriteError(
            f"path: {given!r} cannot hold {image.dtype}, OME-TIFF has integers to 32 bits; write "
            "OME-Zarr (a path such as 'out.zarr'), or convert it: image.astype('int32')."
        )
    return image if image.dtype == kind else image.astype(kind)


def blocks(shape: Sequence[int]) -> tuple[int, ...]:
    """Blocks whose values lie in the order of the file: several whole planes, or one tile."""
    height, width = _tile(shape)
    if height >= shape[-2] and width >= shape[-1]:
        return slabs(shape)
    return (*(1 for _ in shape[:-2]), min(height, shape[-2]), min(width, shape[-1]))


def write(values: Iterator[np.ndarray], path: Path, image: xr.DataArray) -> None:
    """Write blocks, which come in C order, to a file."""
    from tifffile import TiffWriter

    tile = _tile(image.shape)
    with TiffWriter(str(path), bigtiff=image.nbytes > _BIG, ome=True) as file:
        file.write(
            _tiles(values, tile),
            shape=image.shape,
            dtype=image.dtype,
            tile=tile,
            photometric="minisblack",
            compression="zlib",
            # Of noise and of floats more effort makes files no smaller, and takes two to five times
            # as long.
            compressionargs={"level": 1},
            predictor=image.dtype.kind in "ui",  # of floats few programs read the other one
            metadata=_metadata(image),
            software="gigaqc",
            buffersize=_BUFFER,
        )


def _tile(shape: Sequence[int]) -> tuple[int, int]:
    height, width = (min(_TILE, -(-int(n) // _GRAIN) * _GRAIN) for n in shape[-2:])
    return height, width


def _tiles(values: Iterator[np.ndarray], tile: tuple[int, int]) -> Iterator[np.ndarray]:
    """Planes of the blocks, brought to the size of a tile with zeros."""
    for block in values:
        for plane in block.reshape(-1, *block.shape[-2:]):
            missing = [(0, side - n) for side, n in zip(tile, plane.shape, strict=True)]
            yield np.pad(plane, missing) if any(n for _, n in missing) else plane


def _metadata(image: xr.DataArray) -> dict[str, Any]:
    known: dict[str, Any] = {"axes": "".join(str(d).upper() for d in image.dims)}
    if "c" in image.dims:
        known["Channel"] = {"Name": channel_names(image)}
    unit = image.attrs.get("unit")
    for dim, size in (image.attrs.get("pixel_size") or {}).items():
        if dim in ("x", "y", "z") and dim in image.dims:
            known[f"PhysicalSize{dim.upper()}"] = float(size)
            # Without a unit OME-XML means micrometers.
            known[f"PhysicalSize{dim.upper()}Unit"] = _UNITS.get(str(unit), "reference frame")
    return known
