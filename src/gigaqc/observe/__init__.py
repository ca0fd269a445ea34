"""From pixels to states: what one task does with its block, and with the seams to its neighbours.

A block is a (t, z, y, x) array for each channel. What looks at a 3x3 or 8x8 neighbourhood is
observed where the neighbourhood lies inside the block. The rest lies within a few pixels of a seam,
so the edge strips travel in the `Partial`, and `observe_seams` observes the seams to the right,
below and diagonally below: every centre is counted once, and no pixel is read twice.
"""

from gigaqc.observe.blocks import SMALLEST_SIDE, Channels, Partial, Place, Request, Strips
from gigaqc.observe.first import observe
from gigaqc.observe.seams import observe_seams
from gigaqc.observe.second import Again, Second, observe_again, observe_seams_again

__all__ = [
    "SMALLEST_SIDE",
    "Again",
    "Channels",
    "Partial",
    "Place",
    "Request",
    "Second",
    "Strips",
    "observe",
    "observe_again",
    "observe_seams",
    "observe_seams_again",
]
