"""Imports point one way: a module imports only rooms of a lower level; lazy imports count."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gigaqc

SOURCE = Path(gigaqc.__file__).parent
ROOT = Path(__file__).parents[1]

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "typing"),
    ("base",),
    ("kernels", "stores"),
    ("image",),
    ("readers", "statistics"),
    ("graph", "formulas"),
    ("scanning", "writers"),
    ("quality", "noise", "transforms", "clusters", "segmentation", "plot"),
    ("report", "tables"),
    ("verdict",),
    ("cohort", "spatial"),
    ("cli", "testing"),
)
"""A room is a folder, or one of the few modules beside them. Rooms of a floor stand apart."""

LEVELS = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
LEVELS |= {"": len(FLOORS), "__main__": len(FLOORS)}
# gigaqc itself is no floor but the list of the names, by which these call the verbs.
BY_NAME = {"cli", "__main__"}

FORBIDDEN = {
    "kernels": {"dask", "xarray", "zarr", "fsspec", "pandas"},
    "formulas": {"dask", "zarr", "fsspec"},
    "report": {"dask", "zarr"},
}


def modules() -> dict[str, Path]:
    """Name below gigaqc ("kernels.rows", "" for gigaqc itself) and file of each module."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path) -> Iterator[tuple[str, int]]:
    """Full names of what a module imports, with the line."""
    package = ["gigaqc", *name.split(".")] if name else ["gigaqc"]
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            if base == "gigaqc":
                yield from ((f"gigaqc.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield base, node.lineno


def room(name: str) -> str:
    return name.partition(".")[0]


MODULES = modules()
INSIDE = sorted(name for name in MODULES if name)


def test_every_module_has_a_level():
    unknown = {room(name) for name in MODULES} - set(LEVELS)
    assert not unknown, f"give {sorted(unknown)} a level in LEVELS and in docs/design.md"


@pytest.mark.parametrize("name", INSIDE)
def test_a_module_imports_only_lower_levels(name):
    level = LEVELS[room(name)]
    upward = []
    for target, line in imports(name, MODULES[name]):
        first, _, rest = target.partition(".")
        if first != "gigaqc":
            continue
        # A name that is no room is one of the package's own, such as `scan`.
        other = room(rest) if room(rest) in LEVELS else ""
        if not other and {name, room(name)} & BY_NAME:
            continue
        if other != room(name) and LEVELS[other] >= level:
            upward.append(f"line {line}: {target}")
    assert not upward, f"gigaqc.{name} (level {level}) imports {upward}"


@pytest.mark.parametrize("name", [n for n in INSIDE if room(n) in FORBIDDEN])
def test_a_room_keeps_out_what_it_must_not_know(name):
    found = [
        f"line {line}: {target}"
        for target, line in imports(name, MODULES[name])
        if target.partition(".")[0] in FORBIDDEN[room(name)]
    ]
    assert not found, f"gigaqc.{name} imports {found}"


def within(name: str) -> dict[str, set[str]]:
    """Which modules of a room import which others of it, wherever in them; `__init__` left out."""
    own = {n for n in MODULES if room(n) == name and n != name}
    return {
        module: {
            found
            for target in targets(module)
            if (found := target.removeprefix("gigaqc.")) in own and found != module
        }
        for module in own
    }


def targets(module: str) -> Iterator[str]:
    """Modules that a module imports when it runs: ``from a import b`` tells of a and of a.b."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    typed = [n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    left_out = {id(node) for block in typed for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", sorted({room(n) for n in INSIDE} - {"__main__"}))
def test_modules_of_a_room_import_one_another_one_way(name):
    left = within(name)
    while free := {module for module, needed in left.items() if not needed}:
        left = {m: needed - free for m, needed in left.items() if m not in free}
    assert not left, f"in or after a circle: { {m: sorted(n) for m, n in sorted(left.items())} }"


def test_the_house_can_be_held_in_the_head():
    assert len(FLOORS) <= 12
    assert sum(path.parent == SOURCE for path in MODULES.values()) <= 4
    assert len(MODULES) <= 180, "docs/design.md says how modules are counted"
    assert not [n for n, names in names_bound().items() if len(names) > 1]


def names_bound() -> dict[str, set[str]]:
    """Classes and aliases by name, with the modules that bind them at their top."""
    found: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            bound = [node.name] if isinstance(node, ast.ClassDef) else []
            if isinstance(node, ast.Assign):
                bound = [target.id for target in node.targets if isinstance(target, ast.Name)]
            for name in (name.lstrip("_") for name in bound):
                if name[:1].isupper() and not name.isupper():
                    found.setdefault(name, set()).add(module)
    return found


PRIVATE = {"_task_spec", "HighLevelGraph", "dask.order", "dask.blockwise", "dask.highlevelgraph"}


def test_only_graph_knows_dask_from_inside():
    users = {
        room(name)
        for name, path in MODULES.items()
        if any(word in path.read_text(encoding="utf-8") for word in PRIVATE)
    }
    assert users == {"graph"}


def test_whatever_takes_an_image_takes_a_path(tmp_path):
    """Readers stand above the module that takes images, which loads them by their name."""
    code = f"from gigaqc.image.labelled import as_image; as_image({str(tmp_path / 'none.tif')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "SourceNotFoundError: image: " in done.stderr


def test_only_backend_imports_cupy():
    users = {
        name
        for name, path in MODULES.items()
        for target, _ in imports(name, path)
        if target.partition(".")[0] in ("cupy", "cupyx", "cupy_backends")
    }
    assert users <= {"base.backend"}


def test_only_naming_makes_tokens():
    """Elsewhere a name would leave out what its author did not think of."""
    users = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom | ast.Attribute | ast.Name)
        for word in _words(node)
        if word in ("tokenize", "normalize_token")
    }
    assert users == {"base.naming"}


def _words(node):
    if isinstance(node, ast.ImportFrom):
        return [alias.name for alias in node.names]
    return [node.attr if isinstance(node, ast.Attribute) else node.id]


def test_the_library_does_not_import_its_testing_kit():
    users = {
        name
        for name, path in MODULES.items()
        for target, _ in imports(name, path)
        if target.startswith("gigaqc.testing") and room(name) not in ("", "testing")
    }
    assert not users


def test_the_public_names_are_the_same_in_all_three_places():
    checked: set[str] = set()
    for node in ast.parse(Path(gigaqc.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If):
            checked |= {
                alias.asname or alias.name
                for statement in node.body
                if isinstance(statement, ast.ImportFrom)
                for alias in statement.names
            }
    lazy = {*gigaqc._MODULES, *gigaqc._HOME_OF}
    assert checked == lazy == set(gigaqc.__all__) - {"__version__"}


def test_the_docstring_of_the_package_groups_all_names_with_a_line_each():
    listed = re.findall(r"^ {4}(\w+) +(\S.*)$", gigaqc.__doc__ or "", re.M)
    names = [name for name, _ in listed]
    assert sorted(names) == sorted(gigaqc.__all__)
    groups = re.findall(r"^(\w[\w ]*)\n {4}\w", gigaqc.__doc__ or "", re.M)
    wanted = ["Open", "Measure", "Judge", "Prepare", "Cluster", "Noise", "Segment", "Write"]
    assert groups[: len(wanted)] == wanted


def test_no_public_function_shares_its_name_with_a_module():
    names = {module.name for module in pkgutil.iter_modules([str(SOURCE)])}
    # Importing such a module would put it where the function was.
    assert not names & set(gigaqc._HOME_OF)


@pytest.mark.parametrize("name", gigaqc.__all__)
def test_every_public_name_exists(name):
    assert getattr(gigaqc, name) is not None
    assert name in dir(gigaqc)


@pytest.mark.parametrize(
    ("module", "wrong", "meant"),
    [
        (gigaqc, "asess", "assess"),
        (gigaqc, "quantil", "quantile"),
        (gigaqc.pl, "sumary", "summary"),
        (gigaqc.spatial, "segment_nucleus", "segment_nuclei"),
    ],
)
def test_a_wrong_name_is_an_attribute_error_that_says_which_may_be_meant(module, wrong, meant):
    name = module.__name__
    message = f"module '{name}' has no attribute '{wrong}'; did you mean '{meant}'?"
    with pytest.raises(AttributeError, match=f"^{re.escape(message)}$"):
        getattr(module, wrong)


def test_a_name_that_is_near_to_none_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'gigaqc' has no attribute 'zzz'$"):
        gigaqc.zzz  # noqa: B018


def test_only_backend_asks_where_a_block_lives():
    users = {
        name for name, path in MODULES.items() if "on_host" in path.read_text(encoding="utf-8")
    }
    assert users == {"base.backend"}


def private_parts() -> dict[str, tuple[list[str], list[str]]]:
    """By the table of docs/design.md: what is leaned on, where, and which tests would tell."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    table = text.partition("## What leans on private parts")[2].partition("\n## ")[0]
    found = {}
    for row in re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \| .* \|$", table, re.M)[1:]:
        names, places, tests = (re.findall(r"`([^`]+)`", cell) for cell in row)
        found |= dict.fromkeys(names, (places, tests))
    return found


def test_the_table_of_private_parts_is_true():
    table = private_parts()
    for places, tests in table.values():
        assert all((SOURCE / place).exists() for place in places)
        assert tests and all((ROOT / test).exists() for test in tests)
    inside = re.compile(
        r"(zarr|dask|distributed|spatialdata|anndata|xarray)\.(.*\b_\w+|core\.(buffer|sync)"
        r"|highlevelgraph|order|blockwise|layers|protocol.*)"
    )
    used: dict[str, set[str]] = {}
    for path in MODULES.values():
        text = path.read_text(encoding="utf-8")
        for target in re.findall(r"^ *(?:from|import) ([\w.]+)", text, re.M):
            if inside.match(target):
                used.setdefault(target, set()).add(path.relative_to(SOURCE).as_posix())
    assert used
    for target, files in used.items():
        places = tuple(table[target][0])
        assert all(file.startswith(places) for file in files), (target, files)
