"""Pictures of clusters: what they show, of results of any size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gigaqc as gq
from gigaqc.errors import ParameterError


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def found() -> Any:
    image = np.zeros((3, 40, 60), "u2")
    image[0, :, 20:], image[1, :, 40:] = 50, 90
    return gq.cluster_pixels(image, 3, method="kmeans", fraction=1)


def test_a_map_has_a_colour_a_cluster(found: Any) -> None:
    ax = gq.pl.clusters(found.labels)
    (image,) = ax.get_images()
    assert len(np.unique(image.get_array().reshape(-1, 4), axis=0)) == 3
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["1", "2", "3"]
    assert ax.get_xlim() == (0, 60) and ax.get_ylim() == (40, 0)


def test_fields_of_one_model_share_colours_and_names() -> None:
    few, many = np.array([[0, 1], [1, 2]]), np.arange(16).reshape(4, 4)
    own = gq.pl.clusters(few, n_clusters=15)
    of_all = gq.pl.clusters(many, n_clusters=15)
    (first,), (second,) = own.get_images(), of_all.get_images()
    np.testing.assert_array_equal(first.get_array()[1, 1], second.get_array()[0, 2])
    assert len(own.get_legend().get_texts()) == 15
    assert gq.pl.clusters(few, legend=False).get_legend() is None
    with pytest.raises(ParameterError, match="label 15"):
        gq.pl.clusters(many, n_clusters=5)


def test_results_side_by_side_by_method_and_number(found: Any) -> None:
    image = np.zeros((3, 40, 60), "u2")
    image[0, :, 20:], image[1, :, 40:] = 50, 90
    made = [
        gq.cluster_pixels(image, n, method=method, fraction=1)
        for method, n in (("kmeans", 3), ("gmm", 2), ("kmeans", 2))
    ]
    axes = gq.pl.clusterings(made)
    assert [a.get_title() for a in axes] == [
        "kmeans, 3 clusters", "gmm, 2 clusters", "kmeans, 2 clusters"
    ]  # fmt: skip
    grid = [a.get_subplotspec() for a in axes]
    assert [(s.rowspan.start, s.colspan.start) for s in grid] == [(0, 1), (1, 0), (0, 0)]
    (legend,) = axes[0].figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["1", "2", "3"]
    for ax, result in zip(axes, made, strict=True):  # as one map of its own draws them
        alone = gq.pl.clusters(result.labels, n_clusters=3)
        (shown,), (expected,) = ax.get_images(), alone.get_images()
        np.testing.assert_array_equal(shown.get_array(), expected.get_array())
        assert ax.get_xlim() == (0, 60) and ax.get_ylim() == (40, 0)


def test_results_side_by_side_by_title(found: Any) -> None:
    large = np.zeros((2, 3000, 2000), "u2")
    large[0, 1500:] = 5
    axes = gq.pl.clusterings({"by gigaqc": found, "by $hand$": large, "3": found.labels})
    assert [a.get_title() for a in axes] == ["by gigaqc", r"by \$hand\$", "3"]
    assert axes[1].get_images()[0].get_array().shape[:2] == (1000, 667)
    assert axes[1].get_ylim() == (3000, 0)
    assert len(axes[0].figure.legends[0].get_texts()) == 5
    many = gq.pl.clusterings([found] * 5)  # the same method and number: in their order
    assert [a.get_subplotspec().rowspan.start for a in many] == [0, 0, 0, 0, 1]
    assert sum(not a.axison for a in many[0].figure.axes) == 3


def test_results_of_several_images() -> None:
    fields = [np.full((2, 9, 8), 3, "u1"), np.full((2, 9, 8), 7, "u1")]
    both = gq.cluster_pixels(fields, 2, method="kmeans", fraction=1)
    first, second = (
        gq.pl.clusterings([both], image=k)[0].get_images()[0].get_array()[0, 0] for k in (0, 1)
    )
    assert (first != second).any()
    with pytest.raises(ParameterError, match="image: got 2, but the result has 2 images"):
        gq.pl.clusterings([both], image=2)
    with pytest.raises(ParameterError, match="found: got none"):
        gq.pl.clusterings([])
    for wrong in ({"a": 5}, {"a": np.zeros((4, 4))}, {"a": "labels"}):
        with pytest.raises(ParameterError, match=r"found: got .*; pass results of"):
            gq.pl.clusterings(wrong)


def test_what_has_no_label_is_white_and_large_maps_are_thinned() -> None:
    labels = np.zeros((1, 3000, 2000), "u2")
    labels[:, 1500:] = 33
    (image,) = gq.pl.clusters(labels).get_images()
    shown = image.get_array()
    assert shown.shape[:2] == (1000, 667) and (shown[0] == 1).all() and (shown[-1] != 1).any()
    (nothing,) = gq.pl.clusters(np.zeros((5, 5), "u1")).get_images()
    assert (nothing.get_array() == 1).all()


def test_profiles(found: Any) -> None:
    ax = gq.pl.cluster_profile(found.profile, standardize=False)
    np.testing.assert_array_equal(ax.get_images()[0].get_array(), found.profile.to_numpy())
    scores = gq.pl.cluster_profile(found.profile).get_images()[0].get_array()
    np.testing.assert_allclose(scores[:, :2].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scores[:, :2].std(axis=0), 1)
    assert (scores[:, 2] == 0).all()  # a channel that is the same everywhere


def test_scatter(found: Any) -> None:
    ax = gq.pl.cluster_scatter(found, 0, 1)
    points = ax.collections[0]
    assert len(points.get_offsets()) == 2400
    assert len(np.unique(points.get_facecolors(), axis=0)) == 3


def test_choice() -> None:
    table = pd.DataFrame({"bic": [9.0, 2.0, 4.0]}, index=pd.Index([2, 3, 4], name="n_clusters"))
    ax = gq.pl.cluster_choice(table)
    assert ax.get_legend().get_texts()[0].get_text() == "best: 3"
    bend = gq.pl.cluster_choice(table.rename(columns={"bic": "inertia"}))
    assert bend.get_ylabel() == "inertia" and bend.get_legend() is None


def test_before_and_after(found: Any) -> None:
    image = np.random.default_rng(0).poisson(30, (2, 40, 40)).astype("u2")
    counts = [gq.histogram(i).compute() for i in (image, gq.arcsinh(image))]
    left, right = gq.pl.before_after(*counts, channel=0)
    assert left.get_title() == "before" and right.get_title() == "after"
    assert left.get_xlim() == (image[0].min(), image[0].max() + 1)
    assert right.get_xlim()[1] < 5
