"""smlmlp's gain of a camera, of an array in memory."""

import zarr
from smlmlp import detect_gain

PACKAGE = "smlmlp"


def prepare(path):
    return zarr.open_array(path, mode="r")


def gain(stored):
    gains, _ = detect_gain([stored[:]])
    return gains[0]


FUNCTIONS = {"detect_gain": gain}
