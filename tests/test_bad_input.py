"""Bad input: one clear error each, that names the argument and the cure, before a pixel is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr

import gigaqc as gq
from gigaqc.errors import (
    ChannelError,
    GigaqcError,
    ImageError,
    ImageTypeError,
    MaskError,
    ParameterError,
    ReadError,
    RulesError,
    SourceNotFoundError,
    StatisticsError,
)
from gigaqc.testing import forbid_compute


def _unreadable(block: np.ndarray) -> np.ndarray:
    raise AssertionError("a pixel was read")


def unreadable(
    shape: tuple[int, ...] = (2, 60, 50), dtype: str = "u2", names: tuple[str, ...] = ("DNA", "CD3")
) -> xr.DataArray:
    """A good image whose pixels must never be touched."""
    zeros = da.zeros(shape, dtype=dtype, chunks=(1, 20, 20))
    pixels = zeros.map_blocks(_unreadable, dtype=dtype, meta=np.empty((0, 0, 0), dtype))
    return xr.DataArray(pixels, dims=("c", "y", "x"), coords={"c": list(names)})


@pytest.fixture(autouse=True)
def nothing_is_read(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.name.startswith("test_reads"):
        yield
        return
    with forbid_compute():
        yield


def refuses(error: type[GigaqcError], call: Callable[[], Any], *words: str) -> None:
    """`call` raises `error` itself, and its message has each of the words."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"
    assert len(message) < 600


# ---- images --------------------------------------------------------------------------------------

TAKE_AN_IMAGE: dict[str, Callable[[Any], Any]] = {
    "scan": lambda image: gq.scan(image),
    "quantile": lambda image: gq.quantile(image, 0.5),
    "histogram": lambda image: gq.histogram(image),
    "joint_histogram": lambda image: gq.joint_histogram(image, 0, 1),
    "signal_to_noise": lambda image: gq.signal_to_noise(image),
    "channel_correlation": lambda image: gq.channel_correlation(image),
    "colocalization": lambda image: gq.colocalization(image, 0, 1),
    "stained_area": lambda image: gq.stained_area(image),
    "tissue_integrity": lambda image: gq.tissue_integrity(image, 0),
    "acquisition_artifacts": lambda image: gq.acquisition_artifacts(image),
    "dynamic_range": lambda image: gq.dynamic_range(image),
    "focus": lambda image: gq.focus(image),
    "assess": lambda image: gq.assess(image),
    "explain": lambda image: gq.explain(image),
}


def unknown_chunks() -> da.Array:
    pixels = da.ones((10, 12), chunks=5)
    return pixels[:, pixels[0] > 0]


BAD_IMAGES: dict[str, tuple[Callable[[], Any], type[GigaqcError], tuple[str, ...]]] = {
    "a path": (lambda: "no.tif", SourceNotFoundError, ("image: 'no.tif'", "not exist", "check")),
    "a Path": (lambda: Path("no.tif"), SourceNotFoundError, ("image: 'no.tif'", "not exist")),
    "nothing": (lambda: None, ImageTypeError, ("NoneType", "pass")),
    "a list": (lambda: [[1, 2], [3, 4]], ImageTypeError, ("list", "numpy")),
    "a number": (lambda: 3, ImageTypeError, ("int", "pass")),
    "one axis": (lambda: np.ones(9), ImageError, ("(9,)",)),
    "four axes": (lambda: np.ones((2, 3, 4, 5)), ImageError, ("4", "dims")),
    "other dims": (
        lambda: xr.DataArray(np.ones((4, 5)), dims=("row", "col")),
        ImageError,
        ("row", "rename"),
    ),
    "no x": (lambda: xr.DataArray(np.ones((4, 5)), dims=("c", "y")), ImageError, ("lack", "x")),
    "twice the same channel": (
        lambda: unreadable(names=("CD3", "CD3")),
        ChannelError,
        ("CD3", "channels"),
    ),
    "objects": (lambda: np.full((4, 5), None), ImageError, ("object", "convert")),
    "complex": (lambda: np.ones((4, 5), "c8"), ImageError, ("complex64", "convert")),
    "dates": (lambda: np.zeros((4, 5), "M8[s]"), ImageError, ("datetime64", "convert")),
    "text": (lambda: np.full((4, 5), "a"), ImageError, ("<U1", "convert")),
    "no pixels": (lambda: np.ones((0, 5)), ImageError, ("empty", "(0, 5)")),
    "no channels": (lambda: unreadable((0, 4, 5), names=()), ImageError, ("empty",)),
    "two variables": (
        lambda: xr.Dataset(
            {"a": (("y", "x"), np.ones((4, 5))), "b": (("y", "x"), np.ones((4, 5)))}
        ),
        ImageError,
        ("'a'", "'b'"),
    ),
    "unknown chunks": (unknown_chunks, ImageError, ("compute_chunk_sizes",)),
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
@pytest.mark.parametrize("function", TAKE_AN_IMAGE)
def test_no_image(function: str, bad: str) -> None:
    make, error, words = BAD_IMAGES[bad]
    refuses(error, lambda: TAKE_AN_IMAGE[function](make()), "image:", *words)


@pytest.mark.parametrize("function", [name for name in TAKE_AN_IMAGE if name != "assess"])
def test_a_good_image_is_not_read_either(function: str) -> None:
    TAKE_AN_IMAGE[function](unreadable())


# ---- masks ---------------------------------------------------------------------------------------

TAKE_A_MASK: dict[str, Callable[[Any], Any]] = {
    "scan": lambda mask: gq.scan(unreadable(), mask=mask),
    "quantile": lambda mask: gq.quantile(unreadable(), 0.5, mask=mask),
    "histogram": lambda mask: gq.histogram(unreadable(), mask=mask),
    "signal_to_noise": lambda mask: gq.signal_to_noise(unreadable(), mask=mask),
    "channel_correlation": lambda mask: gq.channel_correlation(unreadable(), mask=mask),
}

BAD_MASKS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "another shape": (np.ones((60, 49), bool), ("49", "50")),
    "turned": (np.ones((50, 60), bool), ("50", "60")),
    "integers": (np.ones((60, 50), "u1"), ("uint8", "bool")),
    "a list": ([True, False], ("list", "bool")),
    "one axis": (np.ones(60, bool), ("(60,)", "dims")),
    "another dim": (xr.DataArray(np.ones((2, 60, 50), bool), dims=("t", "y", "x")), ("'t'",)),
    "no x": (xr.DataArray(np.ones((2, 60), bool), dims=("c", "y")), ("y",)),
}


@pytest.mark.parametrize("bad", BAD_MASKS)
@pytest.mark.parametrize("function", TAKE_A_MASK)
def test_no_mask_of_this_image(function: str, bad: str) -> None:
    mask, words = BAD_MASKS[bad]
    refuses(MaskError, lambda: TAKE_A_MASK[function](mask), "mask:", *words)


# ---- parameters ----------------------------------------------------------------------------------

BAD_PARAMETERS: list[tuple[str, Callable[[xr.DataArray], Any], tuple[str, ...]]] = [
    ("q of 50", lambda i: gq.quantile(i, 50), ("q", "50", "0")),
    ("q below 0", lambda i: gq.quantile(i, [0.5, -0.1]), ("q", "-0.1")),
    ("q of nan", lambda i: gq.quantile(i, float("nan")), ("q", "nan")),
    ("no q", lambda i: gq.quantile(i, []), ("q",)),
    ("percentile over 100", lambda i: gq.signal_to_noise(i, percentile=101), ("percentile", "101")),
    ("percentile below 0", lambda i: gq.signal_to_noise(i, percentile=-1), ("percentile", "-1")),
    ("percentile of nan", lambda i: gq.signal_to_noise(i, percentile=float("nan")), ("nan",)),
    ("percentiles turned", lambda i: gq.dynamic_range(i, (99, 1)), ("percentiles", "99")),
    ("one percentile", lambda i: gq.dynamic_range(i, (1,)), ("percentiles",)),
    ("percentiles over 100", lambda i: gq.dynamic_range(i, (1, 101)), ("percentiles", "101")),
    ("no bins", lambda i: gq.histogram(i, bins=0), ("bins", "0")),
    ("negative bins", lambda i: gq.histogram(i, bins=-3), ("bins", "-3")),
    ("range turned", lambda i: gq.histogram(i, 9, (5, 1)), ("range", "5", "1")),
    ("range of nan", lambda i: gq.histogram(i, 9, (0, float("nan"))), ("range", "nan")),
    ("endless range", lambda i: gq.histogram(i, 9, (0, float("inf"))), ("range", "inf")),
    ("no joint bins", lambda i: gq.joint_histogram(i, 0, 1, bins=0), ("bins", "0")),
    ("no tile", lambda i: gq.focus(i, tile=0), ("tile", "0")),
    ("negative tile", lambda i: gq.focus(i, tile=-5), ("tile", "-5")),
    ("broken tile", lambda i: gq.focus(i, tile=2.5), ("tile", "2.5")),
    ("no tile to scan", lambda i: gq.scan(i, tile=0), ("tile", "0")),
    ("quantiles over 1", lambda i: gq.scan(i, quantiles=(0.5, 99)), ("quantiles", "99")),
    ("no tile to assess", lambda i: gq.assess(i, tile=0), ("tile", "0")),
    ("unknown method", lambda i: gq.tissue_integrity(i, 0, method="mean"), ("method", "otsu")),
    (
        "coverage over 1",
        lambda i: gq.tissue_integrity(i, 0, min_coverage=30),
        ("min_coverage", "30"),
    ),
    ("unknown threshold", lambda i: gq.stained_area(i, "triangle"), ("threshold", "otsu")),
    ("too few thresholds", lambda i: gq.stained_area(i, [1.0]), ("threshold", "1", "2")),
    ("threshold of nan", lambda i: gq.stained_area(i, float("nan")), ("threshold", "nan")),
    ("unknown thresholds", lambda i: gq.colocalization(i, 0, 1, thresholds="li"), ("otsu",)),
    ("one threshold", lambda i: gq.colocalization(i, 0, 1, thresholds=(1,)), ("thresholds",)),
    ("full scale of nan", lambda i: gq.acquisition_artifacts(i, full_scale=float("nan")), ("nan",)),
]


@pytest.mark.parametrize(
    ("call", "words"), [p[1:] for p in BAD_PARAMETERS], ids=[p[0] for p in BAD_PARAMETERS]
)
def test_a_parameter_out_of_range(
    call: Callable[[xr.DataArray], Any], words: tuple[str, ...]
) -> None:
    refuses(ParameterError, lambda: call(unreadable()), *words)


UNKNOWN_CHANNEL: dict[str, Callable[[xr.DataArray, Any], Any]] = {
    "tissue_integrity": lambda image, name: gq.tissue_integrity(image, name),
    "joint_histogram": lambda image, name: gq.joint_histogram(image, "DNA", name),
    "colocalization": lambda image, name: gq.colocalization(image, name, "DNA"),
    "assess": lambda image, name: gq.assess(image, tissue=name),
}


@pytest.mark.parametrize("function", UNKNOWN_CHANNEL)
def test_no_such_channel(function: str) -> None:
    call = UNKNOWN_CHANNEL[function]
    refuses(ChannelError, lambda: call(unreadable(), "CD99"), "CD99", "DNA", "CD3")


@pytest.mark.parametrize("function", [f for f in UNKNOWN_CHANNEL if f != "assess"])
def test_no_such_position(function: str) -> None:
    call = UNKNOWN_CHANNEL[function]
    refuses(ChannelError, lambda: call(unreadable(), 2), "2 is out of range")


def test_no_such_rules(tmp_path: Path) -> None:
    refuses(RulesError, lambda: gq.assess(unreadable(), rules="strict"), "strict", "robust")
    broken = tmp_path / "lab.toml"
    broken.write_text("[[[")
    refuses(RulesError, lambda: gq.assess(unreadable(), rules=broken), "lab.toml")


def test_a_tissue_mask_of_another_shape() -> None:
    refuses(MaskError, lambda: gq.assess(unreadable(), tissue=np.ones((9, 9), bool)), "9", "60")


def test_lazy_statistics_stay_lazy() -> None:
    gq.signal_to_noise(gq.scan(unreadable()))


def test_reads_no_statistics_for_what_they_lack() -> None:
    pair = np.random.default_rng(0).integers(0, 99, (2, 60, 50), "u2")
    statistics = gq.scan(pair, tile=20).compute()
    with forbid_compute():
        refuses(StatisticsError, lambda: gq.joint_histogram(statistics, 0, 1))
        refuses(StatisticsError, lambda: gq.focus(statistics, tile=30), "30", "20")
        refuses(StatisticsError, lambda: gq.focus(statistics, tile=20, spectrum=True), "spectrum")


# ---- files (their reading is the point) ----------------------------------------------------------


def test_reads_no_missing_path(tmp_path: Path) -> None:
    missing = tmp_path / "no.tif"
    refuses(SourceNotFoundError, lambda: gq.open_image(missing), "no.tif")
    assert issubclass(SourceNotFoundError, FileNotFoundError)


def test_reads_no_text_as_an_image(tmp_path: Path) -> None:
    text = tmp_path / "notes.tif"
    text.write_text("not an image")
    refuses(ReadError, lambda: gq.open_image(text), "notes.tif")


def test_reads_a_truncated_tiff_as_such(tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    noise = np.random.default_rng(0).integers(0, 999, (400, 400), "u2")
    tifffile.imwrite(path, noise, tile=(64, 64), compression="zlib")
    path.write_bytes(path.read_bytes()[:100_000])
    refuses(ReadError, lambda: gq.signal_to_noise(gq.open_image(path)).compute(), "cut.tif")


def test_reads_a_corrupt_chunk_by_its_name(tmp_path: Path) -> None:
    store = tmp_path / "i.zarr"
    pixels = zarr.create_array(str(store), shape=(1, 64, 64), chunks=(1, 32, 32), dtype="u2")
    pixels[:] = np.random.default_rng(0).integers(0, 999, (1, 64, 64))
    chunk = next(p for p in store.rglob("*") if re.search(r"c/0/1/0$", p.as_posix()))
    chunk.write_bytes(b"broken")
    image = gq.open_image(store)
    refuses(ReadError, lambda: gq.signal_to_noise(image).compute(), "i.zarr", "y=1", "x=0")


def test_half_a_surrogate_in_a_name_is_no_obstacle() -> None:
    """No file and no table of newer pandas can hold it."""
    image = xr.DataArray(np.ones((1, 9, 9), "u2"), dims=("c", "y", "x"), coords={"c": ["a\ud800"]})
    assert gq.scan(image).channels == ["a?"]
