"""Mean of each pixel of a series, and what is left of it after a polynomial of time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gigaqc.base.backend import beside, empty_beside, of_place
from gigaqc.kernels import detrend, frames
from gigaqc.kernels.detrend import Floats

_PART = 1 << 14
_FITTED = 1 << 23  # values on a device that are fitted at once, as float64
_FEWEST_FITTED = 16  # frames


class DetrendedMoments:
    """The least-squares polynomial of each pixel over consecutive frames, and what it leaves.

    Parameters
    ----------
    pixels
        How many.
    start
        Number of the first frame within the series.
    total
        Frames of the series.
    degree
        Of the polynomial.

    Notes
    -----
    A state: `merge` gives that of both where the frames of the other follow. As long as no value
    is missing, `norms` and `mixes` are those of Gram's polynomials and not kept: see
    `gigaqc.kernels.detrend`. Of frames on a device the state is there as well.
    """

    def __init__(self, pixels: int, start: int, total: int, degree: int) -> None:
        self.start, self.total, self.degree = start, total, degree
        self.frames = 0
        self.reference = np.full(pixels, np.nan)  # a value of each pixel, taken from all others
        self.fit = np.zeros((degree + 1, pixels))
        self.squares = np.zeros(pixels)  # of the residuals
        self.norms: Floats | None = None
        self.mixes: Floats | None = None

    @property
    def _kernels(self) -> Any:
        return of_place(self.fit, detrend, frames)

    def add(self, block: Any) -> None:
        """Take the following frames, (frames, pixels)."""
        block = of_place(block, detrend, frames).compiled_type(block)
        if not self.frames:
            arrays = (self.reference, self.fit, self.squares)
            self.reference, self.fit, self.squares = (beside(a, block) for a in arrays)
        if self.norms is None and not self._kernels.all_finite(block):
            self._divide()
        if self.norms is None:
            self._add_whole(block)
            return
        times = self.start + self.frames + np.arange(len(block))
        polynomials = detrend.legendre(times, self.total, self.degree)
        self._kernels.add_frames_with_gaps(
            block, polynomials, self.reference, self.norms, self.mixes, self.fit, self.squares
        )
        self.frames += len(block)

    def _add_whole(self, block: Any) -> None:
        """Take frames in which nothing is missing, nor was before."""
        if not self.frames:
            self.reference = block[0].astype("f8")
        of_place(block, self._add_at_once, self._add_fitted)(block)

    def _add_at_once(self, block: Any) -> None:
        steps = detrend.frame_steps(self.frames, len(block), self.degree)
        detrend.add_frames(block, self.reference, steps, self.fit, self.squares)
        self.frames += len(block)

    def _add_fitted(self, block: Any) -> None:
        """On a device: a fit of several frames, in few steps, added as another series is."""
        few = max(_FITTED // block.shape[1], _FEWEST_FITTED)
        for first in range(0, len(block), few):
            rows = block[first : first + few].astype("f8") - self.reference
            self._add_series(*frames.fitted(rows, self.degree), len(rows))

    def _add_series(self, fit: Any, squares: Any, frames: int, moved: Any = None) -> None:
        """Take the fit of the following frames, about a reference that is less by `moved`."""
        first, rest = detrend.series_steps(self.frames, frames, self.degree)
        none = np.zeros_like(squares)
        moved = none if moved is None else moved
        self._kernels.add_frames(fit[:1], moved, first, self.fit, self.squares)
        self._kernels.add_frames(fit[1:], none, rest, self.fit, self.squares)
        self.squares += squares
        self.frames += frames

    def merge(self, other: DetrendedMoments) -> DetrendedMoments:
        """Of these frames and those of the other, which follow."""
        if not other.frames:
            return self
        both = self.copy()
        if not self.frames:
            both.start = other.start
        gaps = self.norms is not None or other.norms is not None
        if gaps and other.norms is None:
            other = other.copy()
            other._divide()
        moved = np.nan_to_num(both.reference - other.reference)
        both.reference = np.where(np.isnan(both.reference), other.reference, both.reference)
        if gaps:
            both._divide()
            rows = other.fit.copy()
            rows[0] -= moved
            self._kernels.add_fits(
                other.norms, other.mixes, rows, both.norms, both.mixes, both.fit, both.squares
            )
            both.squares += other.squares
            both.frames += other.frames
        else:
            both._add_series(other.fit, other.squares, other.frames, moved)
        return both

    def copy(self) -> DetrendedMoments:
        """One that shares no array with this one."""
        made = DetrendedMoments(0, self.start, self.total, self.degree)
        made.frames = self.frames
        made.reference = self.reference.copy()
        made.fit, made.squares = self.fit.copy(), self.squares.copy()
        made.norms = None if self.norms is None else self.norms.copy()
        made.mixes = None if self.mixes is None else self.mixes.copy()
        return made

    def parts(self) -> Iterator[tuple[slice, DetrendedMoments]]:
        """The same of few pixels at a time, for arithmetic that stays in the cache."""
        step = of_place(self.fit, _PART, max(len(self.squares), 1))
        for first in range(0, len(self.squares), step):
            part = slice(first, first + step)
            few = DetrendedMoments(0, self.start, self.total, self.degree)
            few.frames = self.frames
            few.reference, few.squares = self.reference[part], self.squares[part]
            few.fit = self.fit[:, part]
            few.norms = None if self.norms is None else self.norms[:, part]
            few.mixes = None if self.mixes is None else self.mixes[:, part]
            yield part, few

    def _divide(self) -> None:
        """Give each pixel polynomials of its own, because values are missing."""
        if self.norms is not None:
            return
        pixels, degree = len(self.squares), self.degree
        norms = detrend.gram_norms(self.frames, degree)
        mixes = detrend.gram_mixes(self.start, self.frames, self.total, degree)
        self.norms = empty_beside(self.fit, (degree + 1, pixels))
        self.mixes = empty_beside(self.fit, (degree * (degree + 1) // 2, pixels))
        for j in range(degree + 1):
            self.norms[j] = norms[j]
            for k in range(j):
                self.mixes[detrend.place(k, j)] = mixes[k, j]

    @property
    def counts(self) -> Floats:
        """Valid frames of each pixel."""
        if self.norms is None:
            return np.full_like(self.squares, self.frames)
        return np.rint(self.norms[0])

    @property
    def means(self) -> Floats:
        """Mean of the valid frames of each pixel; NaN without any."""
        return self.reference + self.fit[0]

    @property
    def before_first(self) -> Floats:
        """The fit one step before the first frame of the series; NaN without valid frames."""
        if self.mixes is None:
            values = detrend.gram_values(self.frames, self.degree)
            values[1::2] *= -1
            return self.reference + beside(values, self.fit) @ self.fit
        row = detrend.legendre(-1, self.total, self.degree)
        return self.reference + detrend.value_at(row, self.mixes, self.fit)

    @property
    def scales(self) -> Floats:
        """Size of the numbers that the residuals of each pixel are differences of."""
        norms: Any = self.norms
        if norms is None:
            norms = detrend.gram_norms(self.frames, self.degree).tolist()
        energy = self.squares.copy()
        for norm, coefficients in zip(norms, self.fit, strict=True):
            energy += norm * coefficients**2
        with np.errstate(invalid="ignore", divide="ignore"):  # pixels without valid frames
            return np.abs(self.reference) + np.sqrt(energy / self.counts)
