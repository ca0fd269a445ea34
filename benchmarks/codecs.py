"""How should an image be stored so that it reads fast? Codecs, chunk sides, shards, pipelines.

    python benchmarks/codecs.py [--side 4096] [--channels 4] [--runs 5] [--store FOLDER]
    python benchmarks/codecs.py --assess       # what `assess` costs over reading, by codec and data
    python benchmarks/codecs.py --cpu          # seconds of processors and not of the clock

Every store is read whole by two threads, chunk by chunk (tiny chunks by 1024 x 1024), and thrown
away: by zarr-python's own pipeline, by that of `zarrs` where it is installed, and by gigaqc.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import dask
import numpy as np
import zarr
from _measure import in_turn, ratio, read
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import gigaqc as gq
from gigaqc.io.direct import direct

CODECS: Mapping[str, Any] = {
    "none": None,
    "zstd": ZstdCodec(level=0),  # what zarr takes when nothing is said
    "blosc lz4 bits": BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
    "blosc zstd bits": BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"),
    "gzip": GzipCodec(level=5),
}
BLOCK = 2048


def fluorescence(rng: np.random.Generator, side: int) -> np.ndarray:
    """Structure of a few hundred counts with photon noise."""
    from scipy.ndimage import gaussian_filter

    base = gaussian_filter(rng.random((side, side)), 6)
    base = (base - base.min()) / (base.max() - base.min())
    return rng.poisson(100 + 300 * base).astype("u2")


DATA: Mapping[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "fluorescence": fluorescence,
    "sparse counts": lambda rng, side: rng.poisson(0.05, (side, side)).astype("u2"),
    "noise of 16 bits": lambda rng, side: rng.integers(0, 1 << 16, (side, side), dtype="u2"),
    "8 bits": lambda rng, side: (fluorescence(rng, side) >> 1).astype("u1"),
}


def stored(
    path: Path, side: int, channels: int, chunk: int, codec: str, data: str, shard: int | None
) -> zarr.Array:
    """An image of one codec; the same 2048 x 2048 pixels repeat, which no codec sees."""
    if path.exists():
        return zarr.open_array(path, mode="r")
    pixels = DATA[data](np.random.default_rng(0), BLOCK)
    array = zarr.create_array(
        path, shape=(channels, side, side), chunks=(1, chunk, chunk), dtype=pixels.dtype,
        shards=None if shard is None else (1, shard, shard), compressors=CODECS[codec],
        config={"write_empty_chunks": True},
    )  # fmt: skip
    for c, y, x in itertools.product(range(channels), range(0, side, BLOCK), range(0, side, BLOCK)):
        array[c, y : y + BLOCK, x : x + BLOCK] = np.roll(pixels, 7 * c, axis=0)[
            : side - y, : side - x
        ]
    return zarr.open_array(path, mode="r")


def read_whole(array: Any, side: int, threads: int) -> None:
    """Read and decode every chunk, in blocks of `side`."""
    channels, height, width = array.shape
    blocks = itertools.product(range(channels), range(0, height, side), range(0, width, side))

    def read_block(block: tuple[int, int, int]) -> None:
        c, y, x = block
        key = (
            slice(c, c + 1),
            slice(y, min(y + side, height)),
            slice(x, min(x + side, width)),
        )
        assert array[key].shape[0] == 1

    with ThreadPool(threads) as pool:
        pool.map(read_block, blocks, chunksize=1)


def by_zarrs(path: Path) -> zarr.Array:
    """The array with the pipeline of zarrs, one thread a call as the others have."""
    with zarr.config.set(
        {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1}
    ):
        return zarr.open_array(path, mode="r")


def pipelines(path: Path, array: zarr.Array, threads: int) -> dict[str, Callable[[], None]]:
    """What is compared."""
    side = max(array.chunks[-1], 1024)
    found = {"zarr": lambda: read_whole(array, side, threads)}
    if find_spec("zarrs") is not None:
        rust = by_zarrs(path)
        found["zarrs"] = lambda: read_whole(rust, side, threads)
    ours = direct(array)
    found["gigaqc"] = lambda: read_whole(ours, side, threads)
    return found


def cases() -> Iterator[tuple[str, int, int | None]]:
    """Codec, side of a chunk, side of a shard."""
    yield from ((codec, 1024, None) for codec in CODECS)
    yield from (("blosc lz4 bits", chunk, None) for chunk in (256, 512, 2048))
    yield from (("zstd", chunk, None) for chunk in (256, 512, 2048))
    for codec in ("blosc lz4 bits", "zstd"):
        yield from ((codec, chunk, 2048) for chunk in (256, 512, 1024))


def compare_reading(folder: Path, options: argparse.Namespace) -> None:
    """Print the time of each store and pipeline, and ratios to gigaqc's in the same round."""
    print(f"{options.channels} x {options.side} x {options.side} uint16, {options.runs} rounds")
    print("| codec | chunk | shard | bytes a pixel | gigaqc, ns a pixel | zarr | zarrs |")
    print("|---|---|---|---|---|---|---|")
    for codec, chunk, shard in cases():
        path = folder / f"{codec}-{chunk}-{shard}.zarr"
        array = stored(path, options.side, options.channels, chunk, codec, "fluorescence", shard)
        seconds = in_turn(pipelines(path, array, options.threads), options.runs, options.clock)
        size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / array.size
        taken = statistics.median(seconds["gigaqc"]) * 1e9 / array.size
        others = [
            f"{ratio(seconds, name, 'gigaqc'):.2f} x" if name in seconds else "not installed"
            for name in ("zarr", "zarrs")
        ]
        print(
            f"| {codec} | {chunk} | {shard or '-'} | {size:.2f} | {taken:.2f} | "
            f"{' | '.join(others)} |",
            flush=True,
        )


def compare_assess(folder: Path, options: argparse.Namespace) -> None:
    """Print what scanning and judging cost over reading, by zarr and by gigaqc itself."""
    print(f"{options.channels} x {options.side} x {options.side}, {options.runs} rounds")
    print("| data | codec | reading by zarr, ns a pixel | scan | assess | by gigaqc | assess |")
    print("|---|---|---|---|---|---|---|")
    codecs = ("zstd", "blosc lz4 bits", "none")
    wanted = [("fluorescence", codec) for codec in codecs]
    wanted += [(data, codec) for data in list(DATA)[1:] for codec in codecs[:2]]
    for data, codec in wanted:
        path = folder / f"{data}-{codec}.zarr"
        array = stored(path, options.side, options.channels, 1024, codec, data, None)
        image, ours = gq.open_image(path), direct(array)
        seconds = in_turn(
            {
                "zarr": lambda path=path: read(path),
                "read": lambda ours=ours: read_whole(ours, 1024, options.threads),
                "scan": lambda image=image: gq.scan(image).compute(),
                "assess": lambda image=image: gq.assess(image, progress=False),
            },
            options.runs,
            options.clock,
        )
        zarr_, ours_ = (statistics.median(seconds[k]) * 1e9 / array.size for k in ("zarr", "read"))
        scan, assess = (ratio(seconds, name, "zarr") for name in ("scan", "assess"))
        print(
            f"| {data} | {codec} | {zarr_:.2f} | {scan:.2f} x | {assess:.2f} x | {ours_:.2f} | "
            f"{ratio(seconds, 'assess', 'read'):.2f} x |",
            flush=True,
        )


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--assess", action="store_true")
    parser.add_argument("--cpu", action="store_const", dest="clock", const=time.process_time)
    parser.set_defaults(clock=time.perf_counter)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare = compare_assess if options.assess else compare_reading
        with dask.config.set(scheduler="threads", num_workers=options.threads):
            compare(options.store or Path(folder), options)


if __name__ == "__main__":
    main()
