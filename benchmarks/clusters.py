"""What does clustering pixels cost? Training, and labels computed and thrown away, over reading.

    python benchmarks/clusters.py [--side 4096] [--channels 4] [--runs 3] [--store FOLDER]

Beside the prediction stands scikit-learn's own, called chunk by chunk on the same models.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from _measure import in_turn, report, slide
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from transforms import discard

import gigaqc as gq


def by_chunk(path: Path, model: object) -> da.Array:
    """Labels as they are made with dask and scikit-learn."""
    image = da.from_zarr(str(path)).rechunk({0: -1})

    def predict(block: np.ndarray) -> np.ndarray:
        flat = block.reshape(len(block), -1).T.astype("f8")
        return model.predict(flat).reshape(block.shape[1:])  # type: ignore[attr-defined]

    return image.map_blocks(predict, drop_axis=0, dtype="i4")


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    pixels = options.side**2
    with tempfile.TemporaryDirectory() as folder:
        name = f"slide-{options.channels}x{options.side}.zarr"
        path = slide((options.store or Path(folder)) / name, options.channels, options.side)
        image = gq.open_image(path)
        with dask.config.set(scheduler="threads", num_workers=options.threads):
            functions = {"read and decode": lambda: discard(da.from_zarr(str(path)))}
            for method in ("gmm", "kmeans", "flowsom"):
                start = time.perf_counter()
                found = gq.cluster_pixels(image, 6, method=method, max_pixels=200_000)
                taken = time.perf_counter() - start
                print(f"{method}: sample, training and profile {taken:.1f} s")
                functions[f"labels, {method}"] = lambda f=found: discard(f.labels.data)
                sample = found.sample
            mixture = GaussianMixture(6, random_state=0).fit(sample)
            means = KMeans(6, random_state=0).fit(sample)
            functions["scikit-learn, gmm"] = lambda: discard(by_chunk(path, mixture))
            functions["scikit-learn, kmeans"] = lambda: discard(by_chunk(path, means))
            seconds = in_turn(functions, options.runs)
            report(seconds, "read and decode")
            for name, taken in seconds.items():
                print(f"{name:28} {np.median(taken) / pixels * 1e9:6.1f} ns a pixel")


if __name__ == "__main__":
    main()
