"""Models that the user has installed: StarDist and Cellpose, loaded once a process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gigaqc.errors import MissingDependencyError, ParameterError, SegmentationError

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
