"""Assessments made up from synthetic pictures, with the attributes that a real one has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.formulas.record import Status
from gigaqc.formulas.rules import Flag, flag_table
from gigaqc.image.labelled import writable_name

_MARKERS = (
    "DNA1 CD3 CD4 CD8a CD20 CD45 CD45RO CD68 CD163 FoxP3 Ki67 PanCK Vimentin aSMA Collagen-I "
    "E-Cadherin PD-1 PD-L1 Granzyme-B HLA-DR CD11b CD11c CD14 CD16 CD31 CD56 CD57 CD66b p53 "
    "ERa PR HER2 GATA3 CK5 CK7 Caspase-3 H3K27me3 H3K9ac Beta-catenin S6p Nuc"
)
MARKERS = tuple(_MARKERS.split())

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(2)>'",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
    "\u202egnp.live\u0000\x1b[31m\ud800",
    "N" * 10_000,
    "$\\frac{1}{0$ {{ 7 * 7 }} {% raw %}",
    "_underscore",
    "\u6838\u67d3\u8272 \U0001f9ec",
)

SIDE, TILE = 256, 32


@dataclass
class FakeAssessment:
    """What the report reads of an assessment."""

    name: str
    passed: bool
    status: str
    channels: pd.DataFrame
    summary: pd.Series
    tiles: xr.Dataset
    correlation: xr.DataArray
    flags: pd.DataFrame
    histograms: xr.Dataset
    thumbnails: xr.DataArray
    provenance: dict[str, Any] = field(default_factory=dict)


def fake(names: tuple[str, ...] | list[str] = MARKERS, *, name: str = "Point2203") -> Any:
    """An assessment of as many channels as there are names, every fifth with problems."""
    names = [writable_name(n) for n in names]  # as `as_image` does
    rng = np.random.default_rng(5)
    stack = np.stack([_picture(rng, i) for i in range(len(names))])
    if len(stack) > 12:
        stack[12] = np.round(0.4 * stack[9] + stack[12])  # spill-over
    table = pd.DataFrame([_metrics(p) for p in stack], index=pd.Index(names, name="channel"))
    flags = _flags(table)
    worst = {n: "PASS" for n in names}
    for row in flags.itertuples():
        if row.name in worst and ("FAIL" in (row.status, worst[row.name])):
            worst[row.name] = "FAIL"
        elif row.name in worst and row.status == "WARN":
            worst[row.name] = "WARN"
    table["status"] = pd.Series(worst)
    status = next((s for s in ("FAIL", "WARN") if s in set(flags.status)), "PASS")
    return FakeAssessment(
        name=name,
        passed=status != "FAIL",
        status=status,
        channels=table,
        summary=_summary(table, flags),
        tiles=_tiles(stack, table, names),
        correlation=xr.DataArray(
            np.atleast_2d(np.corrcoef(stack.reshape(len(names), -1))),
            dims=("c", "c_other"),
            coords={"c": list(names), "c_other": list(names)},
        ),
        flags=flags,
        histograms=_histograms(stack, names),
        thumbnails=xr.DataArray(
            stack.astype(np.float32), dims=("c", "y", "x"), coords={"c": list(names)}
        ),
        provenance=_provenance(names, name),
    )


def all_nan(count: int = 2) -> Any:
    """An assessment in which nothing could be measured."""
    names = [f"empty {i}" for i in range(count)]
    made = fake(names, name="empty region")
    numbers = made.channels.columns != "status"
    made.channels = made.channels.astype(object)
    made.channels.loc[:, numbers] = np.nan
    made.channels["status"] = "FAIL"
    made.summary = pd.Series({"coverage": np.nan, "tissue_channel": None, "n_flags": 0})
    made.tiles = made.tiles * np.nan
    made.correlation = made.correlation * np.nan
    made.histograms = made.histograms.assign(
        counts=made.histograms.counts * 0, edges=made.histograms.edges * np.nan
    )
    made.thumbnails = made.thumbnails * np.nan
    nothing = (np.nan, np.nan, 0.5, "below", Status.FAIL)
    made.flags = flag_table([Flag("channel", n, "autocorrelation_snr", *nothing) for n in names])
    made.status, made.passed = "FAIL", False
    return made


def _picture(rng: np.random.Generator, i: int) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    light = np.zeros((SIDE, SIDE))
    for _ in range(4 + 5 * (i % 9)):
        cy, cx, r = rng.uniform(0, SIDE), rng.uniform(0, SIDE), rng.uniform(3, 14)
        light += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * r * r))
    scale = (0.0, 4.0, 30.0, 300.0, 2000.0)[i % 5]
    picture = rng.poisson(scale * light + (0.3, 2, 8, 60, 100)[i % 5]).astype(float)
    if i % 5 == 3:
        picture = np.minimum(picture, 255)
    if i % 10 == 4:
        picture += 60 * rng.standard_normal((SIDE, 1))
    return picture


def _metrics(p: np.ndarray) -> dict[str, Any]:
    dark, light = p[p <= np.median(p)], p[p > np.median(p)]
    light = light if light.size else p
    r = np.corrcoef(p[:, :-1].ravel(), p[:, 1:].ravel())[0, 1]
    low, high, top = *np.percentile(p, [1, 99]), p.max()
    rows = np.diff(p.mean(1)).std() / np.sqrt(2 * p.var() / p.shape[1])
    columns = np.diff(p.mean(0)).std() / np.sqrt(2 * p.var() / p.shape[0])
    clipped = (p == 255).mean() if top == 255 else 0.0
    return {
        "signal": light.mean(), "noise": dark.std(), "snr": light.mean() / max(dark.std(), 1e-9),
        "otsu_threshold": (low + high) / 2, "separability": 0.6 + 0.35 * abs(r),
        "signal_to_background": light.mean() / dark.mean() if dark.mean() else np.inf,
        "contrast_to_noise": (light.mean() - dark.mean()) / max(dark.std(), 1e-9),
        "autocorrelation": r, "autocorrelation_snr": r / (1 - r),
        "clipped_fraction": clipped, "clipping_level": 255.0 if clipped else np.nan,
        "hot_pixel_fraction": 3e-5 if top > 400 else 0.0,
        "dead_area_fraction": np.nan if (p == 0).mean() > 0.5 else 0.0,
        "row_striping": rows * 1.2, "column_striping": columns * 1.2,
        "recipe_saturation": (p >= 0.99 * top).mean(), "recipe_hot_pixels": 0.0004,
        "recipe_dead_regions": (p == 0).mean(), "recipe_striping": p.mean(1).std() / p.mean(),
        "range_low": low, "range_high": high, "range_utilized": (high - low) / top,
        "adequate": bool((high - low) / top > 0.1), "mean": p.mean(), "std": p.std(),
        "min": p.min(), "max": top, "zero_fraction": (p == 0).mean(), "n_valid": p.size,
        "n_excluded": 0, "whole_variance_of_laplacian": 20 * p.var() * (1 - abs(r)),
        "whole_tenengrad": 12 * p.var() * (1 - abs(r)),
    }  # fmt: skip


def _flags(table: pd.DataFrame) -> pd.DataFrame:
    found: list[Flag] = []

    def judged(name: str, metric: str, value: float, limit: float, side: str, status: str) -> None:
        scope = "sample" if metric == "coverage" else "channel"
        flag = Flag(scope, name, metric, value, np.nan, limit, side, Status(status))
        found.append(flag)

    for name, row in table.iterrows():
        snr, clipped, stripes = row.autocorrelation_snr, row.clipped_fraction, row.row_striping
        status = "FAIL" if snr < 0.1 else "WARN" if snr < 0.5 else "PASS"
        judged(name, "autocorrelation_snr", snr, 0.5, "below", status)
        judged(
            name, "clipped_fraction", clipped, 0.01, "above", "WARN" if clipped > 0.01 else "PASS"
        )
        status = "FAIL" if stripes > 5 else "WARN" if stripes > 3 else "PASS"
        judged(name, "row_striping", stripes, 3.0, "above", status)
    judged("tissue", "coverage", 0.62, 0.3, "below", "PASS")
    return flag_table(found)


def _summary(table: pd.DataFrame, flags: pd.DataFrame) -> pd.Series:
    return pd.Series(
        {
            "coverage": 0.62, "n_fragments": 4, "fragmentation": 0.083, "intact": True,
            "tissue_channel": table.index[0], "min_snr": table.snr.min(),
            "mean_snr": table.snr.mean(), "n_flags": int((flags.status != "PASS").sum()),
        },
        dtype=object,
    )  # fmt: skip


def _tiles(stack: np.ndarray, table: pd.DataFrame, names: Any) -> xr.Dataset:
    n = SIDE // TILE
    blocks = stack.reshape(len(names), n, TILE, n, TILE).swapaxes(2, 3)
    mean, std = blocks.mean((-1, -2)), blocks.std((-1, -2))
    noise = np.asarray(table.noise, dtype=float)[:, None, None]
    with np.errstate(all="ignore"):
        local = np.where(std > 0, mean / std, np.nan)
        snr = np.where(noise > 0, mean / noise, np.nan)
    detail = np.diff(blocks, axis=-1).var((-1, -2))
    detail[:, 0, 0] = np.nan
    dims = ("c", "tile_y", "tile_x")
    values = {
        "mean": mean, "std": std, "zero_fraction": (blocks == 0).mean((-1, -2)),
        "clipped_fraction": (blocks == 255).mean((-1, -2)), "variance_of_laplacian": detail,
        "tenengrad": 2 * detail, "snr": snr, "local_snr": local,
    }  # fmt: skip
    return xr.Dataset({k: (dims, v) for k, v in values.items()}, coords={"c": list(names)})


def _histograms(stack: np.ndarray, names: Any) -> xr.Dataset:
    made = [np.histogram(p, bins=128) for p in stack]
    return xr.Dataset(
        {
            "counts": (("c", "bin"), np.stack([m[0] for m in made])),
            "edges": (("c", "edge"), np.stack([m[1] for m in made])),
        },
        coords={"c": list(names)},
    )


def _provenance(names: Any, name: str) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "created": "2026-11-02T03:51:00+00:00",
        "source": f"/data/scans/2026/{name}.ome.zarr",
        "dims": ["c", "y", "x"],
        "sizes": {"c": len(names), "y": SIDE, "x": SIDE},
        "dtype": "uint16",
        "channels": list(names),
        "parameters": {"tile": TILE, "tissue": None, "expected_pairs": [["CD3", "CD4"]]},
        "rules": "robust",
        "limits": {"autocorrelation_snr": {"warn": 0.5, "fail": 0.1}},
        "reads": 1,
        "bytes_read": 13_421_772_800,
        "seconds": 41.7,
        "exact": "counts and percentiles to the bit",
    }
