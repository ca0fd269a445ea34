"""What a block says of its objects: runs of labels, and sums over them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigaqc.backend import contiguous, to_host
from gigaqc.distribution import bias_of, layout_of
from gigaqc.errors import ImageError
from gigaqc.kernels import object_planes
from gigaqc.kernels import objects as kernels
from gigaqc.kernels.dispatch import of_place
from gigaqc.objectsums import Rows
from gigaqc.observe.blocks import Place, to_codes


@dataclass(frozen=True)
class BlockRuns:
    """The runs of a block (rows, width) and the slot of each; see `kernels.objects`.

    `where` tells kernels which pixels are whose: runs and slots, or `Members` on a device.
    """

    bounds: np.ndarray
    first: np.ndarray
    slots: np.ndarray
    distinct: np.ndarray
    pieces: np.ndarray
    parent: np.ndarray
    height: int
    width: int
    where: tuple[Any, ...]

    @classmethod
    def of(cls, block: np.ndarray, place: Place, reach: int) -> BlockRuns:
        """Those of a (t, z, y, x) block; `reach` 1 joins pieces diagonally too."""
        height, width = block.shape[-2:]
        own = of_place(block, kernels, object_planes)
        bounds, ids, first = own.find_runs(own.unsigned(block).reshape(-1, width))
        if block.dtype.kind == "i":
            _refuse_negative(block, ids, place)
        placed = kernels.place_runs(bounds, ids, first, height, reach)
        slots, distinct, pieces, parent = placed
        where = own.members(block, bounds, first, slots, len(distinct))
        return cls(bounds, first, slots, distinct, pieces, parent, height, width, where)

    def rows(self, channels: Iterable[np.ndarray], count: int, place: Place) -> Rows:
        """Sums over the objects, with intensities of `count` channels."""
        n = len(self.distinct)
        counts, box, sums = kernels.sum_shapes(self.bounds, self.first, self.slots, self.height, n)
        box += np.array([place.z, place.y, place.x] * 2)
        values = np.empty((n, count, kernels.N_VALUES))
        for c, channel in enumerate(channels):
            values[:, c] = self._values(channel.reshape(-1, self.width), counts)
        order = np.argsort(self.distinct)
        return Rows(
            self.distinct[order], counts[order], box[order], sums[order].astype("f8"),
            values[order], self.pieces[order],
        )  # fmt: skip

    def _values(self, pixels: np.ndarray, counts: np.ndarray) -> np.ndarray:
        sums = of_place(pixels, kernels, object_planes)
        layout = layout_of(pixels.dtype)
        if layout is not None:
            return sums.sum_floats(contiguous(pixels, layout.float_type), *self.where)
        total, squares, low, high = sums.sum_codes(to_codes(pixels), *self.where).T
        # About the nearest integer to the mean all terms are exact, whatever wraps around between.
        middle = (2 * total + counts) // (2 * counts)
        rest = total - counts * middle
        m2 = squares - 2 * middle * total + counts * middle * middle - rest * (rest / counts)
        mean = middle + rest / counts
        bias = bias_of(pixels.dtype)
        return np.stack([counts, mean + bias, m2, low + bias, high + bias], axis=1)


def _refuse_negative(block: np.ndarray, ids: np.ndarray, place: Place) -> None:
    bits = 8 * block.dtype.itemsize
    negative = ids >= np.uint64(1 << (bits - 1))
    if not negative.any():
        return
    found = int(ids[negative][0]) - (1 << bits)
    _, z, y, x = np.argwhere(to_host(block) == found)[0]
    raise ImageError(
        f"labels: negative id {found} at z {place.z + z}, y {place.y + y}, x {place.x + x}; ids "
        "are positive and 0 is background: pass labels.clip(min=0), or renumber them."
    )
