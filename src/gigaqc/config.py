"""What whoever runs a cluster may tune: keys ``gigaqc.*`` of `dask.config`, with their defaults.

They are set as dask's own are: in a YAML file, by ``dask.config.set({"gigaqc.requests": 64})``, or
by an environment variable, ``DASK_GIGAQC__REQUESTS=64``. Each is looked up where it is used.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import dask.config
from dask.utils import parse_bytes

from gigaqc.errors import ParameterError

T = TypeVar("T")


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One key: its default, how its value is understood, and what to set instead of a wrong one."""

    key: str
    default: Any
    parse: Callable[[Any], T]
    cure: str

    def __call__(self) -> T:
        """The value now.

        Raises
        ------
        ParameterError
            When it cannot be used.
        """
        value = dask.config.get(f"gigaqc.{self.key}", self.default)
        try:
            return self.parse(value)
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise ParameterError(
                f"gigaqc.{self.key}: dask's configuration has {value!r}; set {self.cure}."
            ) from None


def _whole(least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or int(value) != value or value < least:
            raise ValueError(value)
        return int(value)

    return parse


def _size(least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or parse_bytes(value) < least:
            raise ValueError(value)
        return int(parse_bytes(value))

    return parse


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not 0 <= float(value) < math.inf:
        raise ValueError(value)
    return float(value)


def _unless_none(parse: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value is None else parse(value)


def _folder(value: Any) -> str:
    if not os.path.isdir(value):
        raise ValueError(value)
    return os.fspath(value)


_COUNT = "a whole number from 1 up"
_SECONDS = "a number of seconds from 0 up"
_BYTES = "a number of bytes, or a size such as '64MiB'"

group_values = Setting("group-values", 1 << 23, _whole(0), "a whole number of values from 0 up")
frames_memory = Setting("frames-memory", None, _unless_none(_size(1)), f"{_BYTES}, or null")
slab_reads = Setting("slab-reads", 3, _whole(0), "a whole number of reads from 0 up")
temporary = Setting("temporary", None, _unless_none(_folder), "a folder that is there, or null")
sample_memory = Setting("sample-memory", "128MiB", _size(0), _BYTES)
read_ahead = Setting("read-ahead", "32MiB", _size(0), _BYTES)
requests = Setting("requests", 32, _whole(1), _COUNT)
request_gap = Setting("request-gap", "64KiB", _size(0), _BYTES)
read_attempts = Setting("read-attempts", 7, _whole(1), _COUNT)
decode_attempts = Setting("decode-attempts", 3, _whole(1), _COUNT)
read_pause = Setting("read-pause", 0.25, _seconds, _SECONDS)
read_timeout = Setting("read-timeout", 120.0, _seconds, _SECONDS)
read_patience = Setting("read-patience", 180.0, _seconds, _SECONDS)

SETTINGS = (
    group_values, frames_memory, slab_reads, temporary, sample_memory, read_ahead, requests,
    request_gap, read_attempts, decode_attempts, read_pause, read_timeout, read_patience,
)  # fmt: skip
"""All of them, in the order of the documentation."""

dask.config.update_defaults({"gigaqc": {setting.key: setting.default for setting in SETTINGS}})
