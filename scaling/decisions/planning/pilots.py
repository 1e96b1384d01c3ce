"""Pilots: the next runs that would most make a plan's choice surer, for what they cost.

A choice is worth improving by what it can lose: pilots are chosen by the regret that they are expected to save,
not by the chance of choosing wrongly, which near ties keep high although nothing hangs on them.
Shapes: R draws, K contenders, C candidates.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.decisions.outcomes import Array, Outcome
from scaling.decisions.planning.amounts import Budget
from scaling.decisions.planning.conditioning import Beliefs, beliefs
from scaling.decisions.planning.doubts import Doubt, contenders, doubt, luck, regrets, worlds
from scaling.errors import UsageError

if TYPE_CHECKING:
    from scaling.decisions.planning.plan import Plan

CHUNK = 2**21  # elements of draws x candidates x contenders at once
SURE = 3.0  # standard errors by which a pilot must save regret, of all that could


@dataclass(frozen=True, slots=True)
class Pilot:
    """One run that is worth its cost."""

    design: str
    again: bool
    """Whether the records have it already: a further seed."""
    cost: float
    """In the unit of the budget."""
    gpu_hours: float
    days: float
    after: Doubt
    """With this pilot and those before it."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        own = {"design": self.design, "again": self.again, "cost": self.cost}
        return own | {"gpu_hours": self.gpu_hours, "days": self.days, "after": self.after.to_json()}


@dataclass(frozen=True, slots=True)
class Pilots:
    """Runs to do next, in the order of what they are worth; none where none is worth its cost."""

    pilots: tuple[Pilot, ...]
    now: Doubt
    budget: Budget
    contenders: tuple[str, ...]
    """Designs that may be the best."""
    candidates: int
    """Designs that the budget allows as pilots."""
    unit: str
    """Of regret: 'points' or 'loss'."""

    @property
    def after(self) -> Doubt:
        """With all pilots."""
        return self.pilots[-1].after if self.pilots else self.now

    @property
    def cost(self) -> float:
        """Of all pilots, in the unit of the budget."""
        return sum(pilot.cost for pilot in self.pilots)

    @property
    def gpu_hours(self) -> float:
        """Of all pilots."""
        return sum(pilot.gpu_hours for pilot in self.pilots)

    @property
    def left(self) -> float:
        """Of the budget."""
        return self.budget.amount - self.cost

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "pilots": [pilot.to_json() for pilot in self.pilots],
            "now": self.now.to_json(),
            "after": self.after.to_json(),
            "regret_unit": self.unit,
            "budget": self.budget.amount,
            "cost_unit": self.budget.unit,
            "cost": self.cost,
            "left": self.left,
            "gpu_hours": self.gpu_hours,
            "contenders": list(self.contenders),
            "candidates": self.candidates,
        }


def next_pilots(plan: "Plan", count: int, budget: Budget) -> Pilots:
    """The runs that save most of the expected regret, for what they cost.

    Args:
        plan: whose choice is to be made surer.
        count: pilots at most.
        budget: of all of them together.

    Raises:
        UsageError: for a count below one, dollars without a price, a plan with a target, or a budget that pays for no
            pilot, with the cheapest.
    """
    _check(plan, count, budget)
    state, outcome = plan.state, plan.evidence.outcome
    places, costs = _affordable(plan, budget)
    targets = contenders(plan)
    names = [str(state.space.design(int(place))) for place in places]
    known = np.isin(names, plan.evidence.designs)
    drawn, results = (worlds(plan.evidence, state.places.chosen(each)) for each in (targets, places))
    held = beliefs(drawn, results, luck(plan.evidence, known))
    lucks = np.random.default_rng(plan.question.seed).standard_normal((count, len(held.targets)))
    tried = [_greedy(held, costs, budget.amount, outcome, lucks, power) for power in (1.0, 0.0)]
    chosen = min(tried, key=lambda steps: steps[-1][1].regret if steps else np.inf)
    return Pilots(
        pilots=tuple(
            Pilot(
                design=names[place],
                again=bool(known[place]),
                cost=float(costs[place]),
                gpu_hours=float(state.costs.gpu_hours[places[place]]),
                days=float(state.costs.days[places[place]]),
                after=after,
            )
            for place, after in chosen
        ),
        now=doubt(held.targets, held.means, outcome),
        budget=budget,
        contenders=tuple(str(state.space.design(int(place))) for place in targets),
        candidates=len(places),
        unit="loss" if outcome.is_loss else "points",
    )


def _check(plan: "Plan", count: int, budget: Budget) -> None:
    if count < 1:
        raise UsageError(f"--next {count}: ask for one pilot or more")
    if budget.unit == "dollars" and plan.question.price is None:
        raise UsageError(f"--pilot-budget {budget} needs --price, the dollars of one GPU-hour")


def _affordable(plan: "Plan", budget: Budget) -> tuple[Array, Array]:
    """Designs of the search that the budget pays for, (C,), whatever the plan's own budget, and their costs."""
    state = plan.state
    costs = state.costs.in_unit(budget.unit, plan.question.price)
    possible = state.costs.trainable & state.costs.fits & state.limits.kept["extrapolation"]
    places = np.flatnonzero(possible & (costs <= budget.amount))
    if not len(places):
        every = np.flatnonzero(possible)
        cheapest = int(every[np.argmin(costs[every])])
        least = Budget(float(costs[cheapest]), budget.unit)
        raise UsageError(
            f"--pilot-budget {budget} pays for no run of the search; the cheapest, {state.space.design(cheapest)}, "
            f"takes {least}"
        )
    return places, costs[places]


def _greedy(
    held: Beliefs, costs: Array, left: float, outcome: Outcome, lucks: Array, power: float
) -> list[tuple[int, Doubt]]:
    """Candidates one after another, each with the doubt that it leaves; by saving over cost^power."""
    found: list[tuple[int, Doubt]] = []
    open_ = np.ones(len(costs), dtype=bool)
    for own in lucks:
        places = np.flatnonzero(open_ & (costs <= left) & np.isfinite(held.noise))
        if not len(places):
            break
        savings, errors = saved(held, places, own, outcome)
        worth = np.where(savings > SURE * errors, savings / costs[places] ** power, 0.0)
        best = int(np.argmax(worth))
        if not worth[best] > 0:
            break
        place = int(places[best])
        held = held.after(place, own)
        left -= costs[place]
        open_[place] = False
        found.append((place, doubt(held.targets, held.means, outcome)))
    return found


def saved(held: Beliefs, candidates: Array, own: Array, outcome: Outcome) -> tuple[Array, Array]:
    """Regret that the result of one candidate more is expected to save, (C,), and its standard error.

    Every candidate is judged in the same worlds, with the same luck (R,).
    """
    before = regrets(held.targets, held.means.argmin(axis=1), outcome)
    size = max(1, CHUNK // held.targets.size)
    means, errors = [], []
    for start in range(0, len(candidates), size):
        some = candidates[start : start + size]
        steps = held.innovation(some, own)[:, :, None] * held.slopes(some).T
        after = regrets(held.targets, (held.means[:, None, :] + steps).argmin(axis=2), outcome)
        difference = before[:, None] - after
        means.append(difference.mean(axis=0))
        errors.append(difference.std(axis=0) / np.sqrt(len(difference)))
    return np.concatenate(means), np.concatenate(errors)
