"""The register of states: one record says all that the rest of the package must know of a state.

Which states a block is asked for, what is cut from its edges, what a seam adds, what a pool of
images and a store keep, which classes a store may hold, and how errors name what is missing follow
from the records. Those of this package stand in `kinds`; any other module may register more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Generic, TypeVar

from gigaqc.errors import ParameterError
from gigaqc.kernels import fused
from gigaqc.states import Additive

if TYPE_CHECKING:
    from gigaqc.observe.tables import Swept, SweptSeam

S = TypeVar("S", bound=Additive)


class Part(IntFlag):
    """What a scan observes; a metric names the parts that it is a function of.

    The lower bits are those that tell the kernels what to compute. A state from outside of the
    package shares a part, or takes one of its own, from ``Part(1 << 16)`` to ``Part(1 << 31)``: the
    bit is saved in `Meta.parts`, so it stays what it is.
    """

    MOMENTS = fused.MOMENTS  # histogram, tallies, row and tile moments; never left out
    COLUMNS = fused.COLUMNS  # column sums and the thumbnail
    NEIGHBOURS = fused.PAIRS
    FOCUS = fused.FOCUS
    RESPONSE = fused.HOT  # pixel minus local median
    DEAD = fused.DEAD
    COMOMENTS = 64
    SPECTRUM = 128
    ALL = MOMENTS | COLUMNS | NEIGHBOURS | FOCUS | RESPONSE | DEAD | COMOMENTS

    def __invert__(self) -> Part:
        return Part(_BITS ^ self.value)  # that of an enum forgets bits without a name


_BITS = (1 << 32) - 1
_NONE = Part(0)


def as_it_is(state: S) -> S:
    """Of a pool: the same, because it says nothing of places."""
    return state


@dataclass(frozen=True)
class StateKind(Generic[S]):
    """A state as the register knows it."""

    key: str
    """Its name, under which `State` holds it and stores keep it."""
    state: type[S]
    """Its class, a dataclass; found again by its name when a store is read."""
    part: Part
    """Parts that ask for it; one that is asked for is enough."""
    collect: Callable[[Swept], S | None]
    """Makes it of a block whose channels were swept; None where there is nothing to say."""
    at_seam: Callable[[SweptSeam], S | None] | None = None
    """Makes what is added where two blocks meet; None if a block sees all by itself."""
    edge_values: Part = _NONE
    """Parts of it for which the two outermost lines of a block must wait for the neighbour."""
    edge_zeros: Part = _NONE
    """Parts of it for which which of the outermost fourteen lines are zero must wait."""
    pooled: Callable[[S], S] | None = as_it_is
    """What of it has a meaning for a pool of images; None if nothing, as of lines and tiles."""
    saved: bool = True
    """Whether a store keeps it."""

    def __dask_tokenize__(self) -> Hashable:
        return self.key, self.state.__module__, self.state.__qualname__, int(self.part)


_KINDS: dict[str, StateKind] = {}
CORE = ("shift", "histogram", "tally", "more")  # fields that every `State` has


def register(kind: StateKind[S]) -> StateKind[S]:
    """Make a kind of state known, and give it back.

    To be called where the class of the state is defined, at the top of a module that can be
    imported: workers of a cluster, and whoever loads what was saved, know it by importing that.

    Raises
    ------
    ParameterError
        When the key is no name, or is taken.
    """
    if not kind.key.isidentifier() or kind.key in CORE:
        raise ParameterError(f"key: got {kind.key!r}; pass a name, other than {', '.join(CORE)}.")
    known = _KINDS.get(kind.key)
    if known is not None and _place(known) != _place(kind):
        raise ParameterError(
            f"key: {kind.key!r} is the key of {known.state.__module__}.{known.state.__name__}; "
            "pass another."
        )
    _KINDS[kind.key] = kind
    return kind


def _place(kind: StateKind) -> tuple[str, str]:
    """Where the class is defined; a module may be run again."""
    return kind.state.__module__, kind.state.__qualname__


def all_kinds() -> tuple[StateKind, ...]:
    """Every kind that was registered."""
    return tuple(_KINDS.values())


def kinds_of(parts: Part) -> tuple[StateKind, ...]:
    """The kinds that parts ask for."""
    return tuple(kind for kind in _KINDS.values() if kind.part & parts)


def without(parts: int, gone: Collection[StateKind]) -> int:
    """Parts less those for which nothing is left when some kinds are gone."""
    keys = {kind.key for kind in gone}
    left = _union(kind.part for kind in _KINDS.values() if kind.key not in keys)
    return int(parts & ~(_union(kind.part for kind in gone) & ~left & ~Part.MOMENTS))


def _union(parts: Iterable[Part]) -> Part:
    total = _NONE
    for part in parts:
        total |= part
    return total


def names_of(parts: int) -> str:
    """Parts by name; those that have none, by the keys of the kinds that they ask for."""
    named = Part(parts) & (Part.ALL | Part.SPECTRUM)
    names = [str(p.name).lower() for p in named]
    return ", ".join(names + [kind.key for kind in kinds_of(Part(parts & ~named))])
