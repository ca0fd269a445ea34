"""From pixels to states: what one task does with its block, and with the seams to its neighbours.

A block is a (t, z, y, x) array for each channel. What looks at a 3x3 or 8x8 neighbourhood is
observed where the neighbourhood lies inside the block. The rest lies within a few pixels of a seam,
so edge strips travel in the `Partial`, and `join_partials` observes the seam between two adjacent
rectangles when it makes them one: every centre is counted once, and no pixel is read twice.

Which states there are is told by a register (`state`); `kinds` has the records of this package.
"""

from gigaqc.statistics import kinds  # which registers them
from gigaqc.statistics.state import Part, StateKind, register

__all__ = ["Part", "StateKind", "kinds", "register"]
