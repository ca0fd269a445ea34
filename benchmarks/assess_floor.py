"""What does judging cost over reading? `assess` and `scan` over the time to read and decode.

    python -m benchmarks.assess_floor [--side 8192] [--runs 5] [--store FOLDER]

The floor reads and decodes every chunk with the same scheduler and threads and throws it away: by
zarr's own pipeline, through `dask.array.from_zarr`, and as gigaqc reads. Then the same by size of
the image, and by side of a chunk.
"""

from __future__ import annotations

import gigaqc as gq
from benchmarks._measure import Stored, discard, slide
from benchmarks._question import SLIDE, Question

OWN = "gigaqc's own reading"
FUNCTIONS = {
    "reading": Stored.read,
    OWN: lambda s: discard(s.image.data),
    "`scan`": lambda s: gq.scan(s.image).compute(),
    "`assess`": lambda s: gq.assess(s.image, progress=False),
}
SMALL = {"side": 2048, "channels": 2}
QUESTIONS = (
    Question(
        name="floor",
        group="verdict",
        of=SLIDE + " (zstd, chunks of 1024)",
        prepare=slide,
        functions={
            **FUNCTIONS,
            "`assess` without tissue": lambda s: gq.assess(s.image, tissue=False, progress=False),
        },
        pairs=(
            (OWN, "reading"), ("`scan`", "reading"), ("`scan`", OWN), ("`assess`", "reading"),
            ("`assess`", OWN), ("`assess` without tissue", "reading"),
        ),
        memory=("`assess`",),
        full={"side": 8192, "channels": 8},
        quick=SMALL,
    ),
    Question(
        name="sizes",
        group="verdict",
        of=SLIDE,
        prepare=slide,
        functions=FUNCTIONS,
        pairs=(("`scan`", "reading"), ("`assess`", "reading")),
        cases=({"scale": 0.5}, {}, {"scale": 2}),
        full={"side": 4096, "channels": 4},
        quick=SMALL,
    ),
    Question(
        name="chunks",
        group="storage",
        of=SLIDE + " (zstd, chunks of {chunk})",
        prepare=slide,
        functions=FUNCTIONS,
        pairs=(("`scan`", "reading"), ("`assess`", "reading")),
        cases=tuple({"chunk": chunk} for chunk in (256, 512, 1024, 2048)),
        full={"side": 4096, "channels": 4},
        quick=SMALL,
    ),
)  # fmt: skip

if __name__ == "__main__":
    from benchmarks.__main__ import ask

    ask(__spec__.name)
