"""Two thousand small fields of view on a cluster: memory stays what it is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from local_clusters import local_client

import gigaqc as gq

pytestmark = pytest.mark.slow

FIELDS = int(os.environ.get("GIGAQC_SOAK", "2000"))
MIB = 1 << 20


@pytest.fixture
def client() -> Iterator[Any]:
    """Two worker processes; the scheduler lives in this one."""
    with local_client() as connected:
        yield connected


class Memory:
    """Resident memory of this process and of the workers, noted once a second."""

    def __init__(self, workers: dict[str, int], done: Path) -> None:
        import psutil

        self.processes = {"here": psutil.Process()}
        self.processes |= {f"worker {k}": psutil.Process(p) for k, p in enumerate(workers.values())}
        self.done, self.notes, self.stop = done, [], threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self) -> None:
        while not self.stop.wait(1):
            count = sum(1 for _ in self.done.glob("*.json")) if self.done.is_dir() else 0
            held = {name: p.memory_info().rss / MIB for name, p in self.processes.items()}
            self.notes.append((count, held))

    def __enter__(self) -> Memory:
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop.set()
        self.thread.join()

    def between(self, first: float, last: float, name: str) -> float:
        """Median memory while that part of the fields was done."""
        return float(np.median([m[name] for n, m in self.notes if first <= n / FIELDS <= last]))


def test_memory_is_flat_after_the_first_tenth(tmp_path: Path, client: Any) -> None:
    rng = np.random.default_rng(0)
    fields = {}
    for k in range(FIELDS):
        path = tmp_path / "fields" / f"field-{k:04}.zarr"
        pixels = rng.poisson(20 + 5 * (k % 7), (3, 96, 96)).astype("u2")
        zarr.create_array(path, data=pixels, chunks=(1, 48, 48))
        fields[f"field-{k:04}"] = path
    out, start = tmp_path / "out", time.perf_counter()
    with Memory(client.run(os.getpid), out) as memory:
        cohort = gq.assess_batch(fields, out, pages=False, tissue=False, progress=False)
    print(f"{FIELDS} fields in {time.perf_counter() - start:.0f} s")
    assert len(cohort.summary) == FIELDS and cohort.summary["error"].isna().all()
    for name in memory.processes:
        before, after = memory.between(0.1, 0.3, name), memory.between(0.8, 1, name)
        print(f"{name:10} {before:.0f} -> {after:.0f} MiB")
        assert after <= 1.05 * before + 10, (name, before, after)
