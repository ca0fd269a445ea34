"""Labels of one tile: numbered anew, where each begins, and which are those of a neighbour."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

_DENSE = 4  # ids per pixel up to which a table of all ids is cheaper than sorting them


def number_labels(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int32], int]:
    """The same objects as 1..n, in the order of their first pixels; and n.

    Parameters
    ----------
    labels
        Integers from 0, dims y x; 0 is background. Ids may be sparse.
    """
    if labels.size == 0 or int(labels.max()) == 0:
        return np.zeros(labels.shape, np.int32), 0
    if int(labels.max()) > _DENSE * labels.size:
        ids, places = np.unique(labels, return_inverse=True)
        labels = places.reshape(labels.shape) + (0 if ids[0] == 0 else 1)
    numbers = np.zeros(int(labels.max()) + 1, np.int32)
    # Writeable as well: numba would compile once more for an array that is not.
    given = np.require(labels, np.int64, ["C", "W"])
    numbered = np.empty(labels.shape, np.int32)
    return numbered, int(_number(given, numbers, numbered))


def first_pixels(labels: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.int64]:
    """Position of the first pixel of labels 0..n in row-major order; -1 where there is none."""
    first = np.full(n + 1, -1, np.int64)
    _find_first(np.require(labels, np.int32, ["C", "W"]), first)
    return first


def same_objects(
    one: npt.NDArray[Any], other: npt.NDArray[Any], n_one: int, n_other: int
) -> npt.NDArray[np.int64]:
    """Pairs of labels that show the same object, of two label images of the same pixels.

    They do where they share more than half of the pixels of the smaller of the two.

    Returns
    -------
    numpy.ndarray
        (pairs, 2), ascending.
    """
    both = (one > 0) & (other > 0)
    keys = one[both].astype(np.int64) * (n_other + 1) + other[both]
    pairs, shared = np.unique(keys, return_counts=True)
    first, second = np.divmod(pairs, n_other + 1)
    size_one = np.bincount(one.ravel(), minlength=n_one + 1)
    size_other = np.bincount(other.ravel(), minlength=n_other + 1)
    same = 2 * shared > np.minimum(size_one[first], size_other[second])
    return np.stack([first[same], second[same]], axis=1)


@njit(nogil=True, cache=True)
def _number(labels, numbers, numbered):
    n = 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label > 0 and numbers[label] == 0:
                n += 1
                numbers[label] = n
            numbered[y, x] = numbers[label]
    return n


@njit(nogil=True, cache=True)
def _find_first(labels, first):
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if label > 0 and first[label] < 0:
                first[label] = y * labels.shape[1] + x
