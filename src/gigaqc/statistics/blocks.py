"""From the channels of a block to states of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from gigaqc.base.backend import contiguous, of_place, to_host, twin
from gigaqc.kernels import accumulate, fused, planes
from gigaqc.statistics import states
from gigaqc.statistics.distribution import layout_of
from gigaqc.statistics.state import Part, State, StateKind, kinds_of

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


_SLAB = 16384  # pixels of each channel multiplied at once in float64: fits the second-level cache


_DEVICE_SLAB = 1 << 22  # the same on a device: few calls


_SHORT_SLAB = 131072  # the same in 16 bits: few calls, each of which takes Python's lock
_SHORT = 2048  # from the shift: some 500 products fit 32 bits


def code_comoments(codes: Channels, shift: np.ndarray, sums: np.ndarray) -> states.CoMoments:
    """Of codes without exclusions."""
    return _complete_comoments(float(codes[0].size), sums, _code_products(codes, shift))


def _products_there(codes: Channels, shift: np.ndarray) -> np.ndarray:
    """On a device: in float64, in which all products are whole numbers."""
    total = np.zeros((len(codes), len(codes)))
    flat = [c.reshape(-1) for c in codes]
    for start in range(0, flat[0].size, _DEVICE_SLAB):
        part = slice(start, start + _DEVICE_SLAB)
        x = np.stack([c[part].astype("f8") - s for c, s in zip(flat, shift.tolist(), strict=True)])
        total += planes.products(x, x)
    return total


@twin(_products_there)
def _code_products(codes: Channels, shift: np.ndarray) -> np.ndarray:
    """In 16 bits where codes are close to the shift, else float64."""
    count, pixels = len(codes), codes[0].size
    pairs = list(zip([c.reshape(-1) for c in codes], shift, strict=True))
    short_total = np.zeros((count + count % 2,) * 2, "i8")
    total = np.zeros((count, count))
    short = np.zeros((len(short_total), min(_SHORT_SLAB, pixels)), "i2")
    for start in range(0, pixels, _SHORT_SLAB):
        stop = min(start + _SHORT_SLAB, pixels)
        part = short[:, : stop - start]
        farthest = max(
            accumulate.short_codes(c[start:stop], s, row)
            for (c, s), row in zip(pairs, part[:count], strict=True)
        )
        if farthest <= _SHORT:
            accumulate.add_short_products(part, farthest, short_total)
        else:
            _add_far_products(pairs, start, stop, total)
    return total + short_total[:count, :count]


def _add_far_products(
    pairs: list[tuple[np.ndarray, int]], begin: int, end: int, total: np.ndarray
) -> None:
    buffer = np.empty((len(pairs), min(_SLAB, end - begin)))
    for start in range(begin, end, _SLAB):
        stop = min(start + _SLAB, end)
        part = buffer[:, : stop - start]
        for (codes, shift), row in zip(pairs, part, strict=True):
            accumulate.shifted_codes(codes[start:stop], np.int32(shift), row)
        accumulate.add_products(part, part, True, total)


def _complete_comoments(n: float, sums: np.ndarray, products: np.ndarray) -> states.CoMoments:
    """Pairwise sums where every pixel is valid in every channel."""
    products = np.triu(products) + np.triu(products, 1).T
    channels = len(sums)
    spread = np.ones(channels)
    return states.CoMoments(
        np.full((channels, channels), n),
        np.outer(sums, spread),
        np.outer(np.diagonal(products), spread),
        products,
    )


def value_comoments(values: Channels, shift: np.ndarray) -> states.CoMoments:
    """Of float64 channels with NaN for what is excluded: pairs that are both valid."""
    flat = [v.reshape(-1) for v in values]
    parts = np.zeros((4, len(flat), len(flat)))
    slab = of_place(flat[0], _SLAB, _DEVICE_SLAB)
    for start in range(0, flat[0].size, slab):
        part = slice(start, start + slab)
        x = np.stack([v[part] - s for v, s in zip(flat, shift.tolist(), strict=True)])
        valid = (~np.isnan(x)).astype("f8")
        x[np.isnan(x)] = 0.0
        add_products = of_place(x, accumulate, planes).add_products
        with np.errstate(over="ignore"):  # near the largest float: then nothing can be told
            squares = x * x
        for (a, b), out in zip(
            ((valid, valid), (x, valid), (squares, valid), (x, x)), parts, strict=True
        ):
            add_products(a, b, False, out)
    return states.CoMoments(*parts)
