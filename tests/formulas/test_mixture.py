"""The mixture of a histogram: scikit-learn's on all values, and what it never does."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.mixture import BayesianGaussianMixture
from strategies import repeatable

from gigaqc.formulas import mixture
from gigaqc.formulas.mixture import Cells, Mixture, fit
from gigaqc.statistics.distribution import Distribution


def cells_of(values: np.ndarray) -> Cells:
    """One cell a value that occurs."""
    x, counts = np.unique(values, return_counts=True)
    nothing = np.zeros(x.size)
    return Cells.of(Distribution(x, x, counts, nothing, nothing))


def drawn(*parts: tuple[int, float, float], seed: int = 0) -> np.ndarray:
    """Whole numbers from Gaussians (how many, mean, standard deviation)."""
    rng = np.random.default_rng(seed)
    return np.rint(np.concatenate([rng.normal(m, s, n) for n, m, s in parts]))


def fitted(cells: Cells, n_components: int) -> Mixture:
    found = fit(cells, n_components)
    assert found is not None
    return found


THREE = ((9000, 20, 8), (6000, 120, 30), (3000, 400, 60))
CASES = {
    "two apart": (((5000, 0, 5), (5000, 100, 10)), 2),
    "a small one": (((200, 10, 2), (20000, 100, 15)), 2),
    "three": (THREE, 3),
    "a wide one around a narrow one": (((4000, 100, 60), (9000, 100, 4), (2000, 500, 30)), 3),
    "four": (((9000, 0, 5), (6000, 60, 10), (3000, 150, 20), (500, 300, 9)), 4),
    "an offset": (((5000, 32780, 5), (5000, 32900, 20)), 2),
}


QUICK = ("two apart", "three")  # the others take seconds of scikit-learn each


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in CASES]
)
def test_scikit_learn_on_all_values(name: str) -> None:
    """Run until it converges: by default it stops when the bound of all values moves by 1e-3."""
    parts, k = CASES[name]
    values = drawn(*parts)
    peer = BayesianGaussianMixture(
        n_components=k, n_init=5, max_iter=5000, tol=1e-7, random_state=0
    )
    labels = peer.fit(values[:, None]).predict(values[:, None])
    order = np.argsort(peer.means_[:, 0])
    cells = cells_of(values)
    found = fitted(cells, k)
    assert found.converged
    # The order of the sticks, which is chance there, moves bound and weights by some ln(n)/n.
    assert found.lower_bound == pytest.approx(peer.lower_bound_, rel=2e-4)
    np.testing.assert_allclose(found.means, peer.means_[order, 0], rtol=2e-3, atol=2e-2)
    np.testing.assert_allclose(found.variances, peer.covariances_[order, 0, 0], rtol=5e-3)
    np.testing.assert_allclose(found.weights, peer.weights_[order], rtol=5e-3, atol=1e-4)
    mine = found.classes(cells)[np.searchsorted(cells.means, values)]
    assert (mine == np.argsort(order)[labels]).mean() > 0.999


def test_the_bound_is_scikit_learns_where_the_sticks_have_its_order() -> None:
    values = drawn((9000, 20, 8), (6000, 120, 9))
    found = fitted(cells_of(values), 2)
    peers = [
        BayesianGaussianMixture(n_components=2, max_iter=5000, tol=1e-9, random_state=s).fit(
            values[:, None]
        )
        for s in range(4)
    ]
    bounds = [p.lower_bound_ for p in peers if p.weights_[0] > p.weights_[1]]
    assert bounds
    np.testing.assert_allclose(bounds, found.lower_bound, rtol=1e-7)


def test_merging_keeps_counts_means_and_variances() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(5, 1, 30000), rng.exponential(300, 9000), [1e6]])
    cells = cells_of(values)
    for most in (4096, 256, 3):
        merged = cells.merged(most)
        n = merged.counts
        assert n.size <= most and n.sum() == values.size
        mean = n @ merged.means / n.sum()
        spread = n @ (merged.variances + (merged.means - mean) ** 2) / n.sum()
        assert mean == pytest.approx(values.mean(), rel=1e-12)
        assert spread == pytest.approx(values.var(), rel=1e-12)
        assert (np.diff(merged.means) > 0).all()
    merged = cells.merged(256)
    # The peak is resolved although one value makes the range 100 000 times as wide.
    assert np.count_nonzero((merged.means > 2) & (merged.means < 8)) > 60


def test_merging_changes_the_fit_little(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(50, 9, 30000), rng.normal(300, 90, 30000)])
    cells = cells_of(values)
    merged = fitted(cells, 3)
    monkeypatch.setattr(mixture, "MOST_CELLS", cells.counts.size)
    whole = fitted(cells, 3)
    np.testing.assert_allclose(merged.means, whole.means, rtol=1e-4)
    np.testing.assert_allclose(merged.variances, whole.variances, rtol=1e-4)
    np.testing.assert_allclose(merged.weights, whole.weights, rtol=1e-4)
    assert (merged.classes(cells) != whole.classes(cells)).mean() < 1e-3


@pytest.mark.parametrize(("factor", "offset"), [(1e-6, 0.0), (1e6, 1e9), (-1.0, 0.0)])
def test_units_do_not_matter(factor: float, offset: float) -> None:
    values = drawn(*THREE)
    cells = cells_of(values)
    found, other = fitted(cells, 3), fitted(cells_of(values * factor + offset), 3)
    order = slice(None) if factor > 0 else slice(None, None, -1)
    np.testing.assert_allclose(other.means[order], found.means * factor + offset, rtol=1e-4)
    np.testing.assert_allclose(other.variances[order], found.variances * factor**2, rtol=1e-4)


def test_ten_thousand_times_the_values_make_the_same_mixture() -> None:
    cells = cells_of(drawn(*THREE))
    many = Cells(cells.counts * 1e4, cells.means, cells.variances)
    np.testing.assert_allclose(fitted(many, 3).means, fitted(cells, 3).means, rtol=1e-2)
    assert fitted(many, 3).converged


def test_a_wide_component_owns_both_sides_of_a_narrow_one() -> None:
    cells = cells_of(drawn((9000, 100, 60), (9000, 120, 2)))
    classes = fitted(cells, 2).classes(cells)
    assert np.count_nonzero(np.diff(classes)) == 2
    assert classes[0] == classes[-1] != classes[np.searchsorted(cells.means, 120)]


def test_few_values() -> None:
    assert fit(cells_of(np.full(9, 3.0)), 3) is None
    assert fit(cells_of(np.zeros(0)), 3) is None
    found = fitted(cells_of(np.repeat([0.0, 7.0], 50)), 3)
    assert found.means.size == 2
    assert found.classes(cells_of(np.array([0.0, 7.0]))).tolist() == [0, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert fit(cells_of(np.array([-1e308, 1e308])), 2) is None


@repeatable
@given(
    st.lists(st.tuples(st.integers(-9999, 9999), st.integers(1, 10**9)), min_size=2, max_size=300),
    st.integers(2, 6),
)
def test_any_histogram(pairs: list[tuple[int, int]], k: int) -> None:
    counts = dict(pairs)
    x = np.array(sorted(counts), "f8")
    n = np.array([counts[int(v)] for v in x], "f8")
    cells = Cells(n, x, np.zeros(x.size))
    found = fit(cells, k)
    if x.size < 2:
        assert found is None
        return
    assert found is not None and found.means.size == min(k, x.size)
    assert found.weights.sum() == pytest.approx(1)
    assert (np.diff(found.means) >= 0).all() and (found.variances > 0).all()
    assert x[0] <= found.means[0] and found.means[-1] <= x[-1]
    assert set(found.classes(cells)) <= set(range(found.means.size))
    again = fit(cells, k)
    assert again is not None and (again.means == found.means).all()
