"""Which twin a block gets: by where its first array lives."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from device_array import DeviceArray

from gigaqc.base.backend import of_place, twin


def _there(block: object, by: int) -> str:
    return f"device {by}"


@twin(_there)
def picked(block: object, by: int) -> str:
    return f"host {by}"


HOST = np.arange(3)
DEVICE = DeviceArray(np.arange(3))


@pytest.mark.parametrize(("block", "where"), [(HOST, "host"), (DEVICE, "device")])
def test_the_first_array_decides(block: object, where: str) -> None:
    assert picked(block, 2) == f"{where} 2"
    assert picked([block, HOST], 2) == f"{where} 2"
    assert picked((block,), 2) == f"{where} 2"
    assert of_place(block, math, np).__name__ == ("math" if where == "host" else "numpy")


def test_it_goes_to_other_processes_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(picked)) is picked
