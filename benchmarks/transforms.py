"""What do transforms cost over reading? Each computed and thrown away, over reading and decoding.

    python benchmarks/transforms.py [--side 4096] [--channels 4] [--runs 5] [--store FOLDER]

The floor reads and decodes every chunk once with the same scheduler and threads, through dask's own
`from_zarr`. Beside gigaqc's blur stands scipy's `gaussian_filter` in dask's `map_overlap`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from _measure import in_turn, report, slide
from scipy.ndimage import gaussian_filter

import gigaqc as gq


def discard(array: da.Array) -> None:
    """Compute every chunk and keep none."""
    ones = (1,) * array.ndim
    array.map_blocks(lambda block: np.zeros(ones), chunks=ones, dtype=float).compute()


def scipy_blur(path: Path) -> da.Array:
    """The blur of sigma 2 as it is done with dask and scipy."""
    image = da.from_zarr(str(path)).astype("f4")
    depth = {0: 0, 1: 8, 2: 8}
    return image.map_overlap(gaussian_filter, depth=depth, boundary="reflect", sigma=(0, 2, 2))


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        name = f"slide-{options.channels}x{options.side}.zarr"
        path = slide((options.store or Path(folder)) / name, options.channels, options.side)
        image = gq.open_image(path)
        functions = {
            "read and decode": lambda: discard(da.from_zarr(str(path))),
            "arcsinh": lambda: discard(gq.arcsinh(image).data),
            "normalize_percentiles": lambda: discard(gq.normalize_percentiles(image).data),
            "equalize_histogram": lambda: discard(gq.equalize_histogram(image).data),
            "normalize_to_channel": lambda: discard(gq.normalize_to_channel(image, 0).data),
            "remove_hot_pixels": lambda: discard(gq.remove_hot_pixels(image, 50).data),
            "gaussian_blur": lambda: discard(gq.gaussian_blur(image, 2).data),
            "blur of scipy and dask": lambda: discard(scipy_blur(path)),
        }
        with dask.config.set(scheduler="threads", num_workers=options.threads):
            report(in_turn(functions, options.runs), "read and decode")


if __name__ == "__main__":
    main()
