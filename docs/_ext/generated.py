"""Pages that are made from the code at each build: reference, tables of metrics, command line.

They are written before Sphinx looks for sources, and only when they change, so that a second build
is quick.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx

import gigaqc as gq

_MODULES = {
    "pl": "Pictures. Each function takes results and draws them; where it draws one axes it takes "
    "`ax=` and returns it.",
    "spatial": "The same functions on elements of a SpatialData object.",
    "testing": "Phantoms with known answers, and instruments for tests of cost and laziness.",
    "typing": "Types of arguments. `ImageLike`: a path or URL, a DataArray, an element of "
    "SpatialData, or an array; `LabelsLike`: the same of integers; `MaskLike`: the same of bool, a "
    "file that is above 0 inside, or polygons; `RegionLike`: a mask, slices or bounds; "
    "`ChannelLike`: a name or a position; `PathLike`: a path or URL.",
    "errors": "Exceptions and warnings. Each names the argument, what was received, and the cure.",
}


def groups() -> dict[str, list[str]]:
    """The public names as the docstring of the package groups them."""
    found: dict[str, list[str]] = {}
    for title, names in re.findall(r"^(\w[\w ]*)\n((?: {4}\w+ .*\n)+)", gq.__doc__ or "", re.M):
        found[title] = [line.split()[0] for line in names.splitlines()]
    return found


def _public(module: ModuleType) -> list[str]:
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    found = (n for n in names if not inspect.ismodule(getattr(module, n)))
    return [n for n in found if getattr(getattr(module, n), "__doc__", None) and n != "annotations"]


def _table(names: list[str]) -> Iterator[str]:
    yield from (
        "```{eval-rst}",
        ".. currentmodule:: gigaqc",
        "",
        ".. autosummary::",
        "   :toctree: names",
        "   :nosignatures:",
        "",
    )
    yield from (f"   {name}" for name in names)
    yield from ("```", "")


def _is_object(owner: ModuleType, name: str) -> bool:
    thing = getattr(owner, name)
    return inspect.isfunction(thing) or inspect.isclass(thing)


def reference() -> dict[str, str]:
    """The reference: a page of `gq`, and one each of its modules."""
    lines = ["# Reference", "", "`import gigaqc as gq`", ""]
    for title, names in groups().items():
        found = [name for name in names if _is_object(gq, name)]
        if found:
            lines += [f"## {title}", "", *_table(found)]
    lines += ["## Modules", "", "```{toctree}", ":maxdepth: 1", ""]
    lines += [*_MODULES, "```", ""]
    pages = {"api/index.md": "\n".join(lines)}
    for short, about in _MODULES.items():
        module = getattr(gq, short)
        names = [f"{short}.{n}" for n in _public(module) if _is_object(module, n)]
        pages[f"api/{short}.md"] = "\n".join([f"# gq.{short}", "", about, "", *_table(names)])
    return pages


def command_line() -> str:
    """What ``--help`` says, of each command."""
    from typer.main import get_command
    from typer.testing import CliRunner

    from gigaqc.cli import app

    def told(*words: str) -> list[str]:
        result = CliRunner().invoke(
            app, [*words, "--help"], prog_name="gigaqc", env={"COLUMNS": "88"}
        )
        return ["```text", result.output.strip(), "```", ""]

    commands = get_command(app).commands  # type: ignore[attr-defined]
    lines = [
        "# Command line",
        "",
        "`gigaqc COMMAND --help` tells the same. Exit status: 0 done; 1 done, and quality control "
        "failed (with `--strict`); 2 wrong use; 3 input that cannot be read.",
        "",
        *told(),
    ]
    for name in commands:
        lines += [f"## gigaqc {name}", "", *told(name)]
    return "\n".join(lines)


def metric_tables() -> dict[str, str]:
    """A table of the catalogue for each public function, and one of all metrics by scope."""
    table = gq.metrics()
    pages = {
        f"metrics/tables/{function}.md": _markdown(rows)
        for function, rows in table.groupby("function")
        if function
    }
    parts = []
    for scope, rows in table.groupby("scope", sort=False):
        parts += [f"### Of a {scope}", "", _markdown(rows)]
    return {**pages, "metrics/tables/all.md": "\n".join(parts)}


_SHOWN = {
    "formula": "formula", "about": "unit, range, better", "nan": "NaN when", "robust": "robust",
    "recipe": "recipe",
}  # fmt: skip


def _markdown(rows: Any) -> str:
    """Columns in which something stands."""
    told = [
        {**row, "about": "; ".join(filter(None, (row["unit"], row["range"], row["better"])))}
        for row in rows.to_dict("records")
    ]
    shown = {k: title for k, title in _SHOWN.items() if any(row[k] for row in told)}
    lines = ["| metric | " + " | ".join(shown.values()) + " |", "|---" * (len(shown) + 1) + "|"]
    for row in told:
        cells = [str(row[k]).replace("|", "\\|") or "\N{EN DASH}" for k in shown]
        lines.append(f"| `{row['key']}` | " + " | ".join(cells).replace("<=", "\u2264") + " |")
    return "\n".join([*lines, ""])


def _title(notebook: Path) -> str:
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("# "):
                return line[2:].strip()
    return notebook.stem


def notebooks(source: Path, target: Path, executed: bool) -> str:
    """Copy the notebooks to where Sphinx looks; give the page that lists them.

    It is their README where they have one, under the same name, so that they may link to it.
    """
    target.mkdir(exist_ok=True)
    found = sorted(source.glob("*.ipynb")) if source.is_dir() else []
    for stale in set(target.glob("*.ipynb")) - {target / p.name for p in found}:
        stale.unlink()
    for path in found:
        copy = target / path.name
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            shutil.copyfile(path, copy)
    readme = source / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else "# Notebooks\n"
    lines = [text]
    if not found:
        lines += ["This copy was built without notebooks.", ""]
    elif not executed:
        lines += ["Here they are shown without their results.", ""]
    entries = [f"{_title(path)} <{path.stem}>" for path in found]
    return "\n".join([*lines, "```{toctree}", ":hidden:", "", *entries, "```", ""])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _generate(app: Sphinx, config: Any) -> None:
    here = Path(app.srcdir)
    for name, text in {**reference(), **metric_tables()}.items():
        _write(here / name, text)
    _write(here / "cli.md", command_line())
    executed = not config.nb_execution_excludepatterns
    listing = notebooks(here.parent / "notebooks", here / "notebooks", executed)
    _write(here / "notebooks" / "README.md", listing)


def _short_names(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Resolve ``gq.assess``, which is how users write ``gigaqc.assess``."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("gq."):
        return None
    return env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], "gigaqc." + target[3:], node, content
    )


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", _generate)
    app.connect("missing-reference", _short_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
