"""Small images of every kind, cut into chunks of every kind, for hypothesis.

Hypothesis draws the recipe of an image (dtype, shape, kind of each channel, chunks, seed) and numpy
fills it: a failing example is one line that can be typed again, and shrinks in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st


def examples(number: int) -> int:
    """So many examples, or the share of them that the profile gives to every test."""
    return -(-number * settings().max_examples // 100)


repeatable = settings(
    max_examples=examples(30),
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""The few examples of a costly law; the first call of a kernel may take seconds."""

NARROW = ("u1", "i1", "u2", "i2", ">u2")
"""Types with one histogram bin a value."""
WIDE = ("u4", "i4", "f2", "f4", "f8", ">f4")
"""Types that are counted by key."""
FLOATS = ("f2", "f4", "f8", ">f4")
DTYPES = NARROW + WIDE

KINDS = (
    "counts",
    "sparse",
    "blobs",
    "noise",
    "uniform",
    "signed",
    "two_levels",
    "constant",
    "zeros",
    "ramp",
)
HOLES = ("none", "none", "nan", "inf", "all_nan")

MOST_CHUNKS = 60


@dataclass(frozen=True)
class Case:
    """An image and how it came about."""

    dtype: str
    dims: str
    shape: tuple[int, ...]
    kinds: tuple[str, ...]
    holes: tuple[str, ...]
    chunks: tuple[int, ...]
    seed: int
    array: np.ndarray = field(repr=False, compare=False)

    @property
    def whole(self) -> xr.DataArray:
        """The image in memory, for the oracle."""
        return xr.DataArray(self.array, dims=tuple(self.dims), coords=self._names())

    @property
    def image(self) -> xr.DataArray:
        """The image over dask in the drawn chunks, for the package."""
        lazy = da.from_array(self.array, chunks=self.chunks)
        return xr.DataArray(lazy, dims=tuple(self.dims), coords=self._names())

    @property
    def names(self) -> list[str]:
        """Names of the channels."""
        return [f"ch{i}" for i in range(len(self.kinds))]

    def _names(self) -> dict[str, Any]:
        return {"c": self.names} if "c" in self.dims else {}


def _pattern(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Pixels of one channel as float64, before they are fitted to a dtype."""
    y, x = np.ogrid[: shape[-2], : shape[-1]]
    match kind:
        case "counts":
            return rng.poisson(rng.uniform(2, 100), shape).astype("f8")
        case "sparse":
            return rng.poisson(rng.uniform(0.02, 1), shape).astype("f8")
        case "blobs":
            wave = np.sin(y / rng.uniform(3, 9)) * np.sin(x / rng.uniform(3, 9)) > 0.2
            return rng.poisson(np.broadcast_to(10 + 60 * wave, shape)).astype("f8")
        case "noise":
            return rng.normal(90, rng.uniform(1, 10), shape)
        case "uniform":
            return rng.uniform(0, 120, shape)
        case "signed":
            return rng.normal(0, 30, shape)
        case "two_levels":
            return np.where(rng.random(shape) < rng.uniform(0.05, 0.95), 7.0, 93.0)
        case "constant":
            return np.full(shape, float(rng.integers(1, 100)))
        case "zeros":
            return np.zeros(shape)
        case _:
            return np.broadcast_to((3.0 * y + x) % 120, shape).astype("f8")


def _fit(values: np.ndarray, dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """Use some of the range of the dtype without leaving it; spread may reach its ends."""
    if dtype.kind == "f":
        factor = rng.choice([1.0, 1.0, 0.001, 1 / 3, 300.0 if dtype.itemsize == 2 else 1e6])
        return (values * factor).astype(dtype)
    info = np.iinfo(dtype)
    factor = rng.choice([1, 1, 1, 2 if dtype.itemsize == 1 else 37])
    offset = 0
    if dtype.itemsize > 1 and rng.random() < 0.3:
        offset = int(rng.choice([100, 32768 if dtype.kind == "u" else -2000]))
    return np.clip(np.rint(values * factor) + offset, info.min, info.max).astype(dtype)


def _pierce(values: np.ndarray, hole: str, rng: np.random.Generator) -> None:
    """Put NaN and infinities where `hole` says, in place."""
    where = rng.random(values.shape) < 0.05
    if hole == "nan":
        values[where] = np.nan
    elif hole == "inf":
        values[where] = rng.choice([np.inf, -np.inf, np.nan], np.count_nonzero(where))
    elif hole == "all_nan":
        values[...] = np.nan


def build(
    dtype: str,
    dims: str,
    shape: tuple[int, ...],
    kinds: tuple[str, ...],
    holes: tuple[str, ...],
    chunks: tuple[int, ...],
    seed: int,
) -> Case:
    """Fill the image that a recipe describes."""
    rng = np.random.default_rng(seed)
    kind_of = np.dtype(dtype)
    out = np.zeros(shape, kind_of)
    by_channel = np.moveaxis(out, dims.index("c"), 0) if "c" in dims else out[None]
    for channel, kind, hole in zip(by_channel, kinds, holes, strict=True):
        values = _fit(_pattern(kind, channel.shape, rng), kind_of, rng)
        if kind_of.kind == "f":
            _pierce(values, hole, rng)
        channel[...] = values
    return Case(dtype, dims, shape, kinds, holes, chunks, seed, out)


@st.composite
def chunkings(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """One chunk length an axis: dividing or not, one pixel, the whole axis, or beyond it."""
    lengths: list[int] = []
    count = 1
    for size in shape:
        wanted = draw(st.sampled_from(["whole", "any", "any", "one", "beyond"]))
        if wanted == "one" and count * size > MOST_CHUNKS:
            wanted = "any"
        length = {
            "whole": size,
            "one": 1,
            "beyond": size + 13,
            "any": draw(st.integers(max(1, -(-size * count // MOST_CHUNKS)), max(size, 1))),
        }[wanted]
        if count * -(-size // length) > MOST_CHUNKS:
            length = size
        lengths.append(length)
        count *= -(-size // length)
    return tuple(lengths)


@st.composite
def images(
    draw: st.DrawFn,
    dtypes: tuple[str, ...] = DTYPES,
    kinds: tuple[str, ...] = KINDS,
    holes: tuple[str, ...] = HOLES,
    dims: tuple[str, ...] = ("cyx", "cyx", "cyx", "yx", "tcyx", "czyx", "tczyx"),
    smallest: int = 1,
    largest: int = 70,
    channels: tuple[int, int] = (1, 4),
) -> Case:
    """Images with their chunks; `Case.whole` is for the oracle, `Case.image` for the package."""
    axes = draw(st.sampled_from(dims))
    sizes = {
        "t": st.integers(1, 3),
        "z": st.integers(1, 2),
        "c": st.integers(*channels),
        "y": st.integers(smallest, largest),
        "x": st.integers(smallest, largest),
    }
    shape = tuple(draw(sizes[axis]) for axis in axes)
    count = shape[axes.index("c")] if "c" in axes else 1
    each = st.tuples(*[st.sampled_from(kinds)] * count)
    pierced = st.tuples(*[st.sampled_from(holes)] * count)
    return build(
        draw(st.sampled_from(dtypes)),
        axes,
        shape,
        draw(each),
        draw(pierced),
        draw(chunkings(shape)),
        draw(st.integers(0, 2**32 - 1)),
    )
