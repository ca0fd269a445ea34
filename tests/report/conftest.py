"""Made-up assessments, and their pages in a browser that cannot reach a network."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
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


def _load() -> ModuleType:
    path = Path(__file__).with_name("fake_assessment.py")
    spec = importlib.util.spec_from_file_location("fake_assessment", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_assessment"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """The module that makes assessments up."""
    return _load()


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
def pages(variants: dict[str, Any]) -> dict[str, str]:
    """Each assessment's page."""
    from gigaqc import report

    return {name: report.render(assessment) for name, assessment in variants.items()}


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
def visit(
    browser: Any, pages: dict[str, str], tmp_path: Path
) -> Iterator[Callable[[str, int, str], Visit]]:
    """Open the page of a variant at a width and with a colour scheme."""
    contexts = []

    def open_page(variant: str, width: int = 1280, scheme: str = "light") -> Visit:
        path = tmp_path / f"{variant}.html"
        path.write_text(pages[variant], encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        return Visit(context.new_page(), path.as_uri())

    yield open_page
    for context in contexts:
        context.close()
