"""No result depends on the chunks: counts to the bit, sums to 1e-12, what follows to 1e-9.

Groups of chunks are made as small as they go (4096 pixels), so that images of 150 pixels have
seams in both directions, and corners where four groups meet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from same_states import equivalent, spread_of
from settings import configure
from strategies import Case, build, chunkings, examples, repeatable

import gigaqc as gq
from gigaqc.graph.reduce import plan_groups
from gigaqc.image.labelled import as_image

DTYPES = ("u1", "i2", ">u2", "i4", "f2", "f4", "f8")
FEW = settings(repeatable, max_examples=examples(15))


@pytest.fixture(autouse=True)
def many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, "group-values", 0)


@st.composite
def cases(draw: st.DrawFn, dims: tuple[str, ...] = ("cyx", "tyx", "zyx", "tczyx")) -> Case:
    axes = draw(st.sampled_from(dims))
    sizes = {
        "t": 2,
        "z": 2,
        "c": 2,
        "y": draw(st.integers(20, 150)),
        "x": draw(st.integers(20, 150)),
    }
    shape = tuple(sizes[d] for d in axes)
    count = 2 if "c" in axes else 1
    kinds = st.sampled_from(["counts", "sparse", "blobs", "noise", "signed", "zeros", "ramp"])
    holes = st.sampled_from(["none", "nan", "inf"])
    return build(
        draw(st.sampled_from(DTYPES)), axes, shape,
        draw(st.tuples(*[kinds] * count)), draw(st.tuples(*[holes] * count)),
        draw(chunkings(shape)), draw(st.integers(0, 10**6)),
    )  # fmt: skip


def one_chunk(case: Case) -> xr.DataArray:
    return case.image.chunk(-1)


def channel_axis(case: Case) -> int | None:
    return case.dims.index("c") if "c" in case.dims else None


def scanned(image: xr.DataArray, **options: Any) -> Any:
    return gq.scan(image, **options).compute(scheduler="sync").state


def same_scan(case: Case, image: xr.DataArray, **options: Any) -> None:
    exact = case.array.dtype.kind in "iu" and case.array.dtype.itemsize <= 2
    tolerance = None if exact else spread_of(case.array, channel_axis(case))
    spectrum = options.get("spectrum", False)
    with pytest.MonkeyPatch.context() as whole:
        configure(whole, "group-values", 1 << 30)
        expected = scanned(one_chunk(case), **options)
    actual = scanned(image, **options)
    assert spectrum == (expected.spectrum is not None)
    equivalent(actual, expected, tolerance)


@FEW
@given(cases(), st.sampled_from([8, 13, 32, 512]))
def test_the_state_of_a_scan(case: Case, tile: int) -> None:
    same_scan(case, case.image, tile=tile, quantiles=(0.3,), nonzero_quantiles=(0.5,))


@FEW
@given(cases(), st.sampled_from([8, 13, 32, 512]))
def test_the_state_of_a_masked_scan(case: Case, tile: int) -> None:
    sides = tuple(case.whole.sizes[d] for d in "yx")
    mask = np.random.default_rng(case.seed).random(sides) < 0.9
    same_scan(case, case.image, tile=tile, mask=mask, thresholds=(3.0,))


@FEW
@given(cases(), st.sampled_from([8, 13, 32]))
def test_the_state_of_a_scan_with_spectra(case: Case, tile: int) -> None:
    same_scan(case, case.image, tile=tile, spectrum=True)


LAYOUTS: dict[str, Any] = {
    "columns of one pixel": {"x": 1},
    "rows of one pixel": {"y": 1},
    "ragged": {"y": (1, 60, 2, 17, 40, 11), "x": (70, 3, 1, 40, 22)},
    "larger than the image": {"y": 500, "x": 500},
    "short last chunk": {"y": 65, "x": 45},
    "channels together": {"c": 3, "y": 64, "x": 64},
}


def fixed(dtype: str, dims: str) -> Case:
    sizes = {"t": 2, "z": 3, "c": 3, "y": 131, "x": 136}
    shape = tuple(sizes[d] for d in dims)
    kinds = ("blobs", "sparse", "counts") if "c" in dims else ("blobs",)
    holes = ("nan", "none", "inf") if "c" in dims else ("nan",)
    return build(dtype, dims, shape, kinds, holes, shape, 7)


@pytest.mark.cover(2)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dims", ["cyx", "tyx", "zyx", "tczyx"])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_chunks_of_every_kind(layout: str, dims: str, dtype: str) -> None:
    case = fixed(dtype, dims)
    chunks = {d: n for d, n in LAYOUTS[layout].items() if d in dims}
    same_scan(case, case.image.chunk(chunks), tile=20)


# ---- what lies across seams ----------------------------------------------------------------------

CUTS = [(64, 64), (131, 14), (14, 136), (65, 68)]


@pytest.mark.cover(2)
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["u2", "i1", "f4"])
def test_neighbourhoods_across_seams_are_counted_once(
    cut: tuple[int, int], dtype: str, masked: bool
) -> None:
    """Pairs, 3x3 and 8x8 neighbourhoods: as many as the whole image has, no more and no less."""
    rng = np.random.default_rng(3)
    pixels = rng.poisson(1.2, (131, 136)).astype(dtype)
    pixels[40:90, 50:77] = 0
    mask = np.ones(pixels.shape, bool)
    if masked:
        mask[rng.random(pixels.shape) < 0.02] = False
    image = xr.DataArray(da.from_array(pixels, chunks=cut), dims=("y", "x"))
    state = scanned(image, mask=mask if masked else None)
    right, down = state.neighbours.table[0, :, 0]
    assert right == (mask[:, 1:] & mask[:, :-1]).sum()
    assert down == (mask[1:] & mask[:-1]).sum()
    windows = np.lib.stride_tricks.sliding_window_view(mask, (3, 3)).all(axis=(2, 3))
    assert state.focus.box.values[0].sum() == windows.sum()
    assert state.artifacts.response.counts[0].sum() == windows.sum()
    dead = np.zeros(pixels.shape, bool)
    for y, x in np.argwhere(
        np.lib.stride_tricks.sliding_window_view((pixels == 0) & mask, (8, 8)).all(axis=(2, 3))
    ):
        dead[y : y + 8, x : x + 8] = True
    assert state.artifacts.dead[0] == dead.sum() > 0


@pytest.mark.parametrize("cut", CUTS)
def test_pair_sums_across_seams_are_exact(cut: tuple[int, int]) -> None:
    pixels = np.random.default_rng(3).integers(0, 65536, (131, 136)).astype("u2")
    image = xr.DataArray(da.from_array(pixels, chunks=cut), dims=("y", "x"))
    state = scanned(image)
    x = pixels.astype("i8") - int(state.shift[0])
    for k, (a, b) in enumerate(((x[:, :-1], x[:, 1:]), (x[:-1], x[1:]))):
        wanted = [a.size, a.sum(), b.sum(), (a * a).sum(), (b * b).sum(), (a * b).sum()]
        assert state.neighbours.table[0, k].tolist() == wanted


# ---- the public functions ------------------------------------------------------------------------

METRICS: dict[str, Callable[[xr.DataArray], Any]] = {
    "quantile": lambda i: gq.quantile(i, [0, 0.1, 0.5, 0.999, 1]),
    "quantile ignore_zeros": lambda i: gq.quantile(i, 0.5, ignore_zeros=True),
    "histogram": lambda i: gq.histogram(i, 17),
    "joint_histogram": lambda i: gq.joint_histogram(i, 0, 2, bins=9),
    "signal_to_noise": gq.signal_to_noise,
    "channel_correlation": gq.channel_correlation,
    "colocalization": lambda i: gq.colocalization(i, 0, 2),
    "stained_area": gq.stained_area,
    "tissue_integrity median": lambda i: gq.tissue_integrity(i, 0),
    "tissue_integrity otsu": lambda i: gq.tissue_integrity(i, 0, method="otsu"),
    "acquisition_artifacts": gq.acquisition_artifacts,
    "acquisition_artifacts full_scale": lambda i: gq.acquisition_artifacts(i, full_scale=60),
    "dynamic_range": gq.dynamic_range,
    "focus": lambda i: gq.focus(i, tile=20),
    "focus spectrum": lambda i: gq.focus(i, tile=20, spectrum=True),
}


def as_dataset(found: Any) -> xr.Dataset:
    computed = found.compute(scheduler="sync")
    return computed if isinstance(computed, xr.Dataset) else computed.to_dataset(name="value")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
def test_every_metric(metric: str, dtype: str) -> None:
    case = fixed(dtype, "czyx")
    expected = as_dataset(METRICS[metric](one_chunk(case)))
    for chunks in (LAYOUTS["ragged"], {"x": 23, "z": 2}):
        actual = as_dataset(METRICS[metric](case.image.chunk(chunks)))
        assert set(actual.variables) == set(expected.variables)
        for name, values in expected.variables.items():
            assert actual[name].dims == values.dims
            if values.dtype.kind in "biU" or metric.startswith("quantile"):
                np.testing.assert_array_equal(actual[name], values, err_msg=str(name))
            else:
                np.testing.assert_allclose(
                    actual[name], values, rtol=1e-9, atol=1e-12, err_msg=str(name)
                )


@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("dims", ["cyx", "tczyx"])
def test_an_assessment(dtype: str, dims: str) -> None:
    case = fixed(dtype, dims)
    expected = gq.assess(one_chunk(case), tile=32, name="s", progress=False)
    for chunks in (LAYOUTS["ragged"], {"y": 30, "x": 64}):
        actual = gq.assess(case.image.chunk(chunks), tile=32, name="s", progress=False)
        assert actual.tissue == expected.tissue
        assert actual.flags[["scope", "name", "metric", "status"]].equals(
            expected.flags[["scope", "name", "metric", "status"]]
        )
        numbers = expected.channels.drop(columns="status").astype("f8")
        np.testing.assert_allclose(
            actual.channels.drop(columns="status").astype("f8"), numbers, rtol=1e-9, atol=1e-12
        )
        xr.testing.assert_allclose(actual.tiles, expected.tiles, rtol=1e-9, atol=1e-12)
        xr.testing.assert_equal(actual.histograms, expected.histograms)
        xr.testing.assert_allclose(actual.thumbnails, expected.thumbnails, rtol=1e-6)


def test_there_are_many_groups_and_seams() -> None:
    """Otherwise nothing above says anything."""
    groups = plan_groups(as_image(fixed("u2", "cyx").image.chunk({"y": 64, "x": 64})))
    assert len(groups) >= 4
    assert any(g.place.right and g.place.bottom for g in groups)
