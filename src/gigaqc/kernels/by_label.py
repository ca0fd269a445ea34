"""Sums of one channel or of two over the objects of a label image.

Runs and slots are those of `kernels.objects`: ``bounds`` (n, 2) columns of each run, ``first``
(rows + 1,) the first run of each row, ``slots`` (n,) the object of each run. Values are float64
(rows, width); what is not finite does not count.
"""

from __future__ import annotations

import numpy as np
from numba import njit

N, MEAN_X, MEAN_Y, XX, YY, XY, SUM_X, SUM_Y, X_WHERE_Y, Y_WHERE_X = range(10)
LOW_X, HIGH_X, LOW_Y, HIGH_Y = range(10, 14)
N_PAIR = 14


@njit(nogil=True, cache=True)
def sum_stained(values, bounds, first, slots, n, threshold):
    """Float64 (n, 3): finite pixels of each object, those above a threshold, and their sum."""
    table = np.zeros((n, 3), np.float64)
    for y in range(first.shape[0] - 1):
        row = values[y]
        for r in range(first[y], first[y + 1]):
            own = table[slots[r]]
            for x in range(bounds[r, 0], bounds[r, 1]):
                v = row[x]
                if np.isfinite(v):
                    own[0] += 1.0
                    if v > threshold:
                        own[1] += 1.0
                        own[2] += v
    return table


@njit(nogil=True, cache=True)
def _empty_pairs(n):
    table = np.zeros((n, N_PAIR), np.float64)
    table[:, LOW_X] = table[:, LOW_Y] = np.inf
    table[:, HIGH_X] = table[:, HIGH_Y] = -np.inf
    return table


@njit(nogil=True, cache=True, error_model="numpy")
def sum_pairs(first_values, second_values, bounds, first, slots, n, limit_x, limit_y):
    """Float64 (n, 14) over pixels that are finite in both channels, in the order of the columns.

    The mean comes first and products are taken about it, so that an offset costs no digits.
    """
    table = _empty_pairs(n)
    for y in range(first.shape[0] - 1):
        for r in range(first[y], first[y + 1]):
            own = table[slots[r]]
            for x in range(bounds[r, 0], bounds[r, 1]):
                a, b = first_values[y, x], second_values[y, x]
                if not (np.isfinite(a) and np.isfinite(b)):
                    continue
                own[N] += 1.0
                own[SUM_X] += a
                own[SUM_Y] += b
                if b > limit_y:
                    own[X_WHERE_Y] += a
                if a > limit_x:
                    own[Y_WHERE_X] += b
                own[LOW_X] = min(own[LOW_X], a)
                own[HIGH_X] = max(own[HIGH_X], a)
                own[LOW_Y] = min(own[LOW_Y], b)
                own[HIGH_Y] = max(own[HIGH_Y], b)
    for s in range(n):
        if table[s, N] > 0.0:
            table[s, MEAN_X] = table[s, SUM_X] / table[s, N]
            table[s, MEAN_Y] = table[s, SUM_Y] / table[s, N]
    for y in range(first.shape[0] - 1):
        for r in range(first[y], first[y + 1]):
            own = table[slots[r]]
            for x in range(bounds[r, 0], bounds[r, 1]):
                a = first_values[y, x] - own[MEAN_X]
                b = second_values[y, x] - own[MEAN_Y]
                if np.isfinite(a) and np.isfinite(b):
                    own[XX] += a * a
                    own[YY] += b * b
                    own[XY] += a * b
    return table


@njit(nogil=True, cache=True, error_model="numpy")
def merge_pairs(order, group, n, rows):
    """Add rows of `sum_pairs` that are of one object: `group` is the object of ``rows[order]``."""
    table = _empty_pairs(n)
    for i in range(order.shape[0]):
        own, row = table[group[i]], rows[order[i]]
        if row[N] == 0.0:
            continue
        total = own[N] + row[N]
        a, b = row[MEAN_X] - own[MEAN_X], row[MEAN_Y] - own[MEAN_Y]
        weight = own[N] * row[N] / total
        own[XX] += row[XX] + a * a * weight
        own[YY] += row[YY] + b * b * weight
        own[XY] += row[XY] + a * b * weight
        own[MEAN_X] += a * (row[N] / total)
        own[MEAN_Y] += b * (row[N] / total)
        own[N] = total
        for k in (SUM_X, SUM_Y, X_WHERE_Y, Y_WHERE_X):
            own[k] += row[k]
        for k in (LOW_X, LOW_Y):
            own[k] = min(own[k], row[k])
        for k in (HIGH_X, HIGH_Y):
            own[k] = max(own[k], row[k])
    return table
