"""What a notebook shows of results: short, escaped, and nothing that runs."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import xarray as xr

import gigaqc as gq
from gigaqc.base.formatting import names, table_html
from gigaqc.verdict import progress

HOSTILE = "<script>alert(1)</script>\"'&"


def image(*channels: str) -> xr.DataArray:
    pixels = np.random.default_rng(0).poisson(9, (len(channels), 32, 32)).astype("u2")
    return xr.DataArray(pixels, dims=("c", "y", "x"), coords={"c": list(channels)})


def cells_of(html: str) -> list[list[str]]:
    """Text of the cells of each row of the body."""
    rows = re.findall(r"<tr>(.*?)</tr>", html.split("<tbody>")[1])
    return [re.findall(r">([^<>]+)<", row) for row in rows]


def test_statistics_show_a_row_a_channel() -> None:
    pixels = image("DNA", "CD3")
    found = gq.scan(pixels).compute()
    html = found._repr_html_()
    first = pixels.values[0].astype("f8")
    numbers = (first.min(), first.mean(), first.std(), first.max())
    assert cells_of(html)[0] == ["DNA", "1,024", *(f"{v:.4g}" for v in numbers)]
    assert [row[0] for row in cells_of(html)] == ["DNA", "CD3"]
    assert "c 2 × y 32 × x 32, uint16" in html
    assert repr(found).startswith("Statistics of c 2 × y 32 × x 32, uint16, channels DNA, CD3; ")
    assert "2 images" in repr(found + found)
    assert "compute()" in repr(gq.scan(pixels))


def test_clusters_show_their_profile() -> None:
    pixels = np.zeros((2, 32, 32), "u2")
    pixels[:, :, 8:] = 100
    found = gq.cluster_pixels([pixels, pixels], 2, method="kmeans", fraction=1)
    rows = cells_of(found._repr_html_())
    assert rows == [["1", "512", "25.0%", "0", "0"], ["2", "1,536", "75.0%", "100", "100"]]
    assert repr(found).startswith("PixelClusters: 2 by kmeans, 2,048 pixels of 2 images, trained")
    assert repr(found.model) == "PixelModel: 2 clusters by kmeans, channels 0, 1"


@pytest.mark.parametrize("make", [
    lambda i: gq.scan(i).compute(),
    lambda i: gq.cluster_pixels(i, 2, method="kmeans", fraction=1),
])  # fmt: skip
def test_names_are_text(make: Any) -> None:
    html = make(image(HOSTILE, "b"))._repr_html_()
    assert "<script" not in html and "&lt;script&gt;" in html


def test_long_tables_and_names_are_cut() -> None:
    html = table_html("t", "f", ["n"], [[str(k)] for k in range(130)])
    assert len(cells_of(html)) == 100
    assert "30 more rows" in html
    assert names(range(40)) == "0, 1, 2, 3, 4, 5, 6, 7 and 32 more"


@pytest.mark.same_process
def test_a_notebook_has_a_bar_only_while_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, said: str) -> None:
            shown.append(said)

    def display(said: str, display_id: bool) -> Handle:
        shown.append(said)
        return Handle()

    stand_in = ModuleType("IPython.display")
    stand_in.HTML, stand_in.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setattr("gigaqc.verdict.progress.in_notebook", lambda: True)
    monkeypatch.setitem(sys.modules, "IPython.display", stand_in)
    pixels = image("a")
    with progress.shown("reading", pixels.nbytes, show=True):
        gq.scan(pixels).compute()
    assert shown == []

    now = [0.0]

    def later() -> float:
        now[0] += 1
        return now[0]

    monkeypatch.setattr(progress.time, "monotonic", later)
    with progress.shown("reading", pixels.nbytes, show=True):
        gq.scan(pixels.chunk(y=16)).compute()
    assert "reading: 2 KiB of 2 KiB" in shown[-2]
    assert shown[-1] == ""
    with progress.tasks_shown("fitting", show=True):
        gq.scan(pixels).compute()
    assert "fitting: " in shown[-2] and "KiB" not in shown[-2]


def test_the_example_comes_along() -> None:
    found = gq.example_image()
    assert found.shape == (3, 512, 512) and found.c.values.tolist() == ["DNA", "pH3", "Actin"]
