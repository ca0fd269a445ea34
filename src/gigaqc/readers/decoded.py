"""Files that can only be decoded whole: done once a process, the last few arrays are kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Protocol

import numpy as np

from gigaqc.stores.location import Location

_KEPT = 2


class Whole(Protocol):
    """An array whose file has to be decoded whole."""

    location: Location
    stamp: tuple[Any, ...]

    def decode(self) -> np.ndarray:
        """Read all of it."""


class _Decoded:
    """The arrays decoded last; threads that want the same one wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrays: OrderedDict[tuple[Any, ...], np.ndarray] = OrderedDict()

    def get(self, source: Whole) -> np.ndarray:
        """Return the decoded array, decoding it where it is not kept."""
        key = (source.location, source.stamp)
        with self._lock:
            if key not in self._arrays:
                while len(self._arrays) >= _KEPT:
                    self._arrays.popitem(last=False)
                self._arrays[key] = source.decode()
            self._arrays.move_to_end(key)
            return self._arrays[key]


DECODED = _Decoded()
"""What this process keeps."""
