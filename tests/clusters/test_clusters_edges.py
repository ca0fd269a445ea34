"""`cluster_pixels` at its edges: huge values, masks by channel, units, limits, damaged files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

import gigaqc as gq
from gigaqc import testing
from gigaqc.clusters.model import mixture_of
from gigaqc.errors import ParameterError, ReadError
from gigaqc.kernels import pixels

IMAGE = np.random.default_rng(0).uniform(1, 100, (3, 40, 50))


@pytest.mark.parametrize("method", ["gmm", "kmeans", "flowsom"])
def test_values_whose_squares_overflow_get_a_label(method: Any) -> None:
    image = np.random.default_rng(3).uniform(1, 100, (2, 200, 200))
    model = gq.cluster_pixels(image, 2, method=method).model
    expected = model.predict(image).values
    image[:, 150:] = 1e200
    labels = model.predict(image).values
    np.testing.assert_array_equal(labels[:150], expected[:150])
    assert len(np.unique(labels[150:])) == 1 and labels[150, 0] in (1, 2)


def test_kernels_set_all_of_their_result() -> None:
    huge, centres = np.full((2, 300), 1e200), np.zeros((3, 2))
    found = np.full(300, -7)
    pixels.nearest(huge, centres, found)
    assert (found == 0).all()
    found[:] = -7
    pixels.most_probable(huge, centres, np.stack([np.eye(2)] * 3), np.zeros(3), found)
    assert (found == 0).all()


def test_a_mask_by_channel_counts_where_all_of_it_does() -> None:
    mask = np.ones(IMAGE.shape, bool)
    mask[2, :15] = False
    given = xr.DataArray(mask, dims=tuple("cyx"))
    found = gq.cluster_pixels(da.from_array(IMAGE, chunks=(1, 13, 50)), 2, mask=given)
    np.testing.assert_array_equal(found.labels.values > 0, mask.all(axis=0))
    assert found.sizes.sum() == mask.all(axis=0).sum()


def test_the_units_of_a_channel_do_not_hide_it_from_a_mixture() -> None:
    rng = np.random.default_rng(1)
    kind = np.repeat([0, 1], 1800).reshape(60, 60)
    dim = np.where(kind, 0.8, 0.2) + rng.normal(0, 0.03, kind.shape)
    image = np.stack([rng.normal(5e4, 2e4, kind.shape), dim])
    labels = gq.cluster_pixels(image, 2, fraction=1).labels.values
    assert adjusted_rand_score(kind.ravel(), labels.ravel()) > 0.99


def test_a_mixture_has_the_units_of_the_sample() -> None:
    rng = np.random.default_rng(2)
    kind = rng.integers(0, 3, 3000)
    sample = rng.normal(0, [3, 40], (3000, 2)) + np.array([[0, 0], [50, 900], [100, -700]])[kind]
    ours, reference = mixture_of(sample, 3, 0), GaussianMixture(3, random_state=0).fit(sample)
    assert adjusted_rand_score(ours.predict(sample), reference.predict(sample)) == 1.0
    order, other = np.argsort(ours.means_[:, 0]), np.argsort(reference.means_[:, 0])
    np.testing.assert_allclose(ours.means_[order], reference.means_[other], rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(
        ours.covariances_[order], reference.covariances_[other], rtol=1e-2, atol=0.5
    )
    identity = np.broadcast_to(np.eye(2), (3, 2, 2))
    np.testing.assert_allclose(ours.covariances_ @ ours.precisions_, identity, atol=1e-9)
    np.testing.assert_allclose(ours.bic(sample), reference.bic(sample), rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "flowsom", "n_clusters": 101}, "n_clusters: got 101; .* 1 to 100"),
        ({"seed": 1 << 32}, "seed: got 4294967296; pass a whole number of 0 to"),
        ({"max_pixels": 0}, "max_pixels: got 0"),
        ({"max_pixels": -5}, "max_pixels: got -5"),
    ],
)
def test_limits_are_told_before_pixels_are_read(settings: dict[str, Any], message: str) -> None:
    lazy = da.from_array(IMAGE, chunks=(1, 20, 50))
    with testing.forbid_compute(), pytest.raises(ParameterError, match=message):
        gq.cluster_pixels(lazy, **{"n_clusters": 2, **settings})


def test_a_sample_has_no_more_pixels_than_it_may() -> None:
    for seed in range(12):
        whole = gq.cluster_pixels(
            IMAGE, 2, method="kmeans", fraction=1, max_pixels=100, seed=seed
        ).sample
        assert 50 < len(whole) <= 100
    parts = gq.cluster_pixels(
        da.from_array(IMAGE, chunks=(2, 17, 11)), 2, method="kmeans", fraction=1, max_pixels=100,
        seed=11,
    ).sample  # fmt: skip
    assert whole.tobytes() == parts.tobytes()


def test_damaged_files_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    gq.cluster_pixels(IMAGE, 2, method="kmeans").model.save(path)
    good, plain = path.read_bytes(), io.BytesIO()
    np.save(plain, np.zeros(3))
    changed = bytearray(good)
    changed[len(good) // 3] ^= 255
    for damaged in (good[: len(good) // 2], b"", bytes(changed), plain.getvalue()):
        path.write_bytes(damaged)
        with pytest.raises(ReadError, match="is no model"):
            gq.PixelModel.load(path)
