"""The command line: exit codes, one clear line for an error, files that stay in their folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dask
import distributed
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import gigaqc as gq
from gigaqc.cli import app
from gigaqc.cli.options import computing
from gigaqc.cohort import plan as plan_of_cohort
from gigaqc.errors import ParameterError, WriteError
from gigaqc.verdict.samples import make_writable, plan_samples, safe_name

pytestmark = pytest.mark.usefixtures("few_pictures")

COHORT = [
    "channels.csv", "channels.parquet", "cohort.json", "index.html", "summary.csv",
    "summary.parquet",
]  # fmt: skip
GOOD = sorted([*COHORT, "good.html", "good.json", "good.zarr"])


@pytest.fixture
def images(tmp_path):
    """Images that say by their name how they end, in a folder that tests work in."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    cells = 20 + 400 * ((y // 16 + x // 16) % 2)
    for name, noise in {"good": rng.poisson(cells), "bad": rng.poisson(20, (64, 64))}.items():
        array = zarr.create_array(
            tmp_path / f"{name}.zarr", shape=(2, 64, 64), chunks=(1, 32, 32), dtype="u2"
        )
        array[:] = np.stack([noise, noise[::-1]])
    (tmp_path / "broken.tif").write_bytes(b"no image")
    return tmp_path


@pytest.fixture
def opened(monkeypatch):
    """Sources that were opened, in order."""
    sources = []
    real = plan_of_cohort.open_image

    def open_image(source, **options):
        sources.append((source, options))
        return real(source, **options)

    monkeypatch.setattr(plan_of_cohort, "open_image", open_image)
    return sources


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_GIGAQC_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "gigaqc ass")
    monkeypatch.setenv("COMP_WORDS", "gigaqc ass")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    done = subprocess.run([sys.executable, "-m", "gigaqc"], capture_output=True, text=True)
    assert "assess" in done.stdout and "gain" not in done.stdout


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def results(folder):
    return sorted(p.name for p in Path(folder).iterdir())


def test_assess_writes_the_results_and_says_where(images):
    done = run("assess", images / "good.zarr", "-o", images / "out")
    assert done.exit_code == 0, done.output
    assert results(images / "out") == GOOD
    assert f"Page: {images}/out/good.html" in done.stdout
    assert "good: PASS" in done.stdout
    assert done.stderr == ""


def test_the_table_says_why(images):
    done = run("assess", images / "bad.zarr", "-o", images / "out", "--channels", "[red]CD3,DNA")
    assert "autocorrelation_snr" in done.stdout and "(limit 0.05)" in done.stdout
    assert "[red]CD3" in done.stdout and "bad: FAIL" in done.stdout


def test_options_reach_the_library(images, opened):
    (images / "names.txt").write_text("DNA\nCD3, long\n\n")
    done = run(
        "assess", images / "good.zarr", "-o", images / "out", "--dims", "cyx", "--channels",
        images / "names.txt", "--tissue", "CD3, long", "--rules", "recipe", "--tile", 16,
        "--expected-pair", 'DNA,"CD3, long"', "--no-pages", "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0 and done.output == ""
    names = ("DNA", "CD3, long")
    options = {"dims": "cyx", "channels": names, "element": None, "level": 0}
    assert opened == [(str(images / "good.zarr"), options)]
    kept = gq.Assessment.load(images / "out" / "good.zarr", rules="recipe")
    parameters = kept.provenance["parameters"]
    assert (parameters["tissue"], parameters["tissue_method"]) == ("CD3, long", "median")
    assert parameters["tile"] == 16 and parameters["expected_pairs"] == [list(names)]
    assert "good.html" not in results(images / "out")


def test_labels_reach_the_library(images):
    labels = zarr.create_array(
        images / "cells_good.zarr", shape=(64, 64), chunks=(32, 32), dtype="i4"
    )
    labels[8:16, 8:16] = 3
    pattern = images / "cells_{sample}.zarr"
    done = run("assess", images / "good.zarr", "-o", images / "out", "--labels", pattern, "-q")
    assert done.exit_code == 0, done.output
    assert pd.read_csv(images / "out" / "summary.csv").n_cells.tolist() == [1]


def test_tissue_none_leaves_tissue_out(images):
    run("assess", images / "good.zarr", "-o", images / "out", "--tissue", "none", "-q")
    assert pd.read_csv(images / "out" / "summary.csv").tissue_coverage.isna().all()


@pytest.mark.parametrize(
    ("sources", "strict", "code"),
    [
        (["good.zarr"], False, 0),
        (["good.zarr"], True, 0),
        (["bad.zarr"], False, 0),
        (["bad.zarr", "good.zarr"], True, 1),
        (["missing.zarr", "good.zarr"], False, 3),
        (["broken.tif", "bad.zarr"], True, 3),
    ],
)
def test_exit_codes(images, sources, strict, code):
    paths = [images / s for s in sources]
    done = run("assess", *paths, "-o", images / "out", "--no-pages", *["--strict"] * strict)
    assert done.exit_code == code, done.output


def test_an_unreadable_source_is_one_line_and_the_rest_goes_on(images):
    done = run("assess", images / "missing.tif", images / "good.zarr", "-o", images / "out")
    assert done.exit_code == 3
    assert done.stderr.startswith(f"gigaqc: missing: source: '{images}/missing.tif' does not exist")
    assert len(done.stderr.splitlines()) == 1
    assert results(images / "out") == GOOD
    assert "1 PASS, 0 WARN, 0 FAIL, 1 error" in done.stdout
    assert f"Index: {images}/out/index.html" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dims", "tyq"], "--dims"),
        (["--dims", "yyx"], "--dims"),
        (["--rules", "strict"], "--rules"),
        (["--workers", "2", "--scheduler", "tcp://localhost:1"], "--scheduler"),
        (["--memory", "lots"], "--memory"),
        (["--tile", "0"], "--tile"),
        (["--expected-pair", "CD3"], "--expected-pair"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_use_is_2_before_anything_is_opened(images, opened, arguments, message):
    done = run("assess", images / "good.zarr", "-o", images / "out", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not opened


def test_a_folder_that_cannot_be_written_is_2_before_anything_is_opened(images, opened):
    (images / "file").write_text("")
    done = run("assess", images / "good.zarr", "-o", images / "file" / "out")
    assert done.exit_code == 2
    assert "out: cannot write into" in done.stderr
    assert not opened


def test_what_is_complete_is_not_done_again_unless_asked(images, opened):
    arguments = ["assess", images / "good.zarr", "-o", images / "out"]
    assert run(*arguments).exit_code == 0
    again = run(*arguments)
    assert again.exit_code == 0 and "good: PASS (done before)" in again.stdout
    assert f"Page: {images}/out/good.html" in again.stdout
    assert len(opened) == 1
    assert run(*arguments, "--overwrite").exit_code == 0
    assert len(opened) == 2
    assert results(images / "out") == GOOD


def test_results_of_another_source_are_replaced_only_when_asked(images, opened):
    assert run("assess", images / "good.zarr", "-o", images / "out", "-q").exit_code == 0
    (images / "other").mkdir()
    (images / "bad.zarr").rename(images / "other" / "good.zarr")
    arguments = ["assess", images / "other" / "good.zarr", "-o", images / "out", "-q"]
    refused = run(*arguments)
    assert refused.exit_code == 2 and "allow to overwrite" in refused.stderr
    assert len(opened) == 1
    assert run(*arguments, "--overwrite").exit_code == 0


def test_demo_judges_the_bundled_image_again_and_again(tmp_path, opened):
    for _ in range(2):
        done = run("demo", "-o", tmp_path)
        assert done.exit_code == 0, done.output
    assert len(opened) == 2 and Path(opened[0][0]).is_file()
    assert f"Page: {tmp_path}/ht29.html" in done.stdout


@pytest.mark.same_process
def test_the_scheduler_must_answer(images):
    done = run(
        "assess", images / "good.zarr", "-o", images / "out", "--scheduler", "nonsense://here"
    )
    assert done.exit_code == 2
    assert done.stderr.startswith("gigaqc: --scheduler: nothing answers at 'nonsense://here'")
    with pytest.raises(ValueError, match="No clients found"):
        distributed.default_client()
    assert dask.config.get("scheduler", None) is None


@pytest.mark.parametrize(
    ("source", "element", "name"),
    [
        ("slide.ome.tiff", None, "slide"),
        ("/data/My slide (1).SVS", None, "My_slide__1_"),
        ("s3://bucket/run 7/plate.zarr/", None, "plate"),
        ("brain.nii.gz", None, "brain"),
        ("fields/*.tif", None, "fields"),
        ("https://host/a.zarr?token=secret", None, "a"),
        ("x.mcd", "ROI/../3", "x-ROI_.._3"),
        ("C:\\data\\x.tif", None, "x"),
        ("..", None, "image"),
        (".hidden.tif", None, "hidden"),
        ("Größe.tif", None, "Größe"),
        ("n" * 300 + ".tif", None, "n" * 100),
    ],
)
def test_safe_names(source, element, name):
    assert safe_name(source, element) == name


@given(st.lists(st.text(), min_size=1, max_size=6), st.none() | st.text())
def test_samples_stay_in_their_folder_and_apart(sources, element):
    out = Path("/somewhere/out")
    samples = plan_samples(sources, out, element=element)
    assert len({s.name.casefold() for s in samples}) == len(sources)
    for sample in samples:
        for suffix in (".html", ".json", ".zarr"):
            path = sample.path(suffix)
            assert path.parent == out and path.resolve().parent == out.resolve()
            assert len(path.name.encode()) <= 120 and not path.name.startswith(".")
            assert path.name.isprintable()


def test_make_writable_makes_the_folder_and_leaves_nothing(tmp_path):
    make_writable(tmp_path / "a" / "b")
    assert results(tmp_path / "a" / "b") == []
    with pytest.raises(WriteError, match=r"^out: cannot write into '/proc/none'"):
        make_writable(Path("/proc/none"))


def test_the_bundled_image_is_the_published_one(data_dir):
    import tifffile

    bundled = tifffile.imread(Path(gq.__file__).parent / "data" / "ht29.ome.tiff")
    folder = data_dir / "fluorescence_ht29_examplehuman"
    published = np.stack([tifffile.imread(path) for path in sorted(folder.glob("*.tif"))])
    np.testing.assert_array_equal(bundled, published)


@pytest.mark.parametrize("memory", [None, "2GB"])
def test_computing_in_worker_processes(memory):
    code = (
        "import os, dask\n"
        "from gigaqc.cli.options import computing\n"
        "if __name__ == '__main__':\n"
        f"    with computing(2, {memory!r}, None):\n"
        "        tasks = [dask.delayed(os.getpid)() for _ in range(8)]\n"
        "        print(os.getpid() not in dask.compute(*tasks))\n"
        "    print(dask.delayed(os.getpid)().compute() == os.getpid())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "True\nTrue\n", done.stderr
    assert done.stderr == ""


def test_computing_refuses_contradictions():
    with pytest.raises(ParameterError, match="--scheduler"), computing(2, None, "tcp://h:1"):
        pass


@pytest.fixture
def stores(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "i.zarr"
    array = zarr.create_array(path, shape=(2, 64, 64), chunks=(1, 32, 32), dtype="u2")
    array[:] = rng.poisson(20, (2, 64, 64))
    return path


def gigaqc(*arguments, **options):
    command = [sys.executable, "-m", "gigaqc", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, **options
    )


def test_info_says_what_there_is(stores):
    done = run("info", stores, "--channels", "DNA,CD3")
    assert done.exit_code == 0, done.output
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines()[1:6])
    assert lines["dims"] == "c 2, y 64, x 64"
    assert lines["channels"] == "DNA, CD3"
    assert lines["dtype"] == "uint16"
    assert lines["size"] == "16.00 kiB"
    assert "chunks" in lines and "a run" in done.stdout


def test_info_on_nothing_is_3(tmp_path):
    done = run("info", tmp_path / "no.zarr")
    assert done.exit_code == 3
    assert done.stderr.startswith("gigaqc: ") and done.stderr.count("\n") == 1


def test_info_on_wrong_channel_names_is_2(stores):
    done = run("info", stores, "--channels", "DNA")
    assert done.exit_code == 2
    assert "channels" in done.stderr


def test_a_real_run_from_a_shell(stores, tmp_path):
    done = gigaqc("assess", stores, tmp_path / "no.zarr", "-o", tmp_path / "out")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert {"i.html", "i.json", "i.zarr"} <= set(results(tmp_path / "out"))
    assert "i: FAIL" in done.stdout and "Index: " in done.stdout


@pytest.mark.long
def test_a_real_run_in_worker_processes(stores, tmp_path):
    done = gigaqc("assess", stores, "-o", tmp_path / "out", "--workers", 2, "--memory", "2GB", "-q")
    assert done.returncode == 0, done.stderr
    assert {"i.html", "i.json", "i.zarr"} <= set(results(tmp_path / "out"))


@pytest.mark.long
def test_the_real_demo(tmp_path):
    done = gigaqc("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Page: {tmp_path / 'gigaqc-demo' / 'ht29.html'}" in done.stdout
    assert "Actin" in done.stdout


def test_version_and_help():
    assert gigaqc("--version").stdout == f"gigaqc {gq.__version__}\n"
    for command in ([], ["assess"], ["demo"], ["info"]):
        assert run(*command, "--help").exit_code == 0
    assert gigaqc("assess").returncode == 2
