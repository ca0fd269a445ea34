"""The page in a browser: silent, offline, sortable, and as wide as the window."""

from __future__ import annotations

from typing import Any

import pytest

VARIANTS = ("many", "three", "one", "nan", "hostile", "cohort", "single", "hostile_cohort")


@pytest.mark.cover(1)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_silent_offline_and_no_wider_than_the_window(
    visit: Any, variant: str, width: int, scheme: str
) -> None:
    seen = visit(variant, width, scheme)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    if seen.page.locator("#all-columns").count():
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


def test_buttons_show_what_is_flagged(visit: Any, variants: dict[str, Any]) -> None:
    page = visit("many").page
    table = variants["many"].channels
    flagged = page.get_by_role("button", name="Flagged 22", exact=True)
    flagged.focus()
    page.keyboard.press("Enter")
    assert _first_column(page) == list(table.index[table.status != "PASS"])
    assert page.locator("[aria-pressed=true]").inner_text() == "Flagged 22"
    page.fill("#channel-tools input[type=search]", "cd4")
    assert set(_first_column(page)) <= {"CD4", "CD45", "CD45RO"}
    hidden = page.locator("article.card[hidden]").first.get_attribute("id")
    page.evaluate(f"location.hash = '{hidden}'")  # as a link of the matrix would
    page.locator(f"#{hidden}").wait_for(state="visible")
    assert len(_first_column(page)) == 41


def _told(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u2013", "-").strip()


def test_a_tile_is_read_under_the_pointer(visit: Any, variants: dict[str, Any]) -> None:
    page = visit("many").page
    box = page.locator("#channel-0 .maps .map").first.bounding_box()
    at = {"x": 5.5 * box["width"] / 8, "y": 3.5 * box["height"] / 8}
    page.locator("#channel-0 .maps .map").first.hover(position=at)
    told = _told(page.inner_text("#channel-0-values"))
    mean = variants["many"].tiles["mean"].values[0, 3, 5]
    assert told.startswith(f"tile row 3, column 5: mean {mean:.3g}, local SNR ")
    assert told.endswith("(pixels y 96-127, x 160-191)")
    assert page.locator("#channel-0 .cursor:visible").count() == 4  # three maps, the thumbnail
    page.mouse.move(0, 0)
    assert "Point at a tile" in page.inner_text("#channel-0-values")
    thumbnail = page.locator("#channel-0 .thumbnail .map")
    side = thumbnail.bounding_box()["width"]
    thumbnail.hover(position={"x": 5.5 * side / 8, "y": 3.5 * side / 8})
    assert _told(page.inner_text("#channel-0-values")) == told


def test_tiles_are_read_with_the_keyboard(visit: Any, variants: dict[str, Any]) -> None:
    page = visit("many", 400).page
    maps = page.locator("#channel-0 .maps")
    for _ in range(3):  # past a link: what is reached by the keyboard shows its focus
        page.locator("#channel-0 .up").focus()
        page.keyboard.press("Tab")
    assert maps.evaluate("e => e === document.activeElement")
    assert maps.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    first = _told(page.inner_text("#channel-0-values"))
    assert first.startswith("tile row")  # the largest value is told at once
    for key in ("PageUp", "Home", "ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    told = _told(page.inner_text("#channel-0-values"))
    mean = variants["many"].tiles["mean"].values[0, 1, 2]
    assert told.startswith(f"tile row 1, column 2: mean {mean:.3g}")
    page.keyboard.press("Escape")
    assert page.locator("#channel-0 .cursor:visible").count() == 0
    assert maps.get_attribute("role") == "application"
    assert "arrow keys" in maps.get_attribute("aria-label")


def test_tiles_are_read_by_touch(visit: Any) -> None:
    page = visit("three", 400, touch=True).page
    page.locator("#channel-1 .maps .map").first.tap(position={"x": 5, "y": 5})
    assert _told(page.inner_text("#channel-1-values")).startswith("tile row 0, column 0: mean")


def test_a_correlation_is_read_under_the_pointer(visit: Any, variants: dict[str, Any]) -> None:
    page = visit("many").page
    matrix = page.locator("#correlation .plot .map")
    side = matrix.bounding_box()["width"]
    matrix.scroll_into_view_if_needed()
    matrix.hover(position={"x": 12.5 * side / 41, "y": 9.5 * side / 41})
    r = float(variants["many"].correlation.values[9, 12])
    assert page.inner_text("#matrix-values") == f"FoxP3 and Vimentin: {r:.2f}"
    page.locator("#correlation .plot").focus()
    page.keyboard.press("End")
    assert page.inner_text("#matrix-values").startswith("FoxP3 and Nuc: ")


def test_hostile_names_are_inert_and_shortened(visit: Any, made: Any) -> None:
    seen = visit("hostile", 400)
    assert seen.page.evaluate("document.scripts.length") == 1
    assert seen.page.locator("img[src=x]").count() == 0
    assert _first_column(seen.page)[0] == made.HOSTILE[0]
    heights = seen.page.eval_on_selector_all(
        "#channel-table tbody tr", "rows => rows.map(r => r.getBoundingClientRect().height)"
    )
    assert max(heights) < 60
    seen.page.locator("#correlation .plot").focus()
    seen.page.keyboard.press("ArrowRight")
    told = seen.page.inner_text("#matrix-values")
    assert told.startswith(f"{made.HOSTILE[0]} and {made.HOSTILE[1]}"[:60])
    assert seen.page.locator("img[src=x]").count() == 0
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
