"""Image elements of SpatialData judged: a grid of tiles, and tables that annotate it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gigaqc.errors import ElementError, ParameterError
from gigaqc.formulas.rules import Rules
from gigaqc.image.labelled import as_image, as_mask, channel_index, channel_names
from gigaqc.image.spatialdata import transformations_of
from gigaqc.quality.channels import check_pairs
from gigaqc.scanning.labels import as_labels, check_fit
from gigaqc.spatial.elements import images_of, listed_names
from gigaqc.tables import add_assessments, check_room
from gigaqc.typing import ChannelLike, MaskLike
from gigaqc.verdict import assessment

if TYPE_CHECKING:
    import xarray as xr
    from spatialdata import SpatialData

PairsLike = Sequence[tuple[str, str]]


def assess(
    sdata: SpatialData,
    image_key: str | Sequence[str] | None = None,
    *,
    labels_key: str | Sequence[str | None] | Mapping[str, str] | None = None,
    tissue: ChannelLike | MaskLike | bool | Mapping[str, Any] | None = None,
    rules: Rules | str | os.PathLike[str] = "robust",
    tile: int = 512,
    expected_pairs: Iterable[tuple[str, str]] = (),
    mask: MaskLike | Mapping[str, Any] | None = None,
    full_scale: float | Mapping[str, float] | None = None,
    name: str | Mapping[str, str] | None = None,
    progress: bool | None = None,
    overwrite: bool = False,
) -> SpatialData:
    """`gigaqc.assess` of image elements; a grid of tiles and tables keep what it found. Runs now.

    Parameters
    ----------
    sdata
        Holds the elements.
    image_key
        Name of an image element, or a list of names. None: all of them, one after the other.
    labels_key
        The labels element of the image's objects; of several images a list as long as theirs (None
        for an image without), or a dict by the image's name.
    tissue, mask, full_scale, name
        As in `gigaqc.assess`; for several images also a dict by the image's name. A sample is
        called as its image element unless said.
    rules, tile, progress
        As in `gigaqc.assess`.
    expected_pairs
        As in `gigaqc.assess`; of several images each takes the pairs whose channels it has.
    overwrite
        Replace the results of an earlier call. They stay until the new ones are complete.

    Returns
    -------
    SpatialData
        `sdata`, with four elements for each image, here of the name ``key``:

        ``shapes["qc_img_key_grid"]``
            The tiles: rectangles in the image's pixels, the last row and column cut at its edge,
            with the image's transformations.
        ``tables["qc_img_key"]``
            Annotates the grid, one row a tile; a column ``qc_<metric>:<channel>`` for each map of
            ``Assessment.tiles`` and each channel (also in ``var["metric"]``, ``var["channel"]``),
            and with labels ``qc_cells``. In ``uns["qc_image"]`` the grid; in ``uns["gigaqc"]``
            ``status``, ``passed``, ``flags`` (a DataFrame), ``summary`` and ``provenance``, without
            what is None.
        ``tables["qc_img_key_channels"]``
            One row a channel, one column a metric of the whole channel; ``obs["status"]``,
            ``obsp["correlation"]``. Annotates no element.
        ``tables["qc_img_key_objects"]``
            Where labels are given and hold objects: annotates the labels element, one row an
            object, one column a measure of `gigaqc.object_table`.

    Raises
    ------
    ElementError
        No such image or labels element; labels that lie elsewhere than the image.
    WriteError
        Results that exist and not `overwrite`; a store that cannot be written.
    ChannelError, ImageError, MaskError, ParameterError, RulesError
        As `gigaqc.assess`.

    Notes
    -----
    All errors of arguments come before any pixel is read, and all images are judged before anything
    is written: the elements of a call are all there or none. Each chunk is read as often as by
    `gigaqc.assess`.

    Of an image with z the grid is one plane: a column is the mean of its planes where they have a
    value, and the layers ``z0``, ``z1``, ... of the table hold each plane.

    The layout is that of squidpy's ``qc_image`` (names of the elements, of the tiles, and of the
    columns of ``obs``), which has no channels: its column ``qc_tenengrad`` is ours of one channel,
    ``qc_tenengrad:DAPI``. ``obsm["spatial"]`` is x, y.

    Examples
    --------
    >>> gq.spatial.assess(sdata, "slide", labels_key="nuclei")                # doctest: +SKIP
    >>> sdata["qc_img_slide"].uns["gigaqc"]["flags"]                          # doctest: +SKIP
    >>> sdata.pl.render_shapes("qc_img_slide_grid", color="qc_snr:DAPI").pl.show() # doctest: +SKIP
    """
    keys = list(sdata.images) if image_key is None else listed_names("image_key", image_key)
    if not keys:
        raise ElementError("image_key: there are no images to judge; add one to sdata.images.")
    images = dict(zip(keys, images_of(sdata, keys, "image_key"), strict=True))
    of_labels = _labels_by_image(sdata, keys, labels_key)
    check_room(
        sdata, keys, objects=any(of_labels.values()), overwrite=overwrite, argument="image_key"
    )
    chosen = Rules.of(rules)
    pairs = _pairs_by_image(images, expected_pairs)
    settings = {
        key: {
            "tissue": _for(tissue, key),
            "mask": _for(mask, key),
            "full_scale": _for(full_scale, key),
            "labels": None if of_labels[key] is None else sdata.labels[of_labels[key]],
        }
        for key in keys
    }
    for key, image in images.items():
        with _named(key):
            _check(sdata, key, of_labels[key], image, settings[key])
    found = {}
    for key, image in images.items():
        with _named(key):
            found[key] = assessment.assess(
                image, rules=chosen, tile=tile, expected_pairs=pairs[key],
                name=_for(name, key) or key, progress=progress, **settings[key],
            )  # fmt: skip
    add_assessments(sdata, found, labels=of_labels, overwrite=overwrite)
    return sdata


@contextlib.contextmanager
def _named(key: str) -> Iterator[None]:
    """Errors say which image they are about."""
    try:
        yield
    except Exception as error:
        error.add_note(f"image_key: in {key!r}.")
        raise


def _for(value: Any, key: str) -> Any:
    """What a caller gives for all images, or by their names."""
    return value.get(key) if isinstance(value, Mapping) else value


def _labels_by_image(sdata: SpatialData, keys: Sequence[str], given: Any) -> dict[str, str | None]:
    by_image: dict[str, str | None]
    if given is None or isinstance(given, str):
        by_image = {key: given for key in keys}
    elif isinstance(given, Mapping):
        unknown = [key for key in given if key not in keys]
        if unknown:
            raise ParameterError(f"labels_key: got {unknown}, which are not among {list(keys)}.")
        by_image = {key: given.get(key) for key in keys}
    else:
        if len(given) != len(keys):
            raise ParameterError(
                f"labels_key: got {len(given)} names for {len(keys)} images; pass one for each."
            )
        by_image = dict(zip(keys, given, strict=True))
    for label in by_image.values():
        if label is not None and label not in sdata.labels:
            raise ElementError(
                f"labels_key: no labels are named {label!r}; there are "
                f"{', '.join(map(repr, sdata.labels)) or 'none'}."
            )
    return by_image


def _pairs_by_image(
    images: Mapping[str, xr.DataArray], given: Iterable[tuple[str, str]]
) -> dict[str, PairsLike]:
    pairs = [tuple(str(n) for n in pair) for pair in given]
    names = {key: channel_names(image) for key, image in images.items()}
    if len(images) == 1 or not pairs:
        return {key: check_pairs(pairs, own, "expected_pairs") for key, own in names.items()}
    everywhere = list(dict.fromkeys(n for own in names.values() for n in own))
    known = check_pairs(pairs, everywhere, "expected_pairs")
    return {key: [p for p in known if set(p) <= set(own)] for key, own in names.items()}


def _check(
    sdata: SpatialData, key: str, label: str | None, image: xr.DataArray, given: Mapping[str, Any]
) -> None:
    """Refuse what does not fit the image, before the first one is read."""
    tissue = given["tissue"]
    if isinstance(tissue, (str, int)) and tissue is not False:
        channel_index(channel_names(image), tissue, "tissue")
    elif tissue is not None and tissue is not False:
        as_mask(tissue, image)
    if given["mask"] is not None:
        as_mask(given["mask"], image)
    if label is None:
        return
    check_fit(as_labels(given["labels"]), as_image(image))
    here, there = (transformations_of(sdata, name) for name in (key, label))
    for system in set(here) & set(there):
        mine, theirs = (t[system].to_affine_matrix(("x", "y"), ("x", "y")) for t in (here, there))
        if not np.allclose(mine, theirs, rtol=1e-6, atol=1e-6 * np.abs(mine).max()):
            raise ElementError(
                f"labels_key: {label!r} lies elsewhere in {system!r} than the image {key!r}; pass "
                "labels of its pixels, or correct their transformation."
            )
