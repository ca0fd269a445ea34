"""What a run will take, before a pixel is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from gigaqc.distribution import layout_of
from gigaqc.errors import ImageError, ParameterError
from gigaqc.image import as_image
from gigaqc.objects import as_labels
from gigaqc.passes import plan_groups
from gigaqc.representation import readable_bytes
from gigaqc.slabs import SlabPlan, parsed_memory, plan_slabs


@dataclass(frozen=True)
class Plan:
    """What a request will take: passes, reads, bytes, tasks, memory a task."""

    image: str
    passes: int
    chunks: int
    groups: int
    tasks: int
    bytes_read: int
    block_bytes: int

    def __str__(self) -> str:
        return "\n".join(
            (
                self.image,
                f"passes       {self.passes} (each chunk is read {self.passes}x)",
                f"chunks       {self.chunks:,} in {self.groups:,} groups, {self.tasks:,} tasks",
                f"bytes read   {readable_bytes(self.bytes_read)} (decoded)",
                f"a task holds {readable_bytes(self.block_bytes)}",
            )
        )


def explain(
    image: Any,
    *,
    tissue: bool = True,
    labels: Any = None,
    metric: Literal["assess", "gain_map"] = "assess",
    memory: int | str | None = None,
    dims: str | Sequence[str] | None = None,
) -> Plan | SlabPlan:
    """Say what a scan of an image, or a gain map of a series, will take; no pixel is read.

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.
    tissue
        Whether the tissue is judged too, which reads one channel once more.
    labels
        A label image that is read beside it.
    metric
        ``"assess"``, or ``"gain_map"``, which needs all frames of a pixel at once.
    memory
        Of ``"gain_map"``, as given to it: bytes of frames that a process may hold.
    dims
        Axes of an array without labels, such as ``"tyx"``.

    Returns
    -------
    Plan or SlabPlan
        ``print`` it: passes, chunks, tasks, bytes that are read, bytes that a task holds; of a gain
        map how all frames of a pixel come together, reads of a chunk, and bytes that are held.

    Raises
    ------
    ParameterError, ImageError
        An unknown metric or memory, and a gain map of what has no ``t``.
    """
    if metric not in ("assess", "gain_map"):
        raise ParameterError(f"metric: got {metric!r}; pass one of assess, gain_map.")
    labelled = as_image(image, dims=dims)
    if metric == "gain_map":
        if "t" not in labelled.dims:
            raise ImageError(f"image: dims {tuple(labelled.dims)} lack t; pass a series.")
        return plan_slabs(labelled, parsed_memory(memory))
    return plan_scan(labelled, tissue=tissue, labels=labels)


def plan_scan(labelled: xr.DataArray, *, tissue: bool, labels: Any = None) -> Plan:
    """What a scan takes, and judging the tissue after it."""
    groups = plan_groups(labelled)
    integers = layout_of(np.dtype(labelled.dtype)) is None
    passes = 1 if integers else 2
    values = max(math.prod(r.size for r in g.runs) for g in groups) * labelled.sizes["c"]
    # Codes or values in float64 beside the block, and decoding's own copy.
    held = values * (2 * labelled.dtype.itemsize + 2 if integers else 16 + labelled.dtype.itemsize)
    sizes = " x ".join(f"{d} {n:,}" for d, n in labelled.sizes.items())
    extra = labelled.nbytes // labelled.sizes["c"] if tissue else 0
    extra += 0 if labels is None else as_labels(labels).nbytes
    return Plan(
        image=f"{sizes}, {labelled.dtype}, {readable_bytes(labelled.nbytes)}",
        passes=passes,
        chunks=math.prod(len(c) for c in labelled.chunks or ()),
        groups=len(groups),
        tasks=passes * len(groups),
        bytes_read=passes * labelled.nbytes + extra,
        block_bytes=held,
    )
