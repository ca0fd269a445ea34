"""What do transforms cost over reading? Each computed and thrown away, over reading and decoding.

    python -m benchmarks.transforms [--side 4096] [--runs 5] [--store FOLDER]

Beside gigaqc's blur stands scipy's `gaussian_filter` in dask's `map_overlap`.
"""

from __future__ import annotations

import dask.array as da
from scipy.ndimage import gaussian_filter

import gigaqc as gq
from benchmarks._measure import Stored, discard, slide
from benchmarks._question import SLIDE, Question

SCIPY = "scipy's in dask's `map_overlap`"


def scipy_blur(stored: Stored) -> None:
    """The blur of sigma 2 as it is done with dask and scipy."""
    image = da.from_zarr(str(stored.path)).astype("f4")
    depth = {0: 0, 1: 8, 2: 8}
    blur = image.map_overlap(gaussian_filter, depth=depth, boundary="reflect", sigma=(0, 2, 2))
    discard(blur)


TRANSFORMS = {
    "`arcsinh`": lambda s: discard(gq.arcsinh(s.image).data),
    "`normalize_percentiles`": lambda s: discard(gq.normalize_percentiles(s.image).data),
    "`equalize_histogram`": lambda s: discard(gq.equalize_histogram(s.image).data),
    "`normalize_to_channel`": lambda s: discard(gq.normalize_to_channel(s.image, 0).data),
    "`remove_hot_pixels`": lambda s: discard(gq.remove_hot_pixels(s.image, 50).data),
    "`gaussian_blur`": lambda s: discard(gq.gaussian_blur(s.image, 2).data),
}
QUESTIONS = (
    Question(
        name="transforms",
        group="transforms",
        of=SLIDE,
        prepare=slide,
        functions={"reading": Stored.read, **TRANSFORMS, SCIPY: scipy_blur},
        pairs=(*((name, "reading") for name in TRANSFORMS), ("`gaussian_blur`", SCIPY)),
        full={"side": 4096, "channels": 4},
        quick={"side": 1024, "channels": 2},
    ),
)

if __name__ == "__main__":
    from benchmarks.__main__ import ask

    ask(__spec__.name)
