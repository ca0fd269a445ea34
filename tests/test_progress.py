"""Bars in terminals and notebooks, and what is logged."""

from __future__ import annotations

import logging
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

import gigaqc as gq
from gigaqc import meters, progress

IMAGE = np.random.default_rng(0).poisson(9, (2, 64, 64)).astype("u2")


class Counted:
    """A meter that keeps what it is told."""

    def __init__(self) -> None:
        self.total, self.moved = 0.0, 0.0

    def expect(self, total: float) -> None:
        self.total = total

    def advance(self, amount: float) -> None:
        self.moved += amount


def test_a_bar_of_bytes_ends_at_its_end() -> None:
    image = da.from_array(IMAGE, chunks=(2, 16, 64))
    meter = Counted()
    with progress._Bar(meter, 1000):
        gq.scan(image).compute()
    assert meter.moved == pytest.approx(1000)


def test_a_bar_of_steps_expects_what_two_computations_take() -> None:
    meter = Counted()
    with progress._Steps(meter):
        da.ones(4, chunks=1).sum().compute()
        da.ones(4, chunks=2).sum().compute()
    assert meter.moved == meter.total > 4


@pytest.mark.parametrize(
    ("installed", "drawn"),
    [({"ipywidgets", "tqdm"}, ""), ({"tqdm"}, "reading: "), (set(), "Completed")],
)
def test_a_notebook_draws_with_what_it_has(
    installed: set[str],
    drawn: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(meters, "in_notebook", lambda: True)
    monkeypatch.setattr(meters, "_installed", installed.__contains__)
    gq.assess(IMAGE, progress=True)
    said = "".join(capfd.readouterr())
    assert drawn in said
    assert ("Completed" in said) == (not installed)


def test_what_was_read_and_written_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="gigaqc")
    gq.assess(IMAGE)
    gq.write_image(IMAGE, tmp_path / "out.zarr")
    said = [record.getMessage() for record in caplog.records if record.name == "gigaqc"]
    assert any(line.startswith("reading: 24.00 kiB in ") for line in said), said
    assert any(line.startswith(f"wrote {tmp_path / 'out.zarr'} in ") for line in said), said


def test_nothing_is_said_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    gq.assess(IMAGE)
    assert capfd.readouterr() == ("", "")
