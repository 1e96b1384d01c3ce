"""Draws from a posterior that no formula gives: an ensemble of walkers that learn their steps from each other.

Half the moves are of differential evolution (ter Braak 2006, Nelson et al. 2014): along the difference of two other
walkers, so no scale and no correlation of the parameters need be known. The other half are leaps to draws of a
Student-t with the other walkers' mean and covariance, which forget where they came from: bent posteriors, which
steps alone take thousands of moves to cross, take tens. Shapes: W walkers, P parameters, R draws.
"""

from collections.abc import Callable

import numpy as np

from scaling.laws.law import Array

WHOLE = 0.1  # share of the steps by a whole difference, which can carry from one mode to another
JITTER = 1e-4
SOME = 0.4  # share of the parameters that half the steps change
LEAPS = 0.5  # share of the moves that are leaps
FREEDOM = 5.0  # of the leaps' Student-t: heavier tails than the posterior's
STUCK = 0.1  # share of walkers, worst first, that others replace now and then while they settle
EVERY = 10  # steps between replacements

Density = Callable[[Array], Array]


def sample(log_density: Density, start: Array, draws: int, steps: int, generator: np.random.Generator) -> Array:
    """Draws (R, P), kept at even intervals of the last two thirds of the steps.

    Args:
        log_density: of vectors (W, P), up to a constant.
        start: (W, P) walkers; an even number of them.
        draws: R, a multiple of W.
        steps: of every walker.
        generator: of the moves.
    """
    walkers, density = start.copy(), log_density(start)
    keep = set(np.linspace(steps / 3, steps - 1, draws // len(walkers) + 1).astype(int)[1:].tolist())
    kept = []
    for step in range(steps):
        halves = np.split(generator.permutation(len(walkers)), 2)
        for moved, others in (halves, halves[::-1]):
            propose = _leap if generator.random() < LEAPS else _step
            proposal, correction = propose(walkers[moved], walkers[others], generator)
            proposed = log_density(proposal)
            accepted = np.log(generator.random(len(moved))) < proposed - density[moved] + correction
            walkers[moved[accepted]] = proposal[accepted]
            density[moved[accepted]] = proposed[accepted]
        if step < steps / 6 and step % EVERY == EVERY - 1:
            _replace_stuck(walkers, density, generator)
        if step in keep:
            kept.append(walkers.copy())
    return np.concatenate(kept)


def _step(moved: Array, others: Array, generator: np.random.Generator) -> tuple[Array, Array | float]:
    """Along differences of the others; as likely there as back."""
    half, size = moved.shape
    one = generator.integers(half, size=half)
    other = (one + 1 + generator.integers(half - 1, size=half)) % half
    usual = 2.38 / np.sqrt(2 * size) * np.exp(generator.normal(0, 0.3, half))
    length = np.where(generator.random(half) < WHOLE, 1.0, usual)
    share = np.where(generator.random((half, 1)) < 0.5, 1.0, SOME)
    chosen = generator.random((half, size)) < share
    difference = length[:, None] * (others[one] - others[other])
    return moved + chosen * (difference + generator.normal(0, JITTER, (half, size))), 0.0


def _leap(moved: Array, others: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """Draws of a Student-t as wide as the others, and the logarithm of how much likelier the way back is."""
    half, size = moved.shape
    mean = others.mean(axis=0)
    centred = others - mean
    factor = np.linalg.cholesky(centred.T @ centred / (half - 1) + JITTER**2 * np.eye(size))
    stretch = np.sqrt(FREEDOM / generator.chisquare(FREEDOM, (half, 1)))
    standard = stretch * generator.standard_normal((half, size))
    before = (moved - mean) @ np.linalg.inv(factor).T
    here, there = (np.einsum("wp,wp->w", each, each) for each in (before, standard))
    likelier = np.log((FREEDOM + there) / (FREEDOM + here))
    return mean + standard @ factor.T, (FREEDOM + size) / 2 * likelier


def _replace_stuck(walkers: Array, density: Array, generator: np.random.Generator) -> None:
    """Put the least likely walkers where others are, in place: some start where no move leads away."""
    order = np.argsort(density, kind="stable")
    count = int(STUCK * len(walkers))
    by = generator.choice(order[count:], count)
    walkers[order[:count]], density[order[:count]] = walkers[by], density[by]
