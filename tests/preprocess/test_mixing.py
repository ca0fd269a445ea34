"""Which settings let a channel, a field of view or a pixel know of others, and which do not."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import gigaqc as gq
from gigaqc.errors import ChannelWarning

SIDE = 48
NO_PERCENTILES: dict[str, Any] = {"q": None, "q_sum": None, "q_post": None}


def field(seed: int, scale: float = 1.0) -> np.ndarray:
    """Three channels of counts, most of them above 0."""
    rng = np.random.default_rng(seed)
    levels = scale * rng.uniform(5, 90, (3, 1, 1)) * (1 + np.arange(SIDE) / SIDE)
    return rng.poisson(levels, (3, SIDE, SIDE)).astype("u2")


FIRST, SECOND, OTHER = field(0), field(1), field(2, scale=3)


def prepared(images: Any, **settings: Any) -> list[np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ChannelWarning)
        return [r.values for r in gq.pixel_clustering_preprocess(images, **settings)]


@pytest.mark.parametrize(
    "settings, mixes",
    [
        ({}, True),
        ({"norm_sum": False}, True),  # step 4 leaves out pixels by the sum of all channels
        ({"q_sum": None}, True),  # step 5 divides by it
        ({"norm_sum": False, "q_sum": None}, False),
        ({**NO_PERCENTILES, "norm_sum": True}, True),
    ],
)
def test_channels(settings: dict[str, Any], mixes: bool) -> None:
    others = FIRST.copy()
    others[1:] = OTHER[1:]
    (one,), (two,) = (prepared([image], **settings) for image in (FIRST, others))
    assert mixes != np.array_equal(one[0], two[0], equal_nan=True)


def test_a_pixel_that_is_nan_in_one_channel_is_nan_in_all() -> None:
    image = FIRST.astype("f4")
    image[1, 20, 20] = np.nan
    settings: dict[str, Any] = {"norm_sum": False, "q_sum": None, "sigma": 0}
    (found,) = prepared([image], **settings)
    assert np.isnan(found[:, 20, 20]).all() and np.isnan(found).sum() == 3


@pytest.mark.parametrize("pool", ["mean", "exact"])
@pytest.mark.parametrize(
    "settings, mixes",
    [
        ({}, True),
        ({"q_sum": None, "q_post": None}, True),
        ({"q": None, "q_sum": 40, "q_post": None, "norm_sum": False}, True),
        ({"q": None, "q_sum": None}, True),
        (NO_PERCENTILES, False),
    ],
)
def test_fields_of_one_call(pool: Any, settings: dict[str, Any], mixes: bool) -> None:
    one, _ = prepared([FIRST, SECOND], pool=pool, **settings)
    two, _ = prepared([FIRST, OTHER], pool=pool, **settings)
    assert mixes != np.array_equal(one, two, equal_nan=True)
    (alone,) = prepared([FIRST], pool=pool, **settings)
    assert mixes != np.array_equal(one, alone, equal_nan=True)


def test_only_exact_lets_a_large_field_count_more() -> None:
    """Percentiles of step 1 are exact: a field that is there twice is seen twice by one only."""
    settings: dict[str, Any] = {"q_sum": None, "q_post": None, "norm_sum": False, "sigma": 0}
    large = np.concatenate([OTHER, OTHER], axis=2)
    for pool, changes in (("mean", False), ("exact", True)):
        one, _ = prepared([FIRST, OTHER], pool=pool, **settings)
        two, _ = prepared([FIRST, large], pool=pool, **settings)
        assert changes != np.allclose(one, two, rtol=1e-6)


def test_a_blur_reaches_over_a_border() -> None:
    """Pixels to the right of a border change those that are at most int(4 sigma + 0.5) from it."""
    border, reach = SIDE // 2, 8  # of sigma 2
    changed = FIRST.copy()
    changed[..., border:] = OTHER[..., border:]
    for sigma, depth in ((2, reach), (0, 0)):
        settings = {**NO_PERCENTILES, "sigma": sigma}
        (one,), (two,) = (prepared([image], **settings) for image in (FIRST, changed))
        same = (one == two).all(axis=(0, 1))
        assert same[: border - depth].all() and not same[border - depth : border].any()
    apart = [prepared([image[..., :border]])[0] for image in (FIRST, changed)]
    np.testing.assert_array_equal(*apart)  # cut before anything is computed


@pytest.mark.parametrize("method", ["gmm", "kmeans", "flowsom"])
def test_a_model_of_all_fields_and_one_of_some(method: Any) -> None:
    options: dict[str, Any] = {"method": method, "fraction": 0.5}
    train = [FIRST, SECOND]
    found = gq.cluster_pixels(train, 6, **options)
    together = gq.cluster_pixels([*train, OTHER], 6, **options)
    assert not np.array_equal(together.model.centres, found.model.centres)
    assert not np.array_equal(together.labels[0], found.labels[0])
    assert together.sizes.sum() == 3 * SIDE**2  # profile and sizes too are of all that were given
    np.testing.assert_array_equal(found.model.predict(FIRST), found.labels[0])
    assert not np.array_equal(found.model.predict(OTHER), together.labels[2])


def test_a_mask_keeps_pixels_out_of_training() -> None:
    left = np.zeros((SIDE, SIDE), bool)
    left[:, : SIDE // 2] = True
    changed = FIRST.copy()
    changed[..., SIDE // 2 :] = OTHER[..., SIDE // 2 :]
    one, two = (gq.cluster_pixels(i, 3, mask=left, fraction=0.5) for i in (FIRST, changed))
    np.testing.assert_array_equal(one.model.centres, two.model.centres)
    np.testing.assert_array_equal(one.labels.values[left], two.labels.values[left])
    assert not one.labels.values[~left].any()
    assert one.model.predict(FIRST).values[~left].all()


def test_what_a_field_gives_to_the_sample() -> None:
    """By `fraction` it is its own affair; once `max_pixels` binds, other fields take of it."""
    large = np.tile(OTHER, (1, 3, 3))
    own = gq.cluster_pixels(FIRST, 2, method="kmeans", fraction=0.2).sample

    def of_first(**settings: Any) -> np.ndarray:
        sample = gq.cluster_pixels([FIRST, large], 2, method="kmeans", **settings).sample
        return sample[: len(own)]

    np.testing.assert_array_equal(of_first(fraction=0.2), own)
    assert not np.array_equal(of_first(fraction=0.2, max_pixels=1000), own)
