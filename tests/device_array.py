"""An array that behaves as cupy's do, in the memory of the host: for tests without a device.

numpy's functions and operators take it and give another one; what would copy it to the host
unasked is refused, and so are arrays of numpy beside it; ``.get()`` copies it, and is counted. As
on a device, nothing is said of overflows and undefined results.
"""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as xp
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

copied: list[int] = []
"""Sizes of the arrays that were copied to the host."""


def unwrapped(value: Any) -> Any:
    if isinstance(value, DeviceArray):
        return value.values
    if isinstance(value, (list, tuple)):
        return type(value)(map(unwrapped, value))
    return {k: unwrapped(v) for k, v in value.items()} if isinstance(value, dict) else value


def moved(*values: Any) -> Any:
    """The values without their wrapping; arrays that are not on the device are refused."""
    for value in values:
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        if isinstance(value, (list, tuple)):
            moved(*value)
    return unwrapped(values)


def wrapped(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return DeviceArray(np.asarray(value))
    if isinstance(value, tuple):
        parts = map(wrapped, value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


class _Namespace:
    """The array API of these arrays."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(xp, name)
        if not callable(value) or isinstance(value, type):
            return value

        def function(*arguments: Any, device: Any = None, **named: Any) -> Any:
            given = unwrapped(arguments) if name == "asarray" else moved(*arguments)
            with np.errstate(all="ignore"):
                return wrapped(value(*given, **unwrapped(named)))

        return function


class DeviceArray(NDArrayOperatorsMixin):
    __array_priority__ = 100
    device = "somewhere else"

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "values":
            raise AttributeError(name)
        value = getattr(self.values, name)
        if not callable(value):
            return wrapped(value) if isinstance(value, np.ndarray) else value

        def method(*arguments: Any, **named: Any) -> Any:
            with np.errstate(all="ignore"):
                return wrapped(value(*moved(*arguments), **unwrapped(named)))

        return method

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return wrapped(getattr(ufunc, method)(*moved(*inputs), **unwrapped(kwargs)))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return wrapped(function(*moved(*args), **unwrapped(kwargs)))

    def __array_namespace__(self, **_: Any) -> Any:
        return _Namespace()

    def __getitem__(self, key: Any) -> Any:
        return wrapped(self.values[unwrapped(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray):
            raise TypeError("Implicit conversion to a device array is not allowed.")
        self.values[unwrapped(key)] = unwrapped(value)

    def __len__(self) -> int:
        return len(self.values)

    def __int__(self) -> int:
        return int(self.values)

    def __float__(self) -> float:
        return float(self.values)

    def __bool__(self) -> bool:
        return bool(self.values)

    def get(self) -> np.ndarray:
        copied.append(self.values.size)
        return self.values.copy()
