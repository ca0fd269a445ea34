"""Which samples there are: paths, globs, folders, stores of several images, sheets, memory."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
import zarr
from cohort_cases import cells, stored
from hypothesis import given
from hypothesis import strategies as st

import gigaqc as gq
from gigaqc.cohort.plan import plan
from gigaqc.cohort.sheet import read_sheet, rows_of
from gigaqc.errors import ParameterError, SourceNotFoundError
from gigaqc.stores.identity import identity_of
from gigaqc.testing import forbid_compute
from gigaqc.verdict.samples import file_names, titles

pytestmark = pytest.mark.usefixtures("few_pictures")


def planned(sources, tmp_path, **options):
    given = {"element": None, "labels": None, "tissue": None, "dims": None, **options}
    with forbid_compute():
        return plan(sources, tmp_path / "out", **given)


def names(sources, tmp_path, **options):
    return [entry.name for entry in planned(sources, tmp_path, **options)]


def two_images(path):
    group = zarr.open_group(path, mode="w")
    for name in ("left", "right"):
        group.create_array(name, data=cells(1)[:, :32, :32])
    return path


# ---- paths ---------------------------------------------------------------------------------------


def test_a_glob_is_a_sample_for_each_match_in_natural_order(tmp_path):
    for k in (10, 2, 1):
        stored(tmp_path / f"s{k}.zarr", cells(0))
    assert names(str(tmp_path / "s*.zarr"), tmp_path) == ["s1", "s2", "s10"]


def test_each_image_of_a_store_is_a_sample(tmp_path):
    store = two_images(tmp_path / "store.zarr")
    assert names(store, tmp_path) == ["store-left", "store-right"]
    assert names(store, tmp_path, element="right") == ["store-right"]
    cohort = gq.assess_batch(store, tmp_path / "out", progress=False, pages=False)
    assert cohort.summary["element"].tolist() == ["left", "right"]
    assert cohort.summary["error"].isna().all()


def test_each_series_of_a_tiff_is_a_sample(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.ome.tiff", ome=True) as file:
        for name in ("one", "two"):
            file.write(cells(0), metadata={"axes": "CYX", "Name": name})
    assert names(tmp_path / "x.ome.tiff", tmp_path) == ["x-one", "x-two"]


def test_a_folder_of_channels_is_one_image_and_any_other_its_images(tmp_path):
    channels, stacks, mixed = (tmp_path / n for n in ("channels", "stacks", "mixed"))
    for folder in (channels, stacks, mixed):
        folder.mkdir()
    for k in range(3):
        tifffile.imwrite(channels / f"c{k}.tif", cells(0)[0])
        tifffile.imwrite(stacks / f"s{k}.tif", cells(0), metadata={"axes": "CYX"})
    stored(mixed / "z.zarr", cells(0))
    tifffile.imwrite(mixed / "t.tif", cells(0)[0])
    (mixed / "notes.txt").write_text("")
    assert names(channels, tmp_path) == ["channels"]
    assert names(stacks, tmp_path) == ["s0", "s1", "s2"]
    assert names(mixed, tmp_path) == ["t", "z"]
    assert names(tmp_path, tmp_path) == ["channels", "mixed", "stacks"]
    assert names([channels, stacks / "s1.tif"], tmp_path) == ["channels", "s1"]


def test_names_are_told_apart_by_folders_then_by_format():
    paths = [("p1/image.tif", None), ("p2/image.tif", None), ("p2/other.tif", None)]
    assert titles(paths) == ["p1/image", "p2/image", "other"]
    assert titles([("a/x.tif", None), ("a/x.zarr", None)]) == ["a/x.tif", "a/x.zarr"]
    assert titles([("a/x.tif", "s0"), ("a/x.tif", "s1")]) == ["x-s0", "x-s1"]
    assert file_names(["p1/image", "p2/image"]) == ["p1_image", "p2_image"]


def test_file_names_do_not_depend_on_the_order():
    given = ["a b", "a_b", "A_B", "other", "index", "x" * 10_000, "x" * 9_999 + "y"]
    found = file_names(given)
    assert found[3] == "other" and "index" not in found
    assert file_names(given[::-1]) == found[::-1]


@given(st.lists(st.text(), min_size=1, max_size=6, unique=True))
def test_file_names_are_safe_and_each_its_own(given_names):
    found = file_names(given_names)
    assert len({name.casefold() for name in found}) == len(found)
    for name in found:
        assert name.isprintable() and "/" not in name and "\\" not in name
        assert not name.startswith(".") and 0 < len(name.encode()) <= 100


def test_a_source_named_twice_is_refused(tmp_path):
    path = stored(tmp_path / "x.zarr", cells(0))
    with pytest.raises(ParameterError, match="two samples are called"):
        planned([path, path], tmp_path)


def test_what_is_missing_or_broken_is_a_sample_that_will_say_so(tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    sources = [tmp_path / "no.zarr", tmp_path / "broken.tif", str(tmp_path / "none*.tif")]
    assert len(planned(sources, tmp_path)) == 3


def test_images_in_memory_and_their_labels(tmp_path):
    image, labels = cells(0), np.zeros((64, 64), "i4")
    labels[4:9, 4:9] = 1
    cohort = gq.assess_batch(
        {"a": image, "b": stored(tmp_path / "b.zarr", image)},
        tmp_path / "out", labels={"a": labels}, progress=False, pages=False,
    )  # fmt: skip
    assert cohort.summary["n_cells"].tolist() == [1, pd.NA]
    with pytest.raises(ParameterError, match="no sample is called 'c'"):
        planned({"a": image}, tmp_path, labels={"c": labels})
    with pytest.raises(ParameterError, match="got one ndarray for 2 samples"):
        planned({"a": image, "b": image}, tmp_path, labels=labels)


def test_labels_by_pattern_and_by_their_name_in_the_store(tmp_path):
    store = two_images(tmp_path / "s.zarr")
    labels = zarr.open_group(store / "labels", mode="w")
    labels.create_array("cells", data=np.ones((32, 32), "i4"))
    left, right = planned(store, tmp_path, labels="cells")
    assert (left.labels.source, left.labels.element) == (str(store), "cells")
    assert int(left.labels.open().max()) == 1 and right.labels == left.labels
    one = planned(store, tmp_path, element="left", labels=str(tmp_path / "m_{sample}.tif"))
    assert one[0].labels.source == str(tmp_path / "m_s-left.tif")
    with pytest.raises(ParameterError, match="one label image for 2 samples"):
        planned(store, tmp_path, labels=str(store))


# ---- sheets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_sheet_is_read_whatever_the_spreadsheet_made_of_it(tmp_path, delimiter):
    lines = [
        ["Sample", "path", "Tissue channel", "batch", "order", "labels", "element"],
        ["a", "x.zarr", "DNA", "1", "2", "m.tif", "s0"],
        ["b", "s3://bucket/y.zarr", "none", "", "1", "", ""],
    ]
    text = "\n".join(delimiter.join(line) for line in lines)
    (tmp_path / "sheet.csv").write_text(text, encoding="utf-8-sig")
    a, b = planned(tmp_path / "sheet.csv", tmp_path, tissue="CD45")
    assert (a.name, a.source, a.tissue, a.batch) == ("a", str(tmp_path / "x.zarr"), "DNA", "1")
    assert (a.order, a.element, a.labels.source) == (2.0, "s0", str(tmp_path / "m.tif"))
    assert (b.source, b.tissue, b.batch, b.labels) == ("s3://bucket/y.zarr", False, None, None)


def test_times_become_ranks():
    times = ["2024-05-02T10:00", "2024-05-01", "2024-05-02T10:00+00:00", ""]
    table = pd.DataFrame({"sample": list("abcd"), "path": "x", "acquired": times})
    assert [r.order for r in rows_of(table)][:3] == [1, 0, 1]
    assert np.isnan(rows_of(table)[3].order)
    table["acquired"] = [datetime(2024, 5, d) for d in (3, 2, 1, 4)]
    assert [r.order for r in rows_of(table)] == [2, 1, 0, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample,path,label\na,x,y\n", "columns 'label', which mean nothing here"),
        ("sample,paths\na,x\n", "columns 'paths'"),
        ("sample\na\n", "lacks 'path'"),
        ("sample,path,Path\na,x,y\n", "has 'path' twice"),
        ("sample,path\na,x\na,y\n", "names sample 'a' in rows 1 and 2"),
        ("sample,path\na,\n", "no path in row 1"),
        ("sample,path\n,x\n", "no sample in row 1"),
        ("sample,path\n", "has no row"),
        ("", "cannot be understood"),
        ("sample,path,order\na,x,first\n", "column order: could not convert"),
        ("sample,path,order\na,x,inf\n", "not finite"),
        ("sample,path,acquired\na,x,yesterday\n", "column acquired: .*give dates"),
        ("sample,path,order,acquired\na,x,1,2024-01-01\n", "both order and acquired"),
    ],
)
def test_a_wrong_sheet_is_an_error_that_says_what(tmp_path, text, message):
    (tmp_path / "sheet.csv").write_text(text)
    with pytest.raises(ParameterError, match=message):
        planned(tmp_path / "sheet.csv", tmp_path)


def test_a_sheet_that_is_missing_or_in_another_encoding(tmp_path):
    with pytest.raises(SourceNotFoundError, match="does not exist"):
        read_sheet(tmp_path / "no.csv")
    (tmp_path / "latin.csv").write_bytes("sample,path\nGröße,x\n".encode("latin-1"))
    with pytest.raises(ParameterError, match="UTF-8"):
        read_sheet(tmp_path / "latin.csv")


# ---- what a source is ----------------------------------------------------------------------------


def test_a_source_is_known_by_its_files(tmp_path):
    path = stored(tmp_path / "x.zarr", cells(0))
    first = identity_of(path)
    assert identity_of(str(path)) == first == identity_of(zarr.open_array(path, mode="r"))
    chunk = path / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes())
    changed = identity_of(path)
    assert changed.where == first.where and changed.content != first.content


def test_what_is_added_beside_an_image_does_not_change_it(tmp_path):
    store = two_images(tmp_path / "s.zarr")
    before = identity_of(store), identity_of(store, "left")
    zarr.open_group(store / "labels", mode="w").create_array("cells", data=np.ones((4, 4), "i4"))
    zarr.open_group(store / "tables", mode="w")
    assert (identity_of(store), identity_of(store, "left")) == before
    zarr.open_array(store / "right")[...] = 0
    assert identity_of(store, "left") == before[1]
    assert identity_of(store, "right") != identity_of(store, "left")


def test_an_element_leads_to_no_place_outside_its_store(tmp_path):
    stored(tmp_path / "s.zarr", cells(0))
    stored(tmp_path / "other.zarr", cells(0))
    whole = identity_of(tmp_path / "s.zarr")
    assert identity_of(tmp_path / "s.zarr", "../other.zarr") == whole
    assert identity_of(tmp_path / "s.zarr", str(tmp_path / "other.zarr")) == whole


def test_arrays_are_known_by_their_values_and_promises_by_their_name():
    image = cells(0)
    assert identity_of(image) == identity_of(image.copy())
    assert identity_of(image) != identity_of(image + 1)
    assert identity_of(image) != identity_of(image.astype("i4"))
    sizes = [xr.DataArray(image, attrs={"pixel_size": {"y": um, "x": um}}) for um in (0.5, 2.0)]
    assert identity_of(sizes[0]) == identity_of(sizes[0].copy(deep=True))
    assert identity_of(sizes[0]) != identity_of(sizes[1])
    lazy = gq.arcsinh(image)
    assert identity_of(lazy) == identity_of(lazy)
    assert identity_of(lazy) != identity_of(gq.arcsinh(image))
    assert identity_of(object()) != identity_of(object())


def test_a_file_behind_a_url_is_known_by_what_its_server_says():
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe("/cohort/x.tif", b"one")
    first = identity_of("memory://cohort/x.tif")
    assert identity_of("memory://cohort/x.tif") == first
    fs.pipe("/cohort/x.tif", b"three")
    assert identity_of("memory://cohort/x.tif").content != first.content
