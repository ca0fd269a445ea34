"""StarDist and Cellpose as they are called: stand-ins in their place, and what is said without."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from skimage.measure import label as components

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import MissingDependencyError, ParameterError, SegmentationError
from gigaqc.segmentation import methods

pytestmark = pytest.mark.same_process  # stand-ins for packages

RNG = np.random.default_rng(0)
IMAGE = RNG.poisson(10, (130, 150)).astype("u2")
for _y in range(10, 120, 18):
    for _x in range(10, 140, 18):
        IMAGE[_y : _y + 9, _x : _x + 8] += 100
WANT = components(IMAGE > 60)
QUANTILES = np.quantile(IMAGE.astype("f8"), [0.01, 0.998])


def threshold_of(scaled: np.ndarray) -> np.ndarray:
    low, high = QUANTILES
    return components(scaled * (high - low) + low > 60)


class Calls(list):
    """What was loaded and called with."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Stand-ins for both packages, with the signatures of the real ones."""
    made = Calls()

    class StarDist2D:
        def __init__(self, config: Any, name: Any = None, basedir: Any = ".") -> None:
            made.append(("folder", config, name, basedir))

        @classmethod
        def from_pretrained(cls, name_or_alias: Any = None) -> Any:
            made.append(("pretrained", name_or_alias))
            if name_or_alias == "offline":
                raise OSError("no route to host")
            return None if name_or_alias == "unknown" else object.__new__(cls)

        def predict_instances(self, img: Any, axes: Any = None, **options: Any) -> Any:
            made.append(("predict", img.dtype, img.shape, axes, options))
            return threshold_of(img), {"prob": []}

    class CellposeModel:
        def __init__(self, gpu: bool = False, pretrained_model: Any = False) -> None:
            made.append(("load", gpu, pretrained_model))

        def eval(self, x: Any, normalize: Any = True, diameter: Any = None, **options: Any) -> Any:
            made.append(("eval", x.dtype, normalize, diameter, options))
            return threshold_of(x), [], []

    for package, parts in {
        "stardist": {"StarDist2D": StarDist2D},
        "cellpose": {
            "CellposeModel": CellposeModel,
            "MODEL_NAMES": ["cyto3", "nuclei"],
            "get_user_models": lambda: ["ours"],
        },
    }.items():
        module = ModuleType(f"{package}.models")
        for name, value in parts.items():
            setattr(module, name, value)
        parent = ModuleType(package)
        parent.models = module  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, package, parent)
        monkeypatch.setitem(sys.modules, f"{package}.models", module)
    monkeypatch.setattr(methods, "_LOADED", {})
    return made


def test_stardist(calls: Calls) -> None:
    with testing.forbid_compute():
        labels = gq.segment_nuclei(
            IMAGE, 0, method="stardist", tile=64, overlap=20, prob_thresh=0.4, scale=2
        )
    assert not calls
    np.testing.assert_array_equal(labels.values, WANT)
    assert [c for c in calls if c[0] == "pretrained"] == [("pretrained", "2D_versatile_fluo")]
    predicted = [c for c in calls if c[0] == "predict"]
    assert len(predicted) == 9
    assert {(c[1].name, c[3]) for c in predicted} == {("float32", "YX")}
    assert all(c[4] == {"prob_thresh": 0.4, "scale": 2} for c in predicted)
    gq.segment_nuclei(IMAGE, 0, method="stardist").compute()
    assert sum(c[0] == "pretrained" for c in calls) == 1  # loaded once a process


def test_stardist_from_disk(calls: Calls, tmp_path: Path) -> None:
    folder = tmp_path / "my_model"
    folder.mkdir()
    for model in (folder, str(folder)):
        gq.segment_nuclei(IMAGE, 0, method="stardist", model=model).compute()
    assert [c for c in calls if c[0] != "predict"] == [("folder", None, "my_model", str(tmp_path))]


def test_a_model_that_is_loaded_already(calls: Calls) -> None:
    class Mine:
        def predict_instances(self, img: np.ndarray, axes: str) -> Any:
            return threshold_of(img), {}

    found = gq.segment_nuclei(IMAGE, 0, method="stardist", model=Mine())
    np.testing.assert_array_equal(found.values, WANT)
    assert not calls


def test_cellpose(calls: Calls) -> None:
    labels = gq.segment_nuclei(
        IMAGE, 0, method="cellpose", diameter=9, tile=64, cellprob_threshold=-1.0, gpu=True
    )
    np.testing.assert_array_equal(labels.values, WANT)
    assert [c for c in calls if c[0] == "load"] == [("load", True, "nuclei")]
    evaluated = [c for c in calls if c[0] == "eval"]
    assert len(evaluated) == 9
    for _, dtype, normalize, diameter, options in evaluated:
        assert (dtype, normalize, diameter) == (np.float32, False, 9.0)
        assert options == {"cellprob_threshold": -1.0}


def test_cellpose_from_disk_and_by_name(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "weights").touch()
    for model in (tmp_path / "weights", "ours", "cyto3"):
        gq.segment_nuclei(IMAGE, 0, method="cellpose", model=model).compute()
    loaded = [c[2] for c in calls if c[0] == "load"]
    assert loaded == [str(tmp_path / "weights"), "ours", "cyto3"]


def test_normalize_off_gives_the_values(calls: Calls) -> None:
    seen: list[np.ndarray] = []

    class Mine:
        def eval(self, x: np.ndarray, normalize: bool) -> Any:
            seen.append(x)
            return np.zeros(x.shape, int), [], []

    image = IMAGE.astype("f4")
    image[0, 0] = np.nan
    gq.segment_nuclei(image, 0, method="cellpose", model=Mine(), normalize=False).compute()
    np.testing.assert_array_equal(seen[0], np.nan_to_num(image))


@pytest.mark.parametrize("image", [np.full((20, 20), 5, "u1"), np.full((20, 20), np.nan, "f4")])
def test_a_channel_without_contrast_is_0(image: np.ndarray) -> None:
    seen: list[np.ndarray] = []

    class Mine:
        def eval(self, x: np.ndarray, normalize: bool) -> Any:
            seen.append(x)
            return np.zeros(x.shape, int), [], []

    assert not gq.segment_nuclei(image, 0, method="cellpose", model=Mine()).values.any()
    assert not seen[0].any()


@pytest.mark.parametrize(
    "method, model, said",
    [
        (
            "stardist",
            "offline",
            "stardist could not load 'offline' .OSError: no route.* folder of a model",
        ),
        ("stardist", "unknown", "stardist has no 'unknown'; pass model=, the folder"),
        ("cellpose", "nucleus", "cellpose has no 'nucleus'; pass model=, the file"),
    ],
)
def test_weights_that_are_not_there(calls: Calls, method: str, model: str, said: str) -> None:
    for on_error in ("raise", "skip"):  # there is no tile that it could be skipped on
        labels = gq.segment_nuclei(IMAGE, 0, method=method, model=model, on_error=on_error)  # type: ignore[arg-type]
        with pytest.raises(SegmentationError, match="^model: " + said):
            labels.compute()
    with pytest.raises(ParameterError, match="there is nothing at"):
        gq.segment_nuclei(IMAGE, 0, method=method, model=Path("no/such"))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["stardist", "cellpose"])
def test_without_the_package(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, method, None)
    said = f"method: '{method}' needs .*; pip install {method}.*model='"
    with testing.forbid_compute(), pytest.raises(MissingDependencyError, match=said):
        gq.segment_nuclei(IMAGE, 0, method=method)
