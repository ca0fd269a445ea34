"""The page as text: complete, escaped, small, and the same every time."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gigaqc import report
from gigaqc.formulas.catalogue import metric_of
from gigaqc.formulas.record import Status, status_of
from gigaqc.formulas.rules import Flag, flag_table
from gigaqc.report.words import format_bytes, format_value, name_of

VARIANTS = ("many", "three", "one", "nan", "hostile")
COHORTS = ("cohort", "single", "unread", "hostile_cohort")


@pytest.mark.parametrize("variant", VARIANTS + COHORTS)
def test_nothing_is_loaded_and_only_our_script_runs(
    reader: Any, pages: dict[str, str], variant: str
) -> None:
    page = reader(pages[variant])
    assert len(page.named("script")) == 1
    assert not page.named("script")[0]
    for tag, attributes in page.elements:
        assert tag not in {"iframe", "object", "embed", "base", "form"}
        assert not [a for a in attributes if a.startswith("on")]
        for key in ("src", "href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/", "data:,", "./"))
    script = re.search("<script>(.*?)</script>", pages[variant], re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = page.named("meta")[1]["content"] or ""
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


@pytest.mark.parametrize("variant", VARIANTS + COHORTS)
def test_every_picture_has_words_and_every_table_a_caption(
    reader: Any, pages: dict[str, str], variant: str
) -> None:
    page = reader(pages[variant])
    assert all(image.get("alt") for image in page.named("img"))
    assert len(page.named("table")) == len(page.named("caption"))
    assert len(page.named("h1")) == len(page.named("main")) == 1
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    hrefs = {a.get("href") or "" for a in page.named("a")}
    assert {h[1:] for h in hrefs if h.startswith("#")} <= set(ids)
    for table in page.named("table"):
        assert "data-tools" not in table or table["data-tools"] in ids


def test_names_are_text_and_are_shortened(reader: Any, pages: dict[str, str], made: Any) -> None:
    text = "".join(reader(pages["hostile"]).words)
    for name in made.HOSTILE[:3]:
        assert name in text
    assert text.count("N" * 10_000) == 1  # once, behind "whole name"
    assert "\u202e" not in text and "\x00" not in text
    assert "{{ 7 * 7 }}" in text
    assert pages["hostile"].encode("utf-8")


@pytest.mark.long
def test_forty_channels_are_small_and_quick(variants: dict[str, Any]) -> None:
    start = time.process_time()  # which other processes do not lengthen
    page = report.render(variants["many"])
    assert time.process_time() - start < 15
    assert len(page.encode()) < 5_000_000


@pytest.mark.long
def test_pure_noise_stays_within_the_size(made: Any) -> None:
    noisy = made.fake()
    rng = np.random.default_rng(0)
    shape = (len(noisy.thumbnails), 512, 512)
    thumbnails = noisy.thumbnails.isel(y=0, x=0).expand_dims(y=512, x=512)
    noisy.thumbnails = thumbnails.transpose("c", "y", "x").copy(
        data=rng.normal(size=shape).astype(np.float32)
    )
    noisy.tiles = noisy.tiles.isel(tile_y=[0] * 100, tile_x=[0] * 100).copy(deep=True)
    for name in noisy.tiles:
        noisy.tiles[name].values[:] = 1e-5 * rng.random(noisy.tiles[name].shape)
    assert len(report.render(noisy).encode()) < 4_800_000  # the rest is for other sections


def test_the_same_assessment_gives_the_same_page(made: Any) -> None:
    names = ["DAPI", "actin"]
    assert report.render(made.fake(names)) == report.render(made.fake(names))


def test_verdict_and_reasons_come_first(reader: Any, pages: dict[str, str]) -> None:
    text = "".join(reader(pages["many"]).words)
    assert text.index("Do not use this image as it is") < text.index("Structure SNR")
    assert "10 failed and 12 need a look" in text
    assert text.index("the detector can give") < text.index("Press a column's title")


@pytest.mark.parametrize(
    ("status", "headline"),
    [
        ("PASS", "This image passed"),
        ("WARN", "Usable, with care"),
        ("FAIL", "Do not use this image as it is"),
    ],
)
def test_headline_follows_the_status(made: Any, status: str, headline: str) -> None:
    assessment = made.fake(["DAPI", "actin"])
    assessment.status, assessment.passed = status, status != "FAIL"
    assert headline in report.render(assessment)
    assert headline in report.notebook_html(assessment)


def test_parts_that_are_missing_are_left_out(reader: Any, made: Any) -> None:
    assessment = made.fake(["DAPI", "actin"])
    assessment.tiles = assessment.correlation = assessment.thumbnails = None
    assessment.histograms = assessment.summary = None
    assessment.provenance = {}
    assessment.flags = assessment.flags.iloc[:0]
    page = report.render(assessment)
    assert "Correlation between channels" not in page
    assert "No number missed its limit." in page
    assert not reader(page).named("img")


def test_maps_of_any_shape(made: Any) -> None:
    assessment = made.fake(["DAPI"])
    assessment.tiles = assessment.tiles.expand_dims(z=2).isel(tile_x=[0] * 200)
    page = report.render(assessment)
    assert "One square of a map stands for 4 \u00d7 4 of them: their mean" in page


def test_unknown_columns_and_values_are_shown(made: Any) -> None:
    assessment = made.fake(["DAPI"])
    assessment.channels["lab_index"] = pd.array([pd.NA], dtype="Int64")
    assessment.channels["infinite"] = -np.inf
    page = report.render(assessment)
    assert "Lab index" in page
    assert "\u2212\u221e" in page


def test_notebook_form_has_no_script_and_scoped_styles(
    reader: Any, variants: dict[str, Any]
) -> None:
    for assessment in variants.values():
        fragment = report.notebook_html(assessment)
        page = reader(fragment)
        assert not page.named("script") and not page.named("img")
        style = re.search("<style>(.*?)</style>", fragment, re.DOTALL)
        assert style is not None
        rules = [line for line in style[1].splitlines() if line.strip()]
        assert all(rule.startswith(".gigaqc-report") for rule in rules)
        assert len(fragment) < 150_000


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (np.nan, "number", "\u2013"),
        (None, "number", "\u2013"),
        (pd.NA, "count", "\u2013"),
        (np.inf, "number", "∞"),
        (0.00012345, "fraction", "0.0123\u00a0%"),
        (0, "fraction", "0\u00a0%"),
        (np.int64(1234567), "count", "1\u202f234\u202f567"),
        (-0.5, "number", "\u22120.5"),
        (12345.6, "number", "12\u202f346"),
        (3.2e-9, "number", "3.20e\u221209"),
        (np.bool_(True), "number", "yes"),
        (1.0, "flag", "yes"),
        ("DNA", "number", "DNA"),
    ],
)
def test_values_as_text(value: Any, kind: Any, text: str) -> None:
    assert format_value(value, kind) == text


def test_statuses_names_and_bytes() -> None:
    assert status_of("fail") is Status.FAIL
    assert status_of(np.nan) is Status.NONE
    assert name_of("").short == "(no name)"
    assert name_of("a\nb").full == "a b"
    assert format_bytes(13_421_772_800) == "13.4\u00a0GB"
    assert format_bytes(None) == "\u2013"


def _card(assessment: Any, channel: int, reader: Any) -> dict[str, str]:
    """Values of the maps on the card of a channel, by title."""
    page = report.render(assessment)
    card = page[page.index(f'id="channel-{channel}"') :]
    card = card[: card.index("</article>")]
    maps = [a for a in reader(card).named("div") if "data-values" in a]
    return {a["data-title"]: a["data-values"] for a in maps}


def test_maps_carry_their_values_to_three_digits(made: Any, reader: Any) -> None:
    assessment = made.fake(["DAPI", "actin", "pH3", "clipped"])
    found = _card(assessment, 1, reader)
    values = assessment.tiles["mean"].values[1]
    np.testing.assert_allclose(np.array(found["Mean"].split(" "), float), values.ravel(), rtol=5e-3)
    assert found["Sharpness"].startswith(" ")  # the first tile could not be measured


def test_a_flag_about_clipped_pixels_marks_the_map_that_shows_where(made: Any) -> None:
    assessment = made.fake(["a", "b", "c", "clipped"])
    clipped = assessment.tiles["clipped_fraction"].values[3]
    assert clipped.any()
    row, column = np.unravel_index(clipped.argmax(), clipped.shape)
    page = report.render(assessment)
    assert page.count('<figure class="heat-figure marked warn">') == 1
    assert f"most in tile row {row}, column {column}: " in page
    assert "Clipped: 0 % in every tile" in page.replace("\u00a0", " ")  # of the other channels


def test_zeros_are_mapped_where_dead_areas_are_flagged(made: Any, reader: Any) -> None:
    assessment = made.fake(["a", "b"])
    assert "Zeros" not in _card(assessment, 0, reader)
    dead = Flag("channel", "a", "dead_area_fraction", 0.2, np.nan, 0.05, "above", Status.FAIL)
    assessment.flags = flag_table([dead])
    assert "Zeros" in _card(assessment, 0, reader)
    assert "Zeros" not in _card(assessment, 1, reader)


def test_what_to_do_stands_beside_each_number_that_a_rule_judges(made: Any) -> None:
    page = report.render(made.fake(["DAPI", "actin"]))
    how = page[page.index('<table class="how">') :]
    for key in ("clipped_fraction", "row_striping", "hot_pixel_fraction", "correlation"):
        assert metric_of(key).cure in how


def test_a_flag_says_what_was_found_and_what_to_do() -> None:
    def flag(value: float, status: Status, metric: str = "clipped_fraction") -> Flag:
        return Flag("channel", "a", metric, value, math.nan, 1e-4, "above", status)

    held = flag(0.002, Status.WARN)
    assert held.found == "Pixels sit at the largest value that the detector can give."
    assert held.cure.startswith("Do not compare intensities there")
    assert held.reason == (
        "Pixels sit at the largest value that the detector can give (clipped_fraction 0.002, above "
        f"0.0001). {held.cure}"
    )
    passed = flag(0.0, Status.PASS)
    assert (passed.found, passed.cure) == ("", "")
    assert passed.reason == "clipped_fraction 0 is within its limit."
    assert "cannot be told" in flag(math.nan, Status.FAIL).found
    assert flag(1.0, Status.FAIL, "unknown").found == "Unknown is beyond its limit."


def test_provenance_tells_version_reads_time_and_exactness(made: Any, reader: Any) -> None:
    page = report.render(made.fake(["DAPI"]))
    text = " ".join("".join(reader(page[page.index('id="provenance"') :]).words).split())
    for words in ("0.1.0", "1 of each chunk", "13.4 GB", "41.7 s", "percentiles to the bit"):
        assert words in text.replace("\u00a0", " ")
