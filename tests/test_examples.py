"""Examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import numpy as np
import pytest

import gigaqc

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples() -> Iterator[doctest.DocTest]:
    """Those of every module, each once, where it is defined.

    Not that of `gigaqc` itself, which opens the reader's own slide.
    """
    names = [m.name for m in pkgutil.walk_packages(gigaqc.__path__, "gigaqc.")]
    for name in names:
        if name != "gigaqc.__main__":  # which is the command line itself
            found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
            yield from (test for test in found if test.examples)


EXAMPLES = list(examples())

PIXELS = np.random.default_rng(0).poisson(20, (32, 32)).astype("u2")
LABELS = np.pad(np.full((8, 8), 3), 12)


def test_there_are_examples_to_run():
    assert len(EXAMPLES) >= 30


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda test: test.name)
def test_an_example_gives_what_it_says(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(example, out=told.append, clear_globs=False)
    assert not runner.failures, "".join(told)


FIRST_CALLED = {
    "acquisition_artifacts": lambda: gigaqc.acquisition_artifacts(PIXELS),
    "assess": None,
    "channel_correlation": None,
    "dynamic_range": lambda: gigaqc.dynamic_range(PIXELS),
    "focus": lambda: gigaqc.focus(PIXELS, 16, spectrum=True),
    "object_table": lambda: gigaqc.object_table(LABELS),
    "scan": None,
    "segmentation_quality": lambda: gigaqc.segmentation_quality(
        LABELS, PIXELS, ring=2, tissue=LABELS > 0
    ),
    "signal_to_noise": lambda: gigaqc.signal_to_noise(PIXELS),
    "tissue_integrity": lambda: gigaqc.tissue_integrity(PIXELS, 0),
}
"""What users call first, and what shows its variables where it has some."""


@pytest.mark.parametrize("name", FIRST_CALLED)
def test_what_is_called_first_says_what_it_raises_and_shows_how(name):
    sections = re.findall(r"^ *([A-Z]\w+)\n *-{4,}$", getattr(gigaqc, name).__doc__, re.M)
    assert {"Parameters", "Returns", "Raises", "Examples"} <= set(sections)
    assert f"gigaqc.{name}" in {re.sub(r"gigaqc\..*\.", "gigaqc.", e.name) for e in EXAMPLES}


@pytest.mark.parametrize("name", [n for n, call in FIRST_CALLED.items() if call])
def test_variables_are_a_list_that_is_complete(name):
    documented = inspect.getdoc(getattr(gigaqc, name)) or ""
    heads = re.findall(r"^ +- (``.*?)(?::|,? (?:with|of|\()|,$)", documented, re.M)
    listed = {variable for head in heads for variable in re.findall(r"``(\w+)``", head)}
    found = FIRST_CALLED[name]()
    missing = {str(v) for v in found if str(v) not in listed}
    if name == "object_table":
        missing = {v for v in missing if not v.startswith("bbox_")}
    assert not missing
