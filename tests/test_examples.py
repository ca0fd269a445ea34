"""Examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator

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


def test_there_are_examples_to_run():
    assert len(EXAMPLES) >= 30


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda test: test.name)
def test_an_example_gives_what_it_says(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(example, out=told.append, clear_globs=False)
    assert not runner.failures, "".join(told)
