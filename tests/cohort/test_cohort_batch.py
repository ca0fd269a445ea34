"""Many samples: their rows, what a second run reads, and what it may replace."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import distributed
import numpy as np
import pandas as pd
import pytest
import zarr
from cohort_cases import cells, stored

import gigaqc as gq
from gigaqc.cohort import batch as batches
from gigaqc.errors import (
    ChannelWarning,
    ImageTypeError,
    ParameterError,
    SourceNotFoundError,
    StatisticsError,
    WriteError,
)
from gigaqc.formulas.cohort import summary_columns
from gigaqc.stores import chunks
from gigaqc.testing import CountingStore, count_reads, forbid_compute, reset_reads

pytestmark = pytest.mark.usefixtures("few_pictures")


@pytest.fixture
def three(tmp_path):
    """Paths of three samples, of which the last is noise."""
    images = [cells(0), cells(1), np.random.default_rng(2).poisson(20, (2, 64, 64)).astype("u2")]
    folder = tmp_path / "images"
    folder.mkdir()
    return [stored(folder / f"{name}.zarr", a) for name, a in zip("abn", images, strict=True)]


@pytest.fixture
def reads(monkeypatch):
    """Names of the sources of which blocks were read."""
    found = []
    real = chunks.LazyArray._read

    def read(self, spans):
        found.append(Path(self.source.split(" (")[0]).stem)
        return real(self, spans)

    monkeypatch.setattr(chunks.LazyArray, "_read", read)
    return found


def run(sources, out, **options):
    return gq.assess_batch(sources, out, **{"progress": False, "pages": False, **options})


def same(a, b):
    pd.testing.assert_frame_equal(a.summary, b.summary)
    pd.testing.assert_frame_equal(a.channels, b.channels)


def test_rows_hold_what_assess_finds(three, tmp_path):
    cohort = run(three, tmp_path / "out", pages=True)
    summary = cohort.summary
    assert list(summary.columns) == summary_columns()
    assert summary["sample"].tolist() == ["a", "b", "n"]
    assert summary["pass_qc"].tolist() == [True, True, False]
    assert summary["order"].tolist() == [0, 1, 2]
    for path, row in zip(three, summary.itertuples(), strict=True):
        alone = gq.assess(gq.open_image(path), progress=False)
        assert row.status == alone.status and row.n_flags == alone.summary.n_flags
        assert (row.mean_snr, row.min_snr) == (alone.summary.mean_snr, alone.summary.min_snr)
        assert row.tissue_coverage == alone.summary.coverage
        assert row.median_autocorrelation_snr == alone.channels.autocorrelation_snr.median()
        own = cohort.channels[cohort.channels["sample"] == row.sample]
        assert own["channel"].tolist() == ["0", "1"]
        for metric in alone.channels:
            np.testing.assert_array_equal(
                own[metric].to_numpy(alone.channels[metric].dtype), alone.channels[metric]
            )
        assert (tmp_path / "out" / row.page).is_file()
    assert summary["n_cells"].isna().all() and summary["error"].isna().all()


def test_artifacts_are_counted_by_channel_and_artifact(tmp_path):
    spoiled = cells(0)
    spoiled[0, :24, :24] = 0
    spoiled[1, 3:60:7, 5:60:7] = 65535
    cohort = run({"x": spoiled}, tmp_path)
    flags = cohort.assessment("x").flags
    artifacts = flags[(flags.status != "PASS") & flags.metric.str.contains("dead|hot|clip|strip")]
    assert cohort.summary["n_artifacts"].tolist() == [len(artifacts)] and len(artifacts) >= 2


def test_tables_on_disk_are_the_tables(three, tmp_path):
    cohort = run(three, tmp_path / "out")
    same(cohort, gq.Cohort.load(tmp_path / "out"))
    again = pd.read_csv(tmp_path / "out" / "summary.csv", float_precision="round_trip")
    assert again["mean_snr"].tolist() == cohort.summary["mean_snr"].tolist()
    assert "3 samples" in repr(cohort) and "1 FAIL" in repr(cohort)
    assert "<table" in cohort._repr_html_()


def test_a_second_run_reads_nothing(three, tmp_path, reads):
    first = run(three, tmp_path / "out")
    # four chunks of two channels, and of the tissue channel once more
    assert sorted(reads) == sorted(["a", "b", "n"] * 12)
    reads.clear()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.json")}
    files = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("summary.*")}
    with forbid_compute():
        second = run(three, tmp_path / "out")
    assert reads == []
    same(first, second)
    assert all(p.stat().st_mtime_ns == t for p, t in before.items() if p.name != "cohort.json")
    assert files == {p.name: p.read_bytes() for p in (tmp_path / "out").glob("summary.*")}


def test_other_rules_and_pairs_read_nothing(three, tmp_path, reads):
    run(three, tmp_path / "out", pages=True)
    (tmp_path / "lab.toml").write_text("[channel.autocorrelation_snr]\noff = true\n")
    reads.clear()
    with forbid_compute():
        other = run(three, tmp_path / "out", rules=tmp_path / "lab.toml", pages=True)
        run(three, tmp_path / "out", expected_pairs=[("0", "1")], rules=tmp_path / "lab.toml")
    assert reads == []
    assert other.summary["status"].tolist()[2] != "FAIL"
    assert other.assessment("n").rules.name == "lab"
    fresh = run(three, tmp_path / "fresh", rules=tmp_path / "lab.toml", pages=True)
    same(other, fresh)


def test_rules_that_find_tissue_in_another_way_read_its_channel_once(three, tmp_path, reads):
    run(three, tmp_path / "out")
    reads.clear()
    recipe = run(three, tmp_path / "out", rules="recipe")
    assert sorted(reads) == sorted(["a", "b", "n"] * 4)
    same(recipe, run(three, tmp_path / "fresh", rules="recipe"))
    reads.clear()
    run(three, tmp_path / "out", rules="recipe")
    assert reads == []


def test_reads_are_counted_by_the_store_too(three, tmp_path):
    stores = [CountingStore(path) for path in three]
    images = {p.stem: gq.open_image(zarr.open_array(s)) for p, s in zip(three, stores, strict=True)}
    run(images, tmp_path / "out")
    assert all(sum(count_reads(s).values()) == 12 for s in stores)
    for s in stores:
        reset_reads(s)
    run(images, tmp_path / "out")
    assert not any(count_reads(s) for s in stores)


@pytest.mark.parametrize(
    "options", [{"tile": 32}, {"tissue": "1"}, {"tissue": False}, {"full_scale": 1000.0}]
)
def test_other_parameters_are_done_again(three, tmp_path, reads, options):
    run(three[:1], tmp_path / "out")
    reads.clear()
    again = run(three[:1], tmp_path / "out", **options)
    assert "a" in reads
    same(again, run(three[:1], tmp_path / "fresh", **options))


def test_only_what_changed_is_done_again(three, tmp_path, reads):
    run(three, tmp_path / "out")
    reads.clear()
    zarr.open_array(three[1])[...] = cells(5)
    changed = run(three, tmp_path / "out")
    assert set(reads) == {"b"}
    same(changed, run(three, tmp_path / "fresh"))


@pytest.mark.parametrize(
    "lost", ["b.json", "b.zarr", "b.zarr/zarr.json", "b.zarr/arrays/zarr.json"]
)
def test_what_is_not_complete_is_done_again(three, tmp_path, reads, lost):
    first = run(three, tmp_path / "out")
    reads.clear()
    path = tmp_path / "out" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if lost == "b.zarr/zarr.json":  # then nothing says that this folder is ours
        with pytest.raises(WriteError, match="holds no statistics"):
            run(three, tmp_path / "out")
        return
    same(first, run(three, tmp_path / "out"))
    assert set(reads) == {"b"}


def test_a_page_that_is_missing_is_made_from_what_was_kept(three, tmp_path, reads):
    run(three, tmp_path / "out")
    reads.clear()
    with_pages = run(three, tmp_path / "out", pages=True)
    assert reads == [] and (tmp_path / "out" / "a.html").is_file()
    # without pages those that are right stay
    same(with_pages, run(three, tmp_path / "out"))
    # and those by other rules do not
    other = run(three, tmp_path / "out", expected_pairs=[("0", "1")])
    assert other.summary["page"].isna().all() and not (tmp_path / "out" / "a.html").exists()


def test_damaged_statistics_are_read_again(three, tmp_path, reads):
    run(three[:1], tmp_path / "out")
    for chunk in (tmp_path / "out" / "a.zarr").glob("*/c/**/*"):
        if chunk.is_file():
            chunk.write_bytes(bytes(len(chunk.read_bytes())))
    reads.clear()
    same(
        run(three[:1], tmp_path / "out", rules="recipe"),
        run(three[:1], tmp_path / "fresh", rules="recipe"),
    )
    assert len(reads) == 24


def test_an_image_that_has_the_name_of_results_is_not_touched(three, tmp_path):
    """Results beside the images: a.zarr would be the statistics of a.zarr."""
    for overwrite in (False, True):
        with pytest.raises(WriteError, match="holds no statistics of gigaqc and is not replaced"):
            run(three, three[0].parent, overwrite=overwrite)
    assert zarr.open_array(three[0]).shape == (2, 64, 64)


@pytest.mark.parametrize("name", ["a.json", "a.html"])
def test_files_of_others_are_not_replaced_unless_asked(three, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text('{"mine": 1}')
    with pytest.raises(WriteError, match="allow to overwrite"):
        run(three, out)
    assert sorted(os.listdir(out)) == [name]
    run(three, out, overwrite=True)
    assert "mine" not in (out / "a.json").read_text()


def test_another_source_of_the_same_name_is_refused(three, tmp_path, reads):
    run(three, tmp_path / "out")
    other = tmp_path / "elsewhere"
    other.mkdir()
    moved = stored(other / "a.zarr", cells(4))
    reads.clear()
    with pytest.raises(WriteError, match="another source"):
        run([three[1], moved], tmp_path / "out")
    assert reads == []
    run([moved], tmp_path / "out", overwrite=True)
    assert set(reads) == {"a"}


def test_a_second_run_beside_the_first_is_refused(three, tmp_path):
    (tmp_path / "out").mkdir()
    with (
        batches._alone(tmp_path / "out"),
        pytest.raises(WriteError, match="another run is writing"),
    ):
        run(three, tmp_path / "out")


def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(three, tmp_path):
    out = tmp_path / "out"
    (out / ".a.zarr.0123abcd.partial" / "x").mkdir(parents=True)
    (out / f".gigaqc-{'0' * 32}.tmp").write_text("half")
    (out / ".mine").write_text("")
    run(three, out)
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == [".mine"]


def test_ctrl_c_stops_and_keeps_what_is_complete(three, tmp_path, monkeypatch, reads):
    real = batches.judge

    def judge(entry, *arguments, **options):
        if entry.name == "n":
            raise KeyboardInterrupt
        return real(entry, *arguments, **options)

    monkeypatch.setattr(batches, "judge", judge)
    with pytest.raises(KeyboardInterrupt):
        run(three, tmp_path / "out")
    monkeypatch.undo()
    done = {p.stem for p in (tmp_path / "out").glob("*.json")}
    assert done == {"a", "b"}
    with pytest.raises(SourceNotFoundError, match="no finished cohort"):
        gq.Cohort.load(tmp_path / "out")
    same(run(three, tmp_path / "out"), run(three, tmp_path / "fresh"))


@pytest.mark.same_process
def test_an_error_that_nobody_expected_is_a_row_too(three, tmp_path, monkeypatch, caplog):
    def to_html(self, path):
        if self.name == "a":
            raise ZeroDivisionError("a picture\nof nothing")
        Path(path).write_text("page")

    monkeypatch.setattr(gq.Assessment, "to_html", to_html)
    cohort = run(three, tmp_path / "out", pages=True)
    assert cohort.summary["error"].tolist() == ["a picture of nothing", None, None]
    assert not list((tmp_path / "out").glob("a.*"))
    assert "ZeroDivisionError" in caplog.text


def test_statistics_pool_by_batch(three, tmp_path):
    sheet = pd.DataFrame({"sample": list("abn"), "path": three, "batch": ["x", "x", "y"]})
    cohort = run(sheet, tmp_path / "out")
    both = np.concatenate([zarr.open_array(p)[...].ravel() for p in three[:2]])
    pool = cohort.pooled("x")
    assert pool.meta.pooled == 2
    assert sum(pool.distribution(c).n for c in (0, 1)) == both.size
    assert cohort.pooled().meta.pooled == 3
    with pytest.raises(ParameterError, match="no sample is of batch 'z'; there are"):
        cohort.pooled("z")
    other = run({"two": cells(0), "three": cells(0, channels=3)}, tmp_path / "other")
    with pytest.raises(StatisticsError, match="'three' cannot be pooled"):
        other.pooled()


def test_the_odd_one_out_is_found_and_drift_too(tmp_path):
    images = {f"s{i}": cells(i, side=48) for i in range(8)}
    images["s5"] = (images["s5"] // 4).astype("u2")
    cohort = run(images, tmp_path)
    first = cohort.outliers().iloc[0]
    assert first["sample"] == "s5" and abs(first["z"]) > 3.5
    assert cohort.outliers(1e9).empty
    drift = cohort.drift().set_index("metric")
    assert drift.loc["median_std", "slope"] > 0 and drift.loc["median_std", "rho"] > 0.6
    by_channel = cohort.drift(channels=True)
    assert set(by_channel["channel"].dropna()) == {"0", "1"}
    with pytest.raises(ParameterError, match="threshold"):
        cohort.outliers(0)


def test_outliers_within_batches(tmp_path):
    images = {f"{b}{i}": cells(i, side=48) * scale for b, scale in zip("xy", (1, 20), strict=True)
              for i in range(5)}  # fmt: skip
    images["x3"] = images["x3"] * 3
    paths = [stored(tmp_path / f"{name}.zarr", image) for name, image in images.items()]
    sheet = pd.DataFrame({"sample": list(images), "path": paths, "batch": [n[0] for n in images]})
    far = run(sheet, tmp_path / "out").outliers()
    mean = far[(far["metric"] == "median_mean")]
    assert mean["sample"].tolist() == ["x3"] and mean["batch_z"].item() > 3.5 > mean["z"].item()


def test_an_assessment_is_loaded_with_the_rules_of_the_cohort(three, tmp_path):
    cohort = run([*three, tmp_path / "no.tif"], tmp_path / "out", rules="recipe")
    assert cohort.assessment("a").rules == gq.Rules.named("recipe") == cohort.rules
    assert gq.Cohort.load(tmp_path / "out").rules == cohort.rules
    assert cohort.assessment("a", rules="robust").rules.name == "robust"
    with pytest.raises(StatisticsError, match="'no' was not assessed: source"):
        cohort.assessment("no")
    with pytest.raises(ParameterError, match="none is called 'x'"):
        cohort.assessment("x")


def test_panels_may_differ_and_a_pair_that_nobody_has_is_told(tmp_path):
    images = {"a": cells(0), "b": cells(0, channels=3)}
    run(images, tmp_path, expected_pairs=[("1", "2")])
    with pytest.warns(ChannelWarning, match="no sample has the channels"):
        run(images, tmp_path, expected_pairs=[("1", "7")])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tile": 3}, ParameterError),
        ({"rules": "strict"}, ValueError),
        ({"full_scale": np.inf}, ParameterError),
        ({"tissue": np.ones((64, 64), bool)}, ParameterError),
        ({"expected_pairs": [("a",)]}, ParameterError),
        ({"dims": "yq"}, ValueError),
    ],
)
def test_wrong_parameters_are_errors_before_anything_is_written(three, tmp_path, options, error):
    with pytest.raises(error):
        run(three, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("sources", [[], {}, 7, cells(0), [cells(0)]])
def test_sources_that_are_none(tmp_path, sources):
    with pytest.raises((ParameterError, ImageTypeError), match=r"^sources: got"):
        run(sources, tmp_path / "out")


def test_on_a_cluster_it_is_the_same(three, tmp_path):
    here = run(three, tmp_path / "here")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        there = run(three, tmp_path / "there")
    same(here, there)


def test_nothing_in_the_numbers_says_when(three, tmp_path):
    run(three, tmp_path / "one")
    run(list(reversed(three)), tmp_path / "two")
    run(three, tmp_path / "two")
    for name in ("summary.csv", "summary.parquet", "channels.csv", "channels.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    about = json.loads((tmp_path / "one" / "a.json").read_text())["batch"]
    assert set(about) == {"format", "where", "reading", "judging", "store"}
