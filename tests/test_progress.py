"""Bars in terminals and notebooks, and what is logged."""

from __future__ import annotations

import logging
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

import gigaqc as gq
from gigaqc.verdict import progress

IMAGE = np.random.default_rng(0).poisson(9, (2, 64, 64)).astype("u2")


class Counted:
    """A meter that keeps what it is told."""

    def __init__(self) -> None:
        self.total, self.moved = 0.0, 0.0

    def expect(self, total: float) -> None:
        self.total = total

    def advance(self, amount: float) -> None:
        self.moved += amount


@pytest.mark.same_process
def test_a_bar_of_bytes_ends_at_its_end() -> None:
    image = da.from_array(IMAGE, chunks=(2, 16, 64))
    meter = Counted()
    with progress._Bar(meter, 1000):
        gq.scan(image).compute()
    assert meter.moved == pytest.approx(1000)


@pytest.mark.same_process
def test_a_bar_of_steps_expects_what_two_computations_take() -> None:
    meter = Counted()
    with progress._TaskCounter(meter):
        da.ones(4, chunks=1).sum().compute()
        da.ones(4, chunks=2).sum().compute()
    assert meter.moved == meter.total > 4


@pytest.mark.same_process
def test_a_notebook_draws_in_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def show(self: progress._Notebook, html: str) -> None:
        self._handle = self
        drawn.append(html)

    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(progress._Notebook, "_show", show)
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    gq.assess(IMAGE, progress=True)
    assert "<progress" in drawn[0] and "of 24 KiB" in drawn[0]
    assert drawn[-1] == "", "the bar stays after the end"


def test_bars_of_samples_hold_those_of_reading(capfd: pytest.CaptureFixture[str]) -> None:
    with progress.samples_shown(2, show=True) as done:
        assert progress._OUTER.get() is not None
        gq.assess(IMAGE, progress=True)
        done()
    assert progress._OUTER.get() is None


def test_what_was_read_and_written_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="gigaqc")
    gq.assess(IMAGE)
    gq.write_image(IMAGE, tmp_path / "out.zarr")
    said = [record.getMessage() for record in caplog.records if record.name == "gigaqc"]
    assert any(line.startswith("reading: 24 KiB in ") for line in said), said
    assert any(line.startswith(f"wrote {tmp_path / 'out.zarr'} in ") for line in said), said


def test_nothing_is_said_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    gq.assess(IMAGE)
    assert capfd.readouterr() == ("", "")
