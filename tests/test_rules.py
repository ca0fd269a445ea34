"""Limits and verdicts: the recipe's to the letter, and a lab's own from TOML."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import gigaqc as gq
from gigaqc.errors import RulesError, SourceNotFoundError
from gigaqc.formulas.catalogue import metric_of
from gigaqc.formulas.record import Limit, Scope, Side, Status, worst
from gigaqc.formulas.rules import Flag, Rules
from gigaqc.verdict.judge import judge_channels, judge_pairs, judge_sample

RECIPE, ROBUST = Rules.named("recipe"), Rules.named("robust")


def channel_verdicts(rules: Rules, **values: float) -> dict[str, str]:
    """Statuses by metric of one channel, the rest of which is fine."""
    fine = {
        "n_valid": 1e6, "autocorrelation_snr": 9.0, "snr": 9.0, "clipped_fraction": 0.0,
        "hot_pixel_fraction": 0.0, "dead_area_fraction": 0.0, "row_striping": 1.0,
        "column_striping": 1.0, "range_utilized": 0.5, "recipe_saturation": 0.0,
        "recipe_hot_pixels": 0.0, "recipe_dead_regions": 0.0, "recipe_striping": 0.0,
    }  # fmt: skip
    table = pd.DataFrame([{**fine, **values}], index=["a"])
    return {f.metric: str(f.status) for f in judge_channels(rules, table)}


@pytest.mark.parametrize(
    ("metric", "value", "status"),
    [
        ("snr", 3.0001, "PASS"), ("snr", 3.0, "WARN"), ("snr", 1.5001, "WARN"),
        ("snr", 1.5, "FAIL"), ("snr", math.inf, "PASS"), ("snr", math.nan, "FAIL"),
        ("recipe_saturation", 0.01, "PASS"), ("recipe_saturation", 0.0101, "FAIL"),
        ("recipe_hot_pixels", 0.001, "PASS"), ("recipe_hot_pixels", 0.00101, "FAIL"),
        ("recipe_dead_regions", 0.05, "PASS"), ("recipe_dead_regions", 0.051, "FAIL"),
        ("recipe_striping", 0.3, "PASS"), ("recipe_striping", 0.301, "FAIL"),
    ],
)  # fmt: skip
def test_the_recipes_limits(metric: str, value: float, status: str) -> None:
    found = channel_verdicts(RECIPE, **{metric: value})
    assert found.pop(metric) == status
    assert set(found.values()) == {"PASS"}


@pytest.mark.parametrize(
    ("coverage", "status"), [(0.3, "FAIL"), (0.301, "PASS"), (math.nan, "FAIL"), (1.0, "PASS")]
)
def test_the_recipes_coverage(coverage: float, status: str) -> None:
    summary = pd.Series({"tissue_channel": "DNA", "coverage": coverage}, dtype=object)
    (flag,) = judge_sample(RECIPE, summary, "s")
    assert (flag.metric, str(flag.status), flag.name) == ("coverage", status, "s")
    summary["tissue_channel"] = None
    assert not judge_sample(RECIPE, summary, "s")


def recipe(pixels: np.ndarray) -> bool:
    """The recipe's verdict on a sample (c, y, x), from the whole array."""
    x = pixels.reshape(len(pixels), -1).astype("f8")
    passed = (x[0] > np.median(x[0])).mean() > 0.3
    for channel, plane in zip(x, pixels, strict=True):
        inside = channel > np.percentile(channel, 10)
        rows = plane.mean(axis=1)
        noise = channel[~inside].std()
        passed &= noise == 0 or channel[inside].mean() / noise > 1.5
        passed &= (channel >= 0.99 * channel.max()).mean() <= 0.01
        passed &= (channel > 2 * np.percentile(channel, 99.9)).mean() <= 0.001
        passed &= (channel == 0).mean() <= 0.05
        passed &= rows.std() / rows.mean() <= 0.3
    return bool(passed)


@pytest.mark.parametrize("seed", range(8))
def test_a_sample_passes_where_the_recipe_passes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    level = rng.choice([1.5, 3.5, 30, 200], 2)
    pixels = rng.poisson(level[:, None, None], (2, 90, 80)).astype("u2")
    if seed % 3 == 1:
        pixels = np.minimum(pixels, np.quantile(pixels, 0.95)).astype("u2")
    if seed % 3 == 2:
        pixels = (pixels * rng.choice([1, 3], (90, 1))).astype("u2")
    verdict = gq.assess(pixels, rules="recipe", progress=False)
    assert verdict.passed == recipe(pixels)
    assert verdict.summary["tissue_channel"] == "0"


def test_noise_is_no_signal_and_clean_data_are_not_flagged() -> None:
    for mean in (0.5, 5, 500):
        noise = gq.testing.poisson((256, 256), mean, seed=1).pixels
        verdict = gq.assess(noise, tissue=False, progress=False)
        assert verdict.status == "FAIL", mean
        assert set(verdict.flags.query("status == 'FAIL'")["metric"]) == {"autocorrelation_snr"}
    for mean in (20, 200):
        clean = gq.testing.tissue((256, 256), mean=mean, coverage=1, grain=4).pixels
        assert gq.assess(clean, progress=False).status == "PASS", mean


# ---- a limit -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "value", "status"),
    [
        ("above", 1.0, "PASS"), ("above", 1.1, "WARN"), ("above", 2.0, "WARN"),
        ("above", 2.1, "FAIL"), ("below", -1.0, "WARN"), ("below", 0.0, "WARN"),
        ("below", -2.0, "FAIL"), ("below", 0.1, "PASS"),
    ],
)  # fmt: skip
def test_sides(side: str, value: float, status: str) -> None:
    warn, fail = (1.0, 2.0) if side == "above" else (0.0, -2.0)
    verdict = Limit("snr", Scope.CHANNEL, Side(side), warn, fail).judge(value)
    assert verdict is not None and verdict[0] == status


def test_what_cannot_be_told() -> None:
    limit = Limit("snr", Scope.CHANNEL, Side.BELOW, 1, None)
    assert limit.judge(math.nan) is None
    strict = Limit("snr", Scope.CHANNEL, Side.BELOW, 1, None, Status.FAIL)
    verdict = strict.judge(math.nan)
    assert verdict is not None and verdict[0] is Status.FAIL
    flag = Flag("channel", "a", "snr", math.nan, math.nan, math.nan, "below", Status.FAIL)
    assert "cannot be told" in flag.reason


def test_the_worst_of_some() -> None:
    assert worst([]) == worst([Status.PASS]) == "PASS"
    assert worst([Status.PASS, Status.FAIL, Status.WARN]) == "FAIL"
    assert worst([Status.WARN, Status.PASS]) == "WARN"


@pytest.mark.parametrize("rules", [RECIPE, ROBUST])
def test_every_limit_is_explained(rules: Rules) -> None:
    for limit in rules.limits:
        assert metric_of(limit.metric).cure.endswith(".")
        side = str(limit.side)
        words = Flag("channel", "a", limit.metric, 0.123, math.nan, 0.5, side, Status.FAIL).reason
        assert limit.metric in words and "0.123" in words and words[0].isupper()


# ---- pairs ---------------------------------------------------------------------------------------


def test_pairs() -> None:
    r = np.array([[1, 0.99, np.nan], [0.99, 1, 0.96], [np.nan, 0.96, 1]])

    def named(*names: str) -> xr.DataArray:
        coords = {"c": list(names), "c_other": list(names)}
        return xr.DataArray(r, dims=("c", "c_other"), coords=coords)

    found = judge_pairs(ROBUST, named("a", "b", "d"), [])
    assert [f.name for f in found] == ["a / b", "b / d"]
    assert [f.name for f in judge_pairs(ROBUST, named("a", "b", "d"), [("b", "a")])] == ["b / d"]
    assert not judge_pairs(ROBUST, named("R", "G", "B"), [])
    assert not judge_pairs(RECIPE, named("a", "b", "d"), [])


# ---- TOML ----------------------------------------------------------------------------------------


def write(folder: Path, text: str) -> Path:
    path = folder / "lab.toml"
    path.write_text(text)
    return path


def test_a_labs_own_limits(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        base = "recipe"
        tissue_method = "otsu"
        min_coverage = 0.2
        [channel.snr]
        fail = 5
        [channel.recipe_striping]
        off = true
        [channel.clipped_fraction]
        side = "above"
        warn = 0.5
        [sample.coverage]
        warn = 0.9
        """,
    )
    rules = Rules.load(path)
    assert (rules.name, rules.tissue_method, rules.min_coverage) == ("lab", "otsu", 0.2)
    assert channel_verdicts(rules, snr=4.9)["snr"] == "FAIL"
    assert "recipe_striping" not in channel_verdicts(rules)
    assert channel_verdicts(rules, clipped_fraction=0.6)["clipped_fraction"] == "WARN"
    summary = pd.Series({"tissue_channel": "a", "coverage": 0.5}, dtype=object)
    assert [str(f.status) for f in judge_sample(rules, summary, "s")] == ["WARN"]
    for given in (path, str(path), rules):
        assert Rules.of(given) == rules
    noise = gq.testing.poisson((64, 64), 100).pixels
    assert gq.assess(noise, rules=path, progress=False).provenance["rules"] == "lab"


def test_an_empty_file_is_its_base(tmp_path: Path) -> None:
    assert Rules.load(write(tmp_path, "")).limits == ROBUST.limits
    assert Rules.load(write(tmp_path, 'base = "recipe"')).limits == RECIPE.limits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("= 3", "not valid TOML"),
        ('base = "strict"', "'strict'"),
        ('tissue_method = "mean"', "tissue_method 'mean'"),
        ('min_coverage = "much"', "min_coverage = 'much'; give a number"),
        ("min_coverage = true", "give a number"),
        ("[tile.snr]\nwarn = 1", "'tile'.*no scope"),
        ("channel = 3", "'channel'.*no scope"),
        ("[channel.sparkle]\nwarn = 1", "no metric 'sparkle'"),
        ("[channel]\nsnr = 3", "channel.snr = 3; give warn, fail"),
        ("[channel.snr]\nwarm = 1", "give warn, fail"),
        ("[channel.range_utilized]\nfail = 'low'", "range_utilized.fail = 'low'; give a number"),
        ("[channel.range_utilized]\nwarn = true", "give a number"),
        ("[channel.recipe_striping]\nwarn = 1", "needs side"),
        ("[channel.row_striping]\nside = 'left'", "side 'left'"),
    ],
)
def test_a_file_that_says_nothing_that_we_know(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RulesError, match=message):
        Rules.load(write(tmp_path, text))


def test_a_metric_is_of_its_scope(tmp_path: Path) -> None:
    """A limit on what a scope lacks must not wait for a KeyError after hours of reading."""
    for text in ("[sample.snr]\nside = 'below'\nwarn = 1", "[channel.coverage]\nside = 'below'"):
        with pytest.raises(RulesError, match="of the scope"):
            Rules.load(write(tmp_path, text))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RulesError, match="not valid TOML"):
        Rules.load(path)


@pytest.mark.parametrize("given", ["nowhere.toml", Path("nowhere")])
def test_no_such_file(given: Any) -> None:
    with pytest.raises(SourceNotFoundError, match="nowhere"):
        Rules.of(given)


def test_no_such_rules() -> None:
    with pytest.raises(RulesError, match="'strict'; pass 'robust', 'recipe'"):
        Rules.of("strict")
