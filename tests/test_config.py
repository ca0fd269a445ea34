"""Settings: each has effect, is checked, and stands in the documentation."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from settings import configure

import gigaqc as gq
from gigaqc.base import machine
from gigaqc.cohort import kept
from gigaqc.errors import ParameterError
from gigaqc.graph.reduce import plan_groups
from gigaqc.graph.scratch import Scratch
from gigaqc.graph.slabs import Route, plan_slabs
from gigaqc.image.labelled import as_image
from gigaqc.stores import object_store, remote
from gigaqc.stores.chunks import ChunkError
from gigaqc.stores.layout import layout_of

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"


def image() -> xr.DataArray:
    pixels = np.random.default_rng(0).poisson(20, (2, 256, 256)).astype("u2")
    return as_image(pixels).chunk({"c": 1, "y": 64, "x": 64})


def series() -> xr.DataArray:
    """One frame a chunk, 64 MiB in all."""
    blank = dask.array.zeros((128, 1, 512, 512), chunks=(1, 1, 512, 512), dtype="u2")
    return as_image(xr.DataArray(blank, dims=("t", "c", "y", "x")))


def remote_array() -> remote.RemoteArray:
    """A zarr array of four chunks, read as those across a network."""
    array = zarr.create_array({}, shape=(64, 64), chunks=(32, 32), dtype="u2")
    array[:] = 7
    layout = layout_of(array)
    assert layout is not None
    return remote.RemoteArray(array, layout)


def fails(times: list[float], error: Exception | None = None, lasts: float = 0.0) -> Any:
    async def attempt() -> None:
        times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(lasts)
        raise error or OSError("away")

    return attempt


def tried(**given: Any) -> int:
    """How often a request that fails is made."""
    times: list[float] = []
    with pytest.raises(object_store.Unanswered):
        asyncio.run(object_store.retried(fails(times, **given)))
    return len(times)


# ---- each has effect


def test_group_values_say_how_much_a_task_reads_and_name_its_result(monkeypatch):
    few, before = len(plan_groups(image())), gq.scan(image())
    configure(monkeypatch, "group-values", 1 << 14)
    assert len(plan_groups(image())) > few
    lazy = image()
    with dask.config.set({"gigaqc.group-values": 1 << 23}):
        other = gq.scan(lazy)
    mine = gq.scan(lazy)
    assert not set(mine.__dask_graph__()) & set(other.__dask_graph__())
    values = [gq.dynamic_range(s) for s in dask.compute(mine, other, before)]
    xr.testing.assert_identical(values[0], values[1])


def test_group_values_along_time_name_the_result_too(monkeypatch):
    lazy = series().isel(y=slice(16), x=slice(16))
    whole = gq.tsnr_map(lazy)
    assert gq.tsnr_map(lazy).data.name == whole.data.name
    configure(monkeypatch, "group-values", 1 << 10)
    assert gq.tsnr_map(lazy).data.name != whole.data.name


def test_frames_memory_is_that_of_gain_maps(monkeypatch):
    configure(monkeypatch, "frames-memory", "48MiB")
    assert plan_slabs(series()).memory == 48 << 20
    assert plan_slabs(series(), 80 << 20).memory == 80 << 20


def test_slab_reads_say_when_frames_are_laid_down(monkeypatch):
    assert plan_slabs(series(), 64 << 20).route is Route.SLABS
    configure(monkeypatch, "slab-reads", 1)
    assert plan_slabs(series(), 64 << 20).route is Route.STORE


def test_temporary_is_where_frames_are_laid_down(monkeypatch, tmp_path):
    configure(monkeypatch, "temporary", str(tmp_path))
    assert Scratch(None).parent == tmp_path
    assert Scratch(tmp_path.parent).parent == tmp_path.parent


@pytest.mark.parametrize(("limit", "sent"), [("1MiB", True), (10, False)])
def test_sample_memory_says_which_samples_go_to_one_worker(monkeypatch, limit, sent):
    configure(monkeypatch, "sample-memory", limit)
    monkeypatch.setattr(kept.Opened, "of", lambda *_: SimpleNamespace(image=image()))
    monkeypatch.setattr(kept, "packed", lambda *_: None)
    begun = []
    self: Any = SimpleNamespace(
        _order=SimpleNamespace(options=None),
        _client=SimpleNamespace(submit=lambda *_, **__: begun.append(1)),
    )
    entry: Any = SimpleNamespace(is_stored=True)
    kept.Flight._begin(self, entry)
    assert bool(begun) == sent


def test_read_ahead_is_in_bytes_of_decoded_chunks(monkeypatch):
    array = remote_array()
    configure(monkeypatch, "read-ahead", 20 * 32 * 32 * 2)
    assert array._new_prefetch()._most == 20
    configure(monkeypatch, "read-ahead", 0)
    assert array._new_prefetch()._most == 4


def test_requests_run_at_once(monkeypatch):
    configure(monkeypatch, "requests", 3)
    loop = asyncio.new_event_loop()
    assert remote._gate.__wrapped__(loop)._value == 3
    loop.close()


def test_a_request_gap_is_fetched_along(monkeypatch):
    spans = [(0, 10), (1000, 10)]
    assert len(remote._runs(spans)) == 1
    configure(monkeypatch, "request-gap", 100)
    assert len(remote._runs(spans)) == 2


def test_read_attempts_and_patience_say_how_often_a_request_is_made(monkeypatch):
    configure(monkeypatch, "read-pause", 0)
    assert tried() == 7
    configure(monkeypatch, "read-attempts", 2)
    assert tried() == 2
    configure(monkeypatch, "read-patience", 0)
    assert tried() == 1


def test_read_pause_lies_before_the_second_attempt(monkeypatch):
    configure(monkeypatch, "read-attempts", 2)
    configure(monkeypatch, "read-pause", 0.2)
    times: list[float] = []
    with pytest.raises(object_store.Unanswered):
        asyncio.run(object_store.retried(fails(times)))
    assert times[1] - times[0] >= 0.1


def test_read_timeout_ends_an_attempt(monkeypatch):
    configure(monkeypatch, "read-pause", 0)
    configure(monkeypatch, "read-timeout", 0.01)
    assert tried(lasts=30.0) == 7


@pytest.mark.parametrize("most", [1, 4])
def test_decode_attempts_say_how_often_a_chunk_is_fetched(monkeypatch, most):
    configure(monkeypatch, "decode-attempts", most)
    asked: list[Any] = []
    ask = remote.RemoteArray._ask
    monkeypatch.setattr(
        remote.RemoteArray, "_ask", lambda self, part: asked.append(part) or ask(self, part)
    )

    array = remote_array()

    def cut(self: Any, data: Any) -> np.ndarray:
        raise ValueError("cut")

    monkeypatch.setattr(type(array._layout), "decoded", cut)
    with pytest.raises(ChunkError, match=f"fetched {most} times"):
        array[:32, :32]
    assert len(asked) == most


# ---- what is set, and what is wrong

WRONG = {
    "group-values": -1,
    "frames-memory": "much",
    "slab-reads": 1.5,
    "temporary": "/no/such/folder",
    "sample-memory": [1],
    "read-ahead": "32 apples",
    "requests": 0,
    "request-gap": -1,
    "read-attempts": True,
    "decode-attempts": 0,
    "read-pause": -0.1,
    "read-timeout": "soon",
    "read-patience": float("inf"),
}


@pytest.mark.parametrize("setting", machine.SETTINGS, ids=lambda s: s.key)
def test_a_wrong_value_names_key_value_and_cure(monkeypatch, setting):
    setting()  # the default can be used
    configure(monkeypatch, setting.key, WRONG[setting.key])
    with pytest.raises(ParameterError) as caught:
        setting()
    message = str(caught.value)
    assert message.startswith(f"gigaqc.{setting.key}: ")
    assert repr(WRONG[setting.key]) in message
    assert "set a" in message


def test_a_setting_may_stand_in_the_environment():
    code = (
        "from gigaqc.base import machine as config; print(config.read_ahead(), config.read_pause())"
    )
    environment = {"DASK_GIGAQC__READ_AHEAD": "1MiB", "DASK_GIGAQC__READ_PAUSE": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(1 << 20), "2.0"]


def test_a_setting_is_looked_up_by_either_spelling():
    with dask.config.set({"gigaqc.read_attempts": 4}):
        assert machine.read_attempts() == 4


def test_the_page_has_all_settings_with_their_defaults():
    row = r"^\| `gigaqc\.([\w-]+)` \| (\S+) \| (?:graph|process) \|"
    shown = dict(re.findall(row, PAGE.read_text(), re.M))
    wanted = {s.key: "null" if s.default is None else str(s.default) for s in machine.SETTINGS}
    assert list(shown.items()) == list(wanted.items())
