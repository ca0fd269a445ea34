"""Names of length units, as OME-Zarr spells them, and pixel sizes in one unit."""

from __future__ import annotations

from collections.abc import Mapping

_METERS = {
    "angstrom": 1e-10,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "inch": 0.0254,
    "meter": 1.0,
}
_SPELLINGS = {
    "nm": "nanometer",
    "um": "micrometer",
    "\u00b5m": "micrometer",  # the micro sign
    "\u03bcm": "micrometer",  # the Greek letter
    "\\u00b5m": "micrometer",  # as ImageJ escapes it
    "micron": "micrometer",
    "microns": "micrometer",
    "micrometre": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "in": "inch",
    "\u00c5": "angstrom",
}


def unit_name(unit: str | None) -> str | None:
    """Full name of a length unit, or None where it is none (pixels, unknown)."""
    if not unit:
        return None
    plain = unit.strip()
    name = _SPELLINGS.get(plain) or _SPELLINGS.get(plain.lower(), plain.lower())
    return name if name in _METERS else None


def in_one_unit(
    sizes: Mapping[str, tuple[float, str | None]],
) -> tuple[dict[str, float], str | None]:
    """Pixel sizes with a unit each, brought to the unit of x; sizes that are not positive fall."""
    kept = {d: (float(v), unit_name(u)) for d, (v, u) in sizes.items() if v > 0}
    if not kept:
        return {}, None
    unit = kept.get("x", next(iter(kept.values())))[1]
    result = {}
    for dim, (value, own) in kept.items():
        if own is not None and unit is not None:
            value = in_unit(value, own, unit)
        result[dim] = value
    return result, unit


def in_unit(value: float, own: str, wanted: str) -> float:
    """A length in another unit, both by their full names."""
    return value if own == wanted else value * _METERS[own] / _METERS[wanted]
