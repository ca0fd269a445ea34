"""Gain maps against the recipe in plain numpy, in any chunks and by each route."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from strategies import repeatable

import gigaqc as gq
from gigaqc import testing
from gigaqc.graph import slabs
from gigaqc.graph.slabs import Route, plan_slabs
from gigaqc.testing.stores import CountingStore, count_reads, reset_reads


def camera(
    light: np.ndarray, frames: int, gain: float, offset: float = 0, read: float = 0, seed: int = 0
) -> np.ndarray:
    """Frames of a constant scene; `light` in electrons, `gain` in electrons a grey value."""
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(light, (frames, *light.shape)) + rng.normal(
        0, read, (frames, *light.shape)
    )
    return np.clip(np.rint(electrons / gain + offset), 0, 65535).astype("u2")


def recipe(frames: np.ndarray, nbins: int, offset: float = 0) -> dict[str, Any]:
    """What the recipe does with the whole array."""
    values = frames.astype("f8")
    mean = np.median(values, axis=0)
    variance = (1.4826 * np.median(np.abs(values - mean), axis=0)) ** 2
    edges = np.linspace(mean.min(), mean.max(), nbins + 1)
    place = np.digitize(mean, edges)
    x, y = np.full(nbins, np.nan), np.full(nbins, np.nan)
    for k in range(nbins):
        inside = place == k + 1
        if inside.sum() > 10:
            x[k], y[k] = mean[inside].mean(), variance[inside].mean()
    low, high = np.percentile(mean, [33, 66])
    fitted = (x > low) & (x < high)
    found = {"mean_map": mean, "variance_map": variance, "mean_bins": x, "variance_bins": y}
    with np.errstate(divide="ignore", invalid="ignore"):
        found["gain_map"] = np.where(variance > 0, (mean - offset) / variance, np.nan)
    if fitted.sum() >= 3:
        line = stats.linregress(x[fitted], y[fitted])
        found |= {name: getattr(line, name) for name in ("slope", "intercept", "rvalue", "stderr")}
        found["intercept_stderr"] = line.intercept_stderr
    return found


def series(frames: np.ndarray, chunks: Any, dims: str = "tyx") -> xr.DataArray:
    return xr.DataArray(da.from_array(frames, chunks=chunks), dims=tuple(dims))


LIGHT = np.geomspace(50, 2000, 37 * 41).reshape(37, 41)
FRAMES = camera(LIGHT, 23, 1.5, offset=100)
NBINS = 30


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of memory may be as small as a test needs them."""
    monkeypatch.setattr(slabs, "_SMALLEST_LIMIT", 1)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary stores go; nothing is left of them."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


@st.composite
def chunkings(draw: st.DrawFn) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(np.diff([0, *sorted(draw(st.sets(st.integers(1, n - 1), max_size=4))), n]).tolist())
        for n in FRAMES.shape
    )


@repeatable
@given(chunkings(), st.sampled_from([None, 30_000, 60_000, 200_000]))
def test_as_the_recipe_in_any_chunks_by_any_route(chunks: Any, memory: int | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slabs, "_SMALLEST_LIMIT", 1)
        with testing.forbid_compute():
            lazy = gq.gain_map(series(FRAMES, chunks), nbins=NBINS, memory=memory, offset=100)
        found = lazy.compute()
    for name, expected in recipe(FRAMES, NBINS, offset=100).items():
        if name in ("mean_map", "variance_map"):
            assert np.array_equal(found[name], expected), name
        else:
            np.testing.assert_allclose(found[name], expected, rtol=1e-10, err_msg=name)
    assert found["gain_map"].dims == ("y", "x")
    assert found.measurable and not found.reason.item()
    assert found.gain == pytest.approx(1 / float(found.slope))


def test_the_routes_are_those_that_the_limit_asks_for(tight: None) -> None:
    frame = series(FRAMES, (1, 37, 41))
    routes = [plan_slabs(frame, memory) for memory in (1 << 30, 60_000, 20_000)]
    assert [plan.route for plan in routes] == [Route.DIRECT, Route.SLABS, Route.STORE]
    assert [plan.reads for plan in routes] == [1, 3, 1]
    whole = plan_slabs(series(FRAMES, (23, 37, 41)), 20_000)
    assert whole.route is Route.DIRECT  # the chunk is there at once anyway


@pytest.mark.parametrize("memory", [None, 60_000, 20_000])
def test_the_same_bits_by_each_route_and_scheduler(
    memory: int | None, tight: None, scratch: Path
) -> None:
    wanted = gq.gain_map(series(FRAMES, -1), estimator="variance").compute(scheduler="sync")
    for scheduler in ("sync", "threads"):
        with dask.config.set(scheduler=scheduler):
            chunks = (4, 20, 41)
            found = gq.gain_map(series(FRAMES, chunks), estimator="variance", memory=memory)
            assert found.compute().identical(wanted)


@pytest.mark.parametrize(("memory", "reads"), [(None, 1), (50_000, 3), (20_000, 1)])
def test_reads_are_those_of_the_plan(
    memory: int | None, reads: int, tight: None, scratch: Path, tmp_path: Path
) -> None:
    store = CountingStore(tmp_path / "frames.zarr")
    array = zarr.create_array(store, shape=FRAMES.shape, chunks=(1, 37, 41), dtype="u2")
    array[:] = FRAMES
    reset_reads(store)
    lazy = xr.DataArray(da.from_zarr(array), dims=("t", "y", "x"))
    with dask.config.set(num_workers=1):
        assert plan_slabs(lazy, memory).reads == reads
        found = gq.gain_map(lazy, memory=memory)
        assert not {k: n for k, n in count_reads(store).items() if "c/" in k}
        found.compute()
    counts = [n for key, n in count_reads(store).items() if "c/" in key]
    assert counts == [reads] * len(FRAMES)


def test_other_dims_are_measured_one_by_one() -> None:
    gains = np.array([[0.5, 1.0], [2.0, 4.0]])
    frames = np.stack(
        [[camera(LIGHT, 30, g, seed=int(10 * g)) for g in row] for row in gains]
    )  # c z t y x
    frames = np.moveaxis(frames, 2, 0)
    found = gq.gain_map(
        series(frames, (7, 1, 2, 20, 30), "tczyx"), estimator="variance", nbins=20
    ).compute()
    assert found.gain.dims == ("c", "z")
    assert found.mean_bins.dims == ("c", "z", "bin")
    np.testing.assert_allclose(found.gain, gains, rtol=0.1)
    for c, z in np.ndindex(2, 2):
        alone = gq.gain_map(series(frames[:, c, z], -1), estimator="variance", nbins=20).compute()
        assert found.gain[c, z] == alone.gain
        assert np.array_equal(found.gain_map[c, z], alone.gain_map, equal_nan=True)


def test_frames_that_are_not_there_are_left_out_and_counted() -> None:
    frames = FRAMES.astype("f4")
    frames[3, 5, 7] = np.nan
    frames[4, 5, 7] = np.inf
    frames[:, 6, 8] = np.nan
    found = gq.gain_map(series(frames, (5, 37, 41)), nbins=12).compute()
    there = frames[np.isfinite(frames[:, 5, 7]), 5, 7].astype("f8")
    assert found.mean_map[5, 7] == np.median(there)
    assert np.isnan(found.mean_map[6, 8])
    assert found.n_missing == 2 + len(frames)


def test_pixels_that_do_not_change_have_no_gain_and_are_counted() -> None:
    frames = FRAMES.copy()
    frames[:, 2, 3:6] = 500
    found = gq.gain_map(series(frames, -1)).compute()
    assert np.isnan(found.gain_map[2, 3:6]).all()
    assert found.n_zero_variance == 3


@pytest.mark.parametrize(
    ("frames", "estimator", "reason"),
    [
        (np.full((5, 20, 20), 7, "u2"), "mad", "bins"),
        (np.full((5, 20, 20), 7, "u2"), "variance", "bins"),
        (np.zeros((5, 20, 20), "f4"), "mad", "bins"),
        (np.full((5, 20, 20), np.nan, "f4"), "mad", "bins"),
        (np.full((5, 20, 20), np.nan, "f4"), "variance", "bins"),
        (np.ones((2, 1, 1), "u1"), "variance", "bins"),
        (camera(LIGHT, 30, 1.0)[:, :1, :12], "mad", "bins"),
    ],
)
def test_what_cannot_be_measured_is_nan_and_says_why(
    frames: np.ndarray, estimator: Any, reason: str
) -> None:
    found = gq.gain_map(series(frames, -1), estimator=estimator).compute()
    assert not found.measurable
    assert reason in found.reason.item()
    for name in ("gain", "system_gain", "fitted_offset", "read_noise"):
        assert np.isnan(found[name]), name


@pytest.mark.parametrize("estimator", ["mad", "variance"])
def test_noise_that_does_not_grow_with_the_mean_is_no_gain(estimator: Any) -> None:
    rng = np.random.default_rng(1)
    frames = (500 + 400 * LIGHT / LIGHT.max() + rng.normal(0, 20, (40, *LIGHT.shape))).astype("u2")
    found = gq.gain_map(series(frames, -1), estimator=estimator).compute()
    assert not found.measurable
    assert np.isnan(found.gain)
    assert "variance" in found.reason.item()


def test_coarse_deviations_are_flagged() -> None:
    coarse = gq.gain_map(series(camera(np.geomspace(4, 20, 1600).reshape(40, 40), 30, 1.0), -1))
    assert coarse.quantised.compute()
    assert not gq.gain_map(series(FRAMES, -1)).quantised.compute()


def test_read_noise_is_told_where_the_offset_is_known() -> None:
    light = np.geomspace(20, 2000, 200 * 200).reshape(200, 200)
    frames = camera(light, 100, 0.5, offset=200, read=4)
    found = gq.gain_map(series(frames, -1), estimator="variance", offset=200).compute()
    assert found.gain == pytest.approx(0.5, rel=0.02)
    assert found.read_noise == pytest.approx(4, rel=0.1)
    unknown = gq.gain_map(series(frames, -1), estimator="variance").compute()
    assert np.isnan(unknown.read_noise)


def test_clipped_values_and_hot_pixels_do_not_bend_the_line() -> None:
    light = np.geomspace(20, 20000, 200 * 200).reshape(200, 200)
    np.random.default_rng(0).shuffle(light.reshape(-1))
    frames = np.minimum(camera(light, 60, 2.0, offset=50), 4095)
    hot = np.random.default_rng(1).random(light.shape) < 0.01
    frames[:, hot] += np.random.default_rng(2).integers(0, 200, (60, hot.sum())).astype("u2")
    frames = np.minimum(frames, 4095)
    found = gq.gain_map(series(frames, -1), estimator="variance").compute()
    assert found.gain == pytest.approx(2.0, rel=0.02)
    assert found.n_outliers > 0.5 * hot.sum()
    assert not found.in_fit[-1]


@pytest.mark.cover(2)
@pytest.mark.parametrize("gain", [0.2, 1.0, 5.0])
@pytest.mark.parametrize(("offset", "read"), [(0, 0), (0, 5), (100, 5), (200, 2)])
@pytest.mark.parametrize("electrons", [(5, 5000), (5, 50), (500, 5000)])
def test_simulated_cameras_are_recovered_within_two_percent(
    gain: float, offset: float, read: float, electrons: tuple[float, float]
) -> None:
    light = np.geomspace(*electrons, 200 * 200).reshape(200, 200)
    frames = camera(light, 80, gain, offset, read)
    found = gq.gain_map(series(frames, (80, 50, 200)), estimator="variance").compute()
    assert found.gain == pytest.approx(gain, rel=0.02)


@pytest.mark.same_process
def test_an_interrupted_run_leaves_no_temporary_store(
    tight: None, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("no more")

    monkeypatch.setattr("gigaqc.noise.gain.temporal.median_and_mad", fails)
    lazy = gq.gain_map(series(FRAMES, (1, 37, 41)), memory=20_000)
    with pytest.raises(RuntimeError, match="no more"):
        lazy.compute()
    assert not list(scratch.iterdir())


def test_a_chunk_that_cannot_be_read_leaves_no_temporary_store(
    tight: None, scratch: Path, tmp_path: Path
) -> None:
    path = tmp_path / "frames.zarr"
    array = zarr.create_array(path, shape=FRAMES.shape, chunks=(1, 37, 41), dtype="u2")
    array[:] = FRAMES
    (path / "c" / "9" / "0" / "0").write_bytes(b"no chunk")
    lazy = gq.gain_map(gq.open_image(path, dims="tyx"), memory=20_000)
    with pytest.raises(gq.errors.ReadError, match="c/9/0/0"):
        lazy.compute()
    assert not list(scratch.iterdir())


@pytest.mark.same_process
def test_a_temporary_store_goes_where_it_is_told(
    tight: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    seen = []
    kept = slabs.Bands.write

    def write(self: Any, *arguments: Any) -> None:
        seen.append(self.folder)
        kept(self, *arguments)

    monkeypatch.setattr(slabs.Bands, "write", write)
    frames = series(FRAMES, (1, 37, 41))
    gq.gain_map(frames, memory=20_000, temporary=folder).compute()
    assert seen and all(folder in path.parents for path in seen)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"nbins": 0}, "nbins: got 0"),
        ({"nbins": 2.5}, "nbins: got 2.5"),
        ({"estimator": "std"}, "estimator: got 'std'"),
        ({"offset": "dark"}, "offset: got 'dark'"),
        ({"memory": "much"}, "memory: got 'much'"),
        ({"memory": 0}, "memory: got 0"),
        ({"temporary": "/nowhere/at/all"}, "temporary: '/nowhere/at/all'"),
    ],
)
def test_parameters_that_cannot_be_used(options: dict[str, Any], says: str) -> None:
    with testing.forbid_compute(), pytest.raises(gq.errors.ParameterError, match=says):
        gq.gain_map(series(FRAMES, -1), **options)


def test_series_that_are_none() -> None:
    with pytest.raises(gq.errors.ImageError, match="single frame"):
        gq.gain_map(series(FRAMES[:1], -1))
    with pytest.raises(gq.errors.ImageError, match="dims='tyx'"):
        gq.gain_map(FRAMES)
    assert gq.gain_map(FRAMES, dims="tyx").mean_map.shape == FRAMES.shape[1:]


def opened(data_dir: Path, name: str) -> xr.DataArray:
    return series(tifffile.imread(data_dir / name), (5, 256, 256))


def test_the_scmos_series(data_dir: Path) -> None:
    frames = opened(data_dir, "camera_stack_scmos_eb3/EB300004_scmos_20frames.tif")
    found = gq.gain_map(frames, estimator="variance").compute()
    assert found.measurable
    assert found.system_gain == pytest.approx(2.0, rel=0.06)
    assert found.fitted_offset == pytest.approx(100, abs=4)


def test_a_series_limited_by_read_noise_is_declined(data_dir: Path) -> None:
    frames = opened(data_dir, "camera_stack_pims/stuck.tif")
    for estimator in ("mad", "variance"):
        found = gq.gain_map(frames, estimator=estimator).compute()  # type: ignore[arg-type]
        assert not found.measurable
        assert np.isnan(found.gain)
        assert found.reason.item()


def test_nothing_of_the_temporary_folder_is_made_before_it_is_needed(scratch: Path) -> None:
    gq.gain_map(series(FRAMES, (1, 37, 41)))
    assert os.listdir(scratch) == []


def test_a_plan_is_told_without_reading() -> None:
    lazy = series(FRAMES, (1, 37, 41))
    with testing.forbid_compute():
        plan = gq.explain(lazy, metric="gain_map", memory="1GB")
    assert "each chunk is read 1x" in str(plan)
    with pytest.raises(gq.errors.ParameterError, match="metric: got 'gain'"):
        gq.explain(lazy, metric="gain")  # type: ignore[arg-type]
    with pytest.raises(gq.errors.ImageError, match="lack t"):
        gq.explain(FRAMES, metric="gain_map")
