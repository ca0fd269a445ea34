"""The tables that the kernels fill for one channel of a block or of a seam."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from gigaqc.base.backend import of_place, to_host
from gigaqc.base.geometry import touched
from gigaqc.kernels import fused, planes
from gigaqc.kernels.fused import PlaneTables
from gigaqc.statistics.blocks import DEAD_HALO, Channels, Place, Request, Seam
from gigaqc.statistics.distribution import bias_of, trim
from gigaqc.statistics.state import Part

_NO_COUNTS = (0, np.zeros(0, "i8"))
_NO_HISTOGRAM = np.zeros((2, 0), "i4")


class _ThreadTables(threading.local):
    """Dense tables of a thread, cleared by whoever used them: fresh ones would cost page faults."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Start afresh, after an interrupt that may have left counts in them."""
        self.histogram = np.zeros((2, 65536), "i4")
        self.response = np.zeros((2, 131072), "i4")
        self.excess = np.zeros((2, 65536), "i4")
        self.nothing = np.zeros(65536, "i4")


_SCRATCH = _ThreadTables()


class Tables:
    """The tables that the kernels fill for one channel of a block or of a seam.

    `bounds` are the centres of 3x3 neighbourhoods and `dead_bounds` the pixels judged for dead
    windows, both (y0, y1, x0, x1).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        place: Place,
        request: Request,
        bounds: tuple[int, int, int, int] | None = None,
    ) -> None:
        self.request, self.place, self.shape = request, place, shape
        frames, planes, height, width = shape
        self.tile_y, self.tile_row, tile_rows = touched(place.y, place.y + height, request.tile)
        self.tile_x, _, self.tile_edges = touched(place.x, place.x + width, request.tile)
        self.cell_y, self.cell_row, cell_rows = touched(place.y, place.y + height, request.cell)
        self.cell_x, _, self.cell_edges = touched(place.x, place.x + width, request.cell)
        tiles = (frames, planes, tile_rows.size - 1, self.tile_edges.size - 1)
        self.bounds = bounds or (1, height - 1, 1, width - 1)
        self.dead_bounds = (
            DEAD_HALO if place.top else 0,
            height - DEAD_HALO if place.bottom else height,
            DEAD_HALO if place.left else 0,
            width - DEAD_HALO if place.right else width,
        )
        self.tiles = np.zeros((6, *tiles))
        self.tiles[5] = -np.inf
        self.focus = np.zeros((4, *tiles))
        self.rows = np.zeros((3, height))
        self.columns = np.zeros((3, width))
        self.cells = np.zeros((2, cell_rows.size - 1, self.cell_edges.size - 1))
        self.pairs = np.zeros((2, 6))
        self.dead = np.zeros(1, "i8")
        self.response, self.excess = _NO_COUNTS, (_NO_COUNTS, _NO_COUNTS)

    def sweep(self, values: np.ndarray, *, upright: bool) -> None:
        """Fill the tables of 3x3 neighbourhoods from a seam of codes or values.

        An upright seam is swept transposed: rows of four pixels would be slow, and the responses
        are the same.
        """
        if upright:
            values = values.swapaxes(-1, -2)
            self.bounds = (*self.bounds[2:], *self.bounds[:2])
            _, tile_column, _ = touched(
                self.place.x, self.place.x + self.shape[3], self.request.tile
            )
            _, _, tile_edges = touched(
                self.place.y, self.place.y + self.shape[2], self.request.tile
            )
            self.tile_row, self.tile_edges = tile_column, tile_edges
            self.focus = self.focus.swapaxes(-1, -2)
        if values.dtype == np.uint16:
            self.sweep_codes(np.ascontiguousarray(values), bias_of(self.request.dtype))
        else:
            self.sweep_values(np.ascontiguousarray(values), 0.0)
        if upright:
            self.focus = self.focus.swapaxes(-1, -2)

    def sweep_codes(self, codes: np.ndarray, bias: int, shift: int = 0) -> tuple[int, np.ndarray]:
        """Fill the tables from (t, z, y, x) codes without exclusions.

        Returns their histogram: the first occupied code, and the counts from there.
        """
        try:
            return self._sweep_codes(codes, bias, shift)
        except BaseException:
            _SCRATCH.renew()
            raise

    def _sweep_codes(self, codes: np.ndarray, bias: int, shift: int) -> tuple[int, np.ndarray]:
        parts = int(self.request.parts)
        scratch = _SCRATCH
        rows, columns = np.zeros((2, codes.shape[2]), "i8"), np.zeros(codes.shape[3], "i8")
        tiles = np.zeros((6, *self.tiles.shape[1:]), "i8")
        tiles[5] = -1
        cells = np.zeros(self.cells.shape, "i8")
        pairs = np.zeros(2, "i8")
        exceeded = False
        for t, z in np.ndindex(codes.shape[:2]):
            tables = self._of_plane(
                t, z, histogram=scratch.histogram, rows=rows, columns=columns, tiles=tiles,
                cells=cells, pairs=pairs, response=scratch.response, excess=scratch.excess,
            )  # fmt: skip
            exceeded |= of_place(codes, fused, planes).integer_plane(
                codes[t, z], np.int32(bias), np.uint16(-bias), parts, tables
            )
        self._take_codes(codes, rows, columns, tiles, cells, pairs, bias, shift)
        return self._take_scratch(parts, exceeded)

    def _of_plane(self, t: int, z: int, *, tiles: np.ndarray, **tables: np.ndarray) -> PlaneTables:
        """What a kernel gets for one plane; all but these tables and focus are of all planes."""
        return PlaneTables(
            self.bounds, self.dead_bounds, self.tile_row, self.tile_edges, self.cell_row,
            self.cell_edges, tiles=tiles[:, t, z], focus=self.focus[:, t, z], dead=self.dead,
            **tables,
        )  # fmt: skip

    def _take_scratch(self, parts: int, exceeded: bool) -> tuple[int, np.ndarray]:
        """Take the dense tables of the thread, which clears them; returns the histogram."""
        scratch = _SCRATCH
        if parts & Part.RESPONSE:
            self.response = fused.take_occupied(*scratch.response)
        if exceeded:
            none = scratch.nothing
            first, second = scratch.excess
            self.excess = (fused.take_occupied(first, none), fused.take_occupied(second, none))
        return fused.take_occupied(*scratch.histogram) if parts & Part.MOMENTS else _NO_COUNTS

    def _take_codes(
        self, codes: np.ndarray, rows: np.ndarray, columns: np.ndarray, tiles: np.ndarray,
        cells: np.ndarray, pairs: np.ndarray, bias: int, shift: int,
    ) -> None:  # fmt: skip
        """Move exact integer sums of codes to sums about the shift."""
        frames, height, width = codes.shape[0] * codes.shape[1], *codes.shape[2:]
        if self.request.parts & Part.MOMENTS:
            self.rows[:] = _about(frames * width, rows[0], rows[1], shift)
            n, total, squares, zeros, at_largest, largest = tiles
            self.tiles[:3] = _about(n, total, squares, shift)
            self.tiles[3:] = zeros, at_largest, largest + bias
        if self.request.parts & Part.COLUMNS:
            self.columns[0] = frames * height
            self.columns[1] = columns - self.columns[0] * shift
            if self.request.excluding:  # which the kernel leaves out, as they are hardly needed
                off = codes.astype("i8") - shift
                self.columns[2] = to_host((off * off).sum(axis=(0, 1, 2)))
            lines = np.diff(
                np.concatenate([np.flatnonzero(np.diff(self.cell_row, prepend=-1)), [height]])
            )
            self.cells[0] = frames * np.outer(lines, np.diff(self.cell_edges))
            self.cells[1] = cells[1] - self.cells[0] * shift
        if self.request.parts & Part.NEIGHBOURS:
            whole = (rows[0].sum(), rows[1].sum())
            for k, (first, last) in enumerate(
                (
                    (codes[..., :, :1], codes[..., :, -1:]),
                    (codes[..., :1, :], codes[..., -1:, :]),
                )
            ):
                n = codes.size - first.size
                left = _less(whole, last)
                right = _less(whole, first)
                self.pairs[k] = _pairs_about(n, left, right, int(pairs[k]), shift)

    def sweep_values(self, values: np.ndarray, shift: float) -> None:
        """Fill the tables from (t, z, y, x) float64 where NaN is excluded."""
        integers = self.request.integers
        response = np.zeros((1, 131072 if integers else 65536), "i8")
        excess = np.zeros((2, 65536 if integers else 0), "i8")
        for t, z in np.ndindex(values.shape[:2]):
            tables = self._of_plane(
                t, z, histogram=_NO_HISTOGRAM, rows=self.rows, columns=self.columns,
                tiles=self.tiles, cells=self.cells, pairs=self.pairs, response=response,
                excess=excess,
            )  # fmt: skip
            of_place(values, fused, planes).float_plane(
                values[t, z], float(shift), int(self.request.parts), tables
            )
        self.response = trim(response[0])
        if integers:
            self.excess = (trim(excess[0]), trim(excess[1]))


def _about(n: np.ndarray | int, total: np.ndarray, squares: np.ndarray, shift: int) -> np.ndarray:
    """Count, sum and sum of squares about an integer shift, from exact integer sums."""
    moved = squares - 2 * shift * total + n * shift * shift
    return np.stack(np.broadcast_arrays(n, total - n * shift, moved)).astype("f8")


def _less(whole: tuple[int, int], line: np.ndarray) -> tuple[int, int]:
    line = line.astype("i8")
    return int(whole[0] - line.sum()), int(whole[1] - (line * line).sum())


def _pairs_about(
    n: int, left: tuple[int, int], right: tuple[int, int], products: int, shift: int
) -> tuple[int, ...]:
    both = left[0] + right[0]
    return (
        n,
        left[0] - n * shift,
        right[0] - n * shift,
        left[1] - 2 * shift * left[0] + n * shift * shift,
        right[1] - 2 * shift * right[0] + n * shift * shift,
        products - shift * both + n * shift * shift,
    )


@dataclass(frozen=True)
class Swept:
    """A block whose channels were swept, of which states are collected.

    `channels` are (t, z, y, x) codes where `coded`, else float64 with NaN for what is excluded, of
    which `zero` stands for the value 0; each has its `tables`. Sums of second order are about
    `shift`. `complete`: no pixel can be excluded, neither here nor in another block. `outside` has
    count, sum and squares (3, C) of the pixels outside of a mask, if there is one.
    """

    channels: Channels
    tables: list[Tables]
    shift: np.ndarray
    place: Place
    request: Request
    zero: int = 0
    coded: bool = False
    complete: bool = False
    outside: np.ndarray | None = None

    def values(self, channel: int) -> np.ndarray:
        """A channel as float64, NaN where pixels are excluded; on the device of the block."""
        pixels = self.channels[channel]
        return pixels.astype("f8") - self.zero if self.coded else pixels


@dataclass(frozen=True)
class SweptSeam:
    """A seam, of which is collected what no block sees alone; about `shift`.

    Its 3x3 neighbourhoods were swept where its values waited: else there are no `tables`.
    """

    seam: Seam
    tables: list[Tables]
    shift: np.ndarray
    request: Request
