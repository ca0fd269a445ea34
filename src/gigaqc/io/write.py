"""Images written as OME-Zarr 0.5, chunk by chunk, complete or absent."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull

from gigaqc.errors import ParameterError, WriteError
from gigaqc.image import as_image, channel_names
from gigaqc.io.location import is_zarr, locate
from gigaqc.settling import in_strips, settled

if TYPE_CHECKING:
    import zarr

_AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_LARGEST = 2048 * 2048  # pixels of a written chunk; larger blocks are split
_SIDE = 1024


def write_image(
    image: Any,
    path: str | os.PathLike[str],
    *,
    scale_factors: Sequence[int] | None = None,
    overwrite: bool = False,
) -> None:
    """Write an image as OME-Zarr 0.5, *now*, chunk by chunk, with names, pixel size and unit.

    The store is written beside `path` under a temporary name and renamed when it is complete, so
    an interrupted write leaves no store that opens.

    Parameters
    ----------
    image
        Whatever `gigaqc` takes for an image; its chunks become those of the store (blocks above
        2048 x 2048 pixels are split).
    path
        A local folder that does not exist yet, such as ``"out.zarr"``.
    scale_factors
        Coarser levels, each by this factor in y and x from the one before: ``(2, 2)`` adds levels
        at half and a quarter, of the mean of 2 x 2 pixels (integers are rounded).
    overwrite
        Replace a zarr store that is there. It stays until the new one is complete, so an image
        may be written over the store that it is read from.

    Raises
    ------
    WriteError
        When there is something already, or it cannot be written; nothing is left behind.
    ParameterError
        When `scale_factors` do not fit the image.

    Notes
    -----
    The image is read once; each coarser level reads the level before it from the store.
    """
    labelled = as_image(image)
    write_together([labelled], [path], checked_factors(scale_factors, labelled), overwrite)


def write_labels(
    labels: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a label image as OME-Zarr 0.5, as `write_image` does images.

    Parameters
    ----------
    labels
        Integers, dims a subset of ``t z y x``.
    path, overwrite
        As for `write_image`.
    """
    write_together([labels], [path], (), overwrite, labels=True)


def write_together(
    images: Sequence[xr.DataArray],
    paths: Sequence[str | os.PathLike[str]],
    factors: tuple[int, ...],
    overwrite: bool,
    *,
    labels: bool = False,
) -> None:
    """Write stores, all of them or none: any of them may be what another is read from."""
    targets = [_checked_target(path, overwrite) for path in paths]
    writing = paths[0]
    try:
        with staged(targets) as folders:
            ready = settled_together(images)
            for image, path, folder, target in zip(ready, paths, folders, targets, strict=True):
                writing = path
                _write(image, folder, target, factors, labels=labels)
    except OSError as error:
        raise WriteError(
            f"path: {os.fspath(writing)!r} could not be written ({error}); make room or change the "
            "folder. Nothing was left behind."
        ) from error


def settled_together(images: Sequence[xr.DataArray]) -> list[xr.DataArray]:
    """The same images, what their chunks wait for computed *now*, once for all of them.

    Images that share percentiles would each compute these anew when they are written one by one.
    """
    if len(images) == 1:
        return list(images)
    arrays = [image.data for image in images]
    keys = [key for array in arrays for key in flatten(array.__dask_keys__())]
    name = f"together-{tokenize(*(array.name for array in arrays))}"
    layer: dict[Any, Any] = {(name, number): key for number, key in enumerate(keys)}
    graph = HighLevelGraph.from_collections(name, layer, dependencies=arrays)
    all_blocks = da.Array(graph, name, ((1,) * len(keys),), dtype=arrays[0].dtype)
    known = dict(settled(all_blocks).__dask_graph__())
    ready = []
    for image, array in zip(images, arrays, strict=True):
        own, _ = cull(known, list(flatten(array.__dask_keys__())))
        ready.append(image.copy(data=da.Array(own, array.name, array.chunks, meta=array._meta)))
    return ready


@contextlib.contextmanager
def staged(targets: Sequence[Path], inside: Path | None = None) -> Iterator[list[Path]]:
    """Folders to write into, which become the targets once the block has ended without an error.

    They lie beside the targets, or `inside` a folder of the same file system. What was at a target
    stays until all are complete.
    """
    folders = [
        (inside or target.parent) / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
        for target in targets
    ]
    try:
        yield folders
        _move_in_place(folders, targets)
    finally:
        for folder in folders:
            remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder into which tasks that were running when another failed may still write."""
    for _ in range(100):
        if not folder.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def checked_factors(factors: Sequence[int] | None, image: xr.DataArray) -> tuple[int, ...]:
    """Refuse factors that are no whole numbers from 2, or that leave no pixel."""
    checked = tuple(factors or ())
    if any(isinstance(f, bool) or not isinstance(f, (int, np.integer)) or f < 2 for f in checked):
        raise ParameterError(
            f"scale_factors: got {factors!r}; pass whole numbers from 2, such as (2, 2)."
        )
    smallest = min(image.sizes["y"], image.sizes["x"])
    if checked and int(np.prod(checked)) > smallest:
        raise ParameterError(
            f"scale_factors: {checked} shrink {smallest} pixels to nothing; pass fewer levels."
        )
    return checked


def _checked_target(path: str | os.PathLike[str], overwrite: bool) -> Path:
    location = locate(path)
    if not location.local:
        raise WriteError(
            f"path: {location.given!r} is a URL; write to a local folder and upload it, only there "
            "can a store be complete or absent."
        )
    target = Path(os.path.abspath(location.path))
    if not target.parent.is_dir():
        raise WriteError(f"path: the folder {str(target.parent)!r} does not exist; create it.")
    if not os.path.lexists(target):
        return target
    if not overwrite:
        raise WriteError(f"path: {location.given!r} exists; pass overwrite=True to replace it.")
    if not target.is_dir() or (any(target.iterdir()) and not is_zarr(location)):
        raise WriteError(
            f"path: {location.given!r} is no zarr store and is not replaced; remove it."
        )
    return target


def _move_in_place(folders: Sequence[Path], targets: Sequence[Path]) -> None:
    """Rename what is complete to its place; what was there is removed once all are."""
    replaced = [(t, f.with_suffix(".old")) for f, t in zip(folders, targets, strict=True)]
    replaced = [(target, old) for target, old in replaced if target.exists()]
    moved: list[tuple[Path, Path]] = []
    try:
        for source, place in [*replaced, *zip(folders, targets, strict=True)]:
            os.rename(source, place)
            moved.append((source, place))
    except BaseException:
        for source, place in reversed(moved):
            os.rename(place, source)
        raise
    for _, old in replaced:
        shutil.rmtree(old, ignore_errors=True)


def _write(
    image: xr.DataArray, folder: Path, target: Path, factors: tuple[int, ...], *, labels: bool
) -> None:
    import zarr

    group = zarr.open_group(str(folder), mode="w", zarr_format=3)
    names = [str(number) for number in range(len(factors) + 1)]
    shapes = write_levels(image, group, names, factors, labels=labels)
    # Last: a folder that was interrupted is no image to any reader.
    ome = _metadata(image, target.name.removesuffix(".zarr"), shapes)
    if labels:
        ome["image-label"] = {"version": "0.5"}
    else:
        ome["omero"] = {"channels": [_channel(n, image.dtype) for n in channel_names(image)]}
    group.attrs["ome"] = ome


def write_levels(
    image: xr.DataArray,
    group: zarr.Group,
    names: Sequence[str],
    factors: Sequence[int],
    *,
    labels: bool = False,
) -> list[tuple[int, ...]]:
    """Write the levels of an image into a group, and give their shapes.

    Each coarser level is made from the one before it: means of its pixels; of `labels` the first of
    each square, because a mean of labels is none.
    """
    level = settled(image.data)
    shapes = [level.shape]
    _store_level(level, group, names[0], image.dims)
    for before, name, factor in zip(names, names[1:], factors, strict=False):
        finer = da.from_zarr(group[before])
        level = finer[..., ::factor, ::factor] if labels else _coarser(finer, factor)
        if labels:
            level = level[..., : finer.shape[-2] // factor, : finer.shape[-1] // factor]
            level = level.rechunk(finer.chunksize)
        shapes.append(level.shape)
        _store_level(level, group, name, image.dims)
    return shapes


def _store_level(level: da.Array, group: zarr.Group, name: str, dims: Sequence[Any]) -> None:
    from zarr.codecs import BloscCodec

    chunks = _regular_chunks(level)
    array: Any = group.create_array(
        name,
        shape=level.shape,
        dtype=level.dtype.newbyteorder("="),
        chunks=chunks,
        # Smaller than zstd alone on images, floats above all, and three times as fast.
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
        dimension_names=[str(d) for d in dims],
    )
    # Blocks that cover whole chunks, so that no two tasks write to one.
    blocks = da.store(level.rechunk(chunks), array, lock=False, return_stored=False, compute=False)
    in_strips(blocks).compute()


def _regular_chunks(level: da.Array) -> tuple[int, ...]:
    chunks = [min(max(c), n) for c, n in zip(level.chunks, level.shape, strict=True)]
    if chunks[-1] * chunks[-2] > _LARGEST:
        chunks[-2:] = [min(c, _SIDE) for c in chunks[-2:]]
    return tuple(chunks)


def _coarser(level: da.Array, factor: int) -> da.Array:
    """Mean of factor x factor pixels, in the dtype of `level`; incomplete edges are dropped."""
    y, x = level.ndim - 2, level.ndim - 1
    sides = {
        a: max(factor, c - c % factor)
        for a, c in ((y, level.chunksize[y]), (x, level.chunksize[x]))
    }
    means = da.coarsen(np.mean, level.rechunk(sides), {y: factor, x: factor}, trim_excess=True)
    if level.dtype.kind in "ui":
        means = da.rint(means)
    elif level.dtype.kind == "b":
        means = means >= 0.5
    return means.astype(level.dtype)


def _metadata(image: xr.DataArray, name: str, shapes: Sequence[tuple[int, ...]]) -> dict[str, Any]:
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
    for level, shape in enumerate(shapes):
        scale = [float(sizes.get(d, 1.0)) for d in dims]
        for i in (-2, -1):
            scale[i] *= round(shapes[0][i] / shape[i])
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
