"""Cohorts made up, with the attributes that a real one has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_MEDIANS = (
    "snr", "autocorrelation_snr", "clipped_fraction", "hot_pixel_fraction", "row_striping", "mean",
    "whole_variance_of_laplacian",
)  # fmt: skip
_ERRORS = (
    "source: no file 'slides/{name}.ome.tiff'.",
    "image: chunk (3, 1) of '{name}.zarr' cannot be decoded: it is damaged. Copy the file again.",
    "source: permission denied for '{name}.tif'; ask its owner.",
    "image: no pixels in '{name}.tif'.",
    "dims: 'tyx' does not fit the 2 axes of '{name}.tif'.",
)


@dataclass
class FakeCohort:
    """What the report reads of a cohort."""

    summary: pd.DataFrame
    far: pd.DataFrame
    trend: pd.DataFrame
    out: Path = Path("/data/cohorts/breast-2026")

    def outliers(self) -> pd.DataFrame:
        """Values far from the others."""
        return self.far

    def drift(self) -> pd.DataFrame:
        """How metrics run with the order."""
        return self.trend


def fake_cohort(
    n: int = 200, failing: int = 5, names: Any = None, *, batches: int = 4, ordered: bool = True
) -> FakeCohort:
    """A cohort of `n` samples; the mean drifts, one sample is far off, some could not be read."""
    rng = np.random.default_rng(3)
    names = list(names or [f"slide_{i:03d}" for i in range(n)])
    order = np.arange(n, dtype=float)
    batch = [f"run {k % batches + 1}" if batches else None for k in range(n)]
    snr = np.exp(rng.normal(1.5, 0.35, n))
    numbers = {
        "mean_snr": snr,
        "min_snr": snr * rng.uniform(0.2, 0.5, n),
        "tissue_coverage": rng.beta(6, 4, n),
        "n_cells": rng.poisson(9000, n).astype(float),
        "n_artifacts": rng.poisson(0.7, n).astype(float),
        "n_flags": rng.poisson(2.0, n).astype(float),
    }
    for k, key in enumerate(_MEDIANS):
        numbers[f"median_{key}"] = np.abs(rng.normal(1.0, 0.1, n)) * 10.0 ** (k % 3)
    numbers["median_clipped_fraction"] = rng.exponential(1e-4, n)
    numbers["median_hot_pixel_fraction"] = np.zeros(n)
    numbers["median_mean"] = 120 - 0.1 * order + rng.normal(0, 4, n)
    if n > 7:
        numbers["median_mean"][7] = 260.0
    status = np.where(snr < 2.7, "FAIL", np.where(numbers["n_flags"] > 3, "WARN", "PASS"))
    summary = pd.DataFrame({"sample": names, "status": status.astype(object)})
    summary["pass_qc"] = summary["status"] != "FAIL"
    for key, values in numbers.items():
        summary[key] = values
    summary["error"] = None
    summary["batch"] = pd.Series(batch, dtype=object)
    summary["order"] = order if ordered else np.nan
    summary["source"] = [f"slides/{i}.ome.tiff" for i in range(n)]
    summary["page"] = [f"sample-{i}.html" for i in range(n)]
    for k, at in enumerate(np.linspace(0, n - 1, failing).astype(int) if failing else ()):
        name = str(names[at])[:80]
        summary.loc[at, "error"] = _ERRORS[k % len(_ERRORS)].format(name=name)
        summary.loc[at, ["status", "page"]] = None
        summary.loc[at, list(numbers)] = np.nan
    summary["n_cells"] = summary["n_cells"].astype("Int64")
    return FakeCohort(summary, _far(summary, numbers), _trend(summary, numbers, ordered))


def _far(summary: pd.DataFrame, numbers: Any) -> pd.DataFrame:
    found = []
    for key in numbers:
        values = summary[key].astype("f8").to_numpy(na_value=np.nan)
        if not np.isfinite(values).any():
            continue
        middle = np.nanmedian(values)
        spread = 1.4826 * np.nanmedian(np.abs(values - middle))
        if not spread > 0:
            continue
        z = (values - middle) / spread
        for i in np.flatnonzero(np.abs(z) >= 3.5):
            found.append((summary["sample"][i], None, key, values[i], middle, z[i], z[i] * 0.9))
    columns = ["sample", "channel", "metric", "value", "median", "z", "batch_z"]
    table = pd.DataFrame(found, columns=columns)
    if len(summary) > 3:
        extra = [(summary["sample"][2], "CD3", "clipped_fraction", 0.04, 0.001, 12.5, np.nan)]
        table = pd.concat([pd.DataFrame(extra, columns=columns), table], ignore_index=True)
    order = table["z"].abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _trend(summary: pd.DataFrame, numbers: Any, ordered: bool) -> pd.DataFrame:
    rows = []
    for key in numbers:
        values = summary[key].astype("f8").to_numpy(na_value=np.nan)
        known = np.isfinite(values)
        rho = slope = p = np.nan
        if ordered and known.sum() > 2 and np.nanstd(values) > 0:
            slope, _ = np.polyfit(summary["order"][known], values[known], 1)
            rho = float(np.corrcoef(summary["order"][known], values[known])[0, 1])
            p = float(np.exp(-abs(rho) * known.sum() / 4))
        rows.append((None, key, int(known.sum()), slope, rho, p))
    table = pd.DataFrame(rows, columns=["channel", "metric", "n", "slope", "rho", "p"])
    return table.sort_values("p", kind="stable", na_position="last").reset_index(drop=True)
