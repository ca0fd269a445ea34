"""Fixtures and settings that every test shares."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline and no chance: a shared machine may stall, and a failure must come back on a rerun.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images: GIGAQC_DATA, else ``../shared/data`` beside the repository."""
    folder = Path(os.environ.get("GIGAQC_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}; name their folder with GIGAQC_DATA")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--cluster auto`` and ``--cluster 1GiB``: what is computed goes to two worker processes."""
    parser.addoption(
        "--cluster", metavar="MEMORY", help="compute on two worker processes with this much memory"
    )


@pytest.fixture(scope="session", autouse=True)
def cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """Two workers of one thread each, to which everything goes that names no other scheduler."""
    memory = request.config.getoption("--cluster")
    if memory is None:
        yield
        return
    from local_clusters import local_client  # heavy, and seldom needed

    with local_client(memory_limit=memory) as client:
        here = str(Path(__file__).parent)
        client.run(lambda: __import__("sys").path.insert(0, here))
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what looks into the process that computes."""
    if item.config.getoption("--cluster"):
        source = inspect.getsource(getattr(item, "function", type(item)))
        counts = "count_reads" in source or "reads" in getattr(item, "fixturenames", ())
        if counts or item.get_closest_marker("same_process"):
            pytest.skip("counts or replaces what other processes do not see")
