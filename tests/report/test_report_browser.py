"""The page in a browser: silent, offline, sortable, and as wide as the window."""

from __future__ import annotations

from typing import Any

import pytest

VARIANTS = ("many", "three", "one", "nan", "hostile")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_silent_offline_and_no_wider_than_the_window(
    visit: Any, variant: str, width: int, scheme: str
) -> None:
    seen = visit(variant, width, scheme)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    seen.page.check("#all-columns")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.page.evaluate(
        "Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)"
    )
    assert seen.said == []
    assert seen.outside == []


def _first_column(page: Any) -> list[str]:
    return page.eval_on_selector_all(
        "#channel-table tbody tr:not([hidden]) th", "cells => cells.map(c => c.textContent.trim())"
    )


def test_sorting_by_click_and_by_keyboard(visit: Any, variants: dict[str, Any]) -> None:
    page = visit("many").page
    table = variants["many"].channels
    assert _first_column(page) == list(table.index)
    button = page.get_by_role("button", name="Mean", exact=True)
    button.click()
    assert _first_column(page) == list(table["mean"].sort_values(kind="stable").index)
    assert page.locator("th[aria-sort=ascending]").inner_text().strip() == "Mean"
    button.focus()
    page.keyboard.press("Enter")
    expected = table["mean"].sort_values(ascending=False, kind="stable")
    assert [table["mean"][n] for n in _first_column(page)] == list(expected)
    assert page.locator("th[aria-sort]").count() == 1


def test_what_is_not_measured_sorts_last_either_way(visit: Any, variants: dict[str, Any]) -> None:
    page = visit("many").page
    missing = set(variants["many"].channels.query("dead_area_fraction.isna()").index)
    assert missing
    button = page.get_by_role("button", name="Dead area", exact=True)
    for _ in range(2):
        button.click()
        assert set(_first_column(page)[-len(missing) :]) == missing


def test_filtering_by_name_and_verdict(visit: Any, variants: dict[str, Any]) -> None:
    page = visit("many").page
    page.fill("#channel-tools input[type=search]", "cd4")
    assert _first_column(page) == ["CD4", "CD45", "CD45RO"]
    assert "3 of 41" in page.inner_text("#channel-tools output")
    assert page.locator("article.card:visible").count() == 3
    page.fill("#channel-tools input[type=search]", "FAIL")
    table = variants["many"].channels
    assert _first_column(page) == list(table.index[table.status == "FAIL"])
    page.fill("#channel-tools input[type=search]", "")
    assert len(_first_column(page)) == 41


def test_hostile_names_are_inert_and_shortened(visit: Any, made: Any) -> None:
    seen = visit("hostile", 400)
    assert seen.page.evaluate("document.scripts.length") == 1
    assert seen.page.locator("img[src=x]").count() == 0
    assert _first_column(seen.page)[0] == made.HOSTILE[0]
    heights = seen.page.eval_on_selector_all(
        "#channel-table tbody tr", "rows => rows.map(r => r.getBoundingClientRect().height)"
    )
    assert max(heights) < 60
    assert seen.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(visit: Any, scheme: str) -> None:
    page = visit("many", 1280, scheme).page
    for selector in (".badge.fail", ".badge.warn", ".badge.pass", "figcaption", "#channels a"):
        ratio = page.eval_on_selector(selector, _CONTRAST)
        assert ratio >= 4.5, f"{selector}: {ratio:.2f}"


def test_prints_all_of_it(visit: Any) -> None:
    page = visit("many", 720).page
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


# WCAG contrast of an element's text against the first opaque background behind it
_CONTRAST = """element => {
  const parse = text => text.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].reduce((sum, v, i) => {
    const s = v / 255;
    const linear = s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    return sum + [0.2126, 0.7152, 0.0722][i] * linear;
  }, 0);
  let behind = element;
  let back = parse(getComputedStyle(behind).backgroundColor);
  while (back.length === 4 && back[3] === 0) {
    behind = behind.parentElement;
    back = parse(getComputedStyle(behind).backgroundColor);
  }
  const pair = [light(parse(getComputedStyle(element).color)), light(back)].sort((a, b) => b - a);
  return (pair[0] + 0.05) / (pair[1] + 0.05);
}"""
