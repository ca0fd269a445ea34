"""Small images for cohorts, sources that fail in five ways, and a record of what is read."""

from __future__ import annotations

import builtins
import os
from pathlib import Path

import numpy as np
import zarr

from gigaqc.stores import chunks, location

FAILING = ("corrupt.zarr", "missing.tif", "flat.zarr", "empty.zarr", "locked.tif")


def cells(seed: int, channels: int = 2, side: int = 64) -> np.ndarray:
    """A pattern with counting noise, which passes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    pattern = 20 + (300 + 10 * seed) * ((y // 16 + x // 16) % 2)
    return rng.poisson(np.stack([pattern] * channels)).astype("u2")


def stored(path: Path, values: np.ndarray) -> Path:
    chunks = (1,) * (values.ndim - 2) + (32, 32) if values.ndim > 1 else (32,)
    array = zarr.create_array(path, shape=values.shape, chunks=chunks, dtype=values.dtype)
    array[...] = values
    return path


def cohort(folder: Path, n: int, *, failing: bool = True) -> list[str]:
    """Paths of `n` images, among which the five that fail are spread out."""
    paths = [str(stored(folder / f"s{i:03}.zarr", cells(i % 7))) for i in range(n)]
    if not failing:
        return paths
    corrupt = stored(folder / "corrupt.zarr", cells(0))
    (corrupt / "c" / "1" / "0" / "1").write_bytes(b"no zstd")
    stored(folder / "flat.zarr", np.arange(64, dtype="u2"))
    zarr.create_array(folder / "empty.zarr", shape=(2, 0, 64), chunks=(1, 1, 32), dtype="u2")
    locked = folder / "locked.tif"
    locked.write_bytes(b"II*\0" + bytes(100))
    locked.chmod(0)
    for k, name in enumerate(FAILING):
        paths.insert((k + 1) * n // 6, str(folder / name))
    return paths


def keep_locked() -> None:
    """Refuse what is locked also to a superuser, who may read everything."""

    def refusing(path, *arguments, **options):
        if str(path).endswith("locked.tif"):
            raise PermissionError(13, "Permission denied", str(path))
        return builtins.open(path, *arguments, **options)

    location.open = refusing  # type: ignore[attr-defined]


def record_reads(log: Path) -> None:
    """Append the source of each block that is read to a file, before it is read."""
    real = chunks.LazyArray._read

    def read(self, spans):
        with open(log, "a") as file:
            file.write(f"{os.path.basename(self.source.split(' (')[0])}\n")
        return real(self, spans)

    chunks.LazyArray._read = read  # type: ignore[method-assign]
