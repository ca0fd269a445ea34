"""What goes wrong is named, and nothing half-written is left behind."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from typer.testing import CliRunner

import gigaqc as gq
from gigaqc.cli import app
from gigaqc.errors import ParameterError, ReadError, WriteError
from gigaqc.graph import slabs

run = CliRunner()


def stored(folder: Path, dtype: str = "u2") -> Path:
    path = folder / "image.zarr"
    array = zarr.create_array(path, shape=(2, 64, 64), chunks=(1, 32, 32), dtype=dtype)
    array[:] = np.random.default_rng(0).poisson(30, (2, 64, 64))
    return path


@pytest.fixture
def verdict() -> gq.Assessment:
    return gq.assess(np.random.default_rng(0).poisson(30, (1, 64, 64)).astype("u2"), progress=False)


# ---- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_a_corrupt_chunk_is_named(tmp_path: Path, dtype: str) -> None:
    path = stored(tmp_path, dtype)
    (path / "c" / "1" / "0" / "1").write_bytes(b"no zstd")
    with pytest.raises(ReadError, match=r"image\.zarr.*chunk \(.*1.*0.*1.*\) cannot be read"):
        gq.assess(gq.open_image(path), progress=False)


def test_nothing_is_written_of_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    path = stored(tmp_path)
    (path / "c" / "0" / "1" / "1").write_bytes(b"no zstd")
    out = tmp_path / "out"
    done = run.invoke(app, ["assess", str(path), "-o", str(out), "--quiet"])
    assert done.exit_code == 3, done.output
    assert "chunk" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not any(p.name.startswith("image") for p in out.iterdir())
    assert "chunk" in gq.Cohort.load(out).summary["error"][0]


@pytest.mark.parametrize("fill", [0, 7])
def test_a_missing_chunk_is_the_fill_value(tmp_path: Path, fill: int) -> None:
    path = tmp_path / "image.zarr"
    array = zarr.create_array(path, shape=(64, 64), chunks=(32, 32), dtype="u2", fill_value=fill)
    array[:] = 100
    (path / "c" / "1" / "1").unlink()
    found = gq.quantile(gq.open_image(path), [0.0, 1.0]).compute()
    assert found.values.ravel().tolist() == [fill, 100]
    assert gq.histogram(gq.open_image(path), [fill, fill + 1]).counts.compute().item() == 1024


# ---- writing -------------------------------------------------------------------------------------

WRITERS: dict[str, Callable[[gq.Assessment, Path], None]] = {
    "x.html": lambda a, p: a.to_html(p),
    "x.json": lambda a, p: a.to_json(p),
    "x.zarr": lambda a, p: a.save(p),
    "s.zarr": lambda a, p: a.statistics.save(p),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_nothing(
    verdict: gq.Assessment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    existing: bool,
) -> None:
    path = tmp_path / name
    before = []
    if existing and not name.endswith(".zarr"):
        path.write_text("before")
        before = [path]

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WriteError, match=rf"^path: cannot write .*{name}"):
        WRITERS[name](verdict, path)
    assert list(tmp_path.iterdir()) == before
    assert all(p.read_text() == "before" for p in before)


@pytest.mark.parametrize("name", WRITERS)
def test_an_interruption_leaves_nothing_that_opens(
    verdict: gq.Assessment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    monkeypatch.setattr(Path, "write_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        WRITERS[name](verdict, tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_a_save_that_was_killed_leaves_no_store_that_opens(
    verdict: gq.Assessment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed: nobody cleans up after it. The last thing that is written makes it a store."""
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    real, written = Path.write_bytes, []

    def dies(self: Path, content: bytes) -> int:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(self.name)
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", dies)
    with pytest.raises(KeyboardInterrupt):
        verdict.statistics.save(tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()
    (left,) = tmp_path.iterdir()
    with pytest.raises(ReadError, match=r"holds no (readable )?statistics"):
        gq.Statistics.load(left)


@pytest.mark.parametrize("name", WRITERS)
def test_a_part_of_the_path_is_a_file(verdict: gq.Assessment, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=name):
        WRITERS[name](verdict, tmp_path / "file" / name)


@pytest.mark.parametrize("name", WRITERS)
def test_a_read_only_folder(verdict: gq.Assessment, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(WriteError, match=name):
        WRITERS[name](verdict, folder / name)


def test_the_command_line_leaves_no_part_of_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is written last; without it the page and the numbers go too."""
    path, out = stored(tmp_path), tmp_path / "out"

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    done = run.invoke(app, ["assess", str(path), "-o", str(out), "--quiet"])
    assert done.exit_code == 2, done.output
    assert "No space left" in done.stderr
    assert not any(out.iterdir())


@pytest.mark.parametrize("name", WRITERS)
def test_a_url_is_no_place_to_write_to(
    verdict: gq.Assessment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WriteError, match=r"^path: 's3://bucket/.*is a URL.*upload it"):
        WRITERS[name](verdict, f"s3://bucket/{name}")  # type: ignore[arg-type]
    done = run.invoke(app, ["assess", str(stored(tmp_path)), "-o", "s3://bucket/out", "--quiet"])
    assert done.exit_code == 2 and "is a URL" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["image.zarr"]


def test_nothing_is_replaced_unless_asked(verdict: gq.Assessment, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    verdict.save(path)
    with pytest.raises(WriteError, match="overwrite=True"):
        verdict.save(path)
    verdict.save(path, overwrite=True)
    assert gq.Assessment.load(path).name == verdict.name
    assert [p.name for p in tmp_path.iterdir()] == ["s.zarr"]


# ---- disks ---------------------------------------------------------------------------------------

DISK_RUNS: dict[str, Callable[[xr.DataArray, Path], Any]] = {
    "blur and write": lambda i, out: gq.write_image(gq.gaussian_blur(i, 1), out / "o.zarr"),
    "write TIFF": lambda i, out: gq.write_image(i, out / "o.ome.tif"),
    "write NIfTI": lambda i, out: gq.write_image(i, out / "o.nii"),
    "write labels": lambda i, out: gq.write_labels(i.isel(c=0, drop=True), out / "o.zarr"),
    "preprocess": lambda i, out: gq.write_image(
        gq.pixel_clustering_preprocess(i, sigma=1), out / "o.zarr"
    ),
    "gain_map": lambda i, out: gq.gain_map(
        i.rename(c="t").drop_vars("t"), estimator="variance", temporary=out, memory=300_000
    ).compute(),
    "segment_nuclei": lambda i, out: gq.segment_nuclei(
        i, 0, tile=64, overlap=8, diameter=3, temporary=out
    ).compute(),
    "object_table": lambda i, out: gq.object_table(
        i.isel(c=0, drop=True), i, to=out / "o.parquet"
    ),
    "scan": lambda i, out: gq.scan(i).save(out / "o.zarr"),
}  # fmt: skip


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes small disks of one's own, which takes root."""
    folders: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk{len(folders)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this user may not mount a disk")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def noise(tmp_path: Path) -> xr.DataArray:
    """That does not compress: 1 MiB; chunks of one frame."""
    path = tmp_path / "noise.zarr"
    array = zarr.create_array(path, shape=(32, 128, 128), chunks=(1, 128, 128), dtype="u2")
    array[:] = np.random.default_rng(0).integers(1, 60000, (32, 128, 128))
    return gq.open_image(path)


@pytest.mark.parametrize("name", DISK_RUNS)
def test_a_disk_that_fills_up(
    mounted: Callable[[str], Path],
    noise: xr.DataArray,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slabs, "_SMALLEST_LIMIT", 1)
    image = noise.isel(c=slice(0, 4)) if name in ("object_table", "segment_nuclei") else noise
    disk = mounted({"segment_nuclei": "size=4k", "write labels": "size=16k"}.get(name, "size=48k"))
    with pytest.raises(WriteError, match=rf"(path|to|temporary): .*{disk.name}.*[Nn]o space"):
        DISK_RUNS[name](image, disk)
    if name != "segment_nuclei":  # which keeps finished tiles for another try
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("name", DISK_RUNS)
def test_a_disk_that_cannot_be_written(
    mounted: Callable[[str], Path], noise: xr.DataArray, name: str
) -> None:
    disk = mounted("size=1m,ro")
    with pytest.raises((WriteError, ParameterError), match=rf"(path|to|temporary): .*{disk.name}"):
        DISK_RUNS[name](noise, disk)


def test_a_store_that_cannot_be_written_is_read(
    mounted: Callable[[str], Path], tmp_path: Path
) -> None:
    disk = mounted("size=4m")
    stored(disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    found = gq.assess(gq.open_image(disk / "image.zarr"), progress=False)
    assert found.channels["n_valid"].tolist() == [4096, 4096]


# ---- stores that change --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 40, 64), (1, 64, 64), (2, 64, 100)])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_that_is_resized_while_it_is_read(
    tmp_path: Path, shape: tuple[int, ...], zarr_format: int
) -> None:
    path = tmp_path / "image.zarr"
    array = zarr.create_array(
        path, shape=(2, 64, 64), chunks=(1, 32, 32), dtype="u2", zarr_format=zarr_format,
        fill_value=0,
    )  # fmt: skip
    array[:] = 7
    image = gq.open_image(path)
    zarr.open_array(path).resize(shape)
    pattern = (
        rf"chunk \(.*changed while it was read, its shape was \(2, 64, 64\) and is .*{shape[1]}"
    )
    with pytest.raises(ReadError, match=pattern):
        gq.scan(image).compute()


def test_new_attributes_of_a_store_are_no_change(tmp_path: Path) -> None:
    path = stored(tmp_path)
    image = gq.open_image(path)
    zarr.open_array(path).attrs["note"] = "seen"
    assert gq.scan(image).compute().distribution(0).n == 4096


def test_a_chunk_that_is_replaced_by_one_of_another_shape(tmp_path: Path) -> None:
    image = gq.open_image(stored(tmp_path))
    (tmp_path / "other").mkdir()
    other = zarr.create_array(
        tmp_path / "other" / "o.zarr", shape=(1, 16, 16), chunks=(1, 16, 16), dtype="u2"
    )
    other[:] = 7
    chunk = (tmp_path / "other" / "o.zarr" / "c" / "0" / "0" / "0").read_bytes()
    (tmp_path / "image.zarr" / "c" / "1" / "0" / "1").write_bytes(chunk)
    with pytest.raises(ReadError, match=r"chunk \(c=1, y=0, x=1\).*512 bytes and not 2048"):
        gq.scan(image).compute()
