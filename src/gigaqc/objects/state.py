"""The state of a pass over objects: rows that wait to be added, in memory or in files."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gigaqc.objects.blocks import BlockRuns
from gigaqc.objects.seams import BlockEdges, with_seams
from gigaqc.objectsums import Rows, merged
from gigaqc.observe.blocks import Channels, Place

_PARTS = 1024  # that wait to be added at once: adding two by two would copy rows again and again
SPILLED_ROWS = 1 << 16  # rows that go to a file together


@dataclass(frozen=True)
class ObjectRequest:
    """What to observe of each block.

    `channels` intensities; pieces joined diagonally too where `reach` is 1; rows beyond
    `SPILLED_ROWS` kept in files below `folder` unless it is None. Pieces are counted in one plane.
    """

    channels: int
    reach: int
    planar: bool
    folder: str | None

    @classmethod
    def of(
        cls,
        labels: xr.DataArray,
        image: xr.DataArray | None,
        connectivity: int = 8,
        folder: Path | None = None,
    ) -> ObjectRequest:
        """That for labels and the image they lie on."""
        return cls(
            channels=0 if image is None else image.sizes["c"],
            reach=int(connectivity == 8),
            planar=labels.sizes.get("z", 1) == 1,
            folder=None if folder is None else str(folder),
        )


@dataclass(frozen=True)
class Objects:
    """Objects of a part of an image."""

    request: ObjectRequest
    parts: tuple[Rows, ...]
    edges: tuple[BlockEdges, ...] = ()
    runs: tuple[str, ...] = ()

    def merge(self, other: Objects) -> Objects:
        """Of both parts; rows are added once many wait."""
        both = replace(
            self,
            parts=self.parts + other.parts,
            edges=self.edges + other.edges,
            runs=self.runs + other.runs,
        )
        if self.request.folder is not None:
            return both.spilled() if both.waiting > SPILLED_ROWS else both
        return replace(both, parts=(merged(both.parts),)) if len(both.parts) > _PARTS else both

    @property
    def waiting(self) -> int:
        """Rows in memory."""
        return sum(map(len, self.parts))

    def spilled(self) -> Objects:
        """The same with its rows in a file."""
        if not self.waiting or self.request.folder is None:
            return self
        run = Path(self.request.folder) / uuid.uuid4().hex
        run.mkdir()
        for name, column in merged(self.parts).columns().items():
            np.save(run / f"{name}.npy", column)
        return replace(
            self, parts=(Rows.empty(self.request.channels),), runs=(*self.runs, str(run))
        )

    def rows(self) -> Rows:
        """One row an object, of the whole image."""
        rows = merged(self.parts)
        return with_seams(rows, self.edges, self.request.reach) if self.request.planar else rows


def observe(
    channels: Iterable[np.ndarray], masks: Channels | None, place: Place, request: ObjectRequest
) -> Objects:
    """What a task does: labels come as the mask of an image, or as the only channel."""
    images: Iterable[np.ndarray] = ()
    if masks is None:
        (block,) = channels
    else:
        block, images = masks[0], channels
    runs = BlockRuns.of(block, place, request.reach)
    rows = runs.rows(images, request.channels, place)
    edges = (BlockEdges.of(block, runs, place),) if request.planar else ()
    return Objects(request, (rows,), edges)


def read_run(run: str) -> Rows:
    """The rows of a file, which are read where they are touched."""
    names = Rows.empty(0).columns()
    columns: dict[str, Any] = {n: np.load(Path(run) / f"{n}.npy", mmap_mode="r") for n in names}
    return Rows(**columns)
