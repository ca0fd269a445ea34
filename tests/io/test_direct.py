"""Chunks that are decoded without zarr's pipeline are what zarr gives, or an error."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask.array as da
import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

import gigaqc as gq
from gigaqc import testing
from gigaqc.errors import ReadError
from gigaqc.stores.direct import DirectArray, direct

SHAPES = [((7,), (3,)), ((20, 31), (8, 10)), ((2, 3, 9, 11), (1, 2, 4, 11)), ((5, 5), (9, 9))]
V3: Mapping[str, Any] = {
    "raw": None,
    "zstd": ZstdCodec(),
    "zstd, checksum": ZstdCodec(level=3, checksum=True),
    "blosc": BloscCodec(cname="lz4", shuffle="shuffle"),
    "blosc, bits": BloscCodec(cname="zstd", shuffle="bitshuffle"),
    "gzip": GzipCodec(),
}
V2: Mapping[str, Any] = {
    "raw": None,
    "zstd": numcodecs.Zstd(),
    "blosc": numcodecs.Blosc("lz4", shuffle=1),
    "gzip": numcodecs.GZip(),
    "zlib": numcodecs.Zlib(),
}


def filled(array: zarr.Array, *, leave: bool) -> zarr.Array:
    """With values of the whole range; the chunk at the origin is left out on demand."""
    values = np.random.default_rng(0).integers(0, 256, array.shape).astype(array.dtype)
    if array.dtype.kind == "f":
        values = values / array.dtype.type(3)
    array[...] = values
    if leave:
        array[tuple(slice(0, c) for c in array.chunks)] = array.fill_value
    return array


def agree(array: zarr.Array, expect_direct: bool = True) -> None:
    found = pickle.loads(pickle.dumps(direct(array)))
    assert isinstance(found, DirectArray) == expect_direct
    rng = np.random.default_rng(1)
    keys = [tuple(slice(0, n) for n in array.shape), tuple(slice(0, 0) for n in array.shape)]
    for _ in range(12):
        ends = [np.sort(rng.integers(0, n + 1, 2)) for n in array.shape]
        keys.append(tuple(slice(int(a), int(b)) for a, b in ends))
    for key in keys:
        ours, theirs = found[key], array[key]
        assert ours.dtype == theirs.dtype
        assert ours.flags.writeable
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.cover(2)
@pytest.mark.parametrize("codec", V3)
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">u2", "<f4", ">f8", "?"])
@pytest.mark.parametrize("separator", ["/", "."])
def test_version_3(tmp_path: Path, codec: str, dtype: str, separator: str) -> None:
    for k, (shape, chunks) in enumerate(SHAPES):
        endian = "big" if dtype.startswith(">") else "little"
        array = zarr.create_array(
            tmp_path / str(k), shape=shape, chunks=chunks,
            dtype=np.dtype(dtype).newbyteorder("="), compressors=V3[codec],
            serializer=BytesCodec(endian=endian), fill_value=1,
            chunk_key_encoding={"name": "default", "separator": separator},
        )  # fmt: skip
        agree(filled(array, leave=True))


@pytest.mark.cover(2)
@pytest.mark.parametrize("codec", V2)
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">u2", "<f4", ">f8", "?"])
@pytest.mark.parametrize("separator", ["/", "."])
def test_version_2(tmp_path: Path, codec: str, dtype: str, separator: str) -> None:
    for k, (shape, chunks) in enumerate(SHAPES):
        array = zarr.create_array(
            tmp_path / str(k), shape=shape, chunks=chunks, dtype=dtype, compressors=V2[codec],
            filters=None, zarr_format=2, fill_value=1,
            chunk_key_encoding={"name": "v2", "separator": separator},
        )  # fmt: skip
        agree(filled(array, leave=True))


SHARDS = [
    ((7,), (3,), (6,)),
    ((20, 31), (4, 5), (8, 10)),
    ((2, 9, 11), (1, 4, 11), (2, 8, 11)),
    ((5, 5), (3, 3), (9, 9)),
]


def sharded(path: Path, k: int, codec: str, at: str, dtype: str = "u2", **index: Any) -> zarr.Array:
    shape, chunks, shards = SHARDS[k]
    sharding = ShardingCodec(
        chunk_shape=chunks,
        codecs=[BytesCodec(), *([V3[codec]] if V3[codec] is not None else [])],
        index_location=at,
        **index,
    )
    return zarr.create_array(
        path, shape=shape, chunks=shards, dtype=dtype, serializer=sharding, compressors=None,
        filters=None, fill_value=1,
    )  # fmt: skip


@pytest.mark.cover(2)
@pytest.mark.parametrize("codec", V3)
@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize("dtype", ["u1", "f8"])
def test_shards(tmp_path: Path, codec: str, at: str, dtype: str) -> None:
    for k in range(len(SHARDS)):
        agree(filled(sharded(tmp_path / str(k), k, codec, at, dtype), leave=True))


def test_shards_without_a_checksum_and_shards_that_are_missing(tmp_path: Path) -> None:
    plain = sharded(tmp_path / "plain", 1, "zstd", "end", index_codecs=[BytesCodec()])
    agree(filled(plain, leave=False))
    agree(sharded(tmp_path / "none", 1, "zstd", "end"))
    twice = zarr.create_array(
        tmp_path / "twice", shape=(8, 8), chunks=(8, 8), dtype="u2", compressors=None,
        serializer=ShardingCodec(
            chunk_shape=(4, 4),
            codecs=[ShardingCodec(chunk_shape=(2, 2))],
        ),
    )  # fmt: skip
    agree(filled(twice, leave=False), expect_direct=False)


@pytest.mark.parametrize("damage", ["index", "cut", "empty"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    whole = filled(sharded(tmp_path / "a", 1, "zstd", "end"), leave=False)[:]
    shard = tmp_path / "a" / "c" / "1" / "2"
    stored = shard.read_bytes()
    bad = {"index": stored[:-9] + bytes(9), "cut": stored[: len(stored) // 2], "empty": b""}
    shard.write_bytes(bad[damage])
    image = gq.open_image(tmp_path / "a")
    np.testing.assert_array_equal(image[0, :, :20], whole[:, :20])
    with pytest.raises(ReadError, match=r"chunk \(c=0, y=2, x=4\).*c/1/2"):
        image.compute()


def test_missing_chunks_are_the_fill_value(tmp_path: Path) -> None:
    for k, fill in enumerate((0.0, 7.5, np.nan, np.inf)):
        agree(
            zarr.create_array(
                tmp_path / str(k), shape=(9, 9), chunks=(4, 4), dtype="f4", fill_value=fill
            )
        )


def test_what_is_not_known_is_left_to_zarr(tmp_path: Path) -> None:
    def create(name: str, **options: Any) -> zarr.Array:
        options = {"shape": (8, 8), "chunks": (4, 4), "dtype": "u2"} | options
        return filled(zarr.create_array(tmp_path / name, **options), leave=False)

    agree(create("two", compressors=[GzipCodec(), ZstdCodec()]), expect_direct=False)
    agree(create("transposed", filters=[TransposeCodec(order=(1, 0))]), expect_direct=False)
    v2 = {"zarr_format": 2, "compressors": None}
    agree(create("fortran", order="F", **v2), expect_direct=False)
    agree(create("delta", filters=[numcodecs.Delta(dtype="u2")], **v2), expect_direct=False)
    agree(create("lzma", zarr_format=2, compressors=numcodecs.LZMA()), expect_direct=False)
    memory = zarr.create_array({}, shape=(8, 8), chunks=(4, 4), dtype="u2")
    agree(filled(memory, leave=False), expect_direct=False)


def test_other_stores_see_every_read(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a", shape=(8, 8), chunks=(4, 4), dtype="u2")
    store = testing.CountingStore(array.store)
    assert not isinstance(direct(zarr.open_array(store, mode="r")), DirectArray)


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("by_path", [False, True])
def test_arrays_of_dask_are_read_directly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: bool, by_path: bool
) -> None:
    """Whoever made the dask array, with a path or a zarr array: nothing goes through zarr."""
    path = tmp_path / "a"
    array = zarr.create_array(path, shape=(2, 30, 40), chunks=(1, 8, 9), dtype="u2")
    filled(array, leave=False)
    lazy = da.from_zarr(str(path) if by_path else array, inline_array=inline)
    expected = gq.quantile(array[...], 0.3).values

    def refuse(*_: object) -> None:
        raise AssertionError("read through zarr")

    monkeypatch.setattr(zarr.Array, "__getitem__", refuse)
    np.testing.assert_array_equal(gq.quantile(lazy, 0.3).values, expected)
    blurred = gq.gaussian_blur(lazy[:, 3:25, ::-1], 1)
    monkeypatch.undo()
    np.testing.assert_array_equal(
        blurred.values, gq.gaussian_blur(array[...][:, 3:25, ::-1], 1).values
    )


@pytest.mark.parametrize("codec", V3)
@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "shorter", "longer"])
def test_a_damaged_chunk_is_named(tmp_path: Path, codec: str, damage: str) -> None:
    sides = {"shorter": 5, "longer": 50}

    def create(name: str, side: int) -> Path:
        path = tmp_path / name
        array = zarr.create_array(
            path, shape=(2 * side, side), chunks=(side, side), dtype="u2", compressors=V3[codec]
        )
        filled(array, leave=False)
        return path

    path = create("whole", 20)
    chunk = path / "c" / "1" / "0"
    stored = chunk.read_bytes()
    if damage in sides:
        chunk.write_bytes((create("other", sides[damage]) / "c" / "1" / "0").read_bytes())
    else:
        bad = {"empty": b"", "cut": stored[: len(stored) // 2], "garbage": bytes(len(stored))}
        chunk.write_bytes(bad[damage])
    image = gq.open_image(path)
    if (codec, damage) == ("raw", "garbage"):
        assert not image.values[:, 20:].any()  # bytes without a codec are always values
        return
    with pytest.raises(ReadError, match=r"chunk \(c=0, y=1, x=0\)"):
        image.compute()
