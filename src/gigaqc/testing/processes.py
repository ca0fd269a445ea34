"""Watching a run: a scheduler that refuses to compute, and the peak memory of a process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

_RUNNER = """
import sys

def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

setup, code, report = sys.argv[1:4]
namespace = {"__name__": "__main__"}
exec(compile(setup, "<setup>", "exec"), namespace)
before = memory("VmRSS:")
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
exec(compile(code, "<code>", "exec"), namespace)
with open(report, "w") as file:
    file.write(f"{before} {memory('VmHWM:')}")
"""


@contextlib.contextmanager
def forbid_compute() -> Iterator[None]:
    """Within this context whoever computes a dask collection raises AssertionError.

    Holds a lazy function to its word; an active `distributed.Client` does not help around it.
    """
    import dask

    def refuse(graph: Any, keys: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError(f"computed behind the caller's back: {str(keys)[:200]}")

    with dask.config.set(scheduler=refuse):
        yield


@dataclass(frozen=True)
class PeakMemory:
    """Memory of a process, in bytes, and what it printed."""

    before: int
    """Resident when the set-up was done."""
    peak: int
    """The most that was resident after it."""
    stdout: str

    @property
    def growth(self) -> int:
        """Peak over what the set-up (the imports) had taken."""
        return self.peak - self.before


def peak_memory(
    code: str, *, setup: str = "", env: Mapping[str, str] | None = None, timeout: float = 600
) -> PeakMemory:
    """Run Python code in a process of its own and return the most memory it held (Linux).

    Parameters
    ----------
    code, setup
        Python source; `setup`, often the imports, runs first and is not counted. They share their
        names.
    env
        Variables added to the environment.
    timeout
        Seconds until the process is killed.

    Raises
    ------
    RuntimeError
        When the code fails; its error output is in the message.
    NotImplementedError
        Where there is no ``/proc``.

    Notes
    -----
    From ``VmHWM``, reset after the set-up. ``ru_maxrss`` would not do: a child inherits its
    parent's.
    """
    if not Path("/proc/self/clear_refs").exists():
        raise NotImplementedError("peak_memory reads /proc, which only Linux has.")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "memory")
        done = subprocess.run(
            [sys.executable, "-c", _RUNNER, setup, code, str(report)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **(env or {})},
            check=False,
        )
        if done.returncode or not report.exists():
            raise RuntimeError(
                f"the code ended with exit status {done.returncode}:\n{done.stderr[-4000:]}"
            )
        before, peak = map(int, report.read_text().split())
    return PeakMemory(before=before, peak=peak, stdout=done.stdout)
