"""Samples: where the results of each source go, settled before any pixel is read."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
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
_TAKEN = ("index", "summary", "channels", "cohort")  # files of a cohort


@dataclass(frozen=True)
class SampleSource:
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


def plan_samples(
    sources: Sequence[str], out: Path, *, element: str | None = None
) -> list[SampleSource]:
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
    samples: list[SampleSource] = []
    taken: set[str] = set()
    for source in sources:
        stem = safe_name(source, element)
        name, number = stem, 2
        # Some file systems do not tell upper from lower case.
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        samples.append(SampleSource(source, name, out))
    return samples


def titles(sources: Sequence[tuple[str, str | None]]) -> list[str]:
    """What samples are called: the file's name without its format, and the element.

    Sources of the same name are told apart by the folders that they lie in: ``a/x.tif`` and
    ``b/x.tif`` are ``a/x`` and ``b/x``.
    """
    parts = [_parts(source) for source, _ in sources]
    depth, names = [1] * len(sources), [""] * len(sources)
    for _ in range(max(map(len, parts), default=0)):
        for i, (_, element) in enumerate(sources):
            stem = "/".join([*parts[i][-depth[i] : -1], _without_format(parts[i][-1])])
            names[i] = stem if element is None else f"{stem}-{element}"
        count = Counter(names)
        if max(count.values()) == 1:
            break
        depth = [d + (count[name] > 1) for d, name in zip(depth, names, strict=True)]
    # What only the format tells apart keeps it.
    count = Counter(names)
    return [
        name if count[name] == 1 else "/".join(own) + ("" if element is None else f"-{element}")
        for name, own, (_, element) in zip(names, parts, sources, strict=True)
    ]


def file_names(names: Sequence[str]) -> list[str]:
    """File names of samples, each its own; the same whatever the order of the samples.

    Letters, digits and ``. _ - +`` as in `safe_name`. A name that others come too close to, or that
    was cut, ends with a digest of the whole name.
    """
    plain = [_cleaned("_".join(name.replace("\\", "/").split("/"))) for name in names]
    count = Counter(p.casefold() for p in plain)
    result = []
    for name, safe in zip(names, plain, strict=True):
        cut = len(name.encode("utf-8", "replace")) > _NAME_BYTES
        if cut or count[safe.casefold()] > 1 or safe.casefold() in _TAKEN:
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
            safe = f"{_shortened(safe, _NAME_BYTES - 11)}-{digest}"
        result.append(safe)
    return result


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
    name = _without_format(_parts(source)[-1])
    return _cleaned(name if element is None else f"{name}-{element}")


def _parts(source: str) -> list[str]:
    """Folders and name of a path or URL; never empty."""
    parts = [p for p in source.replace("\\", "/").split("?")[0].split("/") if p not in ("", ".")]
    while len(parts) > 1 and "*" in parts[-1]:
        parts.pop()
    return parts or [""]


def _without_format(name: str) -> str:
    suffix = next((s for s in _FORMATS if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def _cleaned(name: str) -> str:
    name = "".join(ch if ch.isalnum() or ch in "._-+" else "_" for ch in name).lstrip(".")
    return _shortened(name, _NAME_BYTES) or "image"


def _shortened(name: str, size: int) -> str:
    return name.encode("utf-8", "ignore")[:size].decode("utf-8", "ignore")


def make_writable(out: Path) -> None:
    """Make a folder and write to it, so that a mistake shows before hours of reading.

    Raises
    ------
    WriteError
        When nothing can be written there.
    """
    from gigaqc.stores.staging import local_path  # numpy comes with it

    local_path(out, "out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out, prefix=".gigaqc-"):
            pass
    except OSError as error:
        raise WriteError(
            f"out: cannot write into {str(out)!r} ({error.strerror or error}); name a folder that "
            "you may write to."
        ) from error
