"""Benchmarks run, at a tiny size; asv finds its classes; the page takes what was measured."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
from pathlib import Path
from typing import Any

import benchmarks
import dask
import pytest
from benchmarks import __main__ as command
from benchmarks import _page, peers
from benchmarks._measure import Unavailable
from benchmarks._question import Question, Row, compared
from benchmarks.questions import GROUPS, QUESTIONS

ROOT = Path(benchmarks.__file__).parents[1]
TINY = 128
PROGRAMS = ROOT / "benchmarks" / "peer_programs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores that questions share."""
    return tmp_path_factory.mktemp("stores")


@pytest.fixture
def no_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of environments."""
    monkeypatch.setenv(peers.VARIABLE, str(tmp_path / "environments"))
    return tmp_path / "environments"


def first(question: Question, folder: Path, **changes: Any) -> list[Row]:
    """The rows of the first case, from one round."""
    size = question.size(question.cases[0], quick=True, side=TINY)
    return dataclasses.replace(question, **changes).rows(folder, size, 1, 2)


@pytest.mark.long
@pytest.mark.parametrize("name", [n for n, q in QUESTIONS.items() if q.group != "peers"])
def test_a_question_runs(name: str, folder: Path) -> None:
    question = QUESTIONS[name]
    rows = first(question, folder, memory=())
    assert len(rows) == len(question.pairs)
    for row in rows:
        assert re.fullmatch(r"[\d.]+( x (the time|faster))?", row.ratio), row
        assert str(TINY) in row.question or "scale" in question.cases[0]


@pytest.mark.long
def test_the_memory_of_a_function_is_measured_in_a_child(folder: Path) -> None:
    [row] = first(QUESTIONS["preprocess"], folder)[1:]
    assert row.question.startswith("memory of") and re.fullmatch(r"\d+ MiB more", row.ratio)


def test_every_case_has_words_of_its_own() -> None:
    said = [
        q.label(q.size(case, quick=True)) + q.name for q in QUESTIONS.values() for case in q.cases
    ]
    assert len(set(said)) == len(said) > 40


# ---- other libraries -----------------------------------------------------------------------------


def test_a_library_that_is_not_there_is_a_row(no_peers: Path, folder: Path) -> None:
    for question in GROUPS["peers"]:
        for row in first(question, folder):
            assert "is not installed" in row.ratio


def environment(folder: Path, name: str, script: str) -> None:
    """Something that stands for the Python of an environment."""
    python = folder / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)


@pytest.mark.long
def test_a_library_is_asked_in_its_environment(no_peers: Path, folder: Path) -> None:
    environment(no_peers, "scikit-image", f'exec {sys.executable} "$@"')
    blurred, rescaled = first(QUESTIONS["scikit-image"], folder)
    objects = first(QUESTIONS["regionprops"], folder)
    for row in (blurred, rescaled, *objects):
        assert re.fullmatch(r"[\d.]+ x (the time|faster)", row.ratio), row
        agreed = re.search(r"results (?:differ by at most (\S+)|equal)", row.against)
        assert agreed and float(agreed[1] or 0) < 1e-6, row


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "exit status 3"),
        ("""echo '{"error": "no such attribute"}'""", "no such attribute"),
    ],
)
def test_a_library_that_fails_is_a_row(
    no_peers: Path, folder: Path, script: str, reason: str
) -> None:
    environment(no_peers, "ukat", script)
    [row] = first(QUESTIONS["ukat-isnr"], folder)
    assert row.ratio.startswith("not measured: ukat failed") and reason in row.ratio


@pytest.mark.long
def test_what_pip_says_is_the_reason(no_peers: Path, folder: Path) -> None:
    absent = ("--no-index gigaqc-no-such-library",)
    peer = dataclasses.replace(peers.UKAT, pip=absent)
    assert "No matching distribution" in (peer.install() or "")
    [row] = first(QUESTIONS["ukat-isnr"], folder)
    assert "was not installed" in row.ratio and "No matching distribution" in row.ratio
    future = dataclasses.replace(peer, python=(3, 99))
    assert "needs Python 3.99" in (future.install() or "")


def test_programs_name_what_questions_ask_for() -> None:
    for peer in peers.PEERS.values():
        program = (PROGRAMS / peer.program).read_text(encoding="utf-8")
        compile(program, peer.program, "exec")
        asked = [
            name.partition("'s `")[2].rstrip("`")
            for question in GROUPS["peers"]
            for name in question.functions
            if name.startswith(f"{peer.name}'s ")
        ]
        assert asked and all(f'"{name}": ' in program for name in asked)


# ---- asv -----------------------------------------------------------------------------------------


def found_by_asv() -> dict[str, type]:
    """Classes by asv's rules: of any module, not private, with a method of a known name."""
    known = re.compile(r"(time|track|peakmem|mem|timeraw)_")
    found = {}
    for module in pkgutil.iter_modules(benchmarks.__path__, "benchmarks."):
        names = vars(importlib.import_module(module.name))
        for name, value in names.items():
            assert not (inspect.isfunction(value) and known.match(name)), name
            if (
                inspect.isclass(value)
                and not name.startswith("_")
                and any(map(known.match, dir(value)))
            ):
                found[f"{module.name}.{name}"] = value
    return found


def test_asv_finds_every_question_once() -> None:
    config = json.loads((ROOT / "asv.conf.json").read_text())
    assert (ROOT / config["benchmark_dir"]).samefile(ROOT / "benchmarks")
    classes = list(found_by_asv().values())
    for kind in ("time_function", "track_time_ratio"):
        asked = [cls.question.name for cls in classes if hasattr(cls, kind)]  # type: ignore[attr-defined]
        assert sorted(asked) == sorted(n for n, q in QUESTIONS.items() if q.group != "peers")


@pytest.mark.long
def test_asv_classes_run_as_asv_runs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    classes = found_by_asv()
    for name, method in (
        ("IsnrTimed", "time_function"), ("IsnrCompared", "track_time_ratio"),
        ("PreprocessRemembered", "peakmem_function"),
    ):  # fmt: skip
        cls = classes[f"benchmarks.by_asv.{name}"]
        of, function = (values[-1] for values in cls.params)  # type: ignore[attr-defined]
        case = cls()
        cache = case.setup_cache()
        case.setup(cache, of, function)
        measured = getattr(case, method)(cache, of, function)
        case.teardown(cache, of, function)
        assert measured is None or measured > 0


def test_asv_skips_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(folder: Path, **size: Any) -> None:
        raise Unavailable("no such library")

    cls = found_by_asv()["benchmarks.by_asv.IsnrTimed"]
    question = dataclasses.replace(QUESTIONS["isnr"], prepare=absent)
    monkeypatch.setattr(cls, "question", question)
    before = dask.config.get("scheduler", None)
    with pytest.raises(NotImplementedError, match="no such library"):
        cls().setup(str(tmp_path), *(values[0] for values in cls.params))  # type: ignore[attr-defined]
    assert dask.config.get("scheduler", None) == before


# ---- the page ------------------------------------------------------------------------------------


def test_ratios_are_of_the_same_round() -> None:
    seconds = {"a": [2.0, 4.0, 30.0], "b": [1.0, 1.0, 10.0], "c": [4.0, 8.0, 30.0]}
    row = compared("x", seconds, ("a", "b"), {}, {"b": "1.0"})
    assert row == Row("a of x", "b (1.0)", "3.00 x the time", "2.00–4.00")
    assert compared("x", seconds, ("b", "a"), {}, {})[2:] == ("3.0 x faster", "2.00–4.00")
    # b over a is 3 times faster in the median; per round 2, 4, 3, and c over a half, half, one.
    assert compared("x", seconds, ("b", "a", "c", "a"), {}, {}).ratio == "4.00"


@pytest.fixture
def pages(tmp_path: Path) -> list[str]:
    """Copies of the page and of the README, as options."""
    for name in ("docs/performance.md", "README.md"):
        (tmp_path / Path(name).name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    return [
        "--write", "--page", str(tmp_path / "performance.md"),
        "--readme", str(tmp_path / "README.md"),
    ]  # fmt: skip


def outside(page: str) -> list[str]:
    """The text between the tables."""
    return re.split(r"(?s)(?<=<!-- measured )\w+ -->.*?<!-- end of", page)


def test_the_page_has_a_place_for_every_group(pages: list[str]) -> None:
    page = Path(pages[2])
    before = page.read_text("utf-8")
    for group in GROUPS:
        _page.replace(page, group, f"the table of {group}")
    after = page.read_text("utf-8")
    assert outside(after) == outside(before) and len(outside(before)) == len(GROUPS) + 1
    assert all(f"<!-- measured {g} -->\n\nthe table of {g}\n\n<!-- end" in after for g in GROUPS)
    with pytest.raises(SystemExit, match="lacks the line"):
        _page.replace(page, "nothing", "")


def test_a_run_writes_its_groups_and_leaves_the_rest(
    pages: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, readme = Path(pages[2]), Path(pages[4])
    before = page.read_text("utf-8")
    readme.write_text("# x\n\n| `isnr` of 32 x 32 x 32 int16 | reading (0.1) | 99 x faster |\nend")
    monkeypatch.setitem(GROUPS, "series", [QUESTIONS["isnr"]])
    command.main(["--only", "series", "--quick", "--side", "32", "--runs", "1", *pages])
    printed, after = capsys.readouterr().out, page.read_text("utf-8")
    [row] = [
        line for line in after.splitlines() if line.startswith("| `isnr` of 32 x 32 x 32 int16")
    ]
    assert row in printed and "| question | against | ratio | spread |" in printed
    assert re.search(r"Measured on \d{4}-\d\d-\d\d, 2 threads, small images: .*numba [\d.]+", after)
    assert outside(after) == outside(before)
    assert after.partition("## Series")[0] == before.partition("## Series")[0]
    cells = row.split(" | ")[:3]
    assert readme.read_text() == f"# x\n\n{' | '.join(cells)} |\nend"


def test_a_page_without_a_place_is_refused_before_measuring(
    pages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(pages[2]).write_text("# What it costs\n", "utf-8")
    monkeypatch.setattr(command, "measured", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit, match="lacks the line <!-- measured verdict -->"):
        command.main(pages)


def test_a_run_that_is_stopped_keeps_what_was_written(
    pages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(questions: list[Question], *_: Any) -> Any:
        if questions is not GROUPS["verdict"]:
            raise KeyboardInterrupt
        yield Row("a verdict", "reading", "1.00 x the time", "1.00–1.00")

    monkeypatch.setattr(command, "measured", stopped)
    with pytest.raises(KeyboardInterrupt):
        command.main(pages)
    page = Path(pages[2])
    assert "| a verdict | reading | 1.00 x the time | 1.00–1.00 |" in page.read_text("utf-8")
    assert sorted(os.listdir(page.parent)) == ["README.md", "performance.md"]
