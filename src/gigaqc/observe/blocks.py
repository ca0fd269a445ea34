"""What a block is, where it lies, and what is kept of its edges."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from gigaqc.backend import contiguous, to_host
from gigaqc.distribution import layout_of
from gigaqc.kernels import fused
from gigaqc.observe.registry import Part, StateKind, kinds_of
from gigaqc.observe.state import State

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
    excluding: bool = False
    """Whether pixels of other blocks may be excluded, though none of a block is."""
    foreign: tuple[StateKind, ...] = field(init=False)
    """Kinds of other packages, so that a worker which gets this imports what registers them."""

    def __post_init__(self) -> None:
        asked = (k for k in kinds_of(self.parts) if not k.state.__module__.startswith("gigaqc."))
        object.__setattr__(self, "foreign", tuple(asked))

    @property
    def kinds(self) -> tuple[StateKind, ...]:
        """The states to collect."""
        known = {kind.key: kind for kind in (*kinds_of(self.parts), *self.foreign)}
        return tuple(known.values())

    @property
    def integers(self) -> bool:
        """Whether one read is exact: integers to 16 bits."""
        return layout_of(self.dtype) is None


@dataclass(frozen=True, slots=True)
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
        parts = (
            (..., slice(0, width * place.top), slice(None)),
            (..., slice(max(height - width * place.bottom, 0), None), slice(None)),
            (..., slice(0, width * place.left)),
            (..., slice(max(length - width * place.right, 0), None)),
        )
        return cls(*(to_host(np.stack([c[part] for c in channels])) for part in parts))

    def narrowed(self, width: int) -> Strips:
        """The outermost `width` lines of each strip."""
        return Strips(
            self.top[..., :width, :].copy(),
            self.bottom[..., max(self.bottom.shape[-2] - width, 0) :, :].copy(),
            self.left[..., :width].copy(),
            self.right[..., max(self.right.shape[-1] - width, 0) :].copy(),
        )

    def joined(self, other: Strips, axis: int) -> Strips:
        """Around both blocks, of which the other lies to the right (axis -1) or below (-2)."""
        if axis == -1:
            top = end_to_end(self.top, other.top, -1)
            return Strips(top, end_to_end(self.bottom, other.bottom, -1), self.left, other.right)
        left = end_to_end(self.left, other.left, -2)
        return Strips(self.top, other.bottom, left, end_to_end(self.right, other.right, -2))

    def equal(self, value: float) -> Strips:
        """Where the strips hold a value: bits, packed across each strip."""
        return Strips(
            *(_packed(getattr(self, name) == value, axis) for name, axis in _ACROSS.items())
        )


_ACROSS = {"top": -2, "bottom": -2, "left": -1, "right": -1}


def _packed(flags: np.ndarray, axis: int) -> np.ndarray:
    """Flags as bits along an axis; one byte for all where all are alike, as they mostly are."""
    packed = np.packbits(flags, axis=axis)
    if flags.size and (flags.all() or not flags.any()):
        return np.broadcast_to(np.uint8(255 * flags.flat[0]), packed.shape)
    return packed


def end_to_end(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
    """Two strips as one; without bytes where both are condensed and alike."""
    condensed = first.size and second.size and not any(first.strides + second.strides)
    if condensed and first.flat[0] == second.flat[0]:
        shape = list(first.shape)
        shape[axis] += second.shape[axis]
        return np.broadcast_to(first.flat[0].copy(), shape)
    return np.concatenate([first, second], axis=axis)


@dataclass(frozen=True)
class Edges:
    """Where a rectangle of pixels lies, and its edges while they wait for the neighbours.

    `flags` are what the pass needs to know of the pixels there beside their values: in a scan,
    whether they are zero, as bits; for the tissue, whether they lie inside the mask.
    """

    place: Place
    shape: tuple[int, int]
    values: Strips | None = None
    flags: Strips | None = None

    def joined(self, other: Edges, axis: int) -> Edges:
        """Of both rectangles, of which the other lies to the right (axis -1) or below (-2)."""
        side = "right" if axis == -1 else "bottom"
        shape = list(self.shape)
        shape[axis] += other.shape[axis]
        return Edges(
            replace(self.place, **{side: getattr(other.place, side)}),
            (shape[0], shape[1]),
            None if self.values is None or other.values is None
            else self.values.joined(other.values, axis),
            None if self.flags is None or other.flags is None
            else self.flags.joined(other.flags, axis),
        )  # fmt: skip


@dataclass(frozen=True)
class Seam:
    """Context around a seam and, in it, the pixels that belong to the seam.

    A seam ends where its rectangles do: what lies nearer to their other edges belongs to the seam
    that is observed when a neighbour joins there.
    """

    values: np.ndarray | None
    zeros: np.ndarray | None
    place: Place
    bounds: tuple[int, int, int, int]
    dead_bounds: tuple[int, int, int, int]
    axis: int  # along which pairs cross the seam


@dataclass(frozen=True)
class Partial:
    """The state of a rectangle of pixels, and its edges."""

    state: State
    edges: Edges

    def merge(self, other: Partial) -> Partial:
        """Both states, where the rectangles are planes without a seam between them."""
        return replace(self, state=self.state.merge(other.state))


def to_codes(block: np.ndarray) -> np.ndarray:
    """An integer block to 16 bits as uint16 codes: ``value = code + bias_of(dtype)``."""
    if block.dtype.kind == "b":
        block = block.view("u1")
    if block.dtype.itemsize == 1:
        if block.dtype.kind == "u":
            return block.astype("u2")
        return (block.astype("i2") + 128).astype("u2")
    native = contiguous(block, block.dtype.newbyteorder("="))
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
