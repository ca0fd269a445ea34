"""`pixel_clustering_preprocess` against a restatement in float64 on whole arrays."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.ndimage as ndi
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from strategies import Case, images, repeatable
from zarr.storage import MemoryStore

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ChannelError, ChannelWarning, ParameterError, StatisticsError
from gigaqc.kernels.places import drawn_positions
from gigaqc.transforms import windows
from gigaqc.transforms.windows import Counted, Counter, Window, predicted_window


def percentile(values: np.ndarray, q: float) -> float:
    values = values[np.isfinite(values) & (values != 0)]
    return float(np.percentile(values, q)) if values.size else np.nan


def averaged(found: list[float]) -> float:
    found = [v for v in found if np.isfinite(v)]
    return float(np.mean(found)) if found else np.nan


def pooled(arrays: list[np.ndarray], q: float, pool: str) -> float:
    if pool == "exact":
        return percentile(np.concatenate([a.ravel() for a in arrays]), q)
    return averaged([percentile(a, q) for a in arrays])


def restated(
    fields: list[np.ndarray], q: Any, q_sum: Any, q_post: Any, sigma: Any, norm_sum: bool,
    cap: Any, pool: str,
) -> list[np.ndarray]:  # fmt: skip
    """Dims channels, then others, y and x; as the contract says."""
    fields = [np.where(np.isfinite(f), f, np.nan).astype("f8") for f in fields]
    channels = range(len(fields[0]))

    def scaled_by(q: Any) -> None:
        if q is None:
            return
        for c in channels:
            p = pooled([f[c] for f in fields], q, pool)
            if np.isfinite(p) and p != 0:
                for f in fields:
                    f[c] /= p

    scaled_by(q)
    threshold = None if q_sum is None else pooled([f.sum(axis=0) for f in fields], q_sum, pool)
    if sigma is not None:
        for f in fields:
            widths = (0,) * (f.ndim - 2) + (sigma, sigma)
            f[...] = ndi.gaussian_filter(f, widths, mode="reflect", truncate=4.0)
    for f in fields:
        total = f.sum(axis=0)
        f[:, np.isnan(total)] = np.nan
        if threshold is not None and np.isfinite(threshold):
            with np.errstate(invalid="ignore"):
                f[:, ~(total > threshold)] = np.nan
        if norm_sum:
            with np.errstate(invalid="ignore", divide="ignore"):
                f[...] = np.where(total == 0, np.nan, f / total)
    scaled_by(q_post)
    return [f if cap is None else np.minimum(f, cap) for f in fields]


def found_in(results: list[xr.DataArray]) -> list[np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ChannelWarning)
        done = dask.compute(*results)
    return [(r if "c" in r.dims else r.expand_dims("c")).transpose("c", ...).values for r in done]


def agree(found: np.ndarray, expected: np.ndarray, tolerance: float = 3e-5) -> None:
    """But for pixels whose sum is, to rounding, the percentile of the sums."""
    differ = np.isnan(found) != np.isnan(expected)
    assert differ.mean() <= 2e-3, f"{differ.mean():.1%} are NaN in one only"
    both = ~np.isnan(found) & ~np.isnan(expected)
    np.testing.assert_allclose(found[both], expected[both], rtol=tolerance, atol=1e-7)


def field(seed: int, channels: int = 3, side: int = 96, dtype: str = "u2") -> np.ndarray:
    """Structured counts with zeros, none of whose sums are alike by construction."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:side, :side]
    wave = 1 + np.sin(rows / (5 + seed)) * np.cos(columns / 7)
    levels = rng.uniform(5, 300, channels)
    return np.stack([rng.poisson(level * wave) for level in levels]).astype(dtype)


SETTINGS: dict[str, Any] = {
    "q": 99, "q_sum": 5, "q_post": 99.9, "sigma": 2, "norm_sum": True, "cap": None, "pool": "mean",
}  # fmt: skip


@pytest.mark.cover(3)
@pytest.mark.parametrize(
    ("q", "q_sum", "q_post", "sigma", "norm_sum", "cap"),
    list(
        itertools.product(
            (99, None), (5, None), (99.9, None), (2, None), (True, False), (0.7, None)
        )
    ),
)
def test_every_combination_equals_the_restatement(
    q: Any, q_sum: Any, q_post: Any, sigma: Any, norm_sum: bool, cap: Any
) -> None:
    settings = {
        "q": q, "q_sum": q_sum, "q_post": q_post, "sigma": sigma, "norm_sum": norm_sum, "cap": cap,
    }  # fmt: skip
    pixels = field(1)
    found = gq.pixel_clustering_preprocess(da.from_array(pixels, chunks=(2, 40, 31)), **settings)
    (expected,) = restated([pixels], pool="mean", **settings)
    agree(found_in([found])[0], expected)


@repeatable
@given(
    images(
        dtypes=("u1", "u2", ">u2", "u4", "f4", "f8"),
        kinds=("counts", "sparse", "blobs", "ramp", "zeros"),
        largest=60,
    ),
    st.sampled_from([None, 0.7, 2]),
)
def test_any_chunks_types_and_holes(case: Case, sigma: Any) -> None:
    whole = case.whole if "c" in case.whole.dims else case.whole.expand_dims("c")
    pixels = whole.transpose("c", ...).values
    settings = {**SETTINGS, "sigma": sigma, "q_sum": None}
    found = gq.pixel_clustering_preprocess(case.image, sigma=sigma, q_sum=None)
    assert found.dims == tuple(case.dims)
    assert found.chunks == case.image.chunks
    (expected,) = restated([pixels], **settings)
    agree(found_in([found])[0], expected)


@repeatable
@given(st.data())
def test_any_chunks_with_a_threshold(data: st.DataObject) -> None:
    pixels = field(data.draw(st.integers(1, 4)), side=data.draw(st.sampled_from([50, 97])))
    chunks = tuple(data.draw(st.integers(1, n)) if n < 9 else data.draw(st.integers(17, 2 * n))
                   for n in pixels.shape)  # fmt: skip
    found = gq.pixel_clustering_preprocess(da.from_array(pixels, chunks=chunks))
    (expected,) = restated([pixels], **SETTINGS)
    agree(found_in([found])[0], expected)


@pytest.mark.parametrize("pool", ["mean", "exact"])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_several_fields_of_view(pool: str, dtype: str) -> None:
    fields = [field(1, dtype=dtype), field(2, side=70, dtype=dtype), field(3, dtype=dtype)]
    lazy = [da.from_array(f, chunks=(1, 33, 50)) for f in fields]
    found = gq.pixel_clustering_preprocess(lazy, pool=pool)  # type: ignore[arg-type]
    expected = restated(fields, **{**SETTINGS, "pool": pool})
    for mine, theirs in zip(found_in(found), expected, strict=True):
        agree(mine, theirs)


def test_a_large_image_is_counted_in_windows() -> None:
    pixels = field(2, side=1200)
    found = gq.pixel_clustering_preprocess(da.from_array(pixels, chunks=(1, 500, 700)))
    (expected,) = restated([pixels], **SETTINGS)
    agree(found_in([found])[0], expected)


def test_chosen_channels_and_their_order() -> None:
    pixels = field(1, channels=4)
    image = xr.DataArray(pixels, dims=tuple("cyx"), coords={"c": list("ABCD")})
    found = gq.pixel_clustering_preprocess(image, channels=["D", "B"])
    assert found.c.values.tolist() == ["D", "B"]
    (expected,) = restated([pixels[[3, 1]]], **SETTINGS)
    agree(found_in([found])[0], expected)


def test_a_sigma_a_channel() -> None:
    pixels = field(1)
    found = gq.pixel_clustering_preprocess(
        da.from_array(pixels, chunks=(1, 30, 30)), q_sum=None, norm_sum=False, q_post=None, q=None,
        sigma=[1, None, 3],
    )  # fmt: skip
    expected = [ndi.gaussian_filter(p.astype("f8"), s or 0) for p, s in
                zip(pixels, (1, 0, 3), strict=True)]  # fmt: skip
    agree(found_in([found])[0], np.stack(expected))


def test_a_channel_of_zeros_stays_zero_and_is_named() -> None:
    pixels = field(1)
    pixels[1] = 0
    image = xr.DataArray(pixels, dims=tuple("cyx"), coords={"c": list("ABC")})
    with pytest.warns(ChannelWarning, match="channels B: have no pixels"):
        found = gq.pixel_clustering_preprocess(image).compute().values
    assert np.nanmax(np.abs(found[1])) == 0
    assert np.isfinite(found[[0, 2]]).any() and not np.isinf(found).any()


@pytest.mark.parametrize("value", [0.0, np.nan, 7.0])
@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 40, 40)])
def test_images_of_one_value_give_no_infinity(value: float, shape: tuple[int, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ChannelWarning)
        found = gq.pixel_clustering_preprocess(np.full(shape, value, "f4")).values
    assert found.shape == shape and not np.isinf(found).any()


def test_a_plane_without_channels() -> None:
    found = gq.pixel_clustering_preprocess(field(1)[0], norm_sum=False)
    assert found.dims == ("y", "x")
    (expected,) = restated([field(1)[:1]], **{**SETTINGS, "norm_sum": False})
    agree(found_in([found])[0], expected)


def test_the_same_bits_on_any_scheduler_and_nothing_computed_before() -> None:
    lazy = da.from_array(field(1), chunks=(1, 40, 40))
    with testing.forbid_compute():
        image = gq.pixel_clustering_preprocess(lazy)
    threads = image.compute(scheduler="threads").values
    assert threads.tobytes() == image.compute(scheduler="synchronous").values.tobytes()


@pytest.mark.parametrize(("dtype", "reads"), [("u2", 4), ("f4", 5)])
@pytest.mark.parametrize("chunk", [16, 60])
def test_reads(dtype: str, reads: int, chunk: int) -> None:
    store = testing.CountingStore(MemoryStore())
    array = zarr.create_array(store, shape=(3, 96, 96), chunks=(1, chunk, chunk), dtype=dtype)
    array[...] = field(1, dtype=dtype)
    testing.reset_reads(store)
    gq.pixel_clustering_preprocess(gq.open_image(array)).compute()
    assert set(testing.count_reads(store).values()) == {reads}


def test_writing_reads_no_more(tmp_path: Path) -> None:
    store = testing.CountingStore(MemoryStore())
    array = zarr.create_array(store, data=field(1), chunks=(1, 30, 30))
    testing.reset_reads(store)
    gq.write_image(gq.pixel_clustering_preprocess(gq.open_image(array)), tmp_path / "out.zarr")
    assert set(testing.count_reads(store).values()) == {4}
    (expected,) = restated([field(1)], **SETTINGS)
    agree(gq.open_image(tmp_path / "out.zarr").values, expected)


def test_wide_images_are_walked_in_strips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gigaqc.base.geometry.STRIP_PIXELS", 1)
    rng = np.random.default_rng(5)
    pixels = rng.poisson(rng.uniform(5, 200, (2, 30, 500))).astype("u2")
    store = testing.CountingStore(MemoryStore())
    # 25 chunks: six strips of 4 and one of 1.
    array = zarr.create_array(store, data=pixels, chunks=(1, 15, 20))
    testing.reset_reads(store)
    found = gq.pixel_clustering_preprocess(gq.open_image(array))
    gq.write_image(found, tmp_path / "out.zarr")
    reads = testing.count_reads(store)
    assert max(reads.values()) == 6 and sum(reads.values()) <= 4.5 * len(reads)
    (expected,) = restated([pixels], **SETTINGS)
    agree(gq.open_image(tmp_path / "out.zarr").values, expected)
    blurred = gq.gaussian_blur(gq.open_image(array), 2).values
    whole = gq.gaussian_blur(pixels, 2).values
    np.testing.assert_array_equal(blurred, whole)


def test_strips_share_a_source_that_they_have_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gigaqc.base.geometry.STRIP_PIXELS", 1)
    pixels = field(1, side=200)
    store = testing.CountingStore(MemoryStore())
    array = zarr.create_array(store, data=pixels, chunks=(1, 20, 200))
    testing.reset_reads(store)
    image = gq.open_image(array).chunk({"x": 10})
    blurred = gq.gaussian_blur(image, 1).compute().values
    np.testing.assert_array_equal(blurred, gq.gaussian_blur(pixels, 1).values)
    assert set(testing.count_reads(store).values()) == {1}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"q": 101}, ParameterError, "q: got 101; pass a percentile in 0..100"),
        ({"q_sum": "five"}, ParameterError, "q_sum: got 'five'"),
        ({"q_post": float("nan")}, ParameterError, "q_post: got nan"),
        ({"sigma": -1}, ParameterError, "sigma: -1"),
        ({"sigma": [1, 2]}, ParameterError, "sigma: got 2 for 3 channels"),
        ({"cap": float("inf")}, ParameterError, "cap: got inf"),
        ({"pool": "median"}, ParameterError, "pool: got 'median'; pass one of mean, exact"),
        ({"channels": ["missing"]}, ChannelError, "channels: "),
        ({"channels": []}, ChannelError, "name at least one"),
        ({"channels": [0, 0]}, ChannelError, "each once"),
    ],
)
def test_wrong_use(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gq.pixel_clustering_preprocess(field(1), **settings)


def test_lists_that_cannot_be() -> None:
    with pytest.raises(ParameterError, match="images: got an empty list"):
        gq.pixel_clustering_preprocess([])
    with pytest.raises(ChannelError, match="number 2 has"):
        gq.pixel_clustering_preprocess([field(1), field(1, channels=2)])


def counted(values: np.ndarray, window: Window) -> Counted:
    counter = Counter(window)
    for part in np.array_split(values, 3):
        counter.add(part)
    return counter.counted()


@repeatable
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.05, 0.5, 0.999, 1.0]))
def test_quantiles_of_windows(seed: int, q: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.exp(rng.normal(0, 2, 40_000)) * rng.choice([1.0, 1.0, -1.0, 0.0], 40_000)
    values[:9] = np.nan, np.inf, -np.inf, 0, 0, 0, 1, 1, 1
    sample = values[rng.random(values.size) < 0.2]
    there = values[np.isfinite(values) & (values != 0)]
    for window in ((-np.inf, np.inf), predicted_window(sample, q)):
        parts = [counted(part, window) for part in np.array_split(values, 7)]
        total = parts[0]
        for part in parts[1:]:
            total = total.merge(part)
        assert total.n == there.size
        np.testing.assert_allclose(total.quantile(q), np.quantile(there, q), rtol=2.0**-17)
    assert total.counts.sum() < 0.3 * there.size


@repeatable
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.5, 0.999]), st.integers(0, 1200))
def test_a_few_samples_predict_a_window_too(seed: int, q: float, n: int) -> None:
    """Of a channel with few pixels that are not 0, all of which would take much memory."""
    values = np.exp(np.random.default_rng(seed).normal(0, 2, 50_000))
    window = predicted_window(values[:n], q)
    total = counted(values, window)
    np.testing.assert_allclose(total.quantile(q), np.quantile(values, q), rtol=2.0**-17)
    if n > 500:
        assert total.counts.sum() < (0.75 if q == 0.5 else 0.3) * values.size


def test_values_are_counted_by_bin_before_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.exp(np.random.default_rng(0).normal(0, 1e-5, 50_000))
    expected = counted(values, (-np.inf, np.inf))
    most = []
    joined = windows._joined
    monkeypatch.setattr(windows, "_joined", lambda k, *a: most.append(k.size) or joined(k, *a))
    monkeypatch.setattr(windows, "_WAITING", 1000)
    counter = Counter((-np.inf, np.inf))
    for part in np.array_split(values, 500):
        counter.add(part)
    found = counter.counted()
    assert (found.n, found.below) == (expected.n, expected.below) == (50_000, 0)
    for name in ("keys", "counts", "low", "high"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert max(most) < 2500  # the values that wait, or the bins of two states


def test_a_window_that_misses_says_so() -> None:
    middle = counted(np.arange(1.0, 100.0), (40.0, 60.0))
    for q in (0.1, 0.9):
        with pytest.raises(StatisticsError, match="does not lie where a sample"):
            middle.quantile(q)
    assert middle.quantile(0.5) == 50.0


def test_drawn_pixels_do_not_depend_on_the_block() -> None:
    whole = np.zeros((2, 1, 50, 60), bool)
    whole[drawn_positions((3, 0, 7, 9), whole.shape, 0.2)] = True
    parts = np.zeros_like(whole)
    for t, y, x in itertools.product(range(2), (0, 20), (0, 31)):
        cut = (slice(t, t + 1), slice(None), slice(y, y + 30 if y else 20),
               slice(x, x + 31))  # fmt: skip
        own = parts[cut]
        own[drawn_positions((3 + t, 0, 7 + y, 9 + x), own.shape, 0.2)] = True
    assert (whole == parts).all()
    assert 0.17 < whole.mean() < 0.23
    assert drawn_positions((0, 0, 0, 0), (1, 1, 2, 2), 1.0)[0].size == 4


def test_the_mibi_image(data_dir: Path) -> None:
    (path,) = (data_dir / "mibi_breast_simpleseg").glob("*.tiff")
    image = gq.open_image(path).isel(c=slice(0, 8), y=slice(100, 500), x=slice(200, 700))
    found = found_in([gq.pixel_clustering_preprocess(image)])[0]
    (expected,) = restated([image.values], **SETTINGS)
    agree(found, expected)
    assert 0.1 < np.isnan(found[0]).mean() < 0.9
