"""What earlier versions saved: it loads, and gives the numbers that it gave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept.make import image, numbers_of

import gigaqc as gq

KEPT = Path(__file__).parent / "kept"
VERSIONS = sorted(path.name for path in KEPT.iterdir() if (path / "numbers.json").is_file())


@pytest.fixture(params=VERSIONS)
def folder(request: pytest.FixtureRequest) -> Path:
    return KEPT / request.param


def numbers(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "numbers.json").read_text())


def test_there_is_a_folder_of_a_version() -> None:
    assert VERSIONS


@pytest.mark.parametrize("name", ["labelled", "floats"])
def test_statistics(folder: Path, name: str) -> None:
    loaded = gq.Statistics.load(folder / f"{name}.zarr")
    for key, expected in numbers(folder)[name].items():
        assert numbers_of(loaded)[key] == pytest.approx(expected, rel=1e-12, nan_ok=True), key
    assert (loaded.objects is not None) == (name == "labelled")


def test_statistics_add_to_those_of_today(folder: Path) -> None:
    kept, fresh = gq.Statistics.load(folder / "floats.zarr"), gq.scan(image("f4")).compute()
    assert (kept + fresh).distribution(0).n == 2 * fresh.distribution(0).n


def test_an_assessment(folder: Path) -> None:
    verdict = gq.Assessment.load(folder / "assessment.zarr")
    assert verdict.channels["mean"].tolist() == numbers(folder)["assessment"]
    assert verdict.name == "kept" and len(verdict.objects) == 2
    assert verdict.summary["tissue_channel"] == "DNA"


@pytest.mark.parametrize("method", ["gmm", "kmeans", "flowsom"])
def test_models(folder: Path, method: str) -> None:
    model = gq.PixelModel.load(folder / f"{method}.npz")
    found = model.predict(image("f4") / 100).values
    assert np.bincount(found.ravel(), minlength=3).tolist() == numbers(folder)[method]


def test_a_cohort(folder: Path) -> None:
    cohort = gq.Cohort.load(folder / "cohort")
    assert cohort.summary["mean_snr"].tolist() == numbers(folder)["cohort"]
    assert cohort.assessment("a").channels.index.tolist() == ["DNA", "CD3", "CD45"]


def test_a_cohort_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another image is added to the folder; what is there stays or is judged again."""
    shutil.copytree(folder / "cohort", tmp_path / "cohort")
    monkeypatch.chdir(tmp_path)
    for name in ("a.zarr", "b.zarr", "c.zarr"):
        gq.write_image(image("u2"), name)
    cohort = gq.assess_batch(
        ["a.zarr", "b.zarr", "c.zarr"], "cohort", overwrite=True, progress=False
    )
    assert cohort.summary["mean_snr"].tolist() == [numbers(folder)["cohort"][0]] * 3
