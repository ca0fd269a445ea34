"""`gigaqc isnr`, `tsnr` and `gain`, run as a user runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
import zarr
from typer.testing import CliRunner

import gigaqc as gq
from gigaqc import testing
from gigaqc.cli import app

RNG = np.random.default_rng(5)
FRAMES = RNG.normal(200, 9, (12, 40, 56)).round().astype("u2")
VOLUME = RNG.normal(300, 10, (9, 11, 4, 8)).astype("i2")
AFFINE = np.array([[-2.0, 0, 0, 9], [0, 2, 0, -8], [0, 0, 3, 7], [0, 0, 0, 1]])


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def fmri(tmp_path: Path) -> Path:
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(VOLUME, AFFINE)
    image.header.set_zooms((2.0, 2.0, 3.0, 1.5))
    nibabel.save(image, tmp_path / "bold.nii.gz")
    return tmp_path / "bold.nii.gz"


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "movie.tif", FRAMES, photometric="minisblack")
    return tmp_path / "movie.tif"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "frames"
    path.mkdir()
    for k, frame in enumerate(FRAMES, start=1):
        tifffile.imwrite(path / f"frame_{k}.tif", frame)
    return path


def test_tsnr_of_a_nifti_series(fmri: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    out = tmp_path / "out"
    done = run("tsnr", fmri, "-o", out, "--detrend", 0, "--ddof", 1)
    assert done.exit_code == 0, done.output
    assert names(out) == [
        "bold_mean.nii.gz", "bold_std.nii.gz", "bold_tsnr.csv", "bold_tsnr.png",
        "bold_tsnr_map.nii.gz",
    ]  # fmt: skip
    expected = VOLUME.mean(axis=3) / VOLUME.std(axis=3, ddof=1)
    found = nibabel.load(out / "bold_tsnr_map.nii.gz")
    np.testing.assert_allclose(found.get_fdata(), expected, rtol=1e-12)
    np.testing.assert_array_equal(found.affine, AFFINE)
    for name, values in (("mean", VOLUME.mean(axis=3)), ("std", VOLUME.std(axis=3, ddof=1))):
        loaded = nibabel.load(out / f"bold_{name}.nii.gz")
        np.testing.assert_allclose(loaded.get_fdata(), values, rtol=1e-12)
    table = pd.read_csv(out / "bold_tsnr.csv")
    assert table["n"].tolist() == [expected.size]
    assert table["median"].item() == pytest.approx(np.median(expected))
    assert "median" in done.output and f"Wrote {out / 'bold_tsnr_map.nii.gz'}" in done.output
    assert (out / "bold_tsnr.png").stat().st_size > 10_000


def test_options_of_tsnr(fmri: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    inside = np.zeros(VOLUME.shape[:3], "u1")
    inside[2:7, 3:, 1:] = 1
    nibabel.save(nibabel.Nifti1Image(inside, AFFINE), tmp_path / "mask.nii")
    out = tmp_path / "out"
    done = run("tsnr", fmri, "-o", out, "--detrend", 1, "--baseline", "intercept",
               "--mask", tmp_path / "mask.nii", "--format", "zarr", "--quiet")  # fmt: skip
    assert done.exit_code == 0 and done.output == ""
    series = gq.open_image(fmri)
    mask = xr.DataArray(inside.T > 0, dims=("z", "y", "x"))
    expected = gq.tsnr_map(series, detrend=1, baseline="intercept", mask=mask).values
    np.testing.assert_allclose(gq.open_image(out / "bold_tsnr_map.zarr").values, expected)
    table = pd.read_csv(out / "bold_tsnr.csv")
    assert table["n"].item() == inside.sum() and table["n_not_measurable"].item() == 0


@pytest.mark.parametrize("kind", ["multi-page", "folder", "glob", "files"])
def test_a_series_of_tiffs(tmp_path: Path, movie: Path, folder: Path, kind: str) -> None:
    """frame_2 comes before frame_10 also where the shell sorted them otherwise."""
    sources = {
        "multi-page": [movie],
        "folder": [folder],
        "glob": [folder / "frame_*.tif"],
        "files": sorted(folder.iterdir()),
    }[kind]
    out = tmp_path / "out"
    done = run("tsnr", *sources, "-o", out)
    assert done.exit_code == 0, done.output
    name = "movie" if kind == "multi-page" else "frames"
    image = gq.open_image(out / f"{name}_tsnr_map.ome.tif")
    expected = gq.tsnr_map(FRAMES, dims="tyx").values
    np.testing.assert_allclose(image.values[0], expected, rtol=1e-10)
    drift = gq.tsnr_map(FRAMES[[0, 9, 10, 11, *range(1, 9)]], dims="tyx").values
    assert np.abs(drift - expected).max() > 0.1


def test_the_series_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = testing.CountingStore(tmp_path / "in.zarr")
    array = zarr.create_array(store, shape=FRAMES.shape, chunks=(3, 20, 20), dtype="u2")
    array[:] = FRAMES
    source = zarr.open_array(store, mode="r")
    monkeypatch.setattr(
        "gigaqc.cli.options.Reading.open", lambda self, _: gq.open_image(source, dims="tyx")
    )
    testing.reset_reads(store)
    assert run("tsnr", tmp_path / "in.zarr", "-o", tmp_path / "out").exit_code == 0
    reads = testing.count_reads(store)
    assert len(reads) == 4 * 2 * 3 and set(reads.values()) == {1}
    testing.reset_reads(store)
    # The maps, the curve, and the picture of both.
    assert run("gain", tmp_path / "in.zarr", "-o", tmp_path / "out").exit_code == 0
    assert set(testing.count_reads(store).values()) == {1}
    testing.reset_reads(store)
    assert run("isnr", tmp_path / "in.zarr", "-o", tmp_path / "out").exit_code == 0
    # Twice; the picture of one plane reads its chunks once more.
    assert sorted(set(testing.count_reads(store).values())) == [2, 3]


def test_isnr(tmp_path: Path) -> None:
    pixels = RNG.normal(20, 3, (40, 60)).round().astype("u2")
    pixels[:, 20:] += 200
    tifffile.imwrite(tmp_path / "cells.tif", pixels)
    out = tmp_path / "out"
    done = run("isnr", tmp_path / "cells.tif", "-o", out, "-n", 2, "--correction", "none")
    assert done.exit_code == 0, done.output
    assert names(out) == ["cells_isnr.csv", "cells_isnr.png", "cells_isnr_map.ome.tif"]
    found = gq.isnr(pixels, n_clusters=2, correction=None).isel(c=0).compute()
    noise = pixels[:, :20].std()
    assert float(found.noise) == pytest.approx(noise, rel=1e-9)
    table = pd.read_csv(out / "cells_isnr.csv")
    for name in ("isnr", "signal", "noise", "threshold"):
        assert table[name].item() == pytest.approx(float(found[name]), rel=1e-12)
    assert table["component_mean_2"].item() == pytest.approx(float(found.component_mean[1]))
    image = gq.open_image(out / "cells_isnr_map.ome.tif").values
    np.testing.assert_allclose(image[0], pixels / noise, rtol=1e-6)
    assert f"{pixels[:, 20:].mean() / noise:.4g}" in done.output


def test_isnr_with_a_noise_mask(tmp_path: Path) -> None:
    image = RNG.normal(0, 3, (2, 60, 50)) + np.repeat([0, 90], 25)
    gq.write_image(image, tmp_path / "a.zarr")
    gq.write_image(np.repeat([[1, 0]], 25, axis=1).repeat(60, axis=0).astype("u1"),
                   tmp_path / "dark.tif")  # fmt: skip
    done = run("isnr", tmp_path / "a.zarr", "-o", tmp_path / "out", "--noise-mask",
               tmp_path / "dark.tif", "--correction", "none", "--channels", "a,b")  # fmt: skip
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "out" / "a_isnr.csv", index_col="channel")
    dark, bright = image[:, :, :25], image[:, :, 25:]
    expected = bright.mean(axis=(1, 2)) / dark.std(axis=(1, 2))
    np.testing.assert_allclose(table.loc[["a", "b"], "isnr"], expected, rtol=1e-9)
    assert names(tmp_path / "out") == ["a_isnr.csv", "a_isnr.png", "a_isnr_map.zarr"]


@pytest.mark.parametrize("estimator", ["mad", "variance"])
def test_gain(tmp_path: Path, estimator: str) -> None:
    """Two grey levels an electron over an offset of 100."""
    light = np.linspace(20, 500, 120 * 100).reshape(120, 100)
    frames = (100 + 2 * RNG.poisson(light, (60, 120, 100))).astype("u2")
    tifffile.imwrite(tmp_path / "light.tif", frames, photometric="minisblack")
    out = tmp_path / "out"
    done = run("gain", tmp_path / "light.tif", "-o", out, "--estimator", estimator, "--offset", 100)
    assert done.exit_code == 0, done.output
    assert names(out) == [
        "light_bins.csv", "light_gain.csv", "light_gain.png", "light_gain_map.ome.tif",
        "light_mean_map.ome.tif", "light_variance_map.ome.tif",
    ]  # fmt: skip
    found = gq.gain_map(gq.open_image(tmp_path / "light.tif"), estimator=estimator, offset=100)
    for name in ("mean_map", "variance_map", "gain_map"):
        image = gq.open_image(out / f"light_{name}.ome.tif")
        np.testing.assert_array_equal(image.values.squeeze(), found[name].values.squeeze())
    table = pd.read_csv(out / "light_gain.csv")
    assert table["gain"].item() == pytest.approx(float(found["gain"].squeeze()), rel=1e-12)
    assert table["gain"].item() == pytest.approx(0.5, rel=0.1)
    assert {"slope", "intercept", "measurable", "reason"} <= set(table.columns)
    assert {"mean_bins", "variance_bins"} <= set(pd.read_csv(out / "light_bins.csv").columns)
    assert "gain" in done.output


def test_a_gain_that_cannot_be_told(data_dir: Path, tmp_path: Path) -> None:
    """Variance that does not grow with the mean gives no number, and says why."""
    stack = data_dir / "camera_stack_pims" / "stuck.tif"
    done = run("gain", stack, "-o", tmp_path, "--estimator", "variance")
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "stuck_gain.csv")
    assert np.isnan(table["gain"].item()) and not table["measurable"].item()
    assert table["reason"].item() and str(table["reason"].item())[:12] in done.output


@pytest.mark.parametrize("command", ["isnr", "tsnr"])
def test_results_that_are_there(movie: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / "out"
    assert run(command, movie, "-o", out).exit_code == 0
    before = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    again = run(command, movie, "-o", out)
    assert again.exit_code == 2 and "exists; pass --overwrite" in again.output
    assert {p: p.stat().st_mtime_ns for p in out.iterdir()} == before
    assert run(command, movie, "-o", out, "--overwrite", "-q").exit_code == 0
    assert sorted(before) == sorted(out.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tsnr", "{folder}", "-o", "{folder}"], 2, "holds the files of SOURCE"),
        (["tsnr", "{single}", "-o", "{out}"], 2, "has the axes y x and none of time"),
        (["tsnr", "{movie}", "-o", "{out}", "--dims", "tyq"], 2, "--dims: got 'tyq'"),
        (["tsnr", "{movie}", "-o", "{out}", "--detrend", "12"], 2, "detrend: 12"),
        (["tsnr", "{movie}", "-o", "{out}", "--baseline", "no"], 2, "no"),
        (["tsnr", "{movie}", "-o", "{out}", "--mask", "{single}"], 2, "mask: dims"),
        (["tsnr", "{movie}", "-o", "{out}", "--mask", "none.tif"], 3, "does not exist"),
        (["tsnr", "none.tif", "-o", "{out}"], 3, "does not exist"),
        (["tsnr", "{movie}", "-o", "{movie}/x"], 2, "cannot write into"),
        (["isnr", "{movie}", "-o", "{out}", "-n", "7"], 2, "n_clusters: got 7"),
        (["isnr", "{movie}", "-o", "{out}", "--format", "png"], 2, "png"),
        (["isnr", "{text}", "-o", "{out}"], 3, "is not an image in a format"),
        (["isnr", "{movie}"], 2, "--out"),
    ],
)
def test_wrong_use(
    tmp_path: Path, movie: Path, folder: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "a.md").write_text("words")
    tifffile.imwrite(tmp_path / "single.tif", FRAMES[0, :9])
    places = {
        "folder": folder, "movie": movie, "out": tmp_path / "out",
        "single": tmp_path / "single.tif", "text": tmp_path / "a.md",
    }  # fmt: skip
    done = run(*(a.format(**places) for a in arguments))
    assert done.exit_code == code, done.output
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "out").exists() or not names(tmp_path / "out")


@pytest.mark.same_process
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["gigaqc.readers.tiff.TiffArray.__getitem__",
                                   "gigaqc.writers.tiff.write",
                                   "matplotlib.figure.Figure.savefig"])  # fmt: skip
def test_nothing_is_left_of_an_error(
    movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, where: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(where, fail)
        done = run("tsnr", movie, "-o", tmp_path / "out")
    assert done.exit_code != 0
    assert names(tmp_path / "out") == []


def test_gain_of_a_folder_by_workers(folder: Path, tmp_path: Path) -> None:
    arguments = ["gain", folder, "-o", tmp_path / "out", "--estimator", "variance"]
    done = run(*arguments, "--workers", 2, "--memory", "2GB", "--format", "zarr")
    assert done.exit_code == 0, done.output
    found = gq.open_image(tmp_path / "out" / "frames_variance_map.zarr")
    np.testing.assert_allclose(found.values[0], FRAMES.var(axis=0, ddof=1), rtol=1e-12)


@pytest.mark.long
def test_workers_and_memory(movie: Path, tmp_path: Path) -> None:
    done = run("tsnr", movie, "-o", tmp_path / "out", "--workers", 2, "--memory", "2GB", "-q")
    assert done.exit_code == 0, done.output
    image = gq.open_image(tmp_path / "out" / "movie_tsnr_map.ome.tif")
    expected = gq.tsnr_map(FRAMES, dims="tyx").values
    np.testing.assert_allclose(image.values[0], expected, rtol=1e-10)


@pytest.mark.parametrize("command", ["isnr", "tsnr", "gain"])
def test_help(command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0
    for option in ("--dims", "--channels", "--element", "--level", "--workers", "--memory",
                   "--scheduler", "--overwrite", "--quiet", "--format", "--out"):  # fmt: skip
        assert option in done.output
    assert command in run("--help").output


def test_real_fmri(data_dir: Path, tmp_path: Path) -> None:
    """The published convention, on a real series."""
    nibabel = pytest.importorskip("nibabel")
    path = data_dir / "mri_spinalcord_sct" / "fmri.nii.gz"
    done = run("tsnr", path, "-o", tmp_path, "--detrend", 0, "--ddof", 1)
    assert done.exit_code == 0, done.output
    series = nibabel.load(path)
    values = series.get_fdata()
    with np.errstate(invalid="ignore"):
        expected = values.mean(axis=3) / values.std(axis=3, ddof=1)
    found = nibabel.load(tmp_path / "fmri_tsnr_map.nii.gz")
    np.testing.assert_allclose(found.get_fdata(), expected, rtol=1e-10)
    np.testing.assert_array_equal(found.affine, series.affine)
    table = pd.read_csv(tmp_path / "fmri_tsnr.csv")
    assert table["n_not_measurable"].item() == 408
