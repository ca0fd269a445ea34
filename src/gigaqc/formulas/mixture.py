"""A variational Gaussian mixture in one dimension, fitted to a weighted histogram.

The model and the priors are those of scikit-learn's ``BayesianGaussianMixture`` with a Dirichlet
process (Bishop 2006, chapter 10.2; Blei and Jordan 2006). Values are cells of a histogram: count,
mean and variance within. All values of a cell share their responsibilities, which is a variational
bound too, and exact where a cell is one value. One thing is left out: scikit-learn adds 1e-6 to
each variance, whatever the unit of the values, and the prior already keeps variances from 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, digamma, gammaln

from gigaqc.statistics.distribution import Distribution

MOST_CELLS = 4096  # a fit looks at no more
_COARSE_CELLS = 256  # starts are first run on these
_STARTS = 5
_TOLERANCE = 1e-7  # of a step, in shares of the values and in standard deviations
_COARSE_TOLERANCE = 1e-5
_MOST_STEPS = 3000
_MOST_LLOYD = 100
_TINY = 1e-12  # so that a component without values divides by something


@dataclass(frozen=True)
class Cells:
    """Ascending cells of a histogram: count, mean, and variance within."""

    counts: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, values: Distribution) -> Cells:
        """The bins of a distribution."""
        n = values.counts.astype("f8")
        rest = values.first / n
        spread = np.maximum(values.second / n - rest * rest, 0.0)
        return cls(n, values.low + rest, spread)

    def groups(self, most: int) -> np.ndarray:
        """Where `most` groups of neighbouring cells begin, or fewer.

        A group spans at most a share 2/`most` of the values, or one cell, and of the range: neither
        a narrow peak nor a long tail is lost in one group.
        """
        if self.counts.size <= most:
            return np.arange(self.counts.size)
        before = np.cumsum(self.counts) - self.counts / 2
        place = before / self.counts.sum()
        place += (self.means - self.means[0]) / (self.means[-1] - self.means[0])
        where = np.minimum((place * (most / 2)).astype("i8"), most - 1)
        return np.flatnonzero(np.diff(where, prepend=-1))

    def merged(self, most: int) -> Cells:
        """At most `most` cells; the counts, means and variances of what they merge are kept."""
        if self.counts.size <= most:
            return self
        starts = self.groups(most)
        n = np.add.reduceat(self.counts, starts)
        base = self.means[starts]  # sums about a value of the cell lose nothing to an offset
        away = self.means - np.repeat(base, np.diff(starts, append=self.counts.size))
        first = np.add.reduceat(self.counts * away, starts) / n
        second = np.add.reduceat(self.counts * (self.variances + away * away), starts) / n
        return Cells(n, base + first, np.maximum(second - first * first, 0.0))


@dataclass(frozen=True)
class Mixture:
    """Components in ascending order of their means; ``lower_bound`` is scikit-learn's."""

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    lower_bound: float
    converged: bool
    steps: int
    scale: Scale
    terms: np.ndarray  # (K, 3): their product with 1, x, x^2 is the log probability

    def classes(self, cells: Cells) -> np.ndarray:
        """The most probable component of each cell, 0 for the one with the lowest mean."""
        return np.argmax(self.terms @ self.scale.powers(cells), axis=0)


@dataclass(frozen=True)
class Scale:
    """Offset and unit in which the values have mean 0 and variance 1."""

    n: float
    mean: float
    std: float

    @classmethod
    def of(cls, cells: Cells) -> Scale:
        """That of the values in the cells."""
        n = float(cells.counts.sum())
        base = cells.means[int(np.argmax(cells.counts))]
        mean = base + float(cells.counts @ (cells.means - base)) / n
        away = cells.means - mean
        return cls(n, mean, math.sqrt(float(cells.counts @ (cells.variances + away * away)) / n))

    def powers(self, cells: Cells) -> np.ndarray:
        """(3, cells): the mean of 1, x and x^2 in each cell."""
        x = (cells.means - self.mean) / self.std
        return np.stack([np.ones_like(x), x, x * x + cells.variances / self.std**2])


def fit(cells: Cells, n_components: int, starts: int = _STARTS) -> Mixture | None:
    """The mixture with the best bound; None where less than two values differ.

    Each start assigns the cells by weighted k-means, seeded as k-means++ with a fixed generator.
    Those that differ run on 256 cells, and the best of what they reach on all, to convergence. With
    fewer cells than components, there are as many components as cells.
    """
    fine = cells.merged(MOST_CELLS)
    if fine.counts.size < 2:
        return None
    scale = Scale.of(fine)
    if not 0 < scale.std < math.inf:
        return None
    k = min(n_components, fine.counts.size)
    rng = np.random.default_rng(0)
    clusters = np.unique([_k_means(fine, k, rng) for _ in range(starts)], axis=0)
    problem = _Problem.of(fine, scale)
    moments = problem.moments((clusters[:, None] == np.arange(k)[:, None]).astype("f8"))
    if fine.counts.size > _COARSE_CELLS:
        coarse = _Problem.of(fine.merged(_COARSE_CELLS), scale)
        found = _climb(coarse, moments, _COARSE_TOLERANCE)
        moments = found.moments[found.promising(scale.n)]
    return problem.mixture(_climb(problem, moments, _TOLERANCE))


def _k_means(cells: Cells, k: int, rng: np.random.Generator) -> np.ndarray:
    """The cluster of each cell, by Lloyd's iteration from k-means++."""
    x, n = cells.means, cells.counts
    centres = np.array([rng.choice(x, p=n / n.sum())])
    while centres.size < k:
        # Greedy: of a few candidates, the one that leaves the least.
        nearest = np.min((x - centres[:, None]) ** 2, axis=0)
        tried = rng.choice(x, size=2 + int(math.log(k)), p=n * nearest / (n @ nearest))
        left = np.minimum(nearest, (x - tried[:, None]) ** 2) @ n
        centres = np.append(centres, tried[int(np.argmin(left))])
    centres.sort()
    ends, before = np.zeros(0, "i8"), None
    total, first = np.append(0.0, np.cumsum(n)), np.append(0.0, np.cumsum(n * (x - x[0])))
    for _ in range(_MOST_LLOYD):
        ends = np.searchsorted(x, (centres[:-1] + centres[1:]) / 2, side="right")
        if before is not None and (ends == before).all():
            break
        bounds = np.concatenate([[0], ends, [x.size]])
        size = np.diff(total[bounds])
        means = x[0] + np.diff(first[bounds]) / np.where(size > 0, size, 1.0)
        centres, before = np.where(size > 0, means, centres), ends
    return np.searchsorted(ends, np.arange(x.size), side="right")


@dataclass(frozen=True)
class _Fit:
    """Where several starts are: (starts, 3, K) moments, and the bound of each."""

    moments: np.ndarray
    bounds: np.ndarray
    converged: np.ndarray
    steps: int

    def promising(self, n: float) -> np.ndarray:
        """One start of those at the same bound, where it may be the best; of `n` values."""
        order = np.argsort(-self.bounds, kind="stable")
        falls = -np.diff(self.bounds[order], prepend=np.inf)
        distinct = order[falls > 1e-9 * n]
        return distinct[self.bounds[distinct] >= self.bounds[order[0]] - 1e-4 * n]


@dataclass(frozen=True)
class _Problem:
    """Cells in units of the data's standard deviation, and the iteration over them.

    A state is what the responsibilities sum to: (starts, 3, K), the number of values of each
    component, their mean and their variance. Everything else follows from it.
    """

    counts: np.ndarray
    powers: np.ndarray
    scale: Scale

    @classmethod
    def of(cls, cells: Cells, scale: Scale) -> _Problem:
        return cls(cells.counts, scale.powers(cells), scale)

    def moments(self, responsibilities: np.ndarray) -> np.ndarray:
        """The state that (starts, K, cells) responsibilities sum to, largest component first."""
        sums = (responsibilities * self.counts) @ self.powers.T
        order = np.argsort(-sums[..., 0], axis=1, kind="stable")
        return self._state(np.take_along_axis(sums, order[..., None], axis=1))

    def _state(self, sums: np.ndarray) -> np.ndarray:
        n = sums[..., 0] + _TINY
        mean = sums[..., 1] / n
        return np.stack([n, mean, np.maximum(sums[..., 2] / n - mean * mean, 0.0)], axis=1)

    def posterior(self, state: np.ndarray) -> _Posterior:
        """Of the parameters, given a state; priors are mean 0 and variance n/(n - 1) here."""
        n, mean, variance = state[:, 0], state[:, 1], state[:, 2]
        total = self.scale.n
        after = np.cumsum(n[:, ::-1], axis=1)[:, ::-1] - n
        prior = total / (total - 1)
        spread = prior + n * variance + n / (1 + n) * mean * mean
        return _Posterior(1 + n, 1 / n.shape[1] + after, n * mean / (1 + n), spread / (1 + n))

    def step(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The next state of each start, and its bound."""
        terms = self.posterior(state).terms()
        logs = terms @ self.powers
        largest = logs.max(axis=1, keepdims=True)
        np.subtract(logs, largest, out=logs)
        np.exp(logs, out=logs)
        norm = logs.sum(axis=1, keepdims=True)
        logs *= self.counts / norm
        sums = logs @ self.powers.T
        evidence = (largest + np.log(norm))[:, 0] @ self.counts
        entropy = evidence - np.sum(terms * sums, axis=(1, 2))
        after = self._state(sums)
        return after, entropy + self.posterior(after).bound()

    def mixture(self, found: _Fit) -> Mixture:
        """The best of what was found, in the units of the values."""
        best = int(np.argmax(found.bounds))
        posterior = self.posterior(found.moments[best : best + 1])
        order = np.argsort(posterior.mean[0], kind="stable")
        scale = self.scale
        # In units of the data each of n values has its density divided by the unit, and so has
        # each component's prior.
        moved = (scale.n + posterior.mean.size) * math.log(scale.std)
        return Mixture(
            weights=posterior.weights()[0, order],
            means=scale.mean + scale.std * posterior.mean[0, order],
            variances=scale.std**2 * posterior.variance[0, order],
            lower_bound=float(found.bounds[best] - moved),
            converged=bool(found.converged[best]),
            steps=found.steps,
            scale=scale,
            terms=posterior.terms()[0, order],
        )


@dataclass(frozen=True)
class _Posterior:
    """(starts, K) parameters of the beta, normal and Wishart distributions."""

    sticks: np.ndarray  # also the precision of the mean and the degrees of freedom: all 1 + n
    rest: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    def terms(self) -> np.ndarray:
        """(starts, K, 3): expected log probability of a value as a polynomial of it."""
        total = digamma(self.sticks + self.rest)
        broken = np.cumsum(digamma(self.rest) - total, axis=1)
        weight = digamma(self.sticks) - total
        weight[:, 1:] += broken[:, :-1]
        precision = 1 / self.variance
        spread = digamma(self.sticks / 2) + math.log(2) - np.log(self.variance * self.sticks)
        constant = weight + (spread - math.log(2 * math.pi) - 1 / self.sticks) / 2
        linear = precision * self.mean
        return np.stack([constant - linear * self.mean / 2, linear, -precision / 2], axis=-1)

    def bound(self) -> np.ndarray:
        """The lower bound less the entropy of the responsibilities, without constants."""
        n = self.sticks
        wishart = gammaln(n / 2) - n / 2 * np.log(self.variance * n / 2)
        return np.sum(betaln(n, self.rest) + wishart - np.log(n) / 2, axis=1)

    def weights(self) -> np.ndarray:
        """Expected weights, normalised."""
        kept = self.rest / (self.sticks + self.rest)
        weights = self.sticks / (self.sticks + self.rest)
        weights[:, 1:] *= np.cumprod(kept[:, :-1], axis=1)
        return weights / weights.sum(axis=1, keepdims=True)


def _climb(problem: _Problem, start: np.ndarray, tolerance: float) -> _Fit:
    """Iterate every start until a step changes nothing, by squared extrapolation.

    Two steps foretell where the next ones lead (Varadhan and Roland 2008); where the bound falls by
    that, the second step is kept.
    """
    state, bounds = start.copy(), np.zeros(len(start))
    going, steps = np.arange(len(start)), 0
    while going.size and steps < _MOST_STEPS:
        before = state[going]
        first, _ = problem.step(before)
        second, bound = problem.step(first)
        line = [_logs(s) for s in (before, first, second)]
        r, v = line[1] - line[0], line[2] - 2 * line[1] + line[0]
        length, bend = (_length(change, first, problem) for change in (r, v))
        reach = np.maximum(length / np.maximum(bend, 1e-300), 1.0)[:, None, None]
        ahead, reached = problem.step(
            _state_of(line[0] + 2 * reach * r + reach * reach * v, problem.scale.n)
        )
        steps += 3
        # A step ahead of convergence is rounding, and no better.
        better = (reached >= bound) & (length > tolerance)
        state[going] = np.where(better[:, None, None], ahead, second)
        bounds[going] = np.where(better, reached, bound)
        going = going[length > tolerance]
    return _Fit(state, bounds, ~np.isin(np.arange(len(start)), going), steps)


def _logs(state: np.ndarray) -> np.ndarray:
    """The state in coordinates without limits."""
    n, mean, variance = np.moveaxis(state, 1, 0)
    # A peak of one value has a variance of rounding; what the prior adds is its scale.
    return np.stack([np.log(n), mean, np.log(variance + 1 / (1 + n))], axis=1)


def _state_of(logs: np.ndarray, total: float) -> np.ndarray:
    """The state at such coordinates, of `total` values."""
    n, mean, variance = np.moveaxis(logs, 1, 0)
    n = np.exp(n - n.max(axis=1, keepdims=True))
    n *= total / n.sum(axis=1, keepdims=True)
    variance = np.maximum(np.exp(np.clip(variance, -100, 100)) - 1 / (1 + n), 0.0)
    return np.stack([n, mean, variance], axis=1)


def _length(change: np.ndarray, state: np.ndarray, problem: _Problem) -> np.ndarray:
    """Of a change of each start, in standard deviations and in shares of a component's weight."""
    n, mean, log_variance = np.moveaxis(change, 1, 0)
    squares = n * n + mean * mean / problem.posterior(state).variance + log_variance**2 / 2
    return np.sqrt(np.sum(squares * state[:, 0], axis=1) / problem.scale.n)
