"""Objects of a label image: their table, and how good a segmentation is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.base
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from gigaqc.base.geometry import count_tiles
from gigaqc.errors import ParameterError, StatisticsError
from gigaqc.formulas import segmentation
from gigaqc.formulas.record import Metric, Scope
from gigaqc.formulas.segmentation import cells_by_tile
from gigaqc.formulas.views import Labelled, Sample
from gigaqc.graph.tasks import join
from gigaqc.image.labelled import as_mask
from gigaqc.scanning.labels import as_labels, check_fit, ring_labels
from gigaqc.scanning.objects import Objects
from gigaqc.scanning.results import Results, pixels_of, promised
from gigaqc.scanning.scan import LazyStatistics, StatisticsLike, check_tile
from gigaqc.scanning.table import (
    checked_parquet,
    object_read,
    read_table,
    spilling,
    table_of,
    write_table,
)
from gigaqc.statistics.object_sums import Layout, ObjectSums, Rows
from gigaqc.statistics.statistics import Statistics
from gigaqc.typing import ImageLike, LabelsLike, MaskLike, PathLike

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

_WIDEST_RING = 64


def object_table(
    labels: LabelsLike | StatisticsLike,
    image: ImageLike | None = None,
    *,
    to: PathLike | None = None,
    connectivity: int = 8,
    overwrite: bool = False,
) -> pd.DataFrame | dd.DataFrame:
    """Position, shape and intensities of each object of a label image. Runs now.

    Parameters
    ----------
    labels
        Integer ids, dims ``y x`` or ``z y x``, or their path; 0 is background. Ids may be sparse
        and huge. Or a `Statistics` scanned with ``labels=``: then no pixel is read.
    image
        The image that the labels lie on, in any chunks; None leaves intensities out.
    to
        Write the table there (``"cells.parquet"``) instead of holding it: rows go to files beside
        it and are added range by range, so that memory goes with the blocks at work.
    connectivity
        8 or 4: which neighbouring pixels are of one piece.
    overwrite
        Replace a table that exists at `to`.

    Returns
    -------
    pandas.DataFrame, or dask DataFrame with `to`
        Indexed by ``label``, ascending.

        - ``area``: pixels, of a stack voxels; from 1 up
        - ``centroid_y``, ``centroid_x``: mean position [px], 0 is the middle of the first pixel
        - ``bbox_min_y`` ... ``bbox_max_x``: the box [px], of which the maximum lies outside
        - ``moment_yy``, ``moment_xx``, ``moment_yx``: second central moments over the area [px^2]
        - ``major_axis_length``, ``minor_axis_length``: 4 sqrt(eigenvalue) of these, in a stack
          those of an ellipsoid, sqrt(20 eigenvalue) [px]
        - ``eccentricity``: sqrt(1 - l2/l1); no unit, 0..1, 0 for one pixel, NaN in a stack
        - ``orientation``: angle from y to the major axis [radian]; -pi/2..pi/2, NaN in a stack
        - ``touches_border``: whether a pixel lies at the border of the image; bool
        - ``n_pieces``, ``n_holes``: parts that do not touch, and what is enclosed; not of a stack
        - ``mean_``, ``std_`` (ddof 0), ``min_``, ``max_`` of each channel: of its finite pixels, in
          units of the image; NaN where there are none
        - ``n_excluded_`` of each channel of float images: pixels that are not finite

        Where the pixel size and its unit are known, ``area_um2`` (``volume_um3``),
        ``centroid_y_um``, ``major_axis_length_um`` and so on stand beside them.

    Raises
    ------
    ImageError
        Before a pixel is read: labels that are no integers, or of another shape or pixel size than
        the image. While reading: a negative id, with its place.
    ParameterError, StatisticsError, WriteError
        When `connectivity` is neither 4 nor 8, Statistics hold no objects, or `to` cannot be
        written.

    Notes
    -----
    Each chunk of the labels and of the image is read once. Geometry is exact: sums of whole
    numbers, moved to floats last; the same for any chunking, and intensities to 1e-12. As
    scikit-image's ``regionprops_table`` on whole arrays, but that moments are divided by the area.
    A hole is what a ring of one label encloses, though another object may fill it.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> labels = np.array([[7, 7, 0], [7, 7, 0]])
    >>> gq.object_table(labels).loc[[7], ["area", "centroid_y", "bbox_max_x"]].values.tolist()
    [[4.0, 0.5, 2.0]]
    """
    if isinstance(labels, (Statistics, LazyStatistics)):
        _refuse_beside_statistics(image=image, to=to)
        held = _held(labels.compute())
        return table_of(held.rows, held.layout)
    found, beside = _labels_and_image(labels, image, "object_table")
    _check_connectivity(connectivity)
    layout = Layout.of(found, beside)
    if to is None:
        promise = object_read(found, beside, connectivity=connectivity).build()
        return table_of(dask.base.compute(promise)[0].rows(), layout)
    target = checked_parquet(to, overwrite=overwrite)
    with spilling(target) as folder:
        whole = object_read(found, beside, connectivity=connectivity, folder=folder).build()
        (objects,) = dask.base.compute(whole)
        write_table(objects, layout, target)
    return read_table(target)


def segmentation_quality(
    labels: LabelsLike | StatisticsLike,
    image: ImageLike | None = None,
    *,
    tissue: MaskLike | None = None,
    ring: int | None = None,
    tile: int = 512,
    connectivity: int = 8,
) -> xr.Dataset:
    """How good a segmentation looks: sizes, shapes, pieces, density, and contrast (lazy).

    Parameters
    ----------
    labels
        Integer ids, dims ``y x`` or ``z y x``, or their path; 0 is background. Or a `Statistics`
        scanned with ``labels=``: then no pixel is read, and there is no ring and no tissue.
    image
        The image that the labels lie on, for intensities.
    tissue
        A bool mask of the tissue.
    ring
        Width in pixels of the ring around each object that its intensity is held against; needs
        `image`. About 3. Costs one more read of both.
    tile
        Side of the tiles of ``cells``, in pixels.
    connectivity
        8 or 4: which neighbouring pixels are of one piece.

    Returns
    -------
    Dataset
        Scalars, NaN without an object unless said:

        - ``n_cells``: objects; 0 without one
        - ``mean_area``: mean area [px]
        - ``area_cv``: std/mean of areas; no unit, from 0 up
        - ``fraction_very_small``, ``fraction_very_large``: area < p5, > p95; 0..1. By construction
          a twentieth
        - ``fraction_elongated``: eccentricity > 0.9; 0..1, NaN of a stack
        - ``quality``: GOOD where ``area_cv`` < 0.5 and fewer than 0.1 are elongated, else REVIEW;
          EMPTY without an object
        - ``median_area``, ``mad_area``: median, and median distance from it [px]
        - ``fraction_outlier_small``, ``fraction_outlier_large``: area beyond the median by more
          than 3 x 1.4826 MAD; 0..1, NaN where the MAD is 0
        - ``n_border``: objects that touch the border of the image, which cuts their areas
        - ``n_fragmented``, ``n_with_holes``: ids in several pieces, and around holes; NaN of a
          stack
        - ``fraction_fragmented``: ``n_fragmented`` / ``n_cells``; 0..1
        - ``labelled_fraction``: labelled pixels / all pixels; 0..1

        Maps, and with further arguments:

        - ``cells`` (``tile_y``, ``tile_x``): objects by the tile of their centroid
        - ``mean_intensity`` (``c``), with `image`: mean of the objects' means; units of the image
        - ``intensity_cv`` (``c``), with `image`: std/mean of the objects' means; no unit
        - ``inside_mean``, ``ring_mean`` (``c``), with `ring`: means of all pixels of objects and
          rings; units of the image
        - ``contrast`` (``c``), with `ring`: (inside - ring) / std of the ring's pixels; no unit
        - ``fraction_brighter`` (``c``), with `ring`: objects whose mean exceeds that of their ring;
          0..1
        - ``fraction_in_tissue``, with `tissue`: objects with more than half of their pixels inside;
          0..1
        - ``labelled_in_tissue``, with `tissue`: labelled pixels inside / labelled pixels; 0..1
        - ``tissue_covered``, with `tissue`: labelled pixels inside / pixels of tissue; 0..1

    Raises
    ------
    ImageError, MaskError, ParameterError, StatisticsError
        Before a pixel is read; a negative id while reading.

    Notes
    -----
    One read of labels and image; `tissue` is read twice. Exact, whatever the chunks. The recipe's
    numbers are the first group.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> str(gq.segmentation_quality(np.zeros((8, 8), "u2")).quality.values)
    'EMPTY'
    """
    check_tile(tile)
    if isinstance(labels, Statistics):
        _refuse_beside_statistics(image=image, tissue=tissue, ring=ring)
        held = _held(labels)
        asked = _QualityRequest(held.layout, int(tile), tissue=False, ring=False)
        return _dataset(quality_of(held.rows, asked), asked)
    if isinstance(labels, LazyStatistics):
        _refuse_beside_statistics(image=image, tissue=tissue, ring=ring)
        raise StatisticsError(
            "labels: got a lazy scan; its objects are named once it is computed: pass "
            "statistics.compute()."
        )
    found, beside = _labels_and_image(labels, image, "segmentation_quality")
    _check_connectivity(connectivity)
    if ring is not None:
        _check_ring(ring, beside)
    layout = Layout.of(found, beside)
    around = None
    if ring is not None:
        around = object_read(ring_labels(found, ring), beside).build()
    covered, whole_tissue = beside, None
    if tissue is not None:
        mask = as_mask(tissue, found.expand_dims("c") if beside is None else beside, "tissue")
        whole_tissue = mask.sum().data
        covered = _with_mask(beside, mask)
    objects = object_read(found, covered, connectivity=connectivity).build()
    request = _QualityRequest(layout, int(tile), tissue is not None, ring is not None)
    covering = _as_delayed(whole_tissue)
    whole = join("segmentation", quality_of, objects, request, around, covering)
    return _dataset(whole, request)


def _labels_and_image(
    labels: Any, image: Any, metric: str
) -> tuple[xr.DataArray, xr.DataArray | None]:
    found = as_labels(labels)
    return found, None if image is None else check_fit(found, pixels_of(image, metric))


def _held(statistics: Statistics) -> ObjectSums:
    if statistics.objects is None:
        raise StatisticsError(
            "labels: the Statistics hold no objects; scan the image with labels=, or pass the "
            "labels themselves."
        )
    return statistics.objects


def _refuse_beside_statistics(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ParameterError(
                f"{name}: Statistics hold no pixels and are a table already; pass the labels "
                f"themselves with {name}=."
            )


def _check_connectivity(connectivity: int) -> None:
    if connectivity not in (4, 8):
        raise ParameterError(f"connectivity: got {connectivity!r}; pass 4 or 8.")


def _check_ring(ring: int, image: xr.DataArray | None) -> None:
    if not isinstance(ring, (int, np.integer)) or not 1 <= ring <= _WIDEST_RING:
        raise ParameterError(f"ring: got {ring!r}; pass whole pixels, 1 to {_WIDEST_RING}.")
    if image is None:
        raise ParameterError("ring: a ring holds intensities, which need image=.")


def _with_mask(image: xr.DataArray | None, mask: xr.DataArray) -> xr.DataArray:
    """The image with the mask as its last channel, so that labels are read once for both."""
    if "c" in mask.dims:
        mask = mask.isel(c=0)
    last = mask.expand_dims(c=["mask"])
    if image is None:
        return last.astype("u1")
    bare = image.drop_vars([k for k in image.coords if k != "c"])
    order = [d for d in image.dims if d == "c" or d in last.dims]
    both = [bare, last.transpose(*order).astype(image.dtype)]
    joined = xr.concat(both, "c", coords="minimal", compat="override", join="override")
    return joined.assign_coords(c=[f"{k}" for k in range(joined.sizes["c"])])


def _as_delayed(value: Any) -> Delayed | None:
    return None if value is None else value.to_delayed().item()


@dataclass(frozen=True)
class _QualityRequest:
    """What `quality_of` is to say."""

    layout: Layout
    tile: int
    tissue: bool
    ring: bool

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that there is something for."""
        return (
            *segmentation.METRICS,
            *(segmentation.WITH_TISSUE if self.tissue else ()),
            *(segmentation.WITH_IMAGE if self.layout.channels else ()),
            *(segmentation.WITH_RING if self.ring else ()),
        )


def quality_of(
    objects: Objects | Rows,
    asked: _QualityRequest,
    around: Objects | None = None,
    tissue: Any = None,
) -> Results:
    """The variables of `segmentation_quality` from its passes."""
    rows = objects.rows() if isinstance(objects, Objects) else objects
    labelled = Labelled(
        rows, asked.layout, None if around is None else around.rows(),
        None if tissue is None else int(tissue),
    )  # fmt: skip
    sample = Sample(objects=labelled)
    found = {m.key: m.of(sample) for m in asked.metrics}
    return {**found, "cells": cells_by_tile(rows, asked.layout, asked.tile)}


def _dataset(whole: Delayed | Results, asked: _QualityRequest) -> xr.Dataset:
    """What `quality_of` gives, or will give, by name."""
    layout = asked.layout
    count = len(layout.channels)
    shape = tuple(count_tiles(layout.sizes[d], asked.tile) for d in "yx")
    types: dict[str, tuple[tuple[str, ...], tuple[int, ...], str]] = {
        m.key: (("c",), (count,), m.dtype) if m.scope is Scope.CHANNEL else ((), (), m.dtype)
        for m in asked.metrics
    }
    types["cells"] = (("tile_y", "tile_x"), shape, "i8")
    variables = {
        name: (dims, promised(whole, name, sides, dtype))
        if isinstance(whole, Delayed)
        else (dims, np.asarray(whole[name], dtype))
        for name, (dims, sides, dtype) in types.items()
    }
    coords: Mapping[str, Any] = {"c": list(layout.channels)} if count else {}
    return xr.Dataset(variables, coords=coords, attrs={"tile": asked.tile})
