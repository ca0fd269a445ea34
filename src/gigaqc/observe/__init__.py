"""From pixels to states: what one task does with its block, and with the seams to its neighbours.

A block is a (t, z, y, x) array for each channel. What looks at a 3x3 or 8x8 neighbourhood is
observed where the neighbourhood lies inside the block. The rest lies within a few pixels of a seam,
so edge strips travel in the `Partial`, and `join_partials` observes the seam between two adjacent
rectangles when it makes them one: every centre is counted once, and no pixel is read twice.

Which states there are is told by the register: `kinds` has the records of this package.
"""

from gigaqc.observe import kinds
from gigaqc.observe.blocks import SMALLEST_SIDE, Channels, Edges, Partial, Place, Request, Strips
from gigaqc.observe.first import observe
from gigaqc.observe.readable import join_readable, observe_readable, observe_readable_again
from gigaqc.observe.registry import Part, StateKind, register
from gigaqc.observe.seams import beside, join_partials
from gigaqc.observe.second import Again, Second, join_again, observe_again
from gigaqc.observe.state import State
from gigaqc.observe.tables import Swept, SweptSeam

__all__ = [
    "SMALLEST_SIDE",
    "Again",
    "Channels",
    "Edges",
    "Part",
    "Partial",
    "Place",
    "Request",
    "Second",
    "State",
    "StateKind",
    "Strips",
    "Swept",
    "SweptSeam",
    "beside",
    "join_again",
    "join_partials",
    "join_readable",
    "kinds",
    "observe",
    "observe_again",
    "observe_readable",
    "observe_readable_again",
    "register",
]
