"""Profile-likelihood intervals of any law: of its parameters, its predictions and new runs.

The profile of a quantity g at a value v is the least objective of all parameters with g = v, and an
interval holds the values whose profile stays under a cut-off. The condition g = v is
solved for one parameter, and the bounded solver finds the others. For the interval of a new run its
residual joins those of the data instead. With the noise estimated from n - k residuals the
cut-off is that of F(1, n - k), which keeps its coverage with few points where chi-square does not (Seber
and Wild 2003, Section 5.4).

Shapes: B ends searched at once, N points, P parameters, S scales.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from scaling.laws.law import Array, Law
from scaling.laws.problem import Problem
from scaling.laws.solver import refine

ROUNDS = 80
STEP = 1e-6  # of differences, in the units of the fit
INNER_ITERATIONS = 40
INNER_STEP = 1e-7
TOLERANCE = 1e-4  # of an end, relative to half its interval
GROWTH = 8.0  # of the search for an end, in one round
FARTHEST = 1e6  # times the width expected from the curvature; farther, data do not bound an end


class Quantity(Protocol):
    """Functions of the parameters, one for each problem of a batch."""

    @property
    def owner(self) -> Array:
        """(B,), the parameter that is solved for when the quantity is held at a value."""
        ...

    def __call__(self, values: Array) -> tuple[Array, Array]:
        """Values (B,) and gradients (B, P) for parameter vectors (B, P)."""
        ...

    def solve(self, values: Array, target: Array) -> Array:
        """The parameter vectors with the owner's value at which the quantity is at its target (B,)."""
        ...

    def subset(self, chosen: Array) -> "Quantity":
        """Those of the chosen problems."""
        ...


@dataclass(frozen=True, slots=True)
class Reported:
    """Reported parameters, one per problem; the positive ones by their logarithm."""

    law: Law
    units: Array
    unit: float
    owner: Array
    """(B,), places of the parameters."""
    logarithmic: Array
    """(B,) of bool."""

    def __call__(self, values: Array) -> tuple[Array, Array]:
        """Gradients are central differences of a closed form."""
        count, size = values.shape
        # Relative to linear parameters, so that a small amplitude stays positive.
        least = np.where(np.arange(size) < len(self.law.linear), 0.0, 1e-3)
        steps = STEP * np.where(values == 0, 1.0, np.maximum(np.abs(values), least))
        moves = np.concatenate([np.zeros((1, size)), np.eye(size), -np.eye(size)])
        found = self._at((values + moves[:, None] * steps).reshape(-1, size)).reshape(-1, count)
        return found[0], (found[1 : size + 1] - found[size + 1 :]).T / (2 * steps)

    def _at(self, values: Array) -> Array:
        owner, logarithmic = (np.resize(each, len(values)) for each in (self.owner, self.logarithmic))
        found = self.law.reported(values, self.units, self.unit)[np.arange(len(values)), owner]
        return np.where(logarithmic, np.log(np.where(logarithmic, found, 1.0)), found)

    def solve(self, values: Array, target: Array) -> Array:
        """Newton's step, in the logarithm of a linear parameter; exact for every law of the catalogue."""
        rows, values = np.arange(len(values)), values.copy()
        found, gradient = self(values)
        own, slope, missing = values[rows, self.owner], gradient[rows, self.owner], target - found
        scaled = self.logarithmic & (self.owner < len(self.law.linear))
        factor = np.exp(missing / np.where(scaled, slope * own, 1.0))
        values[rows, self.owner] = np.where(scaled, own * factor, own + missing / slope)
        return values

    def subset(self, chosen: Array) -> "Reported":
        """Those of the chosen problems."""
        return replace(self, owner=self.owner[chosen], logarithmic=self.logarithmic[chosen])


@dataclass(frozen=True, slots=True)
class Predicted:
    """Losses at one point per problem, or their logarithms where residuals are logarithmic."""

    law: Law
    points: Array
    """(B, S, 1), in the units of the fit."""
    logarithmic: bool
    owner: Array
    """(B,), linear parameters."""

    def __call__(self, values: Array) -> tuple[Array, Array]:
        """Closed form."""
        losses, slopes = self.law.gradient(self.points, values)
        if not self.logarithmic:
            return losses[:, 0], slopes[:, 0]
        return np.log(losses[:, 0]), slopes[:, 0] / losses

    def solve(self, values: Array, target: Array) -> Array:
        """A law is linear in the owner."""
        rows, values = np.arange(len(values)), values.copy()
        losses, slopes = self.law.gradient(self.points, values)
        wanted = np.exp(target) if self.logarithmic else target
        values[rows, self.owner] += (wanted - losses[:, 0]) / slopes[rows, 0, self.owner]
        return values

    def subset(self, chosen: Array) -> "Predicted":
        """Those of the chosen problems."""
        return replace(self, points=self.points[chosen], owner=self.owner[chosen])


@dataclass(frozen=True, slots=True)
class HeldProblem(Problem):
    """A problem in which a quantity stays at a target: one of its parameters follows from the others."""

    quantity: Quantity = None  # pyright: ignore[reportAssignmentType]
    target: Array = None  # pyright: ignore[reportAssignmentType]
    """(B,)."""

    @property
    def projects(self) -> bool:
        """The quantity ties them."""
        return False

    def residuals(self, values: Array) -> tuple[Array, Array]:
        """Residuals with the owner solved for, and their total derivatives by the other parameters."""
        values, rows, owner = self.quantity.solve(values, self.target), np.arange(len(values)), self.quantity.owner
        residuals, slopes = Problem.residuals(self, values)
        _, gradient = self.quantity(values)
        follows = gradient / gradient[rows, owner][:, None]
        slopes = slopes - slopes[rows, :, owner][:, :, None] * follows[:, None, :]
        slopes[rows, :, owner] = 0
        lower, upper, own = self.lower[owner], self.upper[owner], values[rows, owner]
        outside = (own < lower - 1e-9) | (own > upper + 1e-9) | ~np.isfinite(own)
        return np.where(outside[:, None], np.inf, residuals), slopes

    def subset(self, chosen: Array) -> "HeldProblem":
        """The chosen problems of the batch."""
        part = Problem.subset(self, chosen)
        return replace(part, quantity=self.quantity.subset(chosen), target=self.target[chosen])  # pyright: ignore


@dataclass(frozen=True, slots=True)
class NewRunProblem(HeldProblem):
    """A problem with one more residual: how far a new run at the target is from the quantity."""

    def residuals(self, values: Array) -> tuple[Array, Array]:
        """The data's residuals, then the new run's."""
        residuals, slopes = Problem.residuals(self, values)
        value, gradient = self.quantity(values)
        residuals = np.concatenate([residuals, (value - self.target)[:, None]], axis=1)
        return residuals, np.concatenate([slopes, gradient[:, None]], axis=1)


def _hold(problem: Problem, quantity: Quantity, target: Array, new_run: bool) -> HeldProblem:
    weights = problem.weights
    if new_run:
        weights = np.concatenate([weights, np.ones((len(weights), 1))], axis=1)
    kind = NewRunProblem if new_run else HeldProblem
    rest = problem.lower, problem.upper, problem.residual, problem.loss
    return kind(problem.law, problem.scales, problem.y, weights, *rest, quantity, target)


@dataclass(frozen=True, slots=True)
class Noise:
    """Variance of a residual of weight 1, and how well it is known."""

    variance: float
    degrees_of_freedom: int
    cutoff: float
    """Quantile of the squared, studentised distance: F(1, degrees of freedom) at the level."""


def curvature(problem: Problem, values: Array) -> Array:
    """Inverse of the Gauss-Newton matrix (P, P) at one parameter vector (P,); parameters at a bound are held."""
    _, slopes = problem.residuals(values[None])
    matrix = np.einsum("np,n,nq->pq", slopes[0], problem.weights[0], slopes[0])
    held = (values <= problem.lower) | (values >= problem.upper)
    free = np.flatnonzero(~held & (np.diag(matrix) > 0))
    scale = np.sqrt(np.diag(matrix)[free])
    inverse = np.zeros_like(matrix)
    inverse[np.ix_(free, free)] = np.linalg.pinv(matrix[np.ix_(free, free)] / np.outer(scale, scale)) / np.outer(
        scale, scale
    )
    return inverse


def interval_ends(
    problem: Problem,
    values: Array,
    objective: float,
    quantity: Quantity,
    limits: Array,
    noise: Noise,
    new_run: bool = False,
    others: Array | None = None,
) -> Array:
    """Ends of intervals, (B,): the first half of the batch downward, the second half upward.

    Args:
        problem: of one data set.
        values: (P,), its solution.
        objective: of the solution.
        quantity: 2 T of them; the second T are the first again.
        limits: (B,), beyond which a quantity cannot go.
        noise: what decides how far is too far.
        new_run: whether the quantity is a new run's residual, and not held.
        others: (S, P), other places to search from at every step, for laws whose objective has several minima.

    Returns:
        An end that lies at its limit if the whole way there fits the data, infinite ones included.
    """
    count = len(limits)
    start = np.repeat(values[None], count, axis=0)
    center, gradient = quantity(start)
    inverse = curvature(problem, values)
    expected = np.sqrt(noise.variance * np.einsum("bp,pq,bq->b", gradient, inverse, gradient))
    rows = np.arange(count)
    own = np.abs(gradient[rows, quantity.owner]) * np.maximum(np.abs(start[rows, quantity.owner]), 0.1)
    spread = np.where(expected > 0, expected, 0.1 * np.where(own > 0, own, 1.0))
    spread = np.hypot(spread, np.sqrt(noise.variance)) if new_run else spread
    search = _Search(center, np.repeat([-1.0, 1.0], count // 2), limits, spread * np.sqrt(noise.cutoff))
    allowed = noise.cutoff * noise.variance / 2
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for _ in range(ROUNDS):
            open_ = np.flatnonzero(~search.done)
            if not len(open_):
                break
            found, least = _least(problem, quantity, open_, search.trial, start[open_], others, new_run)
            ratio = np.sqrt(np.maximum(least - objective, 0) / allowed)
            inside = ratio <= 1  # beyond the end a profile may have other minima, which lead back to no end
            start[open_[inside]] = found[inside]
            search.judge(open_, ratio)
    return search.ends()


def _least(
    problem: Problem,
    quantity: Quantity,
    places: Array,
    targets: Array,
    start: Array,
    others: Array | None,
    new_run: bool,
) -> tuple[Array, Array]:
    """Parameters (b, P) and least objectives (b,) of the problems at `places`, from `start` and from `others`."""
    starts = (
        start[:, None]
        if others is None
        else np.concatenate([start[:, None], np.tile(others, (len(start), 1, 1))], axis=1)
    )
    count, tries, size = starts.shape
    repeated = np.repeat(places, tries)
    held = _hold(problem, quantity.subset(repeated), targets[repeated], new_run)
    found = refine(held, starts.reshape(-1, size), INNER_ITERATIONS, INNER_STEP)
    objective = found.objective.reshape(count, tries)
    best = np.argmin(objective, axis=1)
    rows = np.arange(count)
    return found.values.reshape(count, tries, size)[rows, best], objective[rows, best]


class _Search:
    """Where a profile crosses its cut-off, for a batch of ends; ratios are 1 there, and about linear in distance."""

    def __init__(self, center: Array, side: Array, limits: Array, expected: Array) -> None:
        self.center, self.side, self.expected = center, side, expected
        self.room = np.maximum(side * (limits - center), 0)
        self.distance = np.minimum(expected, self.room)
        self.inside, self.inside_ratio = np.zeros_like(center), np.zeros_like(center)
        self.outside, self.outside_ratio = np.full_like(center, np.inf), np.full_like(center, np.inf)
        self.done = self.room == 0
        self.unbounded = np.zeros_like(self.done)

    @property
    def trial(self) -> Array:
        """Values of the quantities to try next."""
        return self.center + self.side * self.distance

    def judge(self, places: Array, ratio: Array) -> None:
        """Take the ratios of the last trial's open ends, and choose the next."""
        for place, value in zip(places, ratio, strict=True):
            self._judge(place, float(value))

    def _judge(self, place: int, ratio: float) -> None:
        tried = self.distance[place]
        if ratio <= 1:
            self.inside[place], self.inside_ratio[place] = tried, ratio
        else:
            self.outside[place], self.outside_ratio[place] = tried, ratio
        inside, outside = self.inside[place], self.outside[place]
        at_limit = ratio <= 1 and tried >= self.room[place]
        self.unbounded[place] = ratio <= 1 and tried > FARTHEST * self.expected[place]
        close = abs(ratio - 1) < TOLERANCE or outside - inside < TOLERANCE * outside
        if at_limit or close or self.unbounded[place]:
            self.done[place] = True
            self.inside[place] = tried if abs(ratio - 1) < TOLERANCE else inside
        elif np.isinf(outside):
            self.distance[place] = min(tried * np.clip(1 / max(ratio, 1e-9), 1.05, GROWTH), self.room[place])
        else:
            self.distance[place] = self._between(place, tried / ratio if np.isfinite(ratio) else 0.0)

    def _between(self, place: int, straight: float) -> float:
        """A point of the bracket: where a line through the centre says if that is inside it, else by its own ratios."""
        inside, outside = self.inside[place], self.outside[place]
        low, high = inside + 0.02 * (outside - inside), outside - 0.02 * (outside - inside)
        if np.isfinite(self.outside_ratio[place]) and not low < straight < high:
            share = (1 - self.inside_ratio[place]) / (self.outside_ratio[place] - self.inside_ratio[place])
            straight = inside + share * (outside - inside)
        return float(np.clip(straight, low, high)) if low < straight < high else (inside + outside) / 2

    def ends(self) -> Array:
        """The ends found."""
        found = self.center + self.side * self.inside
        return np.where(self.unbounded, self.side * np.inf, found)
