"""Settings of `gigaqc.base.machine` for one test."""

from __future__ import annotations

from typing import Any

import dask.config
import pytest

import gigaqc.base.machine  # noqa: F401  # which has the defaults


def configure(monkeypatch: pytest.MonkeyPatch, key: str, value: Any) -> None:
    """Set ``gigaqc.<key>`` until the test is over."""
    monkeypatch.setitem(dask.config.config["gigaqc"], key, value)
