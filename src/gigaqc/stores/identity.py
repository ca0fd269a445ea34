"""What lies at a location, and whether it changed, told without reading a pixel."""

from __future__ import annotations

import glob
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gigaqc.stores.location import (
    Location,
    locate,
    missing,
    no_permission,
    unreachable,
    without_secrets,
)

_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
_BESIDE = ("labels", "points", "shapes", "tables")  # of a store, and no part of its images


def is_pattern(location: Location) -> bool:
    """Whether a local source is a glob and not the name of something that exists."""
    return location.local and glob.has_magic(location.path) and not os.path.exists(location.path)


def is_folder(location: Location) -> bool:
    """Whether the source is a folder; raises where there is nothing."""
    if location.local:
        if os.path.isdir(location.path):
            return True
        if os.path.exists(location.path):
            return False
        raise missing(location)
    fs, path = location.filesystem()
    try:
        # A web server has no folders, and asking it for one may download the file.
        if is_zarr(location):
            return True
        if _is_web(location):
            return False
        if fs.isdir(path):
            return True
        found = fs.exists(path)
    except PermissionError as error:
        raise no_permission(location) from error
    except Exception as error:  # each filesystem has its own: no network, no credentials
        raise unreachable(location, error) from error
    if not found:
        raise missing(location)
    return False


def is_zarr(location: Location) -> bool:
    """Whether a folder holds the metadata of a zarr array or group."""
    if location.local:
        return any(os.path.exists(os.path.join(location.path, mark)) for mark in _ZARR_MARKS)
    if _is_web(location) and "?" in location.path:  # a query asks for one file
        return False
    fs, path = location.filesystem()
    marks = (f"{path.rstrip('/')}/{mark}" for mark in _ZARR_MARKS)
    return any(_on_web(fs, m) if _is_web(location) else fs.exists(m) for m in marks)


def _on_web(fs: Any, url: str) -> bool:
    """Whether a web server has a small file; its filesystem would take any error for a no."""
    from gigaqc.stores.object_store import retried_now  # which imports zarr

    try:
        retried_now(fs.cat_file, url)
    except FileNotFoundError:
        return False
    return True


def _is_web(location: Location) -> bool:
    return location.path.partition("://")[0].lower() in ("http", "https")


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
    fs, root = location.filesystem()
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
    import xarray as xr  # here, for what only asks whether a path is a zarr store

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
