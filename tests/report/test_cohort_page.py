"""The page of a cohort: the tally first, every sample, links that lead nowhere else, bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gigaqc import plot, report
from gigaqc.errors import ParameterError
from gigaqc.report.cohort import address


def _rows(page: Any) -> list[str]:
    return page.eval_on_selector_all(
        "#sample-table tbody tr:not([hidden]) th", "cells => cells.map(c => c.textContent.trim())"
    )


def test_the_tally_comes_first_in_words(pages: dict[str, str], reader: Any) -> None:
    text = " ".join("".join(reader(pages["cohort"]).words).split()).replace("\u00a0", " ")
    assert "195 of 200 samples were measured" in text
    assert "Of those that were measured, 155 passed, 25 need a look and 15 failed." in text
    assert text.index("195 of 200") < text.index("no file") < text.index("Robust z")
    assert "3 samples were" not in text
    unread = " ".join("".join(reader(pages["unread"]).words).split()).replace("\u00a0", " ")
    assert "0 of 3 samples were measured" in unread
    assert "The order of acquisition is not known" in unread


def test_every_sample_is_a_row_and_links_to_its_page(
    cohorts: dict[str, Any], pages: dict[str, str], reader: Any
) -> None:
    summary = cohorts["cohort"].summary
    page = reader(pages["cohort"])
    hrefs = {a["href"] for a in page.named("a")}
    assert {f"./{p}" for p in summary["page"].dropna()} <= hrefs
    errors = [a for a in page.named("td") if a.get("class") == "error"]
    assert len(errors) == summary["error"].notna().sum() == 5


@pytest.mark.parametrize(
    ("page", "href"),
    [
        ("a.html", "./a.html"),
        ("sub/a.html", "./sub/a.html"),
        ("a b#c?d.html", "./a%20b%23c%3Fd.html"),
        ("javascript:alert(1)", "./javascript%3Aalert%281%29"),
        ("../up.html", ""),
        ("/etc/passwd", ""),
        ("//evil/x", ""),
        ("\\\\evil\\x", ""),
        (None, ""),
        (np.nan, ""),
    ],
)
def test_links_stay_beside_the_page(page: Any, href: str) -> None:
    assert address(page) == href


@pytest.mark.long
def test_two_thousand_samples_stay_within_the_size(made_cohorts: Any) -> None:
    cohort = made_cohorts.fake_cohort(2000, 40, ["\u6838" * 70 + str(i) for i in range(2000)])
    cohort.summary["error"] = cohort.summary["error"].map(lambda e: e and e + "x" * 900)
    for key in ("std", "zero_fraction", "separability", "whole_tenengrad", "column_striping"):
        cohort.summary[f"median_{key}"] = cohort.summary["median_mean"] * 1.01
    page = report.render_cohort(cohort)
    assert len(page.encode()) < 5_000_000
    assert page.count('<tr data-severity="4">') == 40  # what failed is kept in any case


def test_writes_whole_or_not_at_all(cohorts: dict[str, Any], tmp_path: Path) -> None:
    report.write_cohort_html(cohorts["single"], tmp_path / "index.html")
    assert (tmp_path / "index.html").read_text("utf-8") == report.render_cohort(cohorts["single"])


def test_hostile_names_are_text(pages: dict[str, str], made: Any, reader: Any) -> None:
    page = reader(pages["hostile_cohort"])
    text = "".join(page.words)
    for name in (*made.HOSTILE[:3], "../../etc/passwd"):
        assert name in text
    assert "\u202e" not in pages["hostile_cohort"] and "\x00" not in pages["hostile_cohort"]
    assert len(page.named("script")) == 1
    hrefs = {a["href"] for a in page.named("a")}
    assert all(h.startswith(("#", "./")) and ".." not in h for h in hrefs)


def test_sorting_filtering_and_buttons(visit: Any, cohorts: dict[str, Any]) -> None:
    summary = cohorts["cohort"].summary
    seen = visit("cohort")
    page = seen.page
    assert _rows(page) == list(summary["sample"])
    button = page.locator("#sample-table").get_by_role("button", name="Mean SNR", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    expected = summary.sort_values("mean_snr", kind="stable", na_position="last")["sample"]
    assert _rows(page) == list(expected)
    page.keyboard.press("Enter")
    assert set(_rows(page)[-5:]) == set(summary["sample"][summary["error"].notna()])
    assert page.locator("#sample-table th[aria-sort=descending]").inner_text().strip() == "Mean SNR"
    page.get_by_role("button", name="Not measured 5").click()
    assert len(_rows(page)) == 5
    assert "5 of 200" in page.inner_text("#sample-tools output").replace("\u00a0", " ")
    page.fill("#sample-tools input[type=search]", "permission denied")
    assert len(_rows(page)) == 1
    page.get_by_role("button", name="All 200").click()
    page.fill("#sample-tools input[type=search]", "RUN 049")
    assert _rows(page) == ["slide_049"]  # words of its name and of its batch
    page.fill("#outlier-tools input[type=search]", "CD3")
    assert page.locator("#outlier-table tbody tr:visible").count() == 1
    assert seen.said == [] and seen.outside == []


def test_pictures_place_samples_by_batch_and_order(cohorts: dict[str, Any]) -> None:
    summary = cohorts["cohort"].summary
    ax = plot.cohort_strip(summary, "median_mean", marked=["slide_007"])
    x = np.concatenate([np.asarray(c.get_offsets())[:, 0] for c in ax.collections[:4]])
    assert sorted(x) == sorted(summary["median_mean"].dropna())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["run 1", "run 2", "run 3", "run 4"]
    assert [t.get_text() for t in ax.texts] == ["slide_007"]
    drawn = plot.cohort_drift(summary, "median_mean", slope=-0.1)
    (line,) = drawn.get_lines()
    ends = line.get_xydata()
    assert np.diff(ends[:, 1])[0] == pytest.approx(-0.1 * np.diff(ends[:, 0])[0])
    with pytest.raises(ParameterError, match="no column 'nothing'"):
        plot.cohort_strip(summary, "nothing")
    with pytest.raises(ParameterError, match="order"):
        plot.cohort_drift(summary.drop(columns="order"), "median_mean")
