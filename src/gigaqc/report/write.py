"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from typing import BinaryIO

from gigaqc.errors import WriteError
from gigaqc.stores.staging import local_path

_CURES = {
    errno.ENOSPC: "the disk is full: free some space or write to another folder",
    errno.EDQUOT: "your quota is used up: free some space or write to another folder",
    errno.EACCES: "permission denied: choose a folder that you may write to",
    errno.EPERM: "not permitted: choose a folder that you may write to",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOENT: "the folder does not exist: create it first",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.EISDIR: "it is a folder: name a file in it",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
}


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8; `path` is complete or as it was before.

    The text goes to a sibling file first, which then takes the place of `path` in one step.

    Parameters
    ----------
    path
        The file; one that exists is replaced.
    text
        What it shall hold.

    Raises
    ------
    WriteError
        When it cannot be written; the message names the path and the cure, and nothing is left.
    """
    write_bytes(path, text.encode("utf-8", "replace"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """The same for bytes."""
    target = local_path(path)
    sibling = target.parent / f".gigaqc-{uuid.uuid4().hex}.tmp"
    try:
        with open(sibling, "xb") as stream:
            _write(stream, content)
        os.replace(sibling, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            sibling.unlink()
        if isinstance(error, OSError):
            cure = _CURES.get(error.errno or 0, f"{error.strerror or error}: try another folder")
            raise WriteError(f"path: cannot write {str(target)!r}; {cure}.") from error
        raise


def _write(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)
    stream.flush()
    os.fsync(stream.fileno())
