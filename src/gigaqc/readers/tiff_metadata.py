"""What a TIFF says about its pixels: axes, channel names and pixel size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from gigaqc.base.formatting import in_one_unit
from gigaqc.errors import ReadError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

_AXES = {"T": "t", "C": "c", "Z": "z", "Y": "y", "X": "x", "S": "c"}
_SEQUENCES = "QI"  # tifffile's codes for axes of unknown meaning
_RGB, _YCBCR = 2, 6  # values of the tag PhotometricInterpretation
_SAMPLES = ("R", "G", "B", "A")


def dims_of(axes: str, shape: Sequence[int], source: str) -> tuple[str, ...] | None:
    """Dims for tifffile's axes; None where they have a meaning that has no dim here.

    One sequence of unknown meaning (Q, I) is time where no axis is.
    """
    unknown = [a for a in axes if a in _SEQUENCES]
    dims = [_AXES.get(a) for a in axes]
    if len(unknown) == 1 and "t" not in dims:
        dims[axes.index(unknown[0])] = "t"
    if "C" in axes and "S" in axes:
        raise ReadError(
            f"{source}: has {shape[axes.index('C')]} channels of {shape[axes.index('S')]} colour "
            "samples each (axes " + axes + "); store the samples as channels."
        )
    known = [d for d in dims if d is not None]
    if len(known) != len(dims) or len(set(known)) != len(known):
        return None
    return tuple(known)


def channel_names(file: TiffFile, series: TiffPageSeries, index: int) -> tuple[str, ...] | None:
    """Names from OME-XML, ImageJ labels, MetaMorph, or R G B for colour samples; else None."""
    if "S" in series.axes:
        count = series.shape[series.axes.index("S")]
        colour = series.keyframe.photometric in (_RGB, _YCBCR)
        return _SAMPLES[:count] if colour and 3 <= count <= 4 else None
    count = series.shape[series.axes.index("C")] if "C" in series.axes else 1
    names = _ome_names(file, index)
    if names is None and file.is_imagej:
        names = _imagej_names(file, series)
    if names is None and file.is_metaseries and count == 1 and len(series) == 1:
        plane = (file.metaseries_metadata or {}).get("PlaneInfo", {})
        names = [str(plane["image-name"])] if plane.get("image-name") else None
    return tuple(names) if names is not None and len(names) == count else None


def pixel_size(
    file: TiffFile, series: TiffPageSeries, index: int
) -> tuple[dict[str, float], str | None]:
    """Pixel size by dim and its unit, from OME-XML, ImageJ, MetaMorph or Aperio; else empty."""
    for read in (_ome_size, _imagej_size, _metamorph_size, _aperio_size):
        try:
            sizes = read(file, series, index)
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            continue  # damaged metadata: the pixels are good, their size is unknown
        if sizes:
            return in_one_unit(sizes)
    return {}, None


def _ome_pixels(file: TiffFile, index: int) -> Any:
    if not file.is_ome or not file.ome_metadata:
        return None
    try:
        root = ElementTree.fromstring(file.ome_metadata.encode())
    except ElementTree.ParseError:
        return None
    images = [e for e in root.iter() if _tag(e) == "Image"]
    found = [[p for p in image if _tag(p) == "Pixels"] for image in images]
    return found[index][0] if index < len(found) and found[index] else None


def _tag(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _ome_names(file: TiffFile, index: int) -> list[str] | None:
    pixels = _ome_pixels(file, index)
    if pixels is None:
        return None
    given = [c.get("Name") or c.get("Fluor") for c in pixels if _tag(c) == "Channel"]
    if not any(given):
        return None
    return [name or str(i) for i, name in enumerate(given)]


def _ome_size(
    file: TiffFile, series: TiffPageSeries, index: int
) -> dict[str, tuple[float, str | None]]:
    pixels = _ome_pixels(file, index)
    if pixels is None:
        return {}
    return {
        axis.lower(): (
            float(pixels.get(f"PhysicalSize{axis}")),
            pixels.get(f"PhysicalSize{axis}Unit", "um"),
        )
        for axis in "ZYX"
        if pixels.get(f"PhysicalSize{axis}") is not None
    }


def _imagej_names(file: TiffFile, series: TiffPageSeries) -> list[str] | None:
    labels = (file.imagej_metadata or {}).get("Labels")
    if not isinstance(labels, list) or set(series.axes) - set("CYX"):
        return None
    return [str(label) for label in labels]


def _imagej_size(
    file: TiffFile, series: TiffPageSeries, index: int
) -> dict[str, tuple[float, str | None]]:
    metadata = file.imagej_metadata or {}
    unit = metadata.get("unit")
    tags = series.keyframe.tags
    if not file.is_imagej or not unit or str(unit).lower().startswith("pixel"):
        return {}
    sizes: dict[str, tuple[float, str | None]] = {}
    for dim, name in (("y", "YResolution"), ("x", "XResolution")):
        count, length = tags[name].value
        sizes[dim] = (length / count, str(unit))
    if metadata.get("spacing"):
        sizes["z"] = (float(metadata["spacing"]), str(unit))
    return sizes


def _metamorph_size(
    file: TiffFile, series: TiffPageSeries, index: int
) -> dict[str, tuple[float, str | None]]:
    if file.is_metaseries:
        plane = (file.metaseries_metadata or {}).get("PlaneInfo", {})
        if not plane.get("spatial-calibration-state", True):
            return {}
        unit = plane["spatial-calibration-units"]
        return {d: (float(plane[f"spatial-calibration-{d}"]), unit) for d in ("y", "x")}
    if file.is_stk and file.stk_metadata:
        tags = file.stk_metadata
        unit = tags["CalibrationUnits"]
        return {d: (float(tags[f"{d.upper()}Calibration"]), unit) for d in ("y", "x")}
    return {}


def _aperio_size(
    file: TiffFile, series: TiffPageSeries, index: int
) -> dict[str, tuple[float, str | None]]:
    if not file.is_svs or index != 0:
        return {}
    found = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", series.keyframe.description)
    return {d: (float(found.group(1)), "um") for d in ("y", "x")} if found else {}
