"""The same functions on elements of SpatialData (``gq.spatial``).

Each returns the ``SpatialData`` that it was given. Results are written to the store that backs it,
chunk by chunk and complete or absent; without a store they are lazy elements in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import numpy as np
import xarray as xr

from gigaqc import clusters, preprocess
from gigaqc.errors import ElementError, MissingDependencyError, ParameterError, WriteError
from gigaqc.image import as_image, channel_names, listed
from gigaqc.io.staging import staged
from gigaqc.io.write import checked_factors, settled_together, write_levels

if TYPE_CHECKING:
    from spatialdata import SpatialData

_RASTER_FORMAT = "0.3"  # of spatialdata's raster elements in zarr 3
_OME = "0.5-dev-spatialdata"
_KINDS = ("images", "labels", "shapes", "points", "tables")

Layers = str | Sequence[str]
Chunks = int | Sequence[int] | None


def pixel_clustering_preprocess(
    sdata: SpatialData,
    img_layer: Layers,
    output_layer: Layers,
    channels: Any = None,
    q: float | None = 99,
    q_sum: float | None = 5,
    q_post: float | None = 99.9,
    sigma: float | Sequence[float | None] | None = 2,
    norm_sum: bool = True,
    chunks: Chunks = None,
    scale_factors: Sequence[int] | None = None,
    overwrite: bool = False,
    *,
    cap: float | None = None,
    pool: Literal["mean", "exact"] = "mean",
) -> SpatialData:
    """`gigaqc.pixel_clustering_preprocess` of image elements; runs now where there is a store.

    Parameters
    ----------
    sdata
        Holds the elements.
    img_layer, output_layer
        Names of the image elements to prepare, and of those that are made; one, or lists of the
        same length.
    channels, q, q_sum, q_post, sigma, norm_sum, cap, pool
        As in `gigaqc.pixel_clustering_preprocess`.
    chunks
        Of the result: one number for y and x, or one for each of the last axes, such as (y, x) or
        (c, y, x); by default those of the image.
    scale_factors
        Coarser levels, each by this factor from the one before.
    overwrite
        Replace elements of that name. They stay until the new ones are complete, so that a layer
        may replace itself.

    Returns
    -------
    SpatialData
        `sdata`, with the new elements: float32, with the transformations of the images and the
        names of their channels.

    Raises
    ------
    ElementError
        When there is no such image element.
    WriteError
        When a name is taken and not `overwrite`, before anything is computed; or when the store
        cannot be written, or is of zarr 2.
    ParameterError
        Lists that do not fit; and as `gigaqc.pixel_clustering_preprocess`.
    """
    layers, outputs = _names(img_layer, output_layer)
    elements = _images(sdata, layers)
    _check_outputs(sdata, outputs, "images", overwrite)
    form = _Form.of(elements, chunks, scale_factors)
    results = preprocess.pixel_clustering_preprocess(
        elements, channels=channels, q=q, q_sum=q_sum, q_post=q_post, sigma=sigma,
        norm_sum=norm_sum, cap=cap, pool=pool,
    )  # fmt: skip
    systems = [_transformations(sdata, layer) for layer in layers]
    _add(sdata, "images", outputs, results, form, systems)
    return sdata


def cluster_pixels(
    sdata: SpatialData,
    img_layer: Layers,
    output_layer: Layers,
    n_clusters: int,
    *,
    method: Literal["gmm", "kmeans", "flowsom"] = "gmm",
    channels: Any = None,
    mask: Any = None,
    fraction: float = 0.1,
    seed: int = 0,
    chunks: Chunks = None,
    scale_factors: Sequence[int] | None = None,
    overwrite: bool = False,
) -> SpatialData:
    """`gigaqc.cluster_pixels` of image elements, as labels elements. Runs now.

    Parameters
    ----------
    sdata
        Holds the elements.
    img_layer, output_layer
        Names of the image elements, and of the labels elements that are made; one, or lists of the
        same length, whose pixels get one model.
    n_clusters, method, channels, mask, fraction, seed
        As in `gigaqc.cluster_pixels`.
    chunks, scale_factors, overwrite
        As in `pixel_clustering_preprocess`.

    Returns
    -------
    SpatialData
        `sdata`, with the labels elements, in the transformations of the images. The profile of the
        clusters (cluster by channel) is in ``sdata.attrs["gigaqc"][output]``, with the method.

    Raises
    ------
    ElementError, WriteError, ParameterError
        As `pixel_clustering_preprocess` and `gigaqc.cluster_pixels`.
    """
    layers, outputs = _names(img_layer, output_layer)
    elements = _images(sdata, layers)
    _check_outputs(sdata, outputs, "labels", overwrite)
    form = _Form.of(elements, chunks, scale_factors)
    found = clusters.cluster_pixels(
        elements, n_clusters, method=method, channels=channels, mask=mask, fraction=fraction,
        seed=seed,
    )  # fmt: skip
    systems = [_transformations(sdata, layer) for layer in layers]
    _add(sdata, "labels", outputs, list(found.labels), form, systems)
    about = {
        "method": method,
        "profile": {str(c): _as_json(means.to_dict()) for c, means in found.profile.iterrows()},
        "pixels": {str(c): int(n) for c, n in found.sizes.items()},
    }
    known = sdata.attrs.get("gigaqc", {})
    sdata.attrs["gigaqc"] = {**known, **dict.fromkeys(outputs, about)}
    if sdata.is_backed():
        sdata.write_attrs()
    return sdata


@dataclass(frozen=True)
class _Form:
    """How elements are laid out."""

    sides: tuple[int, ...]
    factors: tuple[int, ...]

    @classmethod
    def of(
        cls, elements: Sequence[xr.DataArray], chunks: Chunks, factors: Sequence[int] | None
    ) -> _Form:
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
        return image.chunk(wanted) if wanted else image


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _as_json(means: Mapping[Any, float]) -> dict[str, float | None]:
    """JSON knows no NaN, which is the mean of a cluster without pixels."""
    return {str(c): None if np.isnan(mean) else float(mean) for c, mean in means.items()}


def _spatialdata() -> Any:
    try:
        import spatialdata
    except ImportError as error:
        raise MissingDependencyError(
            "spatialdata: is not installed; pip install 'gigaqc[spatial]'."
        ) from error
    return spatialdata


def _names(img_layer: Layers, output_layer: Layers) -> tuple[list[str], list[str]]:
    layers = _listed_names("img_layer", img_layer)
    outputs = _listed_names("output_layer", output_layer)
    if len(layers) != len(outputs) or not layers:
        raise ParameterError(
            f"output_layer: got {len(outputs)} names for {len(layers)} image layers; pass one for "
            "each."
        )
    return layers, outputs


def _listed_names(argument: str, given: Any) -> list[str]:
    names = list(given) if isinstance(given, (list, tuple)) else [given]
    if not all(isinstance(name, str) for name in names):
        raise ParameterError(f"{argument}: got {given!r}; pass a name, or a list of names.")
    # File systems may not tell upper from lower case, so spatialdata refuses such pairs.
    if len({name.lower() for name in names}) != len(names):
        raise ParameterError(f"{argument}: got {names}; name each once.")
    return names


def _images(sdata: SpatialData, layers: Sequence[str]) -> list[xr.DataArray]:
    there = listed(list(sdata.images)) or "none"
    for layer in layers:
        for kind in _KINDS[1:]:
            if layer in getattr(sdata, kind):
                raise ElementError(
                    f"img_layer: {layer!r} is in {kind} and no image; the images are {there}."
                )
        if layer not in sdata.images:
            raise ElementError(f"img_layer: no image is named {layer!r}; there are {there}.")
    return [as_image(sdata.images[layer]) for layer in layers]


def _check_outputs(sdata: SpatialData, outputs: Sequence[str], kind: str, overwrite: bool) -> None:
    """Refuse what could not be written, before anything is computed."""
    held = set(_held(sdata))
    for output in outputs:
        if not output.strip(".") or any(not (ch.isalnum() or ch in "_-.") for ch in output):
            raise ParameterError(
                f"output_layer: got {output!r}; use letters, digits, '_', '-' and '.' only."
            )
        if output.startswith((".", "__")):
            raise ParameterError(f"output_layer: got {output!r}; begin with a letter or a digit.")
        for place, name in sorted(held - {(kind, output)}):
            if name.lower() == output.lower():
                raise WriteError(
                    f"output_layer: got {output!r}, but {place} has {name!r} already; choose "
                    "another name."
                )
        if (kind, output) in held and not overwrite:
            raise WriteError(
                f"output_layer: {output!r} exists; pass overwrite=True to replace it, or choose "
                "another name."
            )
    if sdata.is_backed():
        _check_store(Path(str(sdata.path)))


def _held(sdata: SpatialData) -> Iterator[tuple[str, str]]:
    """Kind and name of each element, in memory or in the store."""
    for kind in _KINDS:
        yield from ((kind, name) for name in getattr(sdata, kind))
        if sdata.is_backed():
            folders = (Path(str(sdata.path)) / kind).glob("[!.]*/")
            yield from ((kind, folder.name) for folder in folders)


def _check_store(store: Path) -> None:
    if not (store / "zarr.json").is_file():
        raise WriteError(
            f"sdata: its store {str(store)!r} is no local folder of zarr 3; write it anew with "
            "sdata.write(path), then prepare that."
        )
    if not os.access(store, os.W_OK):
        raise WriteError(f"sdata: no permission to write into {str(store)!r}; change its mode.")


def _transformations(sdata: SpatialData, layer: str) -> dict[str, Any]:
    from spatialdata.transformations import get_transformation

    return dict(get_transformation(sdata.images[layer], get_all=True))


def _add(
    sdata: SpatialData,
    kind: str,
    names: Sequence[str],
    images: Sequence[xr.DataArray],
    form: _Form,
    systems: Sequence[Mapping[str, Any]],
) -> None:
    """Put elements into the store, if there is one, and into the SpatialData: all or none."""
    images = [form.chunked(image) for image in images]
    if sdata.is_backed():
        store = Path(str(sdata.path))
        _write(store, kind, names, images, form.factors, systems)
        sdata.write_consolidated_metadata()
        written = _spatialdata().read_zarr(store, selection=(kind,), on_bad_files="warn")
        elements = [written[name] for name in names]
    else:
        elements = [
            _parsed(kind, image, form.factors, system)
            for image, system in zip(images, systems, strict=True)
        ]
    held = getattr(sdata, kind)
    for name, element in zip(names, elements, strict=True):
        if name in held:
            del held[name]
        held[name] = element


def _parsed(
    kind: str, image: xr.DataArray, factors: Sequence[int], transformations: Mapping[str, Any]
) -> Any:
    from spatialdata import models

    dims = tuple(str(d) for d in image.dims)
    model = getattr(models, f"{'Image' if kind == 'images' else 'Labels'}{3 if 'z' in dims else 2}"
                    "DModel")  # fmt: skip
    options: dict[str, Any] = {"dims": dims, "transformations": dict(transformations)}
    if kind == "images":
        options["c_coords"] = channel_names(image)
    if factors:
        options["scale_factors"] = list(factors)
    return model.parse(image.data, **options)


def _write(
    store: Path,
    kind: str,
    names: Sequence[str],
    images: Sequence[xr.DataArray],
    factors: Sequence[int],
    systems: Sequence[Mapping[str, Any]],
) -> None:
    """Write elements into hidden folders of the store, and move all in when all are complete."""
    import zarr

    levels = [f"s{k}" for k in range(len(factors) + 1)]
    root = zarr.open_group(str(store), mode="r+", use_consolidated=False)
    try:
        with staged([store / kind / name for name in names], inside=store) as folders:
            ready = settled_together(images)
            for name, image, folder, system in zip(names, ready, folders, systems, strict=True):
                group = zarr.open_group(str(folder), mode="w", zarr_format=3)
                shapes = write_levels(image, group, levels, factors, labels=kind == "labels")
                group.attrs.update(_attributes(kind, name, image, shapes, system))
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
    shapes: Sequence[tuple[int, ...]],
    transformations: Mapping[str, Any],
) -> dict[str, Any]:
    """What spatialdata's reader looks for in a raster element."""
    dims = [str(d) for d in image.dims]
    datasets = []
    for level, shape in enumerate(shapes):
        scale = [float(round(a / b)) for a, b in zip(shapes[0], shape, strict=True)]
        transform = {"type": "scale", "scale": scale}
        datasets.append({"path": f"s{level}", "coordinateTransformations": [transform]})
    multiscale = {
        "name": name,
        "axes": [{"name": d, "type": "channel" if d == "c" else "space"} for d in dims],
        "datasets": datasets,
        "coordinateTransformations": [
            _as_ngff(t, dims, system) for system, t in transformations.items()
        ],
    }
    ome: dict[str, Any] = {"version": _OME, "multiscales": [multiscale]}
    if kind == "images":
        ome["omero"] = {"channels": [{"label": c} for c in channel_names(image)]}
    else:
        ome["image-label"] = {"version": "0.5"}
    return {"ome": ome, "spatialdata_attrs": {"version": _RASTER_FORMAT}}


def _as_ngff(transformation: Any, dims: Sequence[str], system: str) -> dict[str, Any]:
    axes = tuple(dims)
    written = transformation.to_ngff(
        input_axes=axes, output_axes=axes, unit="unit", output_coordinate_system_name=system
    )
    return dict(written.to_dict())
