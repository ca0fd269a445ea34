"""ukat's signal to noise, of arrays in memory.

The classes are loaded from their file: the package imports its segmentation, and that a framework
of gigabytes.
"""

import importlib.util
from pathlib import Path

import numpy as np
import zarr

PACKAGE = "ukat"
spec = importlib.util.find_spec(PACKAGE)
path = Path(spec.submodule_search_locations[0], "qa", "snr.py")
spec = importlib.util.spec_from_file_location("snr", path)
snr = importlib.util.module_from_spec(spec)
spec.loader.exec_module(snr)


def prepare(path):
    return zarr.open_array(path, mode="r")


def tsnr(stored):
    return snr.Tsnr(np.ascontiguousarray(np.moveaxis(stored[:], 0, -1)), np.eye(4)).tsnr_map


def isnr(stored):
    # Given whole numbers, scikit-learn 1.9 cuts the log probabilities that it predicts by.
    return snr.Isnr(stored[:].astype("f8"), np.eye(4)).isnr


FUNCTIONS = {"Tsnr": tsnr, "Isnr": isnr}
