"""Real images: each opens, is assessed, and gives the answers that are known of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import oracle
import pytest
import tifffile
import xarray as xr
from agreement import close, same

import gigaqc as gq

pytestmark = pytest.mark.filterwarnings("default")  # readers warn of other people's files


@dataclass(frozen=True)
class Group:
    """Files of one kind, and how they open; sizes in the order of the dims, 0 for any."""

    pattern: str
    count: int
    dims: str
    sizes: tuple[int, ...]
    dtype: str
    channels: tuple[str, ...] = ("0",)

    def __str__(self) -> str:
        return self.pattern.partition("/")[0] + "-" + Path(self.pattern).suffix.lstrip(".")


METALS = ("Ag", "Pr141", "Sm147", "Eu153", "Yb172")
GROUPS = (
    Group("brightfield_wsi/*.svs", 1, "cyx", (3, 0, 0), "u1", ("R", "G", "B")),
    Group("camera_stack_pims/*.tif", 1, "tcyx", (5, 1, 512, 512), "u2"),
    Group("camera_stack_scmos_eb3/*.tif", 1, "tcyx", (20, 1, 512, 512), "u1"),
    Group("fluorescence_ht29_examplehuman/*.tif", 3, "cyx", (1, 512, 512), "u1"),
    Group("fluorescence_illumination/*.TIF", 9, "cyx", (1, 512, 512), "u1"),
    Group("fluorescence_illumination/*cherry.tif", 1, "cyx", (1, 1024, 1344), "u2"),
    Group("hcs_tiles_imagexpress/*.tif", 6, "cyx", (1, 512, 512), "u2", ("FITC_05",)),
    Group("imc_bodenmiller_testdata/raw_ometiff/*.tiff", 9, "cyx", (5, 0, 0), "f4", METALS),
    Group("imc_bodenmiller_testdata/raw_mcd/*.mcd", 3, "cyx", (5, 0, 0), "f4", METALS),
    Group("mibi_breast_simpleseg/*.tiff", 1, "cyx", (41, 1024, 1024), "u1", ("AR", "CD11c")),
    Group("mri_epi_dcmqa/ax*.nii", 2, "tczyx", (2, 1, 36, 64, 64), "i2"),
    Group("mri_epi_dcmqa/noPF*.nii", 1, "czyx", (1, 60, 90, 90), "u2"),
    Group("mri_kidney_ukat/*_e[12].nii.gz", 2, "czyx", (1, 18, 256, 256), "i2"),
    Group("mri_nibabel/anatomical.nii", 1, "czyx", (1, 25, 41, 33), ">i2"),
    Group("mri_nibabel/example4d.nii.gz", 1, "tczyx", (2, 1, 24, 96, 128), "i2"),
    Group("mri_nibabel/functional.nii", 1, "tczyx", (20, 1, 3, 21, 17), "f8"),
    Group("mri_spinalcord_sct/fmri.nii.gz", 1, "tczyx", (30, 1, 6, 68, 68), "i2"),
    Group("mri_spinalcord_sct/t1w.nii.gz", 1, "czyx", (1, 77, 76, 42), "i2"),
    Group("mri_spinalcord_sct/t2.nii.gz", 1, "czyx", (1, 52, 55, 60), "i2"),
    Group("omezarr/*.zarr", 1, "czyx", (2, 236, 68, 67), "u2", ("LaminB1", "Dapi")),
    Group("timelapse_membrane_confocal/*.tif", 1, "tcyx", (5, 1, 256, 256), "u2"),
)


def only(data_dir: Path, pattern: str) -> Path:
    (path,) = data_dir.glob(pattern)
    return path


def check_opened(image: xr.DataArray, group: Group) -> None:
    assert "".join(map(str, image.dims)) == group.dims
    for dim, size in zip(group.dims, group.sizes, strict=True):
        assert size in (0, image.sizes[dim]), f"{dim} is {image.sizes[dim]}"
    assert image.dtype == np.dtype(group.dtype)
    names = [str(n) for n in image.coords["c"].values]
    assert len(set(names)) == len(names)
    for name, expected in zip(names, group.channels, strict=False):
        assert expected in name
    assert hasattr(image.data, "dask")


def check_assessed(image: xr.DataArray) -> None:
    verdict = gq.assess(image)
    names = [str(n) for n in image.coords["c"].values]
    assert list(verdict.channels.index) == names
    assert {"coverage", "n_fragments"} <= set(verdict.summary.index)
    assert set(verdict.flags["status"]) <= {"PASS", "WARN", "FAIL"}
    assert bool(verdict.passed) in (True, False)
    finite = verdict.channels["autocorrelation_snr"].dropna()
    assert (finite > -0.5).all()


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_every_image_opens_and_is_assessed(data_dir: Path, group: Group) -> None:
    paths = sorted(data_dir.glob(group.pattern))
    assert len(paths) == group.count
    for path in paths:
        for element in gq.list_images(path):
            image = gq.open_image(path, element=element)
            check_opened(image, group)
            check_assessed(image)


@pytest.mark.parametrize("kind", ["deepcell", "ilastik"])
def test_label_images_fit_their_images(data_dir: Path, kind: str) -> None:
    folder = data_dir / "imc_bodenmiller_testdata"
    paths = sorted((folder / f"masks_{kind}").glob("*.tiff"))
    assert len(paths) == 9
    for path in paths:
        labels = gq.open_labels(path)
        image = gq.open_image(folder / "img_hotpixel_filtered" / path.name)
        assert labels.dims == ("y", "x")
        assert labels.shape == image.shape[1:]
        assert labels.dtype.kind in "ui"


# ---- known answers -------------------------------------------------------------------------------


def test_the_focus_series_peaks_at_its_fifth_plane(data_dir: Path) -> None:
    planes = sorted((data_dir / "hcs_tiles_imagexpress/zstack_s1_w1").glob("z*.tif"))
    found = [
        gq.focus(gq.open_image(path))["whole_variance_of_laplacian"].compute().item()
        for path in planes
    ]
    assert len(found) == 10
    assert int(np.argmax(found)) == 4
    assert found[4] == pytest.approx(604386.3293993899, rel=1e-9)
    assert found[0] == pytest.approx(5355.544860810255, rel=1e-9)


@dataclass(frozen=True)
class Saturated:
    """Where a file clips, and how many pixels of which channel do."""

    pattern: str
    level: int
    pixels: int
    channel: int = 0


SATURATED = (
    Saturated("fluorescence_illumination/*cherry.tif", 36863, 447),
    Saturated("timelapse_membrane_confocal/*.tif", 4095, 3417),
    Saturated("fluorescence_ht29_examplehuman/*d2.tif", 255, 377),
    Saturated("fluorescence_illumination/*O02f00d2.TIF", 255, 100),
    Saturated("omezarr/*.zarr", 4095, 11),
)


@pytest.mark.parametrize("known", SATURATED, ids=lambda known: f"{known.level}-{known.pixels}")
def test_cameras_clip_where_they_are_known_to(data_dir: Path, known: Saturated) -> None:
    image = gq.open_image(only(data_dir, known.pattern))
    found = gq.acquisition_artifacts(image).isel(c=known.channel).compute()
    pixels = image.size // image.sizes["c"]
    assert found["clipping_level"] == known.level
    assert round(found["clipped_fraction"].item() * pixels) == known.pixels


@pytest.mark.parametrize("pattern", ["fluorescence_ht29_examplehuman/*d0.tif", "camera_stack_*/*"])
def test_cameras_below_their_limit_do_not_clip(data_dir: Path, pattern: str) -> None:
    for path in sorted(data_dir.glob(pattern)):
        found = gq.acquisition_artifacts(gq.open_image(path)).compute()
        assert (found["clipped_fraction"] == 0).all(), path.name


def test_offset_camera_shows_in_an_assessment(data_dir: Path) -> None:
    path = only(data_dir, "fluorescence_illumination/*cherry.tif")
    verdict = gq.assess(gq.open_image(path))
    assert verdict.channels["clipping_level"].item() == 36863


def regions(data_dir: Path) -> list[tuple[Path, Path]]:
    """Raw and filtered file of each region of the mass cytometer."""
    folder = data_dir / "imc_bodenmiller_testdata"
    pairs = []
    for raw in sorted((folder / "raw_ometiff").glob("*.tiff")):
        slide, _, rest = raw.name.partition("_s0_a")
        pairs.append((raw, folder / "img_hotpixel_filtered" / f"{slide}_00{rest[0]}.tiff"))
    return pairs


@dataclass(frozen=True)
class Filtered:
    """Hot pixels of a region by channel, before and after the filter, and the pixels it changed."""

    name: str
    changed: np.ndarray
    before: np.ndarray
    after: np.ndarray
    pixels: int


def hot_counts(path: Path) -> np.ndarray:
    image = gq.open_image(path)
    found = gq.acquisition_artifacts(image)["hot_pixel_fraction"].compute()
    return np.rint(found.values * image.sizes["y"] * image.sizes["x"])


@pytest.fixture(scope="module")
def filtered_regions(data_dir: Path) -> list[Filtered]:
    found = []
    for raw, clean in regions(data_dir):
        differs = tifffile.imread(raw) != tifffile.imread(clean)
        inside = differs[:, 1:-1, 1:-1].sum(axis=(1, 2))  # the outermost have no neighbourhood
        found.append(
            Filtered(raw.name, inside, hot_counts(raw), hot_counts(clean), differs[0].size)
        )
    return found


def test_a_filter_takes_hot_pixels_where_it_changed_some(filtered_regions: list[Filtered]) -> None:
    for region in filtered_regions:
        untouched = region.changed == 0
        same(region.before[untouched], region.after[untouched], region.name)
        assert (region.before >= region.after).all(), region
    changed = sum(region.changed.sum() for region in filtered_regions)
    gone = sum((region.before - region.after).sum() for region in filtered_regions)
    print(f"{changed} changed, {gone:.0f} hot pixels gone", *filtered_regions, sep="\n")
    assert changed == 79
    assert gone >= changed / 2  # the rest gave way to a neighbour that is as bright


def test_the_raw_files_show_what_was_taken(filtered_regions: list[Filtered]) -> None:
    by_name = {region.name[12:-12]: region for region in filtered_regions}
    known = by_name["mockData3_s0_a3"]  # 710.6 at y=42 x=57, among 0 to 38
    assert known.before[1] > known.after[1]
    for region in filtered_regions:
        many = region.changed >= 3
        assert (region.before[many] > region.after[many]).all(), region


def test_what_is_hot_is_rare(filtered_regions: list[Filtered]) -> None:
    """Ions are counted: a tenth of the pixels cannot be 8 sigma above their neighbourhood."""
    for region in filtered_regions:
        assert (region.after <= 0.05 * region.pixels).all(), region


def test_the_vendors_file_holds_the_same_pixels(data_dir: Path) -> None:
    folder = data_dir / "imc_bodenmiller_testdata"
    vendor = folder / "raw_mcd/20210305_NE_mockData3.mcd"
    elements = gq.list_images(vendor)
    assert len(elements) == 3
    for i, element in enumerate(elements, 1):
        copy = gq.open_image(folder / f"raw_ometiff/20210305_NE_mockData3_s0_a{i}_ac.ome.tiff")
        same(gq.open_image(vendor, element=element).values, copy.values)


# ---- nothing to see ------------------------------------------------------------------------------


def flagged(verdict: gq.Assessment) -> set[str]:
    """Names of what did not pass."""
    flags = verdict.flags
    return set(flags.loc[flags["status"] != "PASS", "name"].astype(str))


def test_an_empty_region_is_flagged(data_dir: Path) -> None:
    empty, _ = regions(data_dir)[0]
    image = gq.open_image(empty)
    verdict = gq.assess(image)
    assert not verdict.passed
    assert len(set(image.coords["c"].values) & flagged(verdict)) >= 4
    assert (verdict.channels["autocorrelation_snr"] < 0.2).all()
    full, _ = regions(data_dir)[1]
    assert (gq.assess(gq.open_image(full)).channels["autocorrelation_snr"] > 0.2).any()


def test_channels_without_a_count_are_nan_and_flagged(data_dir: Path) -> None:
    """In a corner of the ion image some markers have no count at all."""
    image = gq.open_image(only(data_dir, "mibi_breast_simpleseg/*.tiff"))
    corner = image.isel(y=slice(0, 64), x=slice(0, 64))
    values = corner.values
    blank = [str(n) for n, v in zip(image.coords["c"].values, values, strict=True) if not v.any()]
    assert len(blank) >= 2
    verdict = gq.assess(corner)
    table = verdict.channels.loc[blank]
    for name in ("snr", "autocorrelation_snr", "separability", "dead_area_fraction"):
        assert table[name].isna().all(), name
    assert (table["range_utilized"] == 0).all()
    assert set(blank) <= flagged(verdict)
    assert not verdict.passed


def test_a_region_without_any_count(data_dir: Path) -> None:
    image = gq.open_image(only(data_dir, "mibi_breast_simpleseg/*.tiff"))
    nothing = image.isel(c=slice(0, 2), y=slice(0, 80), x=slice(0, 80)) * np.uint8(0)
    verdict = gq.assess(nothing)
    assert not verdict.passed
    assert verdict.summary["coverage"] == 0
    assert verdict.channels["snr"].isna().all()


# ---- against the oracle --------------------------------------------------------------------------

CROSS_CHECKED = (
    "fluorescence_ht29_examplehuman/*d1.tif",
    "timelapse_membrane_confocal/*.tif",
    "mri_nibabel/anatomical.nii",
    "fluorescence_illumination/*cherry.tif",
    "imc_bodenmiller_testdata/raw_ometiff/*mockData3_s0_a3*",
)


@pytest.mark.parametrize("pattern", CROSS_CHECKED)
def test_real_pixels_agree_with_the_oracle(data_dir: Path, pattern: str) -> None:
    image = gq.open_image(only(data_dir, pattern))
    channels = oracle.channels(image.compute())
    noise = gq.signal_to_noise(image).compute()
    artifacts = gq.acquisition_artifacts(image).compute()
    used = gq.dynamic_range(image).compute()
    for i, channel in enumerate(channels):
        recipe = oracle.recipe_snr(channel)
        if math.isfinite(recipe[2]):
            close(noise["snr"][i], recipe[2], "snr")
        close(noise["autocorrelation"][i], oracle.autocorrelation(channel), "autocorrelation")
        same(used["range_high"][i], oracle.dynamic_range(channel)[1], "range_high")
        close(artifacts["row_striping"][i], oracle.striping(channel, 1), "row_striping")
        close(artifacts["column_striping"][i], oracle.striping(channel, 2), "column_striping")
        if channel.narrow:
            same(noise["otsu_threshold"][i], oracle.otsu(channel), "otsu_threshold")
            same(artifacts["hot_pixel_fraction"][i], oracle.hot_pixels(channel), "hot pixels")
            same(artifacts["dead_area_fraction"][i], oracle.dead_area(channel), "dead area")
