"""bottleneck's median, and MAD, along time, of an array in memory."""

import bottleneck
import numpy as np
import zarr

PACKAGE = "bottleneck"


def prepare(path):
    return zarr.open_array(path, mode="r")


def mad(stored):
    series = stored[:]
    middle = bottleneck.median(series, axis=0)
    return bottleneck.median(np.abs(series - middle), axis=0)


FUNCTIONS = {"median": mad}
