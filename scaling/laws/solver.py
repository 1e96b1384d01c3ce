"""Minimisers that know no starting values: a dense start with closed-form linear parameters, then bounded refinement.

Shapes: G shapes of the start grid, B problems, N points, J linear, K shape and P = J + K parameters.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from scaling.laws.law import Array
from scaling.laws.points import FitError
from scaling.laws.problem import Problem

ITERATIONS = 200
SMALLEST_STEP = 1e-10  # relative, of every parameter
FEW, MANY = (8, 3), (12, 4)
"""Starts that are refined roughly, and those of them that are refined to the end; more for laws of many shapes."""
ROUGH_ITERATIONS = 20
COARSE = 25  # shapes of a batch's start grid
GIVE_UP = 1e10  # damping at which no step decreases the objective any more


@dataclass(frozen=True, slots=True)
class Solutions:
    """Minima of a batch of problems."""

    values: Array
    """(B, P), in the units of the fit."""
    objective: Array
    """(B,)."""
    converged: Array
    """(B,) of bool."""


def minimise(problem: Problem) -> Solutions:
    """The global minimum of one problem (B = 1): the best of the refined minima of the start grid."""
    promising = rough_minima(problem)
    refined = refine(problem, promising)
    best = np.lexsort((*refined.values.T, refined.objective))[:1]  # ties broken by value, not by place
    return Solutions(refined.values[best], refined.objective[best], refined.converged[best])


def rough_minima(problem: Problem) -> Array:
    """The best places from which to search one problem to the end, (at most 4, P), the best first.

    Raises:
        FitError: if the law has no finite value on the data anywhere in its bounds.
    """
    starts, promising = MANY if len(problem.law.shape) > 2 else FEW
    rough = refine(problem, dense_start(problem, starts), ROUGH_ITERATIONS)
    if not np.any(np.isfinite(rough.objective)):
        raise FitError(f"the {problem.law.name} law has no finite value on these data within its bounds")
    return rough.values[np.argsort(rough.objective, kind="stable")[:promising]]


def dense_start(problem: Problem, count: int) -> Array:
    """The best local minima of a grid of shapes, (at most `count`, P)."""
    law = problem.law
    linear = len(law.linear)
    shapes, sides = law.start_grid(problem.scales)
    shapes = np.clip(shapes, problem.lower[linear:], problem.upper[linear:])
    with np.errstate(over="ignore", invalid="ignore"):
        terms, _ = law.terms(problem.scales, shapes)
        theta, objective = linear_parameters(problem, terms)
    chosen = _local_minima(objective.reshape(sides))[:count] if sides else np.array([0])
    return np.concatenate([theta[chosen], shapes[chosen]], axis=1)


def dense_starts(problem: Problem) -> Array:
    """The best point of a coarse grid of the one shape parameter, for each problem of a batch, (B, P)."""
    law = problem.law
    low, high = problem.lower[-1], problem.upper[-1]
    shapes = np.linspace(low, high, COARSE)[:, None]
    terms, _ = law.terms(problem.scales, shapes)
    weights = problem.weights / problem.y**2 if problem.residual == "log" else problem.weights
    weights = np.broadcast_to(weights, (max(len(problem.y), len(problem.weights)), weights.shape[1]))
    products = (terms[..., :, None] * terms[..., None, :]).transpose(1, 0, 2, 3)
    count = terms.shape[2]
    matrix = (weights @ products.reshape(len(products), -1)).reshape(-1, count, count)
    vector = ((weights * problem.y) @ terms.transpose(1, 0, 2).reshape(len(products), -1)).reshape(-1, count)
    theta, total = _bounded_minima(problem, matrix, vector)
    total = total.reshape(len(weights), COARSE)
    best = np.argmin(total, axis=1)
    chosen = np.arange(len(weights)) * COARSE + best
    return np.concatenate([theta[chosen], shapes[best]], axis=1)


def linear_parameters(problem: Problem, terms: Array) -> tuple[Array, Array]:
    """Best linear parameters (G, J) within their bounds for each shape's terms (G, N, J), and the sums of squares.

    Residuals are linear, or relative where the problem's are logarithmic. Every set of parameters that
    could be at a bound is tried, so the constrained minimum is exact.
    """
    weights, y = problem.weights[0], problem.y[0]
    weights = weights / y**2 if problem.residual == "log" else weights
    matrix = np.einsum("gnj,n,gnk->gjk", terms, weights, terms, optimize=True)
    vector = terms.transpose(0, 2, 1) @ (weights * y)
    theta, total = _bounded_minima(problem, matrix, vector)
    return theta, total + float(weights @ y**2)


def _bounded_minima(problem: Problem, matrix: Array, vector: Array) -> tuple[Array, Array]:
    """Minima of t' M t - 2 v' t within the bounds of the linear parameters, for a batch."""
    count = vector.shape[1]
    lower, upper = problem.lower[:count], problem.upper[:count]
    best, smallest = np.zeros(vector.shape), np.full(len(vector), np.inf)
    options = [_places(low, high) for low, high in zip(lower, upper, strict=True)]
    for places in product(*options):
        theta = _solve_at(matrix, vector, places)
        inside = np.all((theta >= lower - 1e-12) & (theta <= upper + 1e-12), axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.einsum("gj,gjk,gk->g", theta, matrix, theta) - 2 * np.sum(theta * vector, axis=1)
        better = inside & (total < smallest)
        best[better], smallest[better] = theta[better], total[better]
    return best, smallest


def _places(low: float, high: float) -> list[float | None]:
    """Where a linear parameter can be: free (None), or at a bound."""
    if low == high:
        return [float(low)]
    return [None, *(float(end) for end in (low, high) if np.isfinite(end))]


def _solve_at(matrix: Array, vector: Array, places: tuple[float | None, ...]) -> Array:
    """Normal equations (G, J, J) with some parameters held at the values given."""
    held = np.array([place is not None for place in places])
    fixed = np.array([place or 0.0 for place in places])
    theta = np.broadcast_to(fixed, vector.shape).copy()
    free = np.flatnonzero(~held)
    if len(free):
        right = (vector - matrix @ fixed)[:, free]
        theta[:, free] = _eliminate(matrix[:, free[:, None], free], right)
    return theta


def _eliminate(matrix: Array, right: Array) -> Array:
    """Solve a batch of small symmetric positive systems; without pivots, in a few vectorised steps."""
    matrix, right = matrix.copy(), right.copy()
    size = right.shape[1]
    smallest = 1e-14 * np.einsum("gjj->gj", matrix)
    with np.errstate(all="ignore"):
        for row in range(size):
            pivot = matrix[:, row, row]
            pivot = np.where(pivot > smallest[:, row], pivot, np.inf)  # a column that others span adds nothing
            for lower in range(row + 1, size):
                factor = matrix[:, lower, row] / pivot
                matrix[:, lower] -= factor[:, None] * matrix[:, row]
                right[:, lower] -= factor * right[:, row]
            matrix[:, row, row] = pivot
        for row in reversed(range(size)):
            for later in range(row + 1, size):
                right[:, row] -= matrix[:, row, later] * right[:, later]
            right[:, row] /= matrix[:, row, row]
    return right


def _local_minima(objective: Array) -> Array:
    """Flat places of a grid's local minima, the lowest first."""
    lowest = np.isfinite(objective)
    for axis in range(objective.ndim):
        padded = np.pad(
            objective, [(1, 1) if other == axis else (0, 0) for other in range(objective.ndim)], constant_values=np.inf
        )
        for shift in (0, 2):
            neighbour = np.take(padded, range(shift, shift + objective.shape[axis]), axis=axis)
            lowest &= objective <= neighbour
    places = np.flatnonzero(lowest)
    return places[np.argsort(objective.ravel()[places], kind="stable")]


def refine(
    problem: Problem, values: Array, iterations: int = ITERATIONS, smallest_step: float = SMALLEST_STEP
) -> Solutions:
    """Levenberg and Marquardt's method within bounds, on every problem of a batch at once.

    Losses other than squares are reweighted in every step. A parameter rests at a bound while the
    gradient points outward.
    """
    values = np.clip(values, problem.lower, problem.upper)
    found, objective = values.copy(), np.full(len(values), np.inf)
    done = np.zeros(len(values), dtype=bool)
    places = np.arange(len(values))
    state = _State.at(problem, values)
    damping = np.full(len(values), 1e-3)
    for _ in range(iterations):
        step = _step(problem, state, damping)
        trial = _State.at(problem, _projected(problem, np.clip(state.values + step, problem.lower, problem.upper)))
        better = trial.objective <= state.objective
        moved = np.abs(trial.values - state.values) / (np.abs(state.values) + 1e-3)
        still = (moved.max(axis=1) < smallest_step) | (damping > GIVE_UP)
        state = state.where(better, trial)
        damping = np.clip(np.where(better, damping / 10, damping * 8), 1e-14, None)
        if still.any():
            found[places[still]], objective[places[still]] = state.values[still], state.objective[still]
            done[places[still]] = True
            if still.all():
                return Solutions(found, objective, done)
            open_ = np.flatnonzero(~still)
            places, damping, state, problem = places[open_], damping[open_], state.take(open_), problem.subset(open_)
    found[places], objective[places] = state.values, state.objective
    return Solutions(found, objective, done)


def _projected(problem: Problem, values: Array) -> Array:
    """Parameter vectors with the best linear parameters for their shape, where residuals are linear in them.

    Steps then follow the curved valleys of ill-conditioned laws instead of creeping along them.
    """
    if problem.residual == "log" or not problem.projects:
        return values
    count = len(problem.law.linear)
    with np.errstate(over="ignore", invalid="ignore"):
        terms, _ = problem.law.terms(problem.scales, values[:, count:])
        losses = np.matmul(terms, values[:, :count, None])[..., 0]
        weights = problem.weights * problem.loss.weight(losses - problem.y)
        weighted = (terms * weights[..., None]).transpose(0, 2, 1)
        theta, _ = _bounded_minima(problem, weighted @ terms, (weighted @ problem.y[..., None])[..., 0])
    finite = np.all(np.isfinite(theta), axis=1)
    return np.where(finite[:, None], np.concatenate([theta, values[:, count:]], axis=1), values)


@dataclass(frozen=True, slots=True)
class _State:
    values: Array
    residuals: Array
    slopes: Array
    objective: Array

    @classmethod
    def at(cls, problem: Problem, values: Array) -> "_State":
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            residuals, slopes = problem.residuals(values)
            return cls(values, residuals, slopes, problem.objective(residuals))

    def where(self, better: Array, other: "_State") -> "_State":
        if better.all():
            return other
        return _State(
            np.where(better[:, None], other.values, self.values),
            np.where(better[:, None], other.residuals, self.residuals),
            np.where(better[:, None, None], other.slopes, self.slopes),
            np.where(better, other.objective, self.objective),
        )

    def take(self, places: Array) -> "_State":
        return replace(
            self,
            values=self.values[places],
            residuals=self.residuals[places],
            slopes=self.slopes[places],
            objective=self.objective[places],
        )


def _step(problem: Problem, state: _State, damping: Array) -> Array:
    """A damped Gauss-Newton step (B, P) of the parameters that are free to move."""
    weights = problem.weights * problem.loss.weight(state.residuals)
    weighted = (state.slopes * weights[..., None]).transpose(0, 2, 1)
    matrix = weighted @ state.slopes
    gradient = (weighted @ state.residuals[..., None])[..., 0]
    resting = ((state.values <= problem.lower) & (gradient > 0)) | ((state.values >= problem.upper) & (gradient < 0))
    free = ~resting
    matrix = matrix * free[:, :, None] * free[:, None, :]
    places = np.arange(matrix.shape[1])
    diagonal = matrix[:, places, places]
    matrix[:, places, places] = diagonal * (1 + damping[:, None]) + np.where(diagonal > 0, 0, 1.0)
    return -np.linalg.solve(matrix, (gradient * free)[..., None])[..., 0]
