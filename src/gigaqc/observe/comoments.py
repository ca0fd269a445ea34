"""Products of channels."""

from __future__ import annotations

import numpy as np

from gigaqc import states
from gigaqc.backend import on_host
from gigaqc.kernels import accumulate, planes
from gigaqc.observe.blocks import Channels

_SLAB = 16384  # pixels of each channel multiplied at once in float64: fits the second-level cache


_DEVICE_SLAB = 1 << 22  # the same on a device: few calls


_SHORT_SLAB = 131072  # the same in 16 bits: few calls, each of which takes Python's lock
_SHORT = 2048  # from the shift: some 500 products fit 32 bits


def code_comoments(codes: Channels, shift: np.ndarray, sums: np.ndarray) -> states.CoMoments:
    """Of codes without exclusions: in 16 bits where they are close to the shift, else float64."""
    if not on_host(codes[0]):
        return _complete_comoments(float(codes[0].size), sums, _products_there(codes, shift))
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
    return _complete_comoments(float(pixels), sums, total + short_total[:count, :count])


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


def _products_there(codes: Channels, shift: np.ndarray) -> np.ndarray:
    """On a device: in float64, in which all products are whole numbers."""
    total = np.zeros((len(codes), len(codes)))
    flat = [c.reshape(-1) for c in codes]
    for start in range(0, flat[0].size, _DEVICE_SLAB):
        part = slice(start, start + _DEVICE_SLAB)
        x = np.stack([c[part].astype("f8") - s for c, s in zip(flat, shift.tolist(), strict=True)])
        total += planes.products(x, x)
    return total


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
    slab = _SLAB if on_host(flat[0]) else _DEVICE_SLAB
    for start in range(0, flat[0].size, slab):
        part = slice(start, start + slab)
        x = np.stack([v[part] - s for v, s in zip(flat, shift.tolist(), strict=True)])
        valid = (~np.isnan(x)).astype("f8")
        x[np.isnan(x)] = 0.0
        if not on_host(x):
            pairs = ((valid, valid), (x, valid), (x * x, valid), (x, x))
            parts += [planes.products(a, b) for a, b in pairs]
            continue
        accumulate.add_products(valid, valid, False, parts[0])
        accumulate.add_products(x, valid, False, parts[1])
        with np.errstate(over="ignore"):  # near the largest float: then nothing can be told
            squares = x * x
        accumulate.add_products(squares, valid, False, parts[2])
        accumulate.add_products(x, x, False, parts[3])
    return states.CoMoments(*parts)
