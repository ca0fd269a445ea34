"""Noise of SpatialData elements, in intensity and in time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dask.base
import numpy as np
import xarray as xr

from gigaqc import noise
from gigaqc.errors import ParameterError
from gigaqc.image.labelled import as_image, channel_names, check_same_channels
from gigaqc.spatial.elements import (
    Chunks,
    Layers,
    Making,
    as_json,
    listed_names,
)
from gigaqc.typing import PathLike
from gigaqc.writers.together import kept, settled_with
from gigaqc.writers.write import ScaleFactors

if TYPE_CHECKING:
    from spatialdata import SpatialData

_MAPS = ("mean_map", "variance_map", "gain_map")


def gain_map(
    sdata: SpatialData,
    img_layer: Layers,
    output_layer: str | None = None,
    *,
    frames: Literal["c", "z"] = "c",
    nbins: int = 50,
    offset: float | None = None,
    estimator: Literal["mad", "variance"] = "mad",
    temporary: PathLike | None = None,
    chunks: Chunks = None,
    scale_factors: ScaleFactors | None = None,
    overwrite: bool = False,
) -> SpatialData:
    """`gigaqc.gain_map` of a series kept in image elements, which have no axis of time. Runs now.

    Parameters
    ----------
    sdata
        Holds the elements.
    img_layer
        Name of an image element with the frames along `frames`; or a list of names, an element a
        frame, in their order, with the same channels.
    output_layer
        Name of the image element that is made; by default that of `img_layer` and ``_gain``.
    frames
        The axis of a single element that the frames lie along: ``"c"``, or ``"z"`` where there are
        several channels.
    nbins, offset, estimator, temporary
        As in `gigaqc.gain_map`.
    chunks, scale_factors, overwrite
        As in `pixel_clustering_preprocess`.

    Returns
    -------
    SpatialData
        `sdata`, with the new element: channels ``mean_map``, ``variance_map`` and ``gain_map``
        (of several channels each with its name, ``"gain_map DAPI"``), in the transformations of
        `img_layer` (of a list, the first). The numbers, such as ``gain`` and ``slope``, are in
        ``sdata.attrs["gigaqc"][output_layer]``, by channel (of frames along c, by the name of the
        element); NaN is None there.

    Raises
    ------
    ElementError, WriteError, ParameterError
        As `pixel_clustering_preprocess` and `gigaqc.gain_map`; a list without `output_layer`, of
        one name, or of elements that do not fit together.
    """
    series, making = _series(
        sdata, img_layer, output_layer, "gain", frames, chunks, scale_factors, overwrite
    )
    found = noise.gain_map(
        series, nbins=nbins, offset=offset, estimator=estimator, temporary=temporary
    )
    maps = {name: found[name] for name in _MAPS}
    about = {"function": "gain_map", "estimator": estimator, "frames": series.sizes["t"]}
    with _together(sdata, maps, found.drop_vars(_MAPS)) as (ready, (numbers,)):
        making.put([_as_channels(ready)], {**about, "numbers": _by_channel(numbers)})
    return sdata


def tsnr_map(
    sdata: SpatialData,
    img_layer: Layers,
    output_layer: str | None = None,
    *,
    frames: Literal["c", "z"] = "c",
    detrend: int = 2,
    ddof: int = 0,
    baseline: Literal["mean", "intercept"] = "mean",
    chunks: Chunks = None,
    scale_factors: ScaleFactors | None = None,
    overwrite: bool = False,
) -> SpatialData:
    """`gigaqc.tsnr_map` of a series kept in image elements, which have no axis of time. Runs now.

    Parameters
    ----------
    sdata, img_layer, frames, chunks, scale_factors, overwrite
        As in `gain_map`.
    output_layer
        Name of the image element that is made; by default that of `img_layer` and ``_tsnr``.
    detrend, ddof, baseline
        As in `gigaqc.tsnr_map`.

    Returns
    -------
    SpatialData
        `sdata`, with the new element: channel ``tsnr``, or one for each channel of the series. The
        summary (`gigaqc.tsnr_summary`) is in ``sdata.attrs["gigaqc"][output_layer]``.

    Raises
    ------
    ElementError, WriteError, ParameterError
        As `gain_map`.
    """
    series, making = _series(
        sdata, img_layer, output_layer, "tsnr", frames, chunks, scale_factors, overwrite
    )
    found = noise.tsnr_map(series, detrend=detrend, ddof=ddof, baseline=baseline)
    about = {"function": "tsnr_map", "detrend": detrend, "ddof": ddof, "baseline": baseline}
    with _together(sdata, {"tsnr": found}) as (ready, _):
        table = noise.tsnr_summary(ready["tsnr"])
        numbers = {str(c): as_json(row.to_dict()) for c, row in table.iterrows()}
        making.put([_as_channels(ready)], {**about, "numbers": numbers})
    return sdata


def isnr_map(
    sdata: SpatialData,
    img_layer: str,
    output_layer: str | None = None,
    *,
    n_clusters: int = 3,
    correction: Literal["rician"] | None = "rician",
    chunks: Chunks = None,
    scale_factors: ScaleFactors | None = None,
    overwrite: bool = False,
) -> SpatialData:
    """`gigaqc.isnr_map` of an image element. Runs now.

    Parameters
    ----------
    sdata
        Holds the element.
    img_layer, output_layer
        Names of the image element, and of the one that is made; by default ``_isnr`` is added.
    n_clusters, correction
        As in `gigaqc.isnr`.
    chunks, scale_factors, overwrite
        As in `pixel_clustering_preprocess`.

    Returns
    -------
    SpatialData
        `sdata`, with the new element: the image over its noise, float32. The numbers (``isnr``,
        ``signal``, ``noise``, ``threshold``) are in ``sdata.attrs["gigaqc"][output_layer]``.

    Raises
    ------
    ElementError, WriteError, ParameterError
        As `pixel_clustering_preprocess` and `gigaqc.isnr`.
    """
    making = _prepared(sdata, img_layer, output_layer, "isnr", chunks, scale_factors, overwrite)
    (image,) = making.images
    found = noise.isnr(image, n_clusters=n_clusters, correction=correction)
    result, numbers = settled_with(
        noise.isnr_map(image, n_clusters=n_clusters, correction=correction),
        found[["isnr", "signal", "noise", "threshold"]],
    )
    about = {"function": "isnr_map", "n_clusters": n_clusters, "correction": correction}
    making.put([result], {**about, "numbers": _by_channel(numbers)})
    return sdata


def _prepared(
    sdata: SpatialData,
    img_layer: Layers,
    output_layer: str | None,
    suffix: str,
    chunks: Chunks,
    factors: ScaleFactors | None,
    overwrite: bool,
) -> Making:
    """One element of an image, or of a list of frames; nothing is computed."""
    layers = listed_names("img_layer", img_layer)
    if output_layer is None:
        if len(layers) != 1:
            raise ParameterError(
                "output_layer: name the element that is made, as img_layer is a list."
            )
        output_layer = f"{layers[0]}_{suffix}"
    outputs = listed_names("output_layer", output_layer)
    if len(outputs) != 1 or not layers:
        raise ParameterError(
            f"img_layer: got {len(layers)} names for {len(outputs)} outputs; pass an element, or a "
            "list of frames, and one output_layer."
        )
    return Making.of(sdata, "images", layers, outputs, chunks, factors, overwrite)


def _series(
    sdata: SpatialData,
    img_layer: Layers,
    output_layer: str | None,
    suffix: str,
    frames: str,
    chunks: Chunks,
    factors: ScaleFactors | None,
    overwrite: bool,
) -> tuple[xr.DataArray, Making]:
    """As `_prepared`, and the images as one series with an axis t."""
    making = _prepared(sdata, img_layer, output_layer, suffix, chunks, factors, overwrite)
    images = making.images
    if len(images) > 1:
        return _stacked(images), making
    if frames not in ("c", "z"):
        raise ParameterError(f"frames: got {frames!r}; pass 'c' or 'z', or a list of img_layer.")
    if frames not in images[0].dims:
        raise ParameterError(f"frames: {img_layer!r} has no axis {frames!r}; pass 'c'.")
    series = images[0].drop_vars(frames, errors="ignore").rename({frames: "t"})
    if frames == "c":
        series = series.rename(str(img_layer if isinstance(img_layer, str) else img_layer[0]))
    return as_image(series), making


def _stacked(images: Sequence[xr.DataArray]) -> xr.DataArray:
    check_same_channels(images)
    if len({image.shape for image in images}) > 1:
        raise ParameterError(
            f"img_layer: the frames have shapes {sorted({image.shape for image in images})}; pass "
            "frames of one shape."
        )
    plain = [image.drop_vars([n for n in image.coords if n != "c"]) for image in images]
    return as_image(xr.concat(plain, "t", combine_attrs="override"))


@contextlib.contextmanager
def _together(
    sdata: SpatialData, maps: Mapping[str, xr.DataArray], *others: Any
) -> Iterator[tuple[Mapping[str, xr.DataArray], Sequence[Any]]]:
    """The maps, and the values of others: from one read where there is a store to keep maps in."""
    if sdata.is_backed():
        with kept(maps, Path(str(sdata.path)), *others) as ready:
            yield ready
    else:
        yield maps, dask.base.compute(*others)


def _as_channels(maps: Mapping[str, xr.DataArray]) -> xr.DataArray:
    """Maps as the channels of one image, named after the map and, of several, the channel."""
    parts = []
    for name, given in maps.items():
        image = as_image(given)
        own = channel_names(image)
        names = [name] if len(own) == 1 else [f"{name} {c}" if len(maps) > 1 else c for c in own]
        plain = image.drop_vars([n for n in image.coords if n != "c"])
        parts.append(plain.assign_coords(c=("c", np.array(names, dtype=str))))
    return as_image(xr.concat(parts, "c", combine_attrs="override"))


def _by_channel(numbers: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Variables by channel, as JSON knows them: of several planes a list, and no bins."""
    chosen = [
        n for n, v in numbers.data_vars.items() if "c" in v.dims and set(v.dims) <= {"c", "z"}
    ]
    return {
        str(name): {str(n): _plain(numbers[n].values[k].tolist()) for n in chosen}
        for k, name in enumerate(numbers["c"].values)
    }


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
