"""For tests of image quality: phantoms with known answers, and instruments that watch a run.

Nothing in the library imports this package; it is public because whoever builds on gigaqc has the
same claims to test.
"""

from gigaqc.testing.phantoms import (
    Phantom,
    Truth,
    clipped,
    dead_block,
    defocused,
    gaussian,
    hot_pixels,
    nuclei,
    poisson,
    spilled,
    striped,
    tissue,
)
from gigaqc.testing.servers import Fault, FaultyServer
from gigaqc.testing.stores import (
    CountingStore,
    PeakMemory,
    count_reads,
    forbid_compute,
    peak_memory,
    reset_reads,
    sparse_store,
)

__all__ = [
    "CountingStore",
    "Fault",
    "FaultyServer",
    "PeakMemory",
    "Phantom",
    "Truth",
    "clipped",
    "count_reads",
    "dead_block",
    "defocused",
    "forbid_compute",
    "gaussian",
    "hot_pixels",
    "nuclei",
    "peak_memory",
    "poisson",
    "reset_reads",
    "sparse_store",
    "spilled",
    "striped",
    "tissue",
]
