"""Tables of objects against scikit-image's `regionprops_table` on whole arrays."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from settings import configure
from skimage.measure import euler_number, regionprops_table
from skimage.measure import label as label_pieces
from strategies import examples, repeatable

import gigaqc as gq
from gigaqc.errors import ImageError, ParameterError, StatisticsError, WriteError
from gigaqc.scanning import objects, table
from gigaqc.scanning.objects import BlockRuns, Place
from gigaqc.statistics import object_sums
from gigaqc.testing import CountingStore, count_reads, forbid_compute, reset_reads

LABEL_DTYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", ">u4", ">i2")
IMAGE_DTYPES = ("?", "u1", "i1", "u2", "i2", ">u2", "u4", "i4", "f2", "f4", "f8")


@pytest.fixture(autouse=True)
def many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "group-values", 0)  # groups of about 64 x 64
    monkeypatch.setattr(objects, "_PARTS", 3)


def drawn_labels(seed: int, shape: tuple[int, ...], dtype: str, style: str) -> np.ndarray:
    """Ids that are sparse, huge, and in part absent from most of the image."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    most = int(np.iinfo(kind).max)
    if style == "empty":
        return np.zeros(shape, kind)
    if style == "one":
        return np.full(shape, most, kind)
    if style == "pixels":
        index = rng.integers(0, 6, shape)
    else:
        scale = 5 if style == "blobs" else 11
        coarse = rng.integers(0, 40 if style == "blobs" else 5, [-(-n // scale) for n in shape])
        index = np.kron(coarse, np.ones([scale] * len(shape), "i8"))
        index = index[tuple(slice(0, n) for n in shape)]
        index[rng.random(shape) < 0.15] = 0
    ids = np.zeros(index.max() + 1, "u8")
    if index.max():
        ids[1:] = np.sort(rng.choice(min(most, 2**31), index.max(), replace=False)) + 1
        ids[-1] = most
    return ids.astype(kind)[index]


def drawn_image(seed: int, channels: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(seed + 1)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (rng.normal(50, 20, (channels, *shape))).astype(kind)
    if kind.kind == "b":
        return rng.random((channels, *shape)) < 0.3
    info = np.iinfo(kind)
    native = kind.newbyteorder("=")
    values = rng.integers(info.min, info.max, (channels, *shape), dtype=native, endpoint=True)
    return values.astype(kind)


def expected(labels: np.ndarray, image: np.ndarray | None) -> dict[str, np.ndarray]:
    """scikit-image's table in our names; its ids do not go beyond int64."""
    native = labels.astype(labels.dtype.newbyteorder("="))
    distinct, index = np.unique(native, return_inverse=True)
    index = index.reshape(labels.shape) + (0 if 0 in distinct else 1)
    dims = "zyx"[-labels.ndim :]
    names = ["label", "area", "centroid", "bbox", "axis_major_length", "axis_minor_length"]
    names += ["moments_central"]
    if labels.ndim == 2:
        names += ["eccentricity"]
    if image is not None:
        names += ["intensity_mean", "intensity_min", "intensity_max", "intensity_std"]
    stacked = None if image is None else np.moveaxis(image.astype("f8"), 0, -1)
    found = regionprops_table(index, stacked, properties=names)
    out = {"label": distinct[distinct != 0], "area": found["area"]}
    second = (
        {"y": "2-0", "x": "0-2"} if labels.ndim == 2 else {"z": "2-0-0", "y": "0-2-0", "x": "0-0-2"}
    )
    for k, dim in enumerate(dims):
        out[f"centroid_{dim}"] = found[f"centroid-{k}"]
        out[f"bbox_min_{dim}"] = found[f"bbox-{k}"]
        out[f"bbox_max_{dim}"] = found[f"bbox-{k + len(dims)}"]
        out[f"moment_{dim}{dim}"] = found[f"moments_central-{second[dim]}"] / found["area"]
    cross = "1-1" if labels.ndim == 2 else "0-1-1"
    out["moment_yx"] = found[f"moments_central-{cross}"] / found["area"]
    out["major_axis_length"] = found["axis_major_length"]
    out["minor_axis_length"] = found["axis_minor_length"]
    if labels.ndim == 2:
        out["eccentricity"] = found["eccentricity"]
    for c in range(0 if image is None else len(image)):
        for name in ("mean", "std", "min", "max"):
            out[f"{name}_{c}"] = found[f"intensity_{name}-{c}"]
    return out


def check(table: pd.DataFrame, wanted: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(table.index, wanted["label"])
    for name, values in wanted.items():
        if name == "label":
            continue
        ours = table[name].to_numpy()
        if name == "eccentricity":
            np.testing.assert_allclose(ours, values, atol=1e-6)
        elif name == "minor_axis_length":
            # The width of a thin object is the root of a difference that scikit-image rounds.
            major = wanted["major_axis_length"] ** 2
            assert (np.abs(ours**2 - values**2) <= 1e-9 * major).all()
        elif name == "moment_yx":
            scale = np.sqrt(wanted["moment_yy"] * wanted["moment_xx"])
            assert (np.abs(ours - values) <= 1e-9 * np.maximum(scale, 1)).all()
        else:
            np.testing.assert_allclose(ours, values, rtol=1e-9, atol=1e-9, err_msg=name)


@settings(repeatable, max_examples=examples(60))
@given(
    st.integers(0, 10**6),
    st.sampled_from(LABEL_DTYPES),
    st.sampled_from(IMAGE_DTYPES),
    st.sampled_from(["blobs", "large", "pixels", "one", "empty"]),
    st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.tuples(st.integers(5, 150), st.integers(5, 150)),
    st.tuples(st.integers(5, 150), st.integers(5, 150)),
)
def test_planes(
    seed: int, label_dtype: str, dtype: str, style: str, shape: tuple[int, int],
    label_chunks: tuple[int, int], chunks: tuple[int, int],
) -> None:  # fmt: skip
    labels = drawn_labels(seed, shape, label_dtype, style)
    image = drawn_image(seed, 2, shape, dtype)
    table = gq.object_table(
        da.from_array(labels, chunks=label_chunks), da.from_array(image, chunks=(1, *chunks))
    )
    if style == "empty":
        assert len(table) == 0 and table.index.name == "label" and "mean_1" in table
        return
    check(table, expected(labels, image))
    assert table.index.dtype == ("u8" if label_dtype == "u8" else "i8")


@settings(repeatable, max_examples=examples(20))
@given(
    st.integers(0, 10**6),
    st.sampled_from(["u1", "u8", "i4"]),
    st.sampled_from(["blobs", "large", "pixels"]),
    st.tuples(st.integers(2, 12), st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(1, 12), st.integers(9, 90), st.integers(9, 90)),
    st.tuples(st.integers(1, 12), st.integers(9, 90), st.integers(9, 90)),
)
def test_stacks(
    seed: int, label_dtype: str, style: str, shape: tuple[int, int, int],
    label_chunks: tuple[int, int, int], chunks: tuple[int, int, int],
) -> None:  # fmt: skip
    labels = drawn_labels(seed, shape, label_dtype, style)
    image = drawn_image(seed, 1, shape, "u2")
    lazy = xr.DataArray(da.from_array(image, chunks=(1, *chunks)), dims=tuple("czyx"))
    table = gq.object_table(da.from_array(labels, chunks=label_chunks), lazy)
    if not labels.any():
        assert len(table) == 0
        return
    check(table, expected(labels, image))
    assert table["eccentricity"].isna().all() and "n_pieces" not in table


@settings(repeatable, max_examples=examples(25))
@given(
    st.integers(0, 10**6),
    st.sampled_from(["large", "pixels", "one"]),
    st.sampled_from([4, 8]),
    st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.tuples(st.integers(14, 150), st.integers(14, 150)),
)
def test_pieces_and_holes(
    seed: int, style: str, connectivity: int, shape: tuple[int, int], chunks: tuple[int, int]
) -> None:
    labels = drawn_labels(seed, shape, "u2", style)
    table = gq.object_table(da.from_array(labels, chunks=chunks), connectivity=connectivity)
    for label, row in table.iterrows():
        mask, neighbours = labels == label, connectivity // 4
        pieces = label_pieces(mask, connectivity=neighbours).max()
        assert row["n_pieces"] == pieces
        assert row["n_holes"] == pieces - euler_number(mask, connectivity=neighbours)


def test_a_spiral_through_many_chunks_is_one_piece_and_a_ring_has_one_hole() -> None:
    labels = np.zeros((300, 300), "u2")
    labels[10:290, 10:290] = 4
    labels[20:280, 20:280] = 0
    labels[100:110, 5:299] = np.where(labels[100:110, 5:299] == 0, 9, 4)
    table = gq.object_table(da.from_array(labels, chunks=(70, 70)))
    assert table.loc[4, ["n_pieces", "n_holes"]].tolist() == [1, 1]
    assert table.loc[9, ["n_pieces", "n_holes"]].tolist() == [3, 0]


def test_the_same_bits_for_the_same_chunks_and_equal_for_others() -> None:
    labels = drawn_labels(3, (200, 300), "u4", "blobs")
    image = drawn_image(3, 2, (200, 300), "f4")
    lazy = da.from_array(labels, chunks=(70, 90)), da.from_array(image, chunks=(2, 64, 64))
    first = gq.object_table(*lazy)
    pd.testing.assert_frame_equal(first, gq.object_table(*lazy), check_exact=True)
    geometry = [c for c in first if not c.startswith(("mean", "std"))]
    for chunks in ((200, 300), (50, 60), (33, 300)):
        other = gq.object_table(da.from_array(labels, chunks=chunks), lazy[1])
        pd.testing.assert_frame_equal(first[geometry], other[geometry], check_exact=True)
        pd.testing.assert_frame_equal(first, other, rtol=1e-12)


def test_pixels_that_are_not_finite_are_left_out_and_counted() -> None:
    labels = np.array([[1, 1, 2, 2], [1, 3, 3, 0]])
    image = np.array([[[1, np.nan, 5, 7], [np.inf, np.nan, -np.inf, 2]]])
    table = gq.object_table(labels, image)
    assert table["n_excluded_0"].tolist() == [2, 0, 2]
    assert table["mean_0"].tolist()[:2] == [1.0, 6.0]
    assert table.loc[3, ["mean_0", "std_0", "min_0", "max_0"]].isna().all()


def test_an_offset_costs_no_digits() -> None:
    labels = np.ones((100, 100), "u1")
    image = (1e9 + np.random.default_rng(0).normal(0, 1, (1, 100, 100))).astype("f8")
    table = gq.object_table(
        da.from_array(labels, chunks=20), da.from_array(image, chunks=(1, 30, 30))
    )
    assert math.isclose(table.loc[1, "std_0"], image.std(), rel_tol=1e-9)
    constant = gq.object_table(labels, np.full((1, 100, 100), 65535, "u2"))
    assert constant.loc[1, "std_0"] == 0.0


def test_moments_of_an_object_as_wide_as_a_very_large_image() -> None:
    """Closed forms: a row and a column of 10^5 pixels each, from rows that are made, not read."""
    side = 100_000
    rows = []
    for start in range(0, side, 10_000):
        block = np.ones((1, 1, 1, 10_000), "u1")
        place = Place(0, 0, 77, start)
        rows.append(BlockRuns.of(block, place, 1).rows((), 0, place))
        if start:
            place = Place(0, 0, 77 + start, 0)
            block = np.ones((1, 1, 10_000, 1), "u1")
            rows.append(BlockRuns.of(block, place, 1).rows((), 0, place))
    found = object_sums.merged(rows)
    x = np.concatenate([np.arange(side), np.zeros(side - 10_000, "i8")]).astype(object)
    n = len(x)
    exact = (int((x * x).sum()) * n - int(x.sum()) ** 2) / n**2
    from gigaqc.formulas.objects import covariance

    central = covariance(found.counts, found.sums, np.ones(3))
    assert math.isclose(central[0, 2], exact, rel_tol=1e-12)
    assert found.counts[0] == n


@pytest.mark.parametrize("dims", ["yx", "zyx"])
def test_physical_columns_are_regionprops_with_spacing(dims: str) -> None:
    shape = (9, 80, 90)[-len(dims) :]
    labels = drawn_labels(5, shape, "u2", "blobs")
    size = {"z": 2.0, "y": 0.5, "x": 0.25}
    attrs = {"pixel_size": {d: size[d] for d in dims}, "unit": "micrometer"}
    table = gq.object_table(xr.DataArray(labels, dims=tuple(dims), attrs=attrs))
    names = ["area", "centroid", "axis_major_length", "axis_minor_length"]
    wanted = regionprops_table(labels, properties=names, spacing=[size[d] for d in dims])
    content = "area_um2" if dims == "yx" else "volume_um3"
    np.testing.assert_allclose(table[content], wanted["area"])
    np.testing.assert_allclose(table["centroid_x_um"], wanted[f"centroid-{len(dims) - 1}"])
    np.testing.assert_allclose(table["major_axis_length_um"], wanted["axis_major_length"])
    np.testing.assert_allclose(
        table["minor_axis_length_um"], wanted["axis_minor_length"], atol=1e-6
    )
    assert table["bbox_max_y_um"].tolist() == (table["bbox_max_y"] * 0.5).tolist()


def test_the_orientation_is_that_of_scikit_image() -> None:
    labels = drawn_labels(8, (120, 130), "u2", "blobs")
    wanted = regionprops_table(labels, properties=["orientation", "eccentricity"])
    table = gq.object_table(labels)
    turned = np.abs(table["orientation"].to_numpy() - wanted["orientation"])
    clear = wanted["eccentricity"] > 1e-3
    assert (np.minimum(turned, np.pi - turned)[clear] < 1e-6).all() and clear.sum() > 5


@pytest.mark.parametrize(
    ("label_chunks", "chunks"),
    [
        ((64, 64), (1, 64, 64)),
        ((100, 300), (2, 70, 90)),
        ((256, 256), (1, 128, 128)),
    ],
)
def test_each_chunk_is_read_once(
    tmp_path: Path, label_chunks: tuple[int, int], chunks: tuple[int, int, int]
) -> None:
    labels, image = drawn_labels(1, (300, 400), "u4", "blobs"), drawn_image(1, 2, (300, 400), "u2")
    stores = []
    for name, array, sides in (("l", labels, label_chunks), ("i", image, chunks)):
        zarr.create_array(str(tmp_path / name), data=array, chunks=sides)
        stores.append(CountingStore(str(tmp_path / name)))
    arrays = [zarr.open_array(store, mode="r") for store in stores]
    found = gq.open_labels(arrays[0]), gq.open_image(arrays[1])
    with forbid_compute():
        lazy = gq.segmentation_quality(*found)
    for store in stores:
        reset_reads(store)
    table = gq.object_table(*found)
    check(table, expected(labels, image))
    for store, sides, array in zip(stores, (label_chunks, chunks), (labels, image), strict=True):
        reads = count_reads(store)
        assert set(reads.values()) == {1}
        assert len(reads) == math.prod(-(-n // s) for n, s in zip(array.shape, sides, strict=True))
        reset_reads(store)
    lazy.compute()
    assert all(set(count_reads(store).values()) == {1} for store in stores)


@pytest.mark.long
def test_on_other_processes(tmp_path: Path) -> None:
    labels, image = drawn_labels(4, (200, 200), "u4", "blobs"), drawn_image(4, 1, (200, 200), "u2")
    zarr.create_array(str(tmp_path / "l"), data=labels, chunks=(70, 70))
    found = gq.open_labels(tmp_path / "l"), da.from_array(image, chunks=(1, 64, 64))
    here = gq.object_table(*found)
    with dask.config.set(scheduler="processes", num_workers=2):
        pd.testing.assert_frame_equal(gq.object_table(*found), here, check_exact=True)
        written = gq.object_table(*found, to=tmp_path / "cells.parquet")
    pd.testing.assert_frame_equal(written.compute(), here, check_exact=True)


class TestParquet:
    """Tables that are written instead of held."""

    @pytest.fixture(autouse=True)
    def small_ranges(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(objects, "SPILLED_ROWS", 50)
        monkeypatch.setattr(table, "RANGE_ROWS", 60)

    @pytest.mark.parametrize(
        "dtype", ["u4", *(pytest.param(d, marks=pytest.mark.long) for d in ("u8", "i8"))]
    )
    def test_the_same_table(self, tmp_path: Path, dtype: str) -> None:
        labels = drawn_labels(2, (400, 500), dtype, "pixels")
        many = np.arange(1, 80 * 100 + 1).reshape(80, 100).astype(dtype)
        labels[labels > 0] = np.kron(many, np.ones((5, 5), dtype))[labels > 0]
        image = drawn_image(2, 2, (400, 500), "u2")
        lazy = da.from_array(labels, chunks=(70, 90)), da.from_array(image, chunks=(2, 64, 64))
        lazily = gq.object_table(*lazy, to=tmp_path / "cells.parquet")
        assert lazily.npartitions > 20 and lazily.known_divisions
        held = gq.object_table(*lazy)
        pd.testing.assert_frame_equal(lazily.compute(), held, rtol=1e-12)
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "cells.parquet"), held, rtol=1e-12)
        assert [p.name for p in tmp_path.iterdir()] == ["cells.parquet"]
        assert (
            len(lazily.loc[100:120].compute()) == (held.index.to_series().between(100, 120)).sum()
        )

    def test_of_nothing(self, tmp_path: Path) -> None:
        found = gq.object_table(np.zeros((30, 30), "u2"), to=tmp_path / "none.parquet")
        assert len(found.compute()) == 0 and "area" in found.columns

    def test_complete_or_absent(self, tmp_path: Path) -> None:
        labels = drawn_labels(2, (200, 200), "i4", "blobs")
        labels[150, 170] = -3
        with pytest.raises(ImageError, match=r"negative id -3 at z 0, y 150, x 170"):
            gq.object_table(da.from_array(labels, chunks=70), to=tmp_path / "cells.parquet")
        assert not list(tmp_path.iterdir())

    def test_what_is_there_stays(self, tmp_path: Path) -> None:
        target = tmp_path / "cells.parquet"
        target.write_text("mine")
        with forbid_compute(), pytest.raises(WriteError, match=r"^to: .*overwrite=True"):
            gq.object_table(np.ones((5, 5), "u1"), to=target)
        assert target.read_text() == "mine"
        assert len(gq.object_table(np.ones((5, 5), "u1"), to=target, overwrite=True)) == 1
        with pytest.raises(WriteError, match=r"'name\.parquet'"):
            gq.object_table(np.ones((5, 5), "u1"), to=tmp_path / "cells.csv")


PLANE = np.zeros((9, 9), "u1")
SERIES = xr.DataArray(np.zeros((2, 9, 9), "u1"), dims=tuple("tyx"))
BAD: dict[str, tuple[Any, Any, dict[str, Any], type[Exception], str]] = {
    "floats": (np.zeros((9, 9)), None, {}, ImageError, r"labels: dtype float64.*astype"),
    "bool": (PLANE > 0, None, {}, ImageError, r"labels: dtype bool.*number its pieces"),
    "times": (SERIES, None, {}, ImageError, "one t"),
    "shape": (PLANE, np.zeros((1, 9, 8)), {}, ImageError, r"labels: .* do not lie on"),
    "stack": (np.zeros((3, 9, 9), "u1"), PLANE, {}, ImageError, r"labels: .* do not lie on"),
    "connectivity": (PLANE, None, {"connectivity": 6}, ParameterError, "pass 4 or 8"),
}


@pytest.mark.parametrize(("labels", "image", "options", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_reading(
    labels: Any, image: Any, options: Any, error: type[Exception], message: str
) -> None:
    with forbid_compute():
        for function in (gq.object_table, gq.segmentation_quality):
            with pytest.raises(error, match=message):
                function(labels, image, **options)


def test_pixel_sizes_that_differ_are_refused() -> None:
    labels = xr.DataArray(PLANE, dims=("y", "x"))
    labels.attrs.update(pixel_size={"y": 1.0, "x": 1.0}, unit="micrometer")
    image = xr.DataArray(PLANE[None], dims=("c", "y", "x"))
    image.attrs.update(pixel_size={"y": 500.0, "x": 500.0}, unit="nanometer")
    with (
        forbid_compute(),
        pytest.raises(ImageError, match=r"a pixel is 1 micrometer along y, .* 500"),
    ):
        gq.object_table(labels, image)
    image.attrs["pixel_size"] = {"y": 1000.0, "x": 1000.0}
    assert len(gq.object_table(labels, image)) == 0


def test_statistics_hold_no_pixels() -> None:
    statistics = gq.scan(np.zeros((1, 20, 20), "u2")).compute()
    with pytest.raises(StatisticsError, match="object_table needs the image itself"):
        gq.object_table(np.zeros((20, 20), "u2"), statistics)
