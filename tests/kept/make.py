"""Writes what this version of gigaqc saves: ``python tests/kept/make.py tests/kept/VERSION``.

Run it once with each version whose files differ from those of the one before, in a checkout of that
version; `tests/test_kept.py` then loads what lies in each folder with the newest code.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import gigaqc as gq

Y, X = np.mgrid[:64, :80]
SIGNAL = 40 + 60 * np.exp(-((Y - 30) ** 2 + (X - 40) ** 2) / 300)
CHANNELS = ("DNA", "CD3", "CD45")


def image(dtype: str) -> xr.DataArray:
    """Two channels of one structure, and one of noise."""
    rng = np.random.default_rng(7)
    pixels = [rng.poisson(SIGNAL), rng.poisson(0.4 * SIGNAL), rng.poisson(5, SIGNAL.shape)]
    array = xr.DataArray(np.stack(pixels).astype(dtype), dims=("c", "y", "x"))
    array = array.assign_coords(c=list(CHANNELS)).chunk({"c": 1, "y": 32, "x": 32})
    return array.assign_attrs(pixel_size={"y": 0.5, "x": 0.5}, unit="micrometer")


def labels() -> np.ndarray:
    """Two objects with ids that leave gaps."""
    ids = np.zeros(SIGNAL.shape, "u4")
    ids[10:30, 10:30], ids[40:60, 40:70] = 3, 9
    return ids


def numbers_of(statistics: gq.Statistics) -> dict[str, list[float]]:
    """What metrics say of statistics that were kept: formulas of a source, which stay."""
    return {
        "snr": gq.signal_to_noise(statistics)["snr"].values.tolist(),
        "median": gq.quantile(statistics, 0.5).values.tolist(),
        "correlation": gq.channel_correlation(statistics).values.ravel().tolist(),
        "striping": gq.acquisition_artifacts(statistics)["recipe_striping"].values.tolist(),
        "laplacian": gq.focus(statistics)["whole_variance_of_laplacian"].values.tolist(),
    }


def main(out: Path) -> None:
    """Save one of each kind, and the numbers that they gave."""
    out.mkdir(parents=True)
    counts, floats = image("u2"), image("f4")
    gq.scan(counts, labels=labels(), mask=SIGNAL > 45).compute().save(out / "labelled.zarr")
    gq.scan(floats, spectrum=True, tile=32).compute().save(out / "floats.zarr")
    found: dict[str, Any] = {
        name: numbers_of(gq.Statistics.load(out / f"{name}.zarr"))
        for name in ("labelled", "floats")
    }
    verdict = gq.assess(counts, labels=labels(), name="kept", progress=False)
    verdict.save(out / "assessment.zarr")
    found["assessment"] = verdict.channels["mean"].tolist()
    for method in ("gmm", "kmeans", "flowsom"):
        clusters = gq.cluster_pixels(floats / 100, 2, method=method, fraction=1.0)
        clusters.model.save(out / f"{method}.npz")
        found[method] = np.bincount(clusters.labels.values.ravel(), minlength=3).tolist()
    here = Path.cwd()
    target = out.resolve() / "cohort"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in ("a.zarr", "b.zarr"):
            gq.write_image(counts, name)
        cohort = gq.assess_batch(["a.zarr", "b.zarr"], target, progress=False, pages=False)
        os.chdir(here)
    (target / "index.html").unlink()
    found["cohort"] = cohort.summary["mean_snr"].tolist()
    (out / "numbers.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
