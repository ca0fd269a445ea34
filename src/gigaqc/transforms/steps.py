"""What the passes of pixel-clustering preprocessing do with a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gigaqc.base.backend import namespace_of, of_place, twin
from gigaqc.base.geometry import Halo
from gigaqc.kernels import transform, vectors
from gigaqc.kernels.pixels import add_scaled, divide_by_sum
from gigaqc.kernels.places import drawn_positions, gathered
from gigaqc.statistics.blocks import Channels, Place, Request
from gigaqc.statistics.distribution import Histogram, KeyHistogram
from gigaqc.statistics.reads import Again, observe
from gigaqc.transforms.windows import CountedChannels, Counter, Window, predicted_window

_SLAB = 1 << 16  # values that are looked at together: their float64 copies stay in the cache
_SLAB_ON_DEVICE = 1 << 22  # there each slab costs a few starts of kernels
_COMPILED = ("uint8", "uint16", "float32")  # and float64
_SALT = 0x67716351  # any number: which pixels are drawn


@dataclass(frozen=True)
class PreprocessSteps:
    """What is done to a pixel besides the percentiles."""

    sigmas: tuple[float | None, ...]
    norm_sum: bool
    cap: float
    dtype: np.dtype

    @property
    def depth(self) -> int:
        """Pixels that a blur reaches."""
        return max(transform.gaussian_radius(s) for s in self.sigmas)


@dataclass(frozen=True)
class FirstRead:
    """Of the first read: the histogram of the values, and a sample of pixels (n, C)."""

    histogram: Histogram | None
    zeros: np.ndarray | None
    raw: np.ndarray
    blurred: np.ndarray

    def merge(self, other: FirstRead) -> FirstRead:
        """Both, of other pixels."""
        histogram, zeros = self.histogram, self.zeros
        if histogram is not None:
            histogram, zeros = histogram.merge(other.histogram), zeros + other.zeros  # type: ignore
        raw = np.concatenate([self.raw, other.raw])
        return FirstRead(histogram, zeros, raw, np.concatenate([self.blurred, other.blurred]))

    def with_refined(self, again: Again | None) -> FirstRead:
        """With exact values in the bins that decide a percentile."""
        if again is None:
            return self
        assert isinstance(self.histogram, KeyHistogram)
        histogram = self.histogram.with_refined(again.refined)
        return FirstRead(histogram, self.zeros, self.raw, self.blurred)

    def percentiles(self, q: float) -> np.ndarray:
        """Of the pixels of each channel that are not 0; NaN where there are none."""
        assert self.histogram is not None and self.zeros is not None
        found = []
        for c, zeros in enumerate(self.zeros):
            values = self.histogram.channel(c).without_zeros(int(zeros))
            found.append(values.quantile(q / 100)[0])
        return np.array(found)

    def sum_window(self, q_sum: float, factors: np.ndarray) -> Window:
        """Where the percentile of the sums lies."""
        with np.errstate(invalid="ignore"):  # infinite pixels
            sums = self.raw.astype("f8") @ factors
        return predicted_window(sums, q_sum / 100)

    def ratio_windows(
        self, q_post: float, factors: np.ndarray, threshold: float, steps: PreprocessSteps
    ) -> list[Window]:
        """Where the last percentile of each channel lies."""
        ratios = np.empty((len(factors), len(self.blurred)))
        pixels = np.ascontiguousarray(self.blurred.T, "f8")
        ones = np.ones(len(factors))
        divide_by_sum(pixels, factors, threshold, steps.norm_sum, ones, np.inf, ratios)
        return [predicted_window(channel, q_post / 100) for channel in ratios]


def observe_first(
    channels: Iterable[np.ndarray],
    masks: Channels | None,
    place: Place,
    request: Request | None,
    fraction: float,
    steps: PreprocessSteps,
) -> FirstRead:
    """The first read of a block: its histogram, if there is a request, and its drawn pixels."""
    raw: list[np.ndarray] = []
    blurred: list[np.ndarray] = []

    def drawn() -> Iterator[np.ndarray]:
        at: tuple[np.ndarray, ...] | None = None
        for c, channel in enumerate(channels):
            if at is None:
                start = (place.t, place.z, place.y, place.x)
                at = drawn_positions(start, channel.shape, fraction, _SALT)
            with np.errstate(over="ignore"):
                raw.append(gathered(channel, at).astype("f4"))
            blurred.append(_blurred_at(channel, at, steps.sigmas[c]))
            yield channel

    histogram, zeros = None, None
    if request is None:
        for _ in drawn():
            pass
    else:
        state = observe(drawn(), None, place, request).state  # type: ignore[arg-type]
        histogram, zeros = state.histogram, state.tally.table[4].copy()
    return FirstRead(histogram, zeros, np.stack(raw, axis=-1), np.stack(blurred, axis=-1))


def _blurred_at(channel: np.ndarray, at: tuple[np.ndarray, ...], sigma: float | None) -> np.ndarray:
    """The blur at a few pixels; as if the image ended where the block does."""
    half = transform.gaussian_weights(sigma)
    weights = np.concatenate([half[:0:-1], half])
    reach = np.arange(1 - len(half), len(half))
    t, z, y, x = at
    out = np.empty(t.size, "f4")
    few = max(of_place(channel, _SLAB, _SLAB_ON_DEVICE) // weights.size**2, 1)
    height, width = channel.shape[-2:]
    for start in range(0, t.size, few):
        cut = slice(start, start + few)
        rows = _mirrored(y[cut, None] + reach, height)
        columns = _mirrored(x[cut, None] + reach, width)
        planes = t[cut] * channel.shape[1] + z[cut]
        out[cut] = _weighted_sums(channel, planes, rows, columns, weights)
    return out


@twin(vectors.blurred_at)
def _weighted_sums(
    channel: np.ndarray, planes: np.ndarray, rows: np.ndarray, columns: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:  # fmt: skip
    t, z = np.divmod(planes, channel.shape[1])
    at = (t[:, None, None], z[:, None, None], rows[:, :, None], columns[:, None, :])
    near = channel[at].astype("f8")
    with np.errstate(invalid="ignore"):  # infinite pixels
        return near @ weights @ weights


def _mirrored(at: np.ndarray, size: int) -> np.ndarray:
    at = at % (2 * size)
    return np.where(at < size, at, 2 * size - 1 - at)


def observe_sums(
    channels: Iterable[np.ndarray],
    masks: Channels | None,
    place: Place,
    factors: np.ndarray,
    window: Window,
) -> CountedChannels:
    """Sums of the scaled channels of a block, counted in a window."""
    total: Any = None
    for c, channel in enumerate(channels):
        total = _add_scaled(channel, factors[c], total)
    counter = Counter(window)
    slab = of_place(total, _SLAB, max(total.shape[0], 1))
    for start in range(0, total.shape[0], slab):
        counter.add(total[start : start + slab])
    return CountedChannels((counter.counted(),))


@twin(vectors.add_scaled)
def _add_scaled(channel: np.ndarray, factor: float, total: np.ndarray | None) -> np.ndarray:
    total = np.zeros(channel.size) if total is None else total
    add_scaled(_compiled_for(channel), factor, total)
    return total


def _compiled_for(channel: np.ndarray) -> np.ndarray:
    """The pixels, flat, in one of the few types that the kernel is compiled for."""
    name = channel.dtype.name
    return channel.reshape(-1).astype(name if name in _COMPILED else "f8", copy=False)


def count_ratios(
    block: Sequence[np.ndarray],
    halo: Halo,
    channels: slice,
    factors: np.ndarray,
    threshold: float,
    windows: Sequence[Window],
    steps: PreprocessSteps,
) -> CountedChannels:
    """Pixels of a block, done but for the last percentile, counted in a window a channel."""
    counters = [Counter(window) for window in windows]
    _count_divided(block, halo, factors, threshold, steps, counters)
    return CountedChannels(tuple(counter.counted() for counter in counters))


def _count_divided_on_device(
    block: Sequence[Any],
    halo: Halo,
    factors: np.ndarray,
    threshold: float,
    steps: PreprocessSteps,
    counters: Sequence[Counter],
) -> None:
    given = (_blurred_on_device(block, halo, steps), factors, threshold, steps.norm_sum)
    channelwise = vectors.divided_by_sum(*given, np.ones(len(block)), np.inf)
    for counter, values in zip(counters, channelwise, strict=True):
        counter.add(values)


@twin(_count_divided_on_device)
def _count_divided(
    block: Sequence[np.ndarray],
    halo: Halo,
    factors: np.ndarray,
    threshold: float,
    steps: PreprocessSteps,
    counters: Sequence[Counter],
) -> None:
    ones = np.ones(len(block))
    blurred = _blurred(block, halo, steps).reshape(len(block), -1)
    ratios = np.empty((len(block), min(_SLAB, blurred.shape[1])))
    for start in range(0, blurred.shape[1], _SLAB):
        slab = blurred[:, start : start + _SLAB]
        found = ratios[:, : slab.shape[1]]
        divide_by_sum(slab, factors, threshold, steps.norm_sum, ones, np.inf, found)
        for counter, values in zip(counters, found, strict=True):
            counter.add(values)


def preprocessed(
    block: Sequence[np.ndarray],
    halo: Halo,
    channels: slice,
    factors: np.ndarray,
    threshold: float,
    post: np.ndarray,
    steps: PreprocessSteps,
) -> np.ndarray:
    """All steps for a block, (c, ..., y, x)."""
    return _divided(block, halo, factors, threshold, post, steps)


def _divided_on_device(
    block: Sequence[Any],
    halo: Halo,
    factors: np.ndarray,
    threshold: float,
    post: np.ndarray,
    steps: PreprocessSteps,
) -> Any:
    xp = namespace_of(block[0])
    pixels = _blurred_on_device(block, halo, steps)
    given = (pixels, factors, threshold, steps.norm_sum)
    dtype = xp.float64 if steps.dtype.itemsize == 8 else xp.float32
    found = xp.stack([xp.astype(v, dtype) for v in vectors.divided_by_sum(*given, post, steps.cap)])
    return xp.reshape(found, (len(pixels), *pixels[0].shape))


@twin(_divided_on_device)
def _divided(
    block: Sequence[np.ndarray],
    halo: Halo,
    factors: np.ndarray,
    threshold: float,
    post: np.ndarray,
    steps: PreprocessSteps,
) -> np.ndarray:
    blurred = _blurred(block, halo, steps)
    out = blurred if blurred.dtype == steps.dtype else np.empty(blurred.shape, steps.dtype)
    flat = (blurred.reshape(len(block), -1), out.reshape(len(block), -1))
    divide_by_sum(flat[0], factors, threshold, steps.norm_sum, post, steps.cap, flat[1])
    return out


def _blurred(block: Sequence[np.ndarray], halo: Halo, steps: PreprocessSteps) -> np.ndarray:
    """The channels of a block, blurred; float32 where that is as good."""
    top, bottom, left, right = halo
    *others, height, width = block[0].shape
    short = _is_short(block[0].dtype)
    shape = (len(block), *others, height - top - bottom, width - left - right)
    out = np.empty(shape, "f4" if short else "f8")
    for c, (channel, sigma) in enumerate(zip(block, steps.sigmas, strict=True)):
        pixels = channel if short else channel.astype("f8")
        if channel.dtype.kind == "f":
            pixels[np.isinf(pixels)] = np.nan
        if not sigma:
            out[c] = pixels[..., top : height - bottom, left : width - right]
            continue
        for index in np.ndindex(*others):
            out[c, *index] = transform.gaussian_blur(pixels[index], sigma, halo)
    return out


def _is_short(dtype: np.dtype) -> bool:
    """Whether float32 is as good; sums of other types may cancel, or exceed what it holds."""
    return dtype.kind in "bu" and dtype.itemsize <= 2


def _blurred_on_device(block: Sequence[Any], halo: Halo, steps: PreprocessSteps) -> list[Any]:
    """The same of channels on a device, where they stay."""
    xp = namespace_of(block[0])
    out = []
    for channel, sigma in zip(block, steps.sigmas, strict=True):
        pixels = channel
        if not _is_short(channel.dtype):
            pixels = xp.astype(channel, xp.float64)
            pixels = xp.where(xp.isinf(pixels), xp.nan, pixels)
        out.append(vectors.gaussian_blur(pixels, sigma, halo))
    return out
