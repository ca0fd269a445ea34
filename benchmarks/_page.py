"""The page of what was measured: a table a group, between markers; the text around them stays."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks._question import Row

HEAD = Row("question", "against", "ratio", "spread")


def table(rows: Iterable[Row]) -> str:
    """Rows as Markdown."""
    lines = [f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in row)} |"
             for row in (HEAD, *rows)]  # fmt: skip
    return "\n".join((lines[0], "|" + "---|" * len(HEAD), *lines[1:]))


def machine() -> str:
    """Processor, memory, system and versions, on one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("numpy", "dask", "zarr", "numba", "gigaqc")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    cores = f"{os.cpu_count()} logical cores, {memory:.0f} GiB"
    return f"{processor()}, {cores}, {system}; {', '.join(versions)}"


def processor() -> str:
    """What the processor calls itself."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def section(rows: Sequence[Row], how: str) -> str:
    """A table, how it was measured, on what, and when."""
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{table(rows)}\n\nMeasured on {today}, {how}: {machine()}.\n"


def parted(page: Path, group: str) -> tuple[str, str]:
    """The page to the marker that begins the table of a group, and from the one that ends it."""
    begin, end = f"<!-- measured {group} -->\n", "<!-- end of measured -->"
    head, begins, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ends, tail = rest.partition(end)
    if not begins or not ends:
        raise SystemExit(f"{page} lacks the line {begin.strip()}, or {end} after it")
    return head + begin, end + tail


def replace(page: Path, group: str, text: str) -> None:
    """Put the text of a group between its markers."""
    head, tail = parted(page, group)
    partial = page.with_name(f"{page.name}.part")  # whoever stops us leaves a whole page
    partial.write_text(f"{head}\n{text.strip()}\n\n{tail}", encoding="utf-8")
    partial.replace(page)


def refresh(readme: Path, rows: Sequence[Row]) -> None:
    """Give the rows that the README shows their new ratios; notes in brackets do not tell rows."""
    known = {(row.question, row.against.partition(" (")[0]): row for row in rows}
    lines = readme.read_text(encoding="utf-8").splitlines(keepends=True)
    for k, line in enumerate(lines):
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if len(cells) == 3 and (row := known.get((cells[0], cells[1].partition(" (")[0]))):
            lines[k] = f"| {' | '.join(row[:3])} |\n"
    readme.write_text("".join(lines), encoding="utf-8")
