"""zarr arrays and groups, OME-Zarr, plates and SpatialData stores, through zarr and its metadata.

SpatialData itself is not imported (which takes ten seconds): its images are OME-Zarr groups below
``images``, its label images below ``labels``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gigaqc.base.formatting import in_one_unit
from gigaqc.errors import ParameterError, ReadError
from gigaqc.readers.raw import RawImage, grouped_in_shards
from gigaqc.stores.direct import direct
from gigaqc.stores.location import Location, locate, natural_key, no_permission, stem

if TYPE_CHECKING:
    import zarr

_DEPTH = 4  # how deep a plain group is searched for images
_BEFORE_AXES = ("t", "c", "z", "y", "x")  # OME-Zarr 0.1 and 0.2 know no others
_DIM_NAMES = {
    "time": "t", "frame": "t", "channel": "c", "channels": "c", "band": "c", "depth": "z",
    "plane": "z", "height": "y", "row": "y", "width": "x", "column": "x",
}  # fmt: skip


class ZarrReader:
    """The images and label images of a zarr store, as paths inside it."""

    def __init__(self, source: Any, *, name: str) -> None:
        self._source = name
        self._root = _opened(source, name)
        own = stem(source.path) if isinstance(source, Location) else stem(self._root.path)
        self._images = self._find_images(own or "image")
        self._labels = self._find_labels()

    def images(self) -> list[str]:
        """Names of the images."""
        return list(self._images)

    def labels(self) -> list[str] | None:
        """Names of what lies below ``labels``; None where a store has no such place."""
        return None if self._labels is None else list(self._labels)

    def default(self) -> str | None:
        """Name the only image."""
        return next(iter(self._images)) if len(self._images) == 1 else None

    def read(self, name: str, level: int, *, labels: bool = False) -> RawImage:
        """Open an array, or a level of a multiscale image."""
        import zarr

        path = (self._labels or {} if labels else self._images)[name]
        node = self._node(path)
        if isinstance(node, zarr.Array):
            if level:
                raise ParameterError(f"level: {self._source} has no levels; got {level}, pass 0.")
            dims = _array_dims(node)
            return RawImage(
                array=direct(node),
                element=name,
                chunks=node.chunks,
                dims=dims,
                blocks=grouped_in_shards(node.chunks, node.shards, dims),
            )
        return self._multiscale(node, name, level)

    def _node(self, path: str) -> Any:
        if not path:
            return self._root
        try:
            return self._root[path]
        except KeyError as error:
            raise ReadError(f"{self._source}: lists {path!r}, which is not there.") from error

    def _find_images(self, own: str) -> dict[str, str]:
        import zarr

        root = self._root
        if isinstance(root, zarr.Array) or "multiscales" in _ome(root):
            return {own: ""}
        if "plate" in _ome(root):
            return self._plate_fields()
        if _is_spatialdata(root):
            return self._below("images")
        found: dict[str, str] = {}
        _walk(root, "", _DEPTH, found)
        return found

    def _find_labels(self) -> dict[str, str] | None:
        import zarr

        if isinstance(self._root, zarr.Array):
            return None
        return self._below("labels") or ({} if _is_spatialdata(self._root) else None)

    def _below(self, group: str) -> dict[str, str]:
        import zarr

        node = self._root.get(group)
        if not isinstance(node, zarr.Group):
            return {}
        listed = _ome(node).get(group, []) if group == "labels" else []
        names = [str(n) for n in listed if n in node] or _members(node)
        return {n: f"{group}/{n}" for n in names}

    def _plate_fields(self) -> dict[str, str]:
        fields = {}
        for well in _ome(self._root)["plate"].get("wells", []):
            path = well["path"]
            node = self._root.get(path)
            for image in _ome(node).get("well", {}).get("images", []) if node is not None else []:
                field = f"{path}/{image['path']}"
                fields[field] = field
        return fields

    def _multiscale(self, node: zarr.Group, name: str, level: int) -> RawImage:
        import zarr

        ome = _ome(node)
        try:
            multiscale = ome["multiscales"][0]
            datasets = [
                d for d in multiscale["datasets"] if isinstance(node.get(d["path"]), zarr.Array)
            ]
        except (KeyError, IndexError, TypeError) as error:
            raise ReadError(
                f"{self._source}: {name!r} has no valid OME-Zarr metadata ({error!r})."
            ) from error
        if not datasets:
            listed = [d["path"] for d in multiscale["datasets"]]
            raise ReadError(f"{self._source}: {name!r} lists levels {listed}, none is there.")
        if level >= len(datasets):
            raise ParameterError(
                f"level: {self._source} has {len(datasets)} levels for {name!r} (stored as "
                f"{[d['path'] for d in datasets]}); got {level}, pass 0 to {len(datasets) - 1}."
            )
        array = node[datasets[level]["path"]]
        assert isinstance(array, zarr.Array)
        dims, units, old = _axes(multiscale, array.ndim)
        scales = _scales(multiscale, datasets[level], array.ndim)
        finest = _scales(multiscale, multiscale["datasets"][0], array.ndim)
        sizes, unit = _pixel_size(dims, units, scales, finest)
        return RawImage(
            array=direct(array),
            element=name,
            chunks=array.chunks,
            dims=dims,
            blocks=grouped_in_shards(array.chunks, array.shards, dims),
            invented=frozenset("tz") if old else frozenset(),
            channels=_channel_names(ome),
            pixel_size=sizes,
            unit=unit,
        )


def _opened(source: Any, name: str) -> Any:
    """Root array or group of a location, zarr store, group or array, for reading only."""
    import zarr

    if isinstance(source, (zarr.Array, zarr.Group)):
        return source
    # Consolidated metadata goes stale when elements are added; locally, look at the files.
    consolidated = False if isinstance(source, Location) and source.local else None
    try:
        error: Exception | None = None
        for store in _stores(source):
            try:
                return zarr.open_group(store, mode="r", use_consolidated=consolidated)
            except Exception:
                try:
                    return zarr.open_array(store, mode="r")
                except Exception as why:
                    error = why
        assert error is not None
        raise error
    except PermissionError as error:
        raise no_permission(source if isinstance(source, Location) else locate(name)) from error
    except Exception as error:
        raise ReadError(
            f"{name}: neither a zarr array nor a group that can be opened "
            f"({type(error).__name__}: {error}); its metadata is missing or corrupt."
        ) from error


def _stores(source: Any) -> Iterator[Any]:
    """What zarr may open, the best first."""
    if not isinstance(source, Location):
        yield source
    elif source.local:
        yield source.path
    else:
        from gigaqc.stores.object_store import remote_stores

        yield from remote_stores(source)


def _ome(node: Any) -> Mapping[str, Any]:
    """OME metadata of a group: below ``ome`` since 0.5, before that the attributes themselves."""
    attrs = dict(node.attrs)
    ome = attrs.get("ome")
    return ome if isinstance(ome, Mapping) else attrs


def _is_spatialdata(root: zarr.Group) -> bool:
    import zarr

    if "spatialdata_attrs" in root.attrs:
        return True
    others = {"labels", "points", "shapes", "table", "tables"} & set(_members(root))
    return isinstance(root.get("images"), zarr.Group) and bool(others)


def _walk(group: zarr.Group, prefix: str, depth: int, found: dict[str, str]) -> None:
    import zarr

    for key in _members(group):
        node, path = group[key], f"{prefix}{key}"
        if isinstance(node, zarr.Array):
            if node.ndim >= 2 and node.dtype.kind in "buif":
                found[path] = path
        elif "multiscales" in _ome(node):
            found[path] = path
        elif depth > 1 and key != "labels":
            _walk(node, f"{path}/", depth - 1, found)


def _members(group: zarr.Group) -> list[str]:
    """Names of arrays and groups; other files beside them (a README, .DS_Store) are no error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sorted(group.keys(), key=natural_key)


def _array_dims(array: zarr.Array) -> tuple[str, ...] | None:
    """Dims from zarr v3 dimension names or xarray's attribute, where all have a meaning here."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if not isinstance(names, (list, tuple)) or len(names) != array.ndim:
        return None
    lowered = [str(n).lower() for n in names]
    dims = tuple(_DIM_NAMES.get(n, n) for n in lowered)
    known = set(dims) <= set(_BEFORE_AXES) and len(set(dims)) == len(dims)
    return dims if known and {"y", "x"} <= set(dims) else None


def _axes(
    multiscale: Mapping[str, Any], ndim: int
) -> tuple[tuple[str, ...] | None, tuple[str | None, ...], bool]:
    """Dims and units of a multiscale image, and whether its version fixes five axes."""
    axes = multiscale.get("axes")
    if not axes or len(axes) != ndim:
        old = ndim == len(_BEFORE_AXES)
        return (_BEFORE_AXES if old else None), (None,) * ndim, old
    entries = [a if isinstance(a, Mapping) else {"name": a} for a in axes]
    names = [str(a.get("name", "")).lower() for a in entries]
    return tuple(_DIM_NAMES.get(n, n) for n in names), tuple(a.get("unit") for a in entries), False


def _scales(multiscale: Mapping[str, Any], dataset: Mapping[str, Any], ndim: int) -> list[float]:
    scales = [1.0] * ndim
    for owner in (multiscale, dataset):
        for transform in owner.get("coordinateTransformations") or []:
            # SpatialData's transformations to coordinate systems name an output: no pixel sizes.
            values = transform.get("scale")
            if transform.get("type") != "scale" or not isinstance(values, list):
                continue
            if "output" not in transform and len(values) == ndim:
                scales = [a * float(b) for a, b in zip(scales, values, strict=True)]
    return scales


def _pixel_size(
    dims: tuple[str, ...] | None,
    units: tuple[str | None, ...],
    scales: list[float],
    finest: list[float],
) -> tuple[dict[str, float], str | None]:
    """Pixel size and unit; nothing where a finest level of 1 without unit says nothing."""
    if dims is None:
        return {}, None
    sizes = {d: (s, u) for d, s, u in zip(dims, scales, units, strict=True) if d in ("z", "y", "x")}
    said, unit = in_one_unit(sizes)
    unknown = unit is None and all(s == 1 for s in finest)
    return ({}, None) if unknown else (said, unit)


def _channel_names(ome: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Labels of ``omero`` (or ``channels_metadata`` of the first SpatialData stores)."""
    for key in ("omero", "channels_metadata"):
        entries = ome.get(key)
        channels = entries.get("channels") if isinstance(entries, Mapping) else None
        if isinstance(channels, list) and channels:
            labels = [c.get("label") if isinstance(c, Mapping) else None for c in channels]
            if any(label is not None for label in labels):
                return tuple(str(i if n is None else n) for i, n in enumerate(labels))
    return None
