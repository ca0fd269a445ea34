"""Files and stores that are complete or absent: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gigaqc.base.backend import to_host
from gigaqc.errors import WriteError
from gigaqc.stores.identity import is_zarr
from gigaqc.stores.location import locate

_URL = re.compile(r"(?!file:|local:)[A-Za-z][A-Za-z0-9+.-]+:/")  # C:/ is a drive


@contextlib.contextmanager
def staged(targets: Sequence[Path], inside: Path | None = None) -> Iterator[list[Path]]:
    """Paths to write to, which become the targets once the block has ended without an error.

    They lie beside the targets, or `inside` a folder of the same file system; the caller makes
    files or folders of them. What was at a target stays until all are complete.
    """
    partial = [
        (inside or target.parent) / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
        for target in targets
    ]
    try:
        yield partial
        _move_in_place(partial, targets)
    finally:
        for path in partial:
            remove(path)


class StagedArray:
    """A zarr array in a local store that is written to as long as the store is there.

    Tasks that are running when a run is interrupted go on for a while, and what they write would
    bring a part of a removed store back.
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        self._root = Path(array.store.root)
        folder = self._root / array.path
        self._metadata = folder / ("zarr.json" if array.metadata.zarr_format == 3 else ".zarray")
        self.shape, self.dtype = array.shape, array.dtype

    def __setitem__(self, place: Any, block: Any) -> None:
        pixels = to_host(block)
        self._check()
        self._array[place] = pixels
        self._check()  # it may have been removed between

    def _check(self) -> None:
        """Leave nothing of a store that was removed."""
        if self._metadata.exists():
            return
        folder = place = self._metadata.parent
        remove(folder)
        with contextlib.suppress(OSError):  # not empty, or gone
            while place != self._root:
                place = place.parent
                place.rmdir()
        raise WriteError(f"path: {str(folder)!r} was removed while it was written to; run again.")


def remove(path: Path) -> None:
    """Remove a file, or a folder into which tasks that were running may still write."""
    for _ in range(100):
        if not os.path.lexists(path):
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            if path.exists():
                time.sleep(0.05)
        else:
            path.unlink(missing_ok=True)


def local_path(path: str | os.PathLike[str], argument: str = "path", *, what: str = "file") -> Path:
    """A path to write to; refuses a URL, of which `Path` would make a folder named ``s3:``."""
    given = os.fspath(path)
    if _URL.match(given):
        raise WriteError(
            f"{argument}: {given!r} is a URL; write to a local folder and upload it, only there "
            f"can a {what} be complete or absent."
        )
    return Path(given)


def checked_target(path: str | os.PathLike[str], overwrite: bool, *, store: bool) -> Path:
    """The place of a file, or of a zarr `store`, that can be written to; raises WriteError."""
    local_path(path, what="store" if store else "file")
    location = locate(path)
    target = Path(os.path.abspath(location.path))
    if not target.parent.is_dir():
        raise WriteError(f"path: the folder {str(target.parent)!r} does not exist; create it.")
    if not os.path.lexists(target):
        return target
    if not overwrite:
        raise WriteError(f"path: {location.given!r} exists; pass overwrite=True to replace it.")
    if store and (not target.is_dir() or (any(target.iterdir()) and not is_zarr(location))):
        raise WriteError(
            f"path: {location.given!r} is no zarr store and is not replaced; remove it."
        )
    if not store and target.is_dir():
        raise WriteError(f"path: {location.given!r} is a folder and is not replaced; remove it.")
    return target


def _move_in_place(partial: Sequence[Path], targets: Sequence[Path]) -> None:
    """Rename what is complete to its place; what was there is removed once all are."""
    replaced = [(t, p.with_suffix(".old")) for p, t in zip(partial, targets, strict=True)]
    replaced = [(target, old) for target, old in replaced if os.path.lexists(target)]
    moved: list[tuple[Path, Path]] = []
    try:
        for source, place in [*replaced, *zip(partial, targets, strict=True)]:
            os.rename(source, place)
            moved.append((source, place))
    except BaseException:
        for source, place in reversed(moved):
            os.rename(place, source)
        raise
    for _, old in replaced:
        remove(old)
