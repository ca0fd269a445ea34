"""What an AnnData can hold of the words of an assessment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gigaqc.tables.layout import storable


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"a": None, "b": {"c": None}}, None),
        ({"a": np.float64(2), "b": {"c": True}}, {"a": 2.0, "b": {"c": True}}),
        ((), None),
        ("", ""),
    ],
)
def test_storable(value: Any, kept: Any) -> None:
    assert storable(value) == kept


def test_storable_lists() -> None:
    assert storable([1, 2]).tolist() == [1, 2]
    assert storable([("a", "b")]).tolist() == ["a / b"]
