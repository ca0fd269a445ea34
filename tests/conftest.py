"""Fixtures and settings that every test shares."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from covering import covering
from hypothesis import settings

# No deadline, as a machine may stall; no chance but in a search, as a failure must come back.
# Of the examples that a test asks for (`strategies.examples`) "quick" draws a third, "full" all.
for name, examples in (("quick", 33), ("full", 100), ("search", 1000)):
    settings.register_profile(
        name,
        deadline=None,
        derandomize=name != "search",
        max_examples=examples,
        print_blob=True,
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images: GIGAQC_DATA, else ``../shared/data`` beside the repository."""
    folder = Path(os.environ.get("GIGAQC_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}; name their folder with GIGAQC_DATA")
    return folder


@pytest.fixture(scope="module")
def few_pictures() -> Iterator[None]:
    """Pages of cohorts with a picture of a kind that is not drawn; the tests of pages draw all."""
    from gigaqc.report import cohort, pictures

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohort, "_MOST_PICTURES", 1)
        patch.setattr(cohort, "_MOST_DRIFTS", 1)
        patch.setattr(pictures, "themed_svg", lambda *_: "data:image/svg+xml;base64,")
        yield


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as long the combinations that the quick run of a test marked ``cover`` leaves out."""
    tests: dict[Any, list[Any]] = {}
    for item in items:
        known = {mark.name for mark in item.iter_markers()}
        if "cover" in known and not known & {"long", "slow", "gpu"}:
            tests.setdefault((item.parent, getattr(item, "originalname", "")), []).append(item)
    for same in tests.values():
        (n,) = next(mark.args for mark in same[0].iter_markers("cover"))
        # One object stands for a value in all combinations, and not every value has a hash.
        values = [{(k, id(v)) for k, v in item.callspec.params.items()} for item in same]
        for at in set(range(len(same))) - covering(values, n):
            same[at].add_marker("long")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what looks into the process that computes."""
    if item.config.getoption("--cluster"):
        source = inspect.getsource(getattr(item, "function", type(item)))
        counts = "count_reads" in source or "reads" in getattr(item, "fixturenames", ())
        if counts or item.get_closest_marker("same_process"):
            pytest.skip("counts or replaces what other processes do not see")
