"""Small series of every kind for hypothesis, and what numpy makes of each in long double."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from hypothesis import strategies as st
from strategies import chunkings

DTYPES = ("?", "u1", "i1", "u2", ">u2", "i2", "u4", ">i4", "u8", "i8", "f2", "f4", ">f4", "f8")
KINDS = ("noise", "counts", "offset", "drift", "constant", "ramp", "steps", "mixed")
HOLES = ("none", "few", "many", "infinite", "whole pixels", "first half")


@dataclass(frozen=True)
class Series:
    """A series and how it came about."""

    dtype: str
    dims: str
    shape: tuple[int, ...]
    kind: str
    holes: str
    chunks: tuple[int, ...]
    seed: int
    array: np.ndarray = field(repr=False, compare=False)

    @property
    def lazy(self) -> xr.DataArray:
        """The series over dask in the drawn chunks."""
        return xr.DataArray(da.from_array(self.array, chunks=self.chunks), dims=tuple(self.dims))

    @property
    def frames(self) -> int:
        """How many."""
        return self.shape[0]


@dataclass(frozen=True)
class Known:
    """What long double arithmetic finds, each of the shape of a map."""

    n: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    intercept: np.ndarray
    scale: np.ndarray


def fill(dtype: str, shape: tuple[int, ...], kind: str, holes: str, seed: int) -> np.ndarray:
    """The values of a series; time is the first axis."""
    rng = np.random.default_rng(seed)
    t = np.arange(shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
    noise = rng.normal(0, 3, shape)
    values = {
        "noise": lambda: 50 + noise,
        "counts": lambda: rng.poisson(20, shape).astype("f8"),
        "offset": lambda: 1e6 + noise / 3,
        "drift": lambda: 40 + noise + 1.5 * t - 0.02 * t**2,
        "constant": lambda: np.broadcast_to(rng.integers(0, 100, shape[1:]) / 7, shape),
        "ramp": lambda: np.broadcast_to(t * 1.0, shape) + rng.integers(0, 9, shape[1:]),
        "steps": lambda: np.where(t < shape[0] // 2, 10.0, 90.0) * np.ones(shape),
        "mixed": lambda: np.where(rng.random(shape[1:]) < 0.5, 7.0, 50 + noise),
    }[kind]()
    target = np.dtype(dtype)
    if target.kind == "f":
        out = np.clip(values, -6e4, 6e4) if target.itemsize == 2 else values
        out = out.astype(target)
        pierce(out, holes, rng)
        return out
    limits = (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
    return np.clip(np.rint(values), *map(float, limits)).astype(target)


def pierce(values: np.ndarray, holes: str, rng: np.random.Generator) -> None:
    """Take values away, in place."""
    if holes == "few":
        values[rng.random(values.shape) < 0.05] = np.nan
    elif holes == "many":
        values[rng.random(values.shape) < 0.8] = np.nan
    elif holes == "infinite":
        values[rng.random(values.shape) < 0.1] = rng.choice([np.inf, -np.inf])
    elif holes == "whole pixels":
        values[:, rng.random(values.shape[1:]) < 0.5] = np.nan
    elif holes == "first half":
        values[: len(values) // 2, rng.random(values.shape[1:]) < 0.5] = np.nan


@st.composite
def series(draw: st.DrawFn, dtypes: tuple[str, ...] = DTYPES) -> Series:
    """A series with its chunks."""
    dims = draw(st.sampled_from(["tyx", "tyx", "tzyx", "tcyx", "tczyx"]))
    sizes = {"t": st.integers(2, 24), "c": st.integers(1, 3), "z": st.integers(1, 3)}
    shape = tuple(draw(sizes.get(d, st.integers(1, 9))) for d in dims)
    dtype, kind = draw(st.sampled_from(dtypes)), draw(st.sampled_from(KINDS))
    holes, seed = draw(st.sampled_from(HOLES)), draw(st.integers(0, 2**32 - 1))
    chunks = draw(chunkings(shape))
    return Series(
        dtype, dims, shape, kind, holes, chunks, seed, fill(dtype, shape, kind, holes, seed)
    )


def orthonormal(times: np.ndarray, degree: int) -> np.ndarray:
    """An orthonormal basis of the polynomials over these frames, in long double."""
    t = times.astype("g")
    middle = t.mean() if t.size else t.sum()
    t = (t - middle) / max(float(np.abs(t - middle).max(initial=0)), 1.0)
    columns: list[np.ndarray] = []
    for k in range(min(degree + 1, t.size)):
        column = t**k
        for _ in range(2):
            for other in columns:
                column = column - (column @ other) * other
        columns.append(column / np.sqrt(column @ column))
    return np.array(columns).reshape(len(columns), t.size)


def known(array: np.ndarray, degree: int) -> Known:
    """Pixel by pixel, the slow and plain way."""
    shape = array.shape[1:]
    found: dict[str, Any] = {
        name: np.full(shape, np.nan) for name in ("mean", "squares", "intercept", "scale")
    }
    n = np.zeros(shape, "i8")
    frames = np.arange(len(array))
    for index in np.ndindex(*shape):
        values = array[(slice(None), *index)].astype("g")
        valid = np.isfinite(values)
        x, t = values[valid], frames[valid]
        n[index] = x.size
        if not x.size:
            continue
        found["mean"][index] = x.mean()
        found["scale"][index] = np.abs(x).max()
        y = x - x.mean()
        for _ in range(2):
            basis = orthonormal(t, degree)
            y = y - basis.T @ (basis @ y)
        found["squares"][index] = y @ y
        if x.size > degree + 1:
            found["intercept"][index] = extrapolated(t, x - y, degree)
    return Known(n, **found)


def extrapolated(t: np.ndarray, fitted: np.ndarray, degree: int) -> float:
    """A polynomial through points, at -1: Lagrange's formula on points far apart."""
    at = np.unique(np.linspace(0, t.size - 1, degree + 1).round().astype(int))
    total = np.longdouble(0)
    for i in at:
        weight = np.longdouble(1)
        for j in at:
            if i != j:
                weight *= (np.longdouble(-1) - t[j]) / np.longdouble(int(t[i]) - int(t[j]))
        total += weight * fitted[i]
    return float(total)
