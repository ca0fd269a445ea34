"""What does a second thread gain, and a second worker process, of what the floor gains by it?

    python -m benchmarks.workers [--side 8192] [--runs 5] [--store FOLDER]

Workers are those of two `LocalCluster`s, of one thread each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import dask

import gigaqc as gq
from benchmarks._measure import Stored, slide
from benchmarks._question import SLIDE, Question

WORK = {
    "reading": Stored.read,
    "`scan`": lambda stored: gq.scan(stored.image).compute(),
    "`assess`": lambda stored: gq.assess(stored.image, progress=False),
}


class Clusters(NamedTuple):
    """An image, and clients of one and of two worker processes."""

    stored: Stored
    clients: dict[int, Any]


def clusters(folder: Path, **size: Any) -> Iterator[Clusters]:
    """Two clusters that are there for as long as something is measured."""
    from distributed import Client, LocalCluster

    alone = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": logging.ERROR}
    with (
        LocalCluster(n_workers=1, **alone) as one,
        LocalCluster(n_workers=2, **alone) as two,
        Client(one, set_as_default=False) as first,
        Client(two, set_as_default=False) as second,
    ):
        yield Clusters(slide(folder, **size), {1: first, 2: second})


def on_threads(work: Callable[[Stored], object], count: int, stored: Stored) -> None:
    with dask.config.set(scheduler="threads", num_workers=count):
        work(stored)


def on_workers(work: Callable[[Stored], object], count: int, found: Clusters) -> None:
    client = found.clients[count]
    with client.as_current(), dask.config.set(scheduler=client):
        work(found.stored)


def doubled(unit: str, run: Callable[..., None]) -> dict[str, Any]:
    """Functions and pairs of one and of two."""
    names = {(w, n): f"{w}, {n} {unit}{'s' * (n > 1)}" for w in WORK for n in (1, 2)}
    pairs = []
    for w in WORK:
        pairs.append((names[w, 2], names[w, 1]))
        if w != "reading":
            pairs.append((*pairs[-1], *pairs[0]))
    functions = {name: partial(run, WORK[w], n) for (w, n), name in names.items()}
    return {"functions": functions, "pairs": tuple(pairs)}


def workers() -> dict[str, Any]:
    """One and two workers, and what two threads of one process take for the same."""
    found = doubled("worker", on_workers)
    for w in ("`scan`", "`assess`"):
        threads = f"{w}, 2 threads"
        found["functions"][threads] = lambda c, w=w: on_threads(WORK[w], 2, c.stored)
        found["pairs"] += ((f"{w}, 2 workers", threads),)
    return found


QUESTIONS = (
    Question(
        name="threads",
        group="workers",
        of=SLIDE,
        prepare=slide,
        full={"side": 4096, "channels": 4},
        quick={"side": 4096, "channels": 2},
        **doubled("thread", on_threads),
    ),
    Question(
        name="workers",
        group="workers",
        of=SLIDE,
        prepare=clusters,
        full={"side": 8192, "channels": 4},
        quick={"side": 4096, "channels": 2},
        **workers(),
    ),
)

if __name__ == "__main__":
    from benchmarks.__main__ import ask

    ask(__spec__.name)
