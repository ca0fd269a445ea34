"""Assessments into a SpatialData and the store that backs it: all of them, or none."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigaqc.errors import ParameterError, WriteError
from gigaqc.image import as_image
from gigaqc.sdata import check_free, check_images, put, spatialdata_module, transformations_of
from gigaqc.stores.staging import remove, staged
from gigaqc.tables.encoded import Files, shapes_files, table_files
from gigaqc.tables.layout import Grid, Names, channel_table, grid_shapes, object_table, tile_table

if TYPE_CHECKING:
    from spatialdata import SpatialData

_GROUP: dict[str, Any] = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
_LISTED: dict[str, Any] = {"kind": "inline", "must_understand": False, "metadata": {}}


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
    files: dict[tuple[str, str], Files] = {}
    absent = []
    for key, assessment in assessments.items():
        names, grid = Names.of(key), _grid_of(sdata, key, assessment)
        tables[names.tiles] = tile_table(assessment, key, grid)
        tables[names.channels] = channel_table(assessment, key)
        if assessment.objects is not None and len(assessment.objects):
            tables[names.objects] = object_table(assessment, key, labels.get(key))
        else:
            absent.append(names.objects)
        transformations = transformations_of(sdata, key)
        frame = grid_shapes(grid)
        if sdata.is_backed():
            files["shapes", names.grid] = shapes_files(frame, transformations)
        shapes[names.grid] = _as_shapes(frame, transformations)
    if sdata.is_backed():
        files |= {("tables", name): table_files(table) for name, table in tables.items()}
        _write(sdata, files, absent)
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
    sdata: SpatialData, files: Mapping[tuple[str, str], Files], absent: Sequence[str]
) -> None:
    """Write elements into hidden folders of the store, and move all in when all are complete."""
    store = Path(str(sdata.path))
    try:
        with staged([store / kind / name for kind, name in files], inside=store) as folders:
            for folder, content in zip(folders, files.values(), strict=True):
                _write_files(str(folder), content)
            for kind in {kind for kind, _ in files}:
                (store / kind).mkdir(exist_ok=True)
                if not (store / kind / "zarr.json").exists():
                    (store / kind / "zarr.json").write_text(json.dumps(_GROUP))
        for name in absent:  # of an earlier call, with labels
            remove(store / "tables" / name)
        _consolidate(store, files, [f"tables/{name}" for name in absent])
    except OSError as error:
        raise WriteError(
            f"sdata: the results could not be written into {str(store)!r} ({error}); make room or "
            "change the folder."
        ) from error


def _write_files(folder: str, content: Files) -> None:
    for parent in {os.path.dirname(path) for path in content}:
        os.makedirs(os.path.join(folder, parent), exist_ok=True)
    for path, data in content.items():
        with open(os.path.join(folder, path), "wb") as stream:
            stream.write(data)


def _consolidate(
    store: Path, files: Mapping[tuple[str, str], Files], absent: Sequence[str]
) -> None:
    """Tell the metadata of the root what is new, where it lists that of all nodes.

    To collect them anew from all files takes longer than to write the tables.
    """
    root = json.loads((store / "zarr.json").read_text("utf-8"))
    listed = (root.get("consolidated_metadata") or {}).get("metadata")
    if listed is None:
        return
    gone = [*absent, *(f"{kind}/{name}" for kind, name in files)]
    for path in [p for p in listed if any(p == g or p.startswith(f"{g}/") for g in gone)]:
        del listed[path]
    for (kind, name), content in files.items():
        listed.setdefault(kind, {**_GROUP, "consolidated_metadata": _LISTED})
        for path, data in content.items():
            place, _, file = f"{kind}/{name}/{path}".rpartition("/")
            if file == "zarr.json":
                node = listed[place] = json.loads(data)
                if node["node_type"] == "group":  # zarr lists nodes of groups in the root alone
                    node["consolidated_metadata"] = _LISTED
    with staged([store / "zarr.json"]) as (beside,):
        beside.write_text(json.dumps(root), "utf-8")
