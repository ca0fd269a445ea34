"""Nuclei of one channel: the method, what it needs to know of the whole channel, the tiles."""

from __future__ import annotations

import itertools
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from dask.delayed import Delayed

from gigaqc.base.geometry import count_tiles, rechunked
from gigaqc.errors import ParameterError
from gigaqc.graph.map import Map
from gigaqc.graph.scratch import Scratch, check_temporary
from gigaqc.graph.tasks import join
from gigaqc.image.labelled import as_image, channel_index, channel_names
from gigaqc.scanning.scan import scan
from gigaqc.segmentation.methods import (
    LOCAL_REACH,
    PERCENTILES,
    Levels,
    Model,
    Radii,
    WatershedSteps,
    observe_radii,
    watershed_labels,
)
from gigaqc.segmentation.tiles import Tiling, stitch
from gigaqc.statistics.statistics import Part, Statistics
from gigaqc.typing import ChannelLike, ImageLike, PathLike

SegmentationMethod = Literal["watershed", "stardist", "cellpose"]

_SMALLEST_TILE = 16
_OVERLAP = 64  # pixels; of models, which look further, 96
_MODEL_OVERLAP = 96
_SAMPLE_SIDE = 1024  # pixels
_SAMPLES = 3  # tiles in each direction that the diameter is estimated from


def segment_nuclei(
    image: ImageLike,
    channel: ChannelLike,
    *,
    method: SegmentationMethod | Callable[[np.ndarray], Any] = "watershed",
    diameter: float | None = None,
    tile: int = 1024,
    overlap: int | None = None,
    normalize: tuple[float, float] | Literal[False] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    temporary: PathLike | None = None,
    **options: Any,
) -> xr.DataArray:
    """Label the nuclei that a channel shows, tile by tile, without seams (lazy).

    The image is divided into tiles of its own, whatever its chunks. Each tile is segmented once,
    with an overlap at every side. Then each pixel has the label that the tile gives it in whose
    core it lies, and labels of neighbouring tiles are one object if they share more than half of
    the smaller one's pixels where both tiles look.

    Parameters
    ----------
    image
        Anything that `gigaqc` takes as an image. Along ``t`` and ``z`` each plane is segmented by
        itself.
    channel
        Name or position of the channel.
    method
        ``"watershed"``: pixels above Otsu's threshold of the whole channel, divided by the distance
        to the background. ``"stardist"``, ``"cellpose"``: the installed package and its weights.
        Or a function ``block -> labels`` of a 2-D array: integers of the same shape, 0 for
        background; it is called from several threads.
    diameter
        Of a nucleus, in pixels; a typical one. None lets the watershed estimate it: twice the
        median inscribed radius (each counted by its square) of what is above the threshold in up to
        nine tiles. Cellpose is told it if given; StarDist has ``scale=``.
    tile
        Side of the core of a tile, in pixels; also of the chunks of the result.
    overlap
        Pixels that a tile is seen with beyond its core, at most `tile`. An object that is smaller
        is seen whole by each tile that has a part of it. By default twice the diameter, at least 64
        and for models 96; with a local threshold six diameters, at least 64.
    normalize
        Two percentiles in 0..100 of the whole channel, exact, between which the block is scaled to
        0..1 (float32, not clipped, 0 where not finite). By default (1, 99.8) for StarDist and
        Cellpose, and none for a function. False switches it off. Not for the watershed.
    on_error
        What a tile does on which the method fails: ``"raise"`` a `SegmentationError` that names
        it, or ``"skip"`` it, so that its core is background, with one `SegmentationWarning` for a
        plane.
    temporary
        A folder for what is kept of tiles, which else is kept in memory. Tiles that lie there are
        not segmented again when the labels are computed once more, or after an error; the folder is
        emptied when the labels are forgotten or the process ends. All workers must see it.
    **options
        Watershed: ``threshold`` (``"otsu"``; ``"local"``: above the Gaussian mean of standard
        deviation `diameter` as well, and a third of the way up from the mean of Otsu's
        background to Otsu's threshold; or a number), ``sigma`` of a Gaussian blur before
        (diameter/20; 0 for none), ``min_distance`` between markers (diameter/4), ``min_area`` in
        pixels (diameter^2/10).
        StarDist and Cellpose: ``model``, the name of pretrained weights, their place on disk (a
        StarDist folder, a Cellpose file), or a loaded model; ``gpu`` (Cellpose); all else goes to
        ``predict_instances`` (``prob_thresh``, ``nms_thresh``, ``scale``) or ``eval``
        (``flow_threshold``, ``cellprob_threshold``).

    Returns
    -------
    DataArray
        int32, dims of the image without ``c``: 0 for background and nuclei 1..n in the order of
        their first pixels (t, z, y, x), whatever the chunks or the scheduler. ``labels.max()`` is
        their number. All 0 where a channel is constant or has no finite value; pixels that are not
        finite are 0.

    Raises
    ------
    ChannelError
        No such channel.
    ParameterError
        A wrong parameter, or an option that the method does not have.
    MissingDependencyError
        StarDist or Cellpose is not installed.
    SegmentationError
        While it is computed: a tile on which the method failed, or whose labels have another shape,
        are no integers or are negative; or a model that cannot be loaded.

    Notes
    -----
    Reads: the channel's chunks once for the tiles (in images wider than 4 tiles up to a quarter
    more); once before for Otsu's threshold or percentiles (percentiles of floats and wide integers:
    twice); and up to nine tiles for the diameter. To compute only a part of the labels segments the
    planes up to it, because numbers depend on all of it: write them (`gigaqc.write_labels`), then
    use them.

    Memory: a few tiles at work, and the packed labels of all tiles, some 0.05 bytes a pixel where
    nuclei are 10 pixels wide and densely packed, less for larger ones, or nothing with `temporary`;
    and some 50 bytes an object.

    Objects larger than the overlap are never cut: their parts join where two tiles see the same,
    but a method that decides by the whole object may see it differently in each tile. Where a model
    sees an object in one tile and not in the other, it ends at the seam.

    The watershed fills holes below diameter^2/9 pixels, and takes the maxima of the distance
    (smoothed by diameter/10) as markers for scikit-image's watershed. Otsu's threshold is of the
    unblurred channel; of floats it is known to its bin of the histogram.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.zeros((64, 64), "u2")
    >>> image[8:20, 8:20] = image[40:52, 30:42] = 100
    >>> labels = gq.segment_nuclei(image, 0).compute()
    >>> int(labels.max()), labels.values[[12, 45], [12, 35]].tolist()
    (2, [1, 2])
    """
    labelled = as_image(image)
    at = channel_index(channel_names(labelled), channel)
    plane = labelled.isel(c=[at])
    size = _diameter(diameter)
    tile = _whole("tile", tile, _SMALLEST_TILE)
    if on_error not in ("raise", "skip"):
        raise ParameterError(f"on_error: got {on_error!r}; pass 'raise' or 'skip'.")
    check_temporary(temporary)
    segment: Callable
    arguments: tuple[Any, ...]
    if callable(method):
        if options:
            raise ParameterError(
                f"{next(iter(options))}: a function takes no options here; pass "
                "functools.partial(function, ...)."
            )
        reach = _reach(_OVERLAP, size)
        segment, arguments = _with_function, (method, _levels(plane, normalize, None))
    elif method == "watershed":
        if normalize is not None:
            raise ParameterError(
                f"normalize: got {normalize!r}, but a watershed looks at the values as they are; "
                "leave it out."
            )
        asked = _Asked.of(options, size)
        reach = _reach(_OVERLAP, size, LOCAL_REACH + 2 if asked.local else 2)
        segment, arguments = _with_watershed, (_steps(plane, asked, size, tile),)
    elif method in ("stardist", "cellpose"):
        model = _model(method, size, options)
        reach = _reach(_MODEL_OVERLAP, size)
        segment, arguments = _with_model, (model, _levels(plane, normalize, PERCENTILES))
    else:
        raise ParameterError(
            f"method: got {method!r}; pass one of watershed, stardist, cellpose, or a function "
            "block -> labels."
        )
    depth = min(reach, tile) if overlap is None else _whole("overlap", overlap, 1, tile)
    scratch = None if temporary is None else Scratch(temporary)
    grid = Tiling(tile, depth, on_error == "skip", scratch)
    # To hash a model or a function may be to read all its weights: each call is its own.
    known_by = None if segment is _with_watershed else uuid.uuid4().hex
    return stitch(plane, segment, *arguments, grid=grid, known_by=known_by).rename(None)


def _with_function(
    block: np.ndarray, function: Callable[[np.ndarray], Any], levels: Levels | None
) -> Any:
    return function(block if levels is None else levels.scaled(block))


def _with_watershed(block: np.ndarray, steps: WatershedSteps) -> np.ndarray:
    return watershed_labels(block, steps)


def _with_model(block: np.ndarray, model: Model, levels: Levels | None) -> Any:
    return model.segment((Levels(0.0, 1.0) if levels is None else levels).scaled(block))


def _reach(least: int, diameter: float | None, diameters: int = 2) -> int:
    return least if diameter is None else max(least, math.ceil(diameters * diameter))


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float, np.integer, np.floating))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _diameter(diameter: Any) -> float | None:
    if diameter is None:
        return None
    if not (_is_number(diameter) and diameter >= 1):
        raise ParameterError(
            f"diameter: got {diameter!r}; pass a number of pixels from 1, or None."
        )
    return float(diameter)


def _whole(argument: str, value: Any, least: int, most: int | None = None) -> int:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        limit = f"from {least}" if most is None else f"of {least} to {most} (a tile)"
        raise ParameterError(f"{argument}: got {value!r}; pass a whole number of pixels {limit}.")
    return int(value)


def _levels(
    plane: xr.DataArray, normalize: Any, default: tuple[float, float] | None
) -> Delayed | None:
    """Percentiles of the whole channel, or None for values as they are."""
    if normalize is False or (normalize is None and default is None):
        return None
    asked = default if normalize is None else normalize
    pair = tuple(asked) if isinstance(asked, (tuple, list)) else ()
    if len(pair) != 2 or not all(map(_is_number, pair)) or not 0 <= pair[0] < pair[1] <= 100:
        raise ParameterError(
            f"normalize: got {normalize!r}; pass two ascending percentiles in 0..100, such as "
            "(1, 99.8), or False."
        )
    quantiles = tuple(float(p) / 100 for p in pair)
    found = scan(plane, parts=Part.MOMENTS, quantiles=quantiles).delayed
    return join("levels", _levels_of, found, quantiles)


def _levels_of(statistics: Statistics, quantiles: Sequence[float]) -> Levels:
    values = statistics.distribution(0)
    return Levels(*(values.quantile(q)[0] for q in quantiles))


def _model(method: str, diameter: float | None, options: Mapping[str, Any]) -> Model:
    given = dict(options)
    model, gpu = given.pop("model", None), given.pop("gpu", False)
    if method == "cellpose" and diameter is not None:
        given["diameter"] = diameter
    found = Model(method, model, bool(gpu), given)
    found.check_installed()
    return found


@dataclass(frozen=True)
class _Asked:
    """The watershed's options; None is what follows from the diameter."""

    threshold: float | str = "otsu"
    sigma: float | None = None
    min_distance: int | None = None
    min_area: int | None = None

    @property
    def local(self) -> bool:
        return self.threshold == "local"

    @classmethod
    def of(cls, options: Mapping[str, Any], diameter: float | None) -> _Asked:
        """Options that were given, checked."""
        unknown = [name for name in options if name not in cls.__dataclass_fields__]
        if unknown:
            raise ParameterError(
                f"{unknown[0]}: no option of method 'watershed'; it has "
                f"{', '.join(cls.__dataclass_fields__)}."
            )
        asked = cls(**options)
        if asked.threshold not in ("otsu", "local") and not _is_number(asked.threshold):
            raise ParameterError(
                f"threshold: got {asked.threshold!r}; pass 'otsu', 'local' or a number."
            )
        if asked.local and diameter is None:
            raise ParameterError(
                "threshold: 'local' compares a pixel with what is around it; pass diameter=, from "
                "which it follows how far that is."
            )
        if asked.sigma is not None and not (_is_number(asked.sigma) and asked.sigma >= 0):
            raise ParameterError(f"sigma: got {asked.sigma!r}; pass a number of pixels from 0.")
        for name in ("min_distance", "min_area"):
            if getattr(asked, name) is not None:
                _whole(name, getattr(asked, name), 1)
        return asked


def _steps(
    plane: xr.DataArray, asked: _Asked, diameter: float | None, tile: int
) -> Delayed | WatershedSteps:
    """How blocks are segmented, once the threshold and the diameter are known."""
    threshold: Delayed | float
    if isinstance(asked.threshold, str):
        # Otsu's threshold needs no value but the bins of the first read.
        found = scan(plane, parts=Part.MOMENTS, refine=False).delayed
        threshold = join("threshold", _threshold_of, found, asked.local)
    else:
        threshold = float(asked.threshold)
    if diameter is not None and not isinstance(threshold, Delayed):
        return _steps_of(asked, diameter, threshold)
    size = _estimated(plane, threshold, tile) if diameter is None else diameter
    return join("steps", _steps_of, asked, size, threshold)


def _steps_of(asked: _Asked, diameter: float, threshold: float) -> WatershedSteps:
    window = diameter if asked.local else 0.0
    return WatershedSteps.of(
        threshold, diameter, asked.sigma, asked.min_distance, asked.min_area, window
    )


def _threshold_of(statistics: Statistics, local: bool) -> float:
    values = statistics.distribution(0)
    threshold, _ = values.otsu()
    if not local or math.isnan(threshold):
        return threshold
    background, _ = values.split(threshold)
    return background.mean + (threshold - background.mean) / 3


def _estimated(plane: xr.DataArray, threshold: Delayed | float, tile: int) -> Delayed:
    """The diameter of nuclei in a few tiles of the plane in the middle."""
    middle = {d: [plane.sizes[d] // 2] for d in ("t", "z") if d in plane.dims}
    plane = plane.isel(middle)
    side = min(tile, _SAMPLE_SIDE)
    starts = {d: _spread(count_tiles(plane.sizes[d], tile)) for d in ("y", "x")}
    samples = []
    for row, column in itertools.product(starts["y"], starts["x"]):
        y, x = (slice(k * tile, k * tile + side) for k in (row, column))
        sample = rechunked(plane.isel(y=y, x=x), dict.fromkeys(plane.dims, -1))
        samples.append(Map("radii", sample, _radii, (threshold,)).merged())
    return join("diameter", _diameter_of, *samples)


def _spread(count: int) -> list[int]:
    """Numbers of a few tiles, evenly apart."""
    return sorted({(2 * k + 1) * count // (2 * _SAMPLES) for k in range(_SAMPLES)})


def _radii(block: Sequence[np.ndarray], halo: Any, channels: slice, threshold: float) -> Radii:
    (channel,) = block
    return observe_radii(channel.reshape(channel.shape[-2:]), threshold)


def _diameter_of(*samples: Radii) -> float:
    return Radii(np.concatenate([s.values for s in samples])).diameter
