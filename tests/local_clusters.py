"""Clusters of worker processes on this machine, for tests."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import dask
from distributed import Client, LocalCluster


@contextlib.contextmanager
def local_client(**options: Any) -> Iterator[Client]:
    """The client of two worker processes of one thread each, on which dask computes.

    `options` are those of `LocalCluster`, and go before these.
    """
    usual: dict[str, Any] = {
        "n_workers": 2, "threads_per_worker": 1, "processes": True, "silence_logs": 50,
        "dashboard_address": "127.0.0.1:0",
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sockets and event loops, none of them ours
        with (
            dask.config.set({"distributed.admin.log-format": "%(message)s"}),
            LocalCluster(**usual | options) as cluster,
            Client(cluster) as client,
        ):
            yield client
