"""Samples: where the results of each source go, settled before any pixel is read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gigaqc.errors import WriteError

RESULTS = (".html", ".json", ".zarr")
"""What is kept of a sample: the page, the numbers, the statistics."""

_FORMATS = (
    ".ome.zarr", ".ome.tiff", ".ome.tif", ".nii.gz", ".zarr", ".tiff", ".tif", ".svs", ".nii",
    ".mcd", ".txt",
)  # fmt: skip
_NAME_BYTES = 100


@dataclass(frozen=True)
class Sample:
    """One source, the name of its results, and their folder."""

    source: str
    name: str
    out: Path

    def path(self, suffix: str) -> Path:
        """Where the result with this suffix goes."""
        return self.out / f"{self.name}{suffix}"

    def existing(self) -> list[Path]:
        """Results of an earlier run."""
        return [path for s in RESULTS if os.path.lexists(path := self.path(s))]

    def remove_existing(self) -> None:
        """Remove the results of an earlier run."""
        for path in self.existing():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def plan_samples(sources: Sequence[str], out: Path, *, element: str | None = None) -> list[Sample]:
    """Give each source a file name of its own in a folder.

    Parameters
    ----------
    sources
        Paths, globs or URLs; ``a/x.tif`` and ``b/x.tif`` become ``x`` and ``x-2``.
    out
        The folder.
    element
        Which image of each source, when they hold several.
    """
    samples: list[Sample] = []
    taken: set[str] = set()
    for source in sources:
        stem = safe_name(source, element)
        name, number = stem, 2
        # Some file systems do not tell upper from lower case.
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        samples.append(Sample(source, name, out))
    return samples


def safe_name(source: str, element: str | None = None) -> str:
    """A file name for the results of a source: its last part, without what could leave a folder.

    Parameters
    ----------
    source
        Path, glob (named after its folder) or URL.
    element
        Which of its images; appended.

    Returns
    -------
    str
        Letters, digits and ``. _ - +`` only, at most 100 bytes, never empty, no leading dot.

    Examples
    --------
    >>> safe_name("s3://bucket/My slide.ome.tif")
    'My_slide'
    """
    parts = [p for p in source.replace("\\", "/").split("?")[0].split("/") if p not in ("", ".")]
    while len(parts) > 1 and "*" in parts[-1]:
        parts.pop()
    name = parts[-1] if parts else ""
    for suffix in _FORMATS:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    if element is not None:
        name = f"{name}-{element}"
    name = "".join(ch if ch.isalnum() or ch in "._-+" else "_" for ch in name).lstrip(".")
    name = name.encode("utf-8", "ignore")[:_NAME_BYTES].decode("utf-8", "ignore")
    return name or "image"


def make_writable(out: Path) -> None:
    """Make a folder and write to it, so that a mistake shows before hours of reading.

    Raises
    ------
    WriteError
        When nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out, prefix=".gigaqc-"):
            pass
    except OSError as error:
        raise WriteError(
            f"out: cannot write into {str(out)!r} ({error.strerror or error}); name a folder that "
            "you may write to."
        ) from error


def refuse_existing(samples: Sequence[Sample]) -> None:
    """Raise WriteError when a sample has results already."""
    existing = [str(path) for sample in samples for path in sample.existing()]
    if existing:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise WriteError(
            f"out: {existing[0]!r}{more} exists already; name another folder or allow to overwrite."
        )
