"""What "equal" means: the contract's three grades of exactness, as assertions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def same(actual: Any, expected: Any, what: str = "") -> None:
    """Counts and order statistics: to the bit, NaN where NaN."""
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected), err_msg=what)


def close(actual: Any, expected: Any, what: str = "", *, scale: float = 0.0) -> None:
    """Derived values: 1e-9, and 1e-12 of `scale`, the size of what was added up."""
    np.testing.assert_allclose(
        np.asarray(actual, "f8"),
        np.asarray(expected, "f8"),
        rtol=1e-9,
        atol=1e-12 * scale,
        err_msg=what,
    )


def over_c(dataset: Any, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The named variables of a computed Dataset, each checked to be over ``c`` alone."""
    computed = dataset.compute()
    for name in names:
        assert computed[name].dims == ("c",), f"{name} has dims {computed[name].dims}"
    return {name: computed[name].values for name in names}
