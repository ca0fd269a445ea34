"""A worker that is killed in the middle of a run changes nothing in its result."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import pytest
from capabilities import CAPABILITIES, Sources, assert_same, make_sources
from killing import Cluster, cluster
from settings import configure

from gigaqc.graph import slabs

# What is then in files and not in the memory of a worker: frames in a temporary store, rows.
MOMENTS = [("gain_map by a store", "-laid-down", 2), ("object_table to parquet", "-merge-0", 1)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return make_sources(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def workers() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture(autouse=True)
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "group-values", 0)
    monkeypatch.setattr(slabs, "_SMALLEST_LIMIT", 1)


def made(name: str, sources: Sources, out: Path) -> Any:
    out.mkdir()
    found = CAPABILITIES[name](replace(sources, out=out))
    scratch = out / "scratch"
    assert not any(p.name.startswith(".") for p in out.iterdir())
    assert not scratch.exists() or not list(scratch.rglob("*.npz"))
    return found


def expected(name: str, sources: Sources, out: Path) -> Any:
    with dask.config.set(scheduler="sync"):
        return made(name, sources, out)


@pytest.mark.parametrize(("name", "within", "at"), MOMENTS, ids=[m[0] for m in MOMENTS])
def test_a_worker_killed_at_a_bad_moment(
    sources: Sources, workers: Cluster, tmp_path: Path, name: str, within: str, at: int
) -> None:
    wanted = expected(name, sources, tmp_path / "sync")
    with workers.killing(at, within) as killer:
        found = made(name, sources, tmp_path / "killed")
    assert killer.killed is not None
    assert_same(found, wanted)


def test_a_temporary_store_that_was_opened_again(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the word where frames lie is lost, and others have written there by then."""
    name = "gain_map by a store"
    wanted = expected(name, sources, tmp_path / "once")
    real, folders = slabs._laid_down, set()

    def opened_again(number: int, frames: int, scratch: Any, bands: Any, *given: Any) -> Any:
        if number % 2:
            again = bands.folder.with_name(f"{bands.folder.name}-again")
            shutil.copytree(bands.folder, again, ignore=lambda *_: ["c"], dirs_exist_ok=True)
            bands = replace(bands, folder=again)
        folders.add(bands.folder)
        return real(number, frames, scratch, bands, *given)

    monkeypatch.setattr(slabs, "_laid_down", opened_again)
    with dask.config.set(scheduler="sync"):
        found = made(name, sources, tmp_path / "again")
    assert len(folders) > 1 and not any(f.exists() for f in folders)
    assert_same(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", CAPABILITIES)
def test_a_worker_killed_early_and_late(
    sources: Sources, workers: Cluster, tmp_path: Path, name: str
) -> None:
    wanted = expected(name, sources, tmp_path / "sync")
    with workers.killing(0) as counted:
        assert_same(made(name, sources, tmp_path / "whole"), wanted)
    for share in (0.35, 0.85):
        with workers.killing(max(int(share * counted.done), 1)) as killer:
            found = made(name, sources, tmp_path / str(share))
        assert killer.killed is not None
        assert_same(found, wanted)
