"""What a source is and whether it changed, told without reading a pixel."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gigaqc.io.location import Location, is_pattern, is_zarr, locate, without_secrets

_BESIDE = ("labels", "points", "shapes", "tables")  # of a store, and no part of its images


@dataclass(frozen=True)
class Identity:
    """Where a source lies, and a digest of what lies there; two that are equal hold the same."""

    where: str
    content: str


def identity_of(source: Any, element: str | None = None, *, labels: bool = False) -> Identity:
    """Identity of what `open_image` (or `open_labels`) would open.

    A local file or folder: names, sizes and times of change of its files; of a zarr store only
    those of the element. A URL: what its server says of the file, or of the metadata of a store. An
    array in memory: its values. A dask array: its graph's name, which another process gives another
    one; beside it the file that it says it comes from.

    Raises
    ------
    GigaqcError, OSError
        When there is nothing, or it may not be looked at.
    """
    if isinstance(source, (list, tuple)):
        parts = [identity_of(part) for part in source]
        return Identity(
            f"{parts[0].where} and {len(parts) - 1} more", _digest(p.content for p in parts)
        )
    if isinstance(source, (str, os.PathLike)):
        return _of_location(locate(source), element, labels)
    folder = _folder_of(source)
    if folder is not None:
        return _of_location(locate(folder), element, labels)
    return Identity("memory", _of_array(source))


def _of_location(location: Location, element: str | None, labels: bool) -> Identity:
    if not location.local:
        return Identity(location.given, _digest(_remote(location, element, labels)))
    path = os.path.abspath(location.path)
    if is_pattern(location):
        import glob

        files = sorted(glob.glob(location.path, recursive=True))
        return Identity(path, _digest(_stamp(f, f) for f in files))
    if not os.path.isdir(path):
        return Identity(path, _digest([_stamp(path, os.path.basename(path))]))
    inside = _inside(element, labels) if is_zarr(location) else [""]
    root = next((p for part in inside if os.path.isdir(p := os.path.join(path, part))), path)
    return Identity(path, _digest(_stamps(root)))


def _inside(element: str | None, labels: bool) -> list[str]:
    """Where an element may lie in a store, the likeliest place first."""
    group = "labels" if labels else "images"
    if element is None:
        return [group]
    # An element of a plate is a path; one that leaves the store is none.
    safe = element if ".." not in element.split("/") and not element.startswith("/") else ""
    return [f"{group}/{safe}", safe] if safe else [group]


def _stamps(root: str) -> Iterator[str]:
    """Files below a folder; of a store not what was added beside its images."""
    for folder, folders, files in os.walk(root, onerror=_raise):
        if folder == root:
            folders[:] = [name for name in folders if name not in _BESIDE]
        folders.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)
            yield _stamp(path, os.path.relpath(path, root))


def _raise(error: OSError) -> None:
    raise error


def _stamp(path: str, name: str) -> str:
    state = os.stat(path)
    return f"{name} {state.st_size} {state.st_mtime_ns}"


def _remote(location: Location, element: str | None, labels: bool) -> Iterator[str]:
    from fsspec.core import url_to_fs

    fs, root = url_to_fs(location.path)
    root = root.rstrip("/")
    places = ["", *_inside(element, labels)] if is_zarr(location) else []
    paths = [
        "/".join(filter(None, (root, place, name)))
        for place in places
        for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray", "0/zarr.json", "0/.zarray")
    ] or [root]
    for path in dict.fromkeys(paths):
        if places and not fs.exists(path):
            continue
        about = fs.info(path)
        known = ("size", "ETag", "etag", "LastModified", "last_modified", "mtime", "created")
        yield " ".join([without_secrets(path), *(str(about[k]) for k in known if k in about)])


def _folder_of(source: Any) -> Path | None:
    """The folder of a zarr array or group on a local disk."""
    if type(source).__module__.partition(".")[0] != "zarr" or not hasattr(source, "store"):
        return None
    from zarr.storage import LocalStore

    store = source.store
    return Path(store.root, source.path) if type(store) is LocalStore else None


def _of_array(source: Any) -> str:
    """Digest of an array in memory, or of the promise of one."""
    if isinstance(source, xr.DataArray):
        about = [str(source.dims), *map(str, source.coords.get("c", xr.DataArray([])).values.flat)]
        about.append(_of_array(source.data))
        # What results say of it too: the same pixels may come with another size.
        shown = ("pixel_size", "unit", "source")
        about += [f"{k} {source.attrs[k]}" for k in shown if k in source.attrs]
        origin = source.attrs.get("source")
        if isinstance(origin, str) and os.path.isfile(origin):
            about.append(_stamp(origin, origin))
        return _digest(about)
    if isinstance(source, np.ndarray) and not source.dtype.hasobject:
        values = hashlib.blake2b(np.ascontiguousarray(source).view("u1").data, digest_size=16)
        return f"{source.dtype.str} {source.shape} {values.hexdigest()}"
    name = getattr(source, "name", None)
    if hasattr(source, "__dask_graph__") and isinstance(name, str):
        return name
    return uuid.uuid4().hex  # nothing is known of it: never the same again


def _digest(parts: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(parts).encode("utf-8", "replace"), digest_size=16).hexdigest()
