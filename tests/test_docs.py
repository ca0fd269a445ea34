"""The documentation builds without a warning or a network, and says what the code says."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import gigaqc as gq

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; its cells are executed unless an earlier build of the same code kept them."""
    source = tmp_path_factory.mktemp("docs") / "docs"
    # A copy: what is generated beside the sources would be made twice by tests side by side.
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("api", "notebooks", "html"))
    for name in ("src", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        (source.parent / name).symlink_to(ROOT / name)
    notebooks = source.parent / "notebooks"
    shutil.copytree(ROOT / "notebooks", notebooks, ignore=shutil.ignore_patterns("data"))
    cells = [new_markdown_cell("# Of one cell"), new_code_cell("1 / 0")]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python"}}
    language = {"language_info": {"name": "python"}}
    nbformat.write(
        new_notebook(cells=cells, metadata=kernel | language), notebooks / "of_one_cell.ipynb"
    )
    html = source / "_build" / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-j", "2"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIGAQC_")}
    done = subprocess.run(
        [*command, "-b", "html", str(source), str(html)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return html


class Links(HTMLParser):
    """What a page loads by itself, and what it links to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a":
            self.links.append(found.get("href") or "")
        elif tag in {"script", "img", "iframe", "link"}:
            self.loads.append(found.get("src") or found.get("href") or "")


@pytest.mark.long
def test_pages_load_nothing_from_a_network(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 100
    for page in pages:
        loads = Links(page).loads
        assert loads
        far = [url for url in loads if re.match(r"(https?:)?//", url)]
        assert not far, f"{page.name} loads {far}"


@pytest.mark.long
def test_links_between_pages_lead_somewhere(site):
    for page in site.rglob("*.html"):
        for link in Links(page).links:
            path = link.partition("#")[0].partition("?")[0]
            if path and not re.match(r"[a-z]+:", path):
                assert (page.parent / path).exists(), f"{page.name} links to {link}"


@pytest.mark.long
def test_names_that_pages_link_to_exist(site):
    # The docstrings' own backticks also hold parameters, so that Sphinx cannot be asked for this.
    name = re.compile(
        r'(<a [^>]*>)?<code class="xref py py-(?:func|class)[^>]*><span[^>]*>(gq\.\S+?)<'
    )
    for page in site.rglob("*.html"):
        unknown = [found for link, found in name.findall(page.read_text()) if not link]
        assert not unknown, f"{page.name} names {unknown}"


def public_names() -> list[str]:
    names = [name for name in gq.__all__ if not name.startswith("_")]
    names = [name for name in names if not inspect.ismodule(getattr(gq, name))]
    for module in ("pl", "spatial", "testing"):
        owner = getattr(gq, module)
        names += [f"{module}.{n}" for n in owner.__all__ if callable(getattr(owner, n))]
    return names


@pytest.mark.long
def test_every_public_name_has_its_page(site):
    lacking = [n for n in public_names() if not (site / "api/names" / f"gigaqc.{n}.html").exists()]
    assert not lacking
    listed = " ".join((site / "api" / f"{n}.html").read_text() for n in ("index", "pl", "spatial"))
    assert "gigaqc.assess.html" in listed and "gigaqc.pl.map.html" in listed


@pytest.mark.long
def test_every_command_is_described(site):
    page = (site / "cli.html").read_text(encoding="utf-8")
    for command in ("demo", "assess", "info", "preprocess", "cluster", "segment", "isnr", "gain"):
        assert f"Usage: gigaqc {command}" in page


@pytest.mark.long
def test_formulas_are_drawn_without_a_script(site):
    page = (site / "metrics/artifacts.html").read_text(encoding="utf-8")
    assert page.count("<math") > 3
    assert not any("mathjax" in url.lower() for url in Links(site / "metrics/artifacts.html").loads)


@pytest.mark.long
def test_examples_were_executed_and_notebooks_were_not(site):
    page = (site / "quickstart.html").read_text(encoding="utf-8")
    assert "clipped_fraction" in page and page.count("<img") >= 1
    listing = (site / "notebooks/README.html").read_text(encoding="utf-8")
    assert "Of one cell" in listing
    assert "ZeroDivisionError" not in (site / "notebooks/of_one_cell.html").read_text()


def test_the_readme_shows_measured_rows():
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    measured = {tuple(line.split(" | ")[:3]) for line in page.replace(" |\n", "\n").splitlines()}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("## What it costs") : readme.index("## How it works")]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) >= 3
    shown = {tuple(row.removesuffix(" |").split(" | ")) for row in rows}
    assert not shown - measured, "change docs/performance.md, and copy the row without its spread"


def test_the_readme_links_to_files_that_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_the_entry_of_the_scverse_ecosystem_has_what_their_schema_asks_for():
    # scverse/ecosystem-packages, schema.json version 2.0
    required = {
        "name", "description", "project_home", "documentation_home", "install", "license", "tags",
        "version", "category", "contact",
    }  # fmt: skip
    after_the_first_release = {"project_home", "documentation_home", "contact"}
    entry = yaml.safe_load((DOCS / "scverse" / "meta.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert required - set(entry) <= after_the_first_release
    assert entry["name"] == entry["install"]["pypi"] == project["name"]
    assert entry["license"] == project["license"]
    assert entry["version"] == gq.__version__
    assert entry["category"] == "ecosystem"
    assert 1 <= entry["description"].count(".") <= 2
    assert entry["tags"] and len(set(entry["tags"])) == len(entry["tags"])
    assert all(isinstance(tag, str) for tag in entry["tags"])
    for name in ("project_home", "documentation_home", "tutorials_home"):
        assert entry.get(name, "https://").startswith("https://")
