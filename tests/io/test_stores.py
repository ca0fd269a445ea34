"""Images in object stores and on web servers: the results of local files, whatever happens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import fsspec
import numpy as np
import pytest
import tifffile
import zarr
from same_states import identical
from settings import configure
from zarr.storage import FsspecStore, ObjectStore

import gigaqc as gq
from gigaqc.base import machine
from gigaqc.errors import ParameterError, ReadError, SourceNotFoundError
from gigaqc.stores import object_store
from gigaqc.stores.location import in_one_line, without_secrets
from gigaqc.testing import FaultyServer

pytestmark = pytest.mark.same_process  # counts requests to a server of this process

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
# What obstore does not know leaves a URL to s3fs.
BY = {"obstore": None, "s3fs": {"client_kwargs": {"region_name": "us-east-1"}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OME-Zarr image with labels, the same in float, in shards, and as TIFF."""
    folder = tmp_path_factory.mktemp("bucket")
    rng = np.random.default_rng(0)
    pixels = rng.poisson(30, (2, 128, 160)).astype("u2")
    pixels[:, 40:90, 30:100] += 50
    gq.write_image(da.from_array(pixels, chunks=(1, 32, 40)), folder / "ome.zarr")
    labels = gq.open_image(folder / "ome.zarr").isel(c=0, drop=True).astype("i4") // 40
    group = zarr.open_group(folder / "ome.zarr").create_group("labels")
    group.attrs["ome"] = {"labels": ["cells"]}
    gq.write_labels(labels, folder / "ome.zarr" / "labels" / "cells")
    plain: dict[str, Any] = {"shape": pixels.shape, "chunks": (1, 32, 40), "dtype": "f4"}
    zarr.create_array(folder / "f4.zarr", **plain)[:] = pixels * 1.37
    plain = {"shape": pixels.shape, "chunks": (1, 8, 8), "shards": (1, 32, 40), "dtype": "u2"}
    zarr.create_array(folder / "shards.zarr", **plain)[:] = pixels
    tifffile.imwrite(folder / "a.tif", pixels, tile=(64, 64), compression="zlib")
    return folder


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[FaultyServer]:
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
    with FaultyServer(folder) as server:
        yield server


@pytest.fixture(scope="module")
def bucket(folder: Path) -> Iterator[FaultyServer]:
    """S3, with faults before it; moto keeps what it is given in memory."""
    pytest.importorskip("s3fs", reason="s3:// needs gigaqc[s3]")
    server = pytest.importorskip("moto.server", reason="S3 is simulated by moto[server]")
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    with FaultyServer(f"http://{host}:{port}") as front, pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", front.url)
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("images")
        fs.put(f"{folder}/", "images/", recursive=True)
        yield front
    moto.stop()


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Short pauses, many groups, and no fault left over."""
    configure(monkeypatch, "read-pause", 0.01)
    configure(monkeypatch, "group-values", 1 << 14)
    yield
    for name in ("bucket", "web"):
        if name in request.fixturenames:
            request.getfixturevalue(name).reset()


def chunk_gets(server: FaultyServer, path: str) -> dict[str, int]:
    return {p: n for p, n in server.gets.items() if f"/{path}/" in p and not p.endswith(".json")}


def same(actual: gq.Assessment, expected: gq.Assessment) -> None:
    identical(actual.statistics.state, expected.statistics.state)
    identical(actual.tissue, expected.tissue)
    assert actual.channels.equals(expected.channels)
    assert actual.flags.equals(expected.flags)


# ---- what is there, and what is read ------------------------------------------------------------


@pytest.mark.parametrize("by", BY)
def test_a_bucket_is_opened_as_a_folder_is(bucket: FaultyServer, folder: Path, by: str) -> None:
    url, options = "s3://images/ome.zarr", BY[by]
    assert gq.list_images(url, storage_options=options) == ["ome"]
    image = gq.open_image(url, storage_options=options)
    local = gq.open_image(folder / "ome.zarr")
    assert image.attrs == {**local.attrs, "source": url}
    assert image.chunks == local.chunks and list(image.c.values) == list(local.c.values)
    np.testing.assert_array_equal(image.values, local.values)
    labels = gq.open_labels(url, storage_options=options)
    np.testing.assert_array_equal(labels.values, gq.open_labels(folder / "ome.zarr").values)
    store = image.data.dask[image.data.name, 0, 0, 0].args[0].value.array._store._store
    assert type(store) is {"obstore": ObjectStore, "s3fs": FsspecStore}[by]


@pytest.mark.parametrize(
    ("by", "name"), [("obstore", "ome.zarr"), ("obstore", "f4.zarr"), ("s3fs", "ome.zarr")]
)
def test_assess_gives_the_bits_of_local_files_in_as_many_reads(
    bucket: FaultyServer, folder: Path, name: str, by: str
) -> None:
    expected = gq.assess(gq.open_image(folder / name), name="s", tissue=False, progress=False)
    image = gq.open_image(f"s3://images/{name}", storage_options=BY[by])
    bucket.reset()
    same(gq.assess(image, name="s", tissue=False, progress=False), expected)
    reads = chunk_gets(bucket, name)
    assert len(reads) == 32
    assert set(reads.values()) == {2 if name == "f4.zarr" else 1}


def test_a_web_server(web: FaultyServer, folder: Path) -> None:
    local = gq.open_image(folder / "ome.zarr")
    image = gq.open_image(f"{web.url}/ome.zarr")
    assert image.attrs == {**local.attrs, "source": f"{web.url}/ome.zarr"}
    web.reset()
    same(
        gq.assess(image, name="s", tissue=False, progress=False),
        gq.assess(local, name="s", tissue=False, progress=False),
    )
    assert set(chunk_gets(web, "ome.zarr").values()) == {1}
    assert gq.open_labels(f"{web.url}/ome.zarr").dtype == "i4"
    with pytest.raises(SourceNotFoundError, match=r"b\.zarr"):
        gq.open_image(f"{web.url}/b.zarr")


@pytest.mark.usefixtures("few_pictures")
def test_what_signs_a_url_is_neither_shown_nor_kept(web: FaultyServer, tmp_path: Path) -> None:
    def signed(name: str, day: str) -> str:
        return f"{web.url}/{name}?versionId=3&X-Amz-Date={day}&X-Amz-Signature=s3cr3t{day}"

    image = gq.open_image(signed("a.tif", "monday"))
    assert image.attrs["source"] == signed("a.tif", "...").replace("s3cr3t", "")
    assert "s3cr3t" not in gq.assess(image, progress=False).name
    first = gq.assess_batch(signed("a.tif", "monday"), tmp_path, progress=False)
    assert first.summary["sample"].tolist() == ["a"]
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert len(files) > 8 and not [p for p in files if b"s3cr3t" in p.read_bytes()]
    gq.assess_batch(signed("a.tif", "friday"), tmp_path, progress=False)
    assert all(p.stat().st_mtime_ns == t for p, t in files.items() if p.name == "a.json")
    with pytest.raises(SourceNotFoundError) as missing:
        gq.open_image(signed("none.tif", "monday"))
    web.fail("a.tif", status=403)
    with pytest.raises(ReadError) as refused:
        gq.open_image(signed("a.tif", "monday"))
    for error in (missing, refused):
        assert "versionId=3" in str(error.value) and "s3cr3t" not in str(error.value)


def test_which_parts_of_a_url_are_secret() -> None:
    for url in ("s3://b/key.zarr", "https://h:80/a?key=x.tif&sigma=2", "memory://a", "/a?sig=b"):
        assert without_secrets(url) == url
    assert without_secrets("https://me:pass@host/a?sig=x%2F&id=2#p") == (
        "https://me:...@host/a?sig=...&id=2#p"
    )
    line = in_one_line(OSError("'https://h/a?sig=b' is away"))
    assert line == "OSError: 'https://h/a?sig=...' is away"


@pytest.mark.parametrize("where", ["bucket", "web"])
def test_tiff(where: str, folder: Path, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(where)
    url = "s3://images/a.tif" if where == "bucket" else f"{server.url}/a.tif"
    np.testing.assert_array_equal(gq.open_image(url).values, gq.open_image(folder / "a.tif").values)


def test_shards_are_read_by_their_parts(web: FaultyServer, folder: Path) -> None:
    local = gq.open_image(folder / "shards.zarr", chunks=(1, 16, 16))
    image = gq.open_image(f"{web.url}/shards.zarr", chunks=(1, 16, 16))
    web.reset()
    np.testing.assert_array_equal(image.values, local.values)
    # A shard meets 2 x 3 blocks, some of which lie in two shards; and its index.
    assert set(chunk_gets(web, "shards.zarr").values()) == {7}
    whole = gq.open_image(f"{web.url}/shards.zarr")
    assert whole.data.chunksize == (1, 32, 40)
    web.reset()
    np.testing.assert_array_equal(whole.values, local.values)
    assert set(chunk_gets(web, "shards.zarr").values()) == {1}
    web.fail("c/1/1/1", short=0.5, times=1)  # of an index
    web.fail("c/1/1/1", short=0.7, times=1)
    np.testing.assert_array_equal(
        gq.open_image(f"{web.url}/shards.zarr", chunks=(1, 16, 16)).values, local.values
    )
    np.testing.assert_array_equal(whole[:, 5:90, 11:12].values, local[:, 5:90, 11:12].values)


def test_an_index_that_failed_is_asked_for_again(web: FaultyServer, folder: Path) -> None:
    corner = gq.open_image(f"{web.url}/shards.zarr", chunks=(1, 16, 16))[0, :16, :16]
    web.fail("/c/", status=403)
    with pytest.raises(ReadError):
        corner.compute()
    web.reset()
    np.testing.assert_array_equal(
        corner.compute(), gq.open_image(folder / "shards.zarr")[0, :16, :16]
    )


@pytest.mark.parametrize(
    ("by", "inline"), [("obstore", False), ("obstore", True), ("s3fs", False), ("web", True)]
)
def test_arrays_that_users_opened(
    bucket: FaultyServer, web: FaultyServer, folder: Path, by: str, inline: bool
) -> None:
    store: Any
    if by == "obstore":
        from obstore.store import S3Store

        client = {"allow_http": True}
        store = ObjectStore(S3Store.from_url("s3://images/f4.zarr", client_options=client))
    else:
        url = "s3://images" if by == "s3fs" else web.url
        store = FsspecStore.from_url(f"{url}/f4.zarr", read_only=True)
    array = zarr.open_array(store, mode="r")
    lazy = da.from_zarr(array, inline_array=inline)
    server = web if by == "web" else bucket
    server.fail("c/0/0/1", cut=0.5, times=1)
    server.reset()
    server.fail("/c/", delay=0.02)
    expected = gq.scan(gq.open_image(folder / "f4.zarr"), quantiles=(0.3,)).compute()
    identical(gq.scan(lazy, quantiles=(0.3,)).compute().state, expected.state)
    assert set(chunk_gets(server, "f4.zarr").values()) == {2}
    assert server.most_at_once > 2  # threads
    blurred = gq.gaussian_blur(lazy[:, 3:70], 1)
    np.testing.assert_array_equal(blurred.values, gq.gaussian_blur(array[:, 3:70], 1).values)


@pytest.mark.parametrize(
    "work",
    [
        lambda image: gq.scan(image).compute().state,
        lambda image: gq.gaussian_blur(image, 1).mean().compute().values,
        lambda image: gq.gain_map(image.rename(c="t").drop_vars("t")).mean_map.compute().values,
    ],
    ids=["scan", "blur", "gain_map"],
)
def test_many_requests_are_under_way(web: FaultyServer, folder: Path, work: Any) -> None:
    """More than there are threads, each chunk once, with the same result."""
    expected = work(gq.open_image(folder / "ome.zarr"))
    image = gq.open_image(f"{web.url}/ome.zarr")
    web.reset()
    web.fail("/c/", delay=0.03)
    identical(work(image), expected)
    assert set(chunk_gets(web, "ome.zarr").values()) == {1}
    assert web.most_at_once >= 6


def test_nothing_is_asked_for_before_it_is_computed(web: FaultyServer) -> None:
    image = gq.open_image(f"{web.url}/ome.zarr")
    web.reset()
    gq.scan(image)
    gq.gaussian_blur(image, 1)
    assert not chunk_gets(web, "ome.zarr")


# ---- what goes wrong ----------------------------------------------------------------------------

FAULTS: dict[str, dict[str, Any]] = {
    "503": {"status": 503},
    "429": {"status": 429},
    "cut off": {"cut": 0.4},
    "nothing": {"cut": 0.0},
    "short": {"short": 0.5},
    "slow": {"delay": 0.3},
}


@pytest.mark.parametrize(
    ("by", "fault"),
    [*itertools.product(["obstore", "web"], FAULTS), ("s3fs", "503"), ("s3fs", "cut off")],
)
def test_what_passes_is_tried_again(
    bucket: FaultyServer, web: FaultyServer, folder: Path, by: str, fault: str
) -> None:
    if by == "web":
        server, image = web, gq.open_image(f"{web.url}/ome.zarr")
    else:
        server, image = bucket, gq.open_image("s3://images/ome.zarr", storage_options=BY[by])
    server.reset()
    faults = [server.fail(f"/c/{c}/{c}/2", **FAULTS[fault], times=2) for c in (0, 1)]
    found = gq.scan(image).compute()
    identical(found.state, gq.scan(gq.open_image(folder / "ome.zarr")).compute().state)
    reads = chunk_gets(server, "ome.zarr")
    assert sorted(reads.values())[:30] == [1] * 30
    assert sum(reads.values()) == 32 + (0 if fault == "slow" else sum(f.hits for f in faults))
    assert all(f.hits for f in faults)


@pytest.mark.parametrize("by", ["obstore", "web"])
@pytest.mark.parametrize("fault", ["503", "cut off", "short"])
def test_what_does_not_pass_is_told(
    bucket: FaultyServer, web: FaultyServer, by: str, fault: str
) -> None:
    if by == "web":
        server, url = web, f"{web.url}/ome.zarr"
    else:
        server, url = bucket, "s3://images/ome.zarr"
    image = gq.open_image(url)
    server.fail("/c/1/2/3", **FAULTS[fault])
    cure = "upload it again" if fault == "short" else "run it again later, or copy the image"
    with pytest.raises(
        ReadError,
        match=rf"^{url} .*channel '1': chunk \(c=1, y=2, x=3\).*{url}/0/c/1/2/3: .*; .*{cure}",
    ):
        gq.assess(image, progress=False)
    most = (machine.decode_attempts if fault == "short" else machine.read_attempts)()
    assert max(chunk_gets(server, "ome.zarr").values()) == most
    lazy = da.from_zarr(image.data.dask[image.data.name, 0, 0, 0].args[0].value.array._array)
    with pytest.raises(
        ReadError, match=rf"^{url}/0: chunk \(c=1, y=2, x=3\) cannot be read.*/c/1/2/3"
    ):
        gq.scan(lazy).compute()


def test_only_what_is_corrupt_is_left_out(web: FaultyServer) -> None:
    image = gq.open_image(f"{web.url}/ome.zarr")
    web.fail("/c/1/2/3", short=0.5)
    found = gq.scan(image, on_error="mask").compute()
    assert found.unreadable.pixels.tolist() == [0, 32 * 40]
    web.reset()
    web.fail("/c/1/2/3", status=503)
    with pytest.raises(ReadError, match="run it again later"):
        gq.scan(image, on_error="mask").compute()


def test_the_patience_of_s3fs(bucket: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its own, which may be long; once that is over nothing is tried again for minutes."""
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    configure(monkeypatch, "read-patience", 0.0)
    options = {"config_kwargs": {"retries": {"max_attempts": 1}}}
    image = gq.open_image("s3://images/ome.zarr", storage_options=options)
    bucket.fail("/c/1/2/3", status=503)
    with pytest.raises(ReadError, match=r"chunk \(c=1, y=2, x=3\).*run it again later"):
        gq.scan(image).compute()


@pytest.mark.parametrize("by", ["obstore", "s3fs", "web"])
def test_what_is_refused_is_not_tried_again(
    bucket: FaultyServer, web: FaultyServer, by: str
) -> None:
    if by == "web":
        server, image = web, gq.open_image(f"{web.url}/ome.zarr")
    else:
        server, image = bucket, gq.open_image("s3://images/ome.zarr", storage_options=BY[by])
    server.reset()
    server.fail("/c/1/2/3", status=403)
    with pytest.raises(ReadError, match=r"chunk \(c=1, y=2, x=3\).*credentials"):
        gq.scan(image).compute()
    assert max(chunk_gets(server, "ome.zarr").values()) == 1


@pytest.mark.parametrize("by", ["obstore", "s3fs", "web"])
def test_a_chunk_that_is_missing_is_fill_value(
    bucket: FaultyServer, web: FaultyServer, by: str
) -> None:
    if by == "web":
        server, image = web, gq.open_image(f"{web.url}/ome.zarr")
    else:
        server, image = bucket, gq.open_image("s3://images/ome.zarr", storage_options=BY[by])
    server.reset()
    server.fail("/c/1/2/3", status=404)
    assert not image.values[1, 64:96, 120:].any()
    assert max(chunk_gets(server, "ome.zarr").values()) == 1


def test_metadata_is_tried_again(web: FaultyServer, folder: Path) -> None:
    fault = web.fail("zarr.json", status=503, times=3)
    assert gq.open_image(f"{web.url}/ome.zarr").sizes["c"] == 2
    assert fault.hits == 3
    web.fail("zarr.json", status=503)
    with pytest.raises(ReadError, match=r"ome\.zarr' cannot be reached .*503"):
        gq.open_image(f"{web.url}/ome.zarr")


def test_a_request_that_hangs_is_given_up(
    web: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = gq.open_image(f"{web.url}/ome.zarr")
    configure(monkeypatch, "read-timeout", 0.1)
    fault = web.fail("/c/1/2/3", delay=1.0, times=1)
    assert image.values.any() and fault.hits == 1


def test_credentials_and_options(bucket: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*KEYS, "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    given = {"key": "key", "secret": "secret", "endpoint_url": bucket.url}
    assert gq.open_image("s3://images/ome.zarr", storage_options=given).sizes["c"] == 2
    with pytest.raises(ReadError, match=r"s3://images/ome\.zarr.*credentials.*storage_options="):
        gq.open_image("s3://images/ome.zarr", storage_options={**given, "key": "", "anon": True})
    for source in ("local.zarr", Path("local.zarr"), np.zeros((3, 3))):
        with pytest.raises(ParameterError, match=r"storage_options: .*s3://"):
            gq.open_image(source, storage_options=given)


def test_errors_that_may_pass() -> None:
    passing = [ConnectionResetError(), TimeoutError(), OSError(16, "slow down")]
    lasting = [PermissionError(), FileNotFoundError(), ValueError(), object_store.Unanswered()]
    GenericError = pytest.importorskip("obstore.exceptions", reason="obstore").GenericError
    said = "Server returned non-2xx status code: {}: "
    passing += [GenericError(said.format("503 Service Unavailable")), GenericError("HTTP error")]
    lasting += [GenericError(said.format("400 Bad Request"))]
    lasting += [GenericError("Received redirect without LOCATION, this normally indicates ...")]
    assert all(map(object_store.may_pass, passing))
    assert not any(map(object_store.may_pass, lasting))
