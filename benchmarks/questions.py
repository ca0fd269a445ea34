"""All questions, by name and by group of the table."""

from __future__ import annotations

from benchmarks import (
    assess_floor,
    clusters,
    codecs,
    gain,
    isnr,
    objects,
    peers,
    preprocess,
    recipe_numpy,
    segment,
    spatial_assess,
    transforms,
    tsnr,
    workers,
)

ALL = [
    question
    for module in (
        assess_floor, recipe_numpy, spatial_assess, codecs, workers, transforms, preprocess,
        clusters, objects, segment, gain, tsnr, isnr, peers,
    )
    for question in module.QUESTIONS
]  # fmt: skip
QUESTIONS = {question.name: question for question in ALL}
GROUPS = {g: [q for q in ALL if q.group == g] for g in dict.fromkeys(q.group for q in ALL)}
