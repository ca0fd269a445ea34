"""Where a block lives: on the host, or on a device, where twins of compiled kernels take it.

The only file that knows cupy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from gigaqc.errors import MissingDependencyError


def on_host(block: Any) -> bool:
    """Whether compiled kernels may take a block as it is, or once it is a numpy array."""
    if isinstance(block, np.ndarray):
        return True
    module = type(block).__module__.partition(".")[0]
    return module != "cupy" and not hasattr(block, "__array_namespace__")


def to_host(block: Any) -> np.ndarray:
    """The block as a native numpy array that a compiled kernel may take.

    A block on a device is copied from there; a read-only one is copied, because numba compiles
    each kernel anew for read-only arrays.
    """
    if not on_host(block):
        if hasattr(block, "get"):
            block = block.get()
        else:
            host = namespace_of(block).__array_namespace_info__().default_device()
            block = block.to_device(host)
    array = np.asarray(block)
    return array if array.flags.writeable else array.copy()


def local(block: Any) -> Any:
    """The block where it is: a numpy array that a compiled kernel may take, or on its device."""
    return to_host(block) if on_host(block) else block


def contiguous(block: Any, dtype: Any) -> Any:
    """On the host a contiguous array of a type, as compiled kernels take; on a device itself."""
    return np.ascontiguousarray(block, dtype) if on_host(block) else block


def reshaped(block: Any, shape: tuple[int, ...]) -> Any:
    """The block in another shape, where it is."""
    return block.reshape(shape) if on_host(block) else namespace_of(block).reshape(block, shape)


def empty_beside(block: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
    """An array where the block is; by default of the same type."""
    dtype = block.dtype if dtype is None else dtype
    if on_host(block):
        return np.empty(shape, dtype)
    return namespace_of(block).empty(shape, dtype=dtype, device=block.device)


def beside(array: Any, block: Any) -> Any:
    """The array where the block is: itself, or a copy; compound types stay, no device has them."""
    if on_host(block):
        return array if on_host(array) else to_host(array)
    if getattr(array.dtype, "names", None):
        return array
    return namespace_of(block).asarray(array, device=block.device)


def to_device(block: Any) -> Any:
    """The block on the current GPU; in the byte order of the machine, which is all a GPU knows."""
    if not on_host(block):
        return block
    array = np.asarray(block)
    return _cupy().asarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def empty_on_gpu(ndim: int, dtype: Any) -> Any:
    """An array without elements, by which dask knows where chunks will be."""
    return _cupy().empty((0,) * ndim, np.dtype(dtype).newbyteorder("="))


def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise MissingDependencyError(
            "cupy: is not installed, or finds no CUDA; pip install 'gigaqc[gpu]'."
        ) from error
    return cupy


def namespace_of(block: Any) -> Any:
    """The functions of the array API standard for a block."""
    from array_api_compat import array_namespace

    return array_namespace(block)


def bits_of(values: Any) -> Any:
    """The bits of floats as unsigned integers; the standard has no word for it, cupy has."""
    kind = np.dtype(f"u{values.dtype.itemsize}") if hasattr(values.dtype, "itemsize") else None
    if kind is not None and hasattr(values, "view"):
        return values.view(kind)
    host = to_host(values)
    bits = host.view(f"u{host.itemsize}")
    return namespace_of(values).asarray(bits, device=values.device)


F = TypeVar("F", bound=Callable)


def of_place(block: Any, host: Any, device: Any) -> Any:
    """Of two modules, functions or numbers that which belongs to the place of a block."""
    return host if on_host(block) else device


def twin(device: Callable) -> Callable[[F], F]:
    """Make a function on the host the twin of one for devices.

    Where the first argument lives decides, or the first array of it if it is several.
    """

    def paired(host: F) -> F:
        @wraps(host)
        def picked(block: Any, *arguments: Any) -> Any:
            first = block[0] if isinstance(block, (list, tuple)) else block
            return of_place(first, host, device)(block, *arguments)

        either: Any = picked
        return either

    return paired
