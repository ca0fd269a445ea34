"""How good a segmentation is, from the sums over its objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gigaqc.base.geometry import count_tiles
from gigaqc.formulas import objects
from gigaqc.formulas.record import Basis, Metric, Scope, above, below
from gigaqc.formulas.signal import ratio
from gigaqc.formulas.views import Labelled, Sample
from gigaqc.statistics.object_sums import Layout, Rows


def sizes_of(labelled: Labelled) -> dict[str, float]:
    """How the areas of the objects vary."""
    return objects.size_summary(labelled.rows.counts)


def elongated(labelled: Labelled) -> float:
    """Fraction of objects with an eccentricity above 0.9."""
    shapes = objects.shapes_of(labelled.rows, labelled.layout)
    return objects.fraction_elongated(shapes.eccentricity)


def n_cells(labelled: Labelled) -> int:
    """Objects of the label image."""
    return len(labelled.rows)


def n_border(labelled: Labelled) -> int:
    """Objects that reach a side of the image."""
    return int(objects.touches_border(labelled.rows, labelled.layout).sum())


def labelled_fraction(labelled: Labelled) -> float:
    """Pixels of objects over all pixels."""
    pixels = int(np.prod(list(labelled.layout.sizes.values())))
    return int(labelled.rows.counts.sum()) / pixels


def pieces_of(labelled: Labelled) -> dict[str, float]:
    """Ids in several pieces, and ids with holes; NaN in space and of none."""
    n = len(labelled.rows)
    if not labelled.layout.planar or not n:
        return dict.fromkeys(("fragmented", "fraction", "holes"), np.nan)
    fragmented, holes = (labelled.rows.pieces > (1, 0)).sum(axis=0).tolist()
    return {"fragmented": fragmented, "fraction": fragmented / n, "holes": holes}


def quality(labelled: Labelled) -> str:
    """The recipe's verdict."""
    area_cv = labelled.once(sizes_of)["area_cv"]
    return objects.verdict(len(labelled.rows), area_cv, labelled.once(elongated))


def cells_by_tile(rows: Rows, layout: Layout, tile: int) -> np.ndarray:
    """Objects by the tile of their centroid, (tile_y, tile_x)."""
    shape = tuple(count_tiles(layout.sizes[d], tile) for d in "yx")
    at = (objects.centroids(rows)[:, 1:] // tile).astype("i8")
    return np.bincount(at[:, 0] * shape[1] + at[:, 1], minlength=shape[0] * shape[1]).reshape(shape)


def intensities_of(labelled: Labelled) -> Mapping[str, np.ndarray]:
    """Mean over objects of their mean intensity, and how much these vary, by channel."""
    values = labelled.rows.values[:, : len(labelled.layout.channels)]
    means = np.where(values[..., 0] > 0, values[..., 1], np.nan)
    n = np.isfinite(means).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = np.nansum(means, axis=0) / n
        std = np.sqrt(np.nansum((means - mean) ** 2, axis=0) / n)
        return {"mean_intensity": mean, "intensity_cv": std / mean}


def contrasts_of(labelled: Labelled) -> Mapping[str, np.ndarray]:
    """Of each channel inside the objects against their rings."""
    rows, around, channels = labelled.rows, labelled.around, len(labelled.layout.channels)
    assert around is not None
    inside, n_inside, _ = _pooled(rows.values[:, :channels])
    outside, n_outside, std = _pooled(around.values)
    at = np.searchsorted(rows.labels, around.labels)  # each ring has its object
    own, ring = rows.values[at, :channels], around.values
    both = (own[..., 0] > 0) & (ring[..., 0] > 0)
    brighter = (both & (own[..., 1] > ring[..., 1])).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "inside_mean": np.where(n_inside > 0, inside, np.nan),
            "ring_mean": np.where(n_outside > 0, outside, np.nan),
            "contrast": np.where(n_inside > 0, (inside - outside) / std, np.nan),
            "fraction_brighter": brighter / both.sum(axis=0),
        }


def _pooled(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, count and std of all pixels of all objects, a channel."""
    n = values[..., 0].sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = (values[..., 0] * values[..., 1]).sum(axis=0) / n
        squares = values[..., 2] + values[..., 0] * (values[..., 1] - mean) ** 2
        return mean, n, np.sqrt(squares.sum(axis=0) / n)


def overlap_of(labelled: Labelled) -> dict[str, float]:
    """Of the objects with the tissue, whose mask is the last channel."""
    rows, tissue = labelled.rows, labelled.tissue
    assert tissue is not None
    share = rows.values[:, -1, 1]
    inside = float((rows.counts * share).sum())
    return {
        "fraction_in_tissue": float((share > 0.5).mean()) if len(rows) else np.nan,
        "labelled_in_tissue": ratio(inside, float(rows.counts.sum())),
        "tissue_covered": ratio(inside, float(tissue)),
    }


@dataclass(frozen=True)
class OfLabels:
    """A metric's `compute`: a formula of a sample's label image, or one name of what it gives."""

    formula: Callable[[Labelled], Any]
    name: str = ""

    def __call__(self, sample: Sample) -> Any:
        """The number of a sample."""
        assert sample.objects is not None
        found = sample.objects.once(self.formula)
        return found[self.name] if self.name else found


_of_labels = partial(
    Metric, function="segmentation_quality", scope=Scope.SAMPLE, source=Basis.LABELS
)
_of_channels = partial(Metric, function="segmentation_quality", source=Basis.LABELS, assessed=False)
_RECIPE = "IMC recipe"

METRICS = (
    _of_labels(
        "n_cells",
        "Cells",
        "Objects of the label image.",
        formula="number of ids",
        compute=OfLabels(n_cells),
        range="0..",
        kind="count",
        dtype="i8",
        origin=_RECIPE,
        meaning="the label image holds no object",
        cure="Check that the labels belong to this image, and segment again.",
        limits={"robust": below(None, 0.0), "recipe": below(0.0, None)},
        primary=True,
        compared=True,
    ),
    _of_labels(
        "quality",
        "Quality",
        "GOOD where areas vary by less than half and fewer than a tenth are elongated, else "
        "REVIEW; EMPTY without an object.",
        formula="GOOD if area_cv < 0.5 and fraction_elongated < 0.1, else REVIEW; EMPTY of none",
        compute=OfLabels(quality),
        kind="text",
        dtype="<U6",
        origin=_RECIPE,
    ),
    _of_labels(
        "mean_area",
        "Mean area",
        "In pixels.",
        formula="mean of the areas",
        nan="no object",
        compute=OfLabels(sizes_of, "mean_area"),
        unit="px",
        range="0..",
        origin=_RECIPE,
        compared=True,
    ),
    _of_labels(
        "median_area",
        "Median area",
        "In pixels.",
        formula="median of the areas",
        nan="no object",
        compute=OfLabels(sizes_of, "median_area"),
        unit="px",
        range="0..",
        compared=True,
    ),
    _of_labels(
        "mad_area",
        "Spread of areas",
        "Median distance of an area from the median area, in pixels.",
        formula="median of |area - median area|",
        nan="no object",
        compute=OfLabels(sizes_of, "mad_area"),
        unit="px",
        range="0..",
    ),
    _of_labels(
        "area_cv",
        "Area variation",
        "Std of the areas over their mean.",
        formula="std of the areas / mean of the areas",
        nan="no object",
        compute=OfLabels(sizes_of, "area_cv"),
        range="0..",
        better="lower",
        origin=_RECIPE,
        meaning="the areas of the objects vary much",
        cure="Look for merged and broken objects, and whether the cells themselves differ in size.",
        limits=dict.fromkeys(("robust", "recipe"), above(objects.MOST_VARIED, None)),
        compared=True,
    ),
    _of_labels(
        "fraction_elongated",
        "Elongated",
        "Eccentricity above 0.9.",
        formula="number of objects with eccentricity > 0.9 / those that have one",
        nan="no object; stacks",
        compute=OfLabels(elongated),
        range="0..1",
        better="lower",
        kind="fraction",
        origin=_RECIPE,
        meaning="many objects are long and thin",
        cure="Look for merged objects and for slivers; some cells are elongated by nature.",
        limits=dict.fromkeys(("robust", "recipe"), above(objects.MOST_ELONGATED, None)),
        compared=True,
    ),
    _of_labels(
        "fraction_very_small",
        "Very small",
        "Objects below the 5th percentile of the areas: about 5 % by construction.",
        formula="number of areas < their p5 / n_cells",
        nan="no object",
        compute=OfLabels(sizes_of, "fraction_very_small"),
        range="0..1",
        kind="fraction",
        origin=_RECIPE,
    ),
    _of_labels(
        "fraction_very_large",
        "Very large",
        "Objects above the 95th percentile of the areas: about 5 % by construction.",
        formula="number of areas > their p95 / n_cells",
        nan="no object",
        compute=OfLabels(sizes_of, "fraction_very_large"),
        range="0..1",
        kind="fraction",
        origin=_RECIPE,
    ),
    _of_labels(
        "fraction_outlier_small",
        "Far smaller",
        "Area below the median by more than three robust standard deviations.",
        formula="number of areas < median - 3 x 1.4826 MAD / n_cells",
        nan="half of the areas are equal",
        compute=OfLabels(sizes_of, "fraction_outlier_small"),
        range="0..1",
        better="lower",
        kind="fraction",
    ),
    _of_labels(
        "fraction_outlier_large",
        "Far larger",
        "The same above.",
        formula="number of areas > median + 3 x 1.4826 MAD / n_cells",
        nan="half of the areas are equal",
        compute=OfLabels(sizes_of, "fraction_outlier_large"),
        range="0..1",
        better="lower",
        kind="fraction",
    ),
    _of_labels(
        "n_border",
        "At the border",
        "Objects that the border of the image cuts.",
        formula="number of objects with a pixel on a side of the image",
        compute=OfLabels(n_border),
        range="0..",
        kind="count",
        dtype="i8",
    ),
    _of_labels(
        "n_fragmented",
        "In pieces",
        "Ids in several pieces.",
        formula="number of ids of more than one connected piece; NaN in space",
        nan="no object; stacks",
        compute=OfLabels(pieces_of, "fragmented"),
        range="0..",
        better="lower",
        kind="count",
    ),
    _of_labels(
        "fraction_fragmented",
        "In pieces (share)",
        "Ids in several pieces over all ids.",
        formula="n_fragmented / n_cells",
        nan="no object; stacks",
        compute=OfLabels(pieces_of, "fraction"),
        range="0..1",
        better="lower",
        kind="fraction",
        meaning="many ids lie in several pieces",
        cure="Number the pieces apart, or stitch the segmentation again.",
        limits={"robust": above(0.01, 0.1)},
        compared=True,
    ),
    _of_labels(
        "n_with_holes",
        "With holes",
        "Ids that enclose a hole.",
        formula="number of ids that enclose pixels that are not theirs; NaN in space",
        nan="no object; stacks",
        compute=OfLabels(pieces_of, "holes"),
        range="0..",
        better="lower",
        kind="count",
    ),
    _of_labels(
        "labelled_fraction",
        "Labelled",
        "Pixels of an object over all.",
        formula="sum of the areas / pixels of the image",
        compute=OfLabels(labelled_fraction),
        range="0..1",
        kind="fraction",
        compared=True,
    ),
)
"""Numbers of a label image, in the order in which the page shows them."""

WITH_TISSUE = tuple(
    _of_labels(
        key, label, what, formula=formula, compute=OfLabels(overlap_of, key), range="0..1",
        kind="fraction", assessed=False,
    )
    for key, label, what, formula in (
        (
            "fraction_in_tissue",
            "Cells in tissue",
            "Objects that lie in the tissue.",
            "number of objects with more than half of their pixels in the mask / n_cells",
        ),
        (
            "labelled_in_tissue",
            "Labels in tissue",
            "Labelled pixels that lie in the tissue.",
            "labelled pixels in the mask / labelled pixels",
        ),
        (
            "tissue_covered",
            "Tissue covered",
            "Tissue that is labelled.",
            "labelled pixels in the mask / pixels of the mask",
        ),
    )
)  # fmt: skip
"""What a label image and a mask of the tissue give."""

WITH_IMAGE = (
    _of_channels(
        "mean_intensity",
        "Intensity",
        "Mean over the objects of their mean intensity.",
        formula="mean of the objects' means",
        compute=OfLabels(intensities_of, "mean_intensity"),
        unit="DN",
    ),
    _of_channels(
        "intensity_cv",
        "Intensity variation",
        "How much the mean intensities of the objects vary.",
        formula="std / mean of the objects' means",
        compute=OfLabels(intensities_of, "intensity_cv"),
        range="0..",
    ),
)
"""What a label image and an image give, by channel."""

WITH_RING = (
    _of_channels(
        "inside_mean",
        "Inside",
        "Mean of all pixels of the objects.",
        formula="mean of x in objects",
        compute=OfLabels(contrasts_of, "inside_mean"),
        unit="DN",
    ),
    _of_channels(
        "ring_mean",
        "Ring",
        "Mean of all pixels of the rings around the objects.",
        formula="mean of x in rings",
        compute=OfLabels(contrasts_of, "ring_mean"),
        unit="DN",
    ),
    _of_channels(
        "contrast",
        "Contrast",
        "How far the objects stand out of their rings.",
        formula="(inside_mean - ring_mean) / std of x in rings",
        nan="no ring",
        compute=OfLabels(contrasts_of, "contrast"),
        better="higher",
    ),
    _of_channels(
        "fraction_brighter",
        "Brighter than their ring",
        "Objects whose mean exceeds that of their ring.",
        formula="number of objects brighter than their ring / those with both",
        nan="no ring",
        compute=OfLabels(contrasts_of, "fraction_brighter"),
        range="0..1",
        better="higher",
        kind="fraction",
    ),
)
"""What objects and rings around them give, by channel."""

TILES = (
    Metric(
        "cells",
        "Objects",
        "Objects whose centroid lies in the tile.",
        formula="number of objects by the tile of their centroid",
        function="segmentation_quality",
        range="0..",
        kind="count",
        dtype="i8",
        scope=Scope.TILE,
        source=Basis.LABELS,
        assessed=False,
    ),
)
"""Where the objects are."""
