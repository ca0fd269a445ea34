"""The read of labels and the image beside them, and its table in memory or in Parquet."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.errors import WriteError
from gigaqc.formulas import objects as metrics
from gigaqc.graph.reduce import Reduce
from gigaqc.scanning.labels import aligned
from gigaqc.scanning.objects import ObjectRequest, Objects, observe, read_run, seam_changes
from gigaqc.statistics.object_sums import Layout, Rows, merged
from gigaqc.stores.staging import checked_target, remove, staged


def object_read(
    labels: xr.DataArray,
    image: xr.DataArray | None = None,
    *,
    connectivity: int = 8,
    folder: Path | None = None,
) -> Reduce:
    """The read of a label image, and of the image beside it, that sums over objects: `Objects`.

    Parameters
    ----------
    labels
        From `as_labels`.
    image
        From `check_fit`, for intensities.
    connectivity
        4 or 8: which neighbours are of one piece.
    folder
        Where rows are kept that are too many for memory; None keeps all.
    """
    request = ObjectRequest.of(labels, image, connectivity, folder)
    if image is None:
        source, mask = labels.expand_dims("c"), None
    else:
        source, mask = image, aligned(labels, image)
    return Reduce("objects", source, mask, observe, (request,), on_device=True)


RANGE_ROWS = 1 << 17  # rows that are added and written at once
_SAMPLE = 1 << 12  # rows of a file for each of which one label is looked at, to divide the labels


def checked_parquet(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The place of a table that can be written to.

    Raises
    ------
    WriteError
        When its name does not end in ``.parquet``, it exists, or its folder does not.
    """
    if Path(os.fspath(path)).suffix != ".parquet":
        raise WriteError(f"to: {os.fspath(path)!r}; a table is written as 'name.parquet'.")
    try:
        return checked_target(path, overwrite, store=False)
    except WriteError as error:
        raise WriteError(f"to{str(error).removeprefix('path')}") from None


@contextlib.contextmanager
def spilling(target: Path) -> Iterator[Path]:
    """A folder beside the table, where every worker that can write the table finds it."""
    folder = target.parent / f".{target.name}.{os.urandom(4).hex()}.rows"
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        if isinstance(error, WriteError):
            raise
        raise WriteError(
            f"to: {str(target)!r} could not be written ({error}); nothing was left there."
        ) from error
    finally:
        remove(folder)


def write_table(found: Objects, layout: Layout, target: Path) -> None:
    """Write the table, complete or absent; memory goes with `RANGE_ROWS`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with staged([target]) as (partial,):
        writer = None
        for rows in ranges_of(found):
            table = pa.Table.from_pandas(table_of(rows, layout), preserve_index=True)
            if writer is None:
                writer = pq.ParquetWriter(partial, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()


def ranges_of(found: Objects) -> Iterator[Rows]:
    """All rows, in ascending ranges of labels; of no object one range without rows."""
    runs = [*found.parts, *map(read_run, found.runs)]
    labels, changes = seam_changes(found.edges, found.request.reach)
    cuts = _cuts([run.labels for run in runs])
    for low, high in zip([None, *cuts], [*cuts, None], strict=True):
        rows = merged([_between(run, low, high) for run in runs])
        inside = _span(labels, low, high)
        pieces = rows.pieces.copy()
        pieces[np.searchsorted(rows.labels, labels[inside])] += changes[inside]
        _forget(runs)
        yield Rows(**{**rows.columns(), "pieces": pieces})


def _cuts(runs: Sequence[np.ndarray]) -> list[np.uint64]:
    """Labels that divide all rows into ranges of about `RANGE_ROWS`."""
    n = sum(map(len, runs))
    count = -(-n // RANGE_ROWS)
    if count < 2:
        return []
    step = max(min(_SAMPLE, RANGE_ROWS // 8), 1)
    sample = np.sort(np.concatenate([run[::step] for run in runs]))
    at = np.linspace(0, len(sample), count + 1)[1:-1].astype("i8")
    return list(np.unique(sample[at]))


def _span(labels: np.ndarray, low: Any, high: Any) -> slice:
    """Where ascending labels lie in ``low <= label < high``."""
    start = 0 if low is None else int(np.searchsorted(labels, low))
    stop = len(labels) if high is None else int(np.searchsorted(labels, high))
    return slice(start, stop)


def _between(run: Rows, low: Any, high: Any) -> Rows:
    span = _span(run.labels, low, high)
    return Rows(**{name: np.asarray(c[span]) for name, c in run.columns().items()})


def _forget(runs: Sequence[Rows]) -> None:
    """Give back the memory of what was read from files: mapped pages would stay to the end."""
    for run in runs:
        for column in run.columns().values():
            pages: Any = column.base
            if isinstance(pages, mmap.mmap) and hasattr(pages, "madvise"):
                pages.madvise(mmap.MADV_DONTNEED)


def read_table(path: Path) -> Any:
    """The table as a dask DataFrame, divided by its ranges of labels."""
    import dask.dataframe as dd

    return dd.read_parquet(path, index="label", split_row_groups=True, calculate_divisions=True)


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
