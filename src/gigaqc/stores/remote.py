"""Chunks of object stores: requested before they are needed, decoded here."""

from __future__ import annotations

import asyncio
import copy
import functools
import itertools
import math
import os
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from gigaqc.base import machine
from gigaqc.stores.chunks import ChunkError, Unreachable
from gigaqc.stores.layout import ArrayLayout, BlockArray, ChunkPart, Index, Shard
from gigaqc.stores.location import in_one_line
from gigaqc.stores.object_store import RetryingStore, Unanswered, address, may_pass

if TYPE_CHECKING:
    import zarr


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


BlockSlices = tuple[tuple[int, int], ...]


class RemoteArray(BlockArray):
    """A zarr array whose chunks, or shards, are objects of a store."""

    asks_ahead = True

    def __init__(self, array: zarr.Array, layout: ArrayLayout) -> None:
        super().__init__(array, layout)
        store = array.store
        self._store = store if isinstance(store, RetryingStore) else RetryingStore(store)
        self._prefix = f"{array.path}/" if array.path else ""
        self._indices: dict[str, asyncio.Task[np.ndarray | None]] = {}
        self._prefetch = self._new_prefetch()

    def _new_prefetch(self) -> Prefetch[BlockSlices, ChunkPart]:
        most = max(machine.read_ahead() // self._layout.nbytes, 4)
        return Prefetch(self._parts, self._ask, most)

    def for_a_pass(self) -> RemoteArray:
        """The same array with requests of its own, which go when the graph of a pass does."""
        other = copy.copy(self)
        other._prefetch, other._indices = other._new_prefetch(), {}
        return other

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_prefetch"]
        state["_indices"] = {}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # In another process: it does not know which tasks it will get, so nothing is expected.
        self._prefetch = self._new_prefetch()

    def expect(self, keys: Iterable[Any]) -> None:
        """Say which blocks tasks will read, about in this order."""
        blocks = map(self._block, keys)
        self._prefetch.expect(block for block in blocks if block is not None)

    def expect_around(self, grid: Mapping[tuple[int, ...], Any]) -> None:
        """Say which blocks tasks will read, each about when they read those beside it."""
        blocks = {place: self._block(key) for place, key in grid.items()}
        self._prefetch.expect_around({p: block for p, block in blocks.items() if block is not None})

    def begin(self, keys: Iterable[Any]) -> None:
        """Ask for blocks that a task reads now."""
        blocks = map(self._block, keys)
        self._prefetch.begin([block for block in blocks if block is not None])

    def _block(self, key: Any) -> BlockSlices | None:
        spans = self._spans(key)
        return None if spans is None else tuple((s.start, s.stop) for s in spans)

    def _parts(self, block: BlockSlices) -> Iterator[ChunkPart]:
        return self._layout.parts([range(*ends) for ends in block])

    def _begin(self, spans: Sequence[range]) -> None:
        self._prefetch.begin([tuple((s.start, s.stop) for s in spans)])

    def _decoded(self, part: ChunkPart) -> Iterator[tuple[Index, np.ndarray]]:
        stored: list[Any] | None = None
        for k, index in enumerate(part.chunks):
            for attempt in itertools.count(1):
                try:
                    stored = self._taken(part) if stored is None else stored
                    chunk = (
                        self._missing() if stored[k] is None else self._layout.decoded(stored[k])
                    )
                except ChunkError:
                    raise
                except Exception as error:
                    if attempt >= machine.decode_attempts():  # it may have been cut on its way
                        raise self._undecodable(part, index, error) from None
                    self._indices.pop(part.key, None)
                    stored = None
                else:
                    yield index, chunk
                    break

    def _taken(self, part: ChunkPart) -> list[Any]:
        try:
            return self._prefetch.take(part)
        except ValueError:  # the index of a shard
            raise
        except Exception as error:
            failed = self._unread(part, error)
        raise failed  # without what led to it, much of which cannot be sent to another process

    def _unread(self, part: ChunkPart, error: Exception) -> Unreachable:
        why = str(error) if isinstance(error, Unanswered) else in_one_line(error)
        cure = "check your credentials, and that you may read this object"
        if isinstance(error, Unanswered) or may_pass(error):
            cure = "the store did not answer as it should: run it again later, or copy the image "
            cure += "to a local disk"
        return Unreachable(self._name(part.key), part.chunks[0], why, cure)

    def _undecodable(self, part: ChunkPart, index: Index, error: Exception) -> ChunkError:
        return ChunkError(
            self._name(part.key),
            index,
            f"fetched {machine.decode_attempts()} times, it does not decode: {in_one_line(error)}",
            "the object is corrupt or was cut when it was stored, upload it again",
        )

    def _name(self, key: str) -> str:
        return f"{address(self._store)}/{self._prefix}{key}".rstrip("/")

    # ---- requests, which run on the loop of zarr

    def _ask(self, part: ChunkPart) -> Future:
        return asyncio.run_coroutine_threadsafe(self._stored(part), _loop(os.getpid()))

    async def _stored(self, part: ChunkPart) -> list[Any]:
        """The bytes of the chunks of a part; None of those that are not there."""
        async with _gate(asyncio.get_running_loop()):
            if self._layout.shard is None:
                return [await self._get(part.key)]
            return await self._of_shard(part)

    async def _get(self, key: str, byte_range: ByteRequest | None = None) -> Any:
        found = await self._store.get(self._prefix + key, default_buffer_prototype(), byte_range)
        return None if found is None else found.as_numpy_array().data

    async def _of_shard(self, part: ChunkPart) -> list[Any]:
        shard = self._layout.shard
        assert shard is not None
        if len(part.chunks) == math.prod(shard.counts):
            whole = await self._get(part.key)
            if whole is None:
                return [None] * len(part.chunks)
            spans = [shard.span(shard.entries(shard.within(whole)), i) for i in part.chunks]
            return [None if s is None else whole[s[0] : s[0] + s[1]] for s in spans]
        if part.key not in self._indices:
            self._indices[part.key] = asyncio.ensure_future(self._index(part.key, shard))
        entries = await self._indices[part.key]
        if entries is None:
            return [None] * len(part.chunks)
        spans = [shard.span(entries, i) for i in part.chunks]
        found: dict[tuple[int, int], Any] = {}
        for run in _runs([s for s in spans if s is not None]):
            first, last = run[0][0], max(a + n for a, n in run)
            bytes_ = await self._get(part.key, RangeByteRequest(first, last))
            if bytes_ is None:
                raise FileNotFoundError(f"{part.key} was removed while it was read")
            found.update({(a, n): bytes_[a - first : a - first + n] for a, n in run})
        return [None if s is None else found[s] for s in spans]

    async def _index(self, key: str, shard: Shard) -> np.ndarray | None:
        """Where the chunks of a shard lie; None where there is no such shard."""
        at = SuffixByteRequest(shard.size) if shard.at_end else RangeByteRequest(0, shard.size)
        try:
            found = await self._get(key, at)
            return None if found is None else shard.entries(found)
        except Exception:
            self._indices.pop(key, None)  # whoever comes later asks again
            raise


def _runs(spans: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Spans (offset, length) that lie so close together that one request fetches them."""
    runs: list[list[tuple[int, int]]] = []
    end, gap = 0, machine.request_gap()
    for offset, length in sorted(spans):
        if runs and offset - end <= gap:
            runs[-1].append((offset, length))
        else:
            runs.append([(offset, length)])
        end = max(end, offset + length) if len(runs[-1]) > 1 else offset + length
    return runs


@functools.lru_cache(maxsize=1)
def _loop(process: int) -> asyncio.AbstractEventLoop:
    """The loop on which zarr runs requests in this process."""
    return sync(_running_loop())


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@functools.lru_cache(maxsize=1)
def _gate(loop: asyncio.AbstractEventLoop) -> asyncio.Semaphore:
    return asyncio.Semaphore(machine.requests())
