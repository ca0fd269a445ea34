"""Sections about results beside the assessment."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import matplotlib
import numpy as np
import pytest
import xarray as xr

import gigaqc as gq
from gigaqc import report
from gigaqc.errors import ParameterError
from gigaqc.report import pictures


@pytest.fixture(scope="module")
def image() -> xr.DataArray:
    """Two channels with disks."""
    y, x = np.mgrid[:96, :96]
    disks = ((y % 24 - 12) ** 2 + (x % 24 - 12) ** 2 < 50) * 80
    noise = np.random.default_rng(0).poisson(20, (2, 96, 96))
    stack = (noise + np.stack([disks, disks[::-1] // 3])).astype("u2")
    return xr.DataArray(stack, dims=("c", "y", "x"), coords={"c": ["DAPI", "actin"]})


@pytest.fixture(scope="module")
def assessment(image: xr.DataArray) -> Any:
    """Of that image."""
    return gq.assess(image, tile=32, progress=False)


def _section(page: str, anchor: str) -> str:
    part = page[page.index(f'<section id="{anchor}"') :]
    return part[: part.index("</section>")]


def test_no_section_without_its_result(assessment: Any) -> None:
    page = report.render(assessment)
    assert not [a for a in ("gain", "isnr", "clusters", "nuclei") if f'<section id="{a}"' in page]


def test_photon_transfer(assessment: Any) -> None:
    light = np.linspace(100, 1000, 4096).reshape(64, 64)
    frames = np.random.default_rng(0).poisson(light, (60, 64, 64)) // 2
    series = xr.DataArray(frames, dims=("t", "y", "x"))
    lazy = gq.gain_map(series, estimator="variance")
    part = _section(report.render(assessment, gain=lazy), "gain")
    gain = float(lazy["gain"].compute())
    assert f">{gain:.3g}<" in part and part.count("<img") == 1
    part = _section(report.render(assessment, gain=lazy.compute()), "gain")
    assert part.count("<img") == 2  # with the map, which is in memory


def test_photon_transfer_that_cannot_be_measured_says_why(assessment: Any) -> None:
    flat = xr.DataArray(np.ones((5, 2, 16, 16)), dims=("t", "c", "y", "x"),
                        coords={"c": ["DAPI", "<b>"]})  # fmt: skip
    part = _section(report.render(assessment, gain=gq.gain_map(flat)), "gain")
    assert part.count("no: ") == 2 and "&lt;b&gt;" in part and "<b>DAPI" not in part


def test_image_snr(image: xr.DataArray, assessment: Any) -> None:
    found = gq.isnr(image, correction=None)
    part = _section(report.render(assessment, isnr=found), "isnr")
    for value in found["isnr"].compute().values:
        assert f">{value:.3g}<" in part
    assert 'href="#channel-1"' in part and part.count("<img") == 2
    assert "Exact: every distinct value was counted." in part


def test_clusters(image: xr.DataArray, assessment: Any) -> None:
    found = gq.cluster_pixels([image, image], 3, fraction=1)
    part = _section(report.render(assessment, clusters=found), "clusters")
    assert part.count("<tr>") == 1 + 3 and part.count("<img") == 2
    assert "of the first of 2 fields of view" in part


def test_nuclei(image: xr.DataArray, assessment: Any, tmp_path: Any) -> None:
    labels = (image.sel(c="DAPI").drop_vars("c") > 60).astype("i4")
    assessment.to_html(tmp_path / "page.html", nuclei=(image, labels))
    part = _section((tmp_path / "page.html").read_text("utf-8"), "nuclei")
    assert part.count("data:image/webp") == 1
    assert len(part) < 500_000


@pytest.mark.parametrize(
    ("argument", "cure"),
    [
        ("gain", "pass what gq.gain_map gives"),
        ("isnr", "pass what gq.isnr gives"),
        ("clusters", "pass what gq.cluster_pixels gives"),
        ("nuclei", r"pass \(image, labels\)"),
    ],
)
def test_other_things_are_refused_and_no_page_is_written(
    assessment: Any, argument: str, cure: str, tmp_path: Any
) -> None:
    with pytest.raises(ParameterError, match=f"{argument}: got ndarray; {cure}"):
        assessment.to_html(tmp_path / "page.html", **{argument: np.zeros(3)})
    assert not list(tmp_path.iterdir())


def test_threads_draw_one_figure_at_a_time() -> None:
    before, drawing, most = dict(matplotlib.rcParams), [], []

    def draw(number: int) -> None:
        with pictures.paper(2 + number, 2):
            drawing.append(number)
            time.sleep(0.01)
            most.append(len(drawing))
            drawing.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(draw, range(8)))
    assert most == [1] * 8 and dict(matplotlib.rcParams) == before
