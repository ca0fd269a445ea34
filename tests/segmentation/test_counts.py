"""Nuclei of several images, counted together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ChannelError, ImageError, ParameterError
from gigaqc.segmentation.counts import LabelAreas


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    yield
    plt.close("all")


def field(seed: int, side: int = 120, every: int = 20) -> np.ndarray:
    """Discs on a grid, in two channels of which the second shows nothing."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    rows, columns = (a % every - every // 2 for a in (y, x))
    discs = rows**2 + columns**2 < rng.uniform(16, 36)
    return rng.poisson(np.stack([10 + 90 * discs, np.full((side, side), 10)])).astype("u2")


FIELDS = [field(0), field(1, side=100, every=25), field(2, side=160)]
OPTIONS: dict[str, Any] = {"diameter": 10, "tile": 64}


def test_counts_are_those_of_each_image_alone() -> None:
    table = gq.count_nuclei(FIELDS, 0, **OPTIONS)
    assert table.index.name == "image" and table.index.tolist() == ["0", "1", "2"]
    assert list(table) == ["nuclei", "pixels", "per_megapixel", "median_area"]
    for (_, row), image in zip(table.iterrows(), FIELDS, strict=True):
        labels = gq.segment_nuclei(image, 0, **OPTIONS)
        areas = gq.object_table(labels).area
        assert row.nuclei == len(areas) == int(labels.max()) and row.nuclei > 0
        assert row.median_area == areas.median()
        assert row.pixels == image[0].size
        assert row.per_megapixel == pytest.approx(1e6 * len(areas) / image[0].size)
    assert table.nuclei.tolist() == [36, 16, 64]


def test_label_images_are_counted_as_they_are() -> None:
    labels = [gq.segment_nuclei(image, 0, **OPTIONS).compute() for image in FIELDS]
    chunked = [label.chunk({"y": 17, "x": 33}) for label in labels]  # nuclei in several blocks
    segmented = gq.count_nuclei(FIELDS, 0, **OPTIONS)
    pd.testing.assert_frame_equal(gq.count_nuclei(labels), segmented)
    pd.testing.assert_frame_equal(gq.count_nuclei(chunked), segmented)
    sparse = np.zeros((40, 50), "u8")
    sparse[3:5, 3:6], sparse[20:, 20:22] = 7, 2**63 + 5
    assert gq.count_nuclei(sparse).loc["0", ["nuclei", "median_area"]].tolist() == [2, 23]


def test_physical_units_where_all_images_have_them() -> None:
    known = xr.DataArray(
        FIELDS[0], dims=tuple("cyx"), name="known",
        attrs={"pixel_size": {"y": 0.5, "x": 0.25}, "unit": "micrometer"},
    )  # fmt: skip
    in_nm = known.assign_attrs(pixel_size={"y": 500.0, "x": 250.0}, unit="nanometer")
    table = gq.count_nuclei({"one": known, "two": in_nm}, 0, **OPTIONS)
    assert table.index.tolist() == ["one", "two"]
    (row, other) = (table.loc[name] for name in table.index)
    assert row.per_mm2 == pytest.approx(36 / (120 * 0.5e-3 * 120 * 0.25e-3))
    assert row.median_area_um2 == pytest.approx(row.median_area * 0.125)
    np.testing.assert_allclose(row, other)
    mixed = gq.count_nuclei([known, FIELDS[0]], 0, **OPTIONS)
    assert mixed.index.tolist() == ["known", "1"] and "per_mm2" not in mixed


def test_names(tmp_path: Path) -> None:
    paths = [tmp_path / "slide one.zarr", tmp_path / "two.ome.tif"]
    for path in paths:
        gq.write_image(FIELDS[0], path)
    images = [gq.open_image(path) for path in (*paths, paths[0])]
    assert [gq.count_nuclei([i], 0, **OPTIONS).index[0] for i in images[:2]] == ["slide one", "two"]
    table = gq.count_nuclei(images, 0, **OPTIONS)
    assert table.index.tolist() == ["slide one (0)", "two", "slide one (2)"]


def test_planes_count_too_and_nothing_is_no_nucleus() -> None:
    stack = xr.DataArray(np.stack([FIELDS[0]] * 2), dims=tuple("zcyx"))
    assert gq.count_nuclei(stack, 0, **OPTIONS).nuclei.tolist() == [72]
    empty = gq.count_nuclei([np.zeros((2, 50, 40), "u2"), FIELDS[0]], 0, **OPTIONS)
    assert empty.nuclei.tolist() == [0, 36]
    assert np.isnan(empty.median_area.iloc[0]) and empty.per_megapixel.iloc[0] == 0


def test_reads_and_one_computation() -> None:
    stores = [testing.CountingStore(MemoryStore()) for _ in FIELDS]
    images = [
        da.from_zarr(zarr.create_array(store, data=image, chunks=(1, 64, 64)))
        for store, image in zip(stores, FIELDS, strict=True)
    ]
    for store in stores:
        testing.reset_reads(store)
    gq.count_nuclei(images, 0, threshold=50, **OPTIONS)
    for store in stores:
        counts = testing.count_reads(store)
        assert counts and set(counts.values()) == {1} and all("c/0/" in key for key in counts)


def test_areas_of_many_blocks_are_added_meanwhile() -> None:
    part = LabelAreas(((np.array([1, 5]), np.array([2, 3])),))
    whole = part
    for _ in range(999):
        whole = whole.merge(part)
        assert len(whole.parts) < 300
    assert whole.by_label().tolist() == [2000, 3000]


def test_wrong_use() -> None:
    for nothing in ([], {}):
        with pytest.raises(ParameterError, match="images: got none"):
            gq.count_nuclei(nothing, 0)
    with pytest.raises(ChannelError):
        gq.count_nuclei(FIELDS, "DNA")
    with pytest.raises(ParameterError, match="tile: goes with channel="):
        gq.count_nuclei(FIELDS, tile=64)
    for wrong in (FIELDS, [np.zeros((4, 4))], [np.zeros((4, 4), bool)]):
        with pytest.raises(ImageError, match=r"images: '0' is no label image .*pass channel="):
            gq.count_nuclei(wrong)


def test_a_picture_of_counts() -> None:
    table = gq.count_nuclei({"a $x$": FIELDS[0], "b": FIELDS[1]}, 0, **OPTIONS)
    ax = gq.pl.counts(table)
    assert [bar.get_width() for bar in ax.patches] == [36, 16]
    assert [t.get_text() for t in ax.get_yticklabels()] == [r"a \$x\$", "b"]
    assert [t.get_text() for t in ax.texts] == ["36", "16"]
    assert ax.get_legend().get_texts()[0].get_text() == "median 26"
    assert ax.yaxis_inverted()  # the first on top
    density = gq.pl.counts(table, column="per_megapixel")
    assert density.get_xlabel() == "nuclei per 10⁶ pixels"
    with pytest.raises(ParameterError, match="column: got 'per_mm2'; pass one of nuclei, per_mega"):
        gq.pl.counts(table, column="per_mm2")
    many = pd.concat([table] * 50)
    assert not gq.pl.counts(many).texts
    none = gq.count_nuclei(np.zeros((9, 9), "i4"))
    bare = gq.pl.counts(none, column="median_area")
    assert bare.get_legend() is None and bare.texts[0].get_text() == "–"
    bare.figure.canvas.draw()
