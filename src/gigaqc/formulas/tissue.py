"""How much of an image is tissue, and in how many pieces, from areas."""

from __future__ import annotations

import math
from functools import partial

from gigaqc.formulas.record import Metric, Scope, Source, below
from gigaqc.formulas.status import Status
from gigaqc.formulas.views import Sample

MAX_FRAGMENTATION = 0.5  # of tissue that counts as intact


def coverage(positive: int, valid: int) -> float:
    """Part of the valid pixels that is tissue; NaN without valid pixels."""
    return positive / valid if valid else math.nan


def fragmentation(largest: int, total: int) -> float:
    """1 - largest/total, both areas of counted components; 1 without tissue."""
    return 1.0 - largest / total if total else 1.0


def intact(coverage: float, fragmentation: float, min_coverage: float) -> bool:
    """Whether there is enough tissue and most of it hangs together; False for a NaN coverage."""
    return coverage > min_coverage and fragmentation < MAX_FRAGMENTATION


def coverage_of(sample: Sample) -> float:
    """Tissue over valid pixels."""
    assert sample.tissue is not None
    return coverage(sample.tissue.positive, sample.tissue.valid)


def fragments_of(sample: Sample) -> int:
    """Pieces of the tissue."""
    assert sample.tissue is not None
    return int(sample.tissue.n_fragments)


def fragmentation_of(sample: Sample) -> float:
    """Tissue outside of its largest piece."""
    assert sample.tissue is not None
    return fragmentation(sample.tissue.largest, sample.tissue.counted)


def intact_of(sample: Sample) -> bool:
    """Whether there is enough tissue, most of it in one piece."""
    least = sample.settings.min_coverage
    return bool(intact(coverage_of(sample), fragmentation_of(sample), least))


_of_tissue = partial(
    Metric, function="tissue_integrity", scope=Scope.SAMPLE, source=Source.TISSUE,
    origin="IMC recipe",
)  # fmt: skip

METRICS = (
    _of_tissue(
        "coverage",
        "Tissue coverage",
        "Tissue over all measured pixels: what is brighter than a threshold in the blurred tissue "
        "channel.",
        formula="tissue pixels / valid pixels",
        nan="no valid pixel",
        compute=coverage_of,
        range="0..1",
        kind="fraction",
        meaning="too little of the image is tissue",
        cure="Check the tissue channel, and whether the right region was imaged.",
        limits={
            "robust": below(0.002, 0.0, Status.FAIL),
            "recipe": below(None, 0.3, Status.FAIL),
        },
        primary=True,
        compared=True,
        column="tissue_coverage",
    ),
    _of_tissue(
        "n_fragments",
        "Tissue fragments",
        "Pieces of the tissue, pixels of which touch along a side.",
        formula="number of 4-connected components",
        compute=fragments_of,
        range="0..",
        kind="count",
        dtype="i8",
        compared=True,
    ),
    _of_tissue(
        "fragmentation",
        "Fragmentation",
        "Tissue outside of its largest piece.",
        formula="1 - largest component / all components; 1 without tissue",
        compute=fragmentation_of,
        range="0..1",
        better="lower",
        kind="fraction",
        compared=True,
    ),
    _of_tissue(
        "intact",
        "Tissue intact",
        "Whether there is enough tissue, and most of it hangs together.",
        formula="coverage > min_coverage and fragmentation < 0.5",
        compute=intact_of,
        kind="flag",
        dtype="?",
    ),
)
"""Numbers of the tissue mask."""
