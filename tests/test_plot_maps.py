"""Pictures of maps: what they show, of what size, and on which scale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ChannelError, ParameterError


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    yield
    plt.close("all")


def volume(**attrs: Any) -> xr.DataArray:
    values = np.arange(2 * 7 * 20 * 30, dtype="f8").reshape(2, 7, 20, 30)
    return xr.DataArray(
        values, dims=("c", "z", "y", "x"), coords={"c": ["a", "b$"]}, name="tsnr", attrs=attrs
    )


def picture(ax: Any) -> np.ma.MaskedArray:
    (image,) = ax.get_images()
    return image.get_array()


def label(ax: Any) -> str:
    return ax.get_images()[0].colorbar.ax.get_ylabel()


def legend(ax: Any) -> list[str]:
    return [] if ax.get_legend() is None else [t.get_text() for t in ax.get_legend().get_texts()]


def test_the_middle_plane_of_the_first_channel() -> None:
    ax = gq.pl.map(volume())
    low, high = ax.get_images()[0].get_clim()
    plane = volume().values[0, 3]
    assert (low, high) == tuple(np.percentile(plane, [1, 99]))
    inside = (plane > low) & (plane < high)
    np.testing.assert_array_equal(picture(ax)[inside], plane[inside])
    assert ax.get_title() == "a, z 3 of 0\u20136" and label(ax) == "temporal SNR"
    assert ax.get_xlim() == (0, 30) and ax.get_ylim() == (20, 0)
    assert legend(ax) == []


def test_another_plane_channel_limits_and_label() -> None:
    ax = gq.pl.map(volume(), channel="b$", z=-1, limits=(0, 1e5), label="seconds")
    np.testing.assert_array_equal(picture(ax), volume().values[1, 6])
    assert ax.get_title() == r"b\$, z 6 of 0\u20136".replace(r"\u2013", "\u2013")
    assert ax.get_images()[0].get_clim() == (0, 1e5) and label(ax) == "seconds"
    series = volume().rename(z="t")
    assert gq.pl.map(series, t=2).get_title() == "a, t 2 of 0\u20136"


def test_ax_is_used_and_returned() -> None:
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    assert gq.pl.map(np.eye(20), ax) is ax
    assert ax.get_title() == "" and label(ax) == "value"


def test_what_is_missing_is_grey_and_counted_and_infinity_is_not_missing() -> None:
    values = np.tile(np.arange(10.0), (10, 1))
    values[0, :5], values[1, 0], values[2, 0] = np.nan, np.inf, -np.inf
    ax = gq.pl.map(values)
    shown = ax.get_images()[0]
    assert legend(ax) == ["not measurable (NaN): 5.0%"]
    colours = shown.cmap(shown.norm(picture(ax)))
    np.testing.assert_allclose(colours[0, 0, :3], 0.78)
    np.testing.assert_array_equal(colours[1, 0], shown.cmap(1.0))
    np.testing.assert_array_equal(colours[2, 0], shown.cmap(0.0))
    assert shown.colorbar.extend == "both"
    assert gq.pl.map(np.full((9, 9), np.nan)).get_images()[0].get_clim() == (0, 1)
    assert gq.pl.map(values, limits=(-1e9, 20)).get_images()[0].colorbar.extend == "both"
    assert gq.pl.map(np.eye(9), limits=(0, 1)).get_images()[0].colorbar.extend == "neither"


def test_a_few_extreme_pixels_do_not_decide_the_scale() -> None:
    values = np.random.default_rng(0).normal(50, 5, (200, 200))
    values[0, :9] = 1e9
    assert gq.pl.map(values).get_images()[0].get_clim()[1] < 70


def test_large_planes_are_thinned_and_other_planes_not_read(tmp_path: Path) -> None:
    store = testing.CountingStore(tmp_path / "a.zarr")
    array = zarr.create_array(store, shape=(1, 3, 1500, 2100), chunks=(1, 1, 500, 700), dtype="u1")
    array[:] = np.broadcast_to(np.arange(2100) % 200, array.shape)
    testing.reset_reads(store)
    image = gq.open_image(zarr.open_array(store, mode="r"), dims="czyx")
    ax = gq.pl.map(image, limits=(0, 255))
    assert picture(ax).shape == (750, 1050)
    np.testing.assert_array_equal(picture(ax)[0], (np.arange(2100) % 200)[::2])
    assert ax.get_xlim() == (0, 2100)
    reads = testing.count_reads(store)
    assert len(reads) == 9 and set(reads.values()) == {1}
    assert all(key.split("/")[-3] == "1" for key in reads)


def test_pixels_are_as_high_as_they_are_and_heads_up() -> None:
    ax = gq.pl.map(volume(pixel_size={"y": 3.0, "x": 1.5}))
    assert ax.get_aspect() == 2.0
    front = np.diag([-2.0, 2.0, 3.0, 1.0])
    upright = gq.pl.map(volume(affine=front.tolist()))
    assert upright.get_ylim() == (0, 20)
    assert gq.pl.map(volume(affine=(-front).tolist())).get_ylim() == (20, 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"channel": "c"}, ChannelError, "no channel 'c'"),
        ({"z": 7}, ParameterError, "z: got 7; pass a whole number from 0 to 6"),
        ({"z": 1.5}, ParameterError, "z: got 1.5"),
        ({"t": 0}, ParameterError, "t: the map has no t axis"),
        ({"limits": (2, 1)}, ParameterError, "pass two ascending numbers"),
        ({"limits": 3}, ParameterError, "pass two ascending numbers"),
        ({"limits": (0, np.nan)}, ParameterError, "pass two ascending numbers"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        gq.pl.map(volume(), **options)
    if "t" not in options:
        with pytest.raises(error, match=message):
            gq.pl.compare_maps(volume(), volume(), **options)


def test_two_maps_on_one_scale() -> None:
    rng = np.random.default_rng(0)
    first = xr.DataArray(rng.normal(50, 5, (5, 60, 50)), dims=("z", "y", "x"), name="tsnr")
    second = xr.DataArray(rng.normal(80, 5, (9, 40, 70)), dims=("z", "y", "x"))
    first[:, 0] = np.nan
    axes = gq.pl.compare_maps(first, second, ("8 channels", "32 channels"))
    assert len(axes) == 3
    limits = [ax.get_images()[0].get_clim() for ax in axes[:2]]
    both = np.concatenate([first.values.ravel(), second.values.ravel()])
    assert limits[0] == limits[1] == tuple(np.nanpercentile(both, [1, 99]))
    assert axes[0].get_title() == "8 channels\nz 2 of 0\u20134"
    assert axes[1].get_title() == "32 channels\nz 4 of 0\u20138"
    medians = [f"{np.nanmedian(m):.3g}" for m in (first, second)]
    assert legend(axes[2]) == [
        f"{name}: median {m}"
        for name, m in zip(("8 channels", "32 channels"), medians, strict=True)
    ]
    assert legend(axes[0]) and not legend(axes[1])
    assert axes[2].get_xlabel() == "temporal SNR"
    # What lies within the axis is drawn: almost all of each.
    for patch in axes[2].patches:
        counts, edges, _ = patch.get_data()
        assert 0.97 < (counts * np.diff(edges)).sum() <= 1


def test_maps_without_a_value_are_compared() -> None:
    axes = gq.pl.compare_maps(np.full((9, 9), np.nan), np.eye(9), limits=(0, 1))
    assert legend(axes[2]) == ["first: none", "second: median 0"]
    with pytest.raises(ParameterError, match="names: got 'ab'; pass two"):
        gq.pl.compare_maps(np.eye(9), np.eye(9), "ab")


def test_figures_are_written(tmp_path: Path) -> None:
    gq.pl.map(volume()).figure.savefig(tmp_path / "a.png")
    gq.pl.compare_maps(volume(), volume())[0].figure.savefig(tmp_path / "b.png")
    assert (tmp_path / "a.png").stat().st_size > 5000 < (tmp_path / "b.png").stat().st_size
