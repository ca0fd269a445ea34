"""Polygons as masks: shapely geometries and shapes elements, rasterized block by block.

A pixel belongs to a polygon when its centre does; a centre on an edge belongs to the polygon to its
right or below, so that polygons that touch share no pixel and lose none. Where an image has no
coordinates of its own, the centre of its first pixel is at (0.5, 0.5), as in SpatialData: the
bounds of h rows and w columns are 0, 0, w, h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from gigaqc.base.naming import named
from gigaqc.errors import ImageError, MaskError, MissingDependencyError

_POLYGON, _MULTIPOLYGON, _COLLECTION = 3, 6, 7  # shapely's numbers of its types
_POINT = 0
_QUARTER = 64  # edges of a quarter of a circle: off by less than 8e-5 of the radius


@dataclass(frozen=True)
class Axis:
    """Where the pixels of one axis are: the centre of the k-th at ``start + k step``."""

    start: float
    step: float
    size: int

    @classmethod
    def of(cls, image: xr.DataArray, dim: str) -> Axis:
        """Of an image: from its coordinate, else pixels, with the first centre at 0.5."""
        size = image.sizes[dim]
        if dim not in image.coords:
            return cls(0.5, 1.0, size)
        places = np.asarray(image.coords[dim].values, dtype="f8")
        if size == 1:
            step = float((image.attrs.get("pixel_size") or {}).get(dim, 1.0))
            return cls(float(places[0]), step, size)
        step = float(places[-1] - places[0]) / (size - 1)
        even = places[0] + step * np.arange(size)
        if not (np.isfinite(step) and step and np.abs(places - even).max() <= 1e-3 * abs(step)):
            raise ImageError(
                f"image: its coordinate {dim} is not evenly spaced, so polygons cannot be laid "
                f"over it; give it even ones, or image.drop_vars({dim!r}) and polygons in pixels."
            )
        return cls(float(places[0]), step, size)

    def indices(self, places: np.ndarray) -> np.ndarray:
        """Places in pixels, the centre of the first at 0."""
        return (places - self.start) / self.step

    def between(self, low: float, high: float) -> slice:
        """The pixels whose centres lie from `low` up to, but not, `high`."""
        ends = sorted(float(v) for v in self.indices(np.array([low, high])))
        first, last = (int(np.ceil(np.clip(e, 0, self.size))) for e in ends)
        return slice(first, last)

    def edges(self, indices: np.ndarray) -> np.ndarray:
        """Coordinates of the left or upper edges of pixels."""
        return self.start + (indices - 0.5) * self.step


def is_polygons(value: Any) -> bool:
    """Whether it is a geometry of shapely, a shapes element, or a list of geometries."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(_made_by(v, "shapely") for v in value)
    return _made_by(value, "shapely") or _made_by(value, "geopandas")


def _made_by(value: Any, package: str) -> bool:
    return any(c.__module__.partition(".")[0] == package for c in type(value).__mro__)


def geometries_of(value: Any, image: xr.DataArray, argument: str = "mask") -> np.ndarray:
    """Polygons of what `is_polygons`, in the coordinates of an image: an array of geometries.

    Multipolygons come apart; circles (points with a ``radius``) become polygons; what is missing
    or empty is left out.

    Raises
    ------
    MaskError
        Lines, points without a radius, coordinates that are not finite, or elements that share no
        coordinate system.
    """
    shapely = _shapely(argument)
    if _made_by(value, "geopandas"):
        found = np.asarray(value.geometry.array, dtype=object)
        if "radius" in getattr(value, "columns", ()):
            radius = np.asarray(value["radius"], "f8")
            circles = shapely.get_type_id(found) == _POINT
            found[circles] = shapely.buffer(found[circles], radius[circles], quad_segs=_QUARTER)
        found = _moved(found, value, image, argument)
    else:
        found = np.array(value if isinstance(value, (list, tuple)) else [value], dtype=object)
    parts = shapely.get_parts(found[~shapely.is_missing(found)])
    while (shapely.get_type_id(parts) == _COLLECTION).any():
        parts = shapely.get_parts(parts)
    parts = shapely.get_parts(parts[~shapely.is_empty(parts)])
    other = parts[shapely.get_type_id(parts) != _POLYGON]
    if other.size:
        raise MaskError(
            f"{argument}: got a {other[0].geom_type}, which has no area; pass polygons, for "
            "example its .buffer(distance)."
        )
    if not np.isfinite(shapely.get_coordinates(parts)).all():
        raise MaskError(f"{argument}: polygons with coordinates that are not finite; repair them.")
    return parts


def _shapely(argument: str) -> Any:
    try:
        import shapely
    except ImportError as error:  # a geometry may come from another process
        raise MissingDependencyError(
            f"{argument}: polygons need shapely; pip install shapely."
        ) from error
    return shapely


def _moved(found: np.ndarray, element: Any, image: xr.DataArray, argument: str) -> np.ndarray:
    """Geometries of a shapes element in the coordinates of an image element.

    Where both say how they lie in a coordinate system that they share, through that.
    """
    theirs = getattr(element, "attrs", {}).get("transform")
    ours = image.attrs.get("transform")
    if not isinstance(theirs, dict) or not isinstance(ours, dict):
        return found
    shared = sorted(set(theirs) & set(ours), key=lambda name: (name != "global", str(name)))
    if not shared:
        raise MaskError(
            f"{argument}: its coordinate systems {sorted(theirs)} are none of the image's "
            f"{sorted(ours)}; set a transformation to one that both have."
        )
    axes = ("x", "y")
    forth, back = (t[shared[0]].to_affine_matrix(axes, axes) for t in (theirs, ours))
    matrix = np.linalg.solve(back, forth)
    if np.array_equal(matrix, np.eye(3)):
        return found
    shapely = _shapely(argument)

    def move(places: np.ndarray) -> np.ndarray:
        return places @ matrix[:2, :2].T + matrix[:2, 2]

    return np.asarray(shapely.transform(found, move), dtype=object)


@dataclass(frozen=True)
class Outlines:
    """Edges of polygons in pixels, as the kernel takes them; sliced, the mask of what is inside."""

    edges: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    shape: tuple[int, int]
    dtype = np.dtype("?")
    ndim = 2

    @classmethod
    def of(cls, polygons: np.ndarray, y: Axis, x: Axis, shape: tuple[int, int]) -> Outlines:
        """Of polygons from `geometries_of`, on an image of this shape."""
        import shapely

        rings, polygon = shapely.get_rings(polygons, return_index=True)
        places, ring = shapely.get_coordinates(rings, return_index=True)
        places = np.stack([x.indices(places[:, 0]), y.indices(places[:, 1])], axis=1)
        along = ring[1:] == ring[:-1]
        edges = np.concatenate([places[:-1][along], places[1:][along]], axis=1)
        owner = polygon[ring[1:][along]]
        edges[edges[:, 1] > edges[:, 3]] = edges[edges[:, 1] > edges[:, 3]][:, [2, 3, 0, 1]]
        rising = edges[:, 1] < edges[:, 3]
        edges, owner = edges[rising], owner[rising]
        starts = np.searchsorted(owner, np.arange(len(polygons) + 1))
        boxes = np.empty((len(polygons), 4))
        whose = polygon[ring]
        for k, column in enumerate((0, 1, 0, 1)):
            extreme = np.full(len(polygons), np.inf if k < 2 else -np.inf)
            (np.minimum if k < 2 else np.maximum).at(extreme, whose, places[:, column])
            boxes[:, k] = extreme
        return cls(np.ascontiguousarray(edges, "f8"), starts.astype("i8"), boxes, shape)

    def __getitem__(self, place: tuple[slice, slice]) -> np.ndarray:
        """Which pixels of a block are inside."""
        from gigaqc.kernels.places import fill_polygons  # numba takes a second to import

        (top, bottom, _), (left, right, _) = (
            s.indices(n) for s, n in zip(place, self.shape, strict=True)
        )
        corner = (top, left, bottom - top, right - left)
        return fill_polygons(self.edges, self.starts, self.boxes, *corner)


def polygon_mask(value: Any, image: xr.DataArray, argument: str = "mask") -> xr.DataArray:
    """A bool mask (y, x) of polygons, chunked like the image, each block made when it is needed.

    Parameters
    ----------
    value
        What `is_polygons`, in the coordinates of the image.
    image
        From `as_image`.
    argument
        How the caller names this argument, for messages.
    """
    y, x = Axis.of(image, "y"), Axis.of(image, "x")
    shape = (image.sizes["y"], image.sizes["x"])
    outlines = Outlines.of(geometries_of(value, image, argument), y, x, shape)
    chunks = (image.chunksizes["y"], image.chunksizes["x"])
    name = named("polygons", outlines, chunks)
    data = da.from_array(outlines, chunks, name=name, asarray=False, meta=np.empty((0, 0), "?"))
    return xr.DataArray(data, dims=("y", "x"))
