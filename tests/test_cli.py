"""The command line: exit codes, one clear line for an error, files that stay in their folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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
from gigaqc.errors import ParameterError, ReadError, SourceNotFoundError, WriteError
from gigaqc.samples import make_writable, plan_samples, safe_name
from gigaqc.workers import computing

FLAGS = pd.DataFrame(
    [
        ("channel", "DNA", "snr", 9.0, 3.0, "PASS"),
        ("channel", "[red]CD3", "snr", 1.2345678, 1.5, "FAIL"),
        ("channel", "[red]CD3", "clipped_fraction", 0.02, 0.01, "WARN"),
        ("image", "tissue", "coverage", 0.5, 0.3, "PASS"),
    ],
    columns=["scope", "name", "metric", "value", "limit", "status"],
)


class FakeAssessment:
    """What the command line uses of an Assessment."""

    flags = FLAGS

    def __init__(self, passed: bool) -> None:
        self.passed = passed
        self.status = "PASS" if passed else "FAIL"

    def to_html(self, path):
        Path(path).write_text("page")

    def to_json(self, path):
        Path(path).write_text("{}")

    def save(self, path):
        Path(path).mkdir()


@pytest.fixture
def library(monkeypatch):
    """Stands in for opening and judging: sources say by their name how they end."""
    calls = SimpleNamespace(opened=[], assessed=[])

    def open_image(source, **options):
        calls.opened.append((source, options))
        if "missing" in source:
            raise SourceNotFoundError(f"source: there is no {source!r};\n  check the path.")
        if "broken" in source:
            raise ReadError(f"source: {source!r} is no image.")
        return source

    def assess(image, **options):
        calls.assessed.append((image, options))
        return FakeAssessment("bad" not in image)

    # past the lazy import of the real ones
    monkeypatch.setitem(vars(gq), "open_image", open_image)
    monkeypatch.setitem(vars(gq), "assess", assess)
    return calls


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


def test_assess_writes_three_results_and_says_where(library, tmp_path):
    done = run("assess", "a/good.ome.tif", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert results(tmp_path / "out") == ["good.html", "good.json", "good.zarr"]
    assert f"Page: {tmp_path}/out/good.html" in done.stdout
    for text in ("[red]CD3", "FAIL", "snr 1.23 (limit 1.5)", "clipped_fraction 0.02", "good: PASS"):
        assert text in done.stdout
    assert done.stderr == ""


def test_options_reach_the_library(library, tmp_path):
    (tmp_path / "names.txt").write_text("DNA\nCD3, long\n\n")
    done = run(
        "assess", "x.tif", "-o", tmp_path / "out", "--dims", "cyx", "--channels",
        tmp_path / "names.txt", "--element", "s1", "--level", 2, "--tissue", "DNA",
        "--rules", "recipe", "--tile", 64, "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0 and done.output == ""
    names = ["DNA", "CD3, long"]
    assert library.opened == [
        ("x.tif", {"dims": "cyx", "channels": names, "element": "s1", "level": 2})
    ]
    [(_, options)] = library.assessed
    assert options == {
        "tissue": "DNA",
        "rules": "recipe",
        "tile": 64,
        "progress": False,
        "name": "x-s1",
        "on_error": "raise",
    }


def test_tissue_none_leaves_tissue_out(library, tmp_path):
    run("assess", "x.tif", "-o", tmp_path, "--tissue", "none", "--channels", "a, b")
    assert library.assessed[0][1]["tissue"] is False
    assert library.opened[0][1]["channels"] == ["a", "b"]


@pytest.mark.parametrize(
    ("sources", "strict", "code"),
    [
        (["good"], False, 0),
        (["good", "good2"], True, 0),
        (["bad"], False, 0),
        (["bad", "good"], True, 1),
        (["missing", "good"], False, 3),
        (["broken", "bad"], True, 3),
    ],
)
def test_exit_codes(library, tmp_path, sources, strict, code):
    done = run("assess", *sources, "-o", tmp_path, *["--strict"] * strict)
    assert done.exit_code == code, done.output


def test_an_unreadable_source_is_one_line_and_the_rest_goes_on(library, tmp_path):
    done = run("assess", "missing.tif", "good.tif", "-o", tmp_path)
    assert done.exit_code == 3
    assert done.stderr == "gigaqc: source: there is no 'missing.tif'; check the path.\n"
    assert results(tmp_path) == ["good.html", "good.json", "good.zarr"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dims", "tyq"], "--dims"),
        (["--dims", "yyx"], "--dims"),
        (["--rules", "strict"], "--rules"),
        (["--workers", "2", "--scheduler", "tcp://localhost:1"], "--scheduler"),
        (["--memory", "lots"], "--memory"),
        (["--tile", "0"], "--tile"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_use_is_2_before_anything_is_opened(library, tmp_path, arguments, message):
    done = run("assess", "good.tif", "-o", tmp_path, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not library.opened


def test_a_folder_that_cannot_be_written_is_2_before_anything_is_opened(library, tmp_path):
    (tmp_path / "file").write_text("")
    done = run("assess", "good.tif", "-o", tmp_path / "file" / "out")
    assert done.exit_code == 2
    assert "out: cannot write into" in done.stderr
    assert not library.opened


def test_results_are_replaced_only_when_asked(library, tmp_path):
    assert run("assess", "good.tif", "-o", tmp_path).exit_code == 0
    again = run("assess", "good.tif", "-o", tmp_path)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr or "allow to overwrite" in again.stderr
    assert len(library.opened) == 1
    assert run("assess", "good.tif", "-o", tmp_path, "--overwrite").exit_code == 0
    assert results(tmp_path) == ["good.html", "good.json", "good.zarr"]


def test_demo_judges_the_bundled_image_again_and_again(library, tmp_path):
    for _ in range(2):
        done = run("demo", "-o", tmp_path)
        assert done.exit_code == 0, done.output
    assert Path(library.opened[0][0]).is_file()
    assert f"Page: {tmp_path}/ht29.html" in done.stdout


def test_the_scheduler_must_answer(library, tmp_path):
    done = run("assess", "good.tif", "-o", tmp_path, "--scheduler", "nonsense://here")
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
        "from gigaqc.workers import computing\n"
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


# From here on nothing is faked.


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
    assert results(tmp_path / "out") == ["i.html", "i.json", "i.zarr"]
    assert "Page: " in done.stdout


def test_a_real_run_in_worker_processes(stores, tmp_path):
    done = gigaqc("assess", stores, "-o", tmp_path / "out", "--workers", 2, "--memory", "2GB", "-q")
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "out") == ["i.html", "i.json", "i.zarr"]


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
