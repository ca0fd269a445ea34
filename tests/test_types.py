"""Public functions say in types what they take and what they return."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.axes import Axes

import gigaqc as gq
from gigaqc import typing as given
from gigaqc.scanning.scan import LazyStatistics

TAKES = {
    "image": given.ImageLike,
    "images": given.ImageLike,
    "series": given.ImageLike,
    "labels": given.LabelsLike,
    "mask": given.MaskLike,
    "noise_mask": given.MaskLike,
    "tissue": given.MaskLike,
    "where": given.RegionLike,
    "channel": given.ChannelLike,
    "reference": given.ChannelLike,
    "x": given.ChannelLike,
    "y": given.ChannelLike,
}
FLAGS = {("explain", "tissue")}  # whether there is any, not what it is


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in gq.__all__:
        thing = getattr(gq, name)
        if inspect.isfunction(thing):
            yield name, thing
    yield "PixelModel.predict", gq.PixelModel.predict
    yield "pl.map", gq.pl.map
    yield "pl.nuclei", gq.pl.nuclei


def members(hint: Any) -> set[Any]:
    """The types of a union, and of what sequences and mappings in it hold."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return set().union(*map(members, typing.get_args(hint)))
    inside = typing.get_args(hint) if typing.get_origin(hint) is not typing.Literal else ()
    return {hint}.union(*(members(part) for part in inside if not isinstance(part, str)))


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """With the names that are imported for type checkers only."""
    return typing.get_type_hints(function, localns={"pd": pd, "dd": dd, "Axes": Axes})


@pytest.mark.parametrize(("name", "function"), list(functions()))
def test_a_public_function_is_typed(name, function):
    found = hints(function)
    parameters = [p for p in inspect.signature(function).parameters if p != "self"]
    assert set(parameters) <= set(found)
    returned = members(found.pop("return"))
    assert Any not in returned
    for parameter in set(parameters) & set(TAKES):
        if (name, parameter) in FLAGS:
            continue
        assert Any not in members(found[parameter]), parameter
        if name == "assess_batch" and parameter == "labels":
            continue  # a pattern of paths, or labels by sample
        lacking = members(TAKES[parameter]) - members(found[parameter])
        assert not lacking, f"{parameter} lacks {lacking}"


def test_what_takes_masks_beside_elements_says_so():
    for function, parameter in (
        ("assess", "tissue"),
        ("assess", "mask"),
        ("cluster_pixels", "mask"),
    ):
        signature = inspect.signature(getattr(gq.spatial, function))
        assert "MaskLike" in signature.parameters[parameter].annotation


TAKES_STATISTICS = (
    "acquisition_artifacts", "assess", "channel_correlation", "dynamic_range", "focus", "histogram",
    "isnr", "object_table", "quantile", "region", "segmentation_quality", "signal_to_noise",
    "stained_area",
)  # fmt: skip


def test_what_takes_statistics_says_so():
    first = {}
    for name, function in functions():
        found = hints(function)
        parameter = next((p for p in inspect.signature(function).parameters if p in found), None)
        first[name] = members(found[parameter]) if parameter else set()
    saying = {name for name, taken in first.items() if {gq.Statistics, LazyStatistics} <= taken}
    assert saying == set(TAKES_STATISTICS)


@pytest.mark.parametrize("name", given.__all__)
def test_types_can_be_imported_by_name(name):
    assert getattr(gq.typing, name) is not None


def test_arrays_have_what_the_protocol_asks():
    wanted = {n for n in vars(given.ArrayLike) if n in ("shape", "dtype", "ndim", "__getitem__")}
    for array in (np.ones((2, 2)), xr.DataArray(np.ones((2, 2)))):
        assert all(hasattr(array, name) for name in wanted)
