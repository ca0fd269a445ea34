"""Shapes and sizes of objects, from their moments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gigaqc.formulas.signal import ratio
from gigaqc.statistics.object_sums import Layout, Rows

MAD_SIGMAS = 1.4826
"""Standard deviations of a normal distribution to a median absolute deviation."""

PLACES = ("z", "y", "x")

OUTLIER_SIGMAS = 3.0
ELONGATED = 0.9
MOST_VARIED = 0.5
MOST_ELONGATED = 0.1


def covariance(counts: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Second central moments over area, (n, 6): zz, yy, xx, zy, zx, yx.

    `sums` are of z, y, x and their products about any origin near the object (n, 9), in pixels of
    `sizes` (z, y, x).
    """
    n = counts[:, None].astype("f8")
    mean = sums[:, :3] / n
    first, second = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
    central = sums[:, 3:] / n - mean[:, first] * mean[:, second]
    central[:, :3] = np.maximum(central[:, :3], 0.0)
    return central * (sizes[first] * sizes[second])


@dataclass(frozen=True)
class Shapes:
    """Of the ellipse, or ellipsoid, with the moments of an object; see `shapes`."""

    major: np.ndarray
    minor: np.ndarray
    eccentricity: np.ndarray
    orientation: np.ndarray


def shapes(central: np.ndarray, *, planar: bool) -> Shapes:
    """Axes, eccentricity and orientation from `covariance`, as scikit-image defines them.

    In a plane the axes are 4 sqrt(eigenvalue), the eccentricity sqrt(1 - smaller/larger) (0 for a
    single pixel), and the orientation the angle from y to the major axis. In space the axes are
    those of a solid ellipsoid, sqrt(20 eigenvalue); the rest is NaN.
    """
    if planar:
        return _planar(central[:, 1], central[:, 2], central[:, 5])
    tensor = central[:, [0, 3, 4, 3, 1, 5, 4, 5, 2]].reshape(-1, 3, 3)
    values = np.maximum(np.linalg.eigvalsh(tensor), 0.0)
    unknown = np.full(len(central), np.nan)
    return Shapes(np.sqrt(20.0 * values[:, 2]), np.sqrt(20.0 * values[:, 0]), unknown, unknown)


def _planar(yy: np.ndarray, xx: np.ndarray, yx: np.ndarray) -> Shapes:
    middle = (yy + xx) / 2.0
    half = np.hypot((yy - xx) / 2.0, yx)
    larger = middle + half
    # The difference of the two would lose the digits of a thin object.
    with np.errstate(invalid="ignore"):
        smaller = np.maximum(yy * xx - yx * yx, 0.0) / larger
        squared = np.clip(2.0 * half / larger, 0.0, 1.0)
    point = larger == 0.0
    smaller = np.where(point, 0.0, np.minimum(smaller, larger))
    eccentricity = np.where(point, 0.0, np.sqrt(squared))
    orientation = np.where(
        yy == xx,
        np.where(yx > 0.0, math.pi / 4, -math.pi / 4),
        0.5 * np.arctan2(2.0 * yx, yy - xx),
    )
    return Shapes(4.0 * np.sqrt(larger), 4.0 * np.sqrt(smaller), eccentricity, orientation)


def centroids(rows: Rows) -> np.ndarray:
    """Mean z, y, x of each object, (n, 3), in pixels; the first pixel is 0."""
    return rows.box[:, :3] + rows.sums[:, :3] / rows.counts[:, None]


def touches_border(rows: Rows, layout: Layout) -> np.ndarray:
    """Which objects reach a side of the image; along axes of a single pixel none do."""
    touching = np.zeros(len(rows), bool)
    for d, dim in enumerate(PLACES):
        if layout.sizes.get(dim, 1) > 1:
            touching |= (rows.box[:, d] == 0) | (rows.box[:, 3 + d] == layout.sizes[dim])
    return touching


def shapes_of(rows: Rows, layout: Layout) -> Shapes:
    """Axes, eccentricity and orientation, in pixels."""
    central = covariance(rows.counts, rows.sums, np.ones(3))
    return shapes(central, planar=layout.planar)


def size_summary(area: np.ndarray) -> dict[str, float]:
    """How sizes vary: the recipe's fractions, and outliers by median and MAD; NaN of none."""
    if not len(area):
        return dict.fromkeys(_SIZES, math.nan)
    mean = float(area.mean())
    low, high = np.percentile(area, [5, 95])
    middle = float(np.median(area))
    mad = float(np.median(np.abs(area - middle)))
    reach = OUTLIER_SIGMAS * MAD_SIGMAS * mad if mad else math.nan
    return {
        "mean_area": mean,
        "median_area": middle,
        "mad_area": mad,
        "area_cv": ratio(float(area.std()), mean),
        "fraction_very_small": float((area < low).mean()),
        "fraction_very_large": float((area > high).mean()),
        "fraction_outlier_small": float((area < middle - reach).mean()) if mad else math.nan,
        "fraction_outlier_large": float((area > middle + reach).mean()) if mad else math.nan,
    }


_SIZES = (
    "mean_area",
    "median_area",
    "mad_area",
    "area_cv",
    "fraction_very_small",
    "fraction_very_large",
    "fraction_outlier_small",
    "fraction_outlier_large",
)


def fraction_elongated(eccentricity: np.ndarray) -> float:
    """Objects with an eccentricity above 0.9, over those that have one; NaN of none."""
    known = eccentricity[~np.isnan(eccentricity)]
    return float((known > ELONGATED).mean()) if known.size else math.nan


def verdict(n_cells: int, area_cv: float, elongated: float) -> str:
    """GOOD if sizes vary by less than half and fewer than a tenth are elongated, else REVIEW.

    EMPTY of none. Where elongation is unknown (3-D) sizes alone decide.
    """
    if not n_cells:
        return "EMPTY"
    round_enough = math.isnan(elongated) or elongated < MOST_ELONGATED
    return "GOOD" if area_cv < MOST_VARIED and round_enough else "REVIEW"
