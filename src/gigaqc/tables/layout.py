"""An assessment as a grid of tiles and tables that annotate it, put into a SpatialData."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from gigaqc.base.geometry import count_tiles
from gigaqc.errors import ParameterError, WriteError
from gigaqc.image.labelled import as_image
from gigaqc.image.spatialdata import (
    check_free,
    check_images,
    put,
    spatialdata_module,
    transformations_of,
)
from gigaqc.stores.staging import remove, staged

if TYPE_CHECKING:
    from spatialdata import SpatialData


PREFIX = "qc_img_"
_REGION, _TILE_ID, _LABEL = "grid_name", "tile_id", "label"


@dataclass(frozen=True)
class Names:
    """Names of the elements that an image's assessment becomes; the grid is shapes."""

    grid: str
    tiles: str
    channels: str
    objects: str

    @classmethod
    def of(cls, key: str) -> Names:
        """Those for an image element."""
        tiles = f"{PREFIX}{key}"
        return cls(f"{tiles}_grid", tiles, f"{tiles}_channels", f"{tiles}_objects")

    def elements(self, *, objects: bool) -> list[tuple[str, str]]:
        """Kind and name of each, with or without a table of objects."""
        tables = [self.tiles, self.channels, *([self.objects] if objects else [])]
        return [("shapes", self.grid), *(("tables", name) for name in tables)]


@dataclass(frozen=True)
class Grid:
    """Rectangles of the tiles of a plane, row by row."""

    height: int
    width: int
    tile: int

    @property
    def shape(self) -> tuple[int, int]:
        """How many tiles along y and x."""
        return count_tiles(self.height, self.tile), count_tiles(self.width, self.tile)

    def bounds(self) -> np.ndarray:
        """First y and x, and one more than the last, of each tile: int64 (n, 4)."""
        y, x = (self.tile * i.ravel() for i in np.indices(self.shape))
        ends = np.minimum(y + self.tile, self.height), np.minimum(x + self.tile, self.width)
        return np.stack([y, x, *ends], axis=1).astype("i8")


def grid_shapes(grid: Grid) -> Any:
    """The tiles as a GeoDataFrame, in pixels: the first reaches from 0 to the tile's side."""
    import geopandas
    import shapely

    y0, x0, y1, x1 = grid.bounds().T
    # Without columns: napari-spatialdata 0.7 fails on shapes that have more than geometry.
    return geopandas.GeoDataFrame(geometry=shapely.box(x0, y0, x1, y1))


def tile_table(assessment: Any, key: str, grid: Grid) -> Any:
    """One row a tile, one column a metric of a channel, annotating the grid."""
    from anndata import AnnData

    names, bounds = Names.of(key), grid.bounds()
    tile_y, tile_x = (i.ravel() for i in np.indices(grid.shape))
    middle = (bounds[:, :2] + bounds[:, 2:]) / 2
    obs = pd.DataFrame(
        {
            "tile_y": tile_y,
            "tile_x": tile_x,
            "centroid_y": middle[:, 0],
            "centroid_x": middle[:, 1],
            _REGION: pd.Categorical([names.grid] * len(bounds)),
            _TILE_ID: np.arange(len(bounds)),
        },
        index=[f"tile_x{x}_y{y}" for y, x in zip(tile_y, tile_x, strict=True)],
    )
    var, values, planes = _columns_of(assessment.tiles)
    about = {
        "image_key": key,
        "metrics": [str(name) for name in assessment.tiles.data_vars],
        "tile_size_y": grid.tile,
        "tile_size_x": grid.tile,
        "image_height": grid.height,
        "image_width": grid.width,
        "n_tiles_y": grid.shape[0],
        "n_tiles_x": grid.shape[1],
    }
    table = AnnData(_mean(values), obs=obs, var=var, uns={"qc_image": storable(about)})
    table.uns["gigaqc"] = _verdict(assessment)
    table.obsm["spatial"] = middle[:, ::-1].copy()
    if len(planes) > 1:
        for name, plane in zip(planes, values, strict=True):
            table.layers[name] = plane
    return _parsed(table, names.grid, _REGION, _TILE_ID)


def channel_table(assessment: Any, key: str) -> Any:
    """One row a channel, one column a metric; it annotates no element."""
    from anndata import AnnData

    channels = assessment.channels
    marks = [n for n in channels if channels[n].dtype == bool or channels[n].dtype.kind not in "if"]
    numbers = channels.drop(columns=marks).astype("f8")
    index = [str(name) for name in channels.index]
    obs = pd.DataFrame({name: channels[name].to_numpy() for name in marks}, index=index)
    var = pd.DataFrame(index=list(numbers.columns))
    table = AnnData(numbers.to_numpy(), obs=obs, var=var, uns={"qc_image": {"image_key": key}})
    table.obsp["correlation"] = np.asarray(assessment.correlation.values, "f8")
    return _parsed(table)


def object_table(assessment: Any, key: str, labels_key: str | None) -> Any:
    """One row an object, one column a measure, annotating the labels where these are known."""
    from anndata import AnnData

    objects = assessment.objects
    index = [str(label) for label in objects.index]
    obs = pd.DataFrame({_LABEL: objects.index.to_numpy()}, index=index)
    var = pd.DataFrame(index=[str(name) for name in objects.columns])
    table = AnnData(objects.to_numpy("f8"), obs=obs, var=var, uns={"qc_image": {"image_key": key}})
    table.obsm["spatial"] = objects[["centroid_x", "centroid_y"]].to_numpy("f8") + 0.5
    if labels_key is None:
        return _parsed(table)
    table.obs["region"] = pd.Categorical([labels_key] * len(objects))
    return _parsed(table, labels_key, "region", _LABEL)


def _columns_of(tiles: xr.Dataset) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """The columns, the values (plane, tile, column), and the names of the planes."""
    dims = [d for d in ("t", "z") if d in tiles.dims]
    sizes = [tiles.sizes[d] for d in dims]
    planes = [
        "_".join(f"{d}{k}" for d, k in zip(dims, at, strict=True)) for at in np.ndindex(*sizes)
    ]
    rows, columns = [], []
    for name, found in tiles.data_vars.items():
        of_channels = "c" in found.dims
        whole = found if of_channels else found.expand_dims("c")
        missing = {d: n for d, n in zip(dims, sizes, strict=True) if d not in found.dims}
        # What is counted over all planes is known for their mean alone, and stands in each.
        whole = whole.expand_dims(missing).transpose(*dims, "tile_y", "tile_x", "c")
        columns.append(whole.values.reshape(len(planes), -1, whole.sizes["c"]).astype("f8"))
        for channel in tiles["c"].values if of_channels else [""]:
            shown = f"qc_{name}:{channel}" if of_channels else f"qc_{name}"
            rows.append((shown, str(name), str(channel)))
    var = pd.DataFrame(
        {"metric": [r[1] for r in rows], "channel": [r[2] for r in rows]},
        index=[r[0] for r in rows],
    )
    return var, np.concatenate(columns, axis=2), planes


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the planes where a tile has a value."""
    if len(values) == 1:
        return np.ascontiguousarray(values[0])
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)


def _verdict(assessment: Any) -> dict[str, Any]:
    flags = assessment.flags
    numbers = ("value", "error", "limit")
    # A column of yes, no and unknown has no type in every version of the format: text it is.
    told = flags.assign(certain=flags["certain"].astype("string").fillna(""))
    kept = told.astype({name: "f8" if name in numbers else object for name in told})
    kept.index = [str(k) for k in range(len(kept))]
    whole = {"name": assessment.name, "passed": assessment.passed, **assessment.summary.to_dict()}
    about = json.dumps(assessment.to_dict()["provenance"])
    return {"flags": kept, "summary": storable(whole), "provenance": about}


def _parsed(
    table: Any, region: str | None = None, region_key: str | None = None, ids: str | None = None
) -> Any:
    """As spatialdata holds it, and checked by it."""
    from spatialdata.models import TableModel

    if region is None:
        return TableModel.parse(table)
    return TableModel.parse(table, region=region, region_key=region_key, instance_key=ids)


def storable(value: Any) -> Any:
    """Plain values as ``uns`` holds them: no None, no list of lists, nothing that is empty.

    Parameters
    ----------
    value
        Mappings, sequences, text, numbers and None, nested.

    Returns
    -------
    dict, numpy.ndarray, str, bool, int, float or None
        None where nothing is left.

    Examples
    --------
    >>> storable({"unit": None, "sizes": {"y": 3}})
    {'sizes': {'y': 3}}
    """
    if isinstance(value, Mapping):
        held = {str(name): storable(item) for name, item in value.items()}
        return {name: item for name, item in held.items() if item is not None} or None
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, (list, tuple)) for item in value):
            value = [" / ".join(map(str, item)) for item in value]
        texts = any(isinstance(item, str) for item in value)
        return np.array(value, dtype=object if texts else None) if value else None
    return value.item() if isinstance(value, np.generic) else value


def check_room(
    sdata: SpatialData, keys: Sequence[str], *, objects: bool, overwrite: bool, argument: str
) -> None:
    """Refuse image elements whose results could not be written, before anything is read.

    Parameters
    ----------
    sdata, keys
        The object, and names of its image elements.
    objects
        Whether there will be tables of objects.
    overwrite
        Whether results of the same images may be replaced.
    argument
        What the caller calls `keys`.

    Raises
    ------
    ElementError, ParameterError, WriteError
        No such image; names of results that meet, as those of the images ``a`` and ``a_grid``;
        results that exist.
    """
    check_images(sdata, keys, argument)
    wanted = [pair for key in keys for pair in Names.of(key).elements(objects=objects)]
    counts = Counter(name.lower() for _, name in wanted)
    for key in keys:
        for kind, name in Names.of(key).elements(objects=objects):
            other = _owner(sdata, name) if kind == "tables" else None
            if counts[name.lower()] > 1 or other not in (None, key):
                raise ParameterError(
                    f"{argument}: the results of {key!r} would be {name!r}, as those of another "
                    "image; rename one of the images."
                )
    check_free(sdata, wanted, overwrite, argument)


def _owner(sdata: SpatialData, name: str) -> str | None:
    """The image whose results a table holds, where they are ours or squidpy's."""
    if name not in sdata.tables:
        return None
    found = sdata.tables[name].uns.get("qc_image", {}).get("image_key")
    return None if found is None else str(found)


def add_assessments(
    sdata: SpatialData,
    assessments: Mapping[str, Any],
    *,
    labels: Mapping[str, str | None],
    overwrite: bool,
) -> None:
    """Put assessments of image elements in, by their names; in the store first, if there is one.

    Parameters
    ----------
    sdata, assessments
        The object, and the `Assessment` of each image element.
    labels
        The labels element that an image's objects come from, where that is known.
    overwrite
        Replace what is there.

    Raises
    ------
    ElementError, ParameterError, WriteError
        As `check_room`; an assessment of another image.
    """
    spatialdata_module()
    several = any(a.objects is not None and len(a.objects) for a in assessments.values())
    check_room(sdata, list(assessments), objects=several, overwrite=overwrite, argument="image_key")
    shapes: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    absent = []
    for key, assessment in assessments.items():
        names, grid = Names.of(key), _grid_of(sdata, key, assessment)
        tables[names.tiles] = tile_table(assessment, key, grid)
        tables[names.channels] = channel_table(assessment, key)
        if assessment.objects is not None and len(assessment.objects):
            tables[names.objects] = object_table(assessment, key, labels.get(key))
        else:
            absent.append(names.objects)
        shapes[names.grid] = _as_shapes(grid_shapes(grid), transformations_of(sdata, key))
    if sdata.is_backed():
        _write(sdata, shapes, tables, absent)
    put(sdata, "shapes", shapes)
    for name in absent:
        if name in sdata.tables:
            del sdata.tables[name]
    put(sdata, "tables", tables)


def _as_shapes(frame: Any, transformations: Mapping[str, Any]) -> Any:
    from spatialdata.models import ShapesModel

    return ShapesModel.parse(frame, transformations=dict(transformations))


def _grid_of(sdata: SpatialData, key: str, assessment: Any) -> Grid:
    """The tiles of an assessment, refused unless they are those of the image element."""
    meta = assessment.statistics.meta
    if not assessment.tiles.data_vars:
        raise ParameterError(
            "assessment: it is of pooled statistics, which have no tiles; assess the images one "
            "by one."
        )
    image = as_image(sdata.images[key])
    own, there = ({d: int(s[d]) for d in "yx"} for s in (meta.sizes, image.sizes))
    if own != there:
        raise ParameterError(
            f"image_key: {key!r} is of {there}, the assessment of an image of {own}; name the "
            "image that was assessed."
        )
    return Grid(own["y"], own["x"], int(meta.tile))


def _write(
    sdata: SpatialData,
    shapes: Mapping[str, Any],
    tables: Mapping[str, Any],
    absent: Sequence[str],
) -> None:
    """Have elements written into hidden folders of the store, and move all in when complete."""
    import zarr

    store = Path(str(sdata.path))
    kinds = {"shapes": shapes, "tables": tables}
    places = [f"{kind}/{name}" for kind, held in kinds.items() for name in held]
    try:
        with contextlib.ExitStack() as stack, warnings.catch_warnings():
            folders = stack.enter_context(staged([store / p for p in places], inside=store))
            beside = Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=store))
            stack.callback(remove, beside)
            # Labels and images stay where they are; and a note of anndata on its next release.
            for said in ("The table is annotating", "zarr v3 autosharding"):
                warnings.filterwarnings("ignore", said, UserWarning)
            made = spatialdata_module().SpatialData(**kinds)
            made.write(beside / "s.zarr", consolidate_metadata=False, update_sdata_path=False)
            for folder, place in zip(folders, places, strict=True):
                os.rename(beside / "s.zarr" / place, folder)
            for kind in kinds:
                zarr.open_group(store / kind, mode="a", zarr_format=3)
        for name in absent:  # of an earlier call, with labels
            remove(store / "tables" / name)
        if sdata.has_consolidated_metadata():
            sdata.write_consolidated_metadata()
    except OSError as error:
        raise WriteError(
            f"sdata: the results could not be written into {str(store)!r} ({error}); make room or "
            "change the folder."
        ) from error
