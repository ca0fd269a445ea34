"""StarDist and Cellpose themselves, each in an environment of its own: no stand-ins, no downloads.

A tiny model is made there on simulated nuclei, saved, and loaded by gigaqc (`real_models.py`). The
environments are kept in ``$GIGAQC_MODELS``, else in the user's cache: 3 GB with TensorFlow and 6 GB
with PyTorch, which take minutes to install once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.same_process]

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("real_models.py")
WANTED = {
    "stardist": ("stardist", "tensorflow"),
    "cellpose3": ("cellpose<4",),
    "cellpose4": ("cellpose>=4",),
}
ROOM = 12 << 30  # bytes that an environment takes while it is installed, and some


def environments() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("GIGAQC_MODELS") or cache / "gigaqc-models")


def interpreter(name: str) -> Path:
    """Python of an environment, which is made unless it is there; skips where it can't be."""
    folder = environments() / name
    python, complete = folder / "bin" / "python", folder / "complete"
    if complete.exists():
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder.parent).free < ROOM:
        pytest.skip(f"no room for {name} in {folder.parent}; name a folder with GIGAQC_MODELS")
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "install", "-q", str(ROOT), *WANTED[name]],
        [*pip, "uninstall", "-q", "-y", "gigaqc"],  # only what it needs: the source is this one
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            pytest.skip(f"{name} can't be installed: {said[-1] if said else command}")
    complete.touch()
    return python


@pytest.mark.parametrize("name", WANTED)
def test_a_tiny_model_is_loaded_and_stitched_in_any_chunks(name: str, tmp_path: Path) -> None:
    python = interpreter(name)
    package = name.rstrip("34")
    done = subprocess.run(
        [str(python), str(PROGRAM), package, str(tmp_path)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": "-1"},
    )  # fmt: skip
    assert not done.returncode, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["same"]
    assert found["nuclei"] == 169
    # Nine of ten are found, and hardly any of them touches two nuclei or is found twice.
    assert 0.9 * found["nuclei"] <= found["found"] <= 1.1 * found["nuclei"]
    assert found["pairs"] <= 1.15 * found["nuclei"]
