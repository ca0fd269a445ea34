"""What a task is called: what kind of result it gives, and a token of all that makes it.

dask takes tasks of one name for one task. So a name holds every operand, whether it shows in the
values or only beside them (a pixel size), and nothing else names a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import Delayed
from dask.tokenize import normalize_token


def named(kind: str, *operands: Any) -> str:
    """A name that only the same result of the same operands has; no pixel is computed.

    Parameters
    ----------
    kind
        What the result is, as a word.
    operands
        All that it depends on. Images count with the name of their dask array, dims, coordinates
        and attributes, promises with their keys, dataclasses with every field, functions with
        module and name (those that have none, such as lambdas, with their code), arrays in memory
        with their values. What can't be told, such as an attribute that can't be pickled, is the
        same as nothing else.
    """
    return f"{kind}-{tokenize(*map(_told, operands))}"


def _told(value: Any) -> Any:
    """A value as plain ones that dask hashes as they are."""
    if isinstance(value, xr.DataArray):
        # Those of several dims may be as large as the image, and no task sees them.
        lines = {str(k): c for k, c in value.coords.items() if c.ndim < 2}
        coords = [(k, c.dims, _told(c.data)) for k, c in sorted(lines.items())]
        return "image", _told(value.data), value.dims, coords, _told(value.attrs), _told(value.name)
    if isinstance(value, da.Array):
        return "array", value.name, str(value.dtype), str(value.chunks)
    if isinstance(value, Delayed):
        return "promise", value.key
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, np.dtype):
        return "dtype", str(value)  # dask's token of a structured one is its size
    if isinstance(value, partial):
        return "partial", _told(value.func), _told(value.args), _told(value.keywords)
    if isinstance(value, Mapping):
        return "mapping", sorted(((repr(k), _told(v)) for k, v in value.items()), key=_first)
    if isinstance(value, (tuple, list)):
        return type(value).__name__, *map(_told, value)
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        held = ((f.name, _told(getattr(value, f.name))) for f in fields(value))
        return "fields", kind.__module__, kind.__qualname__, *held
    return normalize_token(value)


def _array(values: np.ndarray) -> tuple[Any, ...]:
    """Values, type and order: dask hashes them as they lie, which a transposed square shares."""
    about = (str(values.dtype), values.shape, values.strides)
    if values.dtype.hasobject:  # dask joins strings by "-"
        return ("objects", *about, _told(values.ravel().tolist()))
    return ("values", *about, normalize_token(values))


def _first(pair: tuple[str, Any]) -> str:
    return pair[0]
