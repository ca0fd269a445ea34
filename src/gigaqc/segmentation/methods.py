"""What finds nuclei in a block: watershed, StarDist, Cellpose, a function."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gigaqc.errors import MissingDependencyError, ParameterError, SegmentationError
from gigaqc.kernels.transform import gaussian_blur

PERCENTILES = (1.0, 99.8)
"""Between which models see a channel as 0..1."""

_LOADED: dict[tuple[Any, ...], Any] = {}
_LOCK = threading.RLock()


class ModelError(SegmentationError):
    """A model could not be loaded: no tile can be segmented."""


@dataclass(frozen=True)
class Levels:
    """Two percentiles of the whole channel."""

    low: float
    high: float

    def scaled(self, block: np.ndarray) -> np.ndarray:
        """``(x - low) / (high - low)`` as float32; 0 where x is not finite, or low is high."""
        span = self.high - self.low
        if not (np.isfinite(span) and span > 0):
            return np.zeros(block.shape, "f4")
        scaled = ((block.astype("f8") - self.low) / span).astype("f4")
        return np.where(np.isfinite(scaled), scaled, np.float32(0))


@dataclass(frozen=True)
class Model:
    """How the user's model is loaded and called.

    `model` is the name of pretrained weights, their place on disk, or a model that is loaded
    already; `options` go to the model's own function.
    """

    method: str
    model: Any
    gpu: bool
    options: Mapping[str, Any]

    def check_installed(self) -> None:
        """Refuse before anything is read where the package is missing."""
        if self.model is None or isinstance(self.model, (str, os.PathLike)):
            _MODELS[self.method].package()
        if isinstance(self.model, os.PathLike) and not Path(self.model).exists():
            raise ParameterError(
                f"model: there is nothing at {os.fspath(self.model)!r}; "
                f"{_MODELS[self.method].on_disk}."
            )

    def segment(self, block: np.ndarray) -> Any:
        """Labels of a normalized block."""
        kind = _MODELS[self.method]
        with _LOCK:  # one at a time: models use all threads, or the GPU, by themselves
            return kind.predict(self._loaded(), block, dict(self.options))

    def _loaded(self) -> Any:
        if not (self.model is None or isinstance(self.model, (str, os.PathLike))):
            return self.model
        kind = _MODELS[self.method]
        name = "" if self.model is None else os.fspath(self.model)
        key = (self.method, name, self.gpu)
        if key not in _LOADED:
            try:
                found = kind.load(kind.package(), name, self.gpu)
            except MissingDependencyError:
                raise
            except Exception as error:
                wanted = repr(name) if name else "its default model"
                raise ModelError(
                    f"model: {self.method} could not load {wanted} ({type(error).__name__}: "
                    f"{error}); weights are downloaded when they are first used: without a "
                    f"connection {kind.on_disk}"
                ) from error
            if found is None:
                raise ModelError(f"model: {self.method} has no {name!r}; {kind.on_disk}")
            _LOADED[key] = found
        return _LOADED[key]


@dataclass(frozen=True)
class _ModelKind:
    package: Callable[[], Any]
    load: Callable[[Any, str, bool], Any]
    predict: Callable[[Any, np.ndarray, dict[str, Any]], Any]
    on_disk: str


def _stardist() -> Any:
    try:
        import stardist.models
    except ImportError as error:
        raise MissingDependencyError(
            "method: 'stardist' needs StarDist; pip install stardist tensorflow. Weights are "
            "downloaded when they are first used; model='folder' takes them from disk."
        ) from error
    return stardist.models


def _load_stardist(package: Any, name: str, gpu: bool) -> Any:
    name = name or "2D_versatile_fluo"
    folder = Path(name)
    if folder.is_dir():
        return package.StarDist2D(None, name=folder.name, basedir=str(folder.parent))
    return package.StarDist2D.from_pretrained(name)


def _predict_stardist(model: Any, block: np.ndarray, options: dict[str, Any]) -> Any:
    labels, _ = model.predict_instances(block, axes="YX", **options)
    return labels


def _cellpose() -> Any:
    try:
        import cellpose.models
    except ImportError as error:
        raise MissingDependencyError(
            "method: 'cellpose' needs Cellpose; pip install cellpose. Weights are downloaded when "
            "they are first used; model='file' takes them from disk."
        ) from error
    return cellpose.models


def _load_cellpose(package: Any, name: str, gpu: bool) -> Any:
    builtin = list(package.MODEL_NAMES)
    name = name or ("nuclei" if "nuclei" in builtin else "cpsam")
    # Cellpose would take its default for a name that it does not know.
    if not (Path(name).exists() or name in builtin or name in package.get_user_models()):
        return None
    return package.CellposeModel(gpu=gpu, pretrained_model=name)


def _predict_cellpose(model: Any, block: np.ndarray, options: dict[str, Any]) -> Any:
    # Cellpose's own normalization would be of the block.
    return model.eval(block, normalize=False, **options)[0]


_MODELS = {
    "stardist": _ModelKind(
        _stardist, _load_stardist, _predict_stardist,
        "pass model=, the folder of a model with its config.json and weights.",
    ),
    "cellpose": _ModelKind(
        _cellpose, _load_cellpose, _predict_cellpose,
        "pass model=, the file of its weights.",
    ),
}  # fmt: skip

LOCAL_REACH = 4  # standard deviations of the local mean
_UNKNOWN = 10.0  # pixels, of a nucleus where no sample shows one: then there is hardly any


@dataclass(frozen=True)
class WatershedSteps:
    """How a block is segmented; all lengths in pixels.

    A pixel is foreground if its blurred value exceeds `threshold` and, with `window`, the Gaussian
    mean of that standard deviation around it.
    """

    threshold: float
    diameter: float
    sigma: float
    min_distance: int
    min_area: int
    window: float = 0.0

    @classmethod
    def of(
        cls,
        threshold: float,
        diameter: float,
        sigma: float | None = None,
        min_distance: int | None = None,
        min_area: int | None = None,
        window: float = 0.0,
    ) -> WatershedSteps:
        """What follows from the diameter where nothing is said."""
        if math.isnan(diameter):
            diameter = _UNKNOWN
        if sigma is None:
            sigma = diameter / 20
        if min_distance is None:
            min_distance = max(round(diameter / 4), 1)
        if min_area is None:
            min_area = max(round(diameter * diameter / 10), 1)
        return cls(threshold, diameter, sigma, min_distance, min_area, window)


def foreground(block: npt.NDArray, threshold: float, sigma: float, window: float) -> npt.NDArray:
    """Bool: where the blurred block exceeds the threshold, and with `window` the local mean."""
    if math.isnan(threshold):
        return np.zeros(block.shape, bool)
    pixels = block.astype("f8" if block.dtype.itemsize == 8 else "f4")
    finite = None
    if block.dtype.kind == "f":
        finite = np.isfinite(pixels)
        # Neither bright nor dark, so that nothing is won or lost around.
        pixels[~finite] = threshold
    blurred = gaussian_blur(pixels, sigma)
    positive = blurred > threshold
    if window:
        positive &= blurred > gaussian_blur(pixels, window)
    return positive if finite is None else positive & finite


def watershed_labels(block: npt.NDArray, steps: WatershedSteps) -> npt.NDArray[np.int32]:
    """Nuclei of a block, in the order of their markers.

    Holes below a ninth of a nucleus' square are filled; markers are the maxima of the smoothed
    distance to the background, `min_distance` apart, flooded by scikit-image's watershed; pieces of
    foreground without a marker are nuclei too; objects below `min_area` are removed.
    """
    from scipy import ndimage
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    positive = foreground(block, steps.threshold, steps.sigma, steps.window)
    if not positive.any():
        return np.zeros(block.shape, np.int32)
    holes = max(int(steps.diameter**2 / 9), 1)
    positive |= ~_without_small(~positive, holes)
    distance = gaussian_blur(ndimage.distance_transform_edt(positive), steps.diameter / 10)
    peaks = peak_local_max(
        distance, min_distance=steps.min_distance, threshold_abs=0, exclude_border=False
    )
    markers = np.zeros(block.shape, np.int32)
    inside = peaks[positive[tuple(peaks.T)]]
    markers[tuple(inside.T)] = np.arange(1, len(inside) + 1)
    labels = watershed(-distance, markers, mask=positive).astype(np.int32, copy=False)
    rest, _ = ndimage.label(positive & (labels == 0))
    labels = np.where(rest > 0, rest + len(inside), labels)
    sizes = np.bincount(labels.ravel())
    labels[sizes[labels] < steps.min_area] = 0
    if block.dtype.kind == "f":
        labels[~np.isfinite(block)] = 0
    return labels


def _without_small(mask: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    """4-connected pieces of at least `size` pixels."""
    from scipy import ndimage

    pieces, _ = ndimage.label(mask)
    keep = np.bincount(pieces.ravel()) >= size
    keep[0] = False
    return keep[pieces]


@dataclass(frozen=True)
class Radii:
    """Heights of the maxima of the distance to the background: inscribed radii of nuclei."""

    values: npt.NDArray[np.float64]

    def merge(self, other: Radii) -> Radii:
        """Of two parts of an image."""
        return Radii(np.concatenate([self.values, other.values]))

    @property
    def diameter(self) -> float:
        """Twice the median radius, each counted by its square; NaN of none.

        By the square, because a nucleus of uneven outline has several small maxima beside its own.
        """
        radii = np.sort(self.values)
        if not radii.size:
            return math.nan
        weights = np.cumsum(radii**2)
        return float(2 * radii[np.searchsorted(weights, weights[-1] / 2)])


def observe_radii(block: npt.NDArray, threshold: float) -> Radii:
    """Inscribed radii of what is above the threshold in a block."""
    from scipy import ndimage

    positive = foreground(block, threshold, 1.0, 0.0)
    if not positive.any():
        return Radii(np.empty(0))
    distance = ndimage.distance_transform_edt(positive)
    smooth = gaussian_blur(distance, 1.0)
    peak = (smooth == ndimage.maximum_filter(smooth, 5)) & (distance >= 1.5)
    return Radii(distance[peak])
