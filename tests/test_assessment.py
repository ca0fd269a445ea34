"""What `assess` gives: the parts that the contract names, from an image or from what was kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from same_states import identical

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import (
    ChannelError,
    ImageTypeError,
    MaskError,
    ParameterError,
    RulesError,
    StatisticsError,
)

SHAPE = (192, 160)


def sample(dtype: str = "u2") -> xr.DataArray:
    nuclei = testing.tissue(SHAPE, mean=200, coverage=1, grain=4, seed=1, dtype=dtype)
    hot = testing.hot_pixels(
        testing.tissue(SHAPE, coverage=1, grain=4, seed=2, dtype=dtype), 60, 4000
    )
    noise = testing.poisson(SHAPE, 12, seed=3, dtype=dtype)
    pixels = np.stack([hot.pixels, nuclei.pixels, noise.pixels])
    return xr.DataArray(pixels, dims=("c", "y", "x"), coords={"c": ["CD3", "DAPI", "blank"]})


def assess(image: Any, **options: Any) -> gq.Assessment:
    return gq.assess(image, progress=False, **options)


@pytest.fixture(scope="module")
def verdict() -> gq.Assessment:
    return assess(sample(), tile=64, name="slide")


def test_the_parts_that_the_contract_names(verdict: gq.Assessment) -> None:
    assert isinstance(verdict.channels, pd.DataFrame) and isinstance(verdict.summary, pd.Series)
    assert list(verdict.channels.index) == ["CD3", "DAPI", "blank"]
    metrics = {
        *gq.signal_to_noise(sample()).data_vars, *gq.acquisition_artifacts(sample()).data_vars,
        "range_low", "range_high", "range_utilized", "adequate",
        "whole_variance_of_laplacian", "whole_tenengrad",
    }  # fmt: skip
    assert metrics <= set(verdict.channels.columns)
    assert {"coverage", "n_fragments", "fragmentation", "intact"} <= set(verdict.summary.index)
    assert {"mean_snr", "min_snr", "status"} <= set(verdict.summary.index)
    maps = "mean std zero_fraction clipped_fraction variance_of_laplacian tenengrad snr local_snr"
    assert set(verdict.tiles.data_vars) == set(maps.split())
    assert all(v.dims == ("c", "tile_y", "tile_x") for v in verdict.tiles.data_vars.values())
    assert dict(verdict.tiles.sizes) == {"c": 3, "tile_y": 3, "tile_x": 3}
    assert verdict.correlation.dims == ("c", "c_other")
    assert verdict.objects is None
    columns = ["scope", "name", "metric", "value", "error", "limit", "status", "certain"]
    assert list(verdict.flags.columns)[:8] == columns
    assert set(verdict.flags["status"]) <= {"PASS", "WARN", "FAIL"}
    assert set(verdict.flags["scope"]) <= {"channel", "sample", "pair"}


def test_it_says_what_the_functions_say(verdict: gq.Assessment) -> None:
    image = sample()
    for found in (gq.signal_to_noise(image), gq.acquisition_artifacts(image)):
        for name, values in found.compute().data_vars.items():
            np.testing.assert_array_equal(verdict.channels[name].astype("f8"), values)
    integrity = gq.tissue_integrity(image, "DAPI", method="otsu").compute()
    for name in ("coverage", "n_fragments", "fragmentation", "intact"):
        assert verdict.summary[name] == integrity[name].item()
    np.testing.assert_allclose(verdict.correlation, gq.channel_correlation(image).compute())
    focus = gq.focus(image, tile=64).compute()
    np.testing.assert_array_equal(verdict.tiles.tenengrad, focus.tenengrad)


def test_tile_maps_are_those_of_the_tiles() -> None:
    pixels = testing.clipped(testing.tissue(SHAPE, mean=60), 0.05, level=4095).pixels
    tiles = assess(pixels[None], tile=64).tiles.isel(c=0)
    noise = float(gq.signal_to_noise(pixels[None]).noise.compute()[0])
    for i, j in np.ndindex(3, 3):
        tile = pixels[64 * i : 64 * (i + 1), 64 * j : 64 * (j + 1)].astype("f8")
        here = tiles.isel(tile_y=i, tile_x=j)
        expected = {
            "mean": tile.mean(), "std": tile.std(), "zero_fraction": (tile == 0).mean(),
            "clipped_fraction": (tile == 4095).mean(), "snr": tile.mean() / noise,
            "local_snr": tile.mean() / tile.std(),
        }  # fmt: skip
        for name, value in expected.items():
            assert here[name].item() == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_flags_are_sorted_and_decide(verdict: gq.Assessment) -> None:
    ranks = verdict.flags["status"].map({"FAIL": 0, "WARN": 1, "PASS": 2})
    assert ranks.is_monotonic_increasing
    assert not verdict.passed and verdict.status == "FAIL" == verdict.summary["status"]
    status = verdict.channels["status"]
    assert status.to_dict() == {"CD3": "WARN", "DAPI": "PASS", "blank": "FAIL"}
    judged = verdict.flags[verdict.flags["name"] == "CD3"].set_index("metric")["status"]
    assert judged["hot_pixel_fraction"] == "WARN" and judged["autocorrelation_snr"] == "PASS"
    clean = assess(sample().sel(c=["DAPI"]))
    assert clean.passed and clean.status == "PASS" and clean.summary["n_flags"] == 0


@pytest.mark.parametrize(
    ("tissue", "shown"),
    [(None, "DAPI"), ("CD3", "CD3"), (2, "blank"), (False, None), ("mask", "mask")],
)
def test_what_shows_the_tissue(tissue: Any, shown: str | None) -> None:
    mask = testing.tissue(SHAPE, seed=1).truth.tissue
    found = assess(sample(), tissue=mask if tissue == "mask" else tissue)
    assert found.summary["tissue_channel"] == shown
    assert found.provenance["parameters"]["tissue"] == shown
    assert (found.tissue is None) == (shown is None)
    assert np.isnan(found.summary["coverage"]) == (shown is None)
    assert ("coverage" in set(found.flags["metric"])) == (shown is not None)
    if tissue == "mask":
        assert found.summary["coverage"] == mask.mean()
    # The recipe's SNR does not ask where the tissue is.
    np.testing.assert_array_equal(found.channels["snr"], assess(sample()).channels["snr"])


def test_without_a_nuclear_channel_the_first_shows_the_tissue() -> None:
    found = assess(sample().assign_coords(c=["a", "b", "c"]))
    assert found.summary["tissue_channel"] == "a"


def test_a_mask_leaves_pixels_out() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[10:120, 20:150] = True
    found = assess(sample(), mask=mask)
    assert (found.channels["n_valid"] == mask.sum()).all()
    assert (found.channels["n_excluded"] == (~mask).sum()).all()
    outside = sample().values[:, ~mask].astype("f8").std(axis=1)
    np.testing.assert_allclose(found.channels["noise"], outside)
    assert found.provenance["parameters"]["masked"] and found.tissue.valid == mask.sum()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tissue": "CD4"}, ChannelError), ({"tissue": 9}, ChannelError),
        ({"tissue": True}, ChannelError), ({"tissue": np.ones(SHAPE)}, MaskError),
        ({"mask": np.ones((3, 3), bool)}, MaskError), ({"tile": 3}, ParameterError),
        ({"rules": "strict"}, RulesError), ({"expected_pairs": [("CD3", "CD4")]}, ChannelError),
        ({"full_scale": float("nan")}, ParameterError),
        ({"full_scale": float("inf")}, ParameterError),
    ],
)  # fmt: skip
def test_wrong_use_is_known_before_anything_is_read(options: dict, error: type) -> None:
    with testing.forbid_compute(), pytest.raises(error):
        assess(sample(), **options)


# ---- pairs ---------------------------------------------------------------------------------------


def test_pairs_that_are_expected() -> None:
    same = testing.tissue(SHAPE, seed=1).pixels
    image = xr.DataArray(np.stack([same, same]), dims=("c", "y", "x"), coords={"c": ["a", "b"]})
    (flag,) = assess(image).flags.query("scope == 'pair'").to_dict("records")
    assert flag["name"] == "a / b" and flag["value"] == pytest.approx(1)
    for pair in (("a", "b"), ("b", "a")):
        found = assess(image, expected_pairs=[pair])
        assert "pair" not in set(found.flags["scope"])
        assert found.provenance["parameters"]["expected_pairs"] == [list(pair)]


# ---- statistics, saving and judging again --------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True])
def test_statistics_are_judged_without_pixels(verdict: gq.Assessment, lazy: bool) -> None:
    statistics = gq.scan(sample(), tile=64)
    found = assess(statistics if lazy else statistics.compute())
    numbers = verdict.channels.drop(columns="status").astype("f8")
    np.testing.assert_array_equal(found.channels.drop(columns="status").astype("f8"), numbers)
    assert found.tissue is None and found.summary["tissue_channel"] is None
    assert "coverage" not in set(found.flags["metric"])


@pytest.mark.parametrize(
    "options", [{"tissue": "DAPI"}, {"tissue": 0}, {"tissue": np.ones(SHAPE, bool)},
                {"mask": np.ones(SHAPE, bool)}],
)  # fmt: skip
def test_statistics_have_no_pixels_to_look_at(options: dict[str, Any]) -> None:
    with pytest.raises(ImageTypeError, match=f"^{next(iter(options))}: Statistics hold no pixels"):
        assess(gq.scan(sample()).compute(), **options)


def test_saving_loading_and_judging_again(verdict: gq.Assessment, tmp_path: Path) -> None:
    verdict.save(tmp_path / "a.zarr")
    with testing.forbid_compute():
        loaded = gq.Assessment.load(tmp_path / "a.zarr")
        recipe = gq.Assessment.load(tmp_path / "a.zarr", rules="recipe")
    identical(loaded.statistics, verdict.statistics)
    assert loaded.tissue == verdict.tissue and loaded.name == "slide"
    pd.testing.assert_frame_equal(loaded.channels, verdict.channels)
    pd.testing.assert_frame_equal(loaded.flags, verdict.flags)
    pd.testing.assert_series_equal(loaded.summary, verdict.summary)
    xr.testing.assert_identical(loaded.tiles, verdict.tiles)
    assert loaded.provenance == verdict.provenance
    assert recipe.rules.name == recipe.provenance["rules"] == "recipe"
    assert set(recipe.flags["metric"]) >= {"snr", "recipe_striping"}


def test_statistics_alone_are_no_assessment(tmp_path: Path) -> None:
    gq.scan(sample()).compute().save(tmp_path / "s.zarr")
    with pytest.raises(StatisticsError, match="no assessment"):
        gq.Assessment.load(tmp_path / "s.zarr")


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


def test_json_holds_everything_and_is_strict(tmp_path: Path) -> None:
    pixels = np.stack([sample().values[0], np.zeros(SHAPE, "u2"), np.full(SHAPE, 7, "u2")])
    found = assess(pixels)  # a channel without support has NaN and infinities
    found.to_json(tmp_path / "a.json")
    kept = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert kept["status"] == found.status and kept["passed"] is found.passed
    assert set(kept["channels"]) == {"0", "1", "2"}
    assert len(kept["flags"]) == len(found.flags)
    assert kept["channels"]["0"]["snr"] == found.channels["snr"].iloc[0]
    assert kept["channels"]["1"]["autocorrelation"] is None
    assert kept["correlation"][0][1] is None


def test_provenance(verdict: gq.Assessment) -> None:
    held = verdict.provenance
    assert held["version"] == gq.__version__ and held["rules"] == "robust"
    assert held["dims"] == ["c", "y", "x"] and held["sizes"] == {"c": 3, "y": 192, "x": 160}
    assert held["dtype"] == "uint16" and held["reads"] == 1
    assert held["bytes_read"] == sample().nbytes * 4 // 3
    assert held["parameters"]["tile"] == 64 and held["seconds"] >= 0
    json.dumps(held, allow_nan=False)


def test_the_representation_names_what_is_wrong(verdict: gq.Assessment) -> None:
    assert repr(verdict).startswith("Assessment of 'slide': FAIL")
    assert "CD3" in repr(verdict) and "DAPI" not in repr(verdict)


@pytest.mark.cover(1)
@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "i2", "u4", "i8", "f2", "f4", "f8", ">u2"])
@pytest.mark.parametrize("kind", ["zeros", "nothing valid", "one pixel"])
def test_without_support_there_is_still_a_verdict(dtype: str, kind: str) -> None:
    shape = (1, 1) if kind == "one pixel" else (40, 50)
    pixels = np.zeros(shape, dtype)
    if kind == "nothing valid" and pixels.dtype.kind == "f":
        pixels[:] = np.nan
    found = assess(pixels)
    assert found.status in {"WARN", "FAIL"}
    assert "Assessment" in repr(found)
