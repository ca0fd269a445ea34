"""IMC files against readimc's own reading."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from gigaqc import list_images, open_image
from gigaqc.errors import ElementError, MissingDependencyError, ParameterError, ReadError
from gigaqc.testing import forbid_compute

readimc = pytest.importorskip("readimc")


@pytest.fixture
def mcd(data_dir: Path) -> Path:
    return data_dir / "imc_bodenmiller_testdata" / "raw_mcd" / "20210305_NE_mockData3.mcd"


def save_text(path: Path, keep: int | None = None) -> np.ndarray:
    data = np.random.default_rng(5).poisson(3.0, (2, 6, 9)).astype(np.float32)
    names = [
        "Start_push",
        "End_push",
        "Pushes_duration",
        "X",
        "Y",
        "Z",
        "DNA(Ir191Di)",
        "CD3(Er170Di)",
    ]
    lines = ["\t".join(names)]
    for y in range(6):
        for x in range(9):
            lines.append("\t".join(map(str, [0, 0, 0, x, y, 0, *data[:, y, x]])))
    path.write_text("\n".join(lines[: None if keep is None else keep + 1]) + "\n")
    return data


def test_acquisitions(mcd: Path) -> None:
    assert list_images(mcd) == ["ROI_001", "ROI_002", "ROI_003"]
    with pytest.raises(ElementError, match="holds 3 images; name one of 'ROI_001'"):
        open_image(mcd)
    with readimc.MCDFile(mcd) as file:
        acquisitions = file.slides[0].acquisitions
        for name, acquisition in zip(list_images(mcd), acquisitions, strict=True):
            with forbid_compute():
                image = open_image(mcd, element=name)
            expected = file.read_acquisition(acquisition)
            np.testing.assert_array_equal(image.values, expected)
            rows = open_image(mcd, element=name, chunks={"c": 2, "y": 7, "x": 20})
            np.testing.assert_array_equal(pickle.loads(pickle.dumps(rows)).values, expected)
            assert image.c.values[1] == "Cytoker_651((3356))Pr141"
            assert image.attrs["pixel_size"] == {"y": 1.0, "x": 1.0}
            assert image.attrs["unit"] == "micrometer"


def test_pixels_out_of_order(mcd: Path, tmp_path: Path) -> None:
    with readimc.MCDFile(mcd) as file:
        acquisition = file.slides[0].acquisitions[0]
        start = int(acquisition.metadata["DataStartOffset"])
        stop = int(acquisition.metadata["DataEndOffset"])
        expected = file.read_acquisition(acquisition)
    content = bytearray(mcd.read_bytes())
    table = np.frombuffer(content[start:stop], np.float32).reshape(-1, 8)
    content[start:stop] = np.random.default_rng(0).permutation(table).tobytes()
    path = tmp_path / "mixed.mcd"
    path.write_bytes(content)
    image = open_image(path, element="ROI_001", chunks={"y": 7})
    np.testing.assert_array_equal(image.values, expected)


def test_truncated_mcd(mcd: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mcd"
    path.write_bytes(mcd.read_bytes()[:100_000])
    with pytest.raises(ReadError, match=r"a\.mcd.*(corrupt or )?truncated"):
        open_image(path)


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "roi.txt"
    data = save_text(path)
    with forbid_compute():
        image = open_image(path)
    assert list(image.c.values) == ["DNA", "CD3"]
    np.testing.assert_array_equal(image.values, data)
    with readimc.TXTFile(path) as file:
        np.testing.assert_array_equal(image.values, file.read_acquisition())
    assert list_images(path) == ["roi"]
    with pytest.raises(ParameterError, match="no levels"):
        open_image(path, level=1)


def test_text_of_an_interrupted_acquisition(tmp_path: Path) -> None:
    path = tmp_path / "roi.txt"
    data = save_text(path, keep=30)
    image = open_image(path)
    assert dict(image.sizes) == {"c": 2, "y": 4, "x": 9}
    np.testing.assert_array_equal(image.values[:, :3], data[:, :3])
    assert not image.values[:, 3, 3:].any()


def test_text_that_is_cut_within_a_line(tmp_path: Path) -> None:
    path = tmp_path / "roi.txt"
    save_text(path, keep=0)
    with pytest.raises(ReadError, match="without whole pixel lines"):
        open_image(path)


def test_without_readimc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_text(tmp_path / "roi.txt")
    monkeypatch.setitem(sys.modules, "readimc", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "gigaqc\[imc\]"'):
        open_image(tmp_path / "roi.txt")
