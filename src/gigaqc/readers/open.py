"""From a path, URL, pattern or store to an image: the one place that chooses a reader."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr

from gigaqc.base.formatting import listed
from gigaqc.errors import ElementError, GigaqcError, ParameterError, ReadError
from gigaqc.image.labelled import opens_paths
from gigaqc.readers.raw import RawImage, to_image
from gigaqc.stores.identity import is_folder, is_pattern, is_zarr
from gigaqc.stores.location import Location, locate

_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NIFTI_SIZES = (348, 540)
_MOST = 20  # names in an error message
_FORMATS = (
    "zarr and OME-Zarr, SpatialData .zarr, TIFF (OME-TIFF, BigTIFF, SVS), a folder of TIFFs, "
    "NIfTI (.nii, .nii.gz), IMC (.mcd, .txt)"
)


class Reader(Protocol):
    """One format: which images a source holds, and one of them."""

    def images(self) -> list[str]:
        """Names of the images."""

    def labels(self) -> list[str] | None:
        """Names of the label images; None where the format does not tell them from images."""

    def default(self) -> str | None:
        """Name of the image meant where none is named, or None where that is ambiguous."""

    def read(self, name: str, level: int, *, labels: bool = False) -> RawImage:
        """Open one of them, at a level of its pyramid."""


def open_image(
    source: Any,
    *,
    element: str | None = None,
    level: int = 0,
    dims: str | Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    chunks: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Open an image file lazily: dims ``t c z y x`` (those that it has), named channels.

    Pixels are not read before something is computed; only headers are.

    Parameters
    ----------
    source
        Path or fsspec URL (``file://``, ``s3://``, ``memory://`` ...) of a zarr array or group,
        OME-Zarr 0.1 to 0.5, SpatialData store, TIFF, OME-TIFF, BigTIFF or SVS, NIfTI
        (``gigaqc[mri]``), IMC ``.mcd`` or ``.txt`` (``gigaqc[imc]``), or a zarr store, group or
        array. Or several TIFFs that make one image: a folder or glob of them (in natural order,
        ``frame_2`` before ``frame_10``), or a list of paths in their order. They are channels
        unless `dims` says otherwise, whose first letter is the files: ``"tyx"`` for a frame in
        each, ``"tzyx"`` for a stack in each.
    element
        Which of several images, series or acquisitions; `list_images` gives the names.
    level
        Which level of a pyramid among those that exist, 0 is the finest.
    dims
        The axes as they lie in the file, such as ``"tyx"``, where it says nothing or is wrong;
        taken at their word, so that nothing is added or dropped.
        TIFF axes Q and I (sequences of unknown meaning) are taken for ``t``.
    channels
        Names of the channels, in order; otherwise those of the metadata, else ``"0"``, ``"1"``.
        Colour samples are R, G, B. Repeated names in metadata get a suffix, " (2)", and
        ``attrs["renamed_channels"]`` says so.
    chunks
        Instead of the file's own chunks: a side for y and x, a mapping by dim, or a size for
        each dim (-1 for all of it). Tiny TIFF tiles and strips, and tiny chunks of a sharded
        zarr array, are grouped to about 1024 x 1024.
    storage_options
        What the filesystem of a URL is told beyond environment variables and its configuration
        files, as fsspec takes it: ``{"anon": True}`` for a public bucket, or ``{"endpoint_url":
        "https://..."}``.

    Returns
    -------
    xarray.DataArray
        Over dask, always with ``c`` (a scalar coordinate if `dims` lacks it). ``attrs``:
        ``source``, ``element``, and where known ``pixel_size`` (a dict by dim), ``unit``
        (``"micrometer"``, ``"millimeter"`` ...) and ``repetition_time`` (seconds, NIfTI).

    Raises
    ------
    SourceNotFoundError, ReadError, ElementError, MissingDependencyError
        When there is nothing, no image, several and none was named, or a reader is missing.
        A chunk that cannot be decoded raises `ReadError`, naming it, when it is computed.
    ImageError, ChannelError, ParameterError
        When `dims`, `channels`, `level` or `chunks` do not fit.

    Notes
    -----
    Axes of length 1 are kept, but for those that a format invents: TIFF's, t and u of NIfTI, and
    t and z of OME-Zarr before 0.3. NIfTI axes i, j, k, t are x, y, z, t, without reorientation;
    a compressed NIfTI and an IMC text file are decoded once a process, whole.
    A chunk that a zarr store lacks is its fill value, as zarr has it.
    """
    reader, given = _reader(source, storage_options)
    name = _choose(reader.images(), element, reader.default(), given, "images")
    raw = reader.read(name, _checked_level(level))
    return to_image(raw, source=given, dims=dims, channels=channels, chunks=chunks)


def list_images(source: Any, *, storage_options: Mapping[str, Any] | None = None) -> list[str]:
    """Names of the images in a source, for `open_image`'s ``element=``.

    Series of a TIFF, elements of a SpatialData store, fields of an OME-Zarr plate, acquisitions
    of an ``.mcd``; a source with one image gives one name. `storage_options` as in `open_image`.
    """
    return _reader(source, storage_options)[0].images()


def meant_images(source: Any) -> list[str | None]:
    """Which images a source stands for where none is named, for ``element=`` of `open_image`.

    ``[None]`` where `open_image` opens one without a name, else the names of all.
    """
    reader, _ = _reader(source, None)
    return [None] if reader.default() is not None else [*reader.images()] or [None]


def open_labels(
    source: Any,
    *,
    element: str | None = None,
    level: int = 0,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Open a label image lazily: integers, no ``c``, 0 is background.

    Parameters
    ----------
    source
        As in `open_image`. Of an OME-Zarr image its ``labels`` group is meant, of a SpatialData
        store its labels; 3-D arrays that do not say their axes are ``z y x``.
    element, level, storage_options
        As in `open_image`.

    Returns
    -------
    xarray.DataArray
        Over dask, dims ``y x`` or ``z y x`` (with ``t`` first if there are several times).

    Raises
    ------
    ReadError
        When the values are no integers, or there are several channels; and as `open_image`.
    """
    reader, given = _reader(source, storage_options)
    own = reader.labels()
    names = reader.images() if own is None else own
    default = reader.default() if own is None else (own[0] if len(own) == 1 else None)
    name = _choose(names, element, default, given, "label images")
    raw = reader.read(name, _checked_level(level), labels=own is not None)
    if np.dtype(raw.array.dtype).kind not in "ui":
        raise ReadError(
            f"{given}: {name!r} holds {raw.array.dtype}, labels are integers with 0 as background; "
            "open it with open_image, or label its objects first."
        )
    image = to_image(raw, source=given, as_labels=True)
    if "c" in image.dims:
        raise ReadError(
            f"{given}: {name!r} has {image.sizes['c']} channels; a label image has none, store "
            "each as an image of its own."
        )
    return image


@opens_paths
def open_argument(
    source: str | os.PathLike[str],
    argument: str,
    *,
    dims: str | Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    labels: bool = False,
) -> xr.DataArray:
    """What a verb was given as a path or URL; errors call it by the verb's argument."""
    try:
        if labels:
            return open_labels(source)
        return open_image(source, dims=dims, channels=channels)
    except ElementError as error:
        opener = "open_labels" if labels else "open_image"
        held = str(error).removeprefix("element: ")
        error.args = (f"{argument}: {held.replace('element=', f'gq.{opener}(path, element=...)')}",)
        raise
    except GigaqcError as error:
        error.args = (f"{argument}: {str(error).removeprefix('source: ')}",)
        raise


def _checked_level(level: int) -> int:
    if isinstance(level, bool) or not isinstance(level, (int, np.integer)) or level < 0:
        raise ParameterError(f"level: got {level!r}; pass 0 for the finest, 1 for the next.")
    return int(level)


def _choose(
    names: Sequence[str], element: str | None, default: str | None, source: str, what: str
) -> str:
    if element is not None:
        if element in names:
            return str(element)
        raise ElementError(
            f"element: {source} has no {element!r}; its {what} are {listed(names, _MOST)}."
        )
    if default is not None:
        return default
    if not names:
        raise ReadError(f"{source}: holds no {what}; pass a path to one.")
    raise ElementError(
        f"element: {source} holds {len(names)} {what}; name one of {listed(names, _MOST)} with "
        "element=."
    )


def _reader(source: Any, options: Mapping[str, Any] | None) -> tuple[Reader, str]:
    """Return the reader of a source, and what to call the source."""
    if options is not None and not (isinstance(source, str) and "://" in source):
        raise ParameterError(
            f"storage_options: they go with a URL such as s3://..., got {str(source)!r}; leave "
            "them out."
        )
    if type(source).__module__.partition(".")[0] == "zarr" or _is_store(source):
        from gigaqc.readers.omezarr import ZarrReader

        return ZarrReader(source, name=str(source)), str(source)
    if isinstance(source, (list, tuple)):
        from gigaqc.readers.folder import FolderReader

        files = FolderReader.of_files(source)
        return files, files.given
    location = locate(source, options)
    if is_pattern(location):
        from gigaqc.readers.folder import FolderReader

        return FolderReader.of(location), location.given
    if is_folder(location):
        return _folder_reader(location), location.given
    return _file_reader(location), location.given


def _is_store(source: Any) -> bool:
    return any(k.__module__.startswith("zarr.abc.store") for k in type(source).__mro__)


def _folder_reader(location: Location) -> Reader:
    if is_zarr(location):
        from gigaqc.readers.omezarr import ZarrReader

        return ZarrReader(location, name=location.given)
    if not location.local:
        raise ReadError(
            f"source: {location.given!r} is a folder without zarr metadata; folders of TIFFs are "
            "read from local paths only."
        )
    from gigaqc.readers.folder import FolderReader

    return FolderReader.of(location)


def _file_reader(location: Location) -> Reader:
    head, name = location.head(512), location.path.lower()
    for file_format in FORMATS:
        if file_format.fits(head, name):
            return file_format.reader(location)
    what = "is empty" if not head else "is not an image in a format that is known here"
    raise ReadError(f"source: {location.given!r} {what}; gigaqc reads {_FORMATS}.")


@dataclass(frozen=True)
class FileFormat:
    """A format of single files: what tells it, and the class in a module here that reads it."""

    fits: Callable[[bytes, str], bool]
    """Of the first 512 bytes and the path, in lower case."""
    module: str
    name: str

    def reader(self, location: Location) -> Reader:
        """Of one file; the module is imported now, and what it needs with it."""
        return getattr(importlib.import_module(f"{__package__}.{self.module}"), self.name)(location)


def _is_nifti(head: bytes) -> bool:
    sizes = [int.from_bytes(head[:4], order) for order in ("little", "big")]
    marked = head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2")
    return marked and any(s in _NIFTI_SIZES for s in sizes)


FORMATS = (
    FileFormat(lambda head, _: head[:4] in _TIFF_MARKS, "tiff", "TiffReader"),
    FileFormat(
        lambda head, name: name.endswith((".nii", ".nii.gz")) or _is_nifti(head),
        "nifti",
        "NiftiReader",
    ),
    FileFormat(lambda _, name: name.endswith(".mcd"), "imc", "McdReader"),
    FileFormat(lambda head, _: head.startswith(b"Start_push\t"), "imc", "TextReader"),
)
"""Formats of single files; the first that fits reads one."""


def example_image() -> xr.DataArray:
    """Human HT29 cells, to try things on: a real image that is installed with gigaqc (lazy).

    Returns
    -------
    DataArray
        Dims ``c y x``, 3 x 512 x 512, uint8; channels ``DNA``, ``pH3`` (phospho-histone H3, which
        marks dividing cells) and ``Actin``.

    Notes
    -----
    CC0, images by Jason Moffat; Moffat et al., Cell 124 (2006) 1283-1298, from CellProfiler's
    examples. Some pixels of ``Actin`` are clipped at 255.

    Examples
    --------
    >>> import gigaqc as gq
    >>> gq.example_image().shape
    (3, 512, 512)
    """
    return open_image(Path(__file__).parent.parent / "data" / "ht29.ome.tiff")
