"""The picture of a photon-transfer curve says what was found, or why nothing was."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pytest
import xarray as xr

import gigaqc as gq

matplotlib.use("Agg")
LIGHT = np.geomspace(50, 2000, 60 * 60).reshape(60, 60)
FRAMES = (np.random.default_rng(0).poisson(LIGHT, (40, 60, 60)) // 2 + 100).astype("u2")


def drawn(frames: np.ndarray, **options: Any) -> Any:
    ax = gq.pl.photon_transfer(gq.gain_map(frames, dims="tyx", **options))
    ax.figure.canvas.draw()
    return ax


def told(ax: Any) -> float:
    """The gain in the title."""
    word, value, *_ = ax.get_title().split()
    assert word == "gain"
    return float(value)


def test_a_curve_its_fit_and_its_gain() -> None:
    ax = drawn(FRAMES, nbins=30, offset=100, estimator="variance")
    assert told(ax) == pytest.approx(2, rel=0.02)
    assert "e⁻/ADU" in ax.get_title() and "read noise" in ax.get_title()
    shown = sum(len(points.get_offsets()) for points in ax.collections)
    assert shown == 30
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "30 bins in the fit" in labels and "line" in labels
    bottom, top = ax.get_ylim()
    heights = np.concatenate([points.get_offsets()[:, 1] for points in ax.collections])
    assert bottom < heights.min() and heights.max() < top


def test_a_curve_without_a_gain_says_why() -> None:
    noise = np.random.default_rng(1).normal(500 + LIGHT, 20, FRAMES.shape).astype("u2")
    title = drawn(noise, estimator="variance").get_title()
    assert "not measurable" in title and "variance" in title
    assert max(map(len, title.splitlines())) <= 46


def test_coarse_deviations_are_told() -> None:
    few = np.random.default_rng(0).poisson(LIGHT / 100 + 3, FRAMES.shape).astype("u2")
    found = gq.gain_map(few, dims="tyx").compute()
    title = gq.pl.photon_transfer(found).get_title()
    assert bool(found.measurable) == ("coarse" in title)


def test_nothing_to_draw() -> None:
    ax = drawn(np.full((5, 3, 3), 7, "u2"))
    assert "no bin has enough pixels" in [text.get_text() for text in ax.texts]


def test_one_plane_of_several() -> None:
    two = xr.DataArray(np.stack([FRAMES, FRAMES], 1), dims=("t", "c", "y", "x"))
    found = gq.gain_map(two, estimator="variance").compute()
    with pytest.raises(gq.errors.ParameterError, match=r"isel\(c=0\)"):
        gq.pl.photon_transfer(found)
    assert told(gq.pl.photon_transfer(found.isel(c=[1]))) == pytest.approx(2, rel=0.02)


def test_what_is_no_result_is_refused() -> None:
    for given in (FRAMES, xr.Dataset({"a": 1})):
        with pytest.raises(gq.errors.ParameterError, match="gain_map"):
            gq.pl.photon_transfer(given)
