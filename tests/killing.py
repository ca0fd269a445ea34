"""A dask cluster whose worker processes a test may kill at a chosen moment.

Without nannies, which restart what was killed when they like, and now and then not at all: here a
new worker comes when the test asks for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from distributed import Client, SchedulerPlugin
from local_clusters import local_client

WORKERS = 2


class Killer(SchedulerPlugin):
    """Counts tasks that are done, and kills the worker that did the one with a chosen number.

    Of tasks in whose key `within` occurs.
    """

    name = "killer"

    def __init__(self, pids: dict[str, int], at: int, within: str) -> None:
        self._pids, self._at, self._within = pids, at, within
        self.done = 0
        self.killed: str | None = None

    def transition(
        self, key: Any, start: str, finish: str, *_: Any, worker: str | None = None, **__: Any
    ) -> None:
        if (start, finish) != ("processing", "memory") or self._within not in str(key):
            return
        self.done += 1
        if self.done == self._at and worker is not None:
            self.killed = str(key)
            os.kill(self._pids[worker], signal.SIGKILL)


class Cluster:
    """A scheduler here, and `WORKERS` processes of one thread."""

    def __init__(self, client: Client, scheduler: Any) -> None:
        self.client, self.scheduler = client, scheduler
        self._processes: list[subprocess.Popen[bytes]] = []

    def fill(self, memory: str = "0") -> None:
        """Start workers until all are there."""
        self._processes = [p for p in self._processes if p.poll() is None]
        for _ in range(WORKERS - len(self._processes)):
            command = [
                sys.executable, "-m", "distributed.cli.dask_worker", self.scheduler.address,
                "--no-nanny", "--nthreads", "1", "--no-dashboard", "--memory-limit", memory,
                "--death-timeout", "30",
            ]  # fmt: skip
            out = subprocess.DEVNULL
            self._processes.append(subprocess.Popen(command, stdout=out, stderr=out))
        self.client.wait_for_workers(WORKERS, timeout=60)

    @contextlib.contextmanager
    def killing(self, at: int, within: str = "") -> Iterator[Killer]:
        """Within this context the worker that does the task number `at` is killed; 0 for none."""
        self.fill()
        killer = Killer(self.client.run(os.getpid), at, within)
        self.scheduler.add_plugin(killer)
        try:
            yield killer
        finally:
            self.scheduler.remove_plugin(Killer.name)

    def close(self) -> None:
        """Stop the workers."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(timeout=30)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """The cluster, which dask computes on."""
    with local_client(n_workers=0) as client:
        made = Cluster(client, client.cluster.scheduler)
        try:
            yield made
        finally:
            made.close()
