"""Models of pixel clusters: trained on a sample, kept in a file, applied to any image."""

from __future__ import annotations

import os
import uuid
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gigaqc.base.formatting import names
from gigaqc.base.geometry import rechunked
from gigaqc.clusters.blocks import Rule, labelled
from gigaqc.errors import ChannelError, ParameterError, ReadError, WriteError
from gigaqc.graph.map import ChannelTasks, Map
from gigaqc.image.devices import only_inside
from gigaqc.image.labelled import as_image, as_mask, channel_names, chosen_channels
from gigaqc.typing import ImageLike, MaskLike

_GRID = 10  # nodes of a self-organising map a side
MOST_MAPPED = _GRID**2  # clusters of a map at most: one a node
_EPOCHS = 20
_MAP_PIXELS = 200_000  # sampled pixels that train a map
_BATCH = 100_000  # sampled pixels from which k-means is trained in batches


@dataclass(frozen=True)
class PixelModel:
    """What gives a pixel its label: a mixture's components, or centres.

    Attributes
    ----------
    method
        ``"gmm"``, ``"kmeans"`` or ``"flowsom"``.
    channels
        Names of the channels that it was trained on, in their order.
    centres
        Means of the components, centres of the clusters, or nodes of the map: (K, C).
    factors, offsets
        Of a mixture: upper Cholesky factors of the precisions (K, C, C); logarithm of weight times
        the square root of the precision's determinant (K,). Else empty.
    labels
        Label 1..n of each of the K: clusters in ascending order of the mean of their centre (or
        nodes), all channels together.
    positive
        Whether only pixels above 0 in all channels get a label.
    """

    method: str
    channels: tuple[str, ...]
    centres: np.ndarray
    factors: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    positive: bool = False

    def __repr__(self) -> str:
        nodes = len(self.labels)
        of = f" of {nodes} nodes" if nodes > self.n_clusters else ""
        return (
            f"PixelModel: {self.n_clusters} clusters{of} by {self.method}, channels "
            f"{names(self.channels)}"
        )

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return int(self.labels.max())

    @property
    def rule(self) -> Rule:
        """What a task needs of it."""
        mixture = self.factors.size > 0
        factors, offsets = (self.factors, self.offsets) if mixture else (None, None)
        dtype = np.min_scalar_type(self.n_clusters)
        return Rule(self.centres, factors, offsets, self.labels.astype(dtype), self.positive)

    def predict(self, image: ImageLike, *, mask: MaskLike | None = None) -> xr.DataArray:
        """Label the pixels of an image (lazy).

        Parameters
        ----------
        image
            Anything that `gigaqc` takes as an image; the model's channels are found by name.
        mask
            Bool, ``y x`` or more of the image's dims, or polygons (see `region`); pixels outside
            get 0.

        Returns
        -------
        DataArray
            1..n, and 0 where a pixel is NaN or infinite in a channel or masked; the smallest
            unsigned type that holds n; the dims of the image without c.

        Raises
        ------
        ChannelError
            When the image lacks a channel of the model.
        """
        return self.label(self.chosen(image), mask)

    def chosen(self, image: ImageLike) -> xr.DataArray:
        """The channels of the model, in its order."""
        given = as_image(image)
        names = channel_names(given)
        if not set(self.channels) <= set(names):
            raise ChannelError(
                f"image: has channels {names}, and the model was trained on {list(self.channels)}; "
                "rename them, or train a model for this image."
            )
        return chosen_channels(given, self.channels)

    def label(self, image: xr.DataArray, mask: Any) -> xr.DataArray:
        """Labels of an image of the model's channels."""
        rule = self.rule
        labels = Map(
            "clusters", image, labelled, (rule,), channels=ChannelTasks.MERGED,
            dtype=rule.labels.dtype, on_device=True,
        ).build()  # fmt: skip
        if mask is None:
            return labels
        inside = as_mask(mask, image)
        inside = inside.all("c") if "c" in inside.dims else inside
        inside = rechunked(inside, labels.chunksizes)
        return only_inside(labels, inside, 0, labels.dtype)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Keep the model in a file (numpy's ``.npz``, no pickle).

        Raises
        ------
        WriteError
            When there is a file and not `overwrite`, or it cannot be written.
        """
        target = Path(path)
        if target.exists() and not overwrite:
            raise WriteError(f"path: {str(target)!r} exists; pass overwrite=True to replace it.")
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            with open(temporary, "wb") as file:
                held = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
                np.savez(file, allow_pickle=False, **held)
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise WriteError(
                f"path: {str(target)!r} could not be written ({error}); change the folder."
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PixelModel:
        """The model that `save` kept.

        Raises
        ------
        ReadError
            When the file is not there, or is no model.
        """
        try:
            # numpy leaves a damaged file open that it opened itself.
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as kept:
                held = {f.name: kept[f.name] for f in fields(cls)}
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise ReadError(
                f"path: {os.fspath(path)!r} is no model of pixel clusters ({error}); pass a file "
                "that PixelModel.save wrote."
            ) from error
        held["method"] = str(held["method"])
        held["channels"] = tuple(map(str, held["channels"]))
        held["positive"] = bool(held["positive"])
        return cls(**held)


def train(
    method: str, sample: np.ndarray, n_clusters: int, channels: Sequence[str], seed: int,
    positive: bool,
) -> PixelModel:  # fmt: skip
    """A model of a sample (n, C) float64, the same bits for the same sample."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums in threads come in any order
        centres, factors, offsets, groups = METHODS[method](sample, n_clusters, seed)
    brightness = centres.mean(axis=1)
    means = [brightness[groups == g].mean() for g in range(n_clusters)]
    rank = np.empty(n_clusters, "i8")
    rank[np.argsort(means, kind="stable")] = np.arange(1, n_clusters + 1)
    return PixelModel(method, tuple(channels), centres, factors, offsets, rank[groups], positive)


Trained = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def mixture_of(sample: np.ndarray, n: int, seed: int) -> Any:
    """scikit-learn's Gaussian mixture with full covariances.

    Fitted to channels of mean 0 and variance 1: where it starts, and what keeps a covariance from
    vanishing, would else be those of the brightest channel. The result has the sample's units.
    """
    from sklearn.mixture import GaussianMixture

    middle, spread = sample.mean(axis=0), sample.std(axis=0)
    spread[spread == 0] = 1
    mixture = GaussianMixture(n, random_state=seed, max_iter=200).fit((sample - middle) / spread)
    mixture.means_ = middle + mixture.means_ * spread
    mixture.covariances_ = mixture.covariances_ * np.outer(spread, spread)
    mixture.precisions_ = mixture.precisions_ / np.outer(spread, spread)
    mixture.precisions_cholesky_ = mixture.precisions_cholesky_ / spread[:, None]
    return mixture


def _train_mixture(sample: np.ndarray, n: int, seed: int) -> Trained:
    mixture = mixture_of(sample, n, seed)
    factors = mixture.precisions_cholesky_
    diagonals = np.diagonal(factors, axis1=1, axis2=2)
    offsets = np.log(diagonals).sum(axis=1) + np.log(mixture.weights_)
    return mixture.means_, factors, offsets, np.arange(n)


def means_of(sample: np.ndarray, n: int, seed: int) -> Any:
    """scikit-learn's k-means, in batches where the sample is large."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if len(sample) > _BATCH:
        return MiniBatchKMeans(n, random_state=seed, n_init=5, batch_size=16384).fit(sample)
    return KMeans(n, random_state=seed, n_init=5).fit(sample)


def _train_means(sample: np.ndarray, n: int, seed: int) -> Trained:
    centres = means_of(sample, n, seed).cluster_centers_
    return np.ascontiguousarray(centres, "f8"), np.empty(0), np.empty(0), np.arange(n)


def _train_map(sample: np.ndarray, n: int, seed: int) -> Trained:
    """A self-organising map, whose nodes are then joined to clusters (Ward)."""
    from sklearn.cluster import AgglomerativeClustering

    rng = np.random.default_rng(seed)
    if len(sample) > _MAP_PIXELS:
        sample = sample[np.sort(rng.choice(len(sample), _MAP_PIXELS, replace=False))]
    nodes = _organised(sample, rng)
    return nodes, np.empty(0), np.empty(0), AgglomerativeClustering(n).fit_predict(nodes)


def _organised(sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nodes of a map of `_GRID` x `_GRID`, trained in batches.

    In each epoch a node becomes the mean of the pixels that are nearest to it and to its neighbours
    on the grid, weighted by a Gaussian that narrows from half the grid to half a node.
    """
    rows, columns = np.indices((_GRID, _GRID)).reshape(2, -1)
    apart = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    nodes = sample[rng.choice(len(sample), _GRID**2, replace=len(sample) < _GRID**2)].copy()
    ones = np.ones(len(sample))
    for width in np.geomspace(_GRID / 2, 0.5, _EPOCHS):
        found = nearest_of(sample, nodes)
        size = len(nodes)
        counts = np.bincount(found, weights=ones, minlength=size)
        sums = np.stack([np.bincount(found, weights=x, minlength=size) for x in sample.T], axis=-1)
        weights = np.exp(-apart / (2 * width**2))
        total = weights @ counts
        nodes = np.where(total[:, None] > 0, (weights @ sums) / np.maximum(total, 1e-300)[:, None],
                         nodes)  # fmt: skip
    return nodes


def nearest_of(sample: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Position of the centre that is nearest to each pixel (n, C)."""
    from gigaqc.kernels.pixels import nearest

    found = np.empty(len(sample), "i8")
    nearest(np.ascontiguousarray(sample.T), centres, found)
    return found


METHODS: dict[str, Callable[[np.ndarray, int, int], Trained]] = {
    "gmm": _train_mixture,
    "kmeans": _train_means,
    "flowsom": _train_map,
}


def check_method(method: str, among: Sequence[str] = tuple(METHODS)) -> None:
    """Refuse a method that does not exist."""
    if method not in among:
        raise ParameterError(f"method: got {method!r}; pass one of {', '.join(among)}.")
