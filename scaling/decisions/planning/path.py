"""`optimal_path`: the best patch, model and input of every budget, and how each grows with compute.

Shapes: M designs, R draws, B budgets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaling.decisions.outcomes import Array, Outcome
from scaling.decisions.planning.amounts import UNIT_NAMES, BudgetUnit
from scaling.decisions.planning.costs import cost_space
from scaling.decisions.planning.growth import NEAR, SCALE_NAMES, SHARE, Growth, Range, at_bounds, find_growths
from scaling.decisions.planning.limits import WORDS, Limits, find_limits
from scaling.decisions.planning.outlook import Prediction, beyond_data, places_of, predictions
from scaling.decisions.planning.plan import Plan
from scaling.decisions.planning.question import Question
from scaling.decisions.planning.race import Race, draws_for, joined, race
from scaling.decisions.planning.space import Space, build_space
from scaling.errors import UsageError
from scaling.laws.surface import Places

BUDGETS = 40  # from the cheapest design to the dearest, where none are given


@dataclass(frozen=True, slots=True)
class PathPoint:
    """The best design of one budget."""

    budget: float
    design: str
    cost: float
    """Of the design, in the unit of the budget."""
    prediction: Prediction
    chance: float
    """Share of the law's draws in which no other design within the budget is better."""
    scales: dict[str, Range]
    """By name of `SCALE_NAMES`: of the design, with the interval that holds 95 % of the draws' own best designs."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        scales = {name: scale.to_json() for name, scale in self.scales.items()}
        plain = {name: getattr(self, name) for name in ("budget", "design", "cost", "chance")}
        return plain | {"prediction": self.prediction.to_json(), "scales": scales}


@dataclass(frozen=True, slots=True)
class OptimalPath:
    """The best designs from little to much compute."""

    cost_unit: BudgetUnit
    """Of budgets: 'gpu_hours', 'flops' or 'dollars'."""
    budget: float | None
    """That of the plan."""
    outcome: Outcome
    points: tuple[PathPoint, ...]
    growth: dict[str, Growth]
    """By name of `SCALE_NAMES`, of the best designs of all architectures."""
    without_growth: dict[str, str]
    """Scales without a power law, and why."""
    by_architecture: dict[str, dict[str, Growth]]
    """The same among the designs of one architecture, where there are several."""
    searched: str
    """Between which designs the path chose."""
    designs: int
    draws: int
    """Of the law, that were looked at."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "cost_unit": self.cost_unit,
            "budget": self.budget,
            "outcome": self.outcome.column,
            "points": [point.to_json() for point in self.points],
            "growth": {name: growth.to_json() for name, growth in self.growth.items()},
            "without_growth": self.without_growth,
            "by_architecture": {
                architecture: {name: growth.to_json() for name, growth in found.items()}
                for architecture, found in self.by_architecture.items()
            },
            "searched": self.searched,
            "designs": self.designs,
            "draws": self.draws,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    """The designs that a path may choose."""

    space: Space
    places: Places
    costs: Array
    """(M,), in the unit of the budgets."""
    limits: Limits
    """Of the whole space."""

    @property
    def scales(self) -> dict[str, Array]:
        """By name of `SCALE_NAMES`, (M,)."""
        patch, side = self.space.patch_size, self.space.input_size
        found = (patch, self.places.scales["parameters"], side, self.space.shape().tokens)
        return dict(zip(SCALE_NAMES, found, strict=True))


def optimal_path(plan: Plan, budgets: Sequence[float] | None = None) -> OptimalPath:
    """The best design of every budget, by the median of the law's draws and by each draw alone.

    Searches every model between the named sizes and inputs between those of the records where models are trained for
    a number of images; published recipes know the named sizes alone. The plan's budget, deadline and target do not
    limit it, all its other limits do.

    Args:
        plan: whose law, training, hardware and limits hold.
        budgets: in `plan.cost_unit`; by default evenly spaced logarithms from the cheapest design to the budget from
            which no better one is expected.

    Raises:
        UsageError: for a budget that is no positive number, or that affords no design.
    """
    question, searched = _search(plan)
    field = _field(plan, question)
    asked = _asked(field, plan, budgets)
    surface, draws = plan.evidence, draws_for(plan.evidence, len(field.space))
    names = field.space.architectures
    endless = np.append(asked, np.inf)  # for the best of all designs
    races = {
        str(name): race(surface, field.places, field.costs, np.flatnonzero(names == name), endless, draws)
        for name in np.unique(names)
    }
    overall = joined(list(races.values()))
    shown = asked if budgets is not None else asked[: _length(overall)]
    growths = {name: _growths(field, found, asked) for name, found in {"": overall, **races}.items()}
    return OptimalPath(
        cost_unit=plan.cost_unit,
        budget=plan.question.budget.amount if plan.question.budget else None,
        outcome=plan.evidence.outcome,
        points=_points(plan, field, overall, shown),
        growth=growths[""][0],
        without_growth=growths[""][1],
        by_architecture={name: growths[name][0] for name in races} if len(races) > 1 else {},
        searched=searched,
        designs=len(field.space),
        draws=len(overall.winners),
        notes=tuple(_notes(plan, field, overall, shown)),
    )


def _search(plan: Plan) -> tuple[Question, str]:
    """The plan's question without what it can spend and over a denser space, and that space in words."""
    question = replace(plan.question, budget=None, deadline_days=None, target=None)
    if plan.training.images is None:
        return question, "the named model sizes, which alone the published recipes know (--epochs frees them)"
    inputs = list(question.input_sizes or _inputs(plan))
    free = question.sizes is None
    sizes = "every width and depth between the named model sizes" if free else "the model sizes given"
    sides = f"{len(inputs)} inputs of {min(inputs)} to" if len(inputs) > 1 else "inputs of"
    patches = "every patch that divides them" if question.patch_sizes is None else "the patch sizes given"
    words = f"{sizes}, {sides} {max(inputs)} pixels, {patches}"
    return replace(question, free_sizes=free or question.free_sizes, input_sizes=tuple(inputs)), words


def _inputs(plan: Plan) -> list[int]:
    """Inputs of the records, and where the law knows what an input does, even steps between them."""
    known = sorted({int(side) for side in plan.evidence.places.scales["input"]})
    if "input" not in plan.evidence.surface.names:
        return known
    step = 2 ** max(0, int(math.log2(known[0])) - 1)  # a power of two, for many divisors
    return sorted({*known, *range(-(-known[0] // step) * step, known[-1] + 1, step)})


def _field(plan: Plan, question: Question) -> _Field:
    space = build_space(question, plan.evidence)
    costs = cost_space(space, plan.training, plan.setting)
    places = places_of(space, plan.evidence, plan.training.images)
    limits = find_limits(costs, beyond_data(places, plan.evidence), question)
    kept = np.flatnonzero(limits.feasible)
    amounts = costs.in_unit(plan.cost_unit, question.price)[kept]
    return _Field(space.chosen(kept), places.chosen(kept), amounts, limits)


def _asked(field: _Field, plan: Plan, budgets: Sequence[float] | None) -> Array:
    low, high = float(field.costs.min()), float(field.costs.max())
    if budgets is None:
        found = np.geomspace(low, high, BUDGETS)
        found[[0, -1]] = low, high  # not a rounding error less, which would not afford them
        return found
    unit = UNIT_NAMES[plan.cost_unit]
    for budget in budgets:
        if not (math.isfinite(budget) and budget > 0):
            raise UsageError(f"a budget of {budget:g} {unit}: give positive numbers")
        if budget < low:
            cheapest = field.space.design(int(field.costs.argmin()))
            raise UsageError(f"no design costs as little as {budget:.4g} {unit}; the cheapest, {cheapest}, {low:.4g}")
    if not len(budgets):
        raise UsageError("no budget to find a path over: give some, or none for those of all designs")
    return np.unique(np.asarray(budgets, float))


def _length(found: Race) -> int:
    """How many budgets there are until the best design of all is expected."""
    return int(np.argmax(found.expected == found.expected[-1])) + 1


def _growths(field: _Field, found: Race, budgets: Array) -> tuple[dict[str, Growth], dict[str, str]]:
    names, scales = field.space.architectures, field.scales
    free = [name for name in ("patch_size", "parameters", "input_size") if np.ptp(scales[name]) > 0]
    bound = {name: at_bounds(scales[name], names) for name in free}
    return find_growths(scales, bound, found.winners[:, :-1], found.winners[:, -1], budgets)


def _points(plan: Plan, field: _Field, found: Race, budgets: Array) -> tuple[PathPoint, ...]:
    best = found.expected[: len(budgets)]
    designs, which = np.unique(best, return_inverse=True)
    expected, scales = predictions(plan.evidence, field.places.chosen(designs)), field.scales
    return tuple(
        PathPoint(
            budget=float(budget),
            design=str(field.space.design(int(best[place]))),
            cost=float(field.costs[best[place]]),
            prediction=expected[which[place]],
            chance=float(found.chances[place]),
            scales={
                name: Range.of(values[found.winners[:, place]], float(values[best[place]]))
                for name, values in scales.items()
            },
        )
        for place, budget in enumerate(budgets)
    )


def _notes(plan: Plan, field: _Field, found: Race, budgets: Array) -> list[str]:
    """Where the path ends, where it runs along a bound, and what still limits it."""
    unit, best = UNIT_NAMES[plan.cost_unit], int(found.expected[-1])
    notes, end = [], float(field.costs[best])
    if end <= budgets[-1]:
        notes.append(f"beyond {_short(end)} {unit} no design is expected to be better than {field.space.design(best)}")
    for name, word, sign in (
        ("patch_size", "smallest", -1),
        ("parameters", "largest", 1),
        ("input_size", "largest", 1),
    ):
        values = field.scales[name]
        extreme = float(sign * np.max(sign * values))
        held = (values / extreme) ** sign > 1 / NEAR
        free = np.flatnonzero(held[found.winners[:, : len(budgets)]].mean(axis=0) < SHARE)
        first = int(free[-1]) + 1 if len(free) else 0
        if np.ptp(values) > 0 and first < len(budgets):
            notes.append(
                f"the best {SCALE_NAMES[name]} is the {word} allowed, {_short(extreme)}, from "
                f"{_short(budgets[first])} {unit} on"
            )
    counts = ", ".join(f"{count:,} {WORDS[name]}" for name, count in field.limits.counts().items())
    if counts:
        notes.append(f"left out of {len(field.limits.beyond):,} designs: {counts}")
    return notes


def _short(value: float) -> str:
    """Three digits: '47,900' and '1.32e+22'."""
    return f"{float(f'{value:.3g}'):,.0f}" if 100 <= value < 1e12 else f"{value:.3g}"
