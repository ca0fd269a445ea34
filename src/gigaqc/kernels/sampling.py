"""Pixels drawn by a hash of their position: the same ones whatever the chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from gigaqc.kernels import vectors
from gigaqc.kernels.dispatch import twin


@twin(vectors.gathered)
def gathered(block: Any, at: tuple[np.ndarray, ...]) -> np.ndarray:
    """Values of a block at indices t, z, y, x."""
    return block[at]


@njit(nogil=True, cache=True, error_model="numpy")
def _mixed(x):
    """Splitmix64: each bit of the result depends on all bits of `x`."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True, error_model="numpy")
def _drawn(start, shape, salt, limit, out):
    n = 0
    step = np.uint64(0x9E3779B97F4A7C15)
    for t in range(shape[0]):
        at_t = _mixed(salt + step * np.uint64(start[0] + t + 1))
        for z in range(shape[1]):
            at_z = _mixed(at_t + step * np.uint64(start[1] + z + 1))
            for y in range(shape[2]):
                row = _mixed(at_z + step * np.uint64(start[2] + y + 1))
                for x in range(shape[3]):
                    if _mixed(row + step * np.uint64(start[3] + x + 1)) < limit:
                        if n < out.shape[1]:
                            out[0, n], out[1, n], out[2, n], out[3, n] = t, z, y, x
                        n += 1
    return n


def drawn_positions(
    start: tuple[int, int, int, int], shape: tuple[int, ...], fraction: float, salt: int = 0
) -> tuple[np.ndarray, ...]:
    """Indices t, z, y, x within a block of the pixels that are drawn.

    Each pixel of an image is drawn with probability `fraction`, by a hash of its place in the image
    and `salt`.

    Parameters
    ----------
    start
        Place in the image of the block's first pixel: t, z, y, x.
    shape
        Of the block: t, z, y, x.
    fraction
        0 to 1; 1 draws all.
    salt
        Other numbers draw other pixels.
    """
    if fraction >= 1:
        return tuple(index.reshape(-1) for index in np.indices(shape))
    limit = np.uint64(min(int(fraction * 2.0**64), 2**64 - 1))
    expected = fraction * float(np.prod(shape))
    room = int(expected + 8 * np.sqrt(expected) + 16)
    first, sizes = np.array(start, "i8"), np.array(shape, "i8")
    found = np.empty((4, room), "i8")
    n = _drawn(first, sizes, np.uint64(salt), limit, found)
    if n > room:
        found = np.empty((4, n), "i8")
        _drawn(first, sizes, np.uint64(salt), limit, found)
    return tuple(found[:, :n])
