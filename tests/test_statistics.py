"""`Statistics` from the outside: what it answers, keeps, refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

import gigaqc as gq
from gigaqc.errors import ReadError, SourceNotFoundError, StatisticsError, WriteError
from gigaqc.statistics.statistics import Part


def scanned(dtype: str = "u2", **options: object) -> gq.Statistics:
    pixels = np.random.default_rng(0).poisson(30, (2, 50, 60)).astype(dtype)
    return gq.scan(pixels, **options).compute()  # type: ignore[arg-type]


def test_what_it_says_of_itself() -> None:
    statistics = scanned()
    assert statistics.channels == ["0", "1"]
    assert statistics.meta.sizes == {"c": 2, "y": 50, "x": 60}
    assert (statistics.meta.dtype, statistics.meta.reads) == ("uint16", 1)
    assert scanned("f4").meta.reads == 2
    assert statistics.compute() is statistics
    assert 0 < statistics.nbytes < 5_000_000


def test_it_stays_small_when_the_image_grows() -> None:
    small, large = (
        gq.scan(np.full((1, n, n), 7, "u2"), tile=n).compute().nbytes for n in (600, 1200)
    )
    assert large < 2.1 * small  # thumbnail and profiles; not four times


@pytest.mark.parametrize("part", [Part.NEIGHBOURS, Part.COMOMENTS, Part.FOCUS, Part.RESPONSE])
def test_what_was_not_scanned_is_refused(part: Part) -> None:
    statistics = scanned(parts=Part.ALL & ~part)
    with pytest.raises(StatisticsError, match="lack"):
        gq.assess(statistics)
    gq.quantile(statistics, 0.5)


def test_a_mask_needs_pixels() -> None:
    with pytest.raises(ValueError, match=r"^mask: "):
        gq.quantile(scanned(), 0.5, mask=np.ones((50, 60), bool))


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_a_quantile_that_was_not_refined_says_its_bound(dtype: str) -> None:
    rng = np.random.default_rng(0)
    pixels = (rng.normal(1e6, 2e5, (1, 90, 90))).astype(dtype)
    values = pixels.astype("f8").ravel()
    statistics = gq.scan(pixels, quantiles=(0.25,)).compute()
    asked = [0.0, 0.01, 0.1, 0.25, 0.5, 0.99, 0.999, 1.0]
    exact = gq.quantile(statistics, asked)
    assert exact.attrs["exact"] and exact.attrs["relative_error"] == 0
    np.testing.assert_array_equal(exact[:, 0], np.quantile(values, asked))
    other = gq.quantile(statistics, 0.3)
    bound = other.attrs["relative_error"]
    assert bound <= 2.0**-8
    assert abs(other.item() / np.quantile(values, 0.3) - 1) <= bound


def test_saving_twice_needs_overwrite_and_a_load_finds_the_last(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    scanned().save(path)
    with pytest.raises(WriteError, match="exists; pass overwrite=True"):
        scanned("f4").save(path)
    scanned("f4").save(path, overwrite=True)
    assert gq.Statistics.load(path).meta.dtype == "float32"
    assert [p.name for p in tmp_path.iterdir()] == ["s.zarr"]


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="does not exist"):
        gq.Statistics.load(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    zarr.open_group(tmp_path / "other.zarr", mode="w")
    scanned().save(tmp_path / "older.zarr")
    zarr.open_group(tmp_path / "older.zarr", mode="r+").attrs["format"] = "gigaqc-statistics-1"
    for name in ("folder", "other.zarr", "older.zarr"):
        with pytest.raises(ReadError, match=f"{name}.* scan"):
            gq.Statistics.load(tmp_path / name)


@pytest.mark.parametrize("tree", ["{", json.dumps({"class": "Nonsense", "fields": {}})])
def test_a_damaged_store_is_named(tmp_path: Path, tree: str) -> None:
    path = tmp_path / "s.zarr"
    scanned().save(path)
    zarr.open_group(path, mode="r+").attrs["tree"] = tree
    with pytest.raises(ReadError, match=r"s\.zarr.*scan again"):
        gq.Statistics.load(path)


@pytest.mark.parametrize("damage", [Path.unlink, lambda chunk: chunk.write_bytes(b"no zstd")])
def test_a_lost_or_damaged_chunk_is_no_zeros(tmp_path: Path, damage: Callable) -> None:
    path = tmp_path / "s.zarr"
    scanned().save(path)
    chunks = sorted((path / "arrays" / "c").iterdir())
    assert len(chunks) == 1  # few files, for the sake of shared file systems
    damage(chunks[0])
    with pytest.raises(ReadError, match=r"s\.zarr.*scan again"):
        gq.Statistics.load(path)


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_channels_without_values(dtype: str, tmp_path: Path) -> None:
    pixels = np.zeros((2, 30, 30), dtype)
    statistics = gq.scan(pixels, mask=np.zeros((30, 30), bool)).compute()
    assert statistics.distribution(0).n == 0
    assert np.isnan(gq.quantile(statistics, 0.5)).all()
    statistics.save(tmp_path / "s.zarr")
    again = gq.Statistics.load(tmp_path / "s.zarr") + statistics
    assert np.isnan(again.distribution(1).mean)
