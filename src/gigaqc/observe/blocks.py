"""What a block is, where it lies, and what is kept of its edges."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from gigaqc.distribution import (
    layout_of,
)
from gigaqc.kernels import fused
from gigaqc.statistics import Part, State

Channels = list[np.ndarray]
"""A (t, z, y, x) array for each channel of a block."""


HALO = 1  # pixels that a 3x3 neighbourhood reaches


DEAD_HALO = fused.DEAD_WINDOW - 1


SMALLEST_SIDE = 2 * DEAD_HALO  # of a block that has neighbours: seams must not overlap


NEIGHBOURHOOD = Part.FOCUS | Part.RESPONSE


@dataclass(frozen=True)
class Request:
    """What to observe, the same for every block of a pass."""

    parts: Part
    tile: int
    cell: int
    dtype: np.dtype

    @property
    def integers(self) -> bool:
        """Whether one read is exact: integers to 16 bits."""
        return layout_of(self.dtype) is None


@dataclass(frozen=True)
class Place:
    """Where a block lies: its first t, z, y, x, and which of its four sides have a neighbour."""

    t: int
    z: int
    y: int
    x: int
    top: bool = False
    bottom: bool = False
    left: bool = False
    right: bool = False


@dataclass(frozen=True)
class Strips:
    """Edge strips of a block (c, t, z, y, x): values two wide, zeros fourteen wide."""

    top: np.ndarray
    bottom: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def cut(cls, channels: Channels, place: Place, width: int) -> Strips:
        """Strips along the sides that have a neighbour."""
        height, length = channels[0].shape[-2:]
        return cls(
            np.stack([c[..., : width * place.top, :] for c in channels]),
            np.stack([c[..., max(height - width * place.bottom, 0) :, :] for c in channels]),
            np.stack([c[..., :, : width * place.left] for c in channels]),
            np.stack([c[..., :, max(length - width * place.right, 0) :] for c in channels]),
        )

    def narrowed(self, width: int) -> Strips:
        """The outermost `width` lines of each strip."""
        return Strips(
            self.top[..., :width, :].copy(),
            self.bottom[..., max(self.bottom.shape[-2] - width, 0) :, :].copy(),
            self.left[..., :width].copy(),
            self.right[..., max(self.right.shape[-1] - width, 0) :].copy(),
        )

    def equal(self, value: float) -> Strips:
        """Where the strips hold a value."""
        return Strips(*(_condensed(getattr(self, f.name) == value) for f in fields(self)))


def _condensed(flags: np.ndarray) -> np.ndarray:
    """The same flags without their bytes where all are alike, as they mostly are."""
    if flags.size and (flags.all() or not flags.any()):
        return np.broadcast_to(flags.flat[0].copy(), flags.shape)
    return flags


@dataclass(frozen=True)
class Partial:
    """The state of a block, and its edges while they wait for the neighbours."""

    state: State
    place: Place
    shape: tuple[int, int]
    values: Strips | None = None
    zeros: Strips | None = None


class Edged(Protocol):
    """What has the edges of a block."""

    @property
    def place(self) -> Place:
        """Where the block lies."""

    @property
    def shape(self) -> tuple[int, int]:
        """Its height and width."""

    @property
    def values(self) -> Strips | None:
        """Values along its edges."""

    @property
    def zeros(self) -> Strips | None:
        """Where the values along its edges are zero."""


def to_codes(block: np.ndarray) -> np.ndarray:
    """An integer block to 16 bits as uint16 codes: ``value = code + bias_of(dtype)``."""
    if block.dtype.kind == "b":
        block = block.view("u1")
    if block.dtype.itemsize == 1:
        if block.dtype.kind == "u":
            return block.astype("u2")
        return (block.astype("i2") + 128).astype("u2")
    native = np.ascontiguousarray(block, block.dtype.newbyteorder("="))
    return native if block.dtype.kind == "u" else native.view("u2") ^ np.uint16(0x8000)


def middle_code(codes: np.ndarray) -> int:
    """About the mean, from a sample; any integer near the data serves as a shift."""
    # Whole lines: a sample of scattered pixels would fetch a cache line for each of them.
    first = codes.shape[-2] % 64 // 2
    return round(float(codes[..., first::64, :].mean()))


def finite_values(channel: np.ndarray) -> np.ndarray:
    """A float64 copy where infinities are NaN."""
    values = channel.astype("f8")
    values[~np.isfinite(values)] = np.nan
    return values
