"""Where a block lives: numpy or cupy. The only file that knows cupy."""

from __future__ import annotations

from typing import Any

import numpy as np


def to_host(block: Any) -> np.ndarray:
    """The block as a native numpy array that a compiled kernel may take.

    A cupy block is copied from its device; a read-only one is copied, because numba compiles each
    kernel anew for read-only arrays.
    """
    if type(block).__module__.partition(".")[0] == "cupy":
        block = block.get()
    array = np.asarray(block)
    return array if array.flags.writeable else array.copy()
