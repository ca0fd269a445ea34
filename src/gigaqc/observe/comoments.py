"""Products of channels."""

from __future__ import annotations

import numpy as np

from gigaqc import states
from gigaqc.kernels import accumulate, planes
from gigaqc.kernels.dispatch import of_place, twin
from gigaqc.observe.blocks import Channels

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
