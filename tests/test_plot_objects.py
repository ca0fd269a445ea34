"""Pictures of objects and regions."""

from __future__ import annotations

import dask.array as da
import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import gigaqc as gq
from gigaqc.errors import ImageError, ParameterError

matplotlib.use("Agg")

import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


LABELS = np.zeros((60, 80), "i4")
LABELS[5:25, 10:40] = 7
LABELS[25:40, 10:40] = 12345
LABELS[50:52, 70:72] = 3
IMAGE = xr.DataArray(
    np.where(LABELS > 0, 100, 3)[None].astype("u2"), dims=("c", "y", "x"), coords={"c": ["DNA"]}
)


def lines_of(ax):
    (collection,) = ax.collections
    return {tuple(map(tuple, line.tolist())) for line in collection.get_segments()}


def test_outlines_run_along_the_edges_of_pixels():
    ax = gq.pl.nuclei(IMAGE, LABELS)
    assert lines_of(ax) == {
        ((10, 5), (40, 5)), ((10, 25), (40, 25)), ((10, 40), (40, 40)),
        ((10, 5), (10, 40)), ((40, 5), (40, 40)),
        ((70, 50), (72, 50)), ((70, 52), (72, 52)), ((70, 50), (70, 52)), ((72, 50), (72, 52)),
    }  # fmt: skip
    assert ax.get_title() == "DNA: 3 nuclei"
    assert ax.get_xlim() == (0, 80)
    assert ax.get_ylim() == (60, 0)


def test_numbers_where_there_is_room_for_them():
    ax = gq.pl.nuclei(IMAGE, LABELS)
    ax.figure.canvas.draw()
    places = {t.get_text(): t.get_position() for t in ax.texts}
    assert places == {"7": (25.0, 15.0), "12345": (25.0, 32.5), "3": (71.0, 51.0)}
    small = gq.pl.nuclei(IMAGE, LABELS, ax=plt.subplots(figsize=(0.7, 0.7))[1])
    assert {t.get_text() for t in small.texts} == {"7"}
    assert not gq.pl.nuclei(IMAGE, LABELS, numbers=False).texts


@pytest.mark.same_process
def test_a_large_image_shows_a_window_and_reads_only_that():
    read = []

    def block(block_info=None):
        info = block_info[None]
        read.append(info["chunk-location"])
        return np.ones(info["chunk-shape"], "u2")

    def lazy():
        chunks = ((1024,) * 20, (1024,) * 20)
        return da.map_blocks(block, chunks=chunks, dtype="u2")

    image, labels = lazy(), lazy()
    read.clear()
    ax = gq.pl.nuclei(image, labels, count=98_765, what="cells")
    assert len(read) <= 2 * 9
    assert ax.get_title() == "1 of 98,765 cells, 2,048 × 2,048 of 20,480 × 20,480 px"
    assert ax.get_xlim() == (9216, 11264)
    read.clear()
    gq.pl.nuclei(image, labels, window=np.s_[:512, 1024:1536])
    assert set(read) == {(0, 1)}
    with pytest.raises(ParameterError, match="window"):
        gq.pl.nuclei(image, labels, window=np.s_[:4096, :4096])
    with pytest.raises(ParameterError, match="pair of slices"):
        gq.pl.nuclei(image, labels, window=4)


@pytest.mark.filterwarnings("ignore:Sending large graph")  # with --cluster
def test_a_long_image_keeps_its_shorter_side():
    labels = np.zeros((50, 200_000), "u1")
    ax = gq.pl.nuclei(labels, labels)
    assert ax.get_ylim() == (50, 0)
    assert ax.get_xlim()[1] - ax.get_xlim()[0] == (1 << 22) // 50
    assert ax.get_title().startswith("0 nuclei")


def test_a_plane_of_a_stack():
    stack = np.stack([LABELS * 0, LABELS, LABELS])
    image = xr.DataArray(stack.astype("u2"), dims=("z", "y", "x"))
    ax = gq.pl.nuclei(image, stack, z=0)
    assert ax.get_title() == "0 nuclei, z 0 of 0–2"
    assert gq.pl.nuclei(image, stack).get_title() == "3 nuclei, z 1 of 0–2"


def test_labels_that_do_not_lie_on_the_image_are_refused():
    with pytest.raises(ImageError, match="same pixels"):
        gq.pl.nuclei(IMAGE, LABELS[:50])
    with pytest.raises(ImageError, match="float64"):
        gq.pl.nuclei(IMAGE, LABELS.astype("f8"))


TABLE = pd.DataFrame(
    {
        "area": [10, 20, 400, 5000],
        "eccentricity": [0.1, 0.5, 0.95, np.nan],
        "centroid_y": [0.0, 15.9, 16.0, 39.5],
        "centroid_x": [3.0, 15.0, 16.0, 20.0],
    }
)


def test_density_counts_centroids_and_scales_tiles_that_are_cut():
    ax = gq.pl.object_density(TABLE, tile=16, shape=(40, 24), what="cells")
    values = ax.collections[0].get_array().reshape(3, 2)
    assert values.tolist() == [[2, 0], [0, 2], [0, 4]]
    assert ax.figure.axes[1].get_ylabel() == "cells per tile (16 × 16 px)"
    counts = xr.DataArray([[1.0, 2.0]], dims=("tile_y", "tile_x"), attrs={"tile": 8})
    shown = gq.pl.object_density(counts).collections[0].get_array()
    assert shown.ravel().tolist() == [1, 2]


def test_distributions_say_their_medians():
    area, eccentricity = gq.pl.object_distributions(TABLE)
    assert [t.get_text() for t in area.get_legend().get_texts()] == ["median 210 px"]
    assert area.get_xscale() == "log"
    said = [t.get_text() for t in eccentricity.get_legend().get_texts()]
    assert said == ["median 0.50", "above 0.9: 33.3%"]
    area.figure.canvas.draw()


@pytest.mark.parametrize("table", [TABLE[:0], TABLE.assign(eccentricity=np.nan)])
def test_tables_without_values_are_drawn(table):
    for ax in gq.pl.object_distributions(table):
        ax.figure.canvas.draw()
    gq.pl.object_density(table).figure.canvas.draw()


def test_a_table_without_the_columns_is_refused():
    with pytest.raises(ParameterError, match="centroid_y, centroid_x"):
        gq.pl.object_density(TABLE[["area"]])
    with pytest.raises(ParameterError, match="eccentricity"):
        gq.pl.object_distributions(TABLE[["area"]])


def test_a_region_against_the_whole_is_a_share_of_each():
    image = np.zeros((10, 10), "u1")
    image[:, 5:] = 4
    whole, part = (gq.histogram(i).compute() for i in (image, gq.region(image, np.s_[:, 6:])))
    ax = gq.pl.region_histogram(whole, part)
    first, second = (p.get_data() for p in ax.patches)
    assert first.values.tolist() == [0.5, 0, 0, 0, 0.5]
    assert second.values.tolist() == [1]
    assert first.edges.tolist() == [0, 1, 2, 3, 4, 5]
    said = [t.get_text() for t in ax.get_legend().get_texts()]
    assert said == ["whole image: 100 px", "region: 40 px"]
    ax.figure.canvas.draw()


def test_many_bins_are_joined_into_equally_many_each():
    values = np.arange(1000, dtype="u2").repeat(10).reshape(100, 100)
    whole = gq.histogram(values).compute()
    ax = gq.pl.region_histogram(whole, gq.histogram(values[:50]).compute())
    shares = ax.patches[0].get_data().values
    np.testing.assert_allclose(shares, 0.001)
    np.testing.assert_allclose(ax.patches[1].get_data().values[:60], 0.002)


def test_an_empty_region_is_drawn_and_what_is_no_histogram_refused():
    image = np.arange(12, dtype="f4").reshape(3, 4)
    whole = gq.histogram(image, bins=4).compute()
    empty = gq.histogram(image, bins=4, mask=np.zeros((3, 4), bool)).compute()
    gq.pl.region_histogram(whole, empty).figure.canvas.draw()
    gq.pl.region_histogram(empty, empty).figure.canvas.draw()
    with pytest.raises(ParameterError, match="part"):
        gq.pl.region_histogram(whole, image)
