"""A web server that fails on demand, for tests of what is read from object stores."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Fault:
    """What befalls requests whose path a pattern finds."""

    pattern: re.Pattern[str]
    status: int | None = None
    delay: float = 0.0
    cut: float | None = None
    short: float | None = None
    left: float = float("inf")
    hits: int = field(default=0, init=False)


class FaultyServer:
    """A server on loopback that passes requests on, or serves a folder, and fails by rule.

    Parameters
    ----------
    target
        What it stands before: the URL of another server (moto's, say), to which requests of every
        kind are passed on; or a folder, whose files are served with byte ranges.

    Attributes
    ----------
    url
        Its address.
    gets
        How often each path was asked for with GET, faults included.

    Examples
    --------
    >>> with FaultyServer(folder) as server:                            # doctest: +SKIP
    ...     server.fail("c/0/0/0", status=503, times=2)
    ...     gq.open_image(f"{server.url}/image.zarr").values
    """

    def __init__(self, target: str | PathLike[str]) -> None:
        self.gets: Counter[str] = Counter()
        self.most_at_once = 0
        self._running = 0
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        handler = type("_BoundHandler", (_Handler,), {"faulty": self, "target": _target(target)})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.daemon = True

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(
        self,
        pattern: str,
        *,
        status: int | None = None,
        delay: float = 0.0,
        cut: float | None = None,
        short: float | None = None,
        times: float = float("inf"),
    ) -> Fault:
        """Let GET requests fail whose path the regular expression `pattern` finds.

        Parameters
        ----------
        status
            Answer with this code and no body.
        delay
            Seconds before anything is answered.
        cut
            Fraction of the body after which the connection is closed.
        short
            Fraction of the body that is sent as if it were all of it.
        times
            How many requests fail; those after them do not.

        Returns
        -------
        Fault
            Its ``hits`` say how often it struck.
        """
        fault = Fault(re.compile(pattern), status, delay, cut, short, times)
        with self._lock:
            self._faults.append(fault)
        return fault

    def reset(self) -> None:
        """Forget all faults and counts."""
        with self._lock:
            self._faults.clear()
            self.gets.clear()
            self.most_at_once = 0

    def _next_fault(self, path: str) -> Fault | None:
        with self._lock:
            self.gets[path] += 1
            for fault in self._faults:
                if fault.left > 0 and fault.pattern.search(path):
                    fault.left -= 1
                    fault.hits += 1
                    return fault
        return None

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that goes away in the middle is what tests provoke."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer in two packets waits 40 ms
    faulty: FaultyServer
    target: str | Path
    _upstream: http.client.HTTPConnection | None = None

    def do_GET(self) -> None:
        with self.faulty._counted():
            self._answer(self.faulty._next_fault(unquote(urlsplit(self.path).path)))

    def _answer(self, fault: Fault | None = None) -> None:
        if fault is not None and fault.delay:
            time.sleep(fault.delay)
        if fault is not None and fault.status is not None:
            self._send(fault.status, {}, b"")
            return
        status, headers, body = self._fetch()
        if fault is None or (fault.cut is None and fault.short is None):
            self._send(status, headers, body)
        elif fault.short is not None:
            self._send(status, headers, body[: int(len(body) * fault.short)])
        else:
            self._send(status, headers, body, cut=int(len(body) * (fault.cut or 0.0)))

    do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def _fetch(self) -> tuple[int, Mapping[str, str], bytes]:
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length) if length else None
        if isinstance(self.target, Path):
            return _file(self.target / unquote(urlsplit(self.path).path).lstrip("/"), self.headers)
        if self._upstream is None:
            self._upstream = http.client.HTTPConnection(self.target, timeout=60)
        self._upstream.request(self.command, self.path, sent, dict(self.headers))
        answer = self._upstream.getresponse()
        body = answer.read()
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP}
        if self.command == "HEAD":
            headers["Content-Length"] = answer.getheader("Content-Length") or "0"
        return answer.status, headers, body

    def _send(
        self, status: int, headers: Mapping[str, str], body: bytes, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


def _target(target: str | PathLike[str]) -> str | Path:
    if isinstance(target, str) and "://" in target:
        return urlsplit(target).netloc
    return Path(target)


def _file(path: Path, headers: Any) -> tuple[int, dict[str, str], bytes]:
    """A file or a part of it, as a web server gives it."""
    if not path.is_file():
        return 404, {}, b""
    body, known = path.read_bytes(), {"Accept-Ranges": "bytes"}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("Range") or "")
    if asked is None:
        return 200, known, body
    first, last = asked.groups()
    start = int(first) if first else max(len(body) - int(last), 0)
    stop = min(int(last) + 1, len(body)) if first and last else len(body)
    if start >= len(body):
        return 416, {"Content-Range": f"bytes */{len(body)}"}, b""
    return (
        206,
        {**known, "Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"},
        body[start:stop],
    )
