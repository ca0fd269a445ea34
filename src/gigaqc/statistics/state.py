"""Which states there are, by a register, and the state of an image, which holds them by kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import IntFlag
from typing import Any, Generic, TypeVar

import numpy as np

from gigaqc.errors import ParameterError
from gigaqc.kernels import fused
from gigaqc.statistics import states
from gigaqc.statistics.distribution import Histogram
from gigaqc.statistics.states import Additive

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
    collect: Callable[[Any], S | None]
    """Makes it of a `Swept` block; None where there is nothing to say."""
    at_seam: Callable[[Any], S | None] | None = None
    """Makes what is added at a `SweptSeam`; None if a block sees all by itself."""
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


@dataclass(frozen=True)
class State:
    """All states of a part of an image; a state that was not asked for is None.

    ``state[kind]`` gives that of any kind; those that the metrics of this package read are
    attributes too, by the keys of their kinds.
    """

    shift: np.ndarray
    histogram: Histogram
    tally: states.Tally
    comoments: states.CoMoments | None = None
    neighbours: states.Neighbours | None = None
    rows: states.Profile | None = None
    columns: states.Profile | None = None
    tiles: states.TileMoments | None = None
    focus: states.Focus | None = None
    spectrum: states.Spectrum | None = None
    artifacts: states.Artifacts | None = None
    thumbnail: states.Thumbnail | None = None
    outside: states.Outside | None = None
    more: Mapping[str, Additive] = field(default_factory=dict)
    """States of other kinds, by their keys."""

    @classmethod
    def empty(cls, channels: int, histogram: Histogram) -> State:
        """The state of no pixels, to which any other adds."""
        tally = states.Tally(np.zeros((5, channels), "i8"))
        return cls(np.full(channels, np.nan), histogram, tally)

    def __getitem__(self, kind: StateKind[S]) -> S | None:
        found: Any = self.held().get(kind.key)
        return found

    def held(self) -> dict[str, Additive]:
        """The states that there are, by the keys of their kinds."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in CORE}
        return {key: state for key, state in (own | dict(self.more)).items() if state is not None}

    def holding(self, found: Mapping[str, Any]) -> State:
        """The same with other states, by the keys of their kinds; None takes one away."""
        names = {f.name for f in fields(self)}
        more = {**self.more, **{k: v for k, v in found.items() if k not in names}}
        return replace(
            self,
            **{k: v for k, v in found.items() if k in names},
            more={k: v for k, v in more.items() if v is not None},
        )

    def moved(self, shift: np.ndarray) -> State:
        """The same sums about another shift."""
        by = self.shift - shift
        if not by.any():
            return self
        moved = {key: _moved(state, by) for key, state in self.held().items()}
        return replace(self.holding(moved), shift=shift)

    def merge(self, other: State) -> State:
        """The state of both parts."""
        same_kind: Any = other.histogram  # because the dtypes agree
        histogram = self.histogram.merge(same_kind)
        if np.isnan(self.shift).all() or np.isnan(other.shift).all():
            observed = other if np.isnan(self.shift).all() else self
            return replace(observed, histogram=histogram)
        by = other.shift - self.shift
        mine, merged = self.held(), {}
        for key, theirs in other.held().items():
            # Moved one by one, so that only one state is held twice.
            theirs = _moved(theirs, by) if by.any() else theirs
            merged[key] = mine[key].merge(theirs) if key in mine else theirs
        tally = self.tally.merge(other.tally)
        return replace(self.holding(merged), histogram=histogram, tally=tally)

    def pooled(self) -> State:
        """Without what has no meaning for a pool of images."""
        held, left = self.held(), {}
        for kind in all_kinds():
            if kind.key in held:
                left[kind.key] = None if kind.pooled is None else kind.pooled(held[kind.key])
        return self.holding(left)

    def kept(self) -> State:
        """Without what a store does not keep."""
        return self.holding({kind.key: None for kind in all_kinds() if not kind.saved})

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return _nbytes(self)


def _moved(state: Additive, by: np.ndarray) -> Additive:
    with np.errstate(over="ignore", invalid="ignore"):  # squares near the largest float
        return state.moved(by)


def _nbytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if is_dataclass(value):
        return sum(_nbytes(getattr(value, f.name)) for f in fields(value))
    if isinstance(value, Mapping):
        return sum(_nbytes(v) for v in value.values())
    if isinstance(value, tuple):
        return sum(_nbytes(v) for v in value)
    return 0
