"""Tables larger than memory: rows from files, added range by range, written as Parquet."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gigaqc.errors import WriteError
from gigaqc.objects.seams import seam_changes
from gigaqc.objects.state import Objects, read_run
from gigaqc.objects.table import table_of
from gigaqc.objectsums import Layout, Rows, merged
from gigaqc.stores.staging import checked_target, remove, staged

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
