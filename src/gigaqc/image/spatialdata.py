"""A SpatialData object: what it holds, which names are free, and where its images lie."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigaqc.base.formatting import listed
from gigaqc.errors import ElementError, MissingDependencyError, ParameterError, WriteError

if TYPE_CHECKING:
    from spatialdata import SpatialData

KINDS = ("images", "labels", "shapes", "points", "tables")


def spatialdata_module() -> Any:
    """The package, imported; or an error that says how to install it."""
    try:
        import spatialdata
    except ImportError as error:
        raise MissingDependencyError(
            "spatialdata: is not installed; pip install 'gigaqc[spatial]'."
        ) from error
    return spatialdata


def check_images(sdata: SpatialData, keys: Sequence[str], argument: str) -> None:
    """Refuse names that are no image elements."""
    there = listed(list(sdata.images)) or "none"
    for key in keys:
        for kind in KINDS[1:]:
            if key in getattr(sdata, kind):
                raise ElementError(
                    f"{argument}: {key!r} is in {kind} and no image; the images are {there}."
                )
        if key not in sdata.images:
            raise ElementError(f"{argument}: no image is named {key!r}; there are {there}.")


def check_free(
    sdata: SpatialData, wanted: Sequence[tuple[str, str]], overwrite: bool, argument: str
) -> None:
    """Refuse elements (kind, name) that could not be written, before anything is computed."""
    held = set(_held(sdata))
    for kind, name in wanted:
        if not name.strip(".") or any(not (ch.isalnum() or ch in "_-.") for ch in name):
            raise ParameterError(
                f"{argument}: got {name!r}; use letters, digits, '_', '-' and '.' only."
            )
        if name.startswith((".", "__")):
            raise ParameterError(f"{argument}: got {name!r}; begin with a letter or a digit.")
        # File systems may not tell upper from lower case, so spatialdata refuses such pairs.
        for place, other in sorted(held - {(kind, name)}):
            if other.lower() == name.lower():
                raise WriteError(
                    f"{argument}: got {name!r}, but {place} has {other!r} already; choose another "
                    "name."
                )
        if (kind, name) in held and not overwrite:
            raise WriteError(
                f"{argument}: {name!r} exists; pass overwrite=True to replace it, or choose "
                "another name."
            )
    if sdata.is_backed():
        _check_store(Path(str(sdata.path)))


def _held(sdata: SpatialData) -> Iterator[tuple[str, str]]:
    """Kind and name of each element, in memory or in the store."""
    for kind in KINDS:
        yield from ((kind, name) for name in getattr(sdata, kind))
        if sdata.is_backed():
            folders = (Path(str(sdata.path)) / kind).glob("[!.]*/")
            yield from ((kind, folder.name) for folder in folders)


def _check_store(store: Path) -> None:
    if not (store / "zarr.json").is_file():
        raise WriteError(
            f"sdata: its store {str(store)!r} is no local folder of zarr 3; write it anew with "
            "sdata.write(path), then use that."
        )
    if not os.access(store, os.W_OK):
        raise WriteError(f"sdata: no permission to write into {str(store)!r}; change its mode.")


def transformations_of(sdata: SpatialData, layer: str) -> dict[str, Any]:
    """Where an element lies, by coordinate system."""
    from spatialdata.transformations import get_transformation

    return dict(get_transformation(sdata[layer], get_all=True))


def as_ngff(transformation: Any, dims: Sequence[str], system: str) -> dict[str, Any]:
    """A transformation as it stands in the metadata of an element, from its axes to the same."""
    axes = tuple(dims)
    written = transformation.to_ngff(
        input_axes=axes, output_axes=axes, unit="unit", output_coordinate_system_name=system
    )
    return dict(written.to_dict())


def put(sdata: SpatialData, kind: str, elements: Mapping[str, Any]) -> None:
    """Put elements in, in the place of those of the same name."""
    held = getattr(sdata, kind)
    for name, element in elements.items():
        if name in held:
            del held[name]
        held[name] = element
