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

# A room is a module, or a package.
LEVELS = {
    "_version": 0,
    "errors": 0,
    "backend": 0.5,
    "config": 0.5,
    "grid": 0.5,
    "machine": 0.5,
    "representation": 0.5,
    "naming": 0.5,
    "typing": 0.5,
    "units": 0.5,
    "packing": 0.5,
    "rechunking": 0.5,
    "settling": 0.6,
    "cutting": 0.7,
    "kernels": 1,
    "stores": 1,
    "polygons": 1.1,
    "image": 1.2,
    "readers": 2,
    "devices": 2.05,
    "sdata": 2,
    "distribution": 2,
    "states": 2.1,
    "unreadable": 2.1,
    "objectsums": 2.1,
    "observe": 2.2,
    "statistics": 2.3,
    "formulas": 3,
    "reading": 3.3,
    "taking": 3.4,
    "passes": 3.5,
    "halos": 3.5,
    "mapping": 3.6,
    "scratch": 3.6,
    "series": 3.7,
    "slabs": 3.8,
    "objects": 3.9,
    "scanning": 4,
    "rules": 4,
    "tissue": 4.5,
    "pixels": 4.5,
    "quality": 5,
    "transforms": 5,
    "preprocess": 5.2,
    "clusters": 5,
    "noise": 5.2,
    "writers": 5,
    "regions": 5.2,
    "segmentation": 5,
    "plot": 5,
    "planning": 6,
    "results": 6,
    "judge": 6,
    "meters": 5.9,
    "progress": 6,
    "samples": 6,
    "workers": 6,
    "tables": 6,
    "report": 6,
    "assessment": 7,
    "cohort": 7.5,
    "spatial": 8,
    "testing": 8,
    "": 9,  # gigaqc itself: the public names
    "accessor": 9.5,
    "cli": 10,
    "__main__": 11,
}

FORBIDDEN = {
    "kernels": {"dask", "xarray", "zarr", "fsspec", "pandas"},
    "formulas": {"dask", "zarr", "fsspec"},
    "rules": {"dask", "zarr"},
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
    """Modules that a module may import: ``from a import b`` tells of a and of a.b."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", ["readers", "stores", "writers"])
def test_modules_of_a_room_import_one_another_one_way(name):
    left = within(name)
    while free := {module for module, needed in left.items() if not needed}:
        left = {m: needed - free for m, needed in left.items() if m not in free}
    assert not left, f"in or after a circle: { {m: sorted(n) for m, n in sorted(left.items())} }"


@pytest.mark.parametrize(("name", "other"), [("readers", "writers"), ("writers", "readers")])
def test_readers_and_writers_know_nothing_of_one_another(name, other):
    found = [m for m in MODULES if room(m) == name for t, _ in imports(m, MODULES[m])
             if t.startswith(f"gigaqc.{other}")]  # fmt: skip
    assert not found


def test_whatever_takes_an_image_takes_a_path(tmp_path):
    """Readers stand above the module that takes images, which loads them by their name."""
    code = f"from gigaqc.image import as_image; as_image({str(tmp_path / 'none.tif')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "SourceNotFoundError: image: " in done.stderr


def test_only_backend_imports_cupy():
    users = {
        name
        for name, path in MODULES.items()
        for target, _ in imports(name, path)
        if target.partition(".")[0] in ("cupy", "cupyx", "cupy_backends")
    }
    assert users <= {"backend"}


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
    assert users == {"naming"}


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


def test_only_dispatch_asks_where_a_block_lives():
    users = {
        name
        for name, path in MODULES.items()
        if "on_host" in path.read_text(encoding="utf-8") and name != "backend"
    }
    assert users == {"kernels.dispatch"}
