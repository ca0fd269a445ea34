"""Every capability that computes, as one table: a name, and what it makes of images in files.

Each runs where dask computes at the time, and gives plain arrays and tables that can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import zarr

import gigaqc as gq


@dataclass(frozen=True)
class Sources:
    """Where the images lie, and a folder that a run may write to."""

    integers: Path
    floats: Path
    labels: Path
    series: Path
    out: Path

    def image(self) -> xr.DataArray:
        """Two channels of uint16."""
        return gq.open_image(self.integers)

    def frames(self) -> xr.DataArray:
        """A series, one frame a chunk."""
        return gq.open_image(self.series, dims="tyx")


def make_sources(folder: Path, side: int = 160, chunk: int = 40) -> Sources:
    """Images of blobs on a background: enough for every capability to find something."""
    from scipy.ndimage import gaussian_filter, label

    rng = np.random.default_rng(0)
    seeds = np.zeros((side, side))
    seeds[tuple(rng.integers(0, side, (2, side * side // 400)))] = 1
    blobs = gaussian_filter(seeds, 3)
    blobs /= blobs.max()
    light = np.stack([20 + 200 * blobs, 30 + 60 * np.roll(blobs, 2, 0)])
    pixels = rng.poisson(light)
    sources = Sources(*(folder / f"{n}.zarr" for n in ("u2", "f4", "labels", "t")), folder)
    for path, dtype in ((sources.integers, "u2"), (sources.floats, "f4")):
        array = zarr.create_array(path, shape=pixels.shape, chunks=(1, chunk, chunk), dtype=dtype)
        array[:] = pixels * (1.37 if dtype == "f4" else 1)
    array = zarr.create_array(sources.labels, shape=(side, side), chunks=(chunk, chunk), dtype="i4")
    array[:] = label(blobs > 0.2)[0]
    frames = rng.poisson(np.geomspace(20, 500, side * side).reshape(side, side), (40, side, side))
    array = zarr.create_array(
        sources.series, shape=frames.shape, chunks=(1, side, side), dtype="u2"
    )
    array[:] = frames
    return sources


def _metrics(s: Sources) -> Any:
    image = s.image()
    found: list[Any] = [
        gq.quantile(image, [0.01, 0.5, 0.99]),
        gq.histogram(image, bins=50),
        gq.joint_histogram(image, 0, 1),
        gq.signal_to_noise(image),
        gq.channel_correlation(image),
        gq.colocalization(image, 0, 1),
        gq.stained_area(image),
        gq.tissue_integrity(image, 0, method="otsu"),
        gq.acquisition_artifacts(image),
        gq.dynamic_range(image),
        gq.focus(image, tile=32, spectrum=True),
    ]
    return [f.compute() for f in found]


def _float_metrics(s: Sources) -> Any:
    image = gq.open_image(s.floats)
    found: list[Any] = [
        gq.quantile(image, [0.01, 0.5, 0.99]),
        gq.signal_to_noise(image),
        gq.acquisition_artifacts(image),
        gq.tissue_integrity(image, 0),
    ]
    return [f.compute() for f in found]


def _scan(s: Sources) -> Any:
    return gq.scan(s.image(), tile=32).compute().state


def _assess(s: Sources, dtype: str) -> Any:
    image = gq.open_image(s.integers if dtype == "u2" else s.floats)
    labels = gq.open_labels(s.labels)
    found = gq.assess(image, labels=labels, tile=32, name="s", progress=False)
    return [found.channels, found.flags, found.tiles, found.objects, found.statistics.state]


def _object_table(s: Sources) -> Any:
    return gq.object_table(gq.open_labels(s.labels), s.image())


def _object_parquet(s: Sources) -> Any:
    target = s.out / "objects.parquet"
    gq.object_table(gq.open_labels(s.labels), s.image(), to=target)
    return pd.read_parquet(target)


def _segmentation_quality(s: Sources) -> Any:
    labels = gq.open_labels(s.labels)
    return gq.segmentation_quality(labels, s.image(), ring=3).compute()


def _written(s: Sources, made: Callable[[xr.DataArray], xr.DataArray], name: str) -> Any:
    gq.write_image(made(s.image()), s.out / name)
    return gq.open_image(s.out / name).values


def _transforms(s: Sources) -> Any:
    image = s.image()
    made = [
        gq.normalize_percentiles(image, 1.0),
        gq.equalize_histogram(image),
        gq.normalize_to_channel(image, 0),
        gq.arcsinh(image),
        gq.remove_hot_pixels(image, 50),
    ]
    return [m.values for m in made]


def _preprocess(s: Sources) -> Any:
    return _written(s, lambda i: gq.pixel_clustering_preprocess(i), "prepared.zarr")


def _blur(s: Sources) -> Any:
    return _written(s, lambda i: gq.gaussian_blur(i, 2), "blurred.zarr")


def _tiff(s: Sources) -> Any:
    return _written(s, lambda i: gq.gaussian_blur(i, 1), "blurred.ome.tif")


def _cluster(s: Sources) -> Any:
    found = gq.cluster_pixels(s.image(), 3, method="kmeans", seed=1)
    return [found.labels.values, found.profile, found.sizes]  # type: ignore[union-attr]


def _segment(s: Sources) -> Any:
    return gq.segment_nuclei(s.image(), 0, tile=48, overlap=16).values


def _segment_stored(s: Sources) -> Any:
    scratch = s.out / "scratch"
    scratch.mkdir(exist_ok=True)
    return gq.segment_nuclei(s.image(), 0, tile=48, overlap=16, temporary=scratch).values


def _gain(s: Sources, memory: int | None) -> Any:
    scratch = s.out / "scratch"
    scratch.mkdir(exist_ok=True)
    options: dict[str, Any] = {"temporary": scratch, "memory": memory}
    return gq.gain_map(s.frames(), estimator="variance", **options).compute()


def _tsnr(s: Sources) -> Any:
    return [gq.tsnr_map(s.frames()).compute(), gq.temporal_statistics(s.frames()).compute()]


def _isnr(s: Sources) -> Any:
    return [gq.isnr(s.image(), n_clusters=2).compute(), gq.isnr_map(s.image()).values]


CAPABILITIES: dict[str, Callable[[Sources], Any]] = {
    "scan": _scan,
    "assess integers": lambda s: _assess(s, "u2"),
    "assess floats": lambda s: _assess(s, "f4"),
    "metrics": _metrics,
    "metrics of floats": _float_metrics,
    "object_table": _object_table,
    "object_table to parquet": _object_parquet,
    "segmentation_quality": _segmentation_quality,
    "transforms": _transforms,
    "preprocess and write": _preprocess,
    "blur and write": _blur,
    "blur and write TIFF": _tiff,
    "cluster_pixels": _cluster,
    "segment_nuclei": _segment,
    "segment_nuclei by files": _segment_stored,
    "gain_map": lambda s: _gain(s, None),
    "gain_map in slabs": lambda s: _gain(s, 1_400_000),
    "gain_map by a store": lambda s: _gain(s, 400_000),
    "tsnr_map": _tsnr,
    "isnr": _isnr,
}


def assert_same(actual: Any, expected: Any, where: str = "result") -> None:
    """The same to the bit."""
    from same_states import identical

    from gigaqc.statistics.statistics import State

    if isinstance(expected, list):
        assert len(actual) == len(expected), where
        for k, (a, b) in enumerate(zip(actual, expected, strict=True)):
            assert_same(a, b, f"{where}[{k}]")
    elif isinstance(expected, (pd.DataFrame, pd.Series)):
        assert actual.equals(expected), where
    elif isinstance(expected, (xr.Dataset, xr.DataArray)):
        assert actual.identical(expected), where
    elif isinstance(expected, State):
        identical(actual, expected)
    else:
        assert actual.dtype == expected.dtype and actual.tobytes() == expected.tobytes(), where
