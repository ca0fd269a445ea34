"""What README.md shows runs as it stands there, in a folder that holds the files it names."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import warnings
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tifffile
import xarray as xr
from typer.testing import CliRunner

import gigaqc as gq
from gigaqc.cli import app

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that README.md names."""
    image = gq.example_image()
    shutil.copy(str(image.attrs["source"]), tmp_path / "slide.ome.tiff")
    (tmp_path / "scans").mkdir()
    for name in ("a", "b", "c"):
        gq.write_image(image[:, :128, :128], tmp_path / "scans" / f"{name}.zarr")
    (tmp_path / "samples.csv").write_text("sample,path,batch\none,scans/a.zarr,x\n")
    rng = np.random.default_rng(0)
    volume = rng.normal(0, 5, (12, 6, 24, 24)) + 900 * (np.hypot(*np.mgrid[-12:12, -12:12]) < 9)
    series = xr.DataArray(np.abs(volume).astype("i2"), dims=("t", "z", "y", "x"))
    gq.write_image(series, tmp_path / "bold.nii.gz")
    gq.write_image(series[0], tmp_path / "t1w.nii.gz")
    (tmp_path / "frames").mkdir()
    light = np.linspace(100, 1000, 32 * 32).reshape(32, 32)
    for k in range(24):
        frame = rng.poisson(light).astype("u2")
        tifffile.imwrite(tmp_path / "frames" / f"frame_{k}.tif", frame)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
def test_python(folder: Path) -> None:
    names: dict[str, object] = {}
    with matplotlib.rc_context({"backend": "agg"}), warnings.catch_warnings():
        # Of spatialdata, its plots and what they import; ours are errors.
        for other in ("spatialdata", "spatialdata_plot", "dask", "numba", "zarr", "xarray_schema"):
            warnings.filterwarnings("ignore", module=other)
        warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
        for block in blocks("python"):
            exec(compile(block, str(README), "exec"), names)
        plt.close("all")
    for name in ("slide.html", "nuclei.zarr", "normalized.zarr", "model.npz", "all/index.html"):
        assert (folder / name).exists(), name
    assert "qc_img_raw" in names["sdata"].tables  # type: ignore[attr-defined]


@pytest.mark.long
def test_shell(folder: Path) -> None:
    [_, commands] = blocks("sh")
    lines = [line for line in commands.splitlines() if line.startswith("gigaqc ")]
    assert len(lines) == 11
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        words = [m for w in words for m in (map(str, sorted(Path().glob(w))) if "*" in w else [w])]
        with contextlib.chdir(folder):
            done = CliRunner().invoke(app, words)
        strict = "--strict" in words
        assert done.exit_code in ((0, 1) if strict else (0,)), (line, done.output)
    there = ("results/slide.html", "all/summary.csv", "clusters/clusters.png", "nuclei")
    assert all(os.path.exists(path) for path in there)
