"""Bootstrap: the same fit to many resampled tables at once.

Shapes: R resamples, N points, P parameters, S scales.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from scaling.laws.law import Array
from scaling.laws.problem import Problem
from scaling.laws.solver import Solutions, dense_starts, refine

Bootstrap: TypeAlias = Literal["residual", "pairs", "group"]
DRAWS_AT_MOST = 50  # to find a resample with enough different points


def resample(
    problem: Problem,
    values: Array,
    kind: Bootstrap,
    count: int,
    seed: int,
    clusters: Array | None = None,
) -> Solutions:
    """Fits to `count` resamples of one problem (B = 1) with solution `values` (P,).

    Args:
        problem: of the data.
        values: its solution; every resample starts there and, for laws with one shape parameter, from its own grid.
        kind: 'residual' adds resampled residuals to the fit, scaled up for what the fit took off and by a
            drawn noise, so that intervals cover with few points (a t-bootstrap); 'pairs' resamples
            points, 'group' whole clusters of them.
        count: R.
        seed: of the draws.
        clusters: (N,) labels, for 'group'.
    """
    rng = np.random.default_rng(seed)
    if kind == "residual":
        resampled = replace(problem, y=_residual_draws(problem, values, count, rng))
    else:
        labels = clusters if kind == "group" and clusters is not None else np.arange(problem.y.shape[1])
        weights = _pair_weights(problem, labels, count, rng)
        resampled = replace(problem, weights=problem.weights * weights)
    return fit_many(resampled, values)


def fit_many(problem: Problem, values: Array) -> Solutions:
    """Minima of a batch of problems whose data differ little from those that `values` (P,) fits."""
    starts = np.repeat(values[None], max(len(problem.y), len(problem.weights)), axis=0)
    if len(problem.law.shape) == 1:
        fresh = dense_starts(problem)
        old, new = (problem.objective(problem.residuals(given)[0]) for given in (starts, fresh))
        starts = np.where((new < old)[:, None], fresh, starts)
    return refine(problem, starts, smallest_step=1e-6)


def _residual_draws(problem: Problem, values: Array, count: int, rng: np.random.Generator) -> Array:
    residuals, slopes = (each[0] for each in problem.residuals(values[None]))
    root = np.sqrt(problem.weights[0])
    # Residuals shrink by 1 - leverage; a point that the law passes through says nothing of the noise.
    basis, _ = np.linalg.qr(slopes[:, problem.free] * root[:, None])
    leverage = np.minimum(np.sum(basis**2, axis=1), 0.95)
    whitened = residuals * root / np.sqrt(1 - leverage)
    whitened = whitened - whitened.mean()
    freedom = max(len(residuals) - int(problem.free.sum()), 1)
    scale = np.sqrt(freedom / rng.chisquare(freedom, size=(count, 1)))
    drawn = rng.choice(whitened, size=(count, len(residuals))) * scale / root
    fitted = problem.law.predict(problem.scales, values[None])
    return fitted * np.exp(drawn) if problem.residual == "log" else fitted + drawn


def _pair_weights(problem: Problem, labels: Sequence | Array, count: int, rng: np.random.Generator) -> Array:
    """How often each point is drawn (R, N); resamples that cannot carry the law are drawn again."""
    _, place = np.unique(np.asarray(labels), return_inverse=True)
    clusters, parameters = int(place.max()) + 1, int(problem.free.sum())
    _, where = np.unique(problem.scales, axis=1, return_inverse=True)
    at_place = (where.ravel()[:, None] == np.arange(where.max() + 1)).astype(float)
    weights = np.zeros((count, len(place)))
    open_ = np.arange(count)
    for _ in range(DRAWS_AT_MOST):
        picked = rng.integers(clusters, size=(len(open_), clusters))
        drawn = np.zeros((len(open_), clusters))
        np.add.at(drawn, (np.arange(len(open_))[:, None], picked), 1)
        weights[open_] = drawn[:, place]
        different = weights[open_] @ at_place
        open_ = open_[np.sum(different > 0, axis=1) < min(parameters, different.shape[1])]
        if not len(open_):
            break
    return weights
