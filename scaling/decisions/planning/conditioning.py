"""What results not yet known would tell: linear Bayes on draws, one result after another.

Every draw of a surface is a world that may be the true one. In each world a pilot gives its result, and what is
then expected of the contenders follows by Gaussian conditioning with the draws' own covariances: the best linear
estimate (Goldstein and Wooff 2007), exact where draws are Gaussian. One result is an update of rank one, so that
a hundred thousand candidates and a thousand draws take seconds, and no surface is fitted again.
Shapes: R draws, K targets (such as contenders), M candidates of which results could be had.
"""

from dataclasses import dataclass, replace

import numpy as np

from scaling.decisions.outcomes import Array

TAIL = 0.005
"""Share of the draws at each end that is drawn in, lest a few wild worlds make up the covariances."""


@dataclass(frozen=True, slots=True, eq=False)
class Beliefs:
    """What is expected in each world, after the results so far."""

    targets: Array
    """(R, K), what is true in each world."""
    results: Array
    """(R, M), results without the luck of a run."""
    noise: Array
    """(M,), standard deviation of that luck."""
    means: Array
    """(R, K), what is expected of the targets in each world."""
    foreseen: Array
    """(R, M), what is expected of the results."""
    covariances: Array
    """(K, M), between targets and results."""
    variances: Array
    """(M,), of the results."""
    factors: tuple[Array, ...] = ()
    """(M,) each, one for every result so far; their squares' sum is what the variances have lost."""

    def innovation(self, candidate: int, luck: Array) -> Array:
        """How far a result lies off what was foreseen, (R,), with standard normal luck (R,)."""
        return self.results[:, candidate] + self.noise[candidate] * luck - self.foreseen[:, candidate]

    def told(self, candidates: Array, weights: Array) -> Array:
        """Variance of the targets, weighted by (K,), that the result of each candidate would take away, (C,)."""
        return weights @ self.covariances[:, candidates] ** 2 / self._spread(candidates)

    def after(self, candidate: int, luck: Array) -> "Beliefs":
        """With the result of one candidate, in every world its own.

        Args:
            candidate: its place.
            luck: (R,), standard normal.
        """
        spread = float(self._spread(candidate))
        results = self.results - self.results.mean(axis=0)
        factor = results.T @ results[:, candidate] / len(results)
        factor = factor - sum(each * each[candidate] for each in self.factors)
        innovation = self.innovation(candidate, luck)[:, None]
        own = self.covariances[:, candidate]
        return replace(
            self,
            means=self.means + innovation * own / spread,
            foreseen=self.foreseen + innovation * factor / spread,
            covariances=self.covariances - own[:, None] * factor / spread,
            variances=np.maximum(self.variances - factor**2 / spread, 0.0),
            factors=(*self.factors, factor / np.sqrt(spread)),
        )

    def _spread(self, candidates: int | Array) -> Array:
        """Variances of results with their luck; never zero, so that a result known already teaches nothing."""
        return np.maximum(self.variances[candidates] + self.noise[candidates] ** 2, np.finfo(float).tiny)


def beliefs(targets: Array, results: Array, noise: Array) -> Beliefs:
    """Before any result: the same in every world. Of targets the medians are expected, by which plans rank.

    Args:
        targets: (R, K).
        results: (R, M).
        noise: (M,), standard deviation of the luck of one run.
    """
    foreseen = results.mean(axis=0)
    centred = results - foreseen
    return Beliefs(
        targets=targets,
        results=results,
        noise=noise,
        means=np.broadcast_to(np.median(targets, axis=0), targets.shape),
        foreseen=np.broadcast_to(foreseen, results.shape),
        covariances=(targets - targets.mean(axis=0)).T @ centred / len(results),
        variances=np.mean(centred**2, axis=0),
    )


def tamed(draws: Array) -> Array:
    """Draws (R, N) with the far ends of each column drawn in, see `TAIL`."""
    return np.clip(draws, *np.quantile(draws, (TAIL, 1 - TAIL), axis=0))


def luck_of_runs(misfit: float, seed_noise: float, before: Array, new: Array | int = 1) -> Array:
    """Luck of new seeds of designs, as far as what they tell of a surface is concerned.

    A design lies off the surface by a misfit of its own, which its seeds share. What is known of a design says
    how large its misfit is, so that a repeat tells of the surface only as far as the luck of its seeds had hidden it.

    Args:
        misfit: standard deviation of designs around the surface, beside their seeds.
        seed_noise: between seeds.
        before: (M,), seeds that each design has; none for a new one.
        new: (M,), further seeds of each.

    Returns:
        (M,), standard deviations; infinite where a repeat tells nothing.
    """
    known = seed_noise**2 / np.maximum(before, 1)
    share = np.where((before > 0) & (misfit > 0), misfit**2 / np.maximum(misfit**2 + known, np.finfo(float).tiny), 0.0)
    left = np.where(before > 0, share * known, misfit**2) + seed_noise**2 / new
    return np.where(share < 1, np.sqrt(left) / np.maximum(1 - share, np.finfo(float).tiny), np.inf)
