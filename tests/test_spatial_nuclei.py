"""Nuclei of SpatialData elements, with a store and without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_spatial import again, make, pixels_of

import gigaqc as gq
from gigaqc.errors import ChannelError, ElementError, ParameterError, WriteError

pytestmark = pytest.mark.filterwarnings("ignore")  # those of spatialdata's own dependencies


@pytest.fixture(params=["memory", "store"])
def sdata(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    return make(None if request.param == "memory" else tmp_path)


def everything(block: np.ndarray) -> np.ndarray:
    return (block > 30).astype("u1")


def test_labels_of_an_image(sdata: Any) -> None:
    from spatialdata.models import get_model
    from spatialdata.transformations import get_transformation

    options: dict[str, Any] = {"diameter": 8, "tile": 32, "threshold": 33.0}
    found = gq.spatial.segment_nuclei(
        sdata, ["one", "two"], ["nuclei", "others"], "DNA", chunks=40, scale_factors=[2], **options
    )
    assert found is sdata
    for held in (sdata, again(sdata)):
        for layer, output in (("one", "nuclei"), ("two", "others")):
            element = held.labels[output]
            get_model(element)().validate(element)
            want = gq.segment_nuclei(held[layer], "DNA", **options).values
            assert want.max() > 3
            np.testing.assert_array_equal(pixels_of(element), want)
            assert set(get_transformation(element, get_all=True)) == {"global", "um"}
        assert held.attrs["gigaqc"]["nuclei"] == {"method": "watershed", "channel": "DNA"}


def test_a_function(sdata: Any) -> None:
    gq.spatial.segment_nuclei(sdata, "one", "n", np.int64(1), method=everything)
    assert again(sdata).attrs["gigaqc"]["n"] == {"method": "everything", "channel": 1}
    assert pixels_of(sdata.labels["n"]).max() == 1


def test_refused_before_anything_is_read(sdata: Any) -> None:
    with pytest.raises(ElementError, match="no image is named 'three'"):
        gq.spatial.segment_nuclei(sdata, "three", "n", "DNA")
    with pytest.raises(WriteError, match="images has 'one' already"):
        gq.spatial.segment_nuclei(sdata, "one", "one", "DNA")
    with pytest.raises(ChannelError, match="no channel 'DAPI'"):
        gq.spatial.segment_nuclei(sdata, "one", "n", "DAPI")
    with pytest.raises(ParameterError, match="tile: got 3"):
        gq.spatial.segment_nuclei(sdata, "one", "n", "DNA", tile=3)
    assert "n" not in sdata.labels
