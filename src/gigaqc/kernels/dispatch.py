"""Which of two twins a block gets: the compiled one, or the one for devices.

A kernel and its twin have the same name, or stand beside each other, and take the same arguments;
where a block lives is asked here, so that callers need not know of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from gigaqc.backend import on_host

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
