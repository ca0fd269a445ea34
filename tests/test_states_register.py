"""A state from outside of the package, through the register: no module of gigaqc knows of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from same_states import identical
from settings import configure

import gigaqc as gq
from gigaqc.errors import ParameterError, ReadError, StatisticsError
from gigaqc.statistics import kinds
from gigaqc.statistics.state import _KINDS, Part, StateKind, all_kinds, register
from gigaqc.statistics.states import Additive, Box, Tally
from gigaqc.statistics.statistics import Statistics
from gigaqc.statistics.tables import Swept, SweptSeam

LIMIT = 100.0


@dataclass(frozen=True)
class Bright:
    """Valid pixels above `LIMIT` by channel, and their sum about the shift."""

    n: np.ndarray
    total: np.ndarray


@dataclass(frozen=True)
class Above(Additive):
    """A state that has a dataclass of its own in it, and sums that depend on the shift."""

    bright: Bright

    def merge(self, other: Above) -> Above:
        mine, theirs = self.bright, other.bright
        return Above(Bright(mine.n + theirs.n, mine.total + theirs.total))

    def moved(self, by: np.ndarray) -> Above:
        return Above(Bright(self.bright.n, self.bright.total + by * self.bright.n))


def above(swept: Swept) -> Above:
    n, total = [], []
    for c, shift in enumerate(swept.shift):
        values = swept.values(c)
        bright = values[values > LIMIT]  # never NaN
        n.append(bright.size)
        total.append((bright - shift).sum())
    return Above(Bright(np.array(n), np.array(total)))


@dataclass(frozen=True)
class Steps(Additive):
    """By line of the image: how often a pixel differs from its right neighbour; all channels."""

    box: Box

    def merge(self, other: Steps) -> Steps:
        return Steps(self.box.merge(other.box))


def steps(swept: Swept) -> Steps:
    values = np.stack([swept.values(c) for c in range(len(swept.channels))])
    changes = np.diff(values, axis=-1) != 0
    return Steps(Box((swept.place.y,), changes.sum(axis=(0, 1, 2, 4))[None]))


def steps_across(swept: SweptSeam) -> Steps:
    seam = swept.seam
    assert seam.values is not None
    changes = np.zeros((1, seam.values.shape[-2]), "i8")
    if seam.axis == -1:  # two lines of each side: the pair in the middle is the seam's
        changes[0] = (seam.values[..., 1] != seam.values[..., 2]).sum(axis=(0, 1, 2))
    return Steps(Box((seam.place.y,), changes))


@dataclass(frozen=True)
class Blocks(Additive):
    """How many blocks were swept: of interest to nobody afterwards."""

    n: int

    def merge(self, other: Blocks) -> Blocks:
        return Blocks(self.n + other.n)


ABOVE = register(StateKind("above", Above, Part(1 << 16), above))
STEPS = register(
    StateKind(
        "steps", Steps, Part(1 << 17), steps, at_seam=steps_across, edge_values=Part(1 << 17),
        pooled=None,
    )
)  # fmt: skip
BLOCKS = register(
    StateKind("blocks", Blocks, Part(1 << 18), lambda swept: Blocks(1), saved=False)
)  # fmt: skip
OURS = ABOVE.part | STEPS.part | BLOCKS.part


def image(dtype: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(90, (2, 150, 160)).astype(dtype)


def scanned(
    pixels: np.ndarray, side: int = 40, parts: Part = OURS, **options: object
) -> Statistics:
    chunked = da.from_array(pixels, chunks=(1, side, side))
    return gq.scan(chunked, parts=parts, **options).compute()  # type: ignore[arg-type]


@pytest.fixture(params=["u1", "i2", "f4", "i4"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tasks, so that there are seams."""
    configure(monkeypatch, "group-values", 0)


def check(found: Statistics, *images: np.ndarray) -> None:
    state = found.state[ABOVE]
    assert state is not None
    values = np.concatenate([pixels.reshape(2, -1) for pixels in images], axis=1).astype("f8")
    bright = [v[v > LIMIT] for v in values]
    assert state.bright.n.tolist() == [v.size for v in bright]
    total = state.bright.total + state.bright.n * found.state.shift
    np.testing.assert_allclose(total, [v.sum() for v in bright], rtol=1e-12)


def test_it_is_observed_in_a_scan_of_any_chunks(dtype: str, small_groups: None) -> None:
    pixels = image(dtype)
    found = scanned(pixels)
    check(found, pixels)
    lines = found.state[STEPS]
    assert lines is not None and lines.box.origin == (0,)
    np.testing.assert_array_equal(lines.box.values[0], (np.diff(pixels) != 0).sum(axis=(0, 2)))
    blocks = found.state[BLOCKS]
    assert blocks is not None and blocks.n > 1
    assert found.state.nbytes > scanned(pixels, parts=Part.MOMENTS).state.nbytes


def test_what_nobody_asks_for_is_not_observed() -> None:
    assert gq.scan(image("u2")).compute().state[ABOVE] is None
    assert not gq.scan(image("u2")).compute().state.more


def test_parts_without_a_name_stay_when_others_are_taken_away() -> None:
    found = gq.scan(image("f4"), parts=Part.ALL | OURS, refine=False).compute()
    assert Part(found.meta.parts) == Part.ALL & ~Part.RESPONSE | OURS
    check(found, image("f4"))


def test_a_mask_leaves_pixels_out(dtype: str) -> None:
    pixels = image(dtype)
    mask = np.zeros((150, 160), bool)
    mask[5:130, 7:140] = True
    check(scanned(pixels, mask=mask), pixels[:, 5:130, 7:140])


def test_it_is_saved_and_loaded(dtype: str, tmp_path: Path) -> None:
    found = scanned(image(dtype))
    found.save(tmp_path / "s.zarr")
    loaded = Statistics.load(tmp_path / "s.zarr")
    more = {k: v for k, v in found.state.more.items() if k != "blocks"}
    identical(loaded.state, replace(found.state, more=more))
    assert loaded.state[BLOCKS] is None
    with pytest.raises(StatisticsError, match="lack blocks, which a test needs"):
        loaded.require(BLOCKS.part, "a test")
    loaded.require(ABOVE.part | STEPS.part, "a test")


def test_it_is_pooled(dtype: str) -> None:
    first, second = image(dtype), image(dtype, seed=1)
    pool = scanned(first) + scanned(second)
    check(pool, first, second)
    assert pool.state[STEPS] is None
    with pytest.raises(StatisticsError, match="lack steps, which a test needs"):
        pool.require(OURS, "a test")


def test_a_pool_with_what_was_scanned_without_it_has_none_of_it() -> None:
    """The count of one image for that of two would be a wrong number."""
    whole, without = scanned(image("u2")), scanned(image("u2", 1), parts=Part.MOMENTS)
    for pool in (whole + without, without + whole):
        assert pool.state[ABOVE] is None
        assert pool.distribution(0).n == 2 * whole.distribution(0).n


def test_pools_lose_the_parts_of_which_nothing_is_left() -> None:
    whole = gq.scan(image("u2"), spectrum=True).compute()
    assert Part((whole + whole).meta.parts) == Part.ALL & ~Part.COLUMNS


def test_a_store_of_an_unknown_state_says_what_to_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned(image("u2")).save(tmp_path / "s.zarr")
    monkeypatch.delitem(_KINDS, "above")
    with pytest.raises(ReadError, match=r"s\.zarr.*Above is unknown: import the package"):
        Statistics.load(tmp_path / "s.zarr")


def test_keys_are_names_and_taken_once() -> None:
    assert register(replace(ABOVE)) == ABOVE  # a module may run again
    for key in ("two words", "shift", "more"):
        with pytest.raises(ParameterError, match=f"^key: got '{key}'"):
            register(replace(ABOVE, key=key))
    with pytest.raises(ParameterError, match="'focus' is the key of gigaqc"):
        register(replace(ABOVE, key="focus"))


def test_classes_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    double = replace(ABOVE, key="double", state=type("Tally", (Tally,), {}))
    monkeypatch.setitem(_KINDS, "double", double)
    with pytest.raises(StatisticsError, match="rename one"):
        gq.scan(image("u2")).compute().save(tmp_path / "s.zarr")
    assert not any(tmp_path.iterdir())


def test_every_part_of_this_package_asks_for_a_state() -> None:
    own = [kind for kind in all_kinds() if kind.state.__module__.startswith("gigaqc.")]
    asked = Part(0)
    for kind in own:
        asked |= kind.part
        assert kind.part & kind.edge_values == kind.edge_values
        assert (kind.at_seam is None) == (not kind.edge_values | kind.edge_zeros)
    assert asked == Part.ALL | Part.SPECTRUM
    assert kinds.FOCUS in own
