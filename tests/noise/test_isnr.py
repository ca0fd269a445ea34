"""iSNR: against scikit-learn on all voxels and numpy on the labels; reads, chunks, edge cases."""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from strategies import DTYPES, Case, images, repeatable

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ChannelError, MaskError, ParameterError, StatisticsError
from gigaqc.testing.stores import CountingStore, count_reads, reset_reads

RICIAN = math.sqrt(2 - math.pi / 2)


def peer(values: np.ndarray, k: int = 3, tolerance: float = 1e-3) -> tuple[float, float]:
    """iSNR and threshold by scikit-learn on all values: the best bound of five starts."""
    return cached_peer(values.astype("f8").tobytes(), k, tolerance)


@functools.cache
def cached_peer(values: bytes, k: int, tolerance: float) -> tuple[float, float]:
    x = np.frombuffer(values, "f8")[:, None]
    options = {"n_init": 5, "max_iter": 5000, "tol": tolerance, "random_state": 0}
    model = BayesianGaussianMixture(n_components=k, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        noisy = model.fit(x).predict(x) == np.argmin(model.means_)
    return x[~noisy].mean() / x[noisy].std() * RICIAN, x[noisy].max()


def volume(dtype: str, seed: int = 0, noise: float = 12.0, unit: float = 1.0) -> np.ndarray:
    """Magnitude MRI of 12 x 30 x 40: a Rician background and two tissues."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((12, 30, 40))
    truth[2:10, 6:24, 8:32] = 250
    truth[4:8, 8:18, 14:28] = 700
    truth *= 1 + 0.1 * np.sin(np.arange(40) / 4)
    parts = rng.normal(0, noise, (2, *truth.shape))
    values = np.hypot(truth + parts[0], parts[1]) * unit
    return np.rint(values).astype(dtype) if np.dtype(dtype).kind in "iu" else values.astype(dtype)


def labelled(values: np.ndarray, chunks: object = -1) -> xr.DataArray:
    return xr.DataArray(da.from_array(values, chunks), dims=("z", "y", "x"))


# ---- what it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u2", "i2", ">i2", "i4", "f4", "f8"])
def test_scikit_learn_on_all_voxels(dtype: str) -> None:
    values = volume(dtype)
    expected, threshold = peer(values)
    found = gq.isnr(labelled(values)).compute()
    assert float(found["isnr"][0]) == pytest.approx(expected, rel=1e-2)
    assert float(found["threshold"][0]) == pytest.approx(threshold, rel=1e-2)
    assert float(found["relative_error"][0]) < 1e-3
    # What was put in: noise of 12, tissue of 250 and 700.
    assert float(found["noise"][0]) * RICIAN**-1 == pytest.approx(12, rel=0.05)


@pytest.mark.parametrize("k", [2, pytest.param(4, marks=pytest.mark.long)])
def test_scikit_learn_with_other_numbers_of_components(k: int) -> None:
    values = volume("u2", noise=20)[::2]
    found = gq.isnr(labelled(values), n_clusters=k).compute()
    expected, threshold = peer(values, k)
    assert float(found["isnr"][0]) == pytest.approx(expected, rel=1e-2)
    assert float(found["threshold"][0]) == pytest.approx(threshold, abs=1)


def test_the_unit_does_not_matter() -> None:
    whole = gq.isnr(labelled(volume("f8"))).compute()
    for unit in (1e-6, 1e7):
        found = gq.isnr(labelled(volume("f8", unit=unit))).compute()
        np.testing.assert_allclose(found["isnr"], whole["isnr"], rtol=2e-3)
        np.testing.assert_allclose(found["threshold"], whole["threshold"] * unit, rtol=2e-3)


def test_variables_and_formula() -> None:
    values = volume("u2")
    image = xr.DataArray(np.stack([values, values[::-1] * 2]), dims=tuple("czyx"))
    found = gq.isnr(image, n_clusters=4).compute()
    assert found["isnr"].dims == ("c",)
    assert found["component_mean"].dims == ("c", "component")
    assert found["component"].values.tolist() == [1, 2, 3, 4]
    assert found["converged"].values.tolist() == [True, True]
    assert found.attrs["exact"] and found.attrs["factor"] == RICIAN
    np.testing.assert_allclose(found["component_weight"].sum("component"), 1)
    assert (found["component_mean"].diff("component") > 0).all()
    np.testing.assert_allclose(found["isnr"], found["signal"] / found["noise"] * RICIAN)
    np.testing.assert_allclose(found["isnr"][1], found["isnr"][0], rtol=1e-3)
    plain = gq.isnr(image, n_clusters=4, correction=None).compute()
    np.testing.assert_allclose(plain["isnr"] * RICIAN, found["isnr"], rtol=1e-12)
    counts, edges = found["counts"].values, found["edges"].values
    assert (counts.sum(axis=1) == values.size).all()
    for own, line, channel in zip(counts, edges, image.values, strict=True):
        wide = np.flatnonzero(np.diff(line))
        expected, _ = np.histogram(channel, np.append(line[wide], line[wide[-1] + 1]))
        assert (own[wide] == expected).all() and own.sum() == own[wide].sum()


def check_against_labels(case: Case, found: xr.Dataset, labels: xr.DataArray) -> None:
    """Signal, noise and threshold as numpy has them of the pixels by their labels."""
    values = case.whole if "c" in case.whole.dims else case.whole.expand_dims("c")
    classes = labels if "c" in labels.dims else labels.expand_dims("c")
    for c in range(values.sizes["c"]):
        x = values.isel(c=c).values.astype("f8").ravel()
        own = classes.isel(c=c).values.ravel()
        finite = np.isfinite(x)
        one = found.isel(c=c)
        if not np.isfinite(one["component_mean"]).any():
            assert np.unique(x[finite]).size < 2
            assert (own == 0).all() and np.isnan(one["isnr"])
            continue
        assert ((own == 0) == ~finite).all()
        noise, signal = x[own == 1], x[own > 1]
        if not noise.size:
            assert np.isnan(one["isnr"])
            continue
        scale = np.abs(x[finite]).max()
        assert float(one["noise"]) == pytest.approx(noise.std(), rel=1e-6, abs=1e-9 * scale)
        assert noise.max() == pytest.approx(float(one["threshold"]), rel=2**-9, abs=1e-30)
        assert noise.max() <= float(one["threshold"])
        if signal.size:
            assert float(one["signal"]) == pytest.approx(signal.mean(), rel=1e-9, abs=1e-9 * scale)


@repeatable
@given(images(dtypes=DTYPES))
def test_any_chunks_and_types(case: Case) -> None:
    whole = gq.isnr(case.whole, n_clusters=3).compute()
    found = gq.isnr(case.image, n_clusters=3).compute()
    xr.testing.assert_identical(found, whole)
    labels = gq.isnr_components(case.image, n_clusters=3)
    assert labels.dims == tuple(case.dims) and labels.dtype == np.uint8
    assert labels.chunks == case.image.chunks
    check_against_labels(case, found, labels.compute())
    check_map(case, found)


def check_map(case: Case, found: xr.Dataset) -> None:
    ratios = gq.isnr_map(case.image)
    wide = np.dtype(case.dtype).kind == "f" and np.dtype(case.dtype).itemsize == 8
    assert ratios.dims == tuple(case.dims) and ratios.dtype == ("f8" if wide else "f4")
    noise = found["noise"] if "c" in case.whole.dims else found["noise"].isel(c=0, drop=True)
    with np.errstate(all="ignore"):
        expected = case.whole.astype("f8") / noise * RICIAN
        expected = expected.transpose(*case.dims).astype(ratios.dtype)
        # Where the noise is 0, 0/0 is no number; where it is rounding, neither is anything.
        np.testing.assert_allclose(ratios.values, expected.values, rtol=1e-6, atol=1e-30)


# ---- masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_a_noise_mask(dtype: str) -> None:
    values = volume(dtype)
    if dtype != "u2":
        values[0, :3] = np.nan
        values += 10_000  # an offset costs no digits
    mask = np.zeros((30, 40), bool)
    mask[:6] = True
    image = labelled(values, (7, 13, 40))
    with testing.forbid_compute():
        lazy = gq.isnr(image, noise_mask=mask)
    found = lazy.compute()
    exact = values.astype("f8")
    noise, signal = exact[:, mask], exact[:, ~mask]
    assert float(found["noise"][0]) == pytest.approx(np.nanstd(noise), rel=1e-9)
    assert float(found["signal"][0]) == pytest.approx(np.nanmean(signal), rel=1e-9)
    for name in ("threshold", "component_mean", "component_variance", "component_weight"):
        assert np.isnan(found[name]).all()
    ratios = gq.isnr_map(image, noise_mask=mask)
    np.testing.assert_allclose(ratios, exact / float(found["noise"][0]) * RICIAN, rtol=1e-6)


def test_masks_of_all_dims_and_of_nothing() -> None:
    values = volume("u2")
    mask = np.zeros(values.shape, bool)
    mask[:2] = True
    wanted = xr.DataArray(mask, dims=("z", "y", "x"))
    found = gq.isnr(labelled(values, 11), noise_mask=wanted).compute()
    assert float(found["noise"][0]) == pytest.approx(values[:2].std())
    nothing = gq.isnr(labelled(values), noise_mask=np.zeros((30, 40), bool)).compute()
    assert np.isnan(nothing["isnr"]).all() and np.isnan(nothing["noise"]).all()
    assert float(nothing["signal"][0]) == pytest.approx(values.mean())
    everything = gq.isnr(labelled(values), noise_mask=np.ones((30, 40), bool)).compute()
    assert np.isnan(everything["isnr"]).all() and not everything["converged"].any()


# ---- reads ---------------------------------------------------------------------------------------


def stored(folder: Path, dtype: str) -> zarr.Array:
    store = CountingStore(folder / "volume.zarr")
    array = zarr.create_array(store, shape=(12, 30, 40), chunks=(3, 17, 40), dtype=dtype)
    array[:] = volume(dtype)
    reset_reads(store)
    return array


def reads(array: zarr.Array) -> set[int]:
    """How often each chunk was read; all of them or none."""
    counts = count_reads(array.store)
    assert len(counts) in (0, 4 * 2)
    reset_reads(array.store)
    return set(counts.values())


@pytest.mark.same_process
@pytest.mark.parametrize("dtype", ["i2", "f4", "i4"])
def test_reads(tmp_path: Path, dtype: str) -> None:
    array = stored(tmp_path, dtype)
    image = xr.DataArray(da.from_zarr(array), dims=("z", "y", "x"))
    mask = np.zeros((30, 40), bool)
    mask[:5] = True
    with testing.forbid_compute():
        once = [gq.isnr(image), gq.isnr(image, noise_mask=mask)]
        statistics = gq.scan(image)
        beside = {"statistics": statistics}
        twice = [gq.isnr_map(image), gq.isnr_components(image), gq.isnr_map(image, noise_mask=mask)]
        lazy = [gq.isnr_map(image, **beside), gq.isnr_components(image, **beside)]
    for result in once:
        whole = result.compute()
        assert reads(array) == {1}
    labels = twice[1].compute()
    assert reads(array) == {2}
    for result in (twice[0], twice[2]):
        result.compute()
        assert reads(array) == {2}
    kept = statistics.compute()
    reads(array)
    whole = gq.isnr(kept)
    assert reads(array) == set()
    xr.testing.assert_identical(once[0].compute(), whole.compute())
    xr.testing.assert_identical(gq.isnr(statistics).compute(), whole)
    reads(array)
    xr.testing.assert_identical(gq.isnr_components(image, statistics=kept).compute(), labels)
    assert reads(array) == {1}
    np.testing.assert_array_equal(gq.isnr_map(image, statistics=kept), twice[0])
    xr.testing.assert_identical(lazy[1].compute(), labels)


def test_statistics_pooled_and_loaded(tmp_path: Path) -> None:
    first, second = volume("f4", 1), volume("f4", 2)
    scans = [gq.scan(labelled(v), quantiles=(0.123,)).compute() for v in (first, second)]
    scans[0].save(tmp_path / "s.zarr")
    pooled = gq.Statistics.load(tmp_path / "s.zarr") + scans[1]
    both = gq.isnr(labelled(np.concatenate([first, second]))).compute()
    xr.testing.assert_identical(gq.isnr(pooled), both)


def test_the_same_bits_on_any_scheduler() -> None:
    image = labelled(volume("f4"), (3, 11, 40))
    with dask.config.set(scheduler="sync"):
        expected = gq.isnr(image).compute()
    with dask.config.set(scheduler="threads", num_workers=3):
        xr.testing.assert_identical(gq.isnr(image).compute(), expected)


# ---- edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [np.zeros((4, 4)), np.full((3, 3), np.nan), np.ones((1, 1), "u1"), np.full((5, 4), 7, "i4")],
)
def test_nothing_to_tell_apart(values: np.ndarray) -> None:
    found = gq.isnr(values).compute()
    for name in ("isnr", "signal", "noise", "threshold", "component_mean"):
        assert np.isnan(found[name]).all()
    assert np.isnan(gq.isnr_map(values)).all()
    assert (gq.isnr_components(values) == 0).all()


def test_infinities_and_nan_are_left_out() -> None:
    values = volume("f4")
    expected = gq.isnr(labelled(values[2:])).compute()
    values[0], values[1, :20], values[1, 20:] = np.nan, np.inf, -np.inf
    xr.testing.assert_identical(gq.isnr(labelled(values)).compute(), expected)
    labels = gq.isnr_components(labelled(values)).values
    assert (labels[:2] == 0).all() and (labels[2:] > 0).all()


def test_a_background_of_one_value_has_no_noise() -> None:
    values = volume("u2")
    values[values < 100] = 0
    found = gq.isnr(labelled(values)).compute()
    assert float(found["noise"][0]) == 0 and np.isinf(found["isnr"]).all()
    ratios = gq.isnr_map(labelled(values)).values
    assert np.isnan(ratios[values == 0]).all() and np.isposinf(ratios[values > 0]).all()


def test_fewer_values_than_components() -> None:
    values = np.tile(np.array([[1, 3], [99, 101]], dtype="u1"), (50, 50))
    found = gq.isnr(values, n_clusters=6, correction=None).compute()
    assert np.isfinite(found["component_mean"]).sum() == 4
    assert float(gq.isnr(values, n_clusters=2, correction=None)["isnr"][0]) == 100
    two = gq.isnr(np.tile(np.array([[0, 7]], "u2"), (9, 9)), n_clusters=3).compute()
    assert np.isnan(two["component_mean"][0, 2]) and np.isposinf(two["isnr"]).all()


def test_channels_are_apart() -> None:
    values = volume("f4")[10]
    image = np.stack([values, np.full_like(values, np.nan), values * 3, np.zeros_like(values)])
    found = gq.isnr(image).compute()
    np.testing.assert_allclose(found["isnr"][2], found["isnr"][0], rtol=1e-3)
    assert np.isnan(found["isnr"][[1, 3]]).all()
    labels = gq.isnr_components(image).values
    assert (labels[[1, 3]] == 0).all() and (labels[0] > 0).all()


# ---- errors --------------------------------------------------------------------------------------

IMAGE = np.arange(64, dtype="u2").reshape(8, 8)


@pytest.mark.parametrize("k", [1, 7, 2.5, "3", None, True])
@pytest.mark.parametrize("function", [gq.isnr, gq.isnr_map, gq.isnr_components])
def test_numbers_of_clusters_that_there_are_not(function: object, k: object) -> None:
    with pytest.raises(ParameterError, match=r"n_clusters: got .* from 2 to 6"):
        function(IMAGE, n_clusters=k)  # type: ignore[operator]


def test_errors() -> None:
    statistics = gq.scan(IMAGE).compute()
    with pytest.raises(ParameterError, match=r"correction: got 'rayleigh'; pass 'rician'"):
        gq.isnr(IMAGE, correction="rayleigh")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="noise_mask: Statistics hold no pixels"):
        gq.isnr(statistics, noise_mask=np.ones((8, 8), bool))
    with pytest.raises(MaskError, match="noise_mask: dtype"):
        gq.isnr(IMAGE, noise_mask=np.ones((8, 8)))
    with pytest.raises(MaskError, match=r"noise_mask: dims .* do not fit"):
        gq.isnr_map(IMAGE, noise_mask=np.ones((8, 9), bool))
    with pytest.raises(StatisticsError, match="hold no pixels; isnr_map"):
        gq.isnr_map(statistics)
    with pytest.raises(StatisticsError, match="hold no pixels; isnr_components"):
        gq.isnr_components(statistics)
    with pytest.raises(ParameterError, match="statistics: they hold no pixels for noise_mask"):
        gq.isnr_map(IMAGE, noise_mask=np.ones((8, 8), bool), statistics=statistics)
    with pytest.raises(ChannelError, match="statistics: of channels"):
        gq.isnr_map(np.stack([IMAGE, IMAGE]), statistics=statistics)


# ---- real volumes --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Volume:
    """A file, and what scikit-learn 1.9 says of all its voxels (three components, five starts).

    Where `tolerance` is not its default, that stops before it has converged: from five starts of
    the volume without background it says 4.91 to 5.18, and 5.369 to 5.379 when it goes on.
    """

    path: str
    isnr: float
    threshold: float
    tolerance: float = 1e-3


KIDNEY = "mri_kidney_ukat/00720__Magnitude_ims__B0_map_dual_echo_e{}.nii.gz"
VOLUMES = (
    Volume("mri_nibabel/functional.nii", 5.36874, 2583.4, tolerance=1e-7),
    Volume("mri_nibabel/anatomical.nii", 3.58179, 16253),
    Volume("mri_nibabel/example4d.nii.gz", 50383.8, 2),
    Volume("mri_spinalcord_sct/t2.nii.gz", 6.43452, 111),
    Volume("mri_spinalcord_sct/t1w.nii.gz", 8.66086, 103),
    Volume("mri_spinalcord_sct/fmri.nii.gz", 5.8977, 174),
    Volume("mri_epi_dcmqa/ax_asc_36sl_9.nii", 40.1704, 42),
    Volume("mri_epi_dcmqa/ax_asc_36sl_11.nii", 41.5440, 41),
    Volume("mri_epi_dcmqa/noPF_noPAT_noPOS_PEres100_ES0p59_BW2222_AP_8.nii", 50.7243, 391),
    Volume(KIDNEY.format(1), 36.5710, 63),
    Volume(KIDNEY.format(2), 50.4637, 55),
)


@pytest.mark.parametrize("known", VOLUMES, ids=lambda v: v.path)
def test_volumes_that_scikit_learn_was_asked_of_before(data_dir: Path, known: Volume) -> None:
    found = gq.isnr(gq.open_image(data_dir / known.path)).compute()
    assert float(found["isnr"][0]) == pytest.approx(known.isnr, rel=1e-2)
    assert float(found["threshold"][0]) == pytest.approx(known.threshold, rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("known", VOLUMES, ids=lambda v: v.path)
def test_volumes_by_scikit_learn(data_dir: Path, known: Volume) -> None:
    image = gq.open_image(data_dir / known.path)
    expected, threshold = peer(image.values.ravel(), tolerance=known.tolerance)
    found = gq.isnr(image).compute()
    assert float(found["isnr"][0]) == pytest.approx(expected, rel=1e-2)
    assert float(found["threshold"][0]) == pytest.approx(threshold, rel=1e-2)
