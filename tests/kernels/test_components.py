"""Components joined from blocks against scipy's labels of the whole mask."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from strategies import examples

from gigaqc.errors import ParameterError
from gigaqc.kernels.components import Components, finish, join, label_block, merge, merge_line


def expected(mask, min_size):
    labels, n = ndimage.label(mask)
    areas = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    counted = areas[areas >= min_size]
    return Components(
        int(areas.sum()), len(counted), int(counted.sum()), int(counted.max(initial=0))
    )


def label_grid(mask, cuts_y, cuts_x, min_size, border_open=False):
    edges_y = [0, *cuts_y, mask.shape[0]]
    edges_x = [0, *cuts_x, mask.shape[1]]
    rows = []
    for y0, y1 in pairwise(edges_y):
        row = []
        for x0, x1 in pairwise(edges_x):
            sides = (y0 > 0, y1 < mask.shape[0], x0 > 0, x1 < mask.shape[1])
            if border_open:
                sides = (True,) * 4
            row.append(label_block(mask[y0:y1, x0:x1], min_size, sides))
        rows.append(row)
    return rows


def spiral(n):
    mask = np.zeros((n, n), bool)
    y, x, dy, dx = 0, 0, 0, 1
    mask[0, 0] = True
    lengths = [n - 1, *(k for k in range(n - 1, 0, -2) for _ in range(2))]
    for steps in lengths:
        for _ in range(steps):
            y, x = y + dy, x + dx
            mask[y, x] = True
        dy, dx = dx, -dy
    return mask


def comb(n):
    mask = np.zeros((n, n), bool)
    mask[:, ::2] = True
    mask[-1] = True
    return mask


def two_combs(n):
    mask = np.zeros((n, n), bool)
    mask[1:-1, ::2] = True
    mask[0, ::4] = True
    mask[-1, 2::4] = True
    mask[0], mask[-1] = True, True
    mask[1, 2::4] = False
    return mask


SHAPES = {
    "spiral": spiral,
    "comb": comb,
    "comb upside down": lambda n: comb(n)[::-1],
    "comb on its side": lambda n: comb(n).T,
    "two combs": two_combs,
    "checkerboard": lambda n: np.indices((n, n)).sum(0) % 2 == 0,
    "all": lambda n: np.ones((n, n), bool),
    "none": lambda n: np.zeros((n, n), bool),
    "diagonal": lambda n: np.eye(n, dtype=bool),
    "rings": lambda n: np.maximum(*np.abs(np.indices((n, n)) - n // 2)) % 2 == 0,
}


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    density = draw(st.sampled_from([0.02, 0.3, 0.5, 0.59, 0.65, 0.95]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return rng.random((height, width)) < density


@st.composite
def cuts(draw, size):
    """Where an axis is cut; now and then everywhere, so that blocks are one pixel wide."""
    if size == 1:
        return []
    if draw(st.integers(0, 9)) == 0:
        return list(range(1, size))
    return sorted(draw(st.sets(st.integers(1, size - 1), max_size=6)))


def same(a, b):
    arrays = ("open_areas", "top", "bottom", "left", "right")
    scalars = ("shape", "open_sides", "min_size", "area_total")
    scalars += ("closed_count", "closed_area", "closed_largest")
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in arrays) and all(
        getattr(a, k) == getattr(b, k) for k in scalars
    )


@settings(max_examples=examples(80), deadline=None)
@given(st.data(), masks(), st.sampled_from([1, 2, 64]), st.booleans())
def test_equals_scipy_in_any_chunks(data, mask, min_size, border_open):
    grid = label_grid(
        mask, data.draw(cuts(mask.shape[0])), data.draw(cuts(mask.shape[1])), min_size, border_open
    )
    assert join(grid) == expected(mask, min_size)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("side", [1, 3, 8, 47, 64])
def test_shapes(name, side):
    mask = SHAPES[name](63)
    cuts_at = list(range(side, 63, side))
    for min_size in (1, 64):
        grid = label_grid(mask, cuts_at, cuts_at, min_size)
        assert join(grid) == expected(mask, min_size)


@pytest.mark.parametrize("density", [0.5, 0.59])
def test_a_larger_image_in_ragged_chunks(density):
    mask = np.random.default_rng(5).random((700, 900)) < density
    grid = label_grid(mask, [256, 300, 301], [512, 768, 800], 64)
    assert join(grid) == expected(mask, 64)


@settings(max_examples=examples(60), deadline=None)
@given(st.data(), masks(), st.sampled_from([0, 1]))
def test_merging_equals_labelling_both_together(data, mask, axis):
    size = mask.shape[axis]
    at = data.draw(st.integers(0, size))
    parts = np.split(mask, [at], axis=axis)
    merged = merge(*(label_block(part, 2) for part in parts), axis)
    assert same(merged, label_block(mask, 2))


@settings(max_examples=examples(40), deadline=None)
@given(masks(), st.sampled_from([0, 1]))
def test_merging_is_associative(mask, axis):
    a, b, c = (label_block(part) for part in np.array_split(mask, 3, axis=axis))
    left = merge(merge(a, b, axis), c, axis)
    assert same(left, merge(a, merge(b, c, axis), axis))
    assert same(left, merge_line([a, b, c], axis))


def test_columns_may_be_joined_before_rows():
    mask = np.random.default_rng(6).random((90, 90)) < 0.59
    grid = label_grid(mask, [31, 60], [17, 18, 70], 1)
    columns = [merge_line(column, axis=0) for column in zip(*grid, strict=True)]
    assert finish(merge_line(columns, axis=1)) == join(grid)


def test_only_what_reaches_an_open_side_stays_open():
    mask = np.zeros((6, 7), np.uint8)
    mask[0, 0:2] = 1  # at the top and left
    mask[2, 3] = 255  # inside
    mask[5, 5:7] = 7  # at the bottom and right
    block = label_block(mask, open_sides=(False, True, False, False))
    assert (block.closed_count, block.closed_area, block.closed_largest) == (2, 3, 2)
    assert block.open_areas.tolist() == [2]
    assert block.bottom.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert len(block.top) == len(block.left) == len(block.right) == 0
    assert block.area_total == 5


def test_one_pixel_wide_blocks_have_the_same_left_and_right_line():
    block = label_block(np.array([[1], [1], [0], [1]], bool))
    assert block.left.tolist() == block.right.tolist() == [1, 1, 0, 2]
    assert block.open_areas.tolist() == [2, 1]


def test_components_below_the_size_are_left_out_and_their_pixels_stay():
    mask = np.zeros((20, 20), bool)
    mask[2:4, 2:4] = True
    assert join([[label_block(mask, 64)]]) == Components(4, 0, 0, 0)
    assert join([[label_block(mask, 4)]]) == Components(4, 1, 4, 4)


def test_memory_follows_the_edges():
    mask = np.random.default_rng(7).random((512, 512)) < 0.5
    edge = 4 * 512
    assert label_block(mask).nbytes <= (4 + 8) * edge


def test_states_travel_between_processes():
    block = label_block(np.eye(5, dtype=bool))
    assert same(pickle.loads(pickle.dumps(block)), block)


def test_input_may_be_strided_and_read_only_and_stays_as_it_is():
    mask = np.random.default_rng(8).random((40, 50)) < 0.5
    before = mask.copy()
    mask.flags.writeable = False
    assert same(label_block(mask.T), label_block(np.array(before.T)))
    np.testing.assert_array_equal(mask, before)


def test_what_does_not_fit_is_refused():
    block = label_block(np.ones((4, 5), bool))
    with pytest.raises(ParameterError, match="uint8"):
        label_block(np.ones((4, 5), np.int32))
    with pytest.raises(ParameterError, match="min_size"):
        label_block(np.ones((4, 5), bool), 0)
    with pytest.raises(ParameterError, match="min_size"):
        merge(block, label_block(np.ones((4, 5), bool), 64), 0)
    with pytest.raises(ParameterError, match="shapes"):
        merge(block, label_block(np.ones((5, 4), bool)), 0)
    with pytest.raises(ParameterError, match="open_sides"):
        merge(label_block(np.ones((4, 5), bool), 1, (True, False, True, True)), block, 0)
    with pytest.raises(ParameterError, match="blocks"):
        join([])
