"""Elements of SpatialData: read as images, and written complete or absent."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import xarray as xr

from gigaqc.base.formatting import listed
from gigaqc.base.geometry import rechunked
from gigaqc.errors import ParameterError, WriteError
from gigaqc.image.labelled import as_image, channel_names
from gigaqc.image.spatialdata import (
    as_ngff,
    check_free,
    check_images,
    put,
    spatialdata_module,
    transformations_of,
)
from gigaqc.stores.staging import staged
from gigaqc.writers.write import (
    Factors,
    ScaleFactors,
    checked_factors,
    coarser,
    settled_images,
    write_levels,
)

if TYPE_CHECKING:
    from spatialdata import SpatialData

_RASTER_FORMAT = "0.3"  # of spatialdata's raster elements in zarr 3
_OME = "0.5-dev-spatialdata"

Layers = str | Sequence[str]
Chunks = int | Sequence[int] | None


@dataclass(frozen=True)
class Form:
    """How elements are laid out."""

    sides: tuple[int, ...]
    factors: tuple[Factors, ...]

    @classmethod
    def of(
        cls, elements: Sequence[xr.DataArray], chunks: Chunks, factors: ScaleFactors | None
    ) -> Form:
        """What the caller gave, checked."""
        for element in elements:
            checked = checked_factors(factors, element)
        given = () if chunks is None else (chunks,) * 2 if _is_integer(chunks) else chunks
        sides = given if isinstance(given, (tuple, list)) else ("?",)
        most = min(element.ndim for element in elements)
        if len(sides) > most or not all(_is_integer(s) and s > 0 for s in sides):
            raise ParameterError(
                f"chunks: got {chunks!r}; pass a whole number from 1, or one for each of the last "
                f"axes, at most {most}."
            )
        return cls(tuple(int(s) for s in sides), checked)

    def chunked(self, image: xr.DataArray) -> xr.DataArray:
        """An image in the chunks that were asked for."""
        wanted = dict(zip(reversed(image.dims), reversed(self.sides), strict=False))
        return rechunked(image, wanted) if wanted else image


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def as_json(means: Mapping[Any, float]) -> dict[str, float | None]:
    """JSON knows no NaN, which is the mean of a cluster without pixels."""
    return {str(c): None if np.isnan(mean) else float(mean) for c, mean in means.items()}


@dataclass(frozen=True)
class Making:
    """Elements that are to be made of image elements; refused before anything is computed."""

    sdata: SpatialData
    kind: str
    images: list[xr.DataArray]
    outputs: Sequence[str]
    systems: Sequence[Mapping[str, Any]]
    form: Form

    @classmethod
    def of(
        cls, sdata: SpatialData, kind: str, layers: Sequence[str], outputs: Sequence[str],
        chunks: Chunks, factors: ScaleFactors | None, overwrite: bool,
    ) -> Making:  # fmt: skip
        """Of these image elements, in the transformations of the first ones."""
        images = images_of(sdata, layers)
        check_outputs(sdata, outputs, kind, overwrite)
        systems = [transformations_of(sdata, layer) for layer in layers[: len(outputs)]]
        return cls(sdata, kind, images, outputs, systems, Form.of(images, chunks, factors))

    def put(self, results: Sequence[xr.DataArray], about: Mapping[str, Any] | None = None) -> None:
        """Put them where they go, with what is known `about` each, if anything."""
        add(self.sdata, self.kind, self.outputs, results, self.form, self.systems)
        if about is not None:
            note(self.sdata, dict.fromkeys(self.outputs, about))


def note(sdata: SpatialData, about: Mapping[str, Any]) -> None:
    """Keep what is known of new elements in ``sdata.attrs["gigaqc"]``, and in the store."""
    sdata.attrs["gigaqc"] = {**sdata.attrs.get("gigaqc", {}), **about}
    if sdata.is_backed():
        sdata.write_attrs()


def names_of(img_layer: Layers, output_layer: Layers) -> tuple[list[str], list[str]]:
    """Names of image elements, and as many of the elements that are made of them."""
    layers = listed_names("img_layer", img_layer)
    outputs = listed_names("output_layer", output_layer)
    if len(layers) != len(outputs) or not layers:
        raise ParameterError(
            f"output_layer: got {len(outputs)} names for {len(layers)} image layers; pass one for "
            "each."
        )
    return layers, outputs


def listed_names(argument: str, given: Any) -> list[str]:
    """One name or a list of them, as a list of different names."""
    names = list(given) if isinstance(given, (list, tuple)) else [given]
    if not all(isinstance(name, str) for name in names):
        raise ParameterError(f"{argument}: got {given!r}; pass a name, or a list of names.")
    # File systems may not tell upper from lower case, so spatialdata refuses such pairs.
    if len({name.lower() for name in names}) != len(names):
        raise ParameterError(f"{argument}: got {names}; name each once.")
    return names


def images_of(
    sdata: SpatialData, layers: Sequence[str], argument: str = "img_layer"
) -> list[xr.DataArray]:
    """The image elements of these names, at full resolution."""
    check_images(sdata, layers, argument)
    return [as_image(sdata.images[layer]) for layer in layers]


def check_outputs(sdata: SpatialData, outputs: Sequence[str], kind: str, overwrite: bool) -> None:
    """Refuse what could not be written, before anything is computed."""
    check_free(sdata, [(kind, output) for output in outputs], overwrite, "output_layer")


def add(
    sdata: SpatialData,
    kind: str,
    names: Sequence[str],
    images: Sequence[xr.DataArray],
    form: Form,
    systems: Sequence[Mapping[str, Any]],
) -> None:
    """Put elements into the store, if there is one, and into the SpatialData: all or none."""
    images = [form.chunked(image) for image in images]
    if sdata.is_backed():
        store = Path(str(sdata.path))
        _write(store, kind, names, images, form.factors, systems)
        sdata.write_consolidated_metadata()
        with _without_parents():
            written = spatialdata_module().read_zarr(store, selection=(kind,), on_bad_files="warn")
        elements = [written[name] for name in names]
    else:
        elements = [
            _parsed(kind, image, form.factors, system)
            for image, system in zip(images, systems, strict=True)
        ]
    put(sdata, kind, dict(zip(names, elements, strict=True)))


@contextlib.contextmanager
def _without_parents() -> Iterator[None]:
    """Labels of spatialdata have no image that they lie in, which ome-zarr warns of for each."""
    said = "no parent found"
    logger = logging.getLogger("ome_zarr.reader")

    def kept(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(said)

    logger.addFilter(kept)
    try:
        yield
    finally:
        logger.removeFilter(kept)


def _parsed(
    kind: str, image: xr.DataArray, factors: Sequence[Factors], transformations: Mapping[str, Any]
) -> Any:
    from spatialdata import models

    dims = tuple(str(d) for d in image.dims)
    model = getattr(models, f"{'Image' if kind == 'images' else 'Labels'}{3 if 'z' in dims else 2}"
                    "DModel")  # fmt: skip
    options: dict[str, Any] = {"dims": dims, "transformations": dict(transformations)}
    if kind == "images":
        options["c_coords"] = channel_names(image)
    if factors:
        along = [{d: level.get(d, 1) for d in dims if d != "c"} for level in factors]
        options["scale_factors"] = along
    element = model.parse(image.data, **options)
    # Which pixels spatialdata makes the coarser levels of changes with its release.
    level = image.data
    for k, by_axis in enumerate(factors, start=1):
        level = coarser(level, [by_axis.get(d, 1) for d in dims], labels=kind == "labels")
        element[f"scale{k}"]["image"].data = level
    return element


def _write(
    store: Path,
    kind: str,
    names: Sequence[str],
    images: Sequence[xr.DataArray],
    factors: Sequence[Factors],
    systems: Sequence[Mapping[str, Any]],
) -> None:
    """Write elements into hidden folders of the store, and move all in when all are complete."""
    import zarr

    levels = [f"s{k}" for k in range(len(factors) + 1)]
    root = zarr.open_group(str(store), mode="r+", use_consolidated=False)
    try:
        with staged([store / kind / name for name in names], inside=store) as folders:
            ready = settled_images(images)
            for name, image, folder, system in zip(names, ready, folders, systems, strict=True):
                group = zarr.open_group(str(folder), mode="w", zarr_format=3)
                scales = write_levels(image, group, levels, factors, labels=kind == "labels")
                group.attrs.update(_attributes(kind, name, image, scales, system))
            root.require_group(kind)
        if kind == "labels":
            listing: Any = root[kind].attrs.get("ome", {})
            together = sorted({*listing.get("labels", []), *names})
            root[kind].attrs["ome"] = {**listing, "labels": together}
    except OSError as error:
        raise WriteError(
            f"output_layer: {listed(names)} could not be written into {str(store)!r} ({error}); "
            "make room or change the folder. The store is as it was."
        ) from error


def _attributes(
    kind: str,
    name: str,
    image: xr.DataArray,
    scales: Sequence[tuple[int, ...]],
    transformations: Mapping[str, Any],
) -> dict[str, Any]:
    """What spatialdata's reader looks for in a raster element."""
    dims = [str(d) for d in image.dims]
    datasets = []
    for level, factors in enumerate(scales):
        transform = {"type": "scale", "scale": [float(f) for f in factors]}
        datasets.append({"path": f"s{level}", "coordinateTransformations": [transform]})
    multiscale = {
        "name": name,
        "axes": [{"name": d, "type": "channel" if d == "c" else "space"} for d in dims],
        "datasets": datasets,
        "coordinateTransformations": [
            as_ngff(t, dims, system) for system, t in transformations.items()
        ],
    }
    ome: dict[str, Any] = {"version": _OME, "multiscales": [multiscale]}
    if kind == "images":
        ome["omero"] = {"channels": [{"label": c} for c in channel_names(image)]}
    else:
        ome["image-label"] = {"version": "0.5"}
    return {"ome": ome, "spatialdata_attrs": {"version": _RASTER_FORMAT}}
