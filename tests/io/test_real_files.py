"""Every real image opens with the dims, type and names that its description gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gigaqc.io import list_images, open_image, open_labels
from gigaqc.io.write import write_image
from gigaqc.testing import forbid_compute


@dataclass(frozen=True)
class Known:
    """What is known of an image."""

    path: str
    sizes: dict[str, int]
    dtype: str
    low: float
    high: float
    channels: tuple[str, ...] = ("0",)
    pixel_size: tuple[float, ...] | None = None
    unit: str | None = None
    element: str | None = None


def cyx(c: int, y: int, x: int) -> dict[str, int]:
    return {"c": c, "y": y, "x": x}


IMC = ("107Ag", "Cytoker_651((3356))Pr141", "Laminin_681((851))Sm147", "YBX1_2987((3532))Eu153",
       "H3K27Ac_1977((2242))Yb172")  # fmt: skip
HT29 = "fluorescence_ht29_examplehuman/AS_09125_050116030001_D03f00d"
IMCDATA = "imc_bodenmiller_testdata"
KNOWN = [
    Known(f"{IMCDATA}/raw_ometiff/20210305_NE_mockData3_s0_a3_ac.ome.tiff", cyx(5, 46, 79), "f4", 0,
          710.6, IMC),
    Known(f"{IMCDATA}/raw_mcd/20210305_NE_mockData3.mcd", cyx(5, 46, 79), "f4", 0, 710.6, IMC,
          (1.0, 1.0), "micrometer", "ROI_003"),
    Known(f"{IMCDATA}/img_hotpixel_filtered/20210305_NE_mockData3_003.tiff", cyx(5, 46, 79), "f4",
          0, 394, tuple("01234")),
    Known(f"{HT29}0.tif", cyx(1, 512, 512), "u1", 7, 255),
    Known(f"{HT29}1.tif", cyx(1, 512, 512), "u1", 7, 245),
    Known(f"{HT29}2.tif", cyx(1, 512, 512), "u1", 2, 255),
    Known("fluorescence_illumination/--W00001--P00001--Z00000--T00000--cherry.tif",
          cyx(1, 1024, 1344), "u2", 32993, 36863),
    Known("hcs_tiles_imagexpress/zstack_s1_w1/z05_E07_s1_w1.tif", cyx(1, 512, 512), "u2", 78, 24192,
          ("FITC_05",), (1.3668, 1.3668), "micrometer"),
    Known("timelapse_membrane_confocal/membrane_2d_timelapse.tif",
          {"t": 5, "c": 1, "y": 256, "x": 256}, "u2", 134, 4095),
    Known("camera_stack_scmos_eb3/EB300004_scmos_20frames.tif",
          {"t": 20, "c": 1, "y": 512, "x": 512}, "u1", 18, 203),
    Known("camera_stack_pims/stuck.tif", {"t": 5, "c": 1, "y": 512, "x": 512}, "u2", 477, 576),
    Known("brightfield_wsi/CMU-1-Small-Region.svs", cyx(3, 2967, 2220), "u1", 0, 255,
          ("R", "G", "B"), (0.499, 0.499), "micrometer"),
    Known("mri_spinalcord_sct/fmri.nii.gz", {"t": 30, "c": 1, "z": 6, "y": 68, "x": 68}, "i2", 0,
          2240, pixel_size=(16.8, 0.9559, 0.9559), unit="millimeter"),
    Known("mri_spinalcord_sct/t1w.nii.gz", {"c": 1, "z": 77, "y": 76, "x": 42}, "i2", 0, 949,
          pixel_size=(1, 1, 1), unit="millimeter"),
    Known("mri_kidney_ukat/00720__Magnitude_ims__B0_map_dual_echo_e1.nii.gz",
          {"c": 1, "z": 18, "y": 256, "x": 256}, "i2", 0, 5608, pixel_size=(5, 1.5625, 1.5625),
          unit="millimeter"),
    Known("mri_epi_dcmqa/ax_asc_36sl_9.nii", {"t": 2, "c": 1, "z": 36, "y": 64, "x": 64}, "i2", 0,
          2629, pixel_size=(3.6, 3.25, 3.25), unit="millimeter"),
    Known("mri_epi_dcmqa/noPF_noPAT_noPOS_PEres100_ES0p59_BW2222_AP_8.nii",
          {"c": 1, "z": 60, "y": 90, "x": 90}, "u2", 0, 53028, pixel_size=(2.4, 2.4, 2.4),
          unit="millimeter"),
    Known("mri_nibabel/example4d.nii.gz", {"t": 2, "c": 1, "z": 24, "y": 96, "x": 128}, "i2", 0,
          1162, pixel_size=(2.2, 2, 2), unit="millimeter"),
    Known("mri_nibabel/functional.nii", {"t": 20, "c": 1, "z": 3, "y": 21, "x": 17}, "f8", 630,
          5572, pixel_size=(8, 4, 4), unit="millimeter"),
    Known("mri_nibabel/anatomical.nii", {"c": 1, "z": 25, "y": 41, "x": 33}, ">i2", -610, 30393,
          pixel_size=(2, 2, 2), unit="millimeter"),
    Known("omezarr/6001240_labels_v0.5.zarr", {"c": 2, "z": 236, "y": 68, "x": 67}, "u2", 5, 4095,
          ("LaminB1", "Dapi"), (0.5002, 1.4416, 1.4416), "micrometer"),
    Known("fluorescence_ht29_examplehuman", cyx(3, 512, 512), "u1", 2, 255,
          tuple(f"AS_09125_050116030001_D03f00d{i}" for i in range(3))),
    Known("hcs_tiles_imagexpress/zstack_s1_w1", cyx(10, 512, 512), "u2", 66, 24192,
          tuple(f"z{i:02}_E07_s1_w1" for i in range(1, 11)), (1.3668, 1.3668), "micrometer"),
]  # fmt: skip


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.path)
def test_known(data_dir: Path, known: Known) -> None:
    with forbid_compute():
        image = open_image(data_dir / known.path, element=known.element)
    assert dict(image.sizes) == known.sizes
    assert image.dtype == np.dtype(known.dtype)
    assert tuple(image.c.values) == known.channels
    size = image.attrs.get("pixel_size")
    wanted = None
    if known.pixel_size is not None:
        dims = [d for d in "zyx" if d in known.sizes]
        wanted = pytest.approx(dict(zip(dims, known.pixel_size, strict=True)), rel=1e-4)
    assert size == wanted
    assert image.attrs.get("unit") == known.unit
    values = image.values
    assert values.max() == pytest.approx(known.high, abs=1)
    assert values.min() == pytest.approx(known.low, abs=1)


def test_mibi_names_are_those_of_its_panel(data_dir: Path) -> None:
    folder = data_dir / "mibi_breast_simpleseg"
    image = open_image(folder / "Point2203_pt1072_31606.ome.tiff")
    rows = (folder / "panel.csv").read_text().split()[1:]
    assert list(image.c.values) == [row.split(",")[1] for row in rows]
    assert image.shape == (41, 1024, 1024)
    assert image.data.chunksize == (1, 1024, 1024)
    assert int(image.max()) == 141


def test_every_file_opens(data_dir: Path) -> None:
    suffixes = (".tif", ".tiff", ".svs", ".nii", ".nii.gz", ".mcd")
    files = [
        f
        for f in data_dir.rglob("*")
        if f.name.lower().endswith(suffixes) and "odd_files" not in f.parts  # some are broken
    ]
    assert len(files) > 50
    for path in files:
        for name in list_images(path):
            image = open_image(path, element=name)
            assert {"c", "y", "x"} <= set(image.dims)
            assert "renamed_channels" not in image.attrs


def test_masks(data_dir: Path) -> None:
    imc = data_dir / IMCDATA
    for folder in ("masks_deepcell", "masks_ilastik"):
        labels = open_labels(imc / folder / "20210305_NE_mockData3_003.tiff")
        assert dict(labels.sizes) == {"y": 46, "x": 79}
        assert labels.dtype == np.uint16
    cord = open_labels(data_dir / "mri_spinalcord_sct" / "t2_seg-manual.nii.gz")
    assert cord.dims == ("z", "y", "x")
    assert set(np.unique(cord.values)) == {0, 1}


def test_labels_of_the_ome_zarr(data_dir: Path) -> None:
    path = data_dir / "omezarr" / "6001240_labels_v0.5.zarr"
    labels = open_labels(path, level=2)
    assert dict(labels.sizes) == {"z": 236, "y": 68, "x": 67}
    assert int(labels.max()) == 61
    assert dict(open_labels(path).sizes) == {"z": 236, "y": 275, "x": 271}


def test_the_pictures_of_a_slide(data_dir: Path) -> None:
    path = data_dir / "brightfield_wsi" / "CMU-1-Small-Region.svs"
    assert list_images(path) == ["Baseline", "Thumbnail", "Label", "Macro"]
    assert dict(open_image(path, element="Macro").sizes) == cyx(3, 431, 1280)
    assert dict(open_image(path).sizes) == cyx(3, 2967, 2220)


@pytest.mark.parametrize(
    ("path", "sizes"),
    [
        ("camera_stack_scmos_eb3/EB300004_scmos_20frames.tif", {"t": 20, "y": 512, "x": 512}),
        ("camera_stack_pims/stuck.tif", {"t": 5, "y": 512, "x": 512}),
        ("timelapse_membrane_confocal/membrane_2d_timelapse.tif", {"t": 5, "y": 256, "x": 256}),
        ("mri_spinalcord_sct/fmri.nii.gz", {"t": 30, "z": 6, "y": 68, "x": 68}),
        ("mri_epi_dcmqa/ax_asc_36sl_9.nii", {"t": 2, "z": 36, "y": 64, "x": 64}),
        ("mri_nibabel/functional.nii", {"t": 20, "z": 3, "y": 21, "x": 17}),
        ("mri_kidney_ukat/00720__Magnitude_ims__B0_map_dual_echo_e1.nii.gz",
         {"z": 18, "y": 256, "x": 256}),
    ],
)  # fmt: skip
def test_series_and_volumes_say_what_their_axes_are(
    data_dir: Path, path: str, sizes: dict[str, int]
) -> None:
    image = open_image(data_dir / path)
    assert {d: n for d, n in image.sizes.items() if d != "c"} == sizes and image.sizes["c"] == 1


@pytest.mark.parametrize(
    "path", ["mri_spinalcord_sct/fmri.nii.gz", "mri_nibabel/anatomical.nii",
             "mri_nibabel/example4d.nii.gz", "mri_epi_dcmqa/ax_asc_36sl_9.nii"],
)  # fmt: skip
def test_real_nifti_round_trip(tmp_path: Path, data_dir: Path, path: str) -> None:
    nibabel = pytest.importorskip("nibabel")
    write_image(open_image(data_dir / path), tmp_path / "a.nii.gz")
    before, after = nibabel.load(data_dir / path), nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(after.dataobj), np.asanyarray(before.dataobj))
    np.testing.assert_array_equal(after.affine, before.affine)
    assert after.header.get_zooms()[:3] == before.header.get_zooms()[:3]
    for name in ("sform_code", "qform_code", "srow_x", "quatern_b", "qoffset_z"):
        np.testing.assert_array_equal(after.header[name], before.header[name])
