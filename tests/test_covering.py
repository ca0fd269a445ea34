"""The quick run of a test marked ``cover`` leaves out no meeting of values, and is much smaller."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from covering import covering

PARAMETERS = {"dtype": 5, "side": 3, "mask": 2, "chunk": 4}


def combinations() -> list[set[tuple[str, int]]]:
    values = [[(name, k) for k in range(n)] for name, n in PARAMETERS.items()]
    return [set(combination) for combination in itertools.product(*values)]


@pytest.mark.parametrize(("n", "most"), [(1, 5), (2, 26), (3, 80), (4, 120)])
def test_any_values_meet(n: int, most: int) -> None:
    every = combinations()
    chosen = [every[at] for at in covering(every, n)]
    assert len(chosen) <= most
    meetings = {m for one in every for m in itertools.combinations(sorted(one), n)}
    assert meetings == {m for one in chosen for m in itertools.combinations(sorted(one), n)}


def test_values_are_taken_in_turn() -> None:
    every = combinations()
    masks = [dict(every[at])["mask"] for at in covering(every, 1)]
    assert {masks.count(0), masks.count(1)} == {2, 3}


def test_continuous_integration_runs_what_is_left_out() -> None:
    root = Path(__file__).parents[1]
    long = (root / ".ci" / "run").read_text().partition("make test\n")[2]
    assert "make test-long" in long
    rule = (root / "Makefile").read_text().partition("test-long: ")[2].partition("\n\n")[0]
    assert '-m "(long or hypothesis) and not slow and not gpu"' in rule
