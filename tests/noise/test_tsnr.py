"""Temporal signal to noise against numpy on the whole array, in any chunks of any axis."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from series_cases import Series, fill, known, series
from strategies import repeatable

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ImageError, MaskError, ParameterError
from gigaqc.graph import fold as graphs
from gigaqc.image.labelled import as_image
from gigaqc.noise import temporal
from gigaqc.testing.stores import CountingStore, count_reads, reset_reads

EPS = np.finfo("f8").eps
GROUPS = st.sampled_from([(1, 1, 1), (5, 1, 1), (9, 3, 64), (200, 2, 7), (1 << 23, 32, 1 << 25)])


@contextmanager
def groups(values: int, frames: int, batch: int) -> Iterator[None]:
    """How much a task reads: with little, many states merge."""
    changed = {"FRAMES": frames, "BATCH_VALUES": batch}
    with mock.patch.multiple(graphs, **changed), dask.config.set({"gigaqc.group-values": values}):
        yield


def compare(found: xr.DataArray, value: np.ndarray, std: np.ndarray, scale: np.ndarray) -> None:
    """A map against value/std; what rounding of the values leaves open is not asked."""
    noise = np.divide(EPS * scale, std, out=np.full(std.shape, np.inf), where=std > 0)
    clear = np.isnan(noise) | (noise > 1) | (noise < 1 / 64)
    measured = noise < 1 / 64
    np.testing.assert_array_equal(np.isfinite(found.values)[clear], measured[clear])
    expected = value[measured] / std[measured]
    tolerance = 1e-10 * np.abs(expected) + 64 * noise[measured] * np.abs(expected)
    assert (np.abs(found.values[measured] - expected) <= tolerance).all()


@repeatable
@given(
    series(), st.integers(0, 3), st.integers(0, 2), st.sampled_from(["mean", "intercept"]), GROUPS
)
def test_any_series(
    case: Series, detrend: int, ddof: int, baseline: str, sizes: tuple[int, int, int]
) -> None:
    detrend = min(detrend, case.frames - 1)
    with groups(*sizes), testing.forbid_compute():
        found = gq.tsnr_map(case.lazy, detrend=detrend, ddof=ddof, baseline=baseline)
    assert found.dims == tuple(case.dims[1:]) and found.dtype == "f8"
    truth = known(case.array, detrend)
    enough = (truth.n > detrend + 1) & (truth.n > ddof)
    degrees = np.where(enough, truth.n - ddof, 1)
    std = np.where(enough, np.sqrt(truth.squares / degrees), np.nan)
    value = truth.mean if baseline == "mean" else truth.intercept
    scale = np.fmax(np.abs(value), truth.scale)
    compare(found.compute(), np.asarray(value, "f8"), std, scale)


@repeatable
@given(series(), st.integers(0, 3), GROUPS)
def test_statistics_of_any_series(case: Series, detrend: int, sizes: tuple[int, int, int]) -> None:
    detrend = min(detrend, case.frames - 1)
    with groups(*sizes), testing.forbid_compute():
        lazy = gq.temporal_statistics(case.lazy, detrend=detrend)
    found, truth = lazy.compute(), known(case.array, detrend)
    np.testing.assert_array_equal(found["n_frames"], truth.n)
    assert found["n_frames"].dtype == "i8"
    np.testing.assert_allclose(found["mean"], truth.mean, rtol=1e-12, atol=1e-300)
    std = np.where(truth.n > detrend + 1, np.sqrt(truth.squares / truth.n.clip(1)), np.nan)
    near = 64 * EPS * truth.scale
    np.testing.assert_array_equal(np.isnan(found["std"]), np.isnan(std))
    assert not (np.abs(found["std"] - std) > 1e-10 * std + near).any()
    own = gq.tsnr_map(case.lazy, detrend=detrend).compute()
    both = np.isfinite(found["tsnr"].values) & np.isfinite(own.values)
    np.testing.assert_allclose(found["tsnr"].values[both], own.values[both], rtol=1e-9)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_as_polyfit(degree: int) -> None:
    x = np.random.default_rng(0).normal(300, 5, (50, 6, 7))
    t = np.arange(50) / 50
    pixels = x.reshape(50, -1)
    residuals = pixels - np.vander(t, degree + 1) @ np.polyfit(t, pixels, degree)
    expected = (pixels.mean(axis=0) / residuals.std(axis=0, ddof=1)).reshape(6, 7)
    found = gq.tsnr_map(x, dims="tyx", detrend=degree, ddof=1)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_intercept_is_that_of_ukat() -> None:
    """Its regressors are 1, t and t^2 of t = 1 to T, and 1 is not removed."""
    x = np.random.default_rng(1).normal(80, 4, (30, 5, 4)) + np.arange(30).reshape(-1, 1, 1)
    t = np.arange(1, 31)
    regressors = np.vstack([np.ones(30), t, t**2]).T
    pixels = x.reshape(30, -1)
    drift = regressors[:, 1:] @ (np.linalg.pinv(regressors) @ pixels)[1:]
    detrended = pixels - drift
    expected = (detrended.mean(axis=0) / detrended.std(axis=0)).reshape(5, 4)
    found = gq.tsnr_map(x, dims="tyx", baseline="intercept", invalid="zero")
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.cover(2)
@pytest.mark.parametrize("value", [0, 7, 0.1, 1e6 + 0.1, -3.3e11])
@pytest.mark.parametrize("dtype", ["i2", "i8", "f4", "f8"])
@pytest.mark.parametrize("detrend", [0, 2, 4])
def test_constant_pixels_are_not_measurable(value: float, dtype: str, detrend: int) -> None:
    if dtype == "i2":
        value = int(value) % 30000
    x = np.full((37, 3, 4), value, dtype=dtype)
    with groups(1, 1, 1):
        lazy = gq.tsnr_map(xr.DataArray(x, dims=tuple("tyx")).chunk(t=5), detrend=detrend)
        found = lazy.compute()
    assert np.isnan(found).all()
    assert (gq.tsnr_map(x, dims="tyx", detrend=detrend, invalid="zero") == 0).all()


@pytest.mark.cover(2)
@pytest.mark.parametrize("detrend", [1, 2, 3])
@pytest.mark.parametrize("scale", [1, 1 / 3, 1e9])
@pytest.mark.parametrize("chunk", [1, 7, 60])
def test_exact_polynomials_are_not_measurable(detrend: int, scale: float, chunk: int) -> None:
    t = np.arange(60.0)
    x = (12 + 3 * t - (0.1 * t**detrend)).reshape(-1, 1, 1) * scale * np.ones((1, 2, 2))
    with groups(1, 1, 1):
        lazy = gq.tsnr_map(xr.DataArray(x, dims=tuple("tyx")).chunk(t=chunk), detrend=detrend)
        assert np.isnan(lazy.compute()).all()


@pytest.mark.parametrize("offset", [0, 1e6, 1e9])
def test_an_offset_costs_no_digits(offset: float) -> None:
    """Integers are exact in float64: the std must not move at all."""
    x = np.random.default_rng(2).integers(0, 9, (200, 4, 5)).astype("i8")
    moved = x + int(offset)
    with groups(1, 8, 1):
        stds = [
            gq.temporal_statistics(xr.DataArray(v, dims=tuple("tyx")).chunk(t=9))["std"].compute()
            for v in (x, moved)
        ]
    np.testing.assert_allclose(stds[1], stds[0], rtol=1e-12)


def test_a_strong_drift_costs_few_digits() -> None:
    rng = np.random.default_rng(3)
    t = np.arange(300.0).reshape(-1, 1, 1)
    x = rng.normal(0, 1, (300, 5, 5)) + 1e6 * (t / 300) ** 2
    std = gq.temporal_statistics(x, dims="tyx")["std"]
    truth = known(x, 2)
    np.testing.assert_allclose(std, np.sqrt(truth.squares / 300).astype("f8"), rtol=1e-10)


def test_two_frames() -> None:
    x = np.array([[[3, 8]], [[5, 8]]], dtype="u1")
    found = gq.tsnr_map(x, dims="tyx", detrend=0)
    np.testing.assert_array_equal(found, [[4.0, np.nan]])
    assert np.isnan(gq.tsnr_map(x, dims="tyx", detrend=1)).all()


def test_zero_for_what_is_not_measurable_or_beyond_1000() -> None:
    x = np.stack([np.array([[5, 9_000, 100]]), np.array([[5, 9_001, 104]])]).astype("u2")
    found = gq.tsnr_map(x, dims="tyx", detrend=0, invalid="zero")
    np.testing.assert_array_equal(found, [[0, 0, 51]])


def masks_of(case: np.ndarray) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    plane = rng.random(case.shape[-2:]) < 0.6
    volume = rng.random(case.shape[1:]) < 0.6
    return {
        "plane": plane,
        "volume": volume,
        "labelled": xr.DataArray(volume, dims=("z", "y", "x")),
        "lazy": xr.DataArray(da.from_array(plane, chunks=2), dims=("y", "x")),
    }


@pytest.mark.parametrize("kind", ["plane", "volume", "labelled", "lazy"])
def test_a_mask(kind: str) -> None:
    x = fill("u2", (12, 3, 5, 6), "noise", "none", 0)
    mask = masks_of(x)[kind]
    with testing.forbid_compute():
        found = gq.tsnr_map(x, dims="tzyx", mask=mask)
        all_of_them = gq.temporal_statistics(x, dims="tzyx", mask=mask)
    inside = np.broadcast_to(np.asarray(mask), x.shape[1:])
    whole = gq.tsnr_map(x, dims="tzyx").values
    np.testing.assert_array_equal(found, np.where(inside, whole, np.nan))
    np.testing.assert_array_equal(all_of_them["tsnr"], np.where(inside, whole, np.nan))
    np.testing.assert_array_equal(all_of_them["n_frames"], np.where(inside, 12, 0))
    assert (np.isnan(all_of_them["mean"]) == ~inside).all()
    zero = gq.tsnr_map(x, dims="tzyx", mask=mask, invalid="zero")
    np.testing.assert_array_equal(zero, np.where(inside, whole, 0))


def test_a_mask_of_frames_leaves_them_out() -> None:
    x = fill("u2", (20, 5, 6), "noise", "none", 1)
    mask = np.random.default_rng(6).random(x.shape) < 0.7
    labelled = xr.DataArray(x, dims=tuple("tyx")).chunk(t=3, y=2)
    found = gq.temporal_statistics(labelled, mask=xr.DataArray(mask, dims=tuple("tyx")))
    expected = gq.temporal_statistics(np.where(mask, x, np.nan), dims="tyx")
    xr.testing.assert_allclose(found.compute(), expected.compute(), rtol=1e-12)
    np.testing.assert_array_equal(found["n_frames"], mask.sum(axis=0))


@pytest.mark.cover(2)
@pytest.mark.parametrize("chunks", [(20, 4, 4), (1, 8, 9), (3, 3, 9)])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1 << 23, 32, 1 << 25)], ids=["many", "few"])
def test_one_read(
    tmp_path: Path, chunks: tuple[int, ...], dtype: str, sizes: tuple[int, int, int]
) -> None:
    store = CountingStore(tmp_path / "series.zarr")
    array = zarr.create_array(store, shape=(20, 8, 9), chunks=chunks, dtype=dtype)
    array[:] = fill(dtype, (20, 8, 9), "noise", "few", 2)
    reset_reads(store)
    with groups(*sizes), testing.forbid_compute():
        image = as_image(array, dims="tyx")
        statistics = gq.temporal_statistics(image)
        one = gq.tsnr_map(image, mask=np.ones((8, 9), bool))
    assert not count_reads(store)
    statistics.compute()
    count = np.prod([-(-n // c) for n, c in zip((20, 8, 9), chunks, strict=True)])
    assert sorted(count_reads(store).values()) == [1] * count
    reset_reads(store)
    dask.compute(statistics, one)
    assert sorted(count_reads(store).values()) == [1] * count
    reset_reads(store)
    gq.tsnr_summary(array, dims="tyx")
    assert sorted(count_reads(store).values()) == [1] * count


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_the_same_bits_on_any_scheduler(dtype: str) -> None:
    x = fill(dtype, (60, 3, 11, 12), "drift", "few", 3)
    image = xr.DataArray(da.from_array(x, chunks=(4, 1, 5, 7)), dims=tuple("tcyx"))
    with groups(300, 8, 50):
        lazy = gq.tsnr_map(image)
    with dask.config.set(scheduler="synchronous"):
        first = lazy.values
    for workers in (2, 5):
        with dask.config.set(scheduler="threads", num_workers=workers):
            np.testing.assert_array_equal(lazy.values, first)


def test_coordinates_and_attributes_stay() -> None:
    x = np.random.default_rng(4).poisson(50, (6, 2, 4, 5)).astype("u2")
    coords = {"c": ["a", "b"], "t": np.arange(6) * 2.5, "x": np.arange(5) / 2}
    image = xr.DataArray(
        x, dims=tuple("tcyx"), coords=coords, attrs={"pixel_size": {"y": 0.5, "x": 0.5}}
    )
    found = gq.tsnr_map(image)
    assert found.dims == ("c", "y", "x") and list(found.c.values) == ["a", "b"]
    assert "t" not in found.coords and found.attrs["pixel_size"] == {"y": 0.5, "x": 0.5}
    np.testing.assert_array_equal(found.x, coords["x"])


def test_any_order_of_the_axes() -> None:
    """A NIfTI has time last."""
    x = np.random.default_rng(4).poisson(50, (9, 2, 4, 5)).astype("i2")
    turned = xr.DataArray(np.moveaxis(x, 0, -1), dims=tuple("zyxt"))
    np.testing.assert_array_equal(gq.tsnr_map(turned), gq.tsnr_map(x, dims="tzyx"))


def test_another_chunking_of_a_store(tmp_path: Path) -> None:
    """Chunks that several places need are read by tasks of their own."""
    x = fill("u2", (30, 20, 21), "noise", "none", 4)
    array = zarr.create_array(tmp_path / "s.zarr", shape=x.shape, chunks=(4, 7, 21), dtype="u2")
    array[:] = x
    image = gq.open_image(tmp_path / "s.zarr", dims="tyx")
    with groups(1, 3, 1):
        found = gq.tsnr_map(image.chunk({"t": 3, "y": 5, "x": 4})).values
    np.testing.assert_allclose(found, gq.tsnr_map(x, dims="tyx"), rtol=1e-12)


def test_summary() -> None:
    x = np.random.default_rng(7).normal(100, 5, (25, 2, 9, 8))
    x[:, 1, :2] = 4
    image = xr.DataArray(x, dims=tuple("tcyx"), coords={"c": ["a", "b"]})
    tsnr = gq.tsnr_map(image, ddof=1)
    found = gq.tsnr_summary(image, ddof=1, percentiles=(10, 90))
    assert list(found.columns) == ["n", "n_not_measurable", "median", "mean", "p10", "p90"]
    assert list(found.index) == ["a", "b"]
    assert found["n"].tolist() == [72, 56] and found["n_not_measurable"].tolist() == [0, 16]
    for name in "ab":
        values = tsnr.sel(c=name).values
        levels = np.nanpercentile(values, [50, 10, 90])
        assert found.loc[name, ["median", "p10", "p90"]].tolist() == levels.tolist()
        np.testing.assert_allclose(found.loc[name, "mean"], np.nanmean(values), rtol=1e-12)
    for given_map in (tsnr, tsnr.compute()):
        assert gq.tsnr_summary(given_map, percentiles=(10, 90)).equals(found)


def test_summary_by_mask() -> None:
    x = np.random.default_rng(8).normal(100, 5, (25, 2, 6, 8))
    volume = np.random.default_rng(9).random((2, 6, 8)) < 0.5
    plane = np.zeros((6, 8), bool)
    plane[:, :3] = True
    masks = {"roi": volume, "left": plane, "none": np.zeros((6, 8), bool)}
    found = gq.tsnr_summary(x, dims="tzyx", mask=masks)
    values = gq.tsnr_map(x, dims="tzyx").values
    assert found.index.tolist() == [("0", "roi"), ("0", "left"), ("0", "none")]
    assert found.loc[("0", "roi"), "median"] == np.median(values[volume])
    assert found.loc[("0", "left"), "median"] == np.median(values[:, :, :3])
    assert found.loc[("0", "none"), "n"] == 0 and np.isnan(found.loc[("0", "none"), "mean"])
    single = gq.tsnr_summary(x, dims="tzyx", mask=volume)
    assert single.loc["0"].equals(found.loc[("0", "roi")])


def test_the_examples() -> None:
    assert doctest.testmod(temporal).failed == 0


SERIES = np.zeros((4, 5, 6), "u2")


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ImageError, r"have no t.*dims='tyx'.*rename\(c='t'\)", {"dims": None}),
        (ParameterError, "detrend: got -1", {"detrend": -1}),
        (ParameterError, "detrend: got 1.5", {"detrend": 1.5}),
        (ParameterError, "detrend: got True", {"detrend": True}),
        (ParameterError, "detrend: 4 for a series of 4 frames", {"detrend": 4}),
        (ParameterError, "ddof: got -1", {"ddof": -1}),
        (ParameterError, "baseline: got 'median'; pass 'mean' or", {"baseline": "median"}),
        (ParameterError, "invalid: got 0; pass 'nan' or 'zero'", {"invalid": 0}),
        (MaskError, "same y and x", {"mask": np.ones((5, 7), bool)}),
        (MaskError, "pass bool", {"mask": np.ones((5, 6))}),
    ],
)
def test_errors(error: type[Exception], message: str, options: dict[str, Any]) -> None:
    with testing.forbid_compute(), pytest.raises(error, match=message):
        gq.tsnr_map(SERIES, **{"dims": "tyx", **options})


def test_a_single_frame_is_an_error() -> None:
    with pytest.raises(ImageError, match="a single frame has no noise in time"):
        gq.tsnr_map(SERIES[:1], dims="tyx", detrend=0)
    with pytest.raises(ParameterError, match="percentiles: got"):
        gq.tsnr_summary(SERIES, dims="tyx", percentiles=[101])


@pytest.mark.filterwarnings("default")  # readers warn of other people's files
def test_the_published_convention_on_a_spinal_cord(data_dir: Path) -> None:
    path = data_dir / "mri_spinalcord_sct" / "fmri.nii.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    nibabel = pytest.importorskip("nibabel")
    raw = np.asanyarray(nibabel.load(path).dataobj).astype("f8")
    found = gq.tsnr_map(gq.open_image(path), detrend=0, ddof=1)
    with np.errstate(invalid="ignore"):
        expected = raw.mean(axis=-1) / raw.std(axis=-1, ddof=1)
    values = found.squeeze("c").transpose("x", "y", "z").values
    assert (np.isnan(values) == (raw == 0).all(axis=-1)).all()
    assert np.isnan(values).sum() == 408
    np.testing.assert_allclose(values, expected, rtol=1e-10)
