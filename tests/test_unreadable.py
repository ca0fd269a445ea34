"""Chunks that cannot be read, with ``on_error="mask"``: excluded, counted, reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from same_states import equivalent, identical, spread_of
from settings import configure
from typer.testing import CliRunner

import gigaqc as gq
from gigaqc.cli import app
from gigaqc.errors import ParameterError, ReadError

run = CliRunner()
SHAPE, CHUNKS = (2, 96, 110), (1, 32, 37)
BAD = [(0, 1, 1), (1, 0, 2), (1, 2, 0)]


def pixels_of(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    pixels = rng.poisson(20, SHAPE) + 25.0
    pixels[:, 30:70, 20:80] += 50
    pixels[0, 5:20, 40:60] = 0
    if dtype in ("i1", "i2"):
        pixels -= 60
    if dtype in ("f4", "f8"):
        pixels = pixels * 1.37
        pixels[1, 3, 4] = np.nan
        pixels[0, 90, 100] = np.inf
    return pixels.astype(dtype)


def stored(folder: Path, dtype: str = "u2", bad: Any = tuple(BAD)) -> Path:
    path = folder / "image.zarr"
    array = zarr.create_array(path, shape=SHAPE, chunks=CHUNKS, dtype=dtype)
    array[:] = pixels_of(dtype)
    for index in bad:
        path.joinpath("c", *map(str, index)).write_bytes(b"no zstd")
    return path


def readable() -> xr.DataArray:
    """Which pixels lie in no bad chunk."""
    found = np.ones(SHAPE, bool)
    for index in BAD:
        found[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, CHUNKS, strict=True))] = False
    return xr.DataArray(found, dims=("c", "y", "x"))


@pytest.fixture(autouse=True, params=[0, 1 << 23], ids=["many groups", "one group"])
def groups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "group-values", request.param)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "f4", "f8"])
def test_a_scan_is_that_of_a_masked_image(tmp_path: Path, dtype: str) -> None:
    found = gq.scan(gq.open_image(stored(tmp_path, dtype)), tile=25, on_error="mask").compute()
    image = xr.DataArray(pixels_of(dtype), dims=("c", "y", "x")).chunk(y=32, x=37)
    expected = gq.scan(image, mask=readable(), tile=25).compute()
    spread = spread_of(pixels_of(dtype), 0)
    equivalent(found.state, replace(expected.state, outside=None), spread)
    assert found.unreadable.pixels.tolist() == (~readable()).sum(("y", "x")).values.tolist()
    assert [c.index for c in found.unreadable.chunks] == BAD
    assert all(str(tmp_path / "image.zarr") in c.store for c in found.unreadable.chunks)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_what_is_unreadable_is_not_what_lies_outside_of_a_mask(tmp_path: Path, dtype: str) -> None:
    mask = xr.DataArray(np.arange(110)[None] + np.arange(96)[:, None] > 70, dims=("y", "x"))
    image = gq.open_image(stored(tmp_path, dtype))
    found = gq.scan(image, mask=mask, tile=25, on_error="mask").compute()
    pixels = pixels_of(dtype)
    values = np.where(readable(), pixels, np.nan)
    masked = gq.signal_to_noise(values, mask=mask.values).compute()
    for name in ("signal", "noise", "otsu_threshold", "autocorrelation"):
        actual = gq.signal_to_noise(found)[name].values
        np.testing.assert_allclose(actual, masked[name].values, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_objects_are_measured_on_what_could_be_read(tmp_path: Path, dtype: str) -> None:
    labels = np.kron(np.arange(1, 100).reshape(9, 11), np.ones((10, 10), int))
    labels = np.pad(labels, ((3, 3), (0, 0)))
    image = gq.open_image(stored(tmp_path, dtype))
    found = gq.assess(image, labels=labels, on_error="mask", progress=False).objects
    values = np.where(readable(), pixels_of(dtype), np.nan)
    expected = gq.assess(values, labels=labels, progress=False).objects
    assert found is not None and expected is not None
    assert found["mean_0"].isna().sum() > 0
    for name in ("area", "mean_0", "mean_1", "eccentricity"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


@pytest.mark.parametrize("rules", ["robust", "recipe"])
@pytest.mark.parametrize("dtype", ["u2", "i2", "f4"])
def test_an_assessment_says_so(tmp_path: Path, dtype: str, rules: str) -> None:
    path = stored(tmp_path, dtype)
    found = gq.assess(gq.open_image(path), rules=rules, progress=False, on_error="mask", tile=32)
    values = np.where(readable(), pixels_of(dtype), np.nan)
    expected = gq.assess(values, rules=rules, progress=False, tile=32)
    assert found.tissue == expected.tissue
    names = ["snr", "recipe_striping", "mean", "n_valid", "n_excluded"]
    np.testing.assert_allclose(found.channels[names], expected.channels[names], rtol=1e-9)

    share = float((~readable()).mean())
    assert found.summary["unreadable_fraction"] == pytest.approx(share, rel=1e-12)
    (flag,) = found.flags[found.flags.metric == "unreadable_fraction"].itertuples()
    assert (flag.scope, flag.status, flag.value) == ("sample", "FAIL", pytest.approx(share))
    assert f"3 chunks could not be read: (c=0, y=1, x=1) of {path}" in flag.reason
    listed = found.provenance["unreadable"]
    assert [tuple(c["chunk"].values()) for c in listed] == BAD
    assert list(listed[0]["chunk"]) == ["c", "y", "x"] and str(path) in listed[0]["store"]
    assert all(c["error"] for c in listed)

    found.save(tmp_path / "kept.zarr")
    again = gq.Assessment.load(tmp_path / "kept.zarr", rules=rules)
    assert again.flags.equals(found.flags)
    identical(again.statistics.unreadable, found.statistics.unreadable)


def test_a_whole_image_has_no_such_flag(tmp_path: Path) -> None:
    image = gq.open_image(stored(tmp_path, bad=()))
    found = gq.assess(image, progress=False, on_error="mask")
    expected = gq.assess(image, progress=False)
    pd.testing.assert_frame_equal(found.channels, expected.channels, rtol=1e-12)
    assert found.summary["unreadable_fraction"] == 0
    assert not (found.flags[found.flags.metric == "unreadable_fraction"].status != "PASS").any()
    assert found.provenance["unreadable"] == []


def test_all_of_it_unreadable(tmp_path: Path) -> None:
    path = stored(tmp_path, bad=list(np.ndindex(2, 3, 3)))
    found = gq.assess(gq.open_image(path), progress=False, on_error="mask")
    assert found.summary["unreadable_fraction"] == 1
    assert (found.channels["n_valid"] == 0).all() and found.status == "FAIL"
    assert len(found.provenance["unreadable"]) == 18


def sliced(image: xr.DataArray) -> xr.DataArray:
    return image.isel(y=slice(10, 90, 3), x=slice(None, None, -2))


def rechunked(image: xr.DataArray) -> xr.DataArray:
    return image.chunk(c=2, y=50, x=29)


def scaled(image: xr.DataArray) -> xr.DataArray:
    return image.astype("f4") * 2 - 7


def moved(image: xr.DataArray) -> xr.DataArray:
    return image.roll(x=13, roll_coords=False)


@pytest.mark.parametrize("made", [sliced, rechunked, scaled, moved])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_images_made_of_it(tmp_path: Path, dtype: str, made: Any) -> None:
    """Exactly the pixels that depend on a bad chunk are left out."""
    found = gq.scan(made(gq.open_image(stored(tmp_path, dtype))), on_error="mask").compute()
    hidden = xr.DataArray(np.where(readable(), pixels_of(dtype), np.nan), dims=("c", "y", "x"))
    expected = gq.scan(made(hidden).astype(made(hidden).dtype)).compute()
    n = [found.distribution(c).n for c in range(2)]
    assert n == [expected.distribution(c).n for c in range(2)]
    if made is not scaled:
        assert found.unreadable.pixels.sum() == int(made(~readable()).sum())
    actual, wanted = (gq.quantile(s, [0, 0.5, 0.9, 1]).values for s in (found, expected))
    np.testing.assert_allclose(actual, wanted, rtol=1e-6)


def test_a_blur_loses_what_it_reaches(tmp_path: Path) -> None:
    blurred = gq.gaussian_blur(gq.open_image(stored(tmp_path)), 2)
    found = gq.scan(blurred, on_error="mask").compute()
    grown = np.ones(SHAPE, bool)
    for c, y, x in BAD:
        grown[c, max(y * 32 - 8, 0) : y * 32 + 40, max(x * 37 - 8, 0) : x * 37 + 45] = False
    from scipy.ndimage import gaussian_filter

    whole = gaussian_filter(pixels_of("u2").astype("f8"), (0, 2, 2))
    for c in range(2):
        values = found.distribution(c)
        assert values.n == int(grown[c].sum())
        assert values.mean == pytest.approx(whole[c][grown[c]].mean(), rel=1e-6)


def test_zarr_arrays_that_were_opened_elsewhere(tmp_path: Path) -> None:
    path = stored(tmp_path)
    for array in (da.from_zarr(str(path)), zarr.open_array(path, mode="r")):
        found = gq.scan(array, on_error="mask").compute()
        assert [c.index for c in found.unreadable.chunks] == BAD
        with pytest.raises(ReadError, match=r"image\.zarr: chunk \(.*cannot be read"):
            gq.scan(array).compute()


def test_a_chunk_of_labels_is_always_needed(tmp_path: Path) -> None:
    image = gq.open_image(stored(tmp_path))
    path = tmp_path / "labels.zarr"
    zarr.create_array(path, shape=SHAPE[1:], chunks=CHUNKS[1:], dtype="i4")[:] = 1
    path.joinpath("c", "1", "1").write_bytes(b"no zstd")
    with pytest.raises(ReadError, match=r"labels\.zarr"):
        gq.assess(image, labels=gq.open_labels(path), on_error="mask", progress=False)


@pytest.mark.same_process
def test_a_chunk_that_fails_once_only_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gigaqc.stores.direct import DirectArray

    real, failed = DirectArray._stored, []

    def flaky(self: DirectArray, file: Any, part: Any) -> Any:
        if not failed:
            failed.append(part)
            raise OSError("connection reset")
        return real(self, file, part)

    monkeypatch.setattr(DirectArray, "_stored", flaky)
    found = gq.scan(gq.open_image(stored(tmp_path, bad=())), on_error="mask").compute()
    assert failed and not found.unreadable.chunks
    assert found.distribution(0).n == 96 * 110


def test_a_chunk_that_breaks_between_two_reads_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gigaqc.scanning import scan

    path = stored(tmp_path, "f4", bad=())
    real = scan.plan_second

    def breaks(*arguments: Any) -> Any:
        path.joinpath("c", "0", "0", "0").write_bytes(b"no zstd")
        return real(*arguments)

    monkeypatch.setattr(scan, "plan_second", breaks)
    with pytest.raises(ReadError, match=r"chunk \(c=0, y=0, x=0\) was read once and could not be"):
        gq.scan(gq.open_image(path), on_error="mask").compute()


def test_pooled_statistics_keep_what_was_unreadable(tmp_path: Path) -> None:
    whole = gq.scan(pixels_of("u2")).compute()
    partly = gq.scan(gq.open_image(stored(tmp_path)), on_error="mask").compute()
    partly = replace(partly, meta=replace(partly.meta, channels=whole.meta.channels))
    for both in (whole + partly, partly + whole):
        identical(both.unreadable, partly.unreadable)
    twice = partly + partly
    assert twice.unreadable.pixels.tolist() == (2 * partly.unreadable.pixels).tolist()


def test_the_error_names_store_chunk_and_channel(tmp_path: Path) -> None:
    image = gq.open_image(stored(tmp_path, bad=[(1, 2, 0)]), channels=["DNA", "CD3"])
    pattern = (
        r"image\.zarr \(.*\), channel 'CD3': chunk \(c=1, y=2, x=0\) cannot be read .*on_error"
    )
    with pytest.raises(ReadError, match=pattern):
        gq.assess(image, progress=False)


def test_another_word_is_refused_before_a_pixel_is_read() -> None:
    with pytest.raises(ParameterError, match="on_error: got 'skip'"):
        gq.scan(da.zeros((9, 9)), on_error="skip")  # type: ignore[arg-type]


def test_the_command_line(tmp_path: Path) -> None:
    path, out = stored(tmp_path), tmp_path / "out"
    arguments = ["assess", str(path), "-o", str(out), "--quiet", "--on-error", "mask"]
    done = run.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    kept = json.loads((out / "image.json").read_text())
    assert len(kept["provenance"]["unreadable"]) == 3
    assert "3 chunks could not be read" in (out / "image.html").read_text()
