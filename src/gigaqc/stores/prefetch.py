"""Requests that are under way before what they bring is needed.

An object store answers after tens of milliseconds, in which a thread that waits for each chunk in
turn would do nothing. So all chunks of a block, and of the group that a task reads, are asked for
at once, and while kernels run some of those that come after them in the order of the graph.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

BlockKey = TypeVar("BlockKey", bound=Hashable)
RequestKey = TypeVar("RequestKey", bound=Hashable)


class Prefetch(Generic[BlockKey, RequestKey]):
    """Requests of one array, each made once, and given to the thread that reads the block.

    Parameters
    ----------
    requests
        What has to be asked for to have a block.
    ask
        Makes a request, and gives its future.
    most
        How many answers may be waiting or under way before one that comes later is asked for. What
        a block needs that is read now is always asked for.
    """

    def __init__(
        self,
        requests: Callable[[BlockKey], Iterable[RequestKey]],
        ask: Callable[[RequestKey], Future],
        most: int,
    ) -> None:
        self._requests, self._ask, self._most = requests, ask, most
        self._lock = threading.Lock()
        self._later: Iterator[BlockKey] = iter(())
        self._begun: set[BlockKey] = set()  # of the later ones, those that a task came to before us
        self._grid: dict[tuple[int, ...], BlockKey] = {}  # those that no task came to yet
        self._places: dict[BlockKey, tuple[int, ...]] = {}
        self._asked: dict[RequestKey, Future] = {}

    def expect(self, blocks: Iterable[BlockKey]) -> None:
        """Say which blocks will be read, about in this order; gone through as they are needed."""
        with self._lock:
            self._later = itertools.chain(self._later, blocks)

    def expect_around(self, grid: Mapping[tuple[int, ...], BlockKey]) -> None:
        """Say which blocks will be read, each soon after those beside it.

        `grid` has them by their place, y and x last: a block is followed by the eight around it
        and by those of other planes at the same y and x.
        """
        with self._lock:
            self._grid = dict(grid)
            self._places = {block: place for place, block in grid.items()}

    def begin(self, blocks: Iterable[BlockKey]) -> None:
        """Ask for these blocks, which a task reads now, and then for some of the later ones."""
        with self._lock:
            for block in blocks:
                if self._ask_for(block):
                    self._begun.add(block)
                self._go_around(block)
            self._go_on()

    def take(self, request: RequestKey) -> Any:
        """The answer to a request, once; what nobody had asked for is asked for now."""
        with self._lock:
            future = self._asked.pop(request, None)
            if future is None:
                future = self._ask(request)
            self._go_on()
        return future.result()

    def _go_on(self) -> None:
        while len(self._asked) < self._most:
            block = next(self._later, None)
            if block is None:
                self._begun.clear()
                return
            if block in self._begun:
                self._begun.discard(block)
            else:
                self._ask_for(block)

    def _go_around(self, block: BlockKey) -> None:
        place = self._places.pop(block, None)
        if place is None:
            return
        self._grid.pop(place, None)
        *plane, y, x = place
        rows, columns = range(y - 1, y + 2), range(x - 1, x + 2)
        around = [(*plane, row, column) for row in rows for column in columns]
        for k, n in enumerate(plane):
            around += [(*plane[:k], n + step, *plane[k + 1 :], y, x) for step in (-1, 1)]
        for near in around:
            if len(self._asked) >= self._most:
                return
            if near in self._grid:
                self._ask_for(self._grid.pop(near))

    def _ask_for(self, block: BlockKey) -> bool:
        """Whether all of it had to be asked for."""
        new = [r for r in self._requests(block) if r not in self._asked]
        self._asked.update((request, self._ask(request)) for request in new)
        return bool(new)
