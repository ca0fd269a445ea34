"""`State`: all states of a part of an image, whatever kinds of them there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np

from gigaqc import states
from gigaqc.distribution import Histogram
from gigaqc.observe.registry import CORE, S, StateKind, all_kinds
from gigaqc.states import Additive


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
