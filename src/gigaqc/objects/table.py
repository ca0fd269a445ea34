"""Rows as a table: what `object_table` gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gigaqc.formulas import objects as metrics
from gigaqc.objectsums import Layout, Rows

_PLACES = ("z", "y", "x")
_SLAB = 1 << 13  # rows at once, whose many intermediate columns stay in the cache


def table_of(rows: Rows, layout: Layout) -> pd.DataFrame:
    """One row an object, indexed by ``label``; it shares no memory with the rows."""
    columns: dict[str, np.ndarray] = {}
    for start in range(0, max(len(rows), 1), _SLAB):
        part = Rows(**{name: c[start : start + _SLAB] for name, c in rows.columns().items()})
        for name, values in _columns(part, layout).items():
            if start == 0:
                columns[name] = np.empty(len(rows), values.dtype)
            columns[name][start : start + _SLAB] = values
    index = label_index(rows.labels, np.dtype(layout.index))
    return pd.DataFrame(columns, index=index, copy=False)


def _columns(rows: Rows, layout: Layout) -> dict[str, np.ndarray]:
    found = _shape_columns(rows, layout)
    for c, channel in enumerate(layout.channels):
        found.update(_value_columns(rows.values[:, c], rows.counts, channel, layout.floats))
    return found


def label_index(labels: np.ndarray, dtype: np.dtype) -> pd.Index:
    """The ids of a label image of `dtype` as an index: int64, where that holds them."""
    return pd.Index(labels.astype("u8" if np.iinfo(dtype).max >> 63 else "i8"), name="label")


def _shape_columns(rows: Rows, layout: Layout) -> dict[str, np.ndarray]:
    axes = [(d, dim) for d, dim in enumerate(_PLACES) if dim in layout.dims]
    middle = metrics.centroids(rows)
    found: dict[str, np.ndarray] = {"area": rows.counts}
    found.update({f"centroid_{dim}": middle[:, d] for d, dim in axes})
    found.update({f"bbox_min_{dim}": rows.box[:, d] for d, dim in axes})
    found.update({f"bbox_max_{dim}": rows.box[:, 3 + d] for d, dim in axes})
    central = metrics.covariance(rows.counts, rows.sums, np.ones(3))
    found.update(_moment_columns(central, layout.dims))
    shapes = metrics.shapes(central, planar=layout.planar)
    found["major_axis_length"], found["minor_axis_length"] = shapes.major, shapes.minor
    found["eccentricity"], found["orientation"] = shapes.eccentricity, shapes.orientation
    found["touches_border"] = metrics.touches_border(rows, layout)
    if layout.planar:
        found["n_pieces"], found["n_holes"] = rows.pieces[:, 0], rows.pieces[:, 1]
    if layout.pixel_size is not None:
        found.update(_physical_columns(found, rows, layout, axes))
    return found


def _moment_columns(central: np.ndarray, dims: Sequence[str]) -> dict[str, np.ndarray]:
    names = ("zz", "yy", "xx", "zy", "zx", "yx")
    return {f"moment_{n}": central[:, k] for k, n in enumerate(names) if set(n) <= set(dims)}


def _physical_columns(
    pixels: Mapping[str, np.ndarray],
    rows: Rows,
    layout: Layout,
    axes: Sequence[tuple[int, str]],
) -> dict[str, np.ndarray]:
    assert layout.pixel_size is not None
    size, symbol = layout.pixel_size, layout.symbol
    found: dict[str, np.ndarray] = {}
    if layout.planar:
        found[f"area_{symbol}2"] = rows.counts * (size["y"] * size["x"])
    else:
        found[f"volume_{symbol}3"] = rows.counts * (size["z"] * size["y"] * size["x"])
    for name in ("centroid", "bbox_min", "bbox_max"):
        for _, dim in axes:
            found[f"{name}_{dim}_{symbol}"] = pixels[f"{name}_{dim}"] * size[dim]
    sides = np.array([size.get(dim, 1.0) for dim in _PLACES])
    central = metrics.covariance(rows.counts, rows.sums, sides)
    shapes = metrics.shapes(central, planar=layout.planar)
    found[f"major_axis_length_{symbol}"] = shapes.major
    found[f"minor_axis_length_{symbol}"] = shapes.minor
    return found


def _value_columns(
    values: np.ndarray, counts: np.ndarray, channel: str, floats: bool
) -> dict[str, np.ndarray]:
    n, mean, m2, low, high = np.ascontiguousarray(values.T)
    none = n == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        std = np.sqrt(m2 / n)
    found = {
        f"mean_{channel}": np.where(none, np.nan, mean),
        f"std_{channel}": std,
        f"min_{channel}": np.where(none, np.nan, low),
        f"max_{channel}": np.where(none, np.nan, high),
    }
    if floats:
        found[f"n_excluded_{channel}"] = counts - n.astype("i8")
    return found
