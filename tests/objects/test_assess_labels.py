"""Labels in `scan` and `assess`: one read of both, and what is judged."""

from __future__ import annotations

import math
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import zarr
from settings import configure
from test_segmentation_quality import cells

import gigaqc as gq
from gigaqc.errors import ImageError, ImageTypeError, ParameterError, StatisticsError
from gigaqc.testing import CountingStore, count_reads, forbid_compute


@pytest.fixture(autouse=True)
def many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "group-values", 0)


def stained(labels: np.ndarray, dtype: str = "u2") -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.poisson(np.where(labels > 0, 300, 20)) for _ in range(2)]).astype(dtype)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_objects_come_with_the_read_of_the_image(tmp_path: Path, dtype: str) -> None:
    labels = cells(1)
    image = stained(labels, dtype)
    stores = []
    for name, array, sides in (("l", labels, (128, 300)), ("i", image, (1, 100, 100))):
        zarr.create_array(str(tmp_path / name), data=array, chunks=sides)
        stores.append(CountingStore(str(tmp_path / name)))
    lazy_labels, lazy_image = (zarr.open_array(store, mode="r") for store in stores)
    with forbid_compute():
        lazy = gq.scan(lazy_image, labels=lazy_labels)
    statistics = lazy.compute()
    assert set(count_reads(stores[0]).values()) == {1}
    assert set(count_reads(stores[1]).values()) == {1 if dtype == "u2" else 2}
    plain = gq.scan(lazy_image).compute()
    for mine, wanted in zip(
        (
            gq.signal_to_noise(statistics),
            gq.focus(statistics),
            gq.acquisition_artifacts(statistics),
        ),
        (gq.signal_to_noise(plain), gq.focus(plain), gq.acquisition_artifacts(plain)),
        strict=True,
    ):
        assert mine.identical(wanted)
    verdict = gq.assess(statistics)
    assert verdict.objects is not None
    pd.testing.assert_frame_equal(
        verdict.objects, gq.object_table(lazy_labels, lazy_image), rtol=1e-12
    )


def test_a_mask_beside_labels() -> None:
    """The mask decides which pixels are judged, not which objects are measured."""
    labels = cells(1)
    image = stained(labels)
    mask = np.zeros(labels.shape, bool)
    mask[:200] = True
    lazy = da.from_array(image, chunks=(1, 100, 100))
    both = gq.scan(lazy, labels=labels, mask=mask).compute()
    only_mask = gq.scan(lazy, mask=mask).compute()
    assert gq.signal_to_noise(both).identical(gq.signal_to_noise(only_mask))
    assert both.objects is not None and only_mask.objects is None
    table = gq.assess(both).objects
    pd.testing.assert_frame_equal(table, gq.object_table(labels, image), rtol=1e-12)


def test_objects_are_judged_shown_and_kept(tmp_path: Path) -> None:
    labels = cells(1)
    verdict = gq.assess(stained(labels), labels=labels, tile=64, progress=False)
    assert verdict.summary["n_cells"] == 225 and verdict.summary["quality"] == "GOOD"
    wanted = gq.segmentation_quality(labels, tile=64).compute()
    for name in ("area_cv", "fraction_elongated", "n_border", "fraction_outlier_large"):
        assert float(verdict.summary[name]) == float(wanted[name])
    np.testing.assert_array_equal(verdict.tiles["cells"], wanted["cells"])
    judged = verdict.flags.set_index("metric")["status"]
    for name in ("n_cells", "area_cv", "fraction_elongated", "fraction_fragmented"):
        assert judged[name] == "PASS"
    verdict.save(tmp_path / "kept.zarr")
    again = gq.Assessment.load(tmp_path / "kept.zarr")
    pd.testing.assert_frame_equal(again.objects, verdict.objects, check_exact=True)
    pd.testing.assert_frame_equal(again.flags, verdict.flags)
    verdict.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert 'id="objects"' in page and "Objects by tile: from" in page and "225" in page
    verdict.to_json(tmp_path / "numbers.json")


@pytest.mark.parametrize(("rules", "empty"), [("robust", "FAIL"), ("recipe", "WARN")])
def test_what_the_rules_say_of_bad_labels(rules: str, empty: str) -> None:
    image = stained(cells(1))
    nothing = gq.assess(
        image, labels=np.zeros((300, 300), "u2"), rules=rules, progress=False, tissue=False
    )
    assert nothing.flags.set_index("metric").loc["n_cells", "status"] == empty
    assert nothing.summary["quality"] == "EMPTY" and len(nothing.objects) == 0
    thin = gq.assess(image, labels=cells(2, stretch=3.0), rules=rules, progress=False)
    assert thin.flags.set_index("metric").loc["fraction_elongated", "status"] == "WARN"
    assert thin.summary["quality"] == "REVIEW"
    unlabelled = gq.assess(image, rules=rules, progress=False)
    assert unlabelled.objects is None and math.isnan(unlabelled.summary["n_cells"])
    assert "n_cells" not in set(unlabelled.flags["metric"])


def test_the_page_without_labels_has_no_such_section(tmp_path: Path) -> None:
    gq.assess(stained(cells(1)), progress=False).to_html(tmp_path / "page.html")
    assert 'id="objects"' not in (tmp_path / "page.html").read_text()


def test_stacks_and_pools() -> None:
    labels = np.stack([cells(1, 60)] * 4)
    image = np.moveaxis(np.stack([stained(p) for p in labels]), 0, 1)
    import xarray as xr

    stack = xr.DataArray(da.from_array(image, chunks=(1, 1, 40, 60)), dims=tuple("czyx"))
    statistics = gq.scan(stack, labels=labels).compute()
    pd.testing.assert_frame_equal(
        gq.assess(statistics).objects, gq.object_table(labels, stack), rtol=1e-12
    )
    assert (statistics + statistics).objects is None


def test_labels_that_do_not_fit_are_refused_before_reading() -> None:
    image = np.ones((1, 30, 30), "u2")
    with forbid_compute():
        for labels, message in (
            (np.zeros((30, 31), "u1"), "do not lie"),
            (image[0] / 1, "float64"),
        ):
            with pytest.raises(ImageError, match=message):
                gq.assess(image, labels=labels, progress=False)
    with pytest.raises(ImageTypeError, match="labels: Statistics hold no pixels"):
        gq.assess(gq.scan(image).compute(), labels=image[0], progress=False)


def test_statistics_answer_without_pixels() -> None:
    labels = cells(1)
    image = stained(labels)
    statistics = gq.scan(image, labels=labels).compute()
    with forbid_compute():
        found = gq.segmentation_quality(statistics, tile=64)
        table = gq.object_table(statistics)
        with pytest.raises(ParameterError, match="ring: Statistics hold no pixels"):
            gq.segmentation_quality(statistics, ring=3)
        with pytest.raises(StatisticsError, match="lazy scan"):
            gq.segmentation_quality(gq.scan(image, labels=labels))
    assert found.identical(gq.segmentation_quality(labels, image, tile=64).compute())
    pd.testing.assert_frame_equal(table, gq.object_table(labels, image), rtol=1e-12)
    with pytest.raises(StatisticsError, match="hold no objects"):
        gq.object_table(gq.scan(image).compute())
