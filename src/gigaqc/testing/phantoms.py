"""Phantoms: images of which the right answer is known.

A phantom starts as `poisson`, `gaussian`, `tissue` or `nuclei`. What happens in the specimen or the
optics (`striped`, `defocused`) changes the expected image and draws the noise again; what happens
in the detector (`hot_pixels`, `clipped`, `dead_block`) or between channels (`spilled`) changes the
pixels. So optics come first:

>>> phantom = hot_pixels(striped(tissue((256, 256)), amplitude=4), count=20, excess=300)
>>> pixels, truth = phantom
>>> len(truth.hot)
20
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gigaqc.errors import ParameterError

Shape = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a phantom; None where the artifact is absent.

    Attributes
    ----------
    expected
        The image without noise, float64, dims ``y x``.
    noise_std
        Standard deviation of Gaussian noise; None means Poisson noise of `expected`.
    tissue
        Mask of the tissue.
    labels
        Label image of the nuclei, int32; its maximum is their number.
    row_offsets, column_offsets
        What striping added to each row or column, in grey levels.
    defocused
        The rectangle ``(y, x)`` that was blurred.
    hot
        Positions of hot pixels, one row ``(y, x)`` each, no two of them closer than 3 pixels.
    clipping_level, clipped_fraction
        The largest value, and the fraction of pixels that have it.
    dead
        The rectangle ``(y, x)`` that is 0.
    correlation
        Pearson correlation with the channel that spilled, by numpy.
    """

    expected: NDArray[np.float64]
    noise_std: float | None = None
    tissue: NDArray[np.bool_] | None = None
    labels: NDArray[np.int32] | None = None
    row_offsets: NDArray[np.float64] | None = None
    column_offsets: NDArray[np.float64] | None = None
    defocused: tuple[slice, slice] | None = None
    hot: NDArray[np.int64] | None = None
    clipping_level: float | None = None
    clipped_fraction: float | None = None
    dead: tuple[slice, slice] | None = None
    correlation: float | None = None


class Phantom(NamedTuple):
    """An image, dims ``y x``, and what is known of it."""

    pixels: NDArray[Any]
    truth: Truth


def poisson(shape: Shape, mean: float, *, dtype: DTypeLike = np.uint16, seed: int = 0) -> Phantom:
    """Clean counting noise of one mean everywhere: no structure, no artifact."""
    if mean < 0:
        raise ParameterError(f"mean: {mean} is negative; a Poisson mean is 0 or more.")
    return _expose(Truth(np.full(shape, float(mean))), dtype, seed)


def gaussian(
    shape: Shape, mean: float, std: float, *, dtype: DTypeLike = np.float32, seed: int = 0
) -> Phantom:
    """Gaussian noise around one mean: no structure, no artifact."""
    if not std > 0:
        raise ParameterError(f"std: {std}; noise has a positive standard deviation.")
    return _expose(Truth(np.full(shape, float(mean)), noise_std=float(std)), dtype, seed)


def tissue(
    shape: Shape,
    *,
    mean: float = 200.0,
    background: float = 5.0,
    coverage: float = 0.5,
    size: float = 24.0,
    grain: float = 1.5,
    dtype: DTypeLike = np.uint16,
    seed: int = 0,
) -> Phantom:
    """Smooth blobs with a fine texture on a dim background, under Poisson noise.

    Parameters
    ----------
    mean, background
        Expected value inside the tissue, on average, and outside.
    coverage
        Fraction of the image that is tissue, 0 to 1.
    size, grain
        Standard deviation, in pixels, of the Gaussians that shape the blobs and the texture.

    Returns
    -------
    Phantom
        ``truth.tissue`` is the mask.
    """
    if not 0 < coverage <= 1:
        raise ParameterError(f"coverage: {coverage}; pass a fraction above 0, at most 1.")
    rng = np.random.default_rng([seed, 1])
    field = _smooth_noise(rng, shape, size)
    rank = np.argsort(np.argsort(field, axis=None)).reshape(shape)
    inside = rank >= round((1 - coverage) * field.size)
    texture = np.exp(0.5 * _smooth_noise(rng, shape, grain))
    texture *= mean / texture[inside].mean()
    return _expose(Truth(np.where(inside, texture, background), tissue=inside), dtype, seed)


def nuclei(
    shape: Shape,
    *,
    diameter: float = 12.0,
    spacing: int = 20,
    filled: float = 0.8,
    mean: float = 200.0,
    background: float = 10.0,
    dtype: DTypeLike = np.uint16,
    seed: int = 0,
) -> Phantom:
    """Ellipses that do not touch, of different size, place and brightness, under Poisson noise.

    Parameters
    ----------
    diameter
        Mean axis of the ellipses, in pixels; axes are 0.8 to 1.2 times that.
    spacing
        Side of the square cells that each hold one nucleus or none, in pixels; at least
        ``1.2 * diameter + 2``. Where `shape` is a multiple of it, copies of the phantom can be put
        side by side, and no nucleus is cut or touches another.
    filled
        Part of the cells with a nucleus, 0 to 1.
    mean, background
        Expected value at the middle of a nucleus, on average, and outside.

    Returns
    -------
    Phantom
        ``truth.labels`` numbers the nuclei.
    """
    if not (0 < filled <= 1 and diameter > 0 and spacing >= 1.2 * diameter + 2):
        raise ParameterError(
            f"filled, diameter, spacing: got {filled}, {diameter}, {spacing}; pass a fraction "
            "above 0, at most 1, and a spacing of at least 1.2 times the diameter and 2 pixels."
        )
    rng = np.random.default_rng([seed, 4])
    cells = tuple(-(-n // spacing) for n in shape)
    axes = diameter / 2 * rng.uniform(0.8, 1.2, (2, *cells))
    slack = spacing / 2 - 1 - axes.max(axis=0)
    centre = (spacing - 1) / 2 + rng.uniform(-1, 1, (2, *cells)) * slack
    angle = rng.uniform(0, np.pi, cells)
    bright = mean * np.exp(0.2 * rng.standard_normal(cells))
    bright[rng.permutation(bright.size).reshape(cells) >= round(filled * bright.size)] = 0
    (row, y), (column, x) = (np.divmod(np.arange(n), spacing) for n in shape)
    cell = np.ix_(row, column)
    dy, dx = y[:, None] - centre[0][cell], x[None, :] - centre[1][cell]
    cos, sin = np.cos(angle)[cell], np.sin(angle)[cell]
    away = ((dy * cos + dx * sin) / axes[0][cell]) ** 2
    away += ((dx * cos - dy * sin) / axes[1][cell]) ** 2
    inside = (away < 1) & (bright[cell] > 0)
    expected = background + np.where(inside, bright[cell] * (1 - 0.3 * away), 0)
    number = np.arange(bright.size).reshape(cells)[cell]
    ids = np.unique(number[inside], return_inverse=True)[1] + 1
    labels = np.zeros(shape, "i4")
    labels[inside] = ids
    return _expose(Truth(expected, labels=labels), dtype, seed)


def striped(phantom: Phantom, amplitude: float, *, axis: str = "y", seed: int = 0) -> Phantom:
    """Rows (``axis="y"``) or columns (``"x"``) brighter or darker by `amplitude` grey levels.

    The sign of each is drawn, so that the standard deviation of the offsets is `amplitude`.
    """
    if axis not in ("y", "x"):
        raise ParameterError(f"axis: got {axis!r}; pass 'y' for rows or 'x' for columns.")
    truth = _before_the_detector(phantom, "striped")
    count = truth.expected.shape[0 if axis == "y" else 1]
    signs = np.random.default_rng([seed, 2]).permutation(np.where(np.arange(count) % 2, -1.0, 1.0))
    offsets = amplitude * signs
    if axis == "y":
        truth = replace(truth, expected=truth.expected + offsets[:, None], row_offsets=offsets)
    else:
        truth = replace(truth, expected=truth.expected + offsets, column_offsets=offsets)
    return _expose(truth, phantom.pixels.dtype, seed)


def defocused(
    phantom: Phantom, y: int, x: int, height: int, width: int, *, sigma: float = 4.0, seed: int = 0
) -> Phantom:
    """A rectangle out of focus: its expected image blurred by a Gaussian of `sigma` pixels."""
    from scipy import ndimage

    truth = _before_the_detector(phantom, "defocused")
    where = _rectangle(truth.expected.shape, y, x, height, width)
    expected = truth.expected.copy()
    expected[where] = ndimage.gaussian_filter(expected, sigma)[where]
    truth = replace(truth, expected=expected, defocused=where)
    return _expose(truth, phantom.pixels.dtype, seed)


def hot_pixels(phantom: Phantom, count: int, excess: float, *, seed: int = 0) -> Phantom:
    """Add `excess` grey levels to `count` single pixels, no two of them neighbours."""
    pixels, truth = phantom
    rows, columns = pixels.shape[0] // 4, pixels.shape[1] // 4
    if not 0 < count <= rows * columns:
        raise ParameterError(
            f"count: {count} isolated pixels do not fit into an image of {pixels.shape}; pass 1 to "
            f"{rows * columns}."
        )
    rng = np.random.default_rng([seed, 3])
    # One pixel in the middle of a 4 x 4 cell: neighbours stay two ordinary pixels apart.
    cells = rng.choice(rows * columns, size=count, replace=False)
    corner = np.stack(np.divmod(np.sort(cells), columns), axis=1) * 4
    hot = corner + rng.integers(1, 3, size=(count, 2))
    changed = pixels.astype(np.float64)
    changed[hot[:, 0], hot[:, 1]] += excess
    return Phantom(_as_dtype(changed, pixels.dtype), replace(truth, hot=hot.astype(np.int64)))


def clipped(phantom: Phantom, fraction: float, *, level: float | None = None) -> Phantom:
    """Stretch the values so that about `fraction` of the pixels end at the clipping level.

    Parameters
    ----------
    level
        Where the detector clips: 4095 for a 12-bit camera; None takes the largest value of an
        integer dtype, or 1 for floats.

    Returns
    -------
    Phantom
        ``truth.clipped_fraction`` is the fraction reached, counted.
    """
    if not 0 < fraction < 1:
        raise ParameterError(f"fraction: {fraction}; pass a fraction between 0 and 1.")
    pixels, truth = phantom
    if level is None:
        level = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "iu" else 1.0
    top = float(np.quantile(pixels.astype(np.float64), 1 - fraction))
    if top <= 0:
        raise ParameterError(
            f"fraction: the value that {fraction} of the pixels exceed is {top}, which no stretch "
            "brings to the clipping level; pass a smaller fraction."
        )
    stretched = _as_dtype(np.minimum(pixels * (level / top), level), pixels.dtype)
    reached = float(np.mean(stretched == stretched.dtype.type(level)))
    return Phantom(stretched, replace(truth, clipping_level=level, clipped_fraction=reached))


def dead_block(phantom: Phantom, y: int, x: int, height: int, width: int) -> Phantom:
    """Set a rectangle to 0, as a lost tile or a dead part of the detector leaves it."""
    pixels, truth = phantom
    where = _rectangle(pixels.shape, y, x, height, width)
    changed = pixels.copy()
    changed[where] = 0
    return Phantom(changed, replace(truth, dead=where))


def spilled(source: Phantom, target: Phantom, correlation: float) -> Phantom:
    """Add so much of the source's pixels to the target that they correlate as wanted.

    Returns
    -------
    Phantom
        The target; ``truth.correlation`` is the Pearson correlation reached, by numpy, which
        differs from the wanted one by the rounding to integers only.
    """
    if not 0 <= correlation < 1:
        raise ParameterError(f"correlation: {correlation}; pass 0 or more, below 1.")
    a, b = source.pixels.astype(np.float64), target.pixels.astype(np.float64)
    (var_a, cov), (_, var_b) = np.cov(a.ravel(), b.ravel())
    if var_a == 0 or var_a * var_b - cov**2 <= 0:
        raise ParameterError("source, target: one of them is constant or they are the same image.")
    # slope of target on source at which the correlation is reached, its residual being what it is
    residual = var_b - cov**2 / var_a
    slope = correlation * np.sqrt(residual / (1 - correlation**2) / var_a)
    pixels = _as_dtype(b + (slope - cov / var_a) * a, target.pixels.dtype)
    reached = float(np.corrcoef(a.ravel(), pixels.ravel().astype(np.float64))[0, 1])
    return Phantom(pixels, replace(target.truth, correlation=reached))


def _expose(truth: Truth, dtype: DTypeLike, seed: int) -> Phantom:
    """The pixels of an expected image: noise drawn, rounded and limited to the dtype."""
    rng = np.random.default_rng([seed, 0])
    if truth.noise_std is None:
        drawn = rng.poisson(np.maximum(truth.expected, 0)).astype(np.float64)
    else:
        drawn = rng.normal(truth.expected, truth.noise_std)
    return Phantom(_as_dtype(drawn, dtype), truth)


def _as_dtype(values: NDArray[np.float64], dtype: DTypeLike) -> NDArray[Any]:
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)


def _smooth_noise(rng: np.random.Generator, shape: Shape, sigma: float) -> NDArray[np.float64]:
    from scipy import ndimage

    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return field / field.std()


def _rectangle(
    shape: tuple[int, ...], y: int, x: int, height: int, width: int
) -> tuple[slice, slice]:
    if min(y, x) < 0 or min(height, width) < 1 or y + height > shape[0] or x + width > shape[1]:
        raise ParameterError(
            f"y, x, height, width: the rectangle {(y, x, height, width)} is not inside an image of "
            f"{shape}."
        )
    return slice(y, y + height), slice(x, x + width)


def _before_the_detector(phantom: Phantom, step: str) -> Truth:
    truth = phantom.truth
    late = [
        n for n in ("hot", "clipping_level", "dead", "correlation") if getattr(truth, n) is not None
    ]
    if late:
        raise ParameterError(
            f"phantom: {step} draws the noise again and would lose what the detector did "
            f"({', '.join(late)}); apply {step} first."
        )
    return truth
