"""How many nuclei images have: segmented and counted together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.base
import numpy as np
import xarray as xr

from gigaqc.base.formatting import in_unit, unit_name
from gigaqc.base.geometry import Halo
from gigaqc.errors import ImageError, ParameterError
from gigaqc.graph.map import Map
from gigaqc.image.labelled import as_image
from gigaqc.segmentation.nuclei import segment_nuclei
from gigaqc.stores.location import stem
from gigaqc.typing import ChannelLike, ImageLike

if TYPE_CHECKING:
    import pandas as pd

_MOST_PARTS = 256  # of blocks, that wait to be added


def count_nuclei(
    images: ImageLike | Sequence[ImageLike] | Mapping[str, ImageLike],
    channel: ChannelLike | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Segment the nuclei of several images and count them, in one call. Runs *now*.

    Parameters
    ----------
    images
        A list of anything that `gigaqc` takes as an image, a dict of them by name, or one.
    channel
        Name or position of the channel that shows nuclei, in each image. None where the images are
        label images already, such as those that `gigaqc.segment_nuclei` gave and
        `gigaqc.write_labels` kept.
    **options
        As in `gigaqc.segment_nuclei`.

    Returns
    -------
    DataFrame
        A row an image, indexed by its name (that of the dict, or of the image or its file, or its
        position): ``nuclei``; ``pixels`` of the image, all planes together; ``per_megapixel``,
        nuclei per 10^6 pixels; ``median_area`` of a nucleus in pixels, NaN where there is none.
        Where all images know their pixel size and its unit of length also ``per_mm2`` and
        ``median_area_um2``. `gigaqc.pl.counts` draws it.

    Raises
    ------
    ParameterError
        No images, options beside label images, and as `gigaqc.segment_nuclei`.
    ImageError
        Label images that are no integers.
    ChannelError, MissingDependencyError, SegmentationError
        As `gigaqc.segment_nuclei`.

    Notes
    -----
    All images are computed together and read as often as by `gigaqc.segment_nuclei`. Labels are
    counted tile by tile and not kept: memory is that of the segmentation, and some 16 bytes a
    nucleus and tile that it lies in. Nuclei of each plane along ``t`` and ``z`` count.

    Examples
    --------
    >>> import numpy as np, gigaqc as gq
    >>> image = np.zeros((64, 64), "u2")
    >>> image[8:20, 8:20] = image[40:52, 30:42] = 100
    >>> table = gq.count_nuclei({"a": image, "b": image[:32]}, 0, sigma=0)
    >>> table.nuclei.to_dict(), table.median_area.to_dict()
    ({'a': 2, 'b': 1}, {'a': 144.0, 'b': 144.0})
    """
    import pandas as pd

    named = _named(images)
    if channel is None and options:
        raise ParameterError(
            f"{next(iter(options))}: goes with channel=, and without it images are label images "
            "already; pass the channel, or leave the option out."
        )
    labels = [
        _labels(image, name) if channel is None else segment_nuclei(image, channel, **options)
        for name, image in named.items()
    ]
    found = dask.base.compute(*map(_areas, labels))
    rows = [
        _row(areas.by_label(), image.size // image.sizes["c"], image)
        for areas, image in zip(found, named.values(), strict=True)
    ]
    table = pd.DataFrame(rows, index=pd.Index(list(named), name="image"))
    without_size = table["per_mm2"].isna().any()
    return table.drop(columns=["per_mm2", "median_area_um2"]) if without_size else table


@dataclass(frozen=True)
class LabelAreas:
    """Pixels of each label, part by part: (labels, counts)."""

    parts: tuple[tuple[np.ndarray, np.ndarray], ...]

    def merge(self, other: LabelAreas) -> LabelAreas:
        """Of two parts of an image."""
        both = LabelAreas(self.parts + other.parts)
        return LabelAreas((both._added(),)) if len(both.parts) > _MOST_PARTS else both

    def _added(self) -> tuple[np.ndarray, np.ndarray]:
        labels, counts = (np.concatenate([p[k] for p in self.parts]) for k in (0, 1))
        distinct, where = np.unique(labels, return_inverse=True)
        return distinct, np.bincount(where, weights=counts, minlength=len(distinct)).astype("i8")

    def by_label(self) -> np.ndarray:
        """The pixels of each object, in the order of labels."""
        return self._added()[1]


def _areas(labels: xr.DataArray) -> Any:
    return Map("areas", as_image(labels), _observe).merged()


def _observe(block: Sequence[np.ndarray], halo: Halo, channels: slice) -> LabelAreas:
    (plane,) = block
    labels, counts = np.unique(plane, return_counts=True)
    return LabelAreas(((labels[labels != 0], counts[labels != 0]),))


def _labels(image: xr.DataArray, name: str) -> xr.DataArray:
    if image.dtype.kind not in "iu" or image.sizes["c"] > 1:
        raise ImageError(
            f"images: {name!r} is no label image (dtype {image.dtype}, {image.sizes['c']} "
            "channels); pass channel= to segment it, or integers with one channel."
        )
    return image


def _named(images: Any) -> dict[str, xr.DataArray]:
    """Images by name; a name that several have gets the position of the image beside it."""
    if isinstance(images, Mapping) and not isinstance(images, (xr.Dataset, xr.DataTree)):
        found = {str(name): as_image(image, argument="images") for name, image in images.items()}
    else:
        several = isinstance(images, (list, tuple))
        given = [as_image(image, argument="images") for image in (images if several else [images])]
        names = [_name(image, k) for k, image in enumerate(given)]
        found = {
            name if names.count(name) == 1 else f"{name} ({k})": image
            for k, (name, image) in enumerate(zip(names, given, strict=True))
        }
    if not found:
        raise ParameterError("images: got none; pass at least one image.")
    return found


def _name(image: xr.DataArray, position: int) -> str:
    source = image.attrs.get("source")
    known = image.name or (stem(str(source)) if source else None)
    return str(position if known is None else known)


def _row(areas: np.ndarray, pixels: int, image: xr.DataArray) -> dict[str, float]:
    median = float(np.median(areas)) if areas.size else math.nan
    size, unit = image.attrs.get("pixel_size") or {}, unit_name(image.attrs.get("unit"))
    square = math.nan  # mm2 of a pixel
    if unit is not None and size.get("y") and size.get("x"):
        square = in_unit(size["y"], unit, "millimeter") * in_unit(size["x"], unit, "millimeter")
    return {
        "nuclei": areas.size,
        "pixels": pixels,
        "per_megapixel": areas.size / pixels * 1e6,
        "median_area": median,
        "per_mm2": areas.size / pixels / square,
        "median_area_um2": median * square * 1e6,
    }
