"""Assessments into a SpatialData and the store that backs it: all of them, or none."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigaqc.errors import ParameterError, WriteError
from gigaqc.image import as_image
from gigaqc.sdata import check_free, check_images, put, spatialdata_module, transformations_of
from gigaqc.stores.staging import remove, staged
from gigaqc.tables.layout import Grid, Names, channel_table, grid_shapes, object_table, tile_table

if TYPE_CHECKING:
    from spatialdata import SpatialData


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
