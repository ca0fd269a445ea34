"""`import gigaqc` and `gigaqc --help` stay light."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

HEAVY = {
    "cupy",
    "distributed",
    "imagecodecs",
    "jinja2",
    "matplotlib",
    "nibabel",
    "numba",
    "pyarrow",
    "readimc",
    "skimage",
    "spatialdata",
    "tifffile",
    "zarr",
}


def loaded_by(code: str) -> set[str]:
    """Top-level modules that are loaded after the code."""
    code += "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


def cpu_seconds(code: str) -> float:
    """Processor time of one run: what else the machine does shows less in it than on a clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_import_loads_nothing_heavy():
    assert not loaded_by("import gigaqc") & (HEAVY | {"dask", "xarray", "numpy", "scipy"})


def test_opening_loads_no_reader_before_there_is_a_file():
    # pandas, which xarray needs, brings pyarrow where that is installed
    floor = loaded_by("import xarray, dask.array")
    assert not (loaded_by("import gigaqc; gigaqc.open_image") - floor) & HEAVY


def test_the_command_line_loads_nothing_heavy():
    code = "import gigaqc.cli, typer.main; typer.main.get_command(gigaqc.cli.app)"
    assert not loaded_by(code) & (HEAVY | {"dask", "xarray", "numpy"})


@pytest.mark.skipif("PYTHONPROFILEIMPORTTIME" in os.environ, reason="import times are printed")
def test_import_takes_below_1_3_of_xarray_and_dask():
    codes = ("import xarray, dask.array", "import gigaqc", "import gigaqc; gigaqc.open_image")
    rounds = [[cpu_seconds(code) for code in codes] for _ in range(3)]
    floor, bare, opening = (min(taken) for taken in zip(*rounds, strict=True))
    assert bare < 1.3 * floor
    assert opening < 1.3 * floor + 0.2
