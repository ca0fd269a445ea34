"""How should an image be stored so that it reads fast? Codecs, chunk sides, shards, pipelines.

    python -m benchmarks.codecs [--side 4096] [--runs 5] [--store FOLDER]
    python -m benchmarks.codecs --cpu          # seconds of processors and not of the clock

Every store is read whole by two threads, chunk by chunk (tiny chunks by 1024 x 1024), and thrown
away: by zarr-python's own pipeline, by that of `zarrs` where it is installed, and by gigaqc; the
table of `docs/storing.md`. What `assess` costs over reading, by codec and data, is a question of
`python -m benchmarks --only storage`.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import zarr

from benchmarks._measure import CODECS, DATA, in_turn, ratio, slide
from benchmarks._question import Question
from benchmarks.assess_floor import FUNCTIONS, OWN
from gigaqc.stores.direct import direct

QUESTIONS = (
    Question(
        name="codecs",
        group="storage",
        of="{channels} x {side} x {side}, {data}, {codec}",
        prepare=slide,
        functions=FUNCTIONS,
        pairs=(
            ("`scan`", "reading"),
            ("`scan`", OWN),
            ("`assess`", "reading"),
            ("`assess`", OWN),
        ),
        cases=(
            *({"data": "fluorescence", "codec": c} for c in ("zstd", "blosc lz4 bits", "none")),
            *({"data": d, "codec": c} for d in list(DATA)[1:] for c in ("zstd", "blosc lz4 bits")),
        ),
        full={"side": 4096, "channels": 4},
        quick={"side": 1024, "channels": 2},
    ),
)


def read_whole(array: Any, side: int, threads: int) -> None:
    """Read and decode every chunk, in blocks of `side`."""
    channels, height, width = array.shape
    blocks = itertools.product(range(channels), range(0, height, side), range(0, width, side))

    def read(block: tuple[int, int, int]) -> None:
        c, y, x = block
        assert array[c : c + 1, y : min(y + side, height), x : min(x + side, width)].shape[0] == 1

    with ThreadPool(threads) as pool:
        pool.map(read, blocks, chunksize=1)


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


def main() -> None:
    """Print the time of each store and pipeline, and ratios to gigaqc's in the same round."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--cpu", action="store_const", dest="clock", const=time.process_time)
    parser.set_defaults(clock=time.perf_counter)
    options = parser.parse_args()
    print(f"{options.channels} x {options.side} x {options.side} uint16, {options.runs} rounds")
    print("| codec | chunk | shard | bytes a pixel | gigaqc, ns a pixel | zarr | zarrs |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.store or Path(temporary)
        for codec, chunk, shard in cases():
            path = slide(folder, options.side, options.channels, chunk, codec, shard=shard).path
            cells = (codec, str(chunk), str(shard or "-"), *read_by_all(path, options))
            print(f"| {' | '.join(cells)} |", flush=True)


def read_by_all(path: Path, options: argparse.Namespace) -> list[str]:
    """The cells of one store."""
    array = zarr.open_array(path, mode="r")
    seconds = in_turn(pipelines(path, array, options.threads), options.runs, options.clock)
    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / array.size
    taken = statistics.median(seconds["gigaqc"]) * 1e9 / array.size
    others = [
        f"{ratio(seconds, name, 'gigaqc'):.2f} x" if name in seconds else "not installed"
        for name in ("zarr", "zarrs")
    ]
    return [f"{size:.2f}", f"{taken:.2f}", *others]


if __name__ == "__main__":
    main()
