"""Every verb takes a path where it takes an image, a label image or a mask."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
import zarr

import gigaqc as gq
from gigaqc.base import machine
from gigaqc.errors import ElementError, SourceNotFoundError

FIRST = ("image", "images", "series", "labels")
"""How verbs call what they look at."""

Call = Callable[[Any, Path], Any]

CALLS: dict[str, Call] = {
    "acquisition_artifacts": lambda i, _: gq.acquisition_artifacts(i),
    "arcsinh": lambda i, _: gq.arcsinh(i),
    "assess": lambda i, _: gq.assess(i, progress=False).channels,
    "channel_correlation": lambda i, _: gq.channel_correlation(i),
    "choose_n_clusters": lambda i, _: gq.choose_n_clusters(i, (2, 3), method="kmeans"),
    "cluster_pixels": lambda i, _: gq.cluster_pixels(i, 2, method="kmeans").profile,
    "colocalization": lambda i, _: gq.colocalization(i, "DNA", "CD3"),
    "count_nuclei": lambda i, _: gq.count_nuclei([i], "DNA", diameter=8).reset_index(drop=True),
    "dynamic_range": lambda i, _: gq.dynamic_range(i),
    "equalize_histogram": lambda i, _: gq.equalize_histogram(i),
    "explain": lambda i, _: str(gq.explain(i)),
    "focus": lambda i, _: gq.focus(i, 32),
    "gain_map": lambda i, _: gq.gain_map(i),
    "gaussian_blur": lambda i, _: gq.gaussian_blur(i, 1),
    "histogram": lambda i, _: gq.histogram(i),
    "isnr": lambda i, _: gq.isnr(i),
    "isnr_components": lambda i, _: gq.isnr_components(i),
    "isnr_map": lambda i, _: gq.isnr_map(i),
    "joint_histogram": lambda i, _: gq.joint_histogram(i, 0, 1, 8),
    "normalize_percentiles": lambda i, _: gq.normalize_percentiles(i),
    "normalize_to_channel": lambda i, _: gq.normalize_to_channel(i, "DNA"),
    "object_table": lambda i, _: gq.object_table(i),
    "pixel_clustering_preprocess": lambda i, _: gq.pixel_clustering_preprocess(i),
    "quantile": lambda i, _: gq.quantile(i, 0.5),
    "region": lambda i, _: gq.region(i, (0, 0, 20, 30)),
    "remove_hot_pixels": lambda i, _: gq.remove_hot_pixels(i, 50),
    "scan": lambda i, _: gq.dynamic_range(gq.scan(i)),
    "segment_nuclei": lambda i, _: gq.segment_nuclei(i, "DNA", diameter=8),
    "segmentation_quality": lambda i, _: gq.segmentation_quality(i),
    "signal_to_noise": lambda i, _: gq.signal_to_noise(i),
    "stained_area": lambda i, _: gq.stained_area(i),
    "temporal_statistics": lambda i, _: gq.temporal_statistics(i),
    "tissue_integrity": lambda i, _: gq.tissue_integrity(i, "DNA"),
    "tsnr_map": lambda i, _: gq.tsnr_map(i),
    "tsnr_summary": lambda i, _: gq.tsnr_summary(i),
    "write_image": lambda i, out: written(gq.write_image, i, out),
    "write_labels": lambda i, out: written(gq.write_labels, i, out),
}

BESIDE: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "assess labels": lambda i, p: gq.assess(i, labels=p["labels"], progress=False).objects,
    "assess mask": lambda i, p: gq.assess(i, mask=p["mask"], progress=False).channels,
    "assess tissue": lambda i, p: gq.assess(i, tissue=p["mask"], progress=False).summary,
    "channel_correlation mask": lambda i, p: gq.channel_correlation(i, mask=p["mask"]),
    "cluster_pixels mask": lambda i, p: (
        gq.cluster_pixels(i, 2, method="kmeans", mask=p["mask"]).sizes
    ),
    "colocalization labels": lambda i, p: gq.colocalization(i, 0, 1, labels=p["labels"]),
    "explain labels": lambda i, p: str(gq.explain(i, labels=p["labels"])),
    "histogram mask": lambda i, p: gq.histogram(i, mask=p["mask"]),
    "isnr noise_mask": lambda i, p: gq.isnr(i, noise_mask=p["mask"]),
    "object_table image": lambda i, p: gq.object_table(p["labels"], i),
    "quantile mask": lambda i, p: gq.quantile(i, 0.5, mask=p["mask"]),
    "region where": lambda i, p: gq.region(i, p["mask"]),
    "scan labels": lambda i, p: gq.object_table(gq.scan(i, labels=p["labels"])),
    "segmentation_quality tissue": lambda i, p: gq.segmentation_quality(
        p["labels"], i, tissue=p["mask"]
    ),
    "signal_to_noise mask": lambda i, p: gq.signal_to_noise(i, mask=p["mask"]),
    "stained_area labels": lambda i, p: gq.stained_area(i, labels=p["labels"]),
}


def written(write: Callable[..., None], source: Any, out: Path) -> xr.DataArray:
    """What is in the store after it was written."""
    write(source, out / "written.zarr", overwrite=True)
    return gq.open_image(out / "written.zarr").drop_attrs()


@pytest.fixture(autouse=True)
def same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is free goes up and down between two plans, which say it."""
    workers = [{"nthreads": 2, "memory_limit": 1 << 30}]
    monkeypatch.setattr(machine, "_workers", lambda: workers)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An image, a series, a label image, and a mask as a file of integers."""
    folder = tmp_path_factory.mktemp("paths")
    draw = np.random.default_rng(0)
    pixels = draw.poisson(20, (2, 40, 48)).astype("u2")
    labels = np.zeros((40, 48), "i4")
    for number, (y, x) in enumerate([(4, 4), (4, 30), (24, 12)], 1):
        labels[y : y + 9, x : x + 9] = number
        pixels[0, y : y + 9, x : x + 9] += 200
    image = xr.DataArray(pixels, dims=("c", "y", "x"), coords={"c": ["DNA", "CD3"]})
    series = xr.DataArray(draw.poisson(90, (12, 1, 40, 48)).astype("u2"), dims=("t", "c", "y", "x"))
    mask = np.zeros((40, 48), "u1")
    mask[:30, :40] = 255
    places = {n: folder / f"{n}.zarr" for n in ("image", "series", "labels")}
    gq.write_image(image, places["image"])
    gq.write_image(series, places["series"])
    gq.write_labels(labels, places["labels"])
    gq.write_image(mask, folder / "mask.ome.tif")
    return {**places, "mask": folder / "mask.ome.tif"}


def opened(files: dict[str, Path]) -> dict[str, Any]:
    """The same, opened by hand."""
    return {
        "image": gq.open_image(files["image"]),
        "series": gq.open_image(files["series"]),
        "labels": gq.open_labels(files["labels"]),
        "mask": gq.open_image(files["mask"]).isel(c=0, drop=True) > 0,
    }


def first_of(verb: str) -> str | None:
    """How a public function calls what it looks at; None for one that looks at no image."""
    function = getattr(gq, verb)
    if not inspect.isfunction(function):
        return None
    name = next(iter(inspect.signature(function).parameters), None)
    return name if name in FIRST else None


def kind_of(verb: str) -> str:
    """Which of the files a verb looks at."""
    first = first_of(verb)
    return "image" if first in (None, "images") else str(first)


def assert_same(found: Any, wanted: Any) -> None:
    found, wanted = dask.compute(found, wanted)
    if isinstance(found, (xr.DataArray, xr.Dataset)):
        xr.testing.assert_identical(found, wanted)
    elif isinstance(found, pd.DataFrame):
        pd.testing.assert_frame_equal(found, wanted)
    elif isinstance(found, pd.Series):
        pd.testing.assert_series_equal(found, wanted)
    else:
        assert found == wanted


def test_the_table_holds_every_verb():
    verbs = {name for name in gq.__all__ if first_of(name)}
    assert set(CALLS) == verbs - {"to_gpu"}  # which needs cupy


@pytest.mark.parametrize("verb", CALLS)
def test_a_path_is_what_it_opens_as(verb, files, tmp_path):
    kind = kind_of(verb)
    wanted = CALLS[verb](opened(files)[kind], tmp_path)
    if verb.startswith("write"):
        wanted = wanted.compute()  # before it is written over
    assert_same(CALLS[verb](str(files[kind]), tmp_path), wanted)


@pytest.mark.parametrize("verb", [*CALLS, "to_gpu"])
def test_a_path_where_nothing_is_names_argument_value_and_cure(verb, tmp_path):
    call = CALLS.get(verb, lambda i, _: gq.to_gpu(i))
    with pytest.raises(SourceNotFoundError) as caught:
        call(tmp_path / "none.zarr", tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{first_of(verb)}: ")
    assert "none.zarr' does not exist; check the spelling" in message


@pytest.mark.parametrize("case", BESIDE)
def test_labels_and_masks_are_paths_too(case, files):
    argument = case.split()[1]
    argument = {"image": "labels", "noise_mask": "mask", "tissue": "mask", "where": "mask"}.get(
        argument, argument
    )
    held = opened(files)
    assert_same(BESIDE[case](held["image"], files), BESIDE[case](held["image"], held))
    missing = {**held, argument: files[argument].with_name("none.zarr")}
    with pytest.raises(SourceNotFoundError, match=r"none\.zarr' does not exist"):
        BESIDE[case](held["image"], missing)


def test_a_url_is_a_path(files):
    import fsspec

    fsspec.filesystem("memory").put(str(files["image"]), "/bucket/image.zarr", recursive=True)
    found = gq.quantile("memory://bucket/image.zarr", 0.5)
    assert_same(found, gq.quantile(files["image"], 0.5))
    with pytest.raises(SourceNotFoundError, match=r"^image: 'memory://bucket/none\.zarr'"):
        gq.quantile("memory://bucket/none.zarr", 0.5)


def test_lists_of_paths_are_fields_of_view(files):
    pair = [str(files["image"])] * 2
    images = [gq.open_image(path) for path in pair]
    prepared = gq.pixel_clustering_preprocess(pair, q_post=None)
    assert_same(prepared[1], gq.pixel_clustering_preprocess(images, q_post=None)[1])
    found = gq.cluster_pixels(pair, 2, method="kmeans")
    assert_same(found.labels[1], gq.cluster_pixels(images, 2, method="kmeans").labels[1])


def test_a_model_labels_the_image_of_a_path(files):
    model = gq.cluster_pixels(files["image"], 2, method="kmeans").model
    found = model.predict(str(files["image"]), mask=files["mask"])
    held = opened(files)
    assert_same(found, model.predict(held["image"], mask=held["mask"]))


def test_pictures_take_paths(files):
    plt.switch_backend("Agg")
    ax = gq.pl.nuclei(str(files["image"]), str(files["labels"]), channel="DNA")
    assert "3 " in ax.get_title()
    assert gq.pl.map(str(files["image"]), channel="CD3").get_title()
    plt.close("all")


def test_a_sample_keeps_its_name_and_source(files):
    verdict = gq.assess(files["image"], progress=False)
    assert verdict.name == gq.assess(gq.open_image(files["image"]), progress=False).name
    assert verdict.name.startswith("image.zarr")
    assert verdict.provenance["source"] == str(files["image"])


def test_a_label_image_may_lie_in_the_store_of_its_image(files, tmp_path):
    gq.write_image(gq.open_image(files["image"]), tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr").create_group("labels")
    group.attrs["ome"] = {"labels": ["cells"]}
    gq.write_labels(gq.open_labels(files["labels"]), tmp_path / "a.zarr" / "labels" / "cells")
    found = gq.object_table(str(tmp_path / "a.zarr"), str(tmp_path / "a.zarr"))
    assert_same(found, gq.object_table(files["labels"], files["image"]))


def test_dims_of_a_verb_are_the_axes_of_the_file(tmp_path):
    frames = np.random.default_rng(0).poisson(90, (12, 20, 24)).astype("u2")
    gq.write_image(xr.DataArray(frames, dims=("c", "y", "x")), tmp_path / "a.zarr")
    found = gq.tsnr_map(str(tmp_path / "a.zarr"), dims="tyx")
    np.testing.assert_array_equal(found, gq.tsnr_map(frames, dims="tyx"))
    assert found.dims == ("y", "x")


def test_one_of_several_images_is_named_by_opening_it(tmp_path):
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as file:
        for name in ("a", "b"):
            file.write(np.ones((32, 32), "u2"), metadata={"Name": name, "axes": "YX"})
    with pytest.raises(ElementError, match=r"^image: .*gq\.open_image\(path, element=\.\.\.\)"):
        gq.signal_to_noise(tmp_path / "two.ome.tif")


def test_a_str_that_means_something_else_is_no_path(files):
    with pytest.raises(gq.errors.ChannelError, match="tissue: no channel"):
        gq.assess(files["image"], tissue=str(files["mask"]), progress=False)
    with pytest.raises(gq.errors.ParameterError, match=r"mask: .*pathlib\.Path"):
        gq.cluster_pixels(files["image"], 2, mask=str(files["mask"]))
