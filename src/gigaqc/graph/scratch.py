"""A temporary place for frames: made when it is first written to, gone when nobody needs it.

Frames of a place are laid down as a zarr array of which a chunk is a band of rows of some frames,
so that all frames of a band are read without the rest.

Folders of a run are removed by the task that comes after the last reader, or by a task that fails;
where neither comes to it, when the graph that names them is forgotten or the process ends.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gigaqc.base import machine
from gigaqc.errors import ParameterError, WriteError
from gigaqc.stores.direct import direct
from gigaqc.stores.staging import remove


class Scratch:
    """Folders below one that belongs to a graph."""

    def __init__(self, temporary: str | os.PathLike[str] | None) -> None:
        self._failures: dict[Path, BaseException] = {}
        given = machine.temporary() if temporary is None else temporary
        self.parent = Path(tempfile.gettempdir() if given is None else given).absolute()
        self.root = self.parent / f"gigaqc-{uuid.uuid4().hex}"
        weakref.finalize(self, remove, self.root)

    def __reduce__(self) -> Any:
        """A copy in another process knows the place, and does not remove it when forgotten."""
        return _copied, (self.parent, self.root.name)

    def open(self) -> Path:
        """A new folder, for one run of a part of the graph."""
        try:
            self.root.mkdir(exist_ok=True)
            folder = self.root / uuid.uuid4().hex
            folder.mkdir()
        except OSError as error:
            raise ParameterError(
                f"temporary: {str(self.parent)!r} cannot be written to ({error}); pass a folder "
                "with room for the series that all workers see."
            ) from error
        return folder

    def close(self, folders: Iterable[Path]) -> None:
        """Remove folders, and the root with its last one."""
        for folder in folders:
            remove(folder)
        with contextlib.suppress(OSError):  # others are still at work in it
            self.root.rmdir()

    @contextlib.contextmanager
    def cleaned(self, folders: Sequence[Path]) -> Iterator[None]:
        """Nothing is left of the folders if what happens within fails.

        Tasks beside it then fail for want of the folders: they give the first one's error.
        """
        try:
            yield
        except BaseException as failure:
            error = explained(failure, self.parent) if isinstance(failure, OSError) else failure
            known = (self._failures[f] for f in folders if f in self._failures)
            first = next(known, error)
            self._failures.update(dict.fromkeys(folders, first))
            self.close(folders)
            if first is failure:
                raise
            raise first from (failure if first is error else None)


def explained(error: OSError, folder: Path) -> WriteError:
    """What a failure to write below a temporary folder means."""
    if isinstance(error, WriteError):
        return error
    return WriteError(
        f"temporary: {str(folder)!r} could not be written to or read from ({error}); pass a folder "
        "with room for the series that all workers see."
    )


def _copied(parent: Path, name: str) -> Scratch:
    copy = Scratch.__new__(Scratch)
    copy._failures = {}
    copy.parent = parent
    copy.root = parent / name
    return copy


def check_temporary(temporary: str | os.PathLike[str] | None) -> None:
    """Refuse what is no folder that can be written to."""
    if temporary is None:
        return
    folder = Path(temporary)
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ParameterError(
            f"temporary: {os.fspath(temporary)!r} is no folder that can be written to; pass one "
            "with room for the series that all workers see."
        )


@dataclass(frozen=True)
class Bands:
    """An array in a folder, whose chunks are bands of rows of runs of frames.

    Runs may be of different lengths: each has a chunk of its own, the longer ones a full one.
    """

    folder: Path
    chunk: tuple[int, ...]

    @classmethod
    def create(
        cls,
        folder: Path,
        shape: Sequence[int],
        dtype: np.dtype,
        runs: int,
        longest: int,
        height: int,
    ) -> Bands:
        """Lay down frames of this shape (..., y, x), in so many runs."""
        import zarr
        from zarr.codecs import BloscCodec

        *others, y, x = shape
        chunk = (longest, *others, min(height, y), x)
        zarr.create_array(
            folder,
            shape=(runs * longest, *shape),
            chunks=chunk,
            dtype=dtype.newbyteorder("="),
            compressors=BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
            chunk_key_encoding={"name": "v2", "separator": "."},
        )
        return cls(folder, chunk)

    def write(self, run: int, frames: np.ndarray) -> None:
        """All bands of a run, encoded here: zarr's pipeline takes longer than the work."""
        import imagecodecs

        height = self.chunk[-2]
        for band, top in enumerate(range(0, frames.shape[-2], height)):
            part = frames[..., top : top + height, :]
            block = np.zeros(self.chunk, frames.dtype.newbyteorder("="))
            block[: len(part), ..., : part.shape[-2], :] = part
            encode: Any = imagecodecs.blosc_encode  # takes arrays, which its types do not say
            coded = encode(block, level=1, compressor="lz4", shuffle="bitshuffle", numthreads=1)
            index = (run, *(0 for _ in self.chunk[1:-2]), band, 0)
            name = ".".join(map(str, index))
            # A worker that was thought lost may write the same: complete or absent, then replaced.
            partial = self.folder / f".{name}.{uuid.uuid4().hex}"
            partial.write_bytes(coded)
            os.replace(partial, self.folder / name)


def read_rows(written: Sequence[Bands], rows: slice, lengths: Sequence[int]) -> Iterator[Any]:
    """Rows of the frames of each run, one after the other; `written` says where each run lies."""
    import zarr

    folders = {bands.folder for bands in written}
    arrays = {folder: direct(zarr.open_array(folder, mode="r")) for folder in folders}
    for run, (bands, length) in enumerate(zip(written, lengths, strict=True)):
        every = tuple(slice(0, n) for n in bands.chunk[1:-2])
        first = run * bands.chunk[0]
        place = (slice(first, first + length), *every, rows, slice(0, bands.chunk[-1]))
        yield arrays[bands.folder][place]
