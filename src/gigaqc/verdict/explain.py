"""What a run will take, before a pixel is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from gigaqc.base.formatting import readable_bytes
from gigaqc.base.machine import as_peak, memory_of_a_process, threads_of_a_process
from gigaqc.errors import ImageError, ParameterError
from gigaqc.graph.fold import FRAMES, plan_in_time
from gigaqc.graph.reduce import Group
from gigaqc.graph.slabs import SlabPlan, parsed_memory, plan_slabs
from gigaqc.image.labelled import as_image
from gigaqc.scanning.labels import as_labels
from gigaqc.scanning.scan import THUMBNAIL_SIDE, ScanSpec
from gigaqc.scanning.table import object_read
from gigaqc.scanning.tissue import tissue_read
from gigaqc.statistics.distribution import layout_of
from gigaqc.statistics.statistics import Part
from gigaqc.typing import ImageLike, LabelsLike

PlannedMetric = Literal[
    "assess", "scan", "object_table", "gaussian_blur", "pixel_clustering_preprocess", "tsnr_map",
    "gain_map",
]  # fmt: skip
"""What can be planned."""

# Bytes, measured as the peak of a process over its imports.
_CODES = int(2.4 * (1 << 20))  # histogram and responses of a channel that uses its 16 bits
_THUMBNAIL = 12  # a cell of it: sums, and the same again while states merge
_TOGETHER = 0.85  # power of the tasks of a scan at work: few are at their peak at once
_A_GROUP, _A_CHUNK = 3 << 10, 200  # of a graph that reads
_A_BLOCK = 32 << 10  # of a graph from image to image
_AN_OBJECT, _OF_A_CHANNEL = 500, 104
_DENSE = 256  # pixels an object takes where nobody says how many there are


@dataclass(frozen=True)
class Plan:
    """What a request will take: reads, bytes, tasks, and memory of a process.

    Attributes
    ----------
    passes, chunks, groups, tasks, bytes_read
        Reads of each chunk, chunks of the image, groups of them that a task reads, tasks that read,
        and decoded bytes that all of them read.
    block_bytes
        What one task holds.
    peak_bytes
        The most that a process will hold beyond its imports: that of `threads` tasks at work, the
        states that wait, and the graph.
    memory
        What a process may use: the smallest limit of a worker, or what is free here.
    """

    image: str
    passes: int
    chunks: int
    groups: int
    tasks: int
    bytes_read: int
    block_bytes: int
    threads: int
    peak_bytes: int
    memory: int

    @property
    def fits(self) -> bool:
        """Whether the memory of a process is enough."""
        return self.peak_bytes <= self.memory

    def __str__(self) -> str:
        lines = [
            self.image,
            f"passes       {self.passes} (each chunk is read {self.passes}x)",
            f"chunks       {self.chunks:,} in {self.groups:,} groups, {self.tasks:,} tasks",
            f"bytes read   {readable_bytes(self.bytes_read)} (decoded)",
            f"a task holds {readable_bytes(self.block_bytes)}",
            f"peak memory  {readable_bytes(self.peak_bytes)} a process of {self.threads} threads, "
            f"of {readable_bytes(self.memory)}",
        ]
        if not self.fits:
            lines.append(
                "does not fit: use fewer threads a process or more memory, or store the image in "
                "smaller chunks, such as 1024 x 1024"
            )
        return "\n".join(lines)


def explain(
    image: ImageLike,
    *,
    tissue: bool = True,
    labels: LabelsLike | None = None,
    metric: PlannedMetric = "assess",
    memory: int | str | None = None,
    dims: str | Sequence[str] | None = None,
    n_objects: int | None = None,
) -> Plan | SlabPlan:
    """Say what a run will take, before a pixel is read: reads, bytes, tasks, memory.

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image.
    tissue
        Whether the tissue is judged too, which reads one channel once more.
    labels
        A label image that is read beside it.
    metric
        What is run: ``"assess"``, ``"scan"``, ``"object_table"`` (of `labels`); ``"gaussian_blur"``
        and ``"pixel_clustering_preprocess"``, the result written; ``"tsnr_map"`` and
        ``"gain_map"``, which needs all frames of a pixel at once.
    memory
        Of ``"gain_map"``, as given to it: bytes of frames that a process may hold.
    dims
        Axes of an array without labels, such as ``"tyx"``.
    n_objects
        Of ``"object_table"``: about how many there are; by default one in 256 pixels.

    Returns
    -------
    Plan or SlabPlan
        ``print`` it. ``peak_bytes`` is the most that a process (each worker of a cluster) will hold
        beyond its imports; for images of some size the truth lies between two thirds of it and all
        of it. Of integers it assumes that the image uses the range of its type; narrow ones take
        less. Of a gain map also how all frames of a pixel come together.

    Raises
    ------
    ParameterError, ImageError
        An unknown metric or memory, ``"object_table"`` without labels, and metrics of a series of
        what has no ``t``.
    TooLargeError
        When not even the tasks at work fit the memory of a process; says how to store the image
        instead. So does whatever would compute them.

    Notes
    -----
    Threads and memory are those of the current dask ``Client``, else of this process.
    """
    if metric not in get_args(PlannedMetric):
        raise ParameterError(
            f"metric: got {metric!r}; pass one of {', '.join(get_args(PlannedMetric))}."
        )
    labelled = as_image(image, dims=dims)
    if metric in ("gain_map", "tsnr_map"):
        if "t" not in labelled.dims:
            raise ImageError(f"image: dims {tuple(labelled.dims)} lack t; pass a series.")
        if metric == "gain_map":
            return plan_slabs(labelled, parsed_memory(memory))
        return _plan_tsnr(labelled)
    if metric == "object_table":
        if labels is None:
            raise ParameterError("labels: None; pass the label image whose objects are measured.")
        return _plan_objects(labelled, as_labels(labels), n_objects)
    if metric == "gaussian_blur":
        return _plan_blocks(labelled, reads=1, together=False)
    if metric == "pixel_clustering_preprocess":
        return _plan_blocks(labelled, reads=4, together=True)
    return plan_scan(labelled, tissue=tissue and metric == "assess", labels=labels)


def plan_scan(labelled: xr.DataArray, *, tissue: bool, labels: Any = None) -> Plan:
    """What a scan takes, and judging the tissue after it."""
    ids = None if labels is None else as_labels(labels)
    spec = ScanSpec(labelled, None, ids, 512, (), (), (), Part.ALL, refine=True, guard=False)
    groups, passes, channels = spec.first.groups, spec.meta().reads, labelled.sizes["c"]
    held = _task_of_a_scan(labelled, groups)
    if ids is not None:
        held += max(map(_pixels, groups)) * ids.dtype.itemsize
    at_work = min(threads_of_a_process(), len(groups))
    states = 0
    if passes == 1 and labelled.dtype.itemsize == 2:
        levels = math.log(len(groups), 4)  # of rectangles that join; few of them wait
        states = int(_CODES * channels * (3.6 + 0.3 * levels))
    again = 0
    if tissue:
        parts = tissue_read(labelled.isel(c=slice(0, 1)), None, 0.0, "otsu").groups
        working = min(threads_of_a_process(), len(parts))
        again = int(working * max(map(_pixels, parts)) * (labelled.dtype.itemsize + 1.5))
    cells = math.prod(min(labelled.sizes[d], THUMBNAIL_SIDE) for d in "yx")
    extra = labelled.nbytes // channels if tissue else 0
    extra += 0 if ids is None else ids.nbytes
    return _plan(
        labelled, passes, len(groups), passes * len(groups), passes * labelled.nbytes + extra, held,
        max(int(at_work**_TOGETHER * held) + states, again) + _THUMBNAIL * channels * cells,
    )  # fmt: skip


def _task_of_a_scan(image: xr.DataArray, groups: Sequence[Group]) -> int:
    """Bytes: all channels as they are, as codes or float64 beside them, and one while joined."""
    pixels, channels = max(map(_pixels, groups)), image.sizes["c"]
    itemsize = image.dtype.itemsize
    if layout_of(np.dtype(image.dtype)) is None:
        codes = 0 if itemsize == 2 and image.dtype.kind == "u" else 2
        return pixels * (channels * (itemsize + codes) + itemsize)
    return pixels * (channels * (itemsize + 8) + 12)


def _plan_objects(image: xr.DataArray, ids: xr.DataArray, n_objects: int | None) -> Plan:
    groups = object_read(ids, image).groups
    each = image.sizes["c"] * image.dtype.itemsize + 2 * ids.dtype.itemsize
    held = max(map(_pixels, groups)) * each
    count = ids.size // _DENSE if n_objects is None else n_objects
    rows = count * (_AN_OBJECT + _OF_A_CHANNEL * image.sizes["c"])
    at_work = min(threads_of_a_process(), len(groups))
    bytes_read = image.nbytes + ids.nbytes
    return _plan(image, 1, len(groups), len(groups), bytes_read, held, at_work * held + rows)


def _plan_blocks(image: xr.DataArray, *, reads: int, together: bool) -> Plan:
    """From image to image, with a halo, and written."""
    chunk = math.prod(max(sizes) for d, sizes in image.chunksizes.items() if d != "c")
    values = chunk * (image.sizes["c"] if together else max(image.chunksizes["c"]))
    held = values * (27 if together else 45)  # as float32 with its halo, blurred, and as it is kept
    waiting = values * image.dtype.itemsize * (8 if together else 12)
    count = math.prod(len(sizes) for sizes in image.chunks or ())
    tasks = count // (len(image.chunksizes["c"]) if together else 1)
    at_work = min(threads_of_a_process(), tasks)
    return _plan(
        image, reads, tasks, reads * tasks, reads * image.nbytes, held,
        at_work * held + waiting + count * _A_BLOCK,
    )  # fmt: skip


def _plan_tsnr(series: xr.DataArray) -> Plan:
    plan = plan_in_time(series)
    runs, times = plan.runs, plan.times
    pixels = math.prod(max(run.size for run in each) for each in runs.values())
    longest = max(series.chunksizes["t"])
    # Short chunks wait in one buffer; mean, drift and residuals are five float64 a pixel.
    buffer = longest if longest >= FRAMES else FRAMES + 2 * longest
    state = 5 * 8
    held = pixels * (min(buffer, series.sizes["t"]) * series.dtype.itemsize + state)
    groups = len(times) * math.prod(map(len, runs.values()))
    at_work = min(threads_of_a_process(), groups)
    maps = 12 * series.size // series.sizes["t"]
    peak = at_work * held + 3 * state * pixels + maps
    return _plan(series, 1, groups, groups, series.nbytes, held, peak)


def _plan(
    image: xr.DataArray,
    passes: int,
    groups: int,
    tasks: int,
    bytes_read: int,
    held: int,
    peak: int,
) -> Plan:
    chunks = math.prod(len(sizes) for sizes in image.chunks or ())
    sizes = " x ".join(f"{d} {n:,}" for d, n in image.sizes.items())
    return Plan(
        image=f"{sizes}, {image.dtype}, {readable_bytes(image.nbytes)}",
        passes=passes,
        chunks=chunks,
        groups=groups,
        tasks=tasks,
        bytes_read=bytes_read,
        block_bytes=held,
        threads=threads_of_a_process(),
        peak_bytes=as_peak(peak + _A_GROUP * groups + _A_CHUNK * chunks),
        memory=memory_of_a_process(),
    )


def _pixels(group: Group) -> int:
    return group.pixels
