"""One record a metric: whatever tells a number knows it from there, also one that a user added."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import gigaqc as gq
from gigaqc.cli import app
from gigaqc.errors import ParameterError
from gigaqc.formulas import catalogue
from gigaqc.formulas.catalogue import json_schema
from gigaqc.formulas.cohort import summary_columns
from gigaqc.formulas.record import Basis, Metric, Scope, above
from gigaqc.formulas.views import Channel, Sample, Tiles

KNOWN = catalogue.metrics_known()


def image(channels: int = 2, side: int = 48) -> xr.DataArray:
    rng = np.random.default_rng(0)
    pixels = rng.poisson(20, (channels, side, side)).astype("u2")
    return xr.DataArray(pixels, dims=("c", "y", "x"), coords={"c": list("ABCDE")[:channels]})


# ---- records -------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", KNOWN, ids=lambda m: f"{m.scope}-{m.key}-{m.function}")
def test_a_record_tells_all(metric: Metric) -> None:
    assert metric.label and metric.what.endswith(".") and metric.formula
    assert not metric.what.startswith(metric.key)
    if metric.limits:
        assert metric.meaning[0].islower() and not metric.meaning.endswith(".")
        assert metric.cure[0].isupper() and metric.cure.endswith(".")
        assert set(metric.limits) <= set(catalogue.RULE_SETS)
    if metric.function:
        assert callable(getattr(gq, metric.function))
    if metric.compute is not None and metric.source is Basis.STATISTICS and metric.needs == 0:
        assert metric.key == "unreadable_fraction"  # which no scan can do without


def test_no_two_metrics_of_an_assessment_share_a_name() -> None:
    for scope in Scope:
        keys = [m.key for m in catalogue.chosen(scope=scope, assessed=True)]
        assert len(set(keys)) == len(keys)


def test_every_variable_of_a_metric_has_a_record() -> None:
    pixels = image()
    labels = np.zeros((48, 48), "u2")
    labels[5:20, 5:20], labels[25:40, 25:44] = 1, 2
    found = {
        "signal_to_noise": gq.signal_to_noise(pixels),
        "dynamic_range": gq.dynamic_range(pixels),
        "acquisition_artifacts": gq.acquisition_artifacts(pixels),
        "stained_area": gq.stained_area(pixels),
        "focus": gq.focus(pixels, tile=16, spectrum=True),
        "tissue_integrity": gq.tissue_integrity(pixels, "A"),
        "segmentation_quality": gq.segmentation_quality(labels, pixels, tissue=labels > 0, ring=2),
    }
    for function, dataset in found.items():
        described = {m.key for m in catalogue.chosen(function=function)}
        assert set(map(str, dataset.data_vars)) == described, function
    series = xr.DataArray(image(5).values, dims=("t", "y", "x"))
    parts = {"isnr": gq.isnr(pixels), "gain_map": gq.gain_map(series)}
    for function, dataset in {
        **parts,
        "temporal_statistics": gq.temporal_statistics(series),
    }.items():
        described = {m.key for m in catalogue.chosen(function=function)}
        assert described and described <= set(map(str, dataset.data_vars)), function


def test_every_number_of_an_assessment_has_a_record() -> None:
    labels = np.zeros((48, 48), "u2")
    labels[5:20, 5:20] = 1
    verdict = gq.assess(image(), labels=labels, progress=False, tile=16)
    known = {s: {m.key for m in catalogue.chosen(scope=s)} for s in Scope}
    assert set(verdict.channels) - {"status"} == {
        m.key for m in catalogue.chosen(scope=Scope.CHANNEL, assessed=True)
    }
    assert set(map(str, verdict.tiles.data_vars)) <= known[Scope.TILE]
    assert set(verdict.summary.index) - known[Scope.SAMPLE] == {
        "tissue_channel", "status", "n_flags",
    }  # fmt: skip


def test_the_catalogue_as_a_table() -> None:
    table = gq.metrics()
    assert len(table) == len(KNOWN)
    clipped = table.query("key == 'clipped_fraction' and scope == 'channel'").iloc[0]
    assert clipped[["unit", "better", "reads", "needs"]].tolist() == [
        "",
        "lower",
        "1 (2)",
        "moments",
    ]
    assert clipped["robust"] == "> 0.0001, > 0.01" and clipped["recipe"] == ""
    snr = table.query("key == 'snr' and scope == 'channel'").iloc[0]
    assert snr["recipe"] == "<= 3, <= 1.5"


def test_rule_sets_are_those_of_the_records() -> None:
    for name in catalogue.RULE_SETS:
        limits = {m.metric: m for m in gq.Rules.named(name).limits}
        assert set(limits) == {k for k, m in catalogue.judged().items() if name in m.limits}
        for key, limit in limits.items():
            bounds = catalogue.judged()[key].limits[name]
            assert (limit.side, limit.warn, limit.fail) == (bounds.side, bounds.warn, bounds.fail)


# ---- a metric of one's own -----------------------------------------------------------------------


def variation(channel: Channel) -> float:
    values = channel.values
    return values.std / values.mean if values.n else math.nan


def its_error(channel: Channel) -> float:
    return 0.01


def brightest(tiles: Tiles) -> np.ndarray:
    assert tiles.state.tiles is not None
    return tiles.state.tiles.largest.values[0]


def spread(sample: Sample) -> float:
    assert sample.channels is not None
    return float(np.ptp(sample.channels["mean"]))


OWN = (
    Metric(
        "own_variation",
        "Variation",
        "Standard deviation over mean.",
        compute=variation,
        better="lower",
        meaning="values vary much",
        cure="Look at the lamp.",
        limits={"robust": above(0.1, 0.5)},
        error=its_error,
        primary=True,
        compared=True,
        headline=True,
        artifact=True,
        map="brightest",
    ),
    Metric(
        "brightest", "Brightest", "Largest value of a tile.", compute=brightest, scope=Scope.TILE,
    ),
    Metric(
        "spread",
        "Spread of means",
        "Largest less smallest mean of the channels.",
        compute=spread,
        scope=Scope.SAMPLE,
        meaning="channels differ",
        cure="Look at the exposure.",
        limits={"robust": above(None, 1e6)},
        primary=True,
        compared=True,
    ),
)  # fmt: skip


@pytest.fixture
def own() -> Iterator[None]:
    for metric in OWN:
        gq.add_metric(metric)
    yield
    for metric in OWN:
        gq.remove_metric(metric.key)


@pytest.mark.usefixtures("own")
def test_an_added_metric_is_in_table_rules_page_and_json(tmp_path: Path) -> None:
    verdict = gq.assess(image(), progress=False, tile=16, name="own")
    pixels = image().values.astype("f8")
    expected = pixels.std(axis=(1, 2)) / pixels.mean(axis=(1, 2))
    np.testing.assert_allclose(verdict.channels["own_variation"], expected, rtol=1e-9)
    assert verdict.tiles["brightest"].values.max() == pixels.max()
    assert verdict.summary["spread"] == pytest.approx(np.ptp(pixels.mean(axis=(1, 2))))

    flag = verdict.flags.query("metric == 'own_variation'").iloc[0]
    assert (flag.status, flag.limit, flag.error, flag.certain) == ("WARN", 0.1, 0.01, True)
    assert flag.reason.startswith("Values vary much (own_variation 0.2") and "lamp" in flag.reason
    assert verdict.flags.query("metric == 'spread'")["status"].tolist() == ["PASS"]

    verdict.to_html(tmp_path / "own.html")
    page = (tmp_path / "own.html").read_text()
    for words in ("Variation", "Standard deviation over mean.", "Look at the lamp.", "Brightest"):
        assert words in page
    assert "Spread of means" in page

    report = verdict.to_dict()
    assert report["channels"]["A"]["own_variation"] == pytest.approx(expected[0])
    assert "own_variation" in set(gq.metrics()["key"])


@pytest.mark.usefixtures("own")
def test_an_added_metric_is_judged_by_a_lab_and_compared_in_a_cohort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab.toml").write_text("[channel.own_variation]\nwarn = 0.9\nfail = 0.95\n")
    verdict = gq.assess(image(), progress=False, rules=tmp_path / "lab.toml")
    assert set(verdict.flags.query("metric == 'own_variation'")["status"]) == {"PASS"}
    for name in ("a.zarr", "b.zarr", "c.zarr"):
        gq.write_image(image(), name)
    cohort = gq.assess_batch(["a.zarr", "b.zarr", "c.zarr"], "out", progress=False)
    assert (cohort.summary["median_own_variation"] > 0.2).all()
    assert (cohort.summary["n_artifacts"] == 2).all()
    assert "spread" in cohort.summary and "own_variation" in cohort.channels
    assert "Median variation" in (tmp_path / "out" / "index.html").read_text()
    assert {"median_own_variation", "spread"} <= set(summary_columns())


@pytest.mark.usefixtures("own")
def test_what_was_saved_before_a_metric_was_added_has_it(tmp_path: Path) -> None:
    statistics = gq.scan(image()).compute()
    statistics.save(tmp_path / "s.zarr")
    loaded = gq.assess(gq.Statistics.load(tmp_path / "s.zarr"), progress=False)
    assert (loaded.channels["own_variation"] > 0.2).all()


def test_a_cohort_of_before_compares_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.zarr", "b.zarr", "c.zarr"):
        gq.write_image(image(), name)
    gq.assess_batch(["a.zarr", "b.zarr", "c.zarr"], "out", progress=False, pages=False)
    gq.add_metric(OWN[0])
    try:
        assert "median_own_variation" not in set(gq.Cohort.load("out").outliers(1e-9)["metric"])
    finally:
        gq.remove_metric("own_variation")


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (Metric("snr", "SNR", "Twice.", compute=variation), "or column 'snr' already"),
        (Metric("status", "S", "Taken.", compute=variation), "already"),
        (Metric("coverage", "C", "Of a sample.", compute=variation), "already"),
        (Metric("two words", "T", "No name.", compute=variation), "is no name"),
        (Metric("nothing", "N", "No formula."), "needs compute="),
        (Metric("pairs", "P", "Of pairs.", compute=variation, scope=Scope.PAIR), "the scope"),
        (Metric("own", "O", "A column.", compute=variation, column="mean_snr"), "another one's"),
        (Metric("n_flags", "N", "Reserved.", compute=variation), "already"),
        (Metric("own", "O", "Text.", compute=variation, kind="text"), "pass number"),
        (Metric("own", "O", "Needs.", compute=variation, needs="moments"), "Part"),
        (Metric("own", "O", "Limits.", compute=variation, limits={"robust": 5}), "limits of 'own'"),
        (Metric("own", "O", "Limits.", compute=variation, limits={"lab": above(1, 2)}), "limits"),
        (Metric("own", "O", "Sets.", compute=variation, scope="tile", floor=max), "floor of"),
        ("snr", "pass a gq.Metric"),
    ],
)  # fmt: skip
def test_what_can_be_no_metric(metric: Metric, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        gq.add_metric(metric)
    assert catalogue.metrics_known() == KNOWN


def test_scope_and_source_are_words_that_exist() -> None:
    assert Metric("own", "O", "Words.", compute=variation, scope="sample").scope is Scope.SAMPLE
    for name in ("scope", "source"):
        with pytest.raises(ParameterError, match=f"{name}: got 'images'"):
            Metric("own", "O", "Words.", compute=variation, **{name: "images"})


def raising(channel: Channel) -> float:
    raise ZeroDivisionError("by nothing")


def text(channel: Channel) -> str:
    return "much"


def nothing(channel: Channel) -> None:
    return None


def yes(sample: Sample) -> np.bool_:
    return np.float64(3) > 2


def one(tiles: Tiles) -> float:
    return 1.0


@pytest.fixture
def added(request: pytest.FixtureRequest) -> Iterator[str]:
    gq.add_metric(request.param)
    yield request.param.key
    gq.remove_metric(request.param.key)


@pytest.mark.parametrize(
    ("added", "words"),
    [
        (Metric("own", "O", "Raises.", compute=raising), "'own' raised ZeroDivisionError: by noth"),
        (Metric("own", "O", "Text.", compute=text), "'own' gave str 'much'; return a number"),
        (Metric("own", "O", "One.", compute=one, scope="tile"), "return numbers .C, t, z, tile_y"),
    ],
    indirect=["added"],
)
def test_a_formula_that_fails_is_named(added: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        gq.assess(image(), progress=False)


@pytest.mark.parametrize("added", [Metric("own", "O", "Nothing.", compute=nothing)], indirect=True)
def test_nothing_is_nan(added: str) -> None:
    assert gq.assess(image(), progress=False).channels[added].isna().all()


@pytest.mark.parametrize(
    "added", [Metric("own", "O", "Yes.", compute=yes, scope="sample", kind="flag")], indirect=True
)
def test_a_flag_of_numpy_is_yes(added: str) -> None:
    assert gq.assess(image(), progress=False).summary[added] is True


def test_rules_of_a_metric_that_is_gone_say_so() -> None:
    gq.add_metric(OWN[0])
    rules = gq.Rules.named("robust")
    gq.remove_metric(OWN[0].key)
    with pytest.raises(gq.errors.RulesError, match=r"'own_variation'.*gq.add_metric"):
        gq.assess(image(), rules=rules, progress=False)


def test_a_second_run_has_what_was_added_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.zarr", "b.zarr", "c.zarr"):
        gq.write_image(image(), name)
    sources = ["a.zarr", "b.zarr", "c.zarr"]
    gq.assess_batch(sources, "out", progress=False, pages=False)
    for factor in (1.0, 2.0):  # another formula is another one
        gq.add_metric(replace(OWN[0], compute=lambda c, factor=factor: factor))
        try:
            cohort = gq.assess_batch(sources, "out", progress=False, pages=False)
        finally:
            gq.remove_metric(OWN[0].key)
        assert (cohort.summary["median_own_variation"] == factor).all()


def test_only_what_was_added_can_be_removed() -> None:
    with pytest.raises(ParameterError, match="no metric 'snr' was added; there are none"):
        gq.remove_metric("snr")


# ---- certainty -----------------------------------------------------------------------------------


def test_a_flag_is_certain_two_errors_from_its_limit() -> None:
    from gigaqc.formulas.record import Status
    from gigaqc.formulas.rules import Flag, flag_table

    def flag(value: float, error: float) -> Flag:
        return Flag("channel", "a", "snr", value, error, 3.0, "below", Status.WARN)

    assert [flag(2.0, e).certain for e in (0.49, 0.51, math.nan)] == [True, False, None]
    table = flag_table([flag(2.0, 0.4), flag(2.0, math.nan)])
    assert table["certain"].tolist() == [True, pd.NA]
    again = [Flag.of(row) for row in table.to_dict("records")]
    assert again[0] == flag(2.0, 0.4)


# ---- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("labelled", [False, True])
def test_what_is_written_keeps_to_the_schema(tmp_path: Path, labelled: bool) -> None:
    labels = np.zeros((48, 48), "u2")
    labels[5:20, 5:20] = 1
    dead = image().astype("f4")
    dead[1] = np.nan
    verdict = gq.assess(dead, labels=labels if labelled else None, progress=False)
    verdict.to_json(tmp_path / "a.json")
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["schema"] == {"name": "gigaqc-assessment", "version": 1}
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(report, json_schema())
    report["channels"]["A"]["snr"] = {"no": "number"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, json_schema())


# ---- command line --------------------------------------------------------------------------------


def run(*words: str, status: int = 0) -> str:
    found = CliRunner().invoke(app, ["metrics", *words], env={"COLUMNS": "140"})
    assert found.exit_code == status, found.output
    return found.output


def test_the_command_lists_tells_and_writes() -> None:
    listed = run()
    assert all(f"Of a {scope}" in listed for scope in ("channel", "tile", "sample", "pair"))
    assert "hot_pixel_fraction" in listed and "Of a sample" not in run("--scope", "tile")
    told = run("hot_pixel_fraction")
    assert "sigma" in told and "> 2e-05, > 0.01" in told and "hot-pixel filter" in told
    table = pd.read_csv(__import__("io").StringIO(run("--csv")))
    assert len(table) == len(KNOWN)
    assert json.loads(run("--schema")) == json.loads(json.dumps(json_schema()))


def test_the_command_says_what_is_wrong() -> None:
    assert "no metric 'nothing'" in run("nothing", status=2)
    assert "there are channel" in run("--scope", "pixels", status=2)
