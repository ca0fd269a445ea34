"""Imaging mass cytometry: ``.mcd`` (one image for each acquisition) and ``.txt``, by readimc.

readimc parses what describes an acquisition; pixels of an ``.mcd`` are then read by rows, all
channels at once, because a pixel's channels lie together in the file. A ``.txt`` has to be parsed
whole, which is done once a process, and the last two are kept.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigaqc.errors import MissingDependencyError, ReadError
from gigaqc.readers.raw import DECODED, OneImage, RawImage, refuse_levels
from gigaqc.stores.location import Location

_COORDINATES = 3  # x, y, z stand before the channels of a pixel
_PUSHES = 3  # and before these, in a .txt, three columns of pushes
_BLOCK = 1 << 22  # values in a block of rows


@dataclass(frozen=True)
class _Acquisition:
    """What is needed to read an acquisition of an ``.mcd``."""

    name: str
    channels: tuple[str, ...]
    width: int
    height: int
    start: int
    stop: int
    pixel_size: dict[str, float]


class McdReader:
    """The acquisitions of an ``.mcd`` file."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._acquisitions = {a.name: a for a in _acquisitions(location)}

    def images(self) -> list[str]:
        """Names of the acquisitions."""
        return list(self._acquisitions)

    def labels(self) -> list[str] | None:
        """Nothing, an ``.mcd`` holds no labels."""
        return None

    def default(self) -> str | None:
        """Name the only acquisition."""
        return next(iter(self._acquisitions)) if len(self._acquisitions) == 1 else None

    def read(self, name: str, level: int, *, labels: bool = False) -> RawImage:
        """Describe an acquisition."""
        refuse_levels(level, "IMC files have")
        acquisition = self._acquisitions[name]
        array = McdArray(self._location, acquisition)
        rows = max(1, _BLOCK // (acquisition.width * (len(acquisition.channels) + _COORDINATES)))
        return RawImage(
            array=array,
            element=name,
            dims=("c", "y", "x"),
            chunks=(array.shape[0], min(rows, acquisition.height), acquisition.width),
            channels=acquisition.channels,
            pixel_size=acquisition.pixel_size,
            unit="micrometer",
        )


class McdArray:
    """One acquisition, c y x, float32; pixels that were never ablated are 0, as in readimc."""

    def __init__(self, location: Location, acquisition: _Acquisition) -> None:
        self.location = location
        self.acquisition = acquisition
        self.shape = (len(acquisition.channels), acquisition.height, acquisition.width)
        self.dtype = np.dtype("<f4")

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read the pixels of some rows, and keep the channels and columns asked for."""
        channels, rows, columns = key
        start, stop, _ = rows.indices(self.shape[1])
        block = np.zeros((self.shape[0], stop - start, self.shape[2]), self.dtype)
        pixels = self._pixels(start, stop)
        xs, ys = pixels[:, 0].astype(np.int64), pixels[:, 1].astype(np.int64)
        if pixels.size and (np.min(xs) < 0 or np.max(xs) >= self.shape[2]):
            raise ReadError(f"x positions {np.min(xs)} to {np.max(xs)} leave the image")
        kept = (ys >= start) & (ys < stop)
        if not kept.all():
            pixels, xs, ys = pixels[kept], xs[kept], ys[kept]
        block[:, ys - start, xs] = pixels[:, _COORDINATES:].T
        return block[channels, :: rows.step or 1, columns]

    def _pixels(self, start: int, stop: int) -> np.ndarray:
        """Pixels of rows start to stop; all of them where they do not lie in raster order."""
        a = self.acquisition
        wide = _COORDINATES + len(a.channels)
        count = (a.stop - a.start) // (4 * wide)
        if count == 0:
            return np.empty((0, wide), self.dtype)
        table = np.memmap(self.location.path, self.dtype, "r", a.start, (count, wide))
        span = np.array(table[start * a.width : stop * a.width])
        ends = {0: (0, start), -1: (a.width - 1, stop - 1)}
        complete = len(span) == (stop - start) * a.width
        if complete and all(tuple(span[i, :2]) == at for i, at in ends.items()):
            ordered = span[:, 1].astype(np.int64) * a.width + span[:, 0].astype(np.int64)
            if (np.diff(ordered) == 1).all():
                return span
        return np.array(table)


class TextReader(OneImage):
    """The one acquisition of an IMC ``.txt`` file, named after it."""

    def __init__(self, location: Location) -> None:
        super().__init__(location.stem)
        self._location = location

    def read(self, name: str, level: int, *, labels: bool = False) -> RawImage:
        """Take channels from the header, and the size from the first row and the last line."""
        refuse_levels(level, "IMC files have")
        channels = _text_channels(self._location)
        shape = (len(channels), *_text_size(self._location))
        return RawImage(
            array=TextArray(self._location, shape),
            element=name,
            dims=("c", "y", "x"),
            chunks=shape,
            channels=channels,
            pixel_size={"y": 1.0, "x": 1.0},
            unit="micrometer",
        )


class TextArray:
    """The acquisition of a ``.txt``, c y x, float32; parsed once a process."""

    def __init__(self, location: Location, shape: tuple[int, int, int]) -> None:
        self.location = location
        self.shape = shape
        self.dtype = np.dtype(np.float32)
        self.stamp = location.stamp()

    def __getitem__(self, key: Any) -> np.ndarray:
        """Cut a block out of the parsed acquisition."""
        return DECODED.get(self)[key]

    def decode(self) -> np.ndarray:
        """Parse the whole file."""
        import pandas as pd

        with self.location.open() as file:
            table = pd.read_csv(file, sep="\t", dtype=np.float32).to_numpy()
        xs = table[:, _PUSHES].astype(np.int64)
        ys = table[:, _PUSHES + 1].astype(np.int64)
        count, height, width = self.shape
        if table.shape[1] != _PUSHES + _COORDINATES + count:
            raise ReadError(f"{table.shape[1]} columns where the header names {count} channels")
        if min(np.min(xs), np.min(ys)) < 0 or np.max(xs) >= width or np.max(ys) >= height:
            reach = f"y={np.max(ys)}, x={np.max(xs)}"
            raise ReadError(f"positions reach {reach}, not {height} x {width}")
        image = np.zeros(self.shape, np.float32)
        image[:, ys, xs] = table[:, _PUSHES + _COORDINATES :].T
        return image


def _readimc(location: Location) -> Any:
    try:
        import readimc
    except ImportError as error:
        raise MissingDependencyError(
            'source: IMC files need readimc; pip install "gigaqc[imc]".'
        ) from error
    if not location.local:
        raise ReadError(f"source: {location.given!r}: IMC files are read from local paths only.")
    return readimc


def _acquisitions(location: Location) -> list[_Acquisition]:
    readimc = _readimc(location)
    try:
        with closing(readimc.MCDFile(location.path)) as file:  # its own `with` leaks on errors
            file.open()
            found = [(s, a) for s in file.slides for a in s.acquisitions]
            names = _acquisition_names(found)
            result = [_described(a, n) for (_, a), n in zip(found, names, strict=True)]
    except Exception as error:
        raise ReadError(
            f"{location.given}: an .mcd file that cannot be read ({type(error).__name__}: "
            f"{error}); it is corrupt or truncated, export it again."
        ) from error
    size = location.size()
    for a in result:
        if a.stop > size:
            raise ReadError(
                f"{location.given}: truncated, acquisition {a.name!r} should reach byte {a.stop} "
                f"of {size}; copy it again."
            )
    if not result:
        raise ReadError(f"{location.given}: holds no acquisitions.")
    return result


def _acquisition_names(found: list[tuple[Any, Any]]) -> list[str]:
    """Descriptions (ROI_001) where each has its own, else with slide and acquisition number."""
    names = [str(a.description or "").strip() for _, a in found]
    if all(names) and max(Counter(names).values(), default=0) == 1:
        return names
    return [f"{s.id}/{a.id} {n}".strip() for (s, a), n in zip(found, names, strict=True)]


def _described(acquisition: Any, name: str) -> _Acquisition:
    metadata = acquisition.metadata
    if int(metadata["ValueBytes"]) != 4:
        raise ValueError(f"values of {metadata['ValueBytes']} bytes")
    labels = [
        str(label or own)
        for label, own in zip(acquisition.channel_labels, acquisition.channel_names, strict=True)
    ]
    return _Acquisition(
        name=name,
        channels=tuple(labels),
        width=int(metadata["MaxX"]),
        height=int(metadata["MaxY"]),
        start=int(metadata["DataStartOffset"]),
        stop=int(metadata["DataEndOffset"]),
        pixel_size={
            "y": float(acquisition.pixel_size_y_um or 1.0),
            "x": float(acquisition.pixel_size_x_um or 1.0),
        },
    )


def _text_channels(location: Location) -> tuple[str, ...]:
    readimc = _readimc(location)
    try:
        with closing(readimc.TXTFile(location.path)) as file:
            file.open()
            pairs = zip(file.channel_labels, file.channel_names, strict=True)
            return tuple(str(label or name) for label, name in pairs)
    except Exception as error:
        raise ReadError(
            f"{location.given}: an IMC text file that cannot be read "
            f"({type(error).__name__}: {error}); export it again."
        ) from error


def _text_size(location: Location) -> tuple[int, int]:
    """Height and width without parsing pixels: pixels lie in raster order."""
    try:
        with location.open() as file:
            file.readline()
            y = None
            width = 0
            for line in file:
                cells = line.split(b"\t", _PUSHES + 2)
                if y is not None and float(cells[_PUSHES + 1]) != y:
                    break
                y = float(cells[_PUSHES + 1])
                width = max(width, int(float(cells[_PUSHES])) + 1)
            file.seek(max(0, location.size() - (1 << 16)))
            last = file.read().rstrip().rpartition(b"\n")[2].split(b"\t", _PUSHES + 2)
            height = int(float(last[_PUSHES + 1])) + 1
    except (IndexError, ValueError) as error:
        raise ReadError(
            f"{location.given}: an IMC text file without whole pixel lines ({error}); export it "
            "again."
        ) from error
    return height, width
