"""What is written to a store that is removed at the same moment."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from gigaqc.errors import WriteError
from gigaqc.stores.staging import StagedArray


class Overtaken:
    """An array whose store is removed just before a block is written."""

    def __init__(self, array: zarr.Array) -> None:
        self._array = array

    def __getattr__(self, name: str) -> Any:
        return getattr(self._array, name)

    def __setitem__(self, place: Any, block: np.ndarray) -> None:
        shutil.rmtree(self._array.store.root)
        self._array[place] = block


@pytest.mark.parametrize("name", ["", "0", "labels/nuclei/0"])
def test_a_block_does_not_bring_a_part_of_a_removed_store_back(tmp_path: Path, name: str) -> None:
    root = tmp_path / "image.zarr"
    array = zarr.create_array(root, name=name or None, shape=(8, 8), chunks=(4, 4), dtype="u2")
    StagedArray(array)[:4, :4] = np.ones((4, 4), "u2")
    assert array[:].sum() == 16
    with pytest.raises(WriteError, match="was removed while it was written to"):
        StagedArray(Overtaken(array))[:4, :4] = np.ones((4, 4), "u2")
    assert not root.exists()


def test_what_others_put_beside_it_stays(tmp_path: Path) -> None:
    root = tmp_path / "image.zarr"
    array = zarr.create_array(root, name="0", shape=(8, 8), chunks=(4, 4), dtype="u2")
    staged = StagedArray(array)
    (root / "notes.txt").write_text("mine")
    shutil.rmtree(root / "0")
    with pytest.raises(WriteError, match="was removed"):
        staged[:4, :4] = np.ones((4, 4), "u2")
    assert (root / "notes.txt").read_text() == "mine"
