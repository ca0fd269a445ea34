"""What formulas are given: one channel, all tiles, or a sample, of a `Statistics`.

A formula sees states and no pixels. What several formulas share (Otsu's threshold, the response's
sigma) is computed once: ``view.once(function)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd

from gigaqc.statistics.distribution import Distribution, layout_of
from gigaqc.statistics.object_sums import Layout, Rows
from gigaqc.statistics.statistics import State, Statistics

Answer = TypeVar("Answer")


class Areas(Protocol):
    """Of the tissue, in pixels."""

    @property
    def valid(self) -> int:
        """All valid pixels."""

    @property
    def positive(self) -> int:
        """Tissue."""

    @property
    def n_fragments(self) -> int:
        """Pieces that count."""

    @property
    def counted(self) -> int:
        """Pixels of these."""

    @property
    def largest(self) -> int:
        """Pixels of the largest."""


@dataclass(frozen=True)
class Settings:
    """What callers of public functions may ask; the defaults are those of `assess`.

    `percentile`, `low` and `high` are quantiles in 0..1; `full_scale` is where the detector clips;
    `thresholds` are of each channel, or Otsu's; `min_coverage` of tissue that counts as intact.
    """

    percentile: float = 0.1
    low: float = 0.01
    high: float = 0.99
    full_scale: float | None = None
    thresholds: tuple[float, ...] | None = None
    min_coverage: float = 0.3


class _View:
    """Remembers what formulas of it gave."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def once(self, function: Callable[[Any], Answer]) -> Answer:
        """What the function says of this view, computed at the first call."""
        if function not in self._known:
            self._known[function] = function(self)
        return self._known[function]


class Channel(_View):
    """One channel of a `Statistics`.

    Parameters
    ----------
    statistics, index
        Which channel of what.
    settings
        What the caller asked.
    shared
        What was computed for all channels at once; the same for all channels of a table.
    """

    def __init__(
        self,
        statistics: Statistics,
        index: int,
        settings: Settings | None = None,
        shared: dict[Any, Any] | None = None,
    ) -> None:
        super().__init__()
        self.statistics, self.index = statistics, index
        self.settings = settings or Settings()
        self._shared: dict[Any, Any] = {} if shared is None else shared

    @cached_property
    def values(self) -> Distribution:
        """Its values in ascending bins."""
        return self.statistics.distribution(self.index)

    @property
    def state(self) -> State:
        """The states of all channels."""
        return self.statistics.state

    @property
    def tally(self) -> np.ndarray:
        """Pixels by fate: all, NaN, infinite, outside the mask, zeros among the valid."""
        return self.state.tally.table[:, self.index]

    @property
    def dtype(self) -> np.dtype:
        """Of the image."""
        return np.dtype(self.statistics.meta.dtype)

    @property
    def integers(self) -> bool:
        """Whether one read was exact: integers to 16 bits."""
        return layout_of(self.dtype) is None

    def of_all(self, function: Callable[[Statistics], np.ndarray]) -> Any:
        """The part of this channel in an array (..., C) that is made for all channels at once."""
        if function not in self._shared:
            self._shared[function] = function(self.statistics)
        return self._shared[function][..., self.index]


class Tiles(_View):
    """All tiles of a `Statistics`; arrays by tile are (C, t, z, ty, tx).

    Parameters
    ----------
    statistics
        Of one image: a pool has no tiles.
    channels
        The table of its channels, where one is at hand.
    """

    def __init__(self, statistics: Statistics, channels: pd.DataFrame | None = None) -> None:
        super().__init__()
        self.statistics, self._channels = statistics, channels

    @property
    def state(self) -> State:
        """The states of all channels."""
        return self.statistics.state

    def of_channel(self, key: str) -> np.ndarray:
        """A column of the table of channels, as an array that broadcasts over the tiles."""
        assert self._channels is not None
        return _wide(self._channels[key].to_numpy())

    @property
    def shift(self) -> np.ndarray:
        """About which the sums of each channel are."""
        return _wide(self.state.shift)


def _wide(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, "f8").reshape(-1, 1, 1, 1, 1)


class Labelled(_View):
    """A label image: the sums over its objects, and what was measured beside them.

    Parameters
    ----------
    rows, layout
        Of the objects.
    around
        Of their rings, where these were asked for.
    tissue
        Pixels of the tissue, whose mask is then the last channel of `rows`.
    """

    def __init__(
        self, rows: Rows, layout: Layout, around: Rows | None = None, tissue: int | None = None
    ) -> None:
        super().__init__()
        self.rows, self.layout, self.around, self.tissue = rows, layout, around, tissue


class Sample(_View):
    """All that is known of a sample: its statistics, tissue, objects, and table of channels.

    Of a tissue or a label image alone the others are None.
    """

    def __init__(
        self,
        statistics: Statistics | None = None,
        channels: pd.DataFrame | None = None,
        *,
        tissue: Areas | None = None,
        objects: Labelled | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__()
        self.statistics, self.channels = statistics, channels
        self.tissue, self.objects = tissue, objects
        self.settings = settings or Settings()
