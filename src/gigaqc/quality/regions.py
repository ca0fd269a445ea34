"""Regions of interest: part of an image as an image of its own, or tiles of a `Statistics`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, overload

import dask.array as da
import numpy as np
import xarray as xr

from gigaqc.base.geometry import count_tiles
from gigaqc.errors import ImageTypeError, ParameterError
from gigaqc.formulas.signal import mean_and_std
from gigaqc.image.arguments import like
from gigaqc.image.devices import only_inside
from gigaqc.image.labelled import as_image, as_mask
from gigaqc.image.polygons import Axis, geometries_of, is_polygons
from gigaqc.scanning.results import Results, labelled_results, tile_map, tile_variables
from gigaqc.scanning.scan import LazyStatistics, StatisticsLike
from gigaqc.statistics.statistics import Part, Statistics
from gigaqc.typing import ImageLike, RegionLike

_FORMS = (
    "a pair of slices (y, x), bounds (x_min, y_min, x_max, y_max), polygons of shapely, a shapes "
    "element, a bool mask, or the path of one"
)


@overload
def region(
    image: ImageLike, where: RegionLike, *, outside: float | None = None
) -> xr.DataArray: ...


@overload
def region(image: StatisticsLike, where: RegionLike, *, outside: None = None) -> xr.Dataset: ...


def region(
    image: ImageLike | StatisticsLike, where: RegionLike, *, outside: float | None = None
) -> xr.DataArray | xr.Dataset:
    """Part of an image, as an image of its own (lazy); of a `Statistics` its tiles in that part.

    Parameters
    ----------
    image
        An image, a label image, or a `Statistics`.
    where
        A rectangle: a pair of slices (y, x) or a dict of them, in pixels, or bounds
        ``(x_min, y_min, x_max, y_max)``; polygons: of shapely, a list of them, or a shapes element
        (GeoDataFrame); or a bool mask of the image's ``y x``, or the path of one.

        Bounds and polygons are in the coordinates of the image: its ``y`` and ``x``, where it has
        these (as elements of SpatialData have), else pixels, the centre of the first at (0.5, 0.5),
        so that the bounds of h rows and w columns are (0, 0, w, h). (scikit-image and napari have
        it at (0, 0): add 0.5.) A shapes element and an image element that both say how they lie in
        a coordinate system are brought together by it.
    outside
        Value of pixels outside of polygons or a mask, which keeps the dtype: 0 for labels. None
        takes NaN, which every metric leaves out.

    Returns
    -------
    DataArray, or Dataset of a `Statistics`
        An image: the smallest rectangle that holds the region, over the dims of `image`, with
        coordinates ``y`` and ``x``, so that polygons mean the same pixels as before. A pixel is
        inside when its centre is; a centre on an edge belongs to the polygon to its right or below.
        Without `outside`, integers and bool come out of polygons and masks as float32 (to 16 bits)
        or float64, which hold them as they are, but for (u)int64 beyond 2^53.

        Of a `Statistics`, tiles that lie in the region as a whole: ``n``, ``mean``, ``std``,
        ``zero_fraction``, ``maximum`` over (``c``, ``tile_y``, ``tile_x``) (and ``t``, ``z``), NaN
        for tiles beyond, and ``whole_n``, ``whole_mean``, ``whole_std`` over ``c`` of all of them
        together. Coordinates ``tile_y`` and ``tile_x`` count tiles of the whole image. Bounds and
        polygons are in pixels.

    Raises
    ------
    ParameterError
        The region holds no pixel (or no whole tile), or `outside` does not fit the dtype.
    MaskError
        A mask that does not fit, or geometries without an area.
    MissingDependencyError
        Polygons without shapely.

    Notes
    -----
    Only chunks that meet the rectangle are read. To keep integers as they are, and read them once,
    pass the polygon as mask instead: ``gq.histogram(image, mask=polygon)``; it fits the image and
    any region of it.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.arange(12, dtype="u2").reshape(3, 4)
    >>> gq.region(image, np.s_[1:, :2]).values.tolist()
    [[4, 5], [8, 9]]
    >>> gq.region(image, (0, 1, 2, 3)).values.tolist()
    [[4, 5], [8, 9]]
    """
    if isinstance(image, (Statistics, LazyStatistics)):
        if outside is not None:
            raise ParameterError(
                "outside: tiles of Statistics lie in a region or do not; leave it."
            )
        return _tiles(image, where)
    labelled = as_image(image)
    if isinstance(where, (str, os.PathLike)):
        where = as_mask(where, labelled, "where")
    axes = {d: Axis.of(labelled, d) for d in ("y", "x")}
    chosen = _Selection.of(where, labelled, axes)
    cut = chosen.cut(_with_places(labelled, axes))
    if chosen.shape is not None:
        within = as_mask(chosen.shape, labelled) if chosen.is_mask else None
        inside = as_mask(chosen.shape, cut, "where") if within is None else chosen.cut(within)
        cut = _masked(cut, inside, outside)
    return like(cut, image)


def _with_places(image: xr.DataArray, axes: Mapping[str, Axis]) -> xr.DataArray:
    """With coordinates, so that a part of it knows where it was."""
    places = {d: a.start + a.step * np.arange(a.size) for d, a in axes.items()}
    return image.assign_coords({d: (d, p) for d, p in places.items() if d not in image.coords})


def _masked(cut: xr.DataArray, inside: xr.DataArray, outside: float | None) -> xr.DataArray:
    """With a value of its own outside."""
    if outside is None:
        short = cut.dtype.kind != "f" and cut.dtype.itemsize <= 2
        dtype = cut.dtype if cut.dtype.kind == "f" else np.dtype("f4" if short else "f8")
        return only_inside(cut, inside, np.nan, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        value = np.asarray(outside).astype(cut.dtype)
    if not (value == outside or (np.isnan(outside) and cut.dtype.kind == "f")):
        raise ParameterError(f"outside: got {outside!r}, which {cut.dtype} does not hold.")
    return only_inside(cut, inside, value.item(), cut.dtype)


@dataclass(frozen=True)
class _Selection:
    """A rectangle of pixels, and within it polygons or a mask of the whole image."""

    y: slice
    x: slice
    shape: Any = None
    is_mask: bool = False

    @classmethod
    def of(cls, where: Any, image: xr.DataArray, axes: Mapping[str, Axis]) -> _Selection:
        """What a caller means by `where`."""
        if is_polygons(where):
            found = cls._bounding(geometries_of(where, image, "where"), axes)
        elif isinstance(where, Mapping) and set(where) <= {"y", "x"}:
            found = cls._of_slices([where.get(d, slice(None)) for d in ("y", "x")], axes)
        elif isinstance(where, (tuple, list)) and len(where) == 2:
            found = cls._of_slices(where, axes)
        elif isinstance(where, (tuple, list)) and len(where) == 4:
            found = cls._of_bounds(where, axes)
        elif hasattr(where, "dtype") and hasattr(where, "shape"):
            found = cls._of_mask(as_mask(where, image, "where"), where)
        else:
            raise ImageTypeError(f"where: got {type(where).__name__}; pass {_FORMS}.")
        if found.y.start >= found.y.stop or found.x.start >= found.x.stop:
            low, high = (axes[d].edges(np.array([0, axes[d].size])) for d in ("x", "y"))
            raise ParameterError(
                f"where: holds no pixel of the image, which spans {low[0]:g} to {low[1]:g} in x "
                f"and {high[0]:g} to {high[1]:g} in y."
            )
        return found

    @classmethod
    def _of_slices(cls, pair: Sequence[Any], axes: Mapping[str, Axis]) -> _Selection:
        return cls(_checked(pair[0], axes["y"]), _checked(pair[1], axes["x"]))

    @classmethod
    def _of_bounds(cls, bounds: Any, axes: Mapping[str, Axis]) -> _Selection:
        try:
            left, top, right, bottom = (float(v) for v in bounds)
        except (TypeError, ValueError):
            raise ImageTypeError(f"where: got {bounds!r}; pass {_FORMS}.") from None
        if not (left < right and top < bottom):
            raise ParameterError(
                f"where: got the bounds {tuple(bounds)!r}; pass (x_min, y_min, x_max, y_max)."
            )
        return cls(axes["y"].between(top, bottom), axes["x"].between(left, right))

    @classmethod
    def _bounding(cls, polygons: np.ndarray, axes: Mapping[str, Axis]) -> _Selection:
        import shapely

        if not len(polygons):
            return cls(slice(0, 0), slice(0, 0))
        left, top, right, bottom = shapely.total_bounds(polygons)
        rows, columns = axes["y"].between(top, bottom), axes["x"].between(left, right)
        return cls(rows, columns, polygons.tolist())

    @classmethod
    def _of_mask(cls, mask: xr.DataArray, given: Any) -> _Selection:
        """The smallest rectangle where the mask is in memory; a lazy one is not computed."""
        values = _in_memory(given)
        if values is None:
            return cls(slice(0, mask.sizes["y"]), slice(0, mask.sizes["x"]), given, True)
        dims = given.dims if isinstance(given, xr.DataArray) else mask.dims
        sides = []
        for d in ("y", "x"):
            others = tuple(i for i, other in enumerate(dims) if other != d)
            held = np.flatnonzero(values.any(axis=others))
            sides.append(slice(int(held[0]), int(held[-1]) + 1) if held.size else slice(0, 0))
        rows, columns = sides
        return cls(rows, columns, given, True)

    def cut(self, image: xr.DataArray) -> xr.DataArray:
        """The rectangle."""
        return image.isel(y=self.y, x=self.x)


def _in_memory(mask: Any) -> np.ndarray | None:
    """The values of a mask, unless they would have to be computed."""
    values = mask.data if isinstance(mask, xr.DataArray) else mask
    return values if isinstance(values, np.ndarray) else None


def _checked(part: Any, axis: Axis) -> slice:
    if not isinstance(part, slice) or part.step not in (None, 1):
        raise ImageTypeError(f"where: got {part!r} for an axis; pass a slice without a step.")
    try:
        start, stop, _ = part.indices(axis.size)
    except TypeError:
        raise ImageTypeError(
            f"where: got {part!r}; slices are in whole pixels, pass bounds for coordinates."
        ) from None
    return slice(start, stop)


def _tiles(source: Statistics | LazyStatistics, where: Any) -> xr.Dataset:
    """Moments of the tiles that lie in a region."""
    source.meta.require(Part.MOMENTS, "region")
    names = ("n", "mean", "std", "zero_fraction", "maximum")
    variables, coords = tile_variables(source, names)
    meta = source.meta
    inside = _whole_tiles(where, meta.sizes, meta.tile)
    rows, columns = (np.flatnonzero(inside.any(axis=a)) for a in (1, 0))
    if not rows.size:
        raise ParameterError(
            f"where: no tile of {meta.tile} pixels lies in it as a whole; scan with a smaller "
            "tile=, or pass the image."
        )
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    inside = inside[box]
    shape = {n: (d, (*s[:-2], *inside.shape), t) for n, (d, s, t) in variables.items()}
    count = len(source.channels)
    shape |= {n: (("c",), (count,), "f8") for n in ("whole_n", "whole_mean", "whole_std")}
    evaluate = partial(_tile_moments, box=box, inside=inside)
    coords |= {"tile_y": np.arange(rows[0], rows[-1] + 1)}
    coords |= {"tile_x": np.arange(columns[0], columns[-1] + 1)}
    return labelled_results(source, evaluate, shape, coords, {"tile": meta.tile})


def _whole_tiles(where: Any, sizes: Mapping[str, int], tile: int) -> np.ndarray:
    """Which tiles (tile_y, tile_x) lie in a region of the image as a whole."""
    axes = {d: Axis(0.5, 1.0, sizes[d]) for d in ("y", "x")}
    blank = da.zeros((sizes["y"], sizes["x"]), dtype="?", chunks=-1)
    frame = xr.DataArray(
        blank, dims=("y", "x")
    )  # polygons need to know the pixels, not their values
    chosen = _Selection.of(where, frame, axes)
    edges = {d: np.minimum(np.arange(count_tiles(a.size, tile) + 1) * tile, a.size)
             for d, a in axes.items()}  # fmt: skip
    spans = {"y": chosen.y, "x": chosen.x}
    held = [(edges[d][:-1] >= spans[d].start) & (edges[d][1:] <= spans[d].stop) for d in ("y", "x")]
    inside = np.logical_and.outer(*held)
    if chosen.is_mask:
        mask = _in_memory(where)
        if mask is None or mask.ndim != 2:
            raise ParameterError("where: for tiles pass a mask (y, x) in memory, mask.compute().")
        filled = np.logical_and.reduceat(mask, edges["y"][:-1], axis=0)
        return inside & np.logical_and.reduceat(filled, edges["x"][:-1], axis=1)
    if chosen.shape is not None:
        import shapely

        whole = shapely.union_all(chosen.shape)
        shapely.prepare(whole)
        for i, j in np.argwhere(inside):
            corners = edges["x"][j], edges["y"][i], edges["x"][j + 1], edges["y"][i + 1]
            inside[i, j] = shapely.covers(whole, shapely.box(*corners))
    return inside


def _tile_moments(statistics: Statistics, box: tuple[slice, slice], inside: np.ndarray) -> Results:
    state = statistics.state
    assert state.tiles is not None
    sums = state.tiles.box.values[(..., *box)]
    shift = state.shift[:, None, None, None, None]
    mean, std = mean_and_std(sums[0], sums[1], sums[2], shift)
    with np.errstate(divide="ignore", invalid="ignore"):
        zeros = sums[3] / sums[0]
    largest = state.tiles.largest.values[0][(..., *box)]
    maps = {
        "n": sums[0], "mean": mean, "std": std, "zero_fraction": zeros,
        "maximum": np.where(sums[0] > 0, largest, np.nan),
    }  # fmt: skip
    found: dict[str, Any] = {
        name: tile_map(np.where(inside, values, np.nan), statistics)
        for name, values in maps.items()
    }
    n, total, squares = sums[:3, ..., inside].sum(axis=(-1, -2, -3))
    mean, std = mean_and_std(n, total, squares, state.shift)
    return found | {"whole_n": n, "whole_mean": mean, "whole_std": std}
