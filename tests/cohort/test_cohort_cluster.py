"""Small samples on a cluster: each is judged by one worker, and written here."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
from cohort_cases import cells, cohort, stored
from killing import Cluster, cluster
from local_clusters import local_client
from same_states import identical
from settings import configure

import gigaqc as gq
from gigaqc.base import machine
from gigaqc.cohort import batch, kept
from gigaqc.cohort.plan import Options, plan
from gigaqc.cohort.rows import Opened
from gigaqc.formulas.rules import Rules
from gigaqc.testing import forbid_compute

pytestmark = pytest.mark.usefixtures("few_pictures")


@pytest.fixture(scope="module")
def workers() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the samples that were not given to one worker."""
    names: list[str] = []
    real = batch.judge

    def judge(entry: Any, *arguments: Any, **options: Any) -> Any:
        names.append(entry.name)
        return real(entry, *arguments, **options)

    monkeypatch.setattr(batch, "judge", judge)
    return names


def run(sources: Any, out: Path, **options: Any) -> gq.Cohort:
    return gq.assess_batch(sources, out, progress=False, **options)


def on_threads(sources: Any, out: Path, **options: Any) -> gq.Cohort:
    with dask.config.set(scheduler="threads", num_workers=2):
        return run(sources, out, **options)


def numbers(path: Path) -> dict[str, Any]:
    """A JSON file of a sample without what is never the same again."""
    report = json.loads(path.read_text())
    del report["batch"]["store"]  # how many bytes it has, among them the time
    for name in ("created", "seconds"):
        del report["provenance"][name]
    return report


def assert_same(one: gq.Cohort, other: gq.Cohort, a: Path, b: Path) -> None:
    pd.testing.assert_frame_equal(one.summary, other.summary)
    pd.testing.assert_frame_equal(one.channels, other.channels)
    assert sorted(p.name for p in a.iterdir()) == sorted(p.name for p in b.iterdir())
    for name in one.summary.loc[one.summary["error"].isna(), "results"]:
        assert numbers(a / f"{name}.json") == numbers(b / f"{name}.json")
        first, second = (gq.Statistics.load(p / f"{name}.zarr") for p in (a, b))
        identical(first.state, second.state)
        pages = [(p / f"{name}.html").read_text() for p in (a, b)]
        assert abs(len(pages[0]) - len(pages[1])) < 100 and "</html>" in pages[0]


def test_the_same_as_on_threads_wherever_a_sample_is_judged(
    workers: Cluster, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.fill()
    (tmp_path / "images").mkdir()
    paths = cohort(tmp_path / "images", 4)
    paths.remove(str(tmp_path / "images" / "locked.tif"))  # a superuser may read it
    expected = on_threads(paths, tmp_path / "threads")
    here.clear()
    found = run(paths, tmp_path / "spread")
    assert here == []
    assert_same(expected, found, tmp_path / "threads", tmp_path / "spread")
    here.clear()
    configure(monkeypatch, "sample-memory", 0)
    assert_same(expected, run(paths, tmp_path / "one"), tmp_path / "threads", tmp_path / "one")
    assert len(here) == 4 + 1  # all that can be opened


def test_relative_paths_labels_and_rules(
    workers: Cluster, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.fill()
    monkeypatch.chdir(tmp_path)  # where no worker is
    y, x = np.mgrid[:64, :64]
    for name, seed in (("a", 1), ("b", 2)):
        stored(Path(f"{name}.zarr"), cells(seed))
        stored(Path(f"{name}-cells.zarr"), (1 + y // 16 * 4 + x // 16).astype("i4"))
    options = {"labels": "{sample}-cells.zarr", "rules": "recipe", "expected_pairs": [("0", "1")]}
    expected = on_threads(["a.zarr", "b.zarr"], Path("threads"), **options)
    here.clear()
    found = run(["a.zarr", "b.zarr"], Path("spread"), **options)
    assert here == [] and found.summary["n_cells"].tolist() == [16, 16]
    assert_same(expected, found, Path("threads"), Path("spread"))


def test_images_in_memory_and_single_samples_have_the_whole_cluster(
    workers: Cluster, tmp_path: Path, here: list[str]
) -> None:
    workers.fill()
    run({"a": cells(1), "b": cells(2)}, tmp_path / "memory", pages=False)
    assert here == ["a", "b"]
    path = stored(tmp_path / "c.zarr", cells(3))
    run([path], tmp_path / "single", pages=False)
    assert here == ["a", "b", "c"]


def test_a_worker_killed_on_the_way_changes_nothing(workers: Cluster, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    paths = cohort(tmp_path / "images", 6, failing=False)
    expected = on_threads(paths, tmp_path / "threads")
    with workers.killing(3, "make") as killer:
        found = run(paths, tmp_path / "killed")
    assert killer.killed is not None
    assert_same(expected, found, tmp_path / "threads", tmp_path / "killed")


def test_a_run_that_is_stopped_leaves_whole_samples_and_no_work(
    workers: Cluster, tmp_path: Path
) -> None:
    workers.fill()
    (tmp_path / "images").mkdir()
    paths = cohort(tmp_path / "images", 6, failing=False)
    seen: list[str] = []

    def stop(outcome: batch.Outcome) -> None:
        seen.append(outcome.name)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.run_batch(paths, tmp_path / "out", Options(), follow=stop)
    end = time.monotonic() + 20  # two samples are at work, and their ends are told
    while any("make" in str(key) for key in workers.scheduler.tasks):
        assert time.monotonic() < end
        time.sleep(0.05)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.json")}
    assert {p.stem for p in before} == set(seen) == {"s000", "s001", "s002"}
    again = run(paths, tmp_path / "out")
    assert len(again.summary) == 6 and again.summary["error"].isna().all()
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())


def test_a_worker_computes_by_itself_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    paths = cohort(tmp_path / "images", 1, failing=False)
    (entry,) = plan(paths, tmp_path / "unseen", element=None, labels=None, tissue=None, dims=None)
    order = kept.Order(Options(), Rules.of("robust"), [], True)
    with forbid_compute():  # any scheduler but that of this thread
        made = kept.make(kept.packed(entry, Opened.of(entry, order.options), order))
    assert not (tmp_path / "unseen").exists() and not machine.is_alone()
    made.save(tmp_path / "s.zarr")
    made.to_html(tmp_path / "s.html")
    again = gq.Assessment.load(tmp_path / "s.zarr")
    assert made.status == again.status == made.to_dict()["status"]
    assert (tmp_path / "s.html").stat().st_size > 10_000


def test_alone_is_this_thread_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    with machine.alone():
        assert machine.threads() == 1 and not machine.on_cluster()
        other: list[bool] = []
        thread = threading.Thread(target=lambda: other.append(machine.is_alone()))
        thread.start()
        thread.join()
        assert machine.is_alone() and other == [False]
        ident = dask.delayed(threading.get_ident)()
        assert machine.compute(ident) == (threading.get_ident(),)
    assert not machine.is_alone()


@pytest.mark.long
def test_cli_says_the_same_with_workers(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from gigaqc.cli import app

    for k in range(3):
        stored(tmp_path / f"s{k}.zarr", cells(k))
    said = []
    for how in ([], ["--workers", "2"]):
        out = tmp_path / f"out{len(how)}"
        done = CliRunner().invoke(app, ["assess", str(tmp_path / "s*.zarr"), "-o", str(out), *how])
        assert done.exit_code == 0, done.output
        said.append(done.stdout.replace(str(out.resolve()), "OUT"))
    assert said[0] == said[1] and "s2: WARN\n" in said[0]


def test_samples_that_fail_leave_room_for_those_after_them(tmp_path: Path, here: list[str]) -> None:
    (tmp_path / "images").mkdir()
    paths = cohort(tmp_path / "images", 8, failing=False)
    for path in paths[1:5]:  # more than are on their way at a time
        (Path(path) / "c" / "1" / "0" / "1").write_bytes(b"no zstd")
    (Path(paths[5]) / "zarr.json").unlink()  # opened once, and the same is said of it
    with local_client(n_workers=1, threads_per_worker=1, processes=False):
        found = run(paths, tmp_path / "out", pages=False)
    errors = found.summary["error"]
    assert here == [] and errors.isna().tolist() == [True] + [False] * 5 + [True] * 2
    assert "s005.zarr" in errors[5]
