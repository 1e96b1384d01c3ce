"""Draws from a posterior that no formula gives: an ensemble of walkers that learn their steps from each other.

Differential evolution (ter Braak 2006, Nelson et al. 2014): a walker moves along the difference of two others, so
no scale and no correlation of the parameters need be known. Shapes: W walkers, P parameters, R draws.
"""

from collections.abc import Callable

import numpy as np

from scaling.laws.law import Array

LEAP = 0.1  # share of the moves by a whole difference, which can carry from one mode to another
JITTER = 1e-4
RESCUES = 6  # times that lost walkers are moved, all in the first third of the steps
LOST = 5.0  # standard deviations
SOME = 0.4  # share of the parameters that half the moves change


def sample(
    log_density: Callable[[Array], Array],
    start: Array,
    folded: Array,
    draws: int,
    steps: int,
    generator: np.random.Generator,
) -> Array:
    """Draws (R, P), kept at even intervals of the last two thirds of the steps.

    Args:
        log_density: of vectors (W, P), up to a constant.
        start: (W, P) walkers; an even number of them.
        folded: (P,) of bool; parameters that cannot be negative, reflected at zero.
        draws: R, a multiple of W.
        steps: of every walker.
        generator: of the moves.
    """
    walkers, density = start.copy(), log_density(start)
    snapshots = draws // len(walkers)
    keep = set(np.linspace(steps / 3, steps - 1, snapshots + 1).astype(int)[1:].tolist())
    rescues = set(np.linspace(0, steps / 3, RESCUES + 1).astype(int)[1:].tolist())
    kept = []
    for step in range(steps):
        if step in rescues:
            _rescue(walkers, density, generator)
        halves = np.split(generator.permutation(len(walkers)), 2)
        for moved, others in (halves, halves[::-1]):
            _move(log_density, walkers, density, moved, others, folded, generator)
        if step in keep:
            kept.append(walkers.copy())
    return np.concatenate(kept)


def _rescue(walkers: Array, density: Array, generator: np.random.Generator) -> None:
    """Move walkers that are lost, as unlikely as hardly any draw, to where others are; in place."""
    half = walkers.shape[1] / 2  # of a normal density, the mean and the variance of what draws lack of its peak
    lost = density < density.max() - half - LOST * np.sqrt(half)
    found = generator.choice(np.flatnonzero(~lost), size=int(lost.sum()))
    walkers[lost], density[lost] = walkers[found], density[found]


def _move(
    log_density: Callable[[Array], Array],
    walkers: Array,
    density: Array,
    moved: Array,
    others: Array,
    folded: Array,
    generator: np.random.Generator,
) -> None:
    """One step of half the walkers, along differences of the other half; in place."""
    half, size = len(moved), walkers.shape[1]
    one = generator.integers(half, size=half)
    other = (one + 1 + generator.integers(half - 1, size=half)) % half
    usual = 2.38 / np.sqrt(2 * size) * np.exp(generator.normal(0, 0.3, half))
    length = np.where(generator.random(half) < LEAP, 1.0, usual)
    share = np.where(generator.random((half, 1)) < 0.5, 1.0, SOME)
    chosen = generator.random((half, size)) < share
    difference = length[:, None] * (walkers[others[one]] - walkers[others[other]])
    proposal = walkers[moved] + chosen * (difference + generator.normal(0, JITTER, (half, size)))
    proposal[:, folded] = np.abs(proposal[:, folded])
    proposed = log_density(proposal)
    accepted = np.log(generator.random(half)) < proposed - density[moved]
    walkers[moved[accepted]] = proposal[accepted]
    density[moved[accepted]] = proposed[accepted]
