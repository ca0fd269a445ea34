"""Sums over the objects of a label image, keyed by label, and the names of their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from gigaqc.base.formatting import unit_name
from gigaqc.image.labelled import channel_names
from gigaqc.kernels import objects as kernels

_SYMBOLS = {
    "angstrom": "angstrom",
    "nanometer": "nm",
    "micrometer": "um",
    "millimeter": "mm",
    "centimeter": "cm",
    "inch": "inch",
    "meter": "m",
}


@dataclass(frozen=True)
class Rows:
    """One row an object, or a part of one, sorted by label.

    Attributes
    ----------
    labels
        uint64 (n,).
    counts
        int64 (n,), pixels.
    box
        int64 (n, 6): smallest z, y, x in the image, and one more than the largest.
    sums
        float64 (n, 9): of z, y, x, zz, yy, xx, zy, zx, yx about the corner of the box.
    values
        float64 (n, channels, 5): n, mean, M2, min, max of the finite pixels.
    pieces
        int64 (n, 2): pieces and holes, each within its block until seams are added.
    """

    labels: np.ndarray
    counts: np.ndarray
    box: np.ndarray
    sums: np.ndarray
    values: np.ndarray
    pieces: np.ndarray

    @classmethod
    def empty(cls, channels: int) -> Rows:
        """No object."""
        return cls(
            np.zeros(0, "u8"),
            np.zeros(0, "i8"),
            np.zeros((0, 6), "i8"),
            np.zeros((0, kernels.N_SUMS)),
            np.zeros((0, channels, kernels.N_VALUES)),
            np.zeros((0, 2), "i8"),
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(column.nbytes for column in self.columns().values())

    def columns(self) -> dict[str, np.ndarray]:
        """The arrays by their names."""
        return dict(self.__dict__)


def merged(parts: Sequence[Rows]) -> Rows:
    """One row an object: what is of one label added, in the order of the parts."""
    if len(parts) == 1:
        return parts[0]
    labels = np.concatenate([p.labels for p in parts])
    order = np.argsort(labels, kind="stable")  # parts are sorted, which this makes use of
    labels = labels[order]
    first = np.ones(len(labels), bool)
    first[1:] = labels[1:] != labels[:-1]
    group = np.cumsum(first) - 1
    n = int(first.sum())

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(p, name) for p in parts])

    # One column after the other: a copy of all would take as much memory as the parts.
    shapes = (joined(name) for name in ("counts", "box", "sums"))
    counts, box, sums = kernels.merge_shapes(order, group, n, *shapes)
    total = kernels.merge_values(order, group, n, joined("values"))
    pieces = joined("pieces")
    added = np.add.reduceat(pieces[order], np.flatnonzero(first), axis=0) if n else pieces
    return Rows(labels[first], counts, box, sums, total, added)


def pixel_size(array: xr.DataArray) -> tuple[dict[str, float], str] | None:
    """Size of a pixel by dim, and the full name of its unit; None where either is unknown."""
    unit = unit_name(array.attrs.get("unit"))
    given = array.attrs.get("pixel_size") or {}
    sizes = {d: float(given[d]) for d in "zyx" if d in array.dims and d in given}
    known = len(sizes) == sum(d in array.dims for d in "zyx")
    return (sizes, unit) if known and unit is not None and all(sizes.values()) else None


@dataclass(frozen=True)
class Layout:
    """What is needed to name the columns: the axes, their sizes, channels, size of a pixel."""

    dims: tuple[str, ...]
    sizes: Mapping[str, int]
    channels: tuple[str, ...]
    floats: bool
    index: str
    pixel_size: Mapping[str, float] | None
    symbol: str

    @classmethod
    def of(cls, labels: xr.DataArray, image: xr.DataArray | None) -> Layout:
        """That of labels and the image they lie on; either may know the size of a pixel."""
        known = pixel_size(labels) or (None if image is None else pixel_size(image))
        return cls(
            tuple(map(str, labels.dims)),
            {str(d): int(n) for d, n in labels.sizes.items()},
            () if image is None else tuple(channel_names(image)),
            image is not None and image.dtype.kind == "f",
            "u8" if labels.dtype.kind == "u" and labels.dtype.itemsize == 8 else "i8",
            None if known is None else known[0],
            "" if known is None else _SYMBOLS[known[1]],
        )

    @property
    def planar(self) -> bool:
        """Whether the objects lie in one plane."""
        return self.sizes.get("z", 1) == 1


@dataclass(frozen=True)
class ObjectSums:
    """All objects of a label image, and what names their columns."""

    rows: Rows
    layout: Layout
