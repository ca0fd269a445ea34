"""`cluster_pixels`: samples, models and labels in any chunks, against scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from strategies import repeatable
from zarr.storage import MemoryStore

import gigaqc as gq
from gigaqc import testing
from gigaqc.clusters.model import mixture_of, nearest_of
from gigaqc.errors import ChannelError, ImageError, ParameterError, ReadError, WriteError
from gigaqc.kernels.pixels import most_probable

METHODS = ("gmm", "kmeans", "flowsom")


def blobs(seed: int = 0, side: int = 60, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """An image of four kinds of pixels, and which is which."""
    rng = np.random.default_rng(seed)
    levels = np.random.default_rng(9).uniform(50, 1000, (4, channels))
    rows, columns = np.indices((side, side))
    kind = (rows > side // 2) * 2 + (columns > side // 3)
    pixels = levels[kind] + rng.normal(0, 12, (side, side, channels))
    return np.moveaxis(pixels, -1, 0).clip(0).astype("f4"), kind


@pytest.mark.parametrize("method", METHODS)
def test_kinds_of_pixels_are_found(method: Any) -> None:
    image, kind = blobs()
    found = gq.cluster_pixels(image, 4, method=method, fraction=0.3)
    assert found.labels.dims == ("y", "x") and found.labels.dtype == np.uint8
    assert adjusted_rand_score(kind.ravel(), found.labels.values.ravel()) == 1.0
    brightness = found.profile.mean(axis=1)
    assert brightness.is_monotonic_increasing
    np.testing.assert_array_equal(found.profile.index, [1, 2, 3, 4])


@pytest.mark.parametrize("method", METHODS)
def test_profile_is_the_mean_of_all_labelled_pixels(method: Any) -> None:
    image, _ = blobs()
    image[1, 3:9] = np.nan
    lazy = xr.DataArray(da.from_array(image, chunks=(2, 25, 17)), dims=tuple("cyx"),
                        coords={"c": list("ABC")})  # fmt: skip
    found = gq.cluster_pixels(lazy, 4, method=method)
    labels = found.labels.values
    assert (labels[3:9] == 0).all() and (labels[9:] > 0).all()
    for cluster in range(1, 5):
        inside = labels == cluster
        assert found.sizes[cluster] == inside.sum()
        np.testing.assert_allclose(
            found.profile.loc[cluster], image[:, inside].mean(axis=1, dtype="f8"), rtol=1e-12
        )


@repeatable
@given(st.data(), st.sampled_from(METHODS))
def test_no_chunking_changes_anything(data: st.DataObject, method: Any) -> None:
    image, _ = blobs(side=40)
    chunks = tuple(data.draw(st.integers(max(1, n // 4), n + 3)) for n in image.shape)
    whole = gq.cluster_pixels(image, 3, method=method, fraction=0.2)
    parts = gq.cluster_pixels(da.from_array(image, chunks=chunks), 3, method=method, fraction=0.2)
    assert whole.sample.tobytes() == parts.sample.tobytes()
    assert whole.model.centres.tobytes() == parts.model.centres.tobytes()
    assert (whole.labels.values == parts.labels.values).all()


def test_mixtures_predict_as_scikit_learn() -> None:
    image, _ = blobs(side=80)
    found = gq.cluster_pixels(image, 4, fraction=1)
    pixels = image.reshape(3, -1).T.astype("f8")
    assert (np.sort(found.sample, axis=0) == np.sort(pixels, axis=0)).all()
    mixture = mixture_of(found.sample, 4, 0)
    expected = found.model.labels[mixture.predict(pixels)].reshape(80, 80)
    np.testing.assert_array_equal(found.labels.values, expected)


@pytest.mark.parametrize("method", ["gmm", "kmeans"])
def test_a_sample_does_as_well_as_all_pixels(method: Any) -> None:
    image, _ = blobs(side=100)
    found = gq.cluster_pixels(image, 4, method=method, fraction=0.1)
    pixels = image.reshape(3, -1).T
    reference: Any = {"gmm": GaussianMixture, "kmeans": KMeans}[method](4, random_state=1)
    assert adjusted_rand_score(reference.fit_predict(pixels), found.labels.values.ravel()) > 0.99


@repeatable
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 7), st.integers(1, 700))
def test_kernels(seed: int, channels: int, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    pixels, means = rng.normal(size=(channels, n)), rng.normal(size=(k, channels))
    factors = np.triu(rng.normal(size=(k, channels, channels)))
    offsets = rng.normal(size=k)
    found = np.empty(n, "i8")
    most_probable(pixels, means, factors, offsets, found)
    lines = np.einsum("knc,kcd->knd", pixels.T - means[:, None], factors)
    scores = offsets[:, None] - 0.5 * (lines**2).sum(axis=-1)
    best = scores.max(axis=0)
    np.testing.assert_allclose(scores[found, np.arange(n)], best, rtol=1e-12, atol=1e-12)
    distances = ((pixels.T[None] - means[:, None]) ** 2).sum(axis=-1)
    near = nearest_of(pixels.T, means)
    np.testing.assert_allclose(distances[near, np.arange(n)], distances.min(axis=0), rtol=1e-12)


def test_several_fields_get_one_model() -> None:
    fields = [blobs(k, side)[0] for k, side in enumerate((50, 64))]
    found = gq.cluster_pixels([da.from_array(f, chunks=(1, 20, 30)) for f in fields], 4)
    assert [lab.shape for lab in found.labels] == [(50, 50), (64, 64)]
    kinds = [blobs(k, side)[1].ravel() for k, side in enumerate((50, 64))]
    labels = [lab.values.ravel() for lab in found.labels]
    assert adjusted_rand_score(np.concatenate(kinds), np.concatenate(labels)) == 1.0
    assert found.sizes.sum() == 50 * 50 + 64 * 64


def test_masks() -> None:
    image, kind = blobs()
    inside = np.zeros((60, 60), bool)
    inside[10:50, 20:] = True
    found = gq.cluster_pixels(da.from_array(image, chunks=(1, 7, 60)), 4, mask=inside)
    labels = found.labels.values
    assert labels.dtype == np.uint8 and ((labels > 0) == inside).all()
    assert found.sizes.sum() == inside.sum()
    assert adjusted_rand_score(kind[inside], labels[inside]) > 0.99
    lists = gq.cluster_pixels([image, image], 4, mask=[inside, None])
    assert (lists.labels[1].values > 0).all() and (lists.labels[0].values == labels).mean() > 0.99


def test_only_positive_pixels() -> None:
    image, _ = blobs()
    image[0, :, :5], image[2, :5] = 0, -1
    found = gq.cluster_pixels(image, 3, mask="positive")
    assert ((found.labels.values > 0) == (image > 0).all(axis=0)).all()


def test_a_model_is_kept_and_labels_other_images(tmp_path: Path) -> None:
    (image, _), (other, kind) = blobs(0), blobs(1, 70)
    for method in METHODS:
        found = gq.cluster_pixels(image, 4, method=method)  # type: ignore[arg-type]
        path = tmp_path / f"{method}.npz"
        found.model.save(path)
        with pytest.raises(WriteError, match="overwrite=True"):
            found.model.save(path)
        found.model.save(path, overwrite=True)
        kept = gq.PixelModel.load(path)
        assert kept.method == method and kept.n_clusters == 4
        labels = kept.predict(other)
        np.testing.assert_array_equal(labels.values, found.model.predict(other).values)
        assert adjusted_rand_score(kind.ravel(), labels.values.ravel()) == 1.0
    assert len(list(tmp_path.iterdir())) == 3


def test_a_model_finds_its_channels_by_name(tmp_path: Path) -> None:
    image, _ = blobs()
    named = xr.DataArray(image, dims=tuple("cyx"), coords={"c": list("ABC")})
    model = gq.cluster_pixels(named, 4, channels=["C", "A"]).model
    assert model.channels == ("C", "A")
    turned = model.predict(named.isel(c=[2, 1, 0])).values
    np.testing.assert_array_equal(turned, model.predict(named).values)
    with pytest.raises(ChannelError, match="was trained on"):
        model.predict(named.isel(c=[1, 2]))
    (tmp_path / "no.npz").write_bytes(b"nothing")
    for name in ("no.npz", "missing.npz"):
        with pytest.raises(ReadError, match="is no model"):
            gq.PixelModel.load(tmp_path / name)
    with pytest.raises(WriteError, match="could not be written"):
        model.save(tmp_path / "nowhere" / "model.npz")


def test_planes_series_and_stacks() -> None:
    image, kind = blobs()
    plane = gq.cluster_pixels(image[0], 2, method="kmeans")
    assert plane.labels.dims == ("y", "x")
    series = np.stack([image, image[:, ::-1]])
    lazy = da.from_array(series, chunks=(1, 2, 33, 60))
    found = gq.cluster_pixels(xr.DataArray(lazy, dims=tuple("tcyx")), 4)
    assert found.labels.dims == ("t", "y", "x")
    expected = np.stack([kind, kind[::-1]])
    assert adjusted_rand_score(expected.ravel(), found.labels.values.ravel()) == 1.0


def test_labels_are_lazy_and_chunks_are_read_three_times() -> None:
    store = testing.CountingStore(MemoryStore())
    array = zarr.create_array(store, data=blobs()[0], chunks=(1, 25, 25))
    testing.reset_reads(store)
    found = gq.cluster_pixels(gq.open_image(array), 4)
    assert set(testing.count_reads(store).values()) == {2}
    with testing.forbid_compute():
        again = found.model.predict(gq.open_image(array))
    with dask.config.set(scheduler="sync"):
        labels = again.compute()
    np.testing.assert_array_equal(labels.values, found.labels.values)
    assert set(testing.count_reads(store).values()) == {4}


def test_many_clusters_need_a_wider_type() -> None:
    image = np.arange(300.0).repeat(4).reshape(1, 30, 40)
    found = gq.cluster_pixels(image, 300, method="kmeans", fraction=1)
    assert found.labels.dtype == np.uint16 and found.labels.values.max() == 300


def test_choosing_the_number() -> None:
    image, _ = blobs()
    table = gq.choose_n_clusters(image, range(2, 7), fraction=1)
    assert table.index.tolist() == [2, 3, 4, 5, 6] and table["bic"].idxmin() == 4
    inertia = gq.choose_n_clusters(image, [1, 2, 4], method="kmeans")["inertia"]
    assert inertia.is_monotonic_decreasing
    pixels = image.reshape(3, -1).T.astype("f8")
    spread = ((pixels - pixels.mean(axis=0)) ** 2).sum()
    whole = gq.choose_n_clusters(image, [1], method="kmeans", fraction=1)["inertia"]
    np.testing.assert_allclose(whole.iloc[0], spread, rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_clusters": 0}, ParameterError, "n_clusters: got 0"),
        ({"n_clusters": 2.5}, ParameterError, "n_clusters: got 2.5; pass a whole number"),
        ({"method": "dbscan"}, ParameterError, "method: got 'dbscan'; pass one of gmm"),
        ({"fraction": 0}, ParameterError, "fraction: got 0; pass a number above 0"),
        ({"fraction": 1.5}, ParameterError, "fraction: got 1.5"),
        ({"seed": -1}, ParameterError, "seed: got -1"),
        ({"mask": "negative"}, ParameterError, "mask: got 'negative'"),
        ({"channels": ["missing"]}, ChannelError, "channels: "),
        ({"n_clusters": 5000}, ImageError, "too few different ones for 5000 clusters"),
    ],
)
def test_wrong_use(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gq.cluster_pixels(blobs()[0], **{"n_clusters": 3, **settings})


def test_images_that_cannot_be_clustered() -> None:
    with pytest.raises(ParameterError, match="images: got an empty list"):
        gq.cluster_pixels([], 2)
    with pytest.raises(ParameterError, match="mask: got 1 for 2 images"):
        gq.cluster_pixels([blobs()[0]] * 2, 2, mask=[None])
    for value in (np.nan, 0.0, 7.0):
        with pytest.raises(ImageError, match="too few different ones"):
            gq.cluster_pixels(np.full((2, 9, 9), value), 2)
    with pytest.raises(ParameterError, match="candidates: got"):
        gq.choose_n_clusters(blobs()[0], [])


def test_seeds_and_fields_draw_other_pixels() -> None:
    image, _ = blobs()
    samples = [gq.cluster_pixels(image, 2, seed=s).sample for s in (0, 0, 1)]
    assert samples[0].tobytes() == samples[1].tobytes() != samples[2].tobytes()
    assert abs(len(samples[0]) - 360) < 90
    capped = gq.cluster_pixels(image, 2, fraction=1, max_pixels=100).sample
    assert 50 < len(capped) < 150
    both = gq.cluster_pixels([image, image], 2).sample
    assert both[: len(samples[0])].tobytes() == samples[0].tobytes()
    assert both[len(samples[0]) :].tobytes() != samples[0].tobytes()


def test_dna_and_actin_of_ht29_cells(data_dir: Path) -> None:
    image = gq.open_image(data_dir / "fluorescence_ht29_examplehuman").isel(c=[0, 2])
    found = gq.cluster_pixels(image, 2, mask="positive", fraction=0.3)
    pixels = image.values.reshape(2, -1).T.astype("f8")
    assert (pixels > 0).all()
    reference = GaussianMixture(2, random_state=0).fit(pixels).predict(pixels)
    assert adjusted_rand_score(reference, found.labels.values.ravel()) > 0.95
