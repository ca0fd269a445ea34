"""`cluster_pixels`: a sample, a model, labels, and what the clusters are like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import dask.base
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from gigaqc.base.formatting import names, table_html
from gigaqc.clusters.blocks import ClusterSums, Rule, observe_sample, observe_sums, sorted_values
from gigaqc.clusters.model import MOST_MAPPED, PixelModel, check_method, means_of, mixture_of, train
from gigaqc.errors import ImageError, ParameterError
from gigaqc.graph.reduce import Reduce
from gigaqc.image.labelled import (
    as_image,
    as_mask,
    channel_names,
    check_same_channels,
    chosen_channels,
)
from gigaqc.typing import ChannelLike, ImageLike, MaskLike

if TYPE_CHECKING:
    import pandas as pd

ClusteringMethod = Literal["gmm", "kmeans", "flowsom"]


@dataclass(frozen=True)
class PixelClusters:
    """Clusters of the pixels of one image, or of several fields of view together.

    Attributes
    ----------
    labels
        Label image, 1..n and 0 where masked (lazy); a list for a list of images.
    model
        `PixelModel`, which labels other images too, and can be saved.
    profile
        DataFrame cluster by channel: mean of all pixels with a label; NaN of none.
    sizes
        Series: number of pixels of each cluster.
    sample
        The pixels that the model was trained on, (n, C).
    """

    labels: xr.DataArray | list[xr.DataArray]
    model: PixelModel
    profile: pd.DataFrame
    sizes: pd.Series
    sample: np.ndarray = field(repr=False)

    def __repr__(self) -> str:
        return f"PixelClusters: {self._facts()}; {names(self.model.channels)}"

    def _facts(self) -> str:
        images = len(self.labels) if isinstance(self.labels, list) else 1
        pixels, number = int(self.sizes.sum()), self.model.n_clusters
        return (
            f"{number} by {self.model.method}, {pixels:,} pixels of {images} image"
            f"{'s' if images > 1 else ''}, trained on {len(self.sample):,}"
        )

    def _repr_html_(self) -> str:
        total = max(int(self.sizes.sum()), 1)
        rows = [
            [str(cluster), f"{size:,}", f"{size / total:.1%}", *(f"{m:.3g}" for m in means)]
            for cluster, size, means in zip(
                self.sizes.index, self.sizes, self.profile.to_numpy(), strict=True
            )
        ]
        columns = ("Cluster", "Pixels", "Share", *(f"mean {c}" for c in self.profile.columns))
        more = (
            "Maps in .labels, this table in .profile and .sizes, what labels other images in .model"
        )
        return table_html("Pixel clusters", self._facts(), columns, rows, more)


def cluster_pixels(
    images: ImageLike | Sequence[ImageLike],
    n_clusters: int,
    *,
    method: ClusteringMethod = "gmm",
    channels: Sequence[ChannelLike] | None = None,
    mask: MaskLike | Sequence[MaskLike | None] | None = None,
    fraction: float = 0.1,
    seed: int = 0,
    max_pixels: int = 500_000,
) -> PixelClusters:
    """Group pixels by their channels: train on a sample *now*, label all of them lazily.

    Parameters
    ----------
    images
        Anything that `gigaqc` takes as an image, or a list of fields of view with the same
        channels, which get one model. `gigaqc.pixel_clustering_preprocess` makes them comparable.
    n_clusters
        How many clusters; `gigaqc.choose_n_clusters` helps to choose.
    method
        ``"gmm"``: scikit-learn's Gaussian mixture with full covariances; the units of channels do
        not matter, while with the others bright channels count most. ``"kmeans"``: scikit-learn's
        k-means (in batches above 100 000 sampled pixels). ``"flowsom"``: a
        self-organising map of 10 x 10 nodes, joined to clusters by Ward's method, as FlowSOM and
        Pixie do it; the code is gigaqc's own, because the flowsom package is GPL.
    channels
        Names or positions of the channels to look at; None takes all.
    mask
        Bool, ``y x`` or more of the image's dims, its file as a `pathlib.Path`, or polygons (see
        `region`); a list for a list. Other pixels get label 0. ``"positive"``: only pixels above 0
        in all channels count.
    fraction
        Part of the pixels that the model is trained on, in 0..1; at most `max_pixels` of all
        images. Drawn by a hash of their position and `seed`, so that the sample, the model and the
        labels do not depend on the chunks.
    seed
        Other numbers draw other pixels and start elsewhere.
    max_pixels
        Most pixels to train on.

    Returns
    -------
    PixelClusters
        ``.labels``, ``.model``, ``.profile``, ``.sizes``, ``.sample``. Clusters are numbered in
        ascending order of the mean of their centre, all channels together.

    Raises
    ------
    ChannelError
        When there is no such channel, or the images have different ones.
    ParameterError
        An unknown method, no whole number of clusters, more than 100 for a map, a fraction outside
        of 0..1, a seed from 2^32 on, or as many masks as there are not images.
    ImageError
        When the sample has fewer pixels than there are clusters.

    Notes
    -----
    Reads each chunk once for the sample and once for the profile; computing the labels reads it
    once more. What the images have to compute first is computed each time: write preprocessed
    images before they are clustered. Pixels that are NaN or infinite in a channel get label 0.

    What mixes what (data leakage): the model is trained on all images that are given, and
    ``profile`` and ``sizes`` are of all of them. For labels of images that the model must not have
    seen, train on the others and call ``found.model.predict(image)``; within an image, `mask` keeps
    pixels out of training. `fraction` draws from each image by itself, in proportion to its pixels;
    where `max_pixels` is the limit, other images change what is drawn from one. Preparation mixes
    too: see `gigaqc.pixel_clustering_preprocess`.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.zeros((2, 32, 32), "u2")
    >>> image[:, :, 16:] = 100
    >>> found = gq.cluster_pixels(image, 2, method="kmeans", fraction=1)
    >>> found.labels.values[0, [0, 31]].tolist(), found.profile.values.tolist()
    ([1, 2], [[0.0, 0.0], [100.0, 100.0]])
    """
    import pandas as pd

    check_method(method)
    if not isinstance(n_clusters, (int, np.integer)) or isinstance(n_clusters, bool):
        raise ParameterError(f"n_clusters: got {n_clusters!r}; pass a whole number from 1.")
    most = MOST_MAPPED if method == "flowsom" else 65535
    if not 1 <= n_clusters <= most:
        raise ParameterError(
            f"n_clusters: got {n_clusters}; pass a whole number of 1 to {most} for {method!r}."
        )
    task = _LabelTask.of(images, channels, mask, fraction, seed, max_pixels)
    sample = task.sample(int(n_clusters))
    model = train(method, sample, int(n_clusters), task.names, seed, task.positive)
    sums = task.sums(model.rule)
    index = pd.RangeIndex(1, model.n_clusters + 1, name="cluster")
    n = sums.n[1:]
    means = np.where(n[:, None] > 0, sums.sums[1:] / np.maximum(n, 1)[:, None], np.nan)
    labels = [model.label(i, m) for i, m in zip(task.images, task.masks, strict=True)]
    return PixelClusters(
        labels if isinstance(images, (list, tuple)) else labels[0],
        model,
        pd.DataFrame(means, index=index, columns=pd.Index(task.names, name="channel")),
        pd.Series(n, index=index, name="pixels"),
        sample,
    )


def choose_n_clusters(
    images: ImageLike | Sequence[ImageLike],
    candidates: Iterable[int] = range(2, 11),
    *,
    method: Literal["gmm", "kmeans"] = "gmm",
    channels: Sequence[ChannelLike] | None = None,
    mask: MaskLike | Sequence[MaskLike | None] | None = None,
    fraction: float = 0.1,
    seed: int = 0,
    max_pixels: int = 100_000,
) -> pd.DataFrame:
    """How well numbers of clusters fit: BIC of mixtures, inertia of k-means. Runs now.

    Parameters
    ----------
    images, method, channels, mask, fraction, seed, max_pixels
        As in `cluster_pixels`; one sample serves all candidates.
    candidates
        Numbers of clusters to try.

    Returns
    -------
    DataFrame
        Indexed by ``n_clusters``, with ``bic`` (Bayesian information criterion: the smallest is
        best) or ``inertia`` (sum of squared distances to the nearest centre: look for the bend).
        `gigaqc.pl.cluster_choice` draws it.

    Raises
    ------
    ParameterError
        When there is no candidate, or one is no whole number from 1; and as `cluster_pixels`.

    Notes
    -----
    The fit is judged on the pixels that the candidates were trained on.
    """
    import pandas as pd
    from threadpoolctl import threadpool_limits

    check_method(method, ("gmm", "kmeans"))
    numbers = list(candidates)
    if not numbers or any(not isinstance(n, (int, np.integer)) or n < 1 for n in numbers):
        raise ParameterError(
            f"candidates: got {numbers}; pass whole numbers from 1, such as range(2, 9)."
        )
    task = _LabelTask.of(images, channels, mask, fraction, seed, max_pixels)
    sample = task.sample(max(numbers))
    with threadpool_limits(1):
        if method == "gmm":
            name, found = "bic", [mixture_of(sample, n, seed).bic(sample) for n in numbers]
        else:
            name, found = "inertia", [float(means_of(sample, n, seed).inertia_) for n in numbers]
    return pd.DataFrame({name: found}, index=pd.Index(numbers, name="n_clusters"))


@dataclass(frozen=True)
class _LabelTask:
    """Images of the same channels, and which of their pixels count."""

    images: list[xr.DataArray]
    masks: list[xr.DataArray | None]
    positive: bool
    fraction: float
    seed: int
    max_pixels: int

    @classmethod
    def of(
        cls, images: Any, channels: Any, mask: Any, fraction: float, seed: int, max_pixels: int
    ) -> _LabelTask:
        """What the caller gave, checked."""
        several = isinstance(images, (list, tuple))
        given = [as_image(i, argument="images") for i in (images if several else [images])]
        chosen = [chosen_channels(image, channels) for image in given]
        check_same_channels(chosen)
        if not (isinstance(fraction, (int, float)) and 0 < fraction <= 1):
            raise ParameterError(f"fraction: got {fraction!r}; pass a number above 0, up to 1.")
        if not (isinstance(seed, (int, np.integer)) and 0 <= seed < 1 << 32):
            raise ParameterError(f"seed: got {seed!r}; pass a whole number of 0 to 2**32 - 1.")
        if not (isinstance(max_pixels, (int, np.integer)) and max_pixels > 0):
            raise ParameterError(f"max_pixels: got {max_pixels!r}; pass a whole number from 1.")
        positive = isinstance(mask, str)
        if positive and mask != "positive":
            raise ParameterError(
                f"mask: got {mask!r}; pass 'positive', a bool image or its pathlib.Path, or None."
            )
        masks = list(mask) if several and isinstance(mask, (list, tuple)) else [mask] * len(chosen)
        if len(masks) != len(chosen):
            raise ParameterError(
                f"mask: got {len(masks)} for {len(chosen)} images; pass one for each."
            )
        within = [
            None if positive or m is None else as_mask(m, i)
            for m, i in zip(masks, chosen, strict=True)
        ]
        pixels = sum(i.size // i.sizes["c"] for i in chosen)
        drawn = min(fraction, max_pixels / pixels)
        return cls(chosen, within, positive, drawn, int(seed), int(max_pixels))

    @property
    def names(self) -> list[str]:
        """Names of the channels."""
        return channel_names(self.images[0])

    def sample(self, n_clusters: int) -> np.ndarray:
        """Drawn pixels of all images, (n, C)."""
        drawn = [self._sampled(k) for k in range(len(self.images))]
        sample = np.concatenate([sorted_values(s) for s in dask.base.compute(*drawn)])
        if len(sample) > self.max_pixels:  # a hash draws that many on average
            sample = sample[np.linspace(0, len(sample) - 1, self.max_pixels).astype("i8")]
        if len(np.unique(sample, axis=0)) < n_clusters:
            raise ImageError(
                f"images: {len(sample)} sampled pixels count, too few different ones for "
                f"{n_clusters} clusters; pass fewer clusters, a larger fraction or another mask."
            )
        return sample

    def _sampled(self, k: int) -> Delayed:
        image, mask = self.images[k], self.masks[k]
        sizes = tuple(image.sizes.get(d, 1) for d in "tzyx")
        salt = (self.seed << 20) + k
        arguments = (self.fraction, salt, sizes, self.positive)
        return Reduce("pixels", image, mask, observe_sample, arguments, on_device=True).build()

    def sums(self, rule: Rule) -> ClusterSums:
        """Of all pixels of all images, by label."""
        added = [
            Reduce("profile", i, m, observe_sums, (rule,), on_device=True).build()
            for i, m in zip(self.images, self.masks, strict=True)
        ]
        total, *others = dask.base.compute(*added)
        for other in others:
            total = total.merge(other)
        return total
