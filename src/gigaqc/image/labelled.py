"""The labelled image: everything a caller may hand in becomes one lazy `xarray.DataArray`.

Dims are a subset, in order, of ``t c z y x``; the data is a dask array; coordinate ``c`` holds
channel names as str. Pixel size and its unit travel in ``attrs["pixel_size"]`` (a dict by dim)
and ``attrs["unit"]``.
"""

from __future__ import annotations

import importlib
import math
import os
import uuid
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr

from gigaqc.base.formatting import listed
from gigaqc.base.geometry import rechunked
from gigaqc.base.naming import named
from gigaqc.errors import ChannelError, ImageError, ImageTypeError, MaskError, ParameterError
from gigaqc.image.polygons import is_polygons, polygon_mask

DIMS = ("t", "c", "z", "y", "x")
"""The axes, in the only order that gigaqc works in."""

NUCLEAR_NAMES = (
    "dna",
    "dapi",
    "hoechst",
    "ir191",
    "ir193",
    "191ir",
    "193ir",
    "h3",
    "hh3",
    "histone",
)
"""What a nuclear channel is called, in order of preference."""

_IMPLIED = {2: ("y", "x"), 3: ("c", "y", "x")}
_BLOCK_SIDE = 1024  # chunks given to arrays that come without any


def as_image(
    source: Any,
    *,
    dims: str | Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    argument: str = "image",
) -> xr.DataArray:
    """Turn what a caller hands in into the labelled lazy image; pixels are not read.

    Parameters
    ----------
    source
        A path or URL, as `gigaqc.open_image` takes it; a DataArray, a SpatialData image element (of
        a multiscale element its full-resolution level), or a numpy, dask, zarr or cupy array.
    dims
        The axes of an array without labels, such as ``"tyx"``; 2-D is ``y x`` and 3-D is
        ``c y x`` unless said. Overrides the labels of a DataArray, and the axes of a file.
    channels
        Names of the channels, in order; overrides the names it comes with.
    argument
        How the caller names this argument, for messages.

    Returns
    -------
    xarray.DataArray
        Over dask, dims in the order ``t c z y x``, always with ``c`` (a single channel is named
        after the array, else ``"0"``).

    Raises
    ------
    ImageTypeError, ImageError, ChannelError
        When it is no image; the message says what to pass instead.
    SourceNotFoundError, ReadError
        A path or URL without an image that can be read.
    """
    if isinstance(source, (str, os.PathLike)):
        source = opened(source, argument, dims=dims, channels=channels)
        dims = channels = None  # which are those of the file
    labelled = _as_dataarray(source, argument)
    if labelled is None:
        data, labels = _as_dask(source, dims, argument)
        labelled = xr.DataArray(data, dims=labels)
    elif dims is not None:
        labels = parse_dims(dims, labelled.ndim, argument)
        named = xr.DataArray(labelled.data, dims=labels, attrs=labelled.attrs)
        labelled = named.rename(labelled.name)
    _check_dims(labelled.dims, argument)
    check_dtype(labelled.dtype, argument)
    if 0 in labelled.shape:
        raise ImageError(
            f"{argument}: empty, its shape is {dict(labelled.sizes)}; pass an image with pixels."
        )
    if labelled.name == getattr(labelled.data, "name", None):
        labelled = labelled.rename(None)  # xarray took the key of the dask array for a name
    labelled = _name_channels(labelled, channels, argument)
    labelled = labelled.transpose(*(d for d in DIMS if d in labelled.dims))
    if not isinstance(labelled.data, da.Array):
        labelled = labelled.copy(data=_as_dask(labelled.data, labelled.dims, argument)[0])
    if any(np.isnan(s) for s in labelled.shape):
        raise ImageError(
            f"{argument}: the chunk sizes are unknown (nan); call compute_chunk_sizes() on its "
            "dask array first."
        )
    return labelled


class Opener(Protocol):
    """Opens a path or URL lazily; its errors call it by the caller's argument."""

    def __call__(
        self,
        source: str | os.PathLike[str],
        argument: str,
        *,
        dims: str | Sequence[str] | None = None,
        channels: Sequence[str] | None = None,
        labels: bool = False,
    ) -> xr.DataArray:
        """The image, or with `labels` the label image."""


_OPENERS: list[Opener] = []
_READERS = "gigaqc.readers"  # registers one; loaded for the first path


def opens_paths(opener: Opener) -> Opener:
    """Register what opens paths and URLs: readers stand above this module, which knows none."""
    _OPENERS[:] = [opener]
    return opener


def opened(source: Any, argument: str, **options: Any) -> Any:
    """The image (or labels) of a path or URL, lazily; what is no path as it is."""
    if not isinstance(source, (str, os.PathLike)):
        return source
    if not _OPENERS:
        importlib.import_module(_READERS)
    return _OPENERS[0](source, argument, **options)


def parse_dims(dims: str | Sequence[Hashable] | None, ndim: int, argument: str) -> tuple[str, ...]:
    """Axes of an array of `ndim` dimensions, as given or implied."""
    if dims is None:
        if ndim in _IMPLIED:
            return _IMPLIED[ndim]
        raise ImageError(
            f"{argument}: an array of {ndim} dimensions does not say which axis is which; pass "
            f"dims=, a string of {ndim} of the letters t c z y x such as {'tczyx'[-ndim:]!r}."
        )
    labels = tuple(map(str, dims))
    if len(labels) != ndim:
        raise ImageError(
            f"dims: got {''.join(map(str, labels))!r} ({len(labels)} axes) for an array of {ndim} "
            "dimensions; name each axis once, for example dims='tyx'."
        )
    _check_dims(labels, argument)
    return labels


def _check_dims(dims: tuple[Hashable, ...], argument: str) -> None:
    unknown = [d for d in dims if d not in DIMS]
    if unknown or len(set(dims)) != len(dims):
        raise ImageError(
            f"{argument}: dims {tuple(dims)} are not a subset of t c z y x; rename them "
            "(image.rename(...)) or pass dims=."
        )
    if "y" not in dims or "x" not in dims:
        raise ImageError(f"{argument}: dims {tuple(dims)} lack y or x; an image has both.")


def check_dtype(dtype: np.dtype, argument: str) -> None:
    """Refuse what is not bool, an integer of 8 to 64 bits or a float of 16 to 64 bits."""
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise ImageError(
            f"{argument}: dtype {dtype} cannot be measured; convert it to bool, an integer of 8 "
            "to 64 bits or a float of 16 to 64 bits."
        )


def _as_dataarray(source: Any, argument: str) -> xr.DataArray | None:
    """The DataArray in `source`, or None where it is an array without labels."""
    if isinstance(source, xr.DataArray):
        return _chunked(source)
    if isinstance(source, xr.DataTree):
        return _finest_level(source, argument)
    if isinstance(source, xr.Dataset):
        if len(source.data_vars) != 1:
            raise ImageError(
                f"{argument}: a Dataset with variables {list(source.data_vars)}; pass one of them."
            )
        return _chunked(next(iter(source.data_vars.values())))
    if hasattr(source, "images") and hasattr(source, "coordinate_systems"):
        raise ImageTypeError(
            f"{argument}: got a SpatialData object with images {list(source.images)}; pass one of "
            "its elements, for example sdata.images[name]."
        )
    return None


def _chunked(image: xr.DataArray) -> xr.DataArray:
    if isinstance(image.data, da.Array):
        return image
    # A random token, because hashing the content would read every pixel.
    return image.chunk(_default_chunks(image.dims, image.shape), token=uuid.uuid4().hex)


def _finest_level(tree: xr.DataTree, argument: str) -> xr.DataArray:
    for name in ("scale0", *tree.children):
        node = tree.children.get(name)
        if node is not None and len(node.data_vars) == 1:
            return _chunked(next(iter(node.data_vars.values())))
    raise ImageError(
        f"{argument}: a DataTree with children {list(tree.children)} is no multiscale image; pass "
        "one level as a DataArray."
    )


def _as_dask(
    source: Any, dims: str | Sequence[Hashable] | None, argument: str
) -> tuple[da.Array, tuple[str, ...]]:
    """The array, and its axes as given or implied."""
    if isinstance(source, da.Array):
        return source, parse_dims(dims, source.ndim, argument)
    if not (hasattr(source, "shape") and hasattr(source, "dtype") and hasattr(source, "ndim")):
        raise ImageTypeError(
            f"{argument}: got {type(source).__name__}; pass a path or URL, an xarray.DataArray, a "
            "SpatialData element, or a numpy, dask, zarr or cupy array."
        )
    check_dtype(np.dtype(source.dtype), argument)
    if source.ndim < 2:
        raise ImageError(f"{argument}: an array of shape {source.shape} has no y and x.")
    if 0 in source.shape:
        raise ImageError(f"{argument}: empty, its shape is {source.shape}; pass pixels.")
    labels = parse_dims(dims, source.ndim, argument)
    if type(source).__module__.partition(".")[0] == "zarr":
        meta = np.empty((0,), source.dtype)
        return da.from_array(source, chunks=source.chunks, name=False, meta=meta), labels
    chunks = tuple(_default_chunks(labels, source.shape).values())
    # name=False: a random key, because hashing the content would read every pixel.
    return da.from_array(source, chunks=chunks, name=False, asarray=False), labels


def _default_chunks(dims: Iterable[Hashable], shape: Sequence[int]) -> dict[Hashable, int]:
    """Squares of a plane; of small planes several, so that a chunk is worth a task."""
    sizes = dict(zip(dims, shape, strict=True))
    sides = {d: min(n, _BLOCK_SIDE) if d in ("y", "x") else 1 for d, n in sizes.items()}
    for d in ("z", "t"):
        if d in sides:
            room = _BLOCK_SIDE**2 // math.prod(sides.values())
            sides[d] = min(sizes[d], max(room, 1))
    return sides


def _name_channels(
    image: xr.DataArray, channels: Sequence[str] | None, argument: str
) -> xr.DataArray:
    if "c" not in image.dims:
        own = image.coords["c"].item() if "c" in image.coords else image.name
        if "c" in image.coords:
            image = image.drop_vars("c")
        image = image.expand_dims("c")
        names = ["0" if own is None else str(own)]
    elif "c" in image.coords:
        names = [writable_name(n) for n in image.coords["c"].values]
    else:
        names = [str(n) for n in range(image.sizes["c"])]
    if channels is not None:
        names = check_channels(channels, image.sizes["c"])
    repeated = [n for n, k in Counter(names).items() if k > 1]
    if repeated:
        raise ChannelError(
            f"{argument}: channels {repeated} are named more than once; give each its own name "
            "with channels= or image.assign_coords(c=...)."
        )
    return image.assign_coords(c=("c", np.array(names, dtype=object).astype(str)))


def writable_name(name: object) -> str:
    """The name as text that files and tables can hold: half a surrogate pair becomes ``?``."""
    return str(name).encode("utf-8", "replace").decode("utf-8")


def check_channels(channels: Sequence[str], count: int) -> list[str]:
    """Names for `count` channels, or an error that says what is wrong with them."""
    if isinstance(channels, str):
        channels = [channels]
    names = [writable_name(n) for n in channels]
    if len(names) != count:
        raise ChannelError(
            f"channels: got {len(names)} names for {count} channels; name each once."
        )
    empty = [i for i, n in enumerate(names) if not n.strip()]
    if empty:
        raise ChannelError(f"channels: the names at {empty} are empty; give each channel a name.")
    repeated = [n for n, k in Counter(names).items() if k > 1]
    if repeated:
        raise ChannelError(f"channels: {repeated} occur more than once; give each its own name.")
    return names


def channel_names(image: xr.DataArray) -> list[str]:
    """Names of the channels of an image from `as_image`."""
    return [str(n) for n in image.coords["c"].values]


def channel_index(names: Sequence[str], channel: str | int, argument: str = "channel") -> int:
    """Position of `channel`, a name or a position, among `names`."""
    if isinstance(channel, (int, np.integer)) and not isinstance(channel, bool):
        if -len(names) <= channel < len(names):
            return int(channel) % len(names)
        raise ChannelError(
            f"{argument}: {channel} is out of range; there are {len(names)} channels."
        )
    if channel in names:
        return list(names).index(str(channel))
    raise ChannelError(f"{argument}: no channel {channel!r}; there are {listed(names)}.")


def chosen_channels(
    image: xr.DataArray, channels: Sequence[str | int] | str | int | None
) -> xr.DataArray:
    """The channels that are named, in that order; the image itself for None."""
    if channels is None:
        return image
    names = channel_names(image)
    wanted = [channels] if isinstance(channels, (str, int)) else list(channels)
    at = [channel_index(names, channel, "channels") for channel in wanted]
    if not at or len(set(at)) != len(at):
        raise ChannelError(f"channels: got {wanted}; name at least one, and each once.")
    return image if at == list(range(len(names))) else image.isel(c=at)


def check_same_channels(images: Sequence[xr.DataArray]) -> None:
    """Refuse fields of view of different channels, and an empty list of them."""
    if not images:
        raise ParameterError("images: got an empty list; pass at least one image.")
    first = channel_names(images[0])
    for k, image in enumerate(images):
        if channel_names(image) != first:
            raise ChannelError(
                f"images: the first has channels {first}, number {k + 1} has "
                f"{channel_names(image)}; pass channels= that all of them have."
            )


def nuclear_channel(names: Sequence[str]) -> int | None:
    """Position of the channel whose name says that it shows nuclei, or None.

    A whole name wins over a word of a longer one ("DAPI_R1", "Histone H3", "DNA1"), that over the
    start of a word ("H3K27Ac"), and earlier entries of `NUCLEAR_NAMES` win over later ones.
    """
    words = ["".join(ch if ch.isalnum() else " " for ch in n.lower()).split() for n in names]
    for matches in (_is_name, _has_word, _has_start):
        for wanted in NUCLEAR_NAMES:
            for i, parts in enumerate(words):
                if matches(parts, wanted):
                    return i
    return None


def _is_name(parts: list[str], wanted: str) -> bool:
    return "".join(parts) == wanted


def _has_word(parts: list[str], wanted: str) -> bool:
    return any(p.startswith(wanted) and not p[len(wanted) :].strip("0123456789") for p in parts)


def _has_start(parts: list[str], wanted: str) -> bool:
    return any(p.startswith(wanted) for p in parts)


def as_mask(mask: Any, image: xr.DataArray, argument: str = "mask") -> xr.DataArray:
    """A bool mask over the dims of `image` that it has, chunked like the image; not read.

    Dims that the mask lacks (often ``t``, ``c``, ``z``) are filled by repeating it. Polygons (of
    shapely, or a shapes element) are in the coordinates of the image, see
    `gigaqc.image.polygons`. A file, which often cannot hold bool, is a mask where it is above 0.
    """
    if is_polygons(mask):
        return polygon_mask(mask, image, argument)
    if isinstance(mask, (str, os.PathLike)):
        mask = _above_zero(opened(mask, argument), image)
    if isinstance(mask, xr.DataArray):
        labelled = mask
    else:
        if not hasattr(mask, "shape"):
            raise MaskError(
                f"{argument}: got {type(mask).__name__}; pass bool, polygons, or the path of a "
                "file that is above 0 inside."
            )
        labels = ("y", "x") if mask.ndim == 2 else tuple(image.dims)
        if mask.ndim != len(labels):
            raise MaskError(
                f"{argument}: an array of shape {mask.shape} does not say which axis is which; "
                "pass a DataArray with dims."
            )
        labelled = xr.DataArray(mask, dims=labels)
    if labelled.dtype != np.bool_:
        raise MaskError(f"{argument}: dtype {labelled.dtype}; pass bool, for example mask > 0.")
    extra = [d for d in labelled.dims if d not in image.dims]
    wrong = {d: n for d, n in labelled.sizes.items() if d in image.dims and n != image.sizes[d]}
    if extra or wrong or "y" not in labelled.dims or "x" not in labelled.dims:
        raise MaskError(
            f"{argument}: dims {dict(labelled.sizes)} do not fit the image's {dict(image.sizes)}; "
            "pass a mask of the same y and x."
        )
    order = [d for d in image.dims if d in labelled.dims]
    labelled = labelled.transpose(*order)
    chunks = {d: image.chunksizes[d] for d in order}
    labelled = labelled.drop_vars(list(labelled.coords))
    if not isinstance(labelled.data, da.Array):
        # Not xarray's token: dask's of a square in memory is that of its transpose too.
        return labelled.chunk(chunks, token=named("mask", labelled.data))
    return rechunked(labelled, chunks)


def _above_zero(mask: xr.DataArray, image: xr.DataArray) -> xr.DataArray:
    """The mask that a file holds, without the axes of length 1 that formats add."""
    if mask.sizes.get("c") == 1:
        mask = mask.isel(c=0, drop=True)
    added = [d for d in mask.dims if mask.sizes[d] == 1 and d not in image.dims]
    return mask.isel(dict.fromkeys(added, 0), drop=True) > 0
