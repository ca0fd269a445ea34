"""What dask has to compute with, and the allocator of its workers."""

from __future__ import annotations

import os
import subprocess
import sys

import dask
import distributed  # noqa: F401 (its settings)
import pytest

ALLOCATE = """
import resource
import numpy as np
from gigaqc.base.machine import reuse_memory

def work():
    for _ in range(100):
        np.empty(1 << 20, "u1").fill(1)

reuse_memory()
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment: str) -> int:
    """Pages that a worker of dask was given anew for 100 arrays of 256 pages each."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    given |= {k: str(v) for k, v in dask.config.get("distributed.nanny.pre-spawn-environ").items()}
    command = [sys.executable, "-c", ALLOCATE]
    run = subprocess.run(
        command, env=given | environment, capture_output=True, text=True, check=True
    )
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of glibc")
def test_arrays_in_a_worker_of_dask_reuse_memory() -> None:
    assert faults() < 2_000
    assert faults(MALLOC_MMAP_THRESHOLD_="131072") > 20_000  # what a user says goes first
