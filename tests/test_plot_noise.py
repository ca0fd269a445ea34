"""The picture of a mixture: what it shows, of results of any kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr

import gigaqc as gq
from gigaqc.errors import ChannelError, ParameterError


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def result() -> xr.Dataset:
    rng = np.random.default_rng(0)
    noise = np.hypot(*rng.normal(0, 10, (2, 60, 60)))
    signal = rng.normal(3000, 200, (60, 60))
    wide = np.hstack([noise, signal])
    narrow = np.hstack([noise, noise + 40])
    image = xr.DataArray(
        np.rint(np.stack([wide, narrow])).astype("u2"),
        dims=tuple("cyx"),
        coords={"c": ["wide", "narrow"]},
    )
    return gq.isnr(image, n_clusters=2).compute()


def labels_of(ax: object) -> list[str]:
    return [t.get_text() for t in ax.get_legend().get_texts()]  # type: ignore[attr-defined]


def test_a_channel_without_a_name_has_no_title() -> None:
    found = gq.isnr(np.random.default_rng(0).poisson(9, (40, 40))).compute()
    assert gq.pl.mixture(found).get_title() == ""


@pytest.mark.parametrize(("channel", "scale"), [("wide", "asinh"), (1, "linear")])
def test_components_over_the_histogram(result: xr.Dataset, channel: str | int, scale: str) -> None:
    ax = gq.pl.mixture(result, channel)
    ax.figure.draw_without_rendering()
    one = result.isel(c=0 if channel == "wide" else 1)
    assert ax.get_title() == one["c"].item() and ax.get_xscale() == scale
    noise, signal, total, threshold = ax.get_lines()
    assert threshold.get_xdata()[0] == one["threshold"]
    mean, spread = float(one["component_mean"][0]), float(one["component_variance"][0]) ** 0.5
    x, y = noise.get_data()
    assert abs(x[np.argmax(y)] - mean) < spread / 10
    assert y.max() == pytest.approx(
        float(one["component_weight"][0]) / spread / np.sqrt(2 * np.pi), rel=1e-2
    )
    np.testing.assert_allclose(total.get_ydata(), y + signal.get_ydata())
    words = labels_of(ax)
    assert words[0] == "all values" and words[1].startswith("noise: ")
    assert words[2].startswith("signal: ") and words[-1].startswith("noise up to ")
    assert ax.get_legend().get_title().get_text() == f"iSNR {float(one['isnr']):.3g}"
    assert noise.get_color() != signal.get_color()
    assert noise.get_linestyle() != signal.get_linestyle()  # told apart without colours


def test_the_histogram_is_a_density(result: xr.Dataset) -> None:
    (stairs,) = gq.pl.mixture(result).patches
    values, edges, _ = stairs.get_data()
    assert (np.diff(edges) > 0).all()
    assert (values * np.diff(edges)).sum() == pytest.approx(1)


def test_labels_of_the_axis_do_not_meet(result: xr.Dataset) -> None:
    ax = gq.pl.mixture(result)
    ax.figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in ax.get_xticklabels() if t.get_text()]
    assert len(boxes) >= 4
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def test_the_given_axes(result: xr.Dataset) -> None:
    import matplotlib.pyplot as plt

    ax = plt.subplots()[1]
    assert gq.pl.mixture(result, ax=ax) is ax


def test_without_components_or_values() -> None:
    values = np.random.default_rng(0).poisson(50, (30, 30))
    mask = np.zeros((30, 30), bool)
    mask[:9] = True
    by_mask = gq.pl.mixture(gq.isnr(values, noise_mask=mask).compute())
    assert not by_mask.get_lines() and labels_of(by_mask) == ["all values"]
    assert not gq.pl.mixture(gq.isnr(np.full((4, 4), 3.0)).compute()).get_lines()
    nothing = gq.pl.mixture(gq.isnr(np.full((4, 4), np.nan)).compute())
    assert nothing.texts[0].get_text() == "no finite values"
    one_value = np.tile(np.array([[0, 7]], "u2"), (9, 9))
    gq.pl.mixture(gq.isnr(one_value).compute()).figure.draw_without_rendering()


def test_errors(result: xr.Dataset) -> None:
    with pytest.raises(ParameterError, match=r"result: got Dataset .*pass what gq\.isnr gives"):
        gq.pl.mixture(gq.histogram(np.arange(9).reshape(3, 3)))
    with pytest.raises(ParameterError, match="result: got ndarray"):
        gq.pl.mixture(np.zeros((3, 3)))  # type: ignore[arg-type]
    with pytest.raises(ChannelError, match="narrow"):
        gq.pl.mixture(result, "none")
