"""Sample sheets: a CSV file or a DataFrame, a row a sample, checked before anything is opened."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gigaqc.base.formatting import listed
from gigaqc.errors import ParameterError, SourceNotFoundError

COLUMNS = (
    "sample", "path", "labels", "tissue", "batch", "element", "order", "acquired",
)  # fmt: skip
_ALSO = {"tissue_channel": "tissue"}
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class SheetRow:
    """One sample as a sheet describes it; None is what it leaves open."""

    sample: str
    path: str
    labels: str | None = None
    tissue: str | None = None
    batch: str | None = None
    element: str | None = None
    order: float | None = None


def read_sheet(path: str | os.PathLike[str]) -> list[SheetRow]:
    """Rows of a CSV file; commas, semicolons or tabs. Its paths start at its own folder."""
    source = Path(path)
    name = f"sheet {str(source)!r}"
    try:
        text = source.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"sources: {name} does not exist.") from error
    except UnicodeDecodeError as error:
        raise ParameterError(
            f"sources: {name} is not UTF-8 ({error}); save it as 'CSV UTF-8'."
        ) from error
    import io

    head = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    try:
        table = pd.read_csv(
            io.StringIO(text), sep=delimiter, dtype=str, keep_default_na=False, index_col=False
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ParameterError(
            f"sources: {name} cannot be understood ({str(error).strip()}); its first line names "
            f"the columns: {listed(COLUMNS)}."
        ) from error
    return rows_of(table, name, source.parent)


def rows_of(table: pd.DataFrame, name: str = "table", folder: Path | None = None) -> list[SheetRow]:
    """Rows of a table; relative paths start at `folder`."""
    named = {column: _plain(column) for column in table.columns}
    found = list(named.values())
    unknown = [str(column) for column, plain in named.items() if plain not in COLUMNS]
    if unknown:
        raise ParameterError(
            f"sources: {name} has the columns {listed(unknown)}, which mean nothing here; name "
            f"them {listed(COLUMNS)}, or leave them out."
        )
    repeated = sorted({column for column in found if found.count(column) > 1})
    missing = [column for column in ("sample", "path") if column not in found]
    if repeated or missing:
        wrong = f"has {listed(repeated)} twice" if repeated else f"lacks {listed(missing)}"
        raise ParameterError(
            f"sources: {name} {wrong}; it needs the columns sample and path, once each."
        )
    if {"order", "acquired"} <= set(found):
        raise ParameterError(f"sources: {name} has both order and acquired; give one of them.")
    if table.empty:
        raise ParameterError(f"sources: {name} has no row; give one for each sample.")
    table = table.rename(columns=named)
    rows = list(_rows(table, _orders(table, name), name, folder))
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        if row.sample in seen:
            raise ParameterError(
                f"sources: {name} names sample {row.sample[:80]!r} in rows {seen[row.sample]} and "
                f"{number}; give each its own name."
            )
        seen[row.sample] = number
    return rows


def _rows(
    table: pd.DataFrame, orders: list[float | None], name: str, folder: Path | None
) -> Iterator[SheetRow]:
    for number, (record, order) in enumerate(
        zip(table.to_dict(orient="records"), orders, strict=True), 1
    ):
        cells = {str(key): _cell(value) for key, value in record.items()}
        for column in ("sample", "path"):
            if cells[column] is None:
                raise ParameterError(
                    f"sources: {name} has no {column} in row {number}; each row is one sample with "
                    "its path."
                )
        sample, path = cells["sample"], cells["path"]
        assert sample is not None and path is not None
        own = {c: cells.get(c) for c in ("labels", "tissue", "batch", "element")}
        yield SheetRow(sample, placed(path, folder), order=order, **own)


def placed(path: str, folder: Path | None) -> str:
    """A path of a sheet: relative ones start at its folder."""
    if folder is None or "://" in path or os.path.isabs(os.path.expanduser(path)):
        return path
    return os.path.join(folder, path)


def _plain(column: Any) -> str:
    plain = str(column).strip().lower().replace(" ", "_")
    return _ALSO.get(plain, plain)


def _cell(value: Any) -> str | None:
    if value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    if value is pd.NA:
        return None
    return str(value).strip() or None


def _orders(table: pd.DataFrame, name: str) -> list[float | None]:
    """Numbers as they are given; times by their rank, so that the slope is one a sample."""
    column = next((c for c in ("order", "acquired") if c in table), None)
    if column is None:
        return [None] * len(table)
    cells = [_cell(value) for value in table[column]]
    given = [c for c in cells if c is not None]
    try:
        if column == "order":
            values = [float(c) for c in given]
            if not all(map(math.isfinite, values)):
                raise ValueError("not finite")
        else:
            times = pd.to_datetime(pd.Series(given, dtype=object), utc=True, format="ISO8601")
            values = [float(r) - 1 for r in times.rank(method="dense")]
    except (ValueError, TypeError) as error:
        cure = (
            "give numbers"
            if column == "order"
            else "give dates and times as ISO 8601, such as 2024-05-31T14:20"
        )
        said = str(error).split(", at position")[0]
        raise ParameterError(f"sources: {name}: column {column}: {said}; {cure}.") from error
    left = iter(values)
    return [math.nan if c is None else next(left) for c in cells]
