"""Results of `gq.spatial.assess` in napari, where napari-spatialdata and a Qt are installed.

Run in a process of its own: Qt without a screen must be chosen before it starts, and its threads
and warnings concern no other test. napari brings a plugin of pytest, whose imports warn:
PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 leaves it out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("napari_spatialdata") is None
    or importlib.util.find_spec("spatialdata") is None,
    reason="napari-spatialdata is not installed",
)

SCRIPT = """
import json, sys, time
import numpy as np, spatialdata
from spatialdata.models import Image2DModel
import gigaqc as gq
from napari_spatialdata import Interactive
from napari_spatialdata._view import QtAdataViewWidget
from qtpy.QtWidgets import QApplication

pixels = np.random.default_rng(0).poisson(30, (2, 90, 80)).astype("u2")
image = Image2DModel.parse(pixels, dims=("c", "y", "x"), c_coords=["DNA", "CD3"])
spatialdata.SpatialData(images={"one": image}).write(sys.argv[1])
sdata = spatialdata.read_zarr(sys.argv[1])
gq.spatial.assess(sdata, "one", tile=32, progress=False)
shown = Interactive(spatialdata.read_zarr(sys.argv[1]), headless=True)
viewer = shown._viewer
for count, name in enumerate(["one", "qc_img_one_grid"], start=1):
    shown.add_element(name, "global")
    end = time.monotonic() + 60
    while len(viewer.layers) < count and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)
    for _ in range(20):  # the worker that added the layer ends
        QApplication.processEvents()
        time.sleep(0.02)
layer = viewer.layers["qc_img_one_grid"]
widget = QtAdataViewWidget(viewer)
viewer.layers.selection.active = layer
columns = widget.var_widget
names = [columns.item(k).text() for k in range(columns.count())]
columns._onAction(["qc_mean:CD3"])
colours = np.unique(np.asarray(layer.face_color).round(4), axis=0)
print(json.dumps({"tiles": len(layer.data), "names": names, "colours": len(colours)}), flush=True)
import os
os._exit(0)  # Qt's threads end with the process
"""


def test_tiles_are_shapes_coloured_by_the_table(tmp_path: Path) -> None:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path / "s.zarr")],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr[-2000:]
    found = json.loads(lines[-1])
    assert found["tiles"] == 9
    assert "qc_mean:CD3" in found["names"] and len(found["names"]) == 16
    assert found["colours"] == 9
