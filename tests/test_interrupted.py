"""Ctrl-C: a run stops at once, and nothing half-written or temporary is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gigaqc import testing

SCRIPT = """
import signal
import dask
import gigaqc as gq


def main():
    image, out = gq.open_image({image!r}), {out!r}
    series = gq.open_image({series!r}, dims="tyx")
    if {processes}:
        import distributed
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
        )
        client = distributed.Client(cluster)
    else:
        dask.config.set(scheduler="threads", num_workers=2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    print("ready", flush=True)
    try:
        {code}
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        raise
    print("finished", flush=True)

if __name__ == "__main__":
    main()
"""

RUNS = {
    "assess": "gq.assess(image, progress=False)",
    "blur and write": "gq.write_image(gq.gaussian_blur(image, 2), out + '/o.zarr')",
    "write TIFF": "gq.write_image(gq.gaussian_blur(image, 2), out + '/o.ome.tif')",
    "preprocess": "gq.write_image(gq.pixel_clustering_preprocess(image), out + '/o.zarr')",
    "gain_map": "gq.gain_map(series, temporary=out, memory='20MB').compute()",
    "object_table": "gq.object_table(image.isel(c=0, drop=True), image, to=out + '/o.parquet')",
    "cluster_pixels": "gq.cluster_pixels(image, 3, method='kmeans')",
}
WHERE = [
    pytest.param(name, processes, id=f"{name}-{'processes' if processes else 'threads'}",
                 marks=[] if (name, processes) in {("write TIFF", False)}
                 else [pytest.mark.slow])
    for name in RUNS
    for processes in (False, True)
]  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An image and a series that keep any of the runs at work for long."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    blocks = [rng.poisson(30 + k, (1, 1024, 1024)).astype("u2") for k in range(4)]
    image = testing.sparse_store(
        folder / "i.zarr", (2, 16384, 16384), (1, 1024, 1024), blocks=blocks
    )
    frames = [block[:, :512, :512] for block in blocks]
    series = testing.sparse_store(folder / "s.zarr", (1500, 512, 512), (1, 512, 512), blocks=frames)
    return image, series


@pytest.mark.parametrize(("name", "processes"), WHERE)
def test_ctrl_c(images: tuple[Path, Path], tmp_path: Path, name: str, processes: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    code = SCRIPT.format(
        image=str(images[0]), series=str(images[1]), out=str(out), processes=processes,
        code=RUNS[name],
    )  # fmt: skip
    script = tmp_path / "run.py"
    script.write_text(code)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, script], stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        writes = name not in ("assess", "cluster_pixels")
        deadline = time.monotonic() + 60
        while writes and not any(out.rglob("*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)  # in the middle of it
        # All processes of the terminal get it.
        os.killpg(process.pid, signal.SIGINT)
        start = time.monotonic()
        assert process.stdout.readline() == "interrupted\n"
        stopped = time.monotonic() - start
        try:
            process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert stopped < 2, stopped
    assert process.returncode not in (0, None)
    assert list(out.rglob("*")) == []
