"""Other chunks of an image, always by ordinary tasks.

Where there is a cluster, dask may rechunk by its P2P shuffle. The tasks of that find one another by
their keys, through a state of the scheduler: they cannot be copied into another graph, nor be done
within a task, nor be begun before all are there, and all that goes on here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import Alias
from dask.highlevelgraph import HighLevelGraph

_SHUFFLE = "P2PRechunkLayer"  # by name: distributed may not be imported


def rechunked(image: xr.DataArray, chunks: Mapping[Any, Any]) -> xr.DataArray:
    """An image over dask in other chunks, as `DataArray.chunk` takes them."""
    axes = {axis: chunks[dim] for axis, dim in enumerate(image.dims) if dim in chunks}
    return image.copy(data=rechunked_array(image.data, axes))


def rechunked_array(array: da.Array, chunks: Any) -> da.Array:
    """A dask array in other chunks, as its own `rechunk` takes them."""
    return array.rechunk(chunks, method="tasks")


def by_tasks(array: da.Array) -> da.Array:
    """The same array, rechunked by ordinary tasks where it was to be by a shuffle."""
    graph = array.dask
    layers = graph.layers if isinstance(graph, HighLevelGraph) else {}
    shuffles = {name: layer for name, layer in layers.items() if type(layer).__name__ == _SHUFFLE}
    if not shuffles:
        return array
    replaced, needed = dict(graph.layers), dict(graph.dependencies)
    for name, layer in shuffles.items():
        given: Any = layer
        source = da.Array(graph, given.name_input, given.chunks_input, array.dtype)
        found = rechunked_array(source, given.chunks)
        added = found.dask.layers.keys() - graph.layers.keys()
        replaced.update({n: found.dask.layers[n] for n in added})
        needed.update({n: found.dask.dependencies[n] for n in added})
        kept = (index for index in np.ndindex(given.keepmap.shape) if given.keepmap[index])
        replaced[name] = {
            (name, *index): Alias((name, *index), (found.name, *index)) for index in kept
        }
        needed[name] = {found.name}
    return da.Array(HighLevelGraph(replaced, needed), array.name, array.chunks, meta=array._meta)
