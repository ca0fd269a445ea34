"""From pixels to states: what one task does with its block, and with the seams to its neighbours.

A block is a (t, z, y, x) array for each channel. What looks at a 3x3 or 8x8 neighbourhood is
observed where the neighbourhood lies inside the block. The rest lies within a few pixels of a seam,
so edge strips travel in the `Partial`, and `join_partials` observes the seam between two adjacent
rectangles when it makes them one: every centre is counted once, and no pixel is read twice.
"""

from gigaqc.observe.blocks import SMALLEST_SIDE, Channels, Edges, Partial, Place, Request, Strips
from gigaqc.observe.first import observe
from gigaqc.observe.readable import join_readable, observe_readable, observe_readable_again
from gigaqc.observe.seams import beside, join_partials
from gigaqc.observe.second import Again, Second, join_again, observe_again

__all__ = [
    "SMALLEST_SIDE",
    "Again",
    "Channels",
    "Edges",
    "Partial",
    "Place",
    "Request",
    "Second",
    "Strips",
    "beside",
    "join_again",
    "join_partials",
    "join_readable",
    "observe",
    "observe_again",
    "observe_readable",
    "observe_readable_again",
]
