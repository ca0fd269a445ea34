"""`pixel_clustering_preprocess`: what it takes, and the graphs behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import xarray as xr
from dask.delayed import Delayed

from gigaqc.errors import ChannelWarning, ParameterError, warn
from gigaqc.formulas.range import wanted_bins
from gigaqc.graph.map import ChannelTasks, Map, result_dtype
from gigaqc.graph.reduce import Reduce
from gigaqc.graph.tasks import join
from gigaqc.image.arguments import like
from gigaqc.image.labelled import as_image, channel_names, check_same_channels, chosen_channels
from gigaqc.kernels import transform
from gigaqc.statistics.blocks import Request
from gigaqc.statistics.distribution import KeyHistogram, layout_of
from gigaqc.statistics.reads import Second, observe_again
from gigaqc.statistics.statistics import Part
from gigaqc.transforms.steps import (
    FirstRead,
    PreprocessSteps,
    count_ratios,
    observe_first,
    observe_sums,
    preprocessed,
)
from gigaqc.transforms.windows import CountedChannels, merged
from gigaqc.typing import ChannelLike, ImageLike

_SAMPLE = 1 << 16  # sampled values of all channels together
_FEWEST_PIXELS = 1 << 13


@overload
def pixel_clustering_preprocess(
    images: ImageLike, *, channels: Sequence[ChannelLike] | None = None, q: float | None = 99,
    q_sum: float | None = 5, q_post: float | None = 99.9,
    sigma: float | Sequence[float | None] | None = 2, norm_sum: bool = True,
    cap: float | None = None, pool: Literal["mean", "exact"] = "mean",
) -> xr.DataArray: ...  # fmt: skip


@overload
def pixel_clustering_preprocess(
    images: list[Any] | tuple[Any, ...], *, channels: Sequence[ChannelLike] | None = None,
    q: float | None = 99, q_sum: float | None = 5, q_post: float | None = 99.9,
    sigma: float | Sequence[float | None] | None = 2, norm_sum: bool = True,
    cap: float | None = None, pool: Literal["mean", "exact"] = "mean",
) -> list[xr.DataArray]: ...  # fmt: skip


def pixel_clustering_preprocess(
    images: ImageLike | Sequence[ImageLike],
    *,
    channels: Sequence[ChannelLike] | None = None,
    q: float | None = 99,
    q_sum: float | None = 5,
    q_post: float | None = 99.9,
    sigma: float | Sequence[float | None] | None = 2,
    norm_sum: bool = True,
    cap: float | None = None,
    pool: Literal["mean", "exact"] = "mean",
) -> xr.DataArray | list[xr.DataArray]:
    """Make pixels comparable before they are clustered, as Pixie does (lazy).

    1. Divide each channel by its `q`-th percentile of the pixels that are not 0.
    2. Find the `q_sum`-th percentile of the sums over channels that are not 0.
    3. Blur each channel; a pixel that is NaN in one channel is NaN in all.
    4. Pixels whose blurred sum is not above (2) become NaN.
    5. Divide by the sum over channels (a sum of 0: NaN).
    6. Divide each channel by its `q_post`-th percentile of the pixels that are not 0.
    7. Limit to `cap`.

    Parameters
    ----------
    images
        Anything that `gigaqc` takes as an image, or a list of fields of view with the same
        channels.
    channels
        Names or positions of the channels to take; None takes all. The others are not read.
    q, q_sum, q_post
        Percentiles in 0..100; None leaves a step out (2 and 4 are one).
    sigma
        Of the Gaussian blur in pixels, one or one a channel; 0 or None does not blur.
    norm_sum
        Whether step 5 is taken.
    cap
        Largest value of the result; None for no limit.
    pool
        With several images: ``"mean"`` averages the percentiles of the images, ``"exact"`` takes
        the percentiles of all their pixels together.

    Returns
    -------
    DataArray or list of DataArray
        As many as were given, in their chunks: float32, float64 from float64. NaN where a pixel is
        not to be clustered. A channel that has no percentile, because all of its pixels are 0 or
        NaN, is not scaled, and a `ChannelWarning` names it when it is computed: zeros stay 0.

    Raises
    ------
    ChannelError
        When there is no such channel, or the images have different ones.
    ParameterError
        Percentiles outside of 0..100, a sigma below 0, an unknown `pool`, no images.

    Notes
    -----
    What mixes what (data leakage):

    - *Channels*: `q_sum` (steps 2 and 4) leaves pixels out by the sum of all channels, and
      `norm_sum` (step 5) divides by it, so that leaving a channel out changes all others; after
      either, the percentile `q_post` is of mixed values. ``q_sum=None, norm_sum=False`` keeps
      channels apart, but for step 3: NaN in one is NaN in all.
    - *Fields*: with a list, each of `q`, `q_sum` and `q_post` is a percentile of all images,
      whichever `pool`; ``"exact"`` also lets large images count more. Call it once an image, or
      once for the training and once for the test images, where one must not know of the other; or
      divide by constants that you know, and pass None for all three.
    - *Pixels*: each percentile is of a whole image. The blur reaches ``int(4 sigma + 0.5)`` pixels
      over a border between training and test pixels: cut parts of one image apart before
      (`gigaqc.region`, ``isel``), or leave a margin of that width out.

    The percentiles of step 1 are exact. Those of steps 2 and 6 are of derived values, known to
    2^-18 relative: a sample of pixels, drawn by position, says where to count, and a read counts
    exactly there. Integers to 16 bits are read four times in all (percentiles, sums, ratios, and
    the result), other types five times; each step left out saves its read. A halo costs no read,
    because blocks share what was read.

    The method is that of Liu et al., Nature Communications 14, 4618 (2023); names and defaults
    are those of sparrow and harpy.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.random.default_rng(0).poisson(20, (2, 64, 64)).astype("u2")
    >>> gq.pixel_clustering_preprocess(image, sigma=1).dtype
    dtype('float32')
    """
    several = isinstance(images, (list, tuple))
    given: list[Any] = [*images] if isinstance(images, (list, tuple)) else [images]
    _check(q, q_sum, q_post, cap, pool)
    chosen = [chosen_channels(as_image(image, argument="images"), channels) for image in given]
    check_same_channels(chosen)
    sigmas = _sigmas(sigma, chosen[0].sizes["c"])
    limit = math.inf if cap is None else float(cap)
    fields = [
        _Field(i, PreprocessSteps(sigmas, norm_sum, limit, result_dtype(i.dtype))) for i in chosen
    ]
    plan = _PreprocessPlan(fields, q, q_sum, q_post, together=pool == "exact")
    results = [like(r, g) for r, g in zip(plan.results(), given, strict=True)]
    return results if several else results[0]


def _check(
    q: float | None, q_sum: float | None, q_post: float | None, cap: float | None, pool: str
) -> None:
    for name, value in (("q", q), ("q_sum", q_sum), ("q_post", q_post)):
        if value is not None and not (_is_number(value) and 0 <= value <= 100):
            raise ParameterError(
                f"{name}: got {value!r}; pass a percentile in 0..100, or None to leave it out."
            )
    if cap is not None and not (_is_number(cap) and math.isfinite(cap)):
        raise ParameterError(f"cap: got {cap!r}; pass a number, or None for no limit.")
    if pool not in ("mean", "exact"):
        raise ParameterError(f"pool: got {pool!r}; pass one of mean, exact.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _sigmas(sigma: Any, count: int) -> tuple[float | None, ...]:
    several = isinstance(sigma, (Sequence, np.ndarray))
    sigmas = tuple(sigma) if several else (sigma,) * count
    if len(sigmas) != count:
        raise ParameterError(
            f"sigma: got {len(sigmas)} for {count} channels; pass one number, or one a channel."
        )
    for s in sigmas:
        transform.gaussian_radius(s)
    return sigmas


@dataclass(frozen=True)
class _Field:
    """An image and what is done to it."""

    image: xr.DataArray
    steps: PreprocessSteps

    @property
    def pixels(self) -> int:
        return self.image.size // self.image.sizes["c"]

    def first(self, fraction: float, *, counted: bool) -> Delayed:
        """The first read: histograms, if they are needed, and sampled pixels."""
        request = Request(Part.MOMENTS, 512, 512, np.dtype(self.image.dtype)) if counted else None
        arguments = (request, fraction, self.steps)
        return Reduce("sampled", self.image, None, observe_first, arguments, on_device=True).build()

    def again(self, bins: Delayed) -> Delayed:
        """The second read of floats and wider integers: values of the bins that matter."""
        request = Request(Part.MOMENTS & ~Part.RESPONSE, 512, 512, np.dtype(self.image.dtype))
        return Reduce(
            "refined", self.image, None, observe_again, (request, bins),
            on_device=True,
        ).build()  # fmt: skip

    def sums(self, factors: Any, window: Delayed) -> Delayed:
        """A read that counts sums over the channels."""
        given = (factors, window)
        return Reduce("sums", self.image, None, observe_sums, given, on_device=True).build()

    def ratios(self, factors: Any, threshold: Any, windows: Delayed) -> Delayed:
        """A read that counts pixels, done but for the last percentile."""
        arguments = (factors, threshold, windows, self.steps)
        depth = self.steps.depth
        return Map(
            "ratios", self.image, count_ratios, arguments, halo=depth, on_device=True
        ).merged()

    def result(self, factors: Any, threshold: Any, post: Any) -> xr.DataArray:
        """The read that gives the result."""
        return Map(
            "preprocessed", self.image, preprocessed, (factors, threshold, post, self.steps),
            halo=self.steps.depth, channels=ChannelTasks.TOGETHER, on_device=True,
        ).build()  # fmt: skip


@dataclass(frozen=True)
class _PreprocessPlan:
    """Which reads of which images give which percentiles."""

    fields: Sequence[_Field]
    q: float | None
    q_sum: float | None
    q_post: float | None
    together: bool

    def results(self) -> list[xr.DataArray]:
        """The images, lazily."""
        names = channel_names(self.fields[0].image)
        factors: Any = np.ones(len(names))
        threshold: Any = math.nan
        post: Any = np.ones(len(names))
        if (self.q, self.q_sum, self.q_post) != (None, None, None):
            samples = self._samples()
        if self.q is not None:
            found = [join("percentiles", FirstRead.percentiles, s, self.q) for s in samples]
            factors = join("factors", _factors, names, self.q, *found)
        if self.q_sum is not None:
            found = []
            for sample, pool in zip(samples, self._pools(), strict=True):
                window = join("window", FirstRead.sum_window, sample, self.q_sum, factors)
                counted = _pooled([f.sums(factors, window) for f in pool])
                found.append(join("sum", CountedChannels.quantiles, counted, self.q_sum / 100))
            threshold = join("threshold", _threshold, *found)
        if self.q_post is not None:
            found = []
            for sample, pool in zip(samples, self._pools(), strict=True):
                given = (sample, self.q_post, factors, threshold, pool[0].steps)
                windows = join("windows", FirstRead.ratio_windows, *given)
                counted = _pooled([f.ratios(factors, threshold, windows) for f in pool])
                found.append(join("post", CountedChannels.quantiles, counted, self.q_post / 100))
            post = join("post-factors", _factors, names, self.q_post, *found)
        return [f.result(factors, threshold, post) for f in self.fields]

    def _pools(self) -> list[Sequence[_Field]]:
        """Images whose pixels have percentiles in common."""
        return [self.fields] if self.together else [[f] for f in self.fields]

    def _samples(self) -> list[Delayed]:
        """The first read of each pool (and the second, of floats)."""
        samples = []
        for pool in self._pools():
            wanted = max(_SAMPLE // pool[0].image.sizes["c"], _FEWEST_PIXELS)
            fraction = min(wanted / sum(f.pixels for f in pool), 1.0)
            firsts = [f.first(fraction, counted=self.q is not None) for f in pool]
            sample = _pooled(firsts)
            if self.q is not None and layout_of(np.dtype(pool[0].image.dtype)) is not None:
                bins = join("bins", _bins, sample, self.q)
                again = _pooled([f.again(bins) for f in pool])
                sample = join("with-refined", FirstRead.with_refined, sample, again)
            samples.append(sample)
        return samples


def _pooled(states: Sequence[Delayed]) -> Delayed:
    return states[0] if len(states) == 1 else join("pooled", _merged, *states)


def _merged(*states: Any) -> Any:
    return merged(states)


def _bins(first: FirstRead, q: float) -> Second:
    """What the second read of floats is to look at."""
    assert isinstance(first.histogram, KeyHistogram) and first.zeros is not None
    bins = tuple(
        wanted_bins(first.histogram, c, int(zeros), (), (q / 100,), ())
        for c, zeros in enumerate(first.zeros)
    )
    nothing = np.full(len(bins), np.nan)
    return Second(bins, nothing, nothing)


def _factors(names: Sequence[str], q: float, *percentiles: np.ndarray) -> np.ndarray:
    """What to multiply channels by: 1 over the mean percentile, 1 where there is none."""
    mean = _mean(np.stack(percentiles))
    with np.errstate(divide="ignore", over="ignore"):
        factors = 1 / mean
    lost = ~np.isfinite(factors) | (factors == 0)
    if lost.any():
        without = ", ".join(n for n, gone in zip(names, lost, strict=True) if gone)
        warn(
            f"channels {without}: have no pixels from which to take the {q:g}th percentile (all "
            "are 0, NaN or masked), so they are not scaled; leave them out with channels=.",
            ChannelWarning,
        )
    return np.where(lost, 1.0, factors)


def _threshold(*percentiles: np.ndarray) -> float:
    return float(_mean(np.stack(percentiles))[0])


def _mean(percentiles: np.ndarray) -> np.ndarray:
    """Mean over the images that have a percentile; NaN where none has."""
    there = np.isfinite(percentiles)
    count = there.sum(axis=0)
    total = np.where(there, percentiles, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
