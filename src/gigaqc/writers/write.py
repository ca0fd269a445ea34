"""Images written as OME-Zarr 0.5, OME-TIFF or NIfTI: chunk by chunk, complete or absent."""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

from gigaqc.base.geometry import rechunked_array
from gigaqc.base.machine import check_room, in_words
from gigaqc.errors import ParameterError, WriteError
from gigaqc.graph.schedule import in_strips, settled, settled_together
from gigaqc.image.labelled import as_image, channel_names, opened
from gigaqc.stores.location import stem
from gigaqc.stores.staging import StagedArray, checked_target, remove, staged
from gigaqc.typing import ImageLike, LabelsLike, PathLike
from gigaqc.writers import nifti, tiff

if TYPE_CHECKING:
    import zarr

logger = logging.getLogger("gigaqc")

_AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_LARGEST = 2048 * 2048  # pixels of a written chunk; larger blocks are split
_SIDE = 1024
ScaleFactors = Sequence[int | Mapping[str, int]] | Mapping[int | str, int | Mapping[str, int]]
"""Of coarser levels in their order, or by level: one factor for y and x, or a factor an axis."""

Factors = Mapping[str, int]
"""By how much a level is coarser than the one before, along which axes."""

_TIFF = (".tif", ".tiff")
_NIFTI = (".nii", ".nii.gz")


def write_image(
    image: ImageLike,
    path: PathLike,
    *,
    scale_factors: ScaleFactors | None = None,
    affine: Any = None,
    overwrite: bool = False,
) -> None:
    """Write an image, *now*, chunk by chunk, with names, pixel size and unit.

    The suffix of `path` says the format: ``.nii`` and ``.nii.gz`` NIfTI, ``.tif`` and ``.tiff``
    OME-TIFF, anything else OME-Zarr 0.5. It is written beside `path` under a temporary name and
    renamed when it is complete, so an interrupted write leaves nothing that opens.

    Parameters
    ----------
    image
        Whatever `gigaqc` takes for an image. Its chunks become those of an OME-Zarr store (blocks
        above 2048 x 2048 pixels are split); TIFF has tiles of 1024 x 1024.
    path
        In a local folder that exists, such as ``"out.zarr"``, ``"out.ome.tif"``, ``"out.nii.gz"``.
    scale_factors
        OME-Zarr only: coarser levels, each by this factor in y and x from the one before:
        ``(2, 2)`` adds levels at half and a quarter, of the mean of 2 x 2 pixels (integers are
        rounded). A dict in place of a number says the factor of each axis, also of z, as in
        spatialdata: ``[2, {"z": 2, "y": 2, "x": 2}]``. The levels may be named:
        ``{1: 2, 2: {"y": 4, "x": 2}}``, or ``"scale1"``, ``"scale2"`` and so on, without a gap.
    affine
        NIfTI only: 4 x 4, from voxel indices (x, y, z) to coordinates in the unit of the image. By
        default that of the NIfTI file that the image, or what it was computed from, was opened
        from; without one the file says voxel sizes and no orientation.
    overwrite
        Replace what is there. It stays until the new one is complete, so an image may be written
        over the file or store that it is read from.

    Raises
    ------
    WriteError
        When there is something already, it cannot be written, or the format cannot hold the type
        (OME-TIFF has no integers of 64 bits); nothing is left behind.
    ParameterError
        When `scale_factors` or `affine` do not fit the image or the format.
    MissingDependencyError
        NIfTI without nibabel.

    Notes
    -----
    The image is computed once. Each coarser level reads the level before it from the store; TIFF
    and NIfTI, which are written from beginning to end, are copied from a temporary store of the
    same chunks beside `path`, which takes about their size on disk meanwhile.

    What formats do not hold: TIFF and NIfTI know neither bool (0 and 1 as uint8) nor float16
    (float32). NIfTI has no names of channels; of one channel no axis is written, several are its
    fifth axis. Time steps and units are kept in seconds, voxel sizes in mm, m or micrometers (any
    other unit becomes mm). Byte order becomes that of the format, values stay.
    """
    labelled = as_image(image)
    factors = checked_factors(scale_factors, labelled)
    write_together([labelled], [path], factors, overwrite, affine=affine)


def write_labels(labels: LabelsLike, path: PathLike, *, overwrite: bool = False) -> None:
    """Write a label image as OME-Zarr 0.5, OME-TIFF or NIfTI, as `write_image` does images.

    Parameters
    ----------
    labels
        Integers, dims a subset of ``t z y x``, or the path of such a file; an array without labels
        of its axes is ``y x`` or ``z y x``.
    path, overwrite
        As for `write_image`.

    Raises
    ------
    WriteError, ImageError, ImageTypeError, SourceNotFoundError, ReadError
        As `write_image`; and for labels that are no image.
    """
    given = opened(labels, "labels", labels=True)
    if not isinstance(given, xr.DataArray) or not isinstance(given.data, da.Array):
        dims = "zyx" if getattr(given, "ndim", 0) == 3 else None  # of channels it has none
        given = as_image(given, dims=dims, argument="labels").isel(c=0, drop=True)
    write_together([given], [path], (), overwrite, labels=True)


def write_together(
    images: Sequence[xr.DataArray],
    paths: Sequence[str | os.PathLike[str]],
    factors: tuple[Factors, ...],
    overwrite: bool,
    *,
    affine: Any = None,
    labels: bool = False,
) -> None:
    """Write files and stores, all or none: any of them may be what another is read from."""
    for image in images:
        sides = {d: max(sizes) for d, sizes in image.chunksizes.items()}
        held = math.prod(sides.values()) * image.dtype.itemsize
        check_room(in_words("a chunk", sides), held, image.data.npartitions)
    files = [
        _as_file(image, path, factors, affine) for image, path in zip(images, paths, strict=True)
    ]
    targets = [
        checked_target(path, overwrite, store=file is None)
        for path, file in zip(paths, files, strict=True)
    ]
    writing = paths[0]
    start = time.perf_counter()
    try:
        with staged(targets) as places:
            ready = settled_images(
                [f.image if f else i for f, i in zip(files, images, strict=True)]
            )
            for image, path, file, place, target in zip(
                ready, paths, files, places, targets, strict=True
            ):
                writing = path
                if file is None:
                    _write(image, place, target, factors, labels=labels)
                else:
                    _write_file(image, file, place)
    except OSError as error:
        raise WriteError(
            f"path: {os.fspath(writing)!r} could not be written ({error}); make room or change the "
            "folder. Nothing was left behind."
        ) from error
    names = ", ".join(os.fspath(path) for path in paths)
    logger.info("wrote %s in %.2f s", names, time.perf_counter() - start)


@dataclass(frozen=True)
class _File:
    """An image as a file from beginning to end: the blocks in their order, and what writes them."""

    image: xr.DataArray
    blocks: tuple[int, ...]
    write: Callable[[Iterator[np.ndarray], Path], None]


def _as_file(
    image: xr.DataArray, path: str | os.PathLike[str], factors: Sequence[Factors], affine: Any
) -> _File | None:
    """How an image becomes a TIFF or NIfTI file; None where the path is that of a zarr store."""
    given = os.fspath(path)
    suffix = next((s for s in (*_TIFF, *_NIFTI) if str(given).lower().endswith(s)), None)
    if affine is not None and suffix not in _NIFTI:
        raise ParameterError(
            f"affine: goes with NIfTI only, got the path {given!r}; leave it out, or end the path "
            "in .nii or .nii.gz."
        )
    if suffix is None:
        return None
    if factors:
        raise ParameterError(
            f"scale_factors: got {list(factors)}, but only OME-Zarr is written with coarser "
            f"levels; leave them out, or write {stem(str(given)) + '.zarr'!r}."
        )
    if suffix in _NIFTI:
        fitting = nifti.fitting(image)
        header = nifti.header_of(fitting, affine)
        write = partial(nifti.write, header=header, packed=suffix.endswith(".gz"))
        return _File(fitting, nifti.blocks(fitting.shape), write)
    fitting = tiff.fitting(image, str(given))
    return _File(fitting, tiff.blocks(fitting.shape), partial(tiff.write, image=fitting))


def _write_file(image: xr.DataArray, file: _File, place: Path) -> None:
    """Compute the blocks in any order into a temporary store, and write them in the file's."""
    import zarr

    store = place.with_suffix(".blocks")
    try:
        group = zarr.open_group(str(store), mode="w", zarr_format=3)
        # Rows of chunks as wide as the image would wait for one another while they are computed.
        chunks = (*file.blocks[:-1], min(file.blocks[-1], _SIDE))
        _store_level(settled(image.data), group, "blocks", image.dims, chunks)
        array: Any = group["blocks"]
        spans = [
            [slice(start, start + side) for start in range(0, n, side)]
            for n, side in zip(image.shape, file.blocks, strict=True)
        ]
        file.write((np.asarray(array[span]) for span in itertools.product(*spans)), place)
    finally:
        remove(store)


def settled_images(images: Sequence[xr.DataArray]) -> list[xr.DataArray]:
    """The same images, what their chunks wait for computed *now*, once for all of them."""
    ready = settled_together([image.data for image in images])
    return [image.copy(data=data) for image, data in zip(images, ready, strict=True)]


def checked_factors(factors: ScaleFactors | None, image: xr.DataArray) -> tuple[Factors, ...]:
    """Factors by axis of each level; refuses what is none, and what leaves no pixel."""
    if factors is None:
        return ()
    levels = _by_level(factors) if isinstance(factors, Mapping) else factors
    if not isinstance(levels, (Sequence, np.ndarray)) or isinstance(levels, (str, bytes)):
        raise ParameterError(f"scale_factors: got {factors!r}; {_EXPECTED}")
    checked = tuple(_by_axis(level, factors, image) for level in levels)
    for dim in "zyx":
        shrunk = math.prod(level.get(dim, 1) for level in checked)
        if shrunk > image.sizes.get(dim, 1):
            raise ParameterError(
                f"scale_factors: {factors!r} shrink {image.sizes[dim]} pixels along {dim} to "
                "nothing; pass fewer levels."
            )
    return checked


_EXPECTED = (
    "pass whole numbers from 2, such as (2, 2), or factors by axis, such as [{'y': 2, 'x': 2}]."
)


def _by_level(factors: Mapping[Any, Any]) -> list[Any]:
    """What a dict names as level 1, 2, ... or scale1, scale2, ..., in this order."""
    numbered = {}
    for name, value in factors.items():
        digits = str(name).removeprefix("scale").removeprefix("s")
        numbered[int(digits) if digits.isdecimal() else name] = value
    wanted = list(range(1, len(factors) + 1))
    if set(wanted) != set(numbered):
        axes = set(factors) <= set("tczyx")
        cure = f"put the factors of one level into a list: [{dict(factors)!r}]" if axes else (
            "name the coarser levels 1, 2, ... or 'scale1', 'scale2', ..., without a gap"
        )  # fmt: skip
        raise ParameterError(f"scale_factors: got levels {list(factors)}; {cure}.")
    return [numbered[k] for k in wanted]


def _by_axis(level: Any, given: Any, image: xr.DataArray) -> Factors:
    """One level's factor of each axis that has one."""
    factors = dict(level) if isinstance(level, Mapping) else {"y": level, "x": level}
    whole = all(isinstance(f, (int, np.integer)) and not isinstance(f, bool) and f >= 1
                for f in factors.values())  # fmt: skip
    coarse = {str(dim): int(f) for dim, f in factors.items() if f != 1} if whole else {}
    if not coarse:
        raise ParameterError(f"scale_factors: got {given!r}; {_EXPECTED}")
    unknown = [dim for dim in coarse if dim not in "zyx" or dim not in image.dims]
    if unknown:
        fitting = ", ".join(d for d in "zyx" if d in image.dims)
        raise ParameterError(
            f"scale_factors: got {given!r}, with a factor of {unknown[0]!r}; the image can be "
            f"coarser along {fitting}."
        )
    return coarse


def _write(
    image: xr.DataArray, folder: Path, target: Path, factors: tuple[Factors, ...], *, labels: bool
) -> None:
    import zarr

    group = zarr.open_group(str(folder), mode="w", zarr_format=3)
    names = [str(number) for number in range(len(factors) + 1)]
    scales = write_levels(image, group, names, factors, labels=labels)
    # Last: a folder that was interrupted is no image to any reader.
    ome = _metadata(image, target.name.removesuffix(".zarr"), scales)
    if labels:
        ome["image-label"] = {"version": "0.5"}
    else:
        ome["omero"] = {"channels": [_channel(n, image.dtype) for n in channel_names(image)]}
    group.attrs["ome"] = ome


def write_levels(
    image: xr.DataArray,
    group: zarr.Group,
    names: Sequence[str],
    factors: Sequence[Factors],
    *,
    labels: bool = False,
) -> list[tuple[int, ...]]:
    """Write the levels of an image into a group; by how much each is coarser, an axis each.

    Each coarser level is made from the one before it: means of its pixels; of `labels` the first of
    each square, because a mean of labels is none.
    """
    level = settled(image.data)
    scales = [(1,) * level.ndim]
    _store_level(level, group, names[0], image.dims)
    for before, name, by_axis in zip(names, names[1:], factors, strict=False):
        finer = da.from_zarr(group[before])
        along = [by_axis.get(str(dim), 1) for dim in image.dims]
        level = coarser(finer, along, labels=labels)
        scales.append(tuple(a * b for a, b in zip(scales[-1], along, strict=True)))
        _store_level(level, group, name, image.dims)
    return scales


def _store_level(
    level: da.Array,
    group: zarr.Group,
    name: str,
    dims: Sequence[Any],
    chunks: tuple[int, ...] | None = None,
) -> None:
    made = new_array(group, name, level, dims, chunks)
    array: Any = StagedArray(made)
    # Blocks that cover whole chunks, so that no two tasks write to one.
    blocks = rechunked_array(level, made.chunks)
    stored = da.store(blocks, array, lock=False, return_stored=False, compute=False)
    in_strips(stored).compute()


def new_array(
    group: zarr.Group,
    name: str,
    level: da.Array,
    dims: Sequence[Any],
    chunks: tuple[int, ...] | None = None,
) -> Any:
    """An array in a group for what `level` will be."""
    from zarr.codecs import BloscCodec

    return group.create_array(
        name,
        shape=level.shape,
        dtype=level.dtype.newbyteorder("="),
        chunks=_regular_chunks(level) if chunks is None else chunks,
        # Smaller than zstd alone on images, floats above all, and three times as fast.
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
        dimension_names=[str(d) for d in dims],
    )


def _regular_chunks(level: da.Array) -> tuple[int, ...]:
    chunks = [min(max(c), n) for c, n in zip(level.chunks, level.shape, strict=True)]
    if chunks[-1] * chunks[-2] > _LARGEST:
        chunks[-2:] = [min(c, _SIDE) for c in chunks[-2:]]
    return tuple(chunks)


def coarser(level: da.Array, factors: Sequence[int], *, labels: bool = False) -> da.Array:
    """Mean of blocks of so many pixels an axis, in the dtype of `level`; incomplete ones go.

    Of `labels` the first of each block.
    """
    if labels:
        first = level[tuple(slice(None, None, f) for f in factors)]
        kept = tuple(slice(n // f) for n, f in zip(level.shape, factors, strict=True))
        return rechunked_array(first[kept], level.chunksize)
    along = {axis: f for axis, f in enumerate(factors) if f > 1}
    chunks = level.chunksize
    sides = {axis: max(f, chunks[axis] - chunks[axis] % f) for axis, f in along.items()}
    means = da.coarsen(np.mean, rechunked_array(level, sides), along, trim_excess=True)
    if level.dtype.kind in "ui":
        means = da.rint(means)
    elif level.dtype.kind == "b":
        means = means >= 0.5
    return means.astype(level.dtype)


def _metadata(image: xr.DataArray, name: str, scales: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    dims = [str(d) for d in image.dims]
    sizes = image.attrs.get("pixel_size") or {}
    unit = image.attrs.get("unit")
    axes = []
    for dim in dims:
        axis = {"name": dim, "type": _AXIS_TYPES[dim]}
        if axis["type"] == "space" and unit and dim in sizes:
            axis["unit"] = str(unit)
        axes.append(axis)
    datasets = []
    for level, factors in enumerate(scales):
        scale = [float(sizes.get(d, 1.0)) * f for d, f in zip(dims, factors, strict=True)]
        transforms = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    return {
        "version": "0.5",
        "multiscales": [{"name": name, "axes": axes, "datasets": datasets}],
    }


def _channel(name: str, dtype: np.dtype) -> dict[str, Any]:
    """Display settings that viewers ask for; the window is the range of the dtype."""
    low, high = 0.0, 1.0
    if dtype.kind in "ui":
        low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    window = {"min": low, "max": high, "start": low, "end": high}
    return {"label": name, "color": "FFFFFF", "active": True, "window": window}
