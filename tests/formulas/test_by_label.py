"""Colocalization and stained area of each object, against numpy on the whole arrays."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from strategies import repeatable

import gigaqc as gq
from gigaqc.errors import ChannelError, ImageError, ParameterError, StatisticsError

SHAPE = (23, 31)
IDS = np.array([0, 0, 3, 17, 2**40, 2**62, 5])


def drawn(seed: int, dtype: str, chunks, other) -> tuple[np.ndarray, np.ndarray, xr.DataArray, Any]:
    rng = np.random.default_rng(seed)
    labels = IDS[np.repeat(np.repeat(rng.integers(0, 7, (6, 8)), 4, 0), 4, 1)[:23, :31]]
    values = rng.poisson(9, (2, *SHAPE)) + 1000 * (labels % 7)
    values[1] += values[0] // 2
    values = values.astype(dtype)
    if np.dtype(dtype).kind == "f":
        values[0, 3:5, 2:9] = np.nan
        values[1, 7, 7] = np.inf
    image = xr.DataArray(
        da.from_array(values, chunks=(1, *chunks)),
        dims=("c", "y", "x"),
        coords={"c": ["a", "b"]},
        attrs={"pixel_size": {"y": 0.5, "x": 2.0}, "unit": "um"},
    )
    return labels, values.astype("f8"), image, da.from_array(labels, chunks=other)


DRAWN = (
    st.integers(0, 10_000),
    st.sampled_from(["u1", "u2", ">u2", "i4", "f4", "f8"]),
    st.tuples(st.integers(1, 31), st.integers(1, 31)),
    st.tuples(st.integers(1, 31), st.integers(1, 31)),
)


@repeatable
@given(*DRAWN)
def test_colocalization_of_each_object(seed, dtype, chunks, other):
    labels, (x, y), image, lazy = drawn(seed, dtype, chunks, other)
    limits = (1005.0, 12.0)
    found = gq.colocalization(image, "a", "b", thresholds=limits, labels=lazy)
    ids = np.unique(labels[labels > 0])
    assert found.index.tolist() == ids.tolist()
    assert found.index.name == "label"
    for label, row in found.iterrows():
        own = (labels == label) & np.isfinite(x) & np.isfinite(y)
        a, b = x[own], y[own]
        assert row["n_pixels"] == a.size
        if not a.size:
            assert row[["pearson", "manders_m1", "manders_m2"]].isna().all()
            continue
        constant = a.min() == a.max() or b.min() == b.max()
        r = np.nan if constant else np.corrcoef(a, b)[0, 1]
        np.testing.assert_allclose(row["pearson"], r, atol=1e-9)
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(row["manders_m1"], a[b > 12].sum() / a.sum(), rtol=1e-12)
            np.testing.assert_allclose(row["manders_m2"], b[a > 1005].sum() / b.sum(), rtol=1e-12)


@repeatable
@given(*DRAWN)
def test_stained_area_of_each_object(seed, dtype, chunks, other):
    labels, values, image, lazy = drawn(seed, dtype, chunks, other)
    found = gq.stained_area(image, [1005, 12], labels=lazy)
    assert found.attrs["threshold"] == {"a": 1005, "b": 12}
    for label, row in found.iterrows():
        for channel, limit, plane in zip("ab", (1005, 12), values, strict=True):
            own = plane[(labels == label) & np.isfinite(plane)]
            above = own[own > limit]
            wanted = [
                above.size / own.size if own.size else np.nan,
                float(above.size) if own.size else np.nan,  # a pixel is 0.5 x 2 um
                above.mean() if above.size else np.nan,
            ]
            names = [f"positive_{n}_{channel}" for n in ("fraction", "area", "mean")]
            np.testing.assert_allclose(row[names].to_numpy("f8"), wanted, rtol=1e-12)


def test_thresholds_are_those_of_the_whole_channels():
    _, _, image, lazy = drawn(1, "u2", (8, 8), (9, 9))
    whole = gq.stained_area(image).compute()["threshold"].values
    found = gq.stained_area(image, labels=lazy)
    assert list(found.attrs["threshold"].values()) == whole.tolist()
    given_ = gq.colocalization(image, 0, 1, thresholds=tuple(whole), labels=lazy)
    assert gq.colocalization(image, 0, 1, labels=lazy).equals(given_)


def test_an_offset_costs_no_digits():
    rng = np.random.default_rng(0)
    x = 60_000 + rng.integers(0, 4, SHAPE)
    y = 60_000 + rng.integers(0, 4, SHAPE) + (x & 1)
    image = np.stack([x, y]).astype("u2")
    found = gq.colocalization(image, 0, 1, thresholds=(0, 0), labels=np.ones(SHAPE, "u1"))
    wanted = np.corrcoef((x - 60_000).ravel(), (y - 60_000).ravel())[0, 1]
    assert found.loc[1, "pearson"] == pytest.approx(wanted, abs=1e-12)


def test_a_constant_channel_within_an_object_has_no_correlation():
    image = np.full((2, 6, 7), 0.1, "f8")
    image[1] = np.arange(42).reshape(6, 7)
    found = gq.colocalization(image, 0, 1, thresholds=(0, 0), labels=np.ones((6, 7), int))
    assert np.isnan(found.loc[1, "pearson"])
    constant = gq.stained_area(np.ones((6, 7), "u2"), labels=np.ones((6, 7), int))
    assert constant.isna().all(axis=None)  # Otsu has no threshold for it


def test_stacks_and_no_objects():
    stack = np.arange(2 * 2 * 3 * 4).reshape(2, 2, 3, 4).astype("u2")
    labels = np.zeros((2, 3, 4), "u2")
    labels[:, 1] = 6
    image = xr.DataArray(stack, dims=("c", "z", "y", "x"))
    found = gq.stained_area(image, 10, labels=labels)
    own = stack[:, labels == 6]
    np.testing.assert_array_equal(found.loc[6, "positive_fraction_0"], (own[0] > 10).mean())
    empty = gq.colocalization(image, 0, 1, labels=np.zeros_like(labels))
    assert empty.shape == (0, 4)
    assert gq.stained_area(image, labels=np.zeros_like(labels)).shape == (0, 6)


def test_a_polygon_leaves_out_the_rest_of_an_object():
    shapely = pytest.importorskip("shapely")
    image = np.arange(48, dtype="u2").reshape(6, 8)
    labels = np.ones((6, 8), "u1")
    box = shapely.box(2, 1, 6, 4)
    found = gq.stained_area(gq.region(image, box), 20, labels=gq.region(labels, box, outside=0))
    assert found.loc[1, "positive_area_0"] == (image[1:4, 2:6] > 20).sum()


def test_what_does_not_fit_is_refused():
    image = np.ones((2, 6, 7), "u2")
    labels = np.ones((6, 7), int)
    with pytest.raises(ImageError, match="do not lie on"):
        gq.stained_area(image, labels=labels[:5])
    with pytest.raises(ImageError, match="float64"):
        gq.colocalization(image, 0, 1, labels=labels * 1.0)
    with pytest.raises(ImageError, match="negative id"):
        gq.stained_area(image, 0, labels=-labels)
    with pytest.raises(ChannelError, match="different"):
        gq.colocalization(image, 0, 0, labels=labels)
    with pytest.raises(ParameterError, match="3 numbers for 2"):
        gq.stained_area(image, [1, 2, 3], labels=labels)
    with pytest.raises(StatisticsError, match="pixels"):
        gq.stained_area(gq.scan(image).compute(), labels=labels)


@pytest.mark.same_process
def test_labels_and_channels_are_read_once_where_thresholds_are_given():
    read = {"image": 0, "labels": 0}

    def block(name, shape):
        read[name] += 1
        return np.ones(shape, "u2")

    image = da.map_blocks(
        lambda block_info: block("image", (1, 8, 8)),
        chunks=((1, 1), (8, 8), (8, 8)), dtype="u2", meta=np.empty((0, 0, 0), "u2"),
    )  # fmt: skip
    labels = da.map_blocks(
        lambda block_info: block("labels", (16, 4)),
        chunks=((16,), (4,) * 4), dtype="u2", meta=np.empty((0, 0), "u2"),
    )  # fmt: skip
    gq.stained_area(image, 0, labels=labels)
    assert read == {"image": 8, "labels": 4}
    gq.colocalization(image, 0, 1, thresholds=(0, 0), labels=labels)
    assert read == {"image": 16, "labels": 8}
