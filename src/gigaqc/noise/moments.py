"""Mean of each pixel of a series, and what is left of it after a polynomial of time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gigaqc.kernels import detrend
from gigaqc.kernels.detrend import Floats

_PART = 1 << 14


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
    `gigaqc.kernels.detrend`.
    """

    def __init__(self, pixels: int, start: int, total: int, degree: int) -> None:
        self.start, self.total, self.degree = start, total, degree
        self.frames = 0
        self.reference = np.full(pixels, np.nan)  # a value of each pixel, taken from all others
        self.fit = np.zeros((degree + 1, pixels))
        self.squares = np.zeros(pixels)  # of the residuals
        self.norms: Floats | None = None
        self.mixes: Floats | None = None

    def add(self, block: np.ndarray) -> None:
        """Take the following frames, (frames, pixels)."""
        block = detrend.compiled_type(block)
        if self.norms is None and not detrend.all_finite(block):
            self._divide()
        if self.norms is None:
            if not self.frames:
                self.reference = block[0].astype("f8")
            steps = detrend.frame_steps(self.frames, len(block), self.degree)
            detrend.add_frames(block, self.reference, steps, self.fit, self.squares)
        else:
            times = self.start + self.frames + np.arange(len(block))
            polynomials = detrend.legendre(times, self.total, self.degree)
            detrend.add_frames_with_gaps(
                block, polynomials, self.reference, self.norms, self.mixes, self.fit, self.squares
            )
        self.frames += len(block)

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
            detrend.add_fits(
                other.norms, other.mixes, rows, both.norms, both.mixes, both.fit, both.squares
            )
        else:
            first, rest = detrend.series_steps(self.frames, other.frames, self.degree)
            detrend.add_frames(other.fit[:1], moved, first, both.fit, both.squares)
            detrend.add_frames(other.fit[1:], np.zeros_like(moved), rest, both.fit, both.squares)
        both.squares += other.squares
        both.frames += other.frames
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
        for first in range(0, len(self.squares), _PART):
            part = slice(first, first + _PART)
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
        self.norms = np.repeat(norms[:, None], pixels, axis=1)
        self.mixes = np.empty((degree * (degree + 1) // 2, pixels))
        for j in range(degree + 1):
            for k in range(j):
                self.mixes[detrend.place(k, j)] = mixes[k, j]

    @property
    def counts(self) -> Floats:
        """Valid frames of each pixel."""
        if self.norms is None:
            return np.full(len(self.squares), float(self.frames))
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
            return self.reference + values @ self.fit
        row = detrend.legendre(-1, self.total, self.degree)
        return self.reference + detrend.value_at(row, self.mixes, self.fit)

    @property
    def scales(self) -> Floats:
        """Size of the numbers that the residuals of each pixel are differences of."""
        norms = self.norms
        if norms is None:
            norms = detrend.gram_norms(self.frames, self.degree)[:, None]
        energy = self.squares.copy()
        for norm, coefficients in zip(norms, self.fit, strict=True):
            energy += norm * coefficients**2
        with np.errstate(invalid="ignore", divide="ignore"):  # pixels without valid frames
            return np.abs(self.reference) + np.sqrt(energy / self.counts)
