"""Stores whose reads are tried again after errors that pass, and how a URL becomes a store.

Filesystems retry by themselves, each in its own way: botocore and obstore answers of 5xx, that of
web servers nothing. What is left over is tried again here, with growing pauses.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any, TypeVar

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, ObjectStore, WrapperStore

from gigaqc.base import machine
from gigaqc.stores.location import Location, in_one_line

T = TypeVar("T")


def remote_stores(location: Location) -> Iterator[Store]:
    """Read-only stores for a URL, the best first; if that does not open the next may.

    obstore takes a quarter of the processor time that s3fs takes for a request. But it knows only
    credentials that were given or stand in environment variables, and no profiles, so that s3fs
    comes second.
    """
    fast = _by_obstore(location)
    if fast is not None:
        yield RetryingStore(fast)
    options = dict(location.options) or None
    yield RetryingStore(FsspecStore.from_url(location.path, options, read_only=True))


_AS_OBSTORE = {
    "key": "access_key_id", "secret": "secret_access_key", "token": "session_token",
    "endpoint_url": "endpoint", "anon": "skip_signature",
}  # fmt: skip


def _by_obstore(location: Location) -> Store | None:
    """A store of obstore, where it is installed and finds the same credentials as s3fs."""
    if not location.path.lower().startswith("s3://") or find_spec("obstore") is None:
        return None
    from fsspec.config import conf

    given = {key: value for key, value in location.options.items() if value is not None}
    keys = os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY")
    own = given.get("anon") or ("key" in given and "secret" in given)
    if set(given) - _AS_OBSTORE.keys() or conf.get("s3") or not (own or keys):
        return None
    if os.environ.get("AWS_PROFILE") and not own:
        return None
    from obstore.store import S3Store

    config: Any = {_AS_OBSTORE[key]: value for key, value in given.items()}
    endpoint = (
        config.get("endpoint")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
    if endpoint:
        config["endpoint"] = endpoint
    store = S3Store.from_url(
        location.path,
        config=config,
        client_options={"allow_http": str(endpoint or "").startswith("http://")},
        retry_config={"max_retries": 0},  # `retried` does, and knows more errors that pass
    )
    return ObjectStore(store, read_only=True)


def is_remote(store: Store) -> bool:
    """Whether chunks of a store come over a network, as far as is known here."""
    if type(store) is RetryingStore:
        return True
    if type(store) is ObjectStore:
        return type(store.store).__name__ not in ("LocalStore", "MemoryStore")
    return type(store) is FsspecStore


class RetryingStore(WrapperStore[Store]):
    """A store whose reads are tried again after errors that pass."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a key, or a part of it."""
        return await retried(lambda: self._store.get(key, prototype, byte_range))

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Read parts of several keys."""
        parts = (self.get(key, prototype, part) for key, part in key_ranges)
        return list(await asyncio.gather(*parts))


async def retried(attempt: Callable[[], Awaitable[T]], most: int | None = None) -> T:
    """What an attempt gives, tried again with growing pauses while its errors may pass.

    At `most` so many times, by default ``gigaqc.read-attempts``, beside what a store retries by
    itself. Each pause is twice as long as the one before.
    """
    timeout, first = machine.read_timeout(), machine.read_pause()
    most, patience = most or machine.read_attempts(), machine.read_patience()
    start = time.monotonic()
    for number in itertools.count(1):
        try:
            async with asyncio.timeout(timeout):
                return await attempt()
        except Exception as error:
            if not may_pass(error):
                raise
            pause = first * 2 ** (number - 1) * random.uniform(0.5, 1.0)
            taken = time.monotonic() - start
            if number >= most or taken + pause > patience:
                raise Unanswered(
                    f"tried {number} times in {taken:.1f} s, the last time {in_one_line(error)}"
                ) from error
            await asyncio.sleep(pause)
    raise AssertionError


def retried_now(function: Callable[..., T], *arguments: Any) -> T:
    """The same of a function that blocks, a few times: its address may be wrong."""
    return sync(retried(lambda: asyncio.to_thread(function, *arguments), most=4))


class Unanswered(OSError):
    """A request that failed as often as it is tried."""


_NETWORK = ("aiohttp", "botocore", "aiobotocore", "urllib3", "httpx", "http", "obstore", "ssl")
_REFUSED = ("Permission", "Credential", "Unauthenticated", "AccessDenied", "NotFound", "Param")


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later: not if it is refused, or asks for nothing."""
    if isinstance(error, (PermissionError, FileNotFoundError, IsADirectoryError, Unanswered)):
        return False
    status = _status(error)
    if 300 <= status < 500 and status not in (408, 425, 429):
        return False
    if any(word in type(error).__name__ for word in _REFUSED):
        return False
    if isinstance(error, (OSError, TimeoutError, asyncio.TimeoutError)):
        return True
    return type(error).__module__.partition(".")[0] in _NETWORK


def _status(error: BaseException) -> int:
    """Of an answer; 0 where there was none. obstore tells it in words, and a wrong region so."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status
    said = re.search(r"status code: (\d{3})", str(error))
    return int(said[1]) if said else 301 * ("Received redirect" in str(error))


def address(store: Any) -> str:
    """What a user calls a store."""
    if isinstance(store, RetryingStore):
        return address(store._store)
    if isinstance(store, FsspecStore):
        return str(store.fs.unstrip_protocol(store.path))
    if isinstance(store, ObjectStore):
        inner = store.store
        prefix = getattr(inner, "prefix", None)
        bucket = getattr(inner, "config", {}).get("bucket")
        if bucket:
            return f"s3://{bucket}/{prefix or ''}".rstrip("/")
        return str(getattr(inner, "url", inner))
    return str(store)
