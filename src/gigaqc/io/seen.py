"""Chunks that cannot be read: what the error says, and whether this process sees the image at all.

A chunk that a zarr array lacks is its fill value. So a worker that does not see the folder of an
array would take all of it for fill value, and nobody would notice.
"""

from __future__ import annotations

import os
import pickle
import sys

from gigaqc.errors import ReadError
from gigaqc.io.location import without_secrets

_MARKS = ("zarr.json", ".zarray")


class ChunkError(ReadError):
    """A chunk that could not be read: where it lies, why, and what helps."""

    def __init__(self, store: str, index: tuple[int, ...], why: str, cure: str) -> None:
        super().__init__(store, index, why, cure)  # so it can be pickled
        self.store, self.index, self.why, self.cure = store, index, why, cure

    def __str__(self) -> str:
        place = f"chunk {self.index} " if self.index else ""
        return f"{self.store}: {place}cannot be read ({self.why}); {self.cure}."


class Unreachable(ChunkError):
    """Not the chunk is bad, but its store does not answer, or is not there."""


def check_seen(folder: str) -> None:
    """Refuse to take what is not there for fill value where not even its metadata is there."""
    if not any(os.path.exists(os.path.join(folder, mark)) for mark in _MARKS):
        raise unseen(folder)


def unseen(path: str) -> Unreachable:
    """The error for a path that is not there while it is computed."""
    worker = _worker()
    if worker is None:
        return Unreachable(
            path, (), "it is not there any more", "it was moved or removed; open it where it is now"
        )
    return Unreachable(
        path,
        (),
        f"worker {worker} does not see it",
        "put the image where all workers see it under the same path, on a shared file system, or "
        "into an object store (s3://)",
    )


def told(error: BaseException) -> str:
    """An error in one line."""
    lines = without_secrets(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def portable(error: BaseException) -> BaseException:
    """The error, or what it says where it cannot be sent to another process."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    try:
        for part in chain:
            pickle.dumps(part)
    except Exception:
        return OSError(told(chain[0]))
    return chain[0]


def _worker() -> str | None:
    """Name and address of the dask worker that this is, if it is one."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        worker = distributed.get_worker()
    except ValueError:
        return None
    return f"{worker.name} at {worker.address}"
