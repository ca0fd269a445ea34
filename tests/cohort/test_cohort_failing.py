"""Samples that fail in five ways, runs that are killed, and names that mean harm."""

from __future__ import annotations

import csv
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cohort_cases import FAILING, cells, cohort, keep_locked, stored
from typer.testing import CliRunner

import gigaqc as gq
from gigaqc.cli import app
from gigaqc.cohort.plan import plan
from gigaqc.stores import location

pytestmark = pytest.mark.usefixtures("few_pictures")

TABLES = ("summary.csv", "summary.parquet", "channels.csv", "channels.parquet")

SCRIPT = """
import sys
sys.path.insert(0, {cases!r})
from pathlib import Path
import cohort_cases
import gigaqc as gq
from gigaqc.report import cohort

cohort._MOST_PICTURES = cohort._MOST_DRIFTS = 1
cohort_cases.keep_locked()
cohort_cases.record_reads(Path({log!r}))
sources = Path({sources!r}).read_text().splitlines()
gq.assess_batch(sources, {out!r}, progress=False, pages={pages})
"""


@pytest.fixture
def locked(monkeypatch):
    monkeypatch.setattr(location, "open", open, raising=False)
    keep_locked()


def test_what_fails_is_a_row_and_the_rest_goes_on(tmp_path, locked):
    paths = cohort(tmp_path, 3)
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["assess", *paths, "-o", str(out), "-q", "--no-pages"])
    assert done.exit_code == 3, done.output
    assert len(done.stderr.splitlines()) == 5
    check_rows(gq.Cohort.load(out), paths, 3)
    assert not [p for p in out.iterdir() if p.stem in {Path(f).stem for f in FAILING}]


def check_rows(found: gq.Cohort, paths: list[str], good: int) -> None:
    summary = found.summary
    assert summary["source"].tolist() == paths
    done = summary["error"].isna()
    assert done.sum() == good and (~done).sum() == len(FAILING)
    assert summary.loc[done, ["mean_snr", "median_mean", "pass_qc"]].notna().all(axis=None)
    numbers = summary.columns.difference(["sample", "error", "order", "source"])
    assert summary.loc[~done, numbers].isna().all(axis=None)
    errors = summary[~done].set_index("sample")["error"]
    assert all("\n" not in e for e in errors)
    for name, part in {
        "corrupt": "chunk (c=1, y=0, x=1) cannot be read",
        "missing": "does not exist",
        "flat": "dims",
        "empty": "empty",
        "locked": "no permission to read",
    }.items():
        assert part in errors[name], errors[name]


class Killed:
    """Runs in processes of their own, each of which may be killed."""

    def __init__(self, folder: Path, n: int, *, pages: bool) -> None:
        self.folder, self.out, self.pages = folder, folder / "out", pages
        (folder / "images").mkdir()
        self.paths = cohort(folder / "images", n)
        (folder / "sources").write_text("\n".join(self.paths))
        self.n = n

    def start(self, run: str) -> subprocess.Popen:
        code = SCRIPT.format(
            cases=str(Path(__file__).parent), log=str(self.folder / run), pages=self.pages,
            sources=str(self.folder / "sources"), out=str(self.out),
        )  # fmt: skip
        return subprocess.Popen([sys.executable, "-c", code])

    def complete(self) -> set[str]:
        """Samples whose JSON file is there."""
        return {p.stem for p in self.out.glob("s*.json")}

    def read(self, run: str) -> set[str]:
        """Samples of which a run read something."""
        log = self.folder / run
        return {Path(line).stem for line in log.read_text().split()} if log.exists() else set()

    def kill_at(self, run: str, samples: int, delay: float) -> None:
        """Start, and kill once so many samples are complete, and a moment later."""
        process = self.start(run)
        try:
            end = time.monotonic() + 300
            while len(self.complete()) < samples and process.poll() is None:
                assert time.monotonic() < end
                time.sleep(0.002)
            time.sleep(delay)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"

    def check(self, kills: list[int], chance: random.Random) -> None:
        for number, samples in enumerate(kills):
            before = self.complete()
            self.kill_at(f"run{number}", samples, chance.random() * 0.1)
            assert not self.read(f"run{number}") & before, "a finished sample was read again"
        before = self.complete()
        assert 0 < len(before) < self.n
        assert self.start("last").wait(timeout=600) == 0
        last = self.read("last")
        assert not last & before
        assert last >= {f"s{i:03}" for i in range(self.n)} - before
        found = gq.Cohort.load(self.out)
        check_rows(found, self.paths, self.n)
        assert not [p.name for p in self.out.iterdir() if p.name.startswith(".")]
        for sample in found.summary.loc[found.summary["error"].isna(), "sample"]:
            assert found.assessment(sample).name == sample
        tables = {name: (self.out / name).read_bytes() for name in TABLES}
        self.out = self.folder / "undisturbed"
        assert self.start("fresh").wait(timeout=600) == 0
        assert tables == {name: (self.out / name).read_bytes() for name in TABLES}


def test_killed_once_and_finished(tmp_path):
    Killed(tmp_path, 8, pages=True).check([4], random.Random(1))


@pytest.mark.slow
def test_two_hundred_samples_killed_three_times(tmp_path):
    chance = random.Random()
    kills = sorted(chance.sample(range(5, 190), 3))
    print("killed once complete:", kills)
    Killed(tmp_path, 195, pages=False).check(kills, chance)


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "quotes": "\"'`&amp;",
    "up": "../../up",
    "absolute": "/etc/passwd",
    "windows": "..\\..\\up",
    "dots": "..",
    "long": "n" * 10_000,
    "long2": "n" * 10_001,
    "rtl": "abc\u202egnp.exe",
    "line": "two\nlines\r\n",
    "formula": "=cmd()|'/C calc'!A1",
    "nul": "a\0b",
    "index": "index",
    "case": "INDEX",
    "surrogate": "x\udcff",
    "blank": "   ",
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A cohort of images with names that mean harm, of samples and of channels."""
    folder = tmp_path_factory.mktemp("hostile")
    inside = folder / "a" / "b" / "out"
    image = np.ascontiguousarray(cells(0, side=32))
    channels = ["<img src=x onerror=alert(1)>", "../\u202e\n" + "c" * 10_000]
    sources = dict.fromkeys(HOSTILE.values(), image)
    found = gq.assess_batch(sources, inside, channels=channels, progress=False, pages=True)
    return folder, inside, found


def test_no_file_is_written_outside_and_each_sample_has_its_own(hostile):
    folder, inside, found = hostile
    outside = [p for p in folder.rglob("*") if not p.is_relative_to(inside)]
    assert outside == [inside.parent.parent, inside.parent]
    assert found.summary["error"].isna().all()
    assert found.summary["page"].nunique() == len(HOSTILE)
    for page in found.summary["page"]:
        assert (inside / page).is_file() and page != "index.html"


def test_tables_keep_the_names(hostile):
    _, inside, found = hostile
    names = [n.encode("utf-8", "replace").decode() for n in HOSTILE.values()]
    assert found.summary["sample"].tolist() == names
    with open(inside / "summary.csv", newline="", encoding="utf-8") as file:
        assert [row["sample"] for row in csv.DictReader(file)] == names
    again = gq.Cohort.load(inside)
    pd.testing.assert_frame_equal(again.summary, found.summary)
    assert again.assessment(HOSTILE["up"]).name == HOSTILE["up"]


def test_the_index_shows_names_as_text(hostile):
    _, inside, _ = hostile
    page = (inside / "index.html").read_text()
    assert "<script>alert" not in page and "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_hostile_name_of_a_file(tmp_path):
    name = "<b>&\"'\u202e=x"
    path = stored(tmp_path / f"{name}.zarr", cells(0))
    found = gq.assess_batch(path, tmp_path / "out", progress=False, pages=False)
    assert found.summary["sample"].tolist() == [name]
    assert found.summary["error"].isna().all()


def test_a_hostile_sheet_writes_nowhere_else(tmp_path):
    sheet = pd.DataFrame({"sample": ["../x", "a/../../y"], "path": ["p", "q"]})
    entries = plan(sheet, tmp_path, element=None, labels=None, tissue=None, dims=None)
    for entry in entries:
        for suffix in (".html", ".json", ".zarr"):
            assert entry.files.path(suffix).resolve().parent == tmp_path.resolve()
