"""`image.gq` has the verbs, in whatever order xarray and gigaqc are imported."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import gigaqc as gq
from gigaqc.image.accessor import VERBS, ImageAccessor

FIRST = ("image", "images", "series", "labels")

IMAGE = "image = xr.DataArray(np.arange(64, dtype='u2').reshape(8, 8), dims=('y', 'x')).chunk(4)"
USE = f"import numpy as np; {IMAGE}; print(float(image.gq.scan(tile=8).compute().state.shift[0]))"


def image() -> xr.DataArray:
    pixels = np.random.default_rng(0).poisson(20, (2, 32, 32)).astype("u2")
    return xr.DataArray(pixels, dims=("c", "y", "x"), coords={"c": ["DNA", "CD3"]})


def output(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout


@pytest.mark.parametrize(
    "imports",
    [
        "import xarray as xr, gigaqc as gq",
        "import gigaqc as gq, xarray as xr",
        "import gigaqc as gq; gq.open_image; import xarray as xr",
        "import gigaqc, importlib.util; importlib.util.find_spec('xarray'); import xarray as xr",
        "import gigaqc, importlib; importlib.reload(gigaqc); import xarray as xr",
        "import xarray as xr, gigaqc, importlib; importlib.reload(gigaqc)",
    ],
)
def test_it_is_there_in_any_order_of_imports(imports):
    assert output(f"{imports}; print(hasattr(xr.DataArray, 'gq'))").split() == ["True"]


def test_it_works_on_an_image_of_xarray_after_gigaqc_was_imported():
    assert float(output(f"import gigaqc, xarray as xr; {USE}")) > 0


def test_it_leaves_the_loader_of_xarray_as_it_was():
    code = (
        "import gigaqc, sys, xarray, inspect; from importlib.machinery import SourceFileLoader;"
        "print(isinstance(xarray.__spec__.loader, SourceFileLoader),"
        "'accessor' in str(sys.meta_path), len(inspect.getsource(xarray)) > 0)"
    )
    assert output(code).split() == ["True", "False", "True"]


def test_it_has_every_verb():
    takers = set()
    for name in gq.__all__:
        thing = getattr(gq, name)
        if (
            inspect.isfunction(thing)
            and next(iter(inspect.signature(thing).parameters), "") in FIRST
        ):
            takers.add(name)
    assert set(VERBS) == takers


@pytest.mark.parametrize("verb", VERBS)
def test_a_method_has_signature_and_docstring_of_its_verb(verb):
    function, method = getattr(gq, verb), getattr(image().gq, verb)
    wanted = list(inspect.signature(function).parameters.values())[1:]
    assert list(inspect.signature(method).parameters.values()) == wanted
    assert method.__doc__ == function.__doc__
    assert getattr(ImageAccessor, verb) is function


def test_help_and_completion_show_the_verbs():
    shown = pydoc.render_doc(image().gq.scan, renderer=pydoc.plaintext)
    assert "scan(*,labels" in "".join(shown.split())  # from Python 3.13 on in lines
    assert "Observe everything that the metrics need" in shown
    assert set(VERBS) <= set(dir(image().gq))


def test_methods_are_the_verbs():
    xr.testing.assert_identical(
        image().gq.signal_to_noise(percentile=20).compute(),
        gq.signal_to_noise(image(), percentile=20).compute(),
    )
    assert (
        image()
        .gq.assess(progress=False)
        .channels.equals(gq.assess(image(), progress=False).channels)
    )
    labels = xr.DataArray(np.array([[1, 1, 0, 2]]), dims=("y", "x"))
    assert labels.gq.object_table().index.tolist() == [1, 2]


def test_a_wrong_name_says_which_may_be_meant():
    with pytest.raises(AttributeError, match=r"image\.gq has no attribute 'asess'; .*'assess'\?"):
        image().gq.asess  # noqa: B018
