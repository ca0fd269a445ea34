"""The same functions on elements of SpatialData (``gq.spatial``).

Each returns the ``SpatialData`` that it was given. Results are written to the store that backs it,
chunk by chunk and complete or absent; without a store they are lazy elements in memory.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from gigaqc import clusters, preprocess
from gigaqc.errors import ElementError, MissingDependencyError, ParameterError, WriteError
from gigaqc.image import as_image, channel_names, listed
from gigaqc.io.write import checked_factors, move_in_place, remove, write_levels

if TYPE_CHECKING:
    from spatialdata import SpatialData

_RASTER_FORMAT = "0.3"  # of spatialdata's raster elements in zarr 3
_OME = "0.5-dev-spatialdata"

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
        Of the result along y and x, one number or two; by default those of the image.
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
    results = preprocess.pixel_clustering_preprocess(
        elements, channels=channels, q=q, q_sum=q_sum, q_post=q_post, sigma=sigma,
        norm_sum=norm_sum, cap=cap, pool=pool,
    )  # fmt: skip
    for layer, output, result in zip(layers, outputs, results, strict=True):
        ready = _rechunked(result, chunks)
        _add(sdata, "images", output, ready, scale_factors, _transformations(sdata, layer))
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
    found = clusters.cluster_pixels(
        elements, n_clusters, method=method, channels=channels, mask=mask, fraction=fraction,
        seed=seed,
    )  # fmt: skip
    about = {
        "method": method,
        "profile": {str(c): p.to_dict() for c, p in found.profile.iterrows()},
        "pixels": {str(c): int(n) for c, n in found.sizes.items()},
    }
    for layer, output, labels in zip(layers, outputs, found.labels, strict=True):
        ready = _rechunked(labels, chunks)
        _add(sdata, "labels", output, ready, scale_factors, _transformations(sdata, layer))
        sdata.attrs["gigaqc"] = {**sdata.attrs.get("gigaqc", {}), output: about}
    if sdata.is_backed():
        sdata.write_attrs()
    return sdata


def _spatialdata() -> Any:
    try:
        import spatialdata
    except ImportError as error:
        raise MissingDependencyError(
            "spatialdata: is not installed; pip install 'gigaqc[spatial]'."
        ) from error
    return spatialdata


def _names(img_layer: Layers, output_layer: Layers) -> tuple[list[str], list[str]]:
    layers = [img_layer] if isinstance(img_layer, str) else list(img_layer)
    outputs = [output_layer] if isinstance(output_layer, str) else list(output_layer)
    if len(layers) != len(outputs) or not layers:
        raise ParameterError(
            f"output_layer: got {len(outputs)} names for {len(layers)} image layers; pass one for "
            "each."
        )
    if len(set(outputs)) != len(outputs):
        raise ParameterError(f"output_layer: got {outputs}; name each once.")
    return layers, outputs


def _images(sdata: SpatialData, layers: Sequence[str]) -> list[xr.DataArray]:
    for layer in layers:
        if layer not in sdata.images:
            there = listed(list(sdata.images)) or "none"
            raise ElementError(f"img_layer: no image is named {layer!r}; there are {there}.")
    return [as_image(sdata.images[layer]) for layer in layers]


def _check_outputs(sdata: SpatialData, outputs: Sequence[str], kind: str, overwrite: bool) -> None:
    """Refuse what could not be written, before anything is computed."""
    for output in outputs:
        if not output or any(not (ch.isalnum() or ch in "_-.") for ch in output):
            raise ParameterError(
                f"output_layer: got {output!r}; use letters, digits, '_', '-' and '.' only."
            )
        taken = [k for k in ("images", "labels", "shapes", "points", "tables")
                 if output in getattr(sdata, k)]  # fmt: skip
        if taken and taken != [kind]:
            raise WriteError(
                f"output_layer: {output!r} is a name in {taken[0]} already; choose another."
            )
        on_disk = sdata.is_backed() and os.path.lexists(Path(str(sdata.path)) / kind / output)
        if (taken or on_disk) and not overwrite:
            raise WriteError(
                f"output_layer: {output!r} exists; pass overwrite=True to replace it, or choose "
                "another name."
            )
    if sdata.is_backed():
        _check_store(Path(str(sdata.path)))


def _check_store(store: Path) -> None:
    if not (store / "zarr.json").is_file():
        raise WriteError(
            f"sdata: its store {str(store)!r} is no local folder of zarr 3; write it anew with "
            "sdata.write(path), then prepare that."
        )
    if not os.access(store, os.W_OK):
        raise WriteError(f"sdata: no permission to write into {str(store)!r}; change its mode.")


def _transformations(sdata: SpatialData, layer: str) -> Mapping[str, Any]:
    from spatialdata.transformations import get_transformation

    found = get_transformation(sdata.images[layer], get_all=True)
    assert isinstance(found, dict)
    return found


def _rechunked(image: xr.DataArray, chunks: Chunks) -> xr.DataArray:
    if chunks is None:
        return image
    sides = [chunks] * 2 if isinstance(chunks, (int, np.integer)) else list(chunks)
    if any(isinstance(s, bool) or not isinstance(s, (int, np.integer)) or s < 1 for s in sides):
        raise ParameterError(f"chunks: got {chunks!r}; pass one or two whole numbers from 1.")
    y, x = sides[-2:]
    return image.chunk({"y": int(y), "x": int(x)})


def _add(
    sdata: SpatialData,
    kind: str,
    name: str,
    image: xr.DataArray,
    scale_factors: Sequence[int] | None,
    transformations: Mapping[str, Any],
) -> None:
    """Put an element into the store, if there is one, and into the SpatialData."""
    factors = checked_factors(scale_factors, image)
    if sdata.is_backed():
        store = Path(str(sdata.path))
        _write(store, kind, name, image, factors, transformations)
        sdata.write_consolidated_metadata()
        element = _spatialdata().read_zarr(store, selection=(kind,))[name]
    else:
        element = _parsed(kind, image, factors, transformations)
    held = getattr(sdata, kind)
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
    name: str,
    image: xr.DataArray,
    factors: Sequence[int],
    transformations: Mapping[str, Any],
) -> None:
    """Write an element beside the store, and move it in when it is complete."""
    import zarr

    temporary = store.with_name(f".{store.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        group = zarr.open_group(str(temporary), mode="w", zarr_format=3)
        levels = [f"s{k}" for k in range(len(factors) + 1)]
        shapes = write_levels(image, group, levels, factors, labels=kind == "labels")
        group.attrs.update(_attributes(kind, name, image, shapes, transformations))
        root = zarr.open_group(str(store), mode="r+", use_consolidated=False)
        root.require_group(kind)
        move_in_place(temporary, store / kind / name)
        if kind == "labels":
            listing: Any = root[kind].attrs.get("ome", {})
            names = sorted({*listing.get("labels", []), name})
            root[kind].attrs["ome"] = {**listing, "labels": names}
    except OSError as error:
        raise WriteError(
            f"output_layer: {name!r} could not be written into {str(store)!r} ({error}); make room "
            "or change the folder. The store is as it was."
        ) from error
    finally:
        remove(temporary)


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
