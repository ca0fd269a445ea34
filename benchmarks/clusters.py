"""What does clustering pixels cost? Training, and labels computed and thrown away, over reading.

    python -m benchmarks.clusters [--side 4096] [--runs 3] [--store FOLDER]

Beside the prediction stands scikit-learn's own, called chunk by chunk on models of the same sample.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

import gigaqc as gq
from benchmarks._measure import Stored, discard, slide
from benchmarks._question import SLIDE, Question

SKLEARN = "scikit-learn's `predict` chunk by chunk"


class Trained(NamedTuple):
    """An image, gigaqc's clusters by method, and scikit-learn's models."""

    stored: Stored
    ours: dict[str, gq.PixelClusters]
    models: dict[str, Any]


def prepare(folder: Path, **size: Any) -> Trained:
    stored = slide(folder, **size)
    ours = {m: train(stored, m) for m in ("gmm", "kmeans", "flowsom")}
    sample = ours["gmm"].sample
    models = {"gmm": GaussianMixture(6, random_state=0), "kmeans": KMeans(6, random_state=0)}
    return Trained(stored, ours, {name: model.fit(sample) for name, model in models.items()})


def train(stored: Stored, method: str) -> gq.PixelClusters:
    return gq.cluster_pixels(stored.image, 6, method=method, max_pixels=200_000)


def by_chunk(found: Trained, method: str) -> None:
    """Labels as they are made with dask and scikit-learn."""
    image = da.from_zarr(str(found.stored.path)).rechunk({0: -1})
    model = found.models[method]

    def predict(block: np.ndarray) -> np.ndarray:
        flat = block.reshape(len(block), -1).T.astype("f8")
        return model.predict(flat).reshape(block.shape[1:])

    discard(image.map_blocks(predict, drop_axis=0, dtype="i4"))


def labels(found: Trained, method: str) -> None:
    discard(found.ours[method].labels.data)


QUESTIONS = (
    Question(
        name="clusters",
        group="transforms",
        of=SLIDE,
        prepare=prepare,
        functions={
            "reading": lambda found: found.stored.read(),
            "training by `cluster_pixels`, gmm": lambda found: train(found.stored, "gmm"),
            "labels of `cluster_pixels`, gmm": lambda found: labels(found, "gmm"),
            "labels of `cluster_pixels`, kmeans": lambda found: labels(found, "kmeans"),
            "labels of `cluster_pixels`, flowsom": lambda found: labels(found, "flowsom"),
            f"{SKLEARN}, gmm": lambda found: by_chunk(found, "gmm"),
            f"{SKLEARN}, kmeans": lambda found: by_chunk(found, "kmeans"),
        },
        pairs=(
            ("training by `cluster_pixels`, gmm", "reading"),
            ("labels of `cluster_pixels`, gmm", "reading"),
            ("labels of `cluster_pixels`, kmeans", "reading"),
            ("labels of `cluster_pixels`, flowsom", "reading"),
            ("labels of `cluster_pixels`, gmm", f"{SKLEARN}, gmm"),
            ("labels of `cluster_pixels`, kmeans", f"{SKLEARN}, kmeans"),
        ),
        full={"side": 4096, "channels": 4},
        quick={"side": 1024, "channels": 2},
        runs=3,
    ),
)

if __name__ == "__main__":
    from benchmarks.__main__ import ask

    ask(__spec__.name)
