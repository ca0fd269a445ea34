"""Made-up assessments, and their pages in a browser that cannot reach a network."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def _load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Reader(HTMLParser):
    """Collects elements, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="session")
def reader() -> type[Reader]:
    """The class that reads a page as text."""
    return Reader


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """The module that makes assessments up."""
    return _load("fake_assessment")


@pytest.fixture(scope="session")
def made_cohorts() -> ModuleType:
    """The module that makes cohorts up."""
    return _load("fake_cohort")


@pytest.fixture(scope="session")
def cohorts(made: ModuleType, made_cohorts: ModuleType) -> dict[str, Any]:
    """Cohorts by name: many samples, one, nothing measured, hostile names."""
    names = [*made.HOSTILE, "../../etc/passwd", "a/b\\c"]
    hostile = made_cohorts.fake_cohort(len(names), 3, names, batches=2)
    hostile.summary["batch"] = names[::-1]
    hostile.summary["error"] = [None if e is None else f"{n}: {e}" for n, e in
                                zip(names, hostile.summary["error"], strict=True)]  # fmt: skip
    hostile.summary["page"] = [None if p is None else q for p, q in zip(
        hostile.summary["page"],
        ["javascript:alert(3)", "//evil/x", "../up.html", "a b#c?d.html", "\\x", *["s.html"] * 5],
        strict=True,
    )]  # fmt: skip
    hostile.out = Path("<b>out</b>")
    return {
        "cohort": made_cohorts.fake_cohort(),
        "single": made_cohorts.fake_cohort(1, 0, ordered=False),
        "unread": made_cohorts.fake_cohort(3, 3, batches=0),
        "hostile_cohort": hostile,
    }


@pytest.fixture(scope="session")
def variants(made: ModuleType) -> dict[str, Any]:
    """Assessments by name: many channels, three, one, nothing measurable, hostile names."""
    return {
        "many": made.fake(),
        "three": made.fake(["DAPI", "pH3", "actin"]),
        "one": made.fake(["DAPI"]),
        "nan": made.all_nan(),
        "hostile": made.fake(list(made.HOSTILE), name="<script>alert(9)</script>" + "y" * 300),
    }


@pytest.fixture(scope="session")
def pages(variants: dict[str, Any], cohorts: dict[str, Any]) -> dict[str, str]:
    """The page of each assessment and of each cohort."""
    from gigaqc import report
    from gigaqc.report import cohort as page

    made = {name: report.render(assessment) for name, assessment in variants.items()}
    made["cohort"] = report.render_cohort(cohorts["cohort"])
    with pytest.MonkeyPatch.context() as patch:  # a page with all of its pictures is enough
        patch.setattr(page, "_MOST_PICTURES", 4)
        return made | {n: report.render_cohort(c) for n, c in cohorts.items() if n not in made}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("GIGAQC_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium on this machine; install one or set GIGAQC_CHROMIUM")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield launched
        launched.close()


class Visit:
    """An open page, with everything it said and everything it asked for."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url[:100]))
        page.goto(address)

    @property
    def outside(self) -> list[str]:
        """Requests that leave the file."""
        return [url for url in self.asked[1:] if not url.startswith("data:")]


@pytest.fixture
def visit(browser: Any, pages: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    """Open the page of a variant at a width and with a colour scheme."""
    contexts = []

    def open_page(
        variant: str, width: int = 1280, scheme: str = "light", *, touch: bool = False
    ) -> Visit:
        path = tmp_path / f"{variant}.html"
        path.write_text(pages[variant], encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True,
            has_touch=touch,
        )  # fmt: skip
        contexts.append(context)
        return Visit(context.new_page(), path.as_uri())

    yield open_page
    for context in contexts:
        context.close()
