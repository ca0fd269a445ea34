"""Tables and shapes as the files that anndata and spatialdata read, of zarr 3.

anndata writes a table node by node through zarr's event loop, which for small tables takes 0.2 s:
a third of what judging four channels of 4096 x 4096 takes. These files take a few milliseconds, and
are the same with every release, where newer ones of anndata write strings that older ones do not
read. The form: https://anndata.readthedocs.io/en/stable/fileformat-prose.html.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from gigaqc.sdata import as_ngff

Files = dict[str, bytes]
"""Content by path below the element."""

_TABLE = "0.2"  # spatialdata's versions of its elements in zarr 3
_SHAPES = "0.3"
_CHUNK = 1 << 22  # bytes of an array in a chunk
_ZSTD_LEVEL = 1


def table_files(table: Any) -> Files:
    """An AnnData with dense X as files; in ``uns`` what `storable` gives."""
    about = table.uns.get("spatialdata_attrs", {})
    tree = _Tree()
    tree.group(
        "",
        {
            "encoding-type": "anndata",
            "encoding-version": "0.1.0",
            "spatialdata-encoding-type": "ngff:regions_table",
            **{name: about.get(name) for name in ("region", "region_key", "instance_key")},
            "version": _TABLE,
        },
    )
    tree.add("X", table.X)
    for name in ("obs", "var"):
        tree.add(name, getattr(table, name))
    for name in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        held = getattr(table, name)
        # anndata 0.13 lists X among the layers, as None.
        if kept := {key: held[key] for key in held if key is not None}:
            tree.add(name, kept)
    return tree.files


def shapes_files(frame: Any, transformations: Mapping[str, Any]) -> Files:
    """A GeoDataFrame of polygons in y and x as files."""
    axes = ("x", "y")
    tree = _Tree()
    tree.group(
        "",
        {
            "encoding-type": "ngff:shapes",
            "axes": list(axes),
            "coordinateTransformations": [
                as_ngff(t, axes, system) for system, t in transformations.items()
            ],
            "spatialdata_attrs": {"version": _SHAPES},
        },
    )
    content = io.BytesIO()
    frame.to_parquet(content, geometry_encoding="WKB")
    return {**tree.files, "shapes.parquet": content.getvalue()}


class _Tree:
    """Nodes of a zarr hierarchy as files."""

    def __init__(self) -> None:
        self.files: Files = {}

    def add(self, path: str, value: Any) -> None:
        """A value in the encoding that anndata has for it."""
        if isinstance(value, pd.DataFrame):
            self._frame(path, value)
        elif isinstance(value, Mapping):
            self.group(path, _encoding("dict", "0.1.0"))
            for name, item in value.items():
                self.add(f"{path}/{name}", item)
        elif isinstance(value, pd.Categorical):
            self.group(path, {"ordered": bool(value.ordered), **_encoding("categorical", "0.2.0")})
            self.add(f"{path}/codes", value.codes)
            self.add(f"{path}/categories", value.categories.to_numpy())
        elif np.ndim(value):
            self._array(path, np.asarray(value), "array", "string-array")
        else:
            self._array(path, np.asarray(value), "numeric-scalar", "string")

    def group(self, path: str, attributes: Mapping[str, Any]) -> None:
        """A group with attributes."""
        self._node(path, {"node_type": "group", "attributes": dict(attributes)})

    def _frame(self, path: str, frame: pd.DataFrame) -> None:
        columns = [str(c) for c in frame.columns]
        about = {"column-order": columns, "_index": "_index", **_encoding("dataframe", "0.2.0")}
        self.group(path, about)
        self.add(f"{path}/_index", frame.index.to_numpy())
        for name in columns:
            held = frame[name].array
            plain = held if isinstance(held, pd.Categorical) else frame[name].to_numpy()
            self.add(f"{path}/{name}", plain)

    def _array(self, path: str, values: np.ndarray, numbers: str, texts: str) -> None:
        is_text = values.dtype.kind in "OUT"
        first: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
        if is_text:
            first = {"name": "vlen-utf8", "configuration": {}}
        elif values.dtype.itemsize == 1:
            del first["configuration"]
        zstd = {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": False}}
        fill = "" if is_text else np.zeros((), values.dtype).item()
        shape = _chunk_shape(values)
        self._node(
            path,
            {
                "node_type": "array",
                "shape": list(values.shape),
                "data_type": "string" if is_text else values.dtype.name,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
                "fill_value": fill,
                "codecs": [first, zstd],
                "attributes": _encoding(texts if is_text else numbers, "0.2.0"),
                "storage_transformers": [],
            },
        )
        for key, part in _chunks(values, shape, fill):
            self.files[f"{path}/{key}"] = _encoded(part)

    def _node(self, path: str, node: Mapping[str, Any]) -> None:
        text = json.dumps({"zarr_format": 3, **node}, allow_nan=False)
        self.files[f"{path}/zarr.json".lstrip("/")] = text.encode()


def _encoding(kind: str, version: str) -> dict[str, str]:
    return {"encoding-type": kind, "encoding-version": version}


def _chunk_shape(values: np.ndarray) -> list[int]:
    """Whole rows, as many as a chunk holds."""
    if not values.ndim:
        return []
    row = 8 * math.prod(values.shape[1:])
    rows = max(1, min(len(values), _CHUNK // max(row, 1)))
    return [rows, *(max(n, 1) for n in values.shape[1:])]


def _chunks(values: np.ndarray, shape: list[int], fill: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Key and content of each chunk; all hold as many values, also beyond the end."""
    if not values.ndim:
        yield "c", values
        return
    for start in range(0, len(values) if values.size else 0, shape[0]):
        part = values[start : start + shape[0]]
        beyond = np.full((shape[0] - len(part), *values.shape[1:]), fill, values.dtype)
        key = ".".join(["c", str(start // shape[0]), *["0"] * (values.ndim - 1)])
        yield key, np.concatenate([part, beyond]) if len(beyond) else part


def _encoded(values: np.ndarray) -> bytes:
    import imagecodecs

    if values.dtype.kind in "OUT":
        texts = [str(text).encode("utf-8", "replace") for text in values.ravel()]
        sized = [struct.pack("<I", len(text)) + text for text in texts]
        raw = struct.pack("<I", len(texts)) + b"".join(sized)
    else:
        raw = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    return bytes(imagecodecs.zstd_encode(raw, level=_ZSTD_LEVEL))


def storable(value: Any) -> Any:
    """Plain values as ``uns`` holds them: no None, no list of lists, nothing that is empty.

    Parameters
    ----------
    value
        Mappings, sequences, text, numbers and None, nested.

    Returns
    -------
    dict, numpy.ndarray, str, bool, int, float or None
        None where nothing is left.

    Examples
    --------
    >>> storable({"unit": None, "sizes": {"y": 3}})
    {'sizes': {'y': 3}}
    """
    if isinstance(value, Mapping):
        held = {str(name): storable(item) for name, item in value.items()}
        return {name: item for name, item in held.items() if item is not None} or None
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, (list, tuple)) for item in value):
            value = [" / ".join(map(str, item)) for item in value]
        texts = any(isinstance(item, str) for item in value)
        return np.array(value, dtype=object if texts else None) if value else None
    return value.item() if isinstance(value, np.generic) else value
