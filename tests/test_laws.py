"""The laws of the states: adding is associative, has a neutral element, and commutes with reading.

Integers to 16 bits obey them to the bit, about whatever shift; sums of floats to 1e-12 of what is
added up, and counts to the bit.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from same_states import equivalent, identical, spread_of
from strategies import FLOATS, NARROW, Case, images, repeatable

import gigaqc as gq
from gigaqc.errors import StatisticsError
from gigaqc.image.labelled import as_image
from gigaqc.kernels import fused
from gigaqc.scanning.scan import empty_state, plan_second
from gigaqc.statistics.blocks import SMALLEST_SIDE, Partial, Place, Request
from gigaqc.statistics.reads import join_partials, observe
from gigaqc.statistics.state import CORE, all_kinds
from gigaqc.statistics.statistics import Part, State, Statistics

TYPES = ("u1", "i1", ">u2", "i2", "i4", "f2", "f4", "f8")
TILES = st.sampled_from([8, 11, 16, 512])


def block_of(case: Case, *, masked: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels (t, c, z, y, x) of a case, and a mask of some of them."""
    labelled = as_image(case.whole)
    missing = [d for d in "tz" if d not in labelled.dims]
    block = labelled.expand_dims(missing).transpose("t", "c", "z", "y", "x").values
    rng = np.random.default_rng(case.seed)
    return block, rng.random(block.shape) < 0.7 if masked else None


def request_of(block: np.ndarray, tile: int) -> Request:
    return Request(Part.ALL, tile, 3, block.dtype)


def spread(block: np.ndarray) -> np.ndarray | None:
    """None for what must be the same to the bit."""
    return spread_of(block, 1) if block.dtype.kind == "f" or block.dtype.itemsize > 2 else None


def by_channel(block: np.ndarray) -> list[np.ndarray]:
    """What an observer gets: (t, z, y, x) a channel."""
    return [np.ascontiguousarray(block[:, c]) for c in range(block.shape[1])]


def look(block: np.ndarray, mask: np.ndarray | None, place: Place, request: Request) -> Partial:
    masks = None if mask is None else by_channel(mask)
    return observe(by_channel(block), masks, place, request)


def whole(block: np.ndarray, mask: np.ndarray | None, tile: int, place: Place) -> State:
    request = request_of(block, tile)
    return look(block, mask, place, request).state


def split(
    block: np.ndarray, mask: np.ndarray | None, tile: int, y: int, x: int
) -> list[list[Partial]]:
    """What is observed of two rows of two blocks that meet at (y, x)."""
    request = request_of(block, tile)
    cuts = {0: (slice(0, y), slice(y, None)), 1: (slice(0, x), slice(x, None))}
    rows: list[list[Partial]] = [[], []]
    for i, j in np.ndindex(2, 2):
        cut = (..., cuts[0][i], cuts[1][j])
        place = Place(0, 0, i * y, j * x, top=i == 1, bottom=i == 0, left=j == 1, right=j == 0)
        inside = None if mask is None else mask[cut]
        rows[i].append(look(block[cut], inside, place, request))
    return rows


LARGE = images(dtypes=TYPES, dims=("cyx", "tczyx"), smallest=2 * SMALLEST_SIDE, largest=60)
SMALL = images(dtypes=TYPES, smallest=1, largest=24)


@pytest.mark.parametrize("masked", [False, True])
def test_reading_two_parts_is_reading_both(masked: bool) -> None:
    @repeatable
    @given(LARGE, TILES, st.data())
    def check(case: Case, tile: int, data: st.DataObject) -> None:
        block, mask = block_of(case, masked=masked)
        height, width = block.shape[-2:]
        y = data.draw(st.integers(SMALLEST_SIDE, height - SMALLEST_SIDE))
        x = data.draw(st.integers(SMALLEST_SIDE, width - SMALLEST_SIDE))
        (a, b), (c, d) = split(block, mask, tile, y, x)
        expected = whole(block, mask, tile, Place(0, 0, 0, 0))
        tolerance = spread(block)
        request = request_of(block, tile)

        def join(first: Partial, second: Partial, axis: int) -> Partial:
            return join_partials(first, second, axis, request)

        by_rows = join(join(a, b, -1), join(c, d, -1), -2)
        by_columns = join(join(a, c, -2), join(b, d, -2), -1)
        equivalent(by_rows.state, expected, tolerance)
        equivalent(by_columns.state, expected, tolerance)

    check()


@repeatable
@given(SMALL, TILES, st.booleans())
def test_nothing_is_neutral(case: Case, tile: int, masked: bool) -> None:
    block, mask = block_of(case, masked=masked)
    state = whole(block, mask, tile, Place(0, 0, 5, 7))
    empty = empty_state(block.shape[1], block.dtype)
    identical(empty.merge(state), state)
    identical(state.merge(empty), state)
    identical(empty.merge(empty).tally, empty.tally)


@pytest.mark.parametrize("masked", [False, True])
def test_adding_is_associative(masked: bool) -> None:
    @repeatable
    @given(SMALL, TILES)
    def check(case: Case, tile: int) -> None:
        block, mask = block_of(case, masked=masked)
        rng = np.random.default_rng(case.seed)
        changed = np.stack([block, block[..., ::-1, :], block])
        if block.dtype.kind == "f":
            # Other shifts, so that adding has to move sums.
            changed = (changed * np.array([1, 2, 0.5]).reshape(3, 1, 1, 1, 1, 1)).astype(
                block.dtype
            )
        places = [Place(0, 0, *rng.integers(0, 40, 2).tolist()) for _ in range(3)]
        a, b, c = (
            whole(np.ascontiguousarray(part), mask, tile, place)
            for part, place in zip(changed, places, strict=True)
        )
        equivalent(a.merge(b).merge(c), a.merge(b.merge(c)), _if(block, changed))

    check()


def _if(block: np.ndarray, changed: np.ndarray) -> np.ndarray | None:
    return None if spread(block) is None else spread_of(changed, 2)


@repeatable
@given(images(dtypes=(*NARROW, *FLOATS), dims=("cyx",), smallest=4, largest=40), TILES)
def test_a_mask_is_observing_only_what_is_inside(case: Case, tile: int) -> None:
    """Pixels outside do not matter; those inside are counted as if they were all."""
    block, mask = block_of(case, masked=True)
    assert mask is not None
    mask = mask.copy()
    mask[..., 0, 0] = True  # never nothing
    state = whole(block, mask, tile, Place(0, 0, 0, 0))
    other = block.copy()
    other[~mask] = np.random.default_rng(case.seed).permutation(block[~mask])
    equivalent(
        replace(whole(other, mask, tile, Place(0, 0, 0, 0)), outside=None),
        replace(state, outside=None),
        spread(block),
    )
    for c in range(block.shape[1]):
        alone = block[0, c, 0][mask[0, c, 0]][None, None, None, None]
        request = Request(Part.MOMENTS | Part.COMOMENTS, tile, 3, block.dtype)
        line = look(alone, None, Place(0, 0, 0, 0), request).state
        mine, theirs = _only(state, c), _only(line, 0)
        assert mine[0] == theirs[0]
        np.testing.assert_array_equal(mine[1], theirs[1])
        n, d = theirs[2], float(spread_of(block[:, c], None)[0])
        moved = state.moved(np.full(block.shape[1], line.shift[0]))
        assert moved.comoments is not None and line.comoments is not None
        for name, size in (("n", 0.0), ("total", n * d), ("squares", n * d * d)):
            a = getattr(moved.comoments, name)[c, c]
            assert abs(a - getattr(line.comoments, name)[0, 0]) <= 1e-12 * size


def _only(state: State, channel: int) -> tuple[int, np.ndarray, float]:
    values = state.histogram.channel(channel)
    assert state.comoments is not None
    return values.n, values.counts, float(state.comoments.n[channel, channel])


def test_a_mask_of_everything_is_no_mask() -> None:
    for dtype in ("u1", "i2", "f4"):
        block = np.random.default_rng(0).integers(0, 60, (2, 2, 1, 40, 33)).astype(dtype)
        open_, closed = (
            whole(block, mask, 16, Place(0, 0, 0, 0)) for mask in (None, np.ones(block.shape, "?"))
        )
        assert closed.outside is not None and not closed.outside.table.any()
        assert closed.rows is not None and closed.columns is not None and closed.tiles is not None
        total = closed.tiles.box.values[2].sum(axis=(1, 2, 3, 4))
        lines = {}
        for name, profile in (("rows", closed.rows), ("columns", closed.columns)):
            assert profile.squares is not None
            np.testing.assert_allclose(profile.squares.values.sum(axis=1), total, rtol=1e-12)
            # Where nothing can be excluded squares by line are not kept.
            keep = dtype == "f4"
            lines[name] = replace(profile, squares=profile.squares if keep else None)
        equivalent(replace(closed, outside=None, **lines), open_)


@repeatable
@given(images(dtypes=TYPES, largest=40), TILES, st.booleans())
def test_saving_and_loading_keeps_every_bit(
    tmp_path_factory: pytest.TempPathFactory, case: Case, tile: int, masked: bool
) -> None:
    sides = tuple(case.whole.sizes[d] for d in "yx")
    mask = np.random.default_rng(case.seed).random(sides) < 0.6 if masked else None
    spectrum = not masked
    statistics = gq.scan(case.image, mask=mask, tile=tile, spectrum=spectrum, quantiles=(0.3,))
    computed = statistics.compute(scheduler="sync")
    path = tmp_path_factory.mktemp("kept") / "s.zarr"
    computed.save(path)
    loaded = Statistics.load(path)
    identical(loaded, computed)
    assert loaded.nbytes == computed.nbytes == computed.state.nbytes


# ---- pools ---------------------------------------------------------------------------------------


def fields_of_view(dtype: str, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.poisson(20 + 30 * k, (2, 30 + k, 40)).astype(dtype) for k in range(count)]


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
def test_a_pool_counts_every_pixel(dtype: str) -> None:
    views = fields_of_view(dtype)
    parts = [gq.scan(v).compute() for v in views]
    pool = sum(parts)
    assert isinstance(pool, Statistics)
    assert pool.meta.pooled == 3 and pool.meta.sizes == {} and pool.meta.source is None
    state = pool.state
    assert state.rows is state.columns is state.tiles is state.thumbnail is state.spectrum is None
    for c in range(2):
        values = np.concatenate([v[c].ravel() for v in views]).astype("f8")
        held = pool.distribution(c)
        assert held.n == values.size
        assert held.mean == pytest.approx(values.mean(), rel=1e-12)
        assert held.std == pytest.approx(values.std(), rel=1e-9)
        # Counts are whole numbers: every value is known whatever was refined.
        np.testing.assert_array_equal(np.repeat(held.low, held.counts), np.sort(values))
    table = gq.assess(pool).channels
    assert table["row_striping"].isna().all() and table["autocorrelation"].notna().all()


def test_a_pool_is_the_same_in_any_order() -> None:
    a, b, c = (gq.scan(v).compute() for v in fields_of_view("u2"))
    equivalent(((a + b) + c).state, (a + (b + c)).state)
    equivalent((c + a + b).state, (a + b + c).state)


def test_floats_that_were_not_refined_everywhere_say_so() -> None:
    rng = np.random.default_rng(0)
    a, b = (gq.scan(rng.normal(k, 1, (40, 40)).astype("f4"), quantiles=(0.3,)) for k in (9, 12))
    pool = a + b
    found = gq.quantile(pool, [0.0, 0.3, 1.0])
    assert not found.attrs["exact"]
    assert 0 < found.attrs["relative_error"] < 2**-8
    both = np.concatenate([rng_.ravel() for rng_ in _same_draws()])
    np.testing.assert_allclose(
        found[:, 0], np.quantile(both.astype("f8"), [0.0, 0.3, 1.0]), rtol=2**-8
    )


def _same_draws() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(k, 1, (40, 40)).astype("f4") for k in (9, 12)]


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (np.zeros((2, 8, 8), "u1"), "dtype"),
        (np.zeros((3, 8, 8), "u2"), "channels"),
    ],
)
def test_what_cannot_be_pooled(other: np.ndarray, word: str) -> None:
    mine = gq.scan(np.zeros((2, 8, 8), "u2")).compute()
    with pytest.raises(StatisticsError, match=f"^statistics: {word} differ"):
        mine + gq.scan(other).compute()
    with pytest.raises(TypeError):
        mine + 1  # type: ignore[operator]


def test_byte_order_does_not_keep_images_apart() -> None:
    pixels = np.arange(64).reshape(1, 8, 8)
    pool = gq.scan(pixels.astype(">u2")).compute() + gq.scan(pixels.astype("<u2")).compute()
    assert pool.distribution(0).n == 128


def test_a_pool_lacks_what_one_of_them_lacks() -> None:
    pixels = np.zeros((1, 20, 20), "u2")
    some = gq.scan(pixels, parts=Part.MOMENTS).compute()
    pool = some + gq.scan(pixels).compute()
    with pytest.raises(StatisticsError, match="lack neighbours"):
        gq.signal_to_noise(pool)


def test_every_state_is_part_of_these_laws() -> None:
    """A new state must be observed by `whole`, or the laws say nothing of it."""
    state = whole(
        np.zeros((1, 1, 1, 20, 20), "u2"), np.ones((1, 1, 1, 20, 20), "?"), 8, Place(0, 0, 0, 0)
    )
    own = [k for k in all_kinds() if k.state.__module__.startswith("gigaqc.")]
    assert [k.key for k in own if state[k] is None] == ["spectrum"]
    assert {k.key for k in own} >= {f.name for f in fields(State)} - set(CORE)


def test_what_the_second_read_looks_at_does_not_depend_on_the_order() -> None:
    block = np.random.default_rng(0).normal(5, 2, (1, 2, 1, 60, 60)).astype("f4")
    request = request_of(block, 16)
    parts = [p.state for row in split(block, None, 16, 20, 31) for p in row]
    arguments: Any = ((0.1, 0.5), (0.5,), (4.0,), request)
    orders = [parts, parts[::-1]]
    plans = [plan_second(_sum(order), *arguments) for order in orders]
    identical(plans[0], plans[1])


def _sum(parts: Any) -> State:
    total = parts[0]
    for part in parts[1:]:
        total = total.merge(part)
    return total


def test_an_interrupted_sweep_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    block = np.random.default_rng(0).poisson(9, (1, 1, 2, 40, 40)).astype("u2")
    expected = whole(block, None, 16, Place(0, 0, 0, 0))
    sweep, calls = fused.integer_plane, iter((True, False))

    def interrupted(*arguments: Any) -> Any:
        if next(calls):
            return sweep(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fused, "integer_plane", interrupted)
        with pytest.raises(KeyboardInterrupt):
            whole(block, None, 16, Place(0, 0, 0, 0))
    identical(whole(block, None, 16, Place(0, 0, 0, 0)), expected)
