"""Pictures are drawn from results, on the axes they are given, whatever the results hold."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gigaqc import plot
from gigaqc.errors import ChannelError, ParameterError
from gigaqc.plot.density import density_of, levels_of

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
matplotlib.use("Agg")


@pytest.fixture(scope="module")
def made() -> Any:
    path = Path(__file__).parent / "report" / "fake_assessment.py"
    spec = importlib.util.spec_from_file_location("fake_assessment_of_plots", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def assessment(made: Any) -> Any:
    return made.fake(["DAPI", "actin", "$\\frac{1}{0$", "_CD3"])


@pytest.fixture
def ax() -> Any:
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def draw(ax: Any) -> None:
    ax.figure.canvas.draw()


def test_matplotlib_is_imported_only_when_a_picture_is_drawn() -> None:
    code = "import sys, gigaqc.plot; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_each_function_draws_on_the_axes_it_is_given(assessment: Any, ax: Any) -> None:
    assert plot.histograms(assessment, ax=ax) is ax
    assert plot.correlation(assessment.correlation, ax=ax.figure.add_subplot()) is not ax
    draw(ax)


def test_without_axes_pyplot_makes_a_figure(assessment: Any) -> None:
    import matplotlib.pyplot as plt

    before = len(plt.get_fignums())
    made_here = plot.tiles(assessment, "local_snr", "actin")
    assert len(plt.get_fignums()) == before + 1
    assert made_here.get_title() == "actin"
    plt.close(made_here.figure)


def test_a_notebook_shows_each_figure_once(assessment: Any) -> None:
    import matplotlib.pyplot as plt

    before = set(plt.get_fignums())
    axes = plot.channels(assessment)  # an array: shown because pyplot has its figure open
    (opened,) = set(plt.get_fignums()) - before
    assert axes[0].figure is plt.figure(opened)
    plt.close(opened)
    plot.summary(assessment)  # a Figure: shown because the cell returns it
    assert set(plt.get_fignums()) == before


def test_summary_has_a_picture_and_a_histogram_for_each_channel(assessment: Any) -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figure = plot.summary(assessment)
    figure.canvas.draw()
    assert plt.get_fignums() == before
    assert sum(bool(a.images) for a in figure.axes) == 4
    assert sum(bool(a.patches) for a in figure.axes) == 4


def test_channels_gives_one_axes_a_channel(assessment: Any) -> None:
    for results in (assessment, assessment.thumbnails):
        axes = plot.channels(results)
        assert len(axes) == 4
        draw(axes[0])
    assert axes[2].get_title() == "\\$\\frac{1}{0\\$"


def test_histogram_marks_otsu_and_the_clipping_level(assessment: Any, ax: Any) -> None:
    assessment.channels.loc["DAPI", ["clipped_fraction", "clipping_level"]] = [0.1, 4.0]
    plot.histograms(assessment, "DAPI", ax)
    draw(ax)
    assert [line.get_xdata()[0] for line in ax.lines] == [
        assessment.channels.otsu_threshold["DAPI"],
        4.0,
    ]
    assert ax.get_yscale() == "log"


def test_histogram_of_one_value_and_of_none(ax: Any) -> None:
    dataset = xr.Dataset(
        {
            "counts": (("c", "bin"), [[9.0, 0.0], [0.0, 0.0]]),
            "edges": (("c", "edge"), [[7.0, 7.0, 7.0], [np.nan] * 3]),
        },
        coords={"c": ["flat", "empty"]},
    )
    plot.histograms(dataset, "flat", ax)
    draw(ax)
    assert ax.get_xlim()[0] < 7 < ax.get_xlim()[1]
    other = plot.histograms(dataset, "empty", ax.figure.add_subplot(label="other"))
    assert other.texts[0].get_text() == "no finite values"


def test_correlation_outlines_unexpected_pairs_only(ax: Any) -> None:
    names = ["A", "B", "C"]
    matrix = xr.DataArray(
        [[1, 0.9, 0.8], [0.9, 1, np.nan], [0.8, np.nan, 1]],
        dims=("c", "c_other"),
        coords={"c": names, "c_other": names},
    )
    plot.correlation(matrix, ax, expected=[("C", "A")])
    draw(ax)
    assert sorted(p.get_xy() for p in ax.patches) == [(-0.5, 0.5), (0.5, -0.5)]


def test_tiles_average_other_dims_and_name_what_there_is(assessment: Any, ax: Any) -> None:
    stacked = xr.concat([assessment.tiles, assessment.tiles * 3], "z")
    plot.tiles(stacked, "mean", "actin", ax)
    expected = 2 * assessment.tiles["mean"].sel(c="actin")
    np.testing.assert_allclose(ax.images[0].get_array(), expected)
    with pytest.raises(ParameterError, match=r"variable: no 'sharp'.*tenengrad"):
        plot.tiles(assessment, "sharp")
    with pytest.raises(ChannelError, match="no channel 'CD9'"):
        plot.tiles(assessment, "mean", "CD9")


def test_joint_histogram_puts_x_along_x(ax: Any) -> None:
    counts = np.zeros((3, 2))
    counts[2, 0] = 50
    dataset = xr.Dataset(
        {
            "counts": (("bin_x", "bin_y"), counts),
            "edges_x": ("edge_x", [0.0, 1, 2, 3]),
            "edges_y": ("edge_y", [0.0, 1, 2]),
        }
    )
    plot.joint_histogram(dataset, ax)
    draw(ax)
    shown = ax.collections[0].get_array().reshape(2, 3)
    assert shown[0, 2] == 50
    assert np.ma.count_masked(shown) == 5
    empty = plot.joint_histogram(dataset * 0, ax.figure.add_subplot(label="other"))
    assert empty.texts[0].get_text() == "no pixels"


def joint(counts: np.ndarray, edges_x: np.ndarray, edges_y: np.ndarray) -> xr.Dataset:
    return xr.Dataset(
        {
            "counts": (("bin_x", "bin_y"), counts),
            "edges_x": ("edge_x", edges_x),
            "edges_y": ("edge_y", edges_y),
        }
    )


def inside(ax: Any, label: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points the line of this name goes around."""
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    paths = ax.collections[-1].get_paths()[::-1]  # of ascending densities: the outermost is first
    return paths[names.index(label)].contains_points(np.stack([x, y], axis=-1))


@pytest.mark.parametrize("smooth", [0, 1.0, 2.5])
def test_contours_hold_the_share_that_they_say(ax: Any, smooth: float) -> None:
    """In bins of any width; so do lines about the pixels of a Gaussian that are nearest to it."""
    x, y = np.random.default_rng(0).normal([[20], [300]], [[4], [60]], (2, 200_000))
    edges = np.concatenate([np.arange(0, 20, 1.0), np.arange(20, 41, 0.5)]), np.linspace(0, 600, 61)
    counts, *_ = np.histogram2d(x, y, edges)
    plot.joint_histogram(joint(counts, *edges), ax, contours=(0.95, 0.5, 0.8), smooth=smooth)
    draw(ax)
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert names == ["50 % of pixels", "80 % of pixels", "95 % of pixels"]
    from_centre = ((x - 20) / 4) ** 2 + ((y - 300) / 60) ** 2
    for share, name in zip((0.5, 0.8, 0.95), names, strict=True):
        held = inside(ax, name, x, y)
        assert held.mean() == pytest.approx(share, abs=0.03)
        near = from_centre <= -2 * np.log(1 - share)
        assert (held == near).mean() > 0.93
    assert ax.get_xlim() == (0, 40.5) and ax.get_ylim() == (0, 600)


def test_levels_are_of_the_smallest_set_of_bins() -> None:
    counts = np.array([[6.0, 1, 0], [2, 0, 1]])
    levels = levels_of(counts, counts, [0.5, 0.6, 0.61, 0.8, 0.9, 0.999])
    assert levels == [4, 4, 1.5, 1.5, 0.5, 0.5]
    narrow = density_of(counts, np.array([0.0, 1, 1.5]), np.array([0.0, 1, 2, 4]), 0)
    np.testing.assert_array_equal(narrow, [[6, 1, 0], [4, 0, 1]])


def test_one_line_for_shares_that_a_bin_does_not_tell_apart(ax: Any) -> None:
    counts = np.zeros((5, 4))
    counts[2, 1], counts[4, 3] = 90, 10  # one of them at the border: its line is closed there
    plot.joint_histogram(
        joint(counts, np.arange(6.0), np.arange(5.0)), ax, contours=[0.5, 0.8, 0.95], smooth=0
    )
    draw(ax)
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert names == ["50 %, 80 % of pixels", "95 % of pixels"]
    corner = (np.array([4.5, 2.5]), np.array([3.5, 1.5]))
    assert inside(ax, names[0], *corner).tolist() == [False, True]
    assert inside(ax, names[1], *corner).tolist() == [True, True]


@pytest.mark.parametrize("contours", [[], 0, 1, 50, [0.5, 95], ["half"], "0.5", True, [np.nan]])
def test_contours_that_are_no_shares(ax: Any, contours: Any) -> None:
    dataset = joint(np.ones((2, 2)), np.arange(3.0), np.arange(3.0))
    with pytest.raises(ParameterError, match=r"contours: got .*; pass shares of the pixels"):
        plot.joint_histogram(dataset, ax, contours=contours)
    with pytest.raises(ParameterError, match="smooth: got -1; pass a number of bins"):
        plot.joint_histogram(dataset, ax, contours=0.5, smooth=-1)
    plot.joint_histogram(dataset, ax, contours=0.5)
    assert len(ax.get_legend().get_texts()) == 1


def test_nothing_measurable_is_drawn_and_said(made: Any) -> None:
    empty = made.all_nan()
    plot.summary(empty).canvas.draw()
    from matplotlib.figure import Figure

    ax = plot.tiles(empty, ax=Figure().add_subplot())
    assert ax.texts[0].get_text() == "not measurable"
    draw(plot.correlation(empty, ax=Figure().add_subplot()))


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([np.nan, np.inf], (0, 1)),
        ([3, 3, 3], (3, 4)),
        ([0] * 9999 + [7], (0, 7)),
        (np.arange(1001), (10, 998)),
    ],
)
def test_contrast_limits(values: Any, limits: tuple[float, float]) -> None:
    assert plot.contrast_limits(values) == pytest.approx(limits)
